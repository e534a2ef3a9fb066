//! `/v1/chat/completions`.

use serde_json::{Map, Value, json};

use super::answer::{Answer, Chunk, Finish, Shape};
use super::conversation::Conversation;
use super::fields::{At, Fields, Result};
use super::given::Given;
use super::job::{Accepted, Generate, Job, Prompt};
use super::logprobs::Said;
use super::model::Api;
use super::params::{self, MOST_ANSWERS, Streaming};
use super::reply::{Part, Parts};
use super::usage::Totals;
use super::{grammar, messages};
use crate::engine::GenerateParams;

pub(super) fn read(api: &Api, mut f: Fields<'_>, given: &Given) -> Result<Accepted> {
    let mut warnings = Vec::new();
    let model = api.named(&mut f)?;
    let messages = messages::read(&f.need("messages")?, &mut warnings)?;
    let streaming = params::streaming(&mut f, &mut warnings)?;
    let n = f.get("n", |v| v.count(1..=MOST_ANSWERS))?.unwrap_or(1);
    let logprobs = f.get("logprobs", At::boolean)?.unwrap_or(false);
    let params = GenerateParams {
        max_tokens: max_tokens(&mut f)?,
        sampler: params::sampler(&mut f, api, given)?,
        stop: params::stop(&mut f)?,
        ignore_eos: f.get("ignore_eos", At::boolean)?.unwrap_or(false),
        logprobs: params::top_logprobs(&mut f, logprobs)?,
        ..GenerateParams::default()
    };
    f.get("response_format", grammar::format)?;
    params::no_tools(&mut f)?;
    params::of_servers(&mut f)?;
    params::not_of_chat(&mut f)?;
    let effort = f.take("reasoning_effort");
    let conversation = Conversation::new(messages, f.take("chat_template_kwargs"), effort)
        .continued(f.take("continue_final_message"), f.take("add_generation_prompt"))?;
    f.rest(&mut warnings);
    let ids = conversation.prompt(api, given)?;
    let choices = (0..n).map(|_| Choice::default()).collect();
    let shape = Chat { id: format!("chatcmpl-{}", given.id), created: given.now, model, streaming, logprobs, choices };
    let parts = (0..n).map(|_| Parts::plain()).collect();
    let answer = Answer::new(Box::new(shape), api.tokenizer.clone(), parts, n);
    let prompts = Prompt::times(vec![ids], n, &params);
    let generate = Generate { prompts, stream: streaming.stream, answer };
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
    content: String,
    logprobs: Vec<Value>,
    finish: Option<&'static str>,
}

struct Chat {
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
            "id": self.id,
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

impl Shape for Chat {
    fn start(&mut self) -> Vec<Chunk> {
        let role = || json!({ "role": "assistant", "content": "" });
        (0..self.choices.len()).flat_map(|i| self.delta(i, role(), Value::Null, None)).collect()
    }

    fn push(&mut self, index: usize, parts: Vec<Part>, said: Option<Said>) -> Vec<Chunk> {
        let entry = said.map(|said| said.entry());
        let choice = &mut self.choices[index];
        choice.logprobs.extend(entry.clone());
        let mut delta = Map::new();
        for Part::Content(text) in parts {
            choice.content.push_str(&text);
            delta.insert("content".to_string(), text.into());
        }
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
        let mut chunks = Vec::new();
        if self.streaming.include_usage {
            let mut chunk = self.chunk(json!([]));
            chunk["usage"] = totals.of_completions();
            chunks.push(Chunk::of(&chunk));
        }
        if self.streaming.stream {
            chunks.push(Chunk { event: None, data: "[DONE]".to_string() });
        }
        chunks
    }

    fn whole(&mut self, totals: &Totals) -> Value {
        let with_logprobs = self.logprobs;
        let choices = self.choices.iter_mut().enumerate().map(|(index, choice)| {
            json!({
                "index": index,
                "message": { "role": "assistant", "content": choice.content, "refusal": null },
                "logprobs": with_logprobs.then(|| logprobs(std::mem::take(&mut choice.logprobs))),
                "finish_reason": choice.finish,
            })
        });
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": choices.collect::<Value>(),
            "usage": totals.of_completions(),
        })
    }
}
