//! `/v1/responses`: text in and out. Nothing is stored, so a conversation is sent again as a whole.

use serde_json::{Map, Value, json};

use super::answer::{Answer, Chunk, Finish, Shape};
use super::conversation::Conversation;
use super::error::ApiError;
use super::fields::{At, Fields, Result};
use super::given::Given;
use super::job::{Accepted, Generate, Job, Prompt};
use super::logprobs::Said;
use super::model::Api;
use super::reply::{Part, Parts};
use super::usage::Totals;
use super::{grammar, messages, params};
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
    messages.extend(input(&f.need("input")?, &mut warnings)?);
    let stream = params::streaming(&mut f, &mut warnings)?.stream;
    let logprobs = includes_logprobs(&mut f)?;
    let max_tokens = f.get("max_output_tokens", |v| v.count(0..=usize::MAX))?;
    let params = GenerateParams {
        max_tokens,
        sampler: params::sampler(&mut f, api, given)?,
        stop: params::stop(&mut f)?,
        logprobs: params::top_logprobs(&mut f, logprobs)?,
        ..GenerateParams::default()
    };
    if let Some(at) = f.take("text") {
        let mut text = at.object()?;
        text.get("format", grammar::format)?;
        params::verbosity(&mut text)?;
        text.rest(&mut warnings);
    }
    params::no_tools(&mut f)?;
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
    let metadata = f.get("metadata", |v| Ok(v.value.clone()))?;
    let conversation = Conversation::new(messages, f.take("chat_template_kwargs"), effort);
    f.rest(&mut warnings);
    let ids = conversation.prompt(api, given)?;
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
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": { "effort": effort_name, "summary": null },
        "store": false,
        "temperature": params.sampler.temperature,
        "text": { "format": { "type": "text" } },
        "tool_choice": "auto",
        "tools": [],
        "top_p": params.sampler.top_p,
        "truncation": "disabled",
        "usage": null,
    }) else {
        unreachable!("the literal is an object")
    };
    let shape = Responses {
        head,
        id: given.id.clone(),
        stream,
        logprobs,
        sequence: 0,
        chunks: Vec::new(),
        output: Vec::new(),
        open: None,
    };
    let answer = Answer::new(Box::new(shape), api.tokenizer.clone(), vec![Parts::plain()], 1);
    let generate = Generate { prompts: Prompt::times(vec![ids], 1, &params), stream, answer };
    Ok(Accepted { job: Job::Generate(Box::new(generate)), warnings })
}

/// A text of the user, or items of a conversation.
fn input(at: &At<'_>, warnings: &mut Vec<String>) -> Result<Vec<Value>> {
    if let Some(text) = at.value.as_str() {
        return Ok(vec![json!({ "role": "user", "content": text })]);
    }
    if !at.value.is_array() {
        return Err(at.must("a string or a list of items"));
    }
    let items = at.list("items")?;
    if items.is_empty() {
        return Err(at.refuse("is empty; there must be at least one item"));
    }
    let messages = items.iter().map(|item| message(item, warnings)).collect::<Result<Vec<_>>>()?;
    Ok(messages.into_iter().flatten().collect())
}

/// A message of an item, if it is one that the model reads.
fn message(at: &At<'_>, warnings: &mut Vec<String>) -> Result<Option<Value>> {
    let mut f = at.object()?;
    let kind = f.take("type");
    match kind.as_ref().map_or(Ok("message"), |kind| kind.one_of(&["message", "reasoning"]))? {
        // Templates leave the reasoning of earlier turns out.
        "reasoning" => return Ok(None),
        _ => drop(kind),
    }
    let role = f.need("role")?.one_of(&["system", "developer", "user", "assistant"])?;
    let content = messages::text(&f.need("content")?, &["input_text", "output_text"])?;
    // Of the items of an answer.
    f.get("id", |v| v.string().map(|_| ()))?;
    f.get("status", |v| v.string().map(|_| ()))?;
    f.rest(warnings);
    let role = if role == "developer" { "system" } else { role };
    Ok(Some(json!({ "role": role, "content": content })))
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

/// The item of the output that is being made.
struct Open {
    id: String,
    text: String,
    logprobs: Vec<Value>,
}

struct Responses {
    /// The response without its output.
    head: Map<String, Value>,
    id: String,
    stream: bool,
    logprobs: bool,
    /// The number of the next event.
    sequence: usize,
    /// Events that were not returned yet.
    chunks: Vec<Chunk>,
    /// Items that are complete.
    output: Vec<Value>,
    open: Option<Open>,
}

impl Responses {
    fn emit(&mut self, event: &'static str, fields: Value) {
        if !self.stream {
            return;
        }
        let mut data = json!({ "type": event, "sequence_number": self.sequence });
        if let (Value::Object(data), Value::Object(fields)) = (&mut data, fields) {
            data.extend(fields);
        }
        self.sequence += 1;
        self.chunks.push(Chunk { event: Some(event), data: data.to_string() });
    }

    fn take(&mut self) -> Vec<Chunk> {
        std::mem::take(&mut self.chunks)
    }

    /// An event of a part of the open item.
    fn emit_part(&mut self, event: &'static str, id: &str, fields: Value) {
        let mut place = json!({ "item_id": id, "output_index": self.output.len(), "content_index": 0 });
        if let (Value::Object(place), Value::Object(fields)) = (&mut place, fields) {
            place.extend(fields);
        }
        self.emit(event, place);
    }

    /// The message that text goes to.
    fn open(&mut self) {
        if self.open.is_some() {
            return;
        }
        let index = self.output.len();
        let id = format!("msg_{}{index}", self.id);
        let item = item(&id, "in_progress", json!([]));
        self.emit("response.output_item.added", json!({ "output_index": index, "item": item }));
        self.emit_part("response.content_part.added", &id, json!({ "part": part("", Vec::new()) }));
        self.open = Some(Open { id, text: String::new(), logprobs: Vec::new() });
    }

    fn close(&mut self, status: &str) {
        let Some(Open { id, text, logprobs }) = self.open.take() else { return };
        self.emit_part("response.output_text.done", &id, json!({ "text": text, "logprobs": logprobs }));
        let part = part(&text, logprobs);
        self.emit_part("response.content_part.done", &id, json!({ "part": part }));
        let item = item(&id, status, json!([part]));
        self.emit("response.output_item.done", json!({ "output_index": self.output.len(), "item": item }));
        self.output.push(item);
    }

    fn response(&self) -> Value {
        let mut response = self.head.clone();
        response.insert("output".to_string(), self.output.clone().into());
        response.into()
    }
}

fn part(text: &str, logprobs: Vec<Value>) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": logprobs })
}

fn item(id: &str, status: &str, content: Value) -> Value {
    json!({ "id": id, "type": "message", "status": status, "role": "assistant", "content": content })
}

impl Shape for Responses {
    fn start(&mut self) -> Vec<Chunk> {
        for event in ["response.created", "response.in_progress"] {
            let response = self.response();
            self.emit(event, json!({ "response": response }));
        }
        self.take()
    }

    fn push(&mut self, _: usize, parts: Vec<Part>, said: Option<Said>) -> Vec<Chunk> {
        let text: String = parts.into_iter().map(|Part::Content(text)| text).collect();
        let entry = said.filter(|_| self.logprobs).map(|said| said.entry());
        if text.is_empty() && entry.is_none() {
            return Vec::new();
        }
        self.open();
        let id = self.open.as_mut().map(|open| {
            open.text.push_str(&text);
            open.logprobs.extend(entry.clone());
            open.id.clone()
        });
        let entries: Vec<_> = entry.into_iter().collect();
        let delta = json!({ "delta": text, "logprobs": entries });
        self.emit_part("response.output_text.delta", &id.unwrap_or_default(), delta);
        self.take()
    }

    fn end(&mut self, _: usize, finish: Finish) -> Vec<Chunk> {
        let status = match finish {
            Finish::Length => "incomplete",
            Finish::Stop => "completed",
        };
        // An answer has at least one item.
        self.open();
        self.close(status);
        self.head.insert("status".to_string(), status.into());
        if finish == Finish::Length {
            self.head.insert("incomplete_details".to_string(), json!({ "reason": "max_output_tokens" }));
        }
        self.take()
    }

    fn finish(&mut self, totals: &Totals) -> Vec<Chunk> {
        self.head.insert("usage".to_string(), totals.of_responses());
        let event = if self.head["status"] == "incomplete" { "response.incomplete" } else { "response.completed" };
        let response = self.response();
        self.emit(event, json!({ "response": response }));
        self.take()
    }

    fn fail(&mut self, error: &ApiError) -> Chunk {
        let ApiError { message, param, code, .. } = error;
        self.stream = true;
        self.emit("error", json!({ "code": code, "message": message, "param": param }));
        self.take().remove(0)
    }

    fn whole(&mut self, _: &Totals) -> Value {
        self.response()
    }
}
