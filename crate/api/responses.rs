//! `/v1/responses`: text and images in, text out. Nothing is stored, so a conversation is sent again as a whole.

use serde_json::{Value, json};

use super::answer::Answer;
use super::constraint::Begin;
use super::conversation::Conversation;
use super::fields::{At, Fields, Result};
use super::given::Given;
use super::items;
use super::job::{Accepted, Generate, Job, Prompt};
use super::model::Api;
use super::output::Output;
use super::params;
use super::pictures::Pictures;
use super::{grammar, tools};
use crate::engine::GenerateParams;

/// What `include` may ask for.
const LOGPROBS: &str = "message.output_text.logprobs";

pub(super) fn read(api: &Api, mut f: Fields<'_>, given: &Given) -> Result<Accepted> {
    let mut warnings = Vec::new();
    let model = api.named(&mut f)?;
    let instructions = f.get("instructions", At::string)?;
    let mut messages = Vec::new();
    if let Some(text) = instructions {
        messages.push(json!({ "role": "system", "content": text }));
    }
    let mut pictures = Pictures::new(api.images);
    messages.extend(items::read(&f.need("input")?, &mut pictures, &mut warnings)?);
    let stream = params::streaming(&mut f, &mut warnings)?.stream;
    let logprobs = includes_logprobs(&mut f)?;
    let max_tokens = f.get("max_output_tokens", |v| v.count(0..=usize::MAX))?;
    let mut params = GenerateParams {
        max_tokens,
        sampler: params::sampler(&mut f, api, given)?,
        stop: params::stop(&mut f)?,
        logprobs: params::top_logprobs(&mut f, logprobs)?,
        show: api.shown(),
        ..GenerateParams::default()
    };
    let mut format = None;
    let mut format_shown = json!({ "type": "text" });
    if let Some(at) = f.take("text") {
        let mut text = at.object()?;
        format_shown = echo(&mut text, "format")?.unwrap_or(format_shown);
        format = grammar::format(&mut text, "format")?;
        params::verbosity(&mut text)?;
        text.rest(&mut warnings);
    }
    let echoed = (echo(&mut f, "tools")?, echo(&mut f, "tool_choice")?);
    let tools = tools::read(&mut f)?;
    let format = grammar::read(format, &mut f)?;
    let budget = f.take("reasoning_budget");
    params::of_servers(&mut f)?;
    not_of_responses(&mut f)?;
    let effort = match f.take("reasoning") {
        Some(at) => {
            let mut reasoning = at.object()?;
            let effort = reasoning.take("effort");
            reasoning.only("summary", |_| false, "is not supported: reasoning is given as it is; leave it out")?;
            reasoning.rest(&mut warnings);
            effort
        }
        None => None,
    };
    let effort_name = effort.as_ref().map(|at| at.value.clone());
    let metadata = echo(&mut f, "metadata")?;
    let conversation = Conversation::new(messages, f.take("chat_template_kwargs"), effort)
        .with_tools(tools.list.clone())
        .with_pictures(&pictures.list);
    f.rest(&mut warnings);
    let ids = conversation.prompt(api, given, &mut warnings)?;
    let begin = Begin::after(&ids, api, &tools);
    let parts = begin.hold(&mut params, format, budget.as_ref(), 1, &mut warnings)?;
    // The parameters of a request are part of its answer.
    let Value::Object(head) = json!({
        "id": format!("resp_{}", given.id),
        "object": "response",
        "created_at": given.now,
        "status": "in_progress",
        "background": false,
        "error": null,
        "incomplete_details": null,
        "instructions": instructions,
        "max_output_tokens": max_tokens,
        "metadata": metadata.unwrap_or_else(|| json!({})),
        "model": model,
        "output": [],
        "parallel_tool_calls": !tools.single,
        "previous_response_id": null,
        "reasoning": { "effort": effort_name, "summary": null },
        "store": false,
        "temperature": params.sampler.temperature,
        "text": { "format": format_shown },
        "tool_choice": echoed.1.unwrap_or_else(|| "auto".into()),
        "tools": echoed.0.unwrap_or_else(|| json!([])),
        "top_p": params.sampler.top_p,
        "truncation": "disabled",
        "usage": null,
    }) else {
        unreachable!("the literal is an object")
    };
    let shape = Output::new(head, given.id.clone(), stream, logprobs);
    let answer = Answer::new(Box::new(shape), api.tokenizer.clone(), parts, 1);
    let prompts = Prompt::times(vec![ids], 1, &params);
    let generate = Generate { prompts, pictures: pictures.list, stream, answer };
    Ok(Accepted { job: Job::Generate(Box::new(generate)), warnings })
}

/// A field as it is, for the answer.
fn echo(f: &mut Fields<'_>, name: &'static str) -> Result<Option<Value>> {
    f.get(name, |v| Ok(v.value.clone()))
}

/// Whether `include` asks for log-probabilities. All else that it could ask for is never there.
fn includes_logprobs(f: &mut Fields<'_>) -> Result<bool> {
    let mut found = false;
    for at in f.get("include", |v| v.list("names"))?.unwrap_or_default() {
        if at.string()? == "reasoning.encrypted_content" {
            continue;
        }
        at.one_of(&[LOGPROBS])?;
        found = true;
    }
    Ok(found)
}

/// Services of OpenAI's servers that there are none of.
fn not_of_responses(f: &mut Fields<'_>) -> Result<()> {
    for name in ["previous_response_id", "conversation"] {
        f.only(name, |_| false, "is not supported: answers are not stored; send the whole conversation as `input`")?;
    }
    for name in ["prompt", "max_tool_calls"] {
        f.only(name, |_| false, "is not supported; leave it out")?;
    }
    f.only("background", |v| *v == false, "must be false: answers are not stored")?;
    f.only("truncation", |v| v == "disabled", "must be \"disabled\": shorten the input instead")
}
