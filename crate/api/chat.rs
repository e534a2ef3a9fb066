//! `/v1/chat/completions`.

use serde_json::{Map, Value, json};

use super::answer::{Answer, Chunk, Finish, Shape};
use super::constraint::Begin;
use super::conversation::Conversation;
use super::fields::{At, Fields, Result};
use super::given::Given;
use super::job::{Accepted, Generate, Job, Prompt};
use super::logprobs::Said;
use super::model::Api;
use super::params::{self, MOST_ANSWERS, Streaming};
use super::pictures::Pictures;
use super::usage::Totals;
use super::{grammar, messages, tools};
use crate::engine::GenerateParams;
use crate::text::ReplyPart;

pub(super) fn read(api: &Api, mut f: Fields<'_>, given: &Given) -> Result<Accepted> {
    let mut warnings = Vec::new();
    let model = api.named(&mut f)?;
    let mut pictures = Pictures::new(api.images);
    let messages = messages::read(&f.need("messages")?, &mut pictures, &mut warnings)?;
    let streaming = params::streaming(&mut f, &mut warnings)?;
    let n = f.get("n", |v| v.count(1..=MOST_ANSWERS))?.unwrap_or(1);
    let logprobs = f.get("logprobs", At::boolean)?.unwrap_or(false);
    let mut params = GenerateParams {
        max_tokens: max_tokens(&mut f)?,
        sampler: params::sampler(&mut f, api, given)?,
        stop: params::stop(&mut f)?,
        ignore_eos: f.get("ignore_eos", At::boolean)?.unwrap_or(false),
        logprobs: params::top_logprobs(&mut f, logprobs)?,
        show: api.shown(),
        ..GenerateParams::default()
    };
    let format = grammar::format(&mut f, "response_format")?;
    let format = grammar::read(format, &mut f)?;
    let tools = tools::read(&mut f)?;
    let budget = f.take("reasoning_budget");
    params::of_servers(&mut f)?;
    params::not_of_chat(&mut f)?;
    let effort = f.take("reasoning_effort");
    let conversation = Conversation::new(messages, f.take("chat_template_kwargs"), effort)
        .with_tools(tools.list.clone())
        .with_pictures(&pictures.list)
        .continued(f.take("continue_final_message"), f.take("add_generation_prompt"))?;
    f.rest(&mut warnings);
    let ids = conversation.prompt(api, given, &mut warnings)?;
    let begin = Begin::after(&ids, api, &tools);
    let parts = begin.hold(&mut params, format, budget.as_ref(), n, &mut warnings)?;
    let choices = (0..n).map(|_| Choice::default()).collect();
    let shape = Chat { id: given.id.clone(), created: given.now, model, streaming, logprobs, choices };
    let answer = Answer::new(Box::new(shape), api.tokenizer.clone(), parts, n);
    let prompts = Prompt::times(vec![ids], n, &params);
    let generate = Generate { prompts, pictures: pictures.list, stream: streaming.stream, answer };
    Ok(Accepted { job: Job::Generate(Box::new(generate)), warnings })
}

/// Under its old name and its new one.
fn max_tokens(f: &mut Fields<'_>) -> Result<Option<usize>> {
    let old = f.get("max_tokens", |v| v.count(0..=usize::MAX))?;
    let Some(at) = f.take("max_completion_tokens") else { return Ok(old) };
    let new = at.count(0..=usize::MAX)?;
    match old.filter(|old| *old != new) {
        Some(old) => Err(at.refuse(format_args!("is {new} and `max_tokens` is {old}; give one of them"))),
        None => Ok(Some(new)),
    }
}

/// One of the answers.
#[derive(Default)]
struct Choice {
    reasoning: String,
    content: String,
    calls: Vec<Call>,
    logprobs: Vec<Value>,
    finish: Option<&'static str>,
}

impl Choice {
    fn message(&self) -> Value {
        // Beside calls, no text is none.
        let content = Some(&self.content).filter(|text| self.calls.is_empty() || !text.is_empty());
        let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
        if !self.reasoning.is_empty() {
            message["reasoning_content"] = self.reasoning.as_str().into();
        }
        if !self.calls.is_empty() {
            let call = |Call { id, name, arguments }: &Call| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } });
            message["tool_calls"] = self.calls.iter().map(call).collect();
        }
        message
    }
}

/// A call of a tool.
struct Call {
    id: String,
    name: String,
    arguments: String,
}

struct Chat {
    /// What all ids are made of.
    id: String,
    created: u64,
    model: String,
    streaming: Streaming,
    logprobs: bool,
    choices: Vec<Choice>,
}

impl Chat {
    fn chunk(&self, choices: Value) -> Value {
        let mut chunk = json!({
            "id": format!("chatcmpl-{}", self.id),
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if self.streaming.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    /// Adds a part to a choice, and to what is new in it.
    fn add(&mut self, index: usize, part: ReplyPart, delta: &mut Delta) {
        let choice = &mut self.choices[index];
        match part {
            ReplyPart::Reasoning(text) => {
                choice.reasoning.push_str(&text);
                delta.reasoning.push_str(&text);
            }
            ReplyPart::Content(text) => {
                choice.content.push_str(&text);
                delta.content.push_str(&text);
            }
            ReplyPart::ToolCall { index: call, name } => {
                let id = format!("call_{}_{index}_{call}", self.id);
                let function = json!({ "name": name, "arguments": "" });
                delta.calls.push(json!({ "index": call, "id": id, "type": "function", "function": function }));
                choice.calls.push(Call { id, name, arguments: String::new() });
            }
            ReplyPart::ToolArguments { index: call, delta: text } => {
                if let Some(call) = choice.calls.get_mut(call) {
                    call.arguments.push_str(&text);
                }
                match delta.calls.last_mut().filter(|last| last["index"] == call) {
                    Some(last) => {
                        let arguments = &mut last["function"]["arguments"];
                        *arguments = format!("{}{text}", arguments.as_str().unwrap_or_default()).into();
                    }
                    None => delta.calls.push(json!({ "index": call, "function": { "arguments": text } })),
                }
            }
        }
    }

    fn delta(&self, index: usize, delta: Value, logprobs: Value, finish: Option<&str>) -> Vec<Chunk> {
        if !self.streaming.stream {
            return Vec::new();
        }
        let choice = json!({ "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish });
        vec![Chunk::of(&self.chunk(json!([choice])))]
    }
}

/// `logprobs` of a choice, with these entries.
fn logprobs(entries: Vec<Value>) -> Value {
    json!({ "content": entries, "refusal": null })
}

/// What is new in a choice.
#[derive(Default)]
struct Delta {
    reasoning: String,
    content: String,
    calls: Vec<Value>,
}

impl Delta {
    fn json(self) -> Map<String, Value> {
        let mut all = Map::new();
        for (name, text) in [("reasoning_content", self.reasoning), ("content", self.content)] {
            if !text.is_empty() {
                all.insert(name.to_string(), text.into());
            }
        }
        if !self.calls.is_empty() {
            all.insert("tool_calls".to_string(), self.calls.into());
        }
        all
    }
}

impl Shape for Chat {
    fn start(&mut self) -> Vec<Chunk> {
        let role = || json!({ "role": "assistant", "content": "" });
        (0..self.choices.len()).flat_map(|i| self.delta(i, role(), Value::Null, None)).collect()
    }

    fn push(&mut self, index: usize, parts: Vec<ReplyPart>, said: Option<Said>) -> Vec<Chunk> {
        let entry = said.map(|said| said.entry());
        self.choices[index].logprobs.extend(entry.clone());
        let mut delta = Delta::default();
        for part in parts {
            self.add(index, part, &mut delta);
        }
        let mut delta = delta.json();
        // A token that brings no text yet may still say how likely it was.
        if delta.is_empty() {
            if entry.is_none() {
                return Vec::new();
            }
            delta.insert("content".to_string(), "".into());
        }
        let said = entry.map_or(Value::Null, |entry| logprobs(vec![entry]));
        self.delta(index, delta.into(), said, None)
    }

    fn end(&mut self, index: usize, finish: Finish) -> Vec<Chunk> {
        self.choices[index].finish = Some(finish.name());
        self.delta(index, json!({}), Value::Null, Some(finish.name()))
    }

    fn finish(&mut self, totals: &Totals) -> Vec<Chunk> {
        self.streaming.end(self.chunk(json!([])), totals)
    }

    fn whole(&mut self, totals: &Totals) -> Value {
        let with_logprobs = self.logprobs;
        let choices = self.choices.iter_mut().enumerate().map(|(index, choice)| {
            json!({
                "index": index,
                "message": choice.message(),
                "logprobs": with_logprobs.then(|| logprobs(std::mem::take(&mut choice.logprobs))),
                "finish_reason": choice.finish,
            })
        });
        json!({
            "id": format!("chatcmpl-{}", self.id),
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": choices.collect::<Value>(),
            "usage": totals.of_completions(),
        })
    }
}
