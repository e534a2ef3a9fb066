//! The output of `/v1/responses`: items that come one after another, each with its events.

use serde_json::{Map, Value, json};

use super::answer::{Chunk, Finish, Shape};
use super::error::ApiError;
use super::logprobs::Said;
use super::usage::Totals;
use crate::text::ReplyPart;

/// What an item is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Reasoning,
    Message,
    /// A call of a tool, with its number and the name of the tool.
    Call(usize, String),
}

/// The item that is being made.
struct Open {
    kind: Kind,
    id: String,
    text: String,
    logprobs: Vec<Value>,
}

impl Open {
    /// The part of its content that holds its text.
    fn part(&self) -> Value {
        match self.kind {
            Kind::Reasoning => json!({ "type": "reasoning_text", "text": self.text }),
            _ => json!({ "type": "output_text", "text": self.text, "annotations": [], "logprobs": self.logprobs }),
        }
    }

    fn item(&self, status: &str) -> Value {
        let Self { kind, id, text, .. } = self;
        // An item that has just started has no parts yet.
        let content = if status == "in_progress" { json!([]) } else { json!([self.part()]) };
        match kind {
            Kind::Reasoning => {
                json!({ "id": id, "type": "reasoning", "status": status, "summary": [], "content": content })
            }
            Kind::Message => {
                json!({ "id": id, "type": "message", "status": status, "role": "assistant", "content": content })
            }
            Kind::Call(_, name) => json!({
                "id": id,
                "type": "function_call",
                "status": status,
                "call_id": format!("call_{id}"),
                "name": name,
                "arguments": text,
            }),
        }
    }
}

/// A response while it comes.
pub(super) struct Output {
    /// The response without its items.
    head: Map<String, Value>,
    /// What all ids are made of.
    id: String,
    stream: bool,
    logprobs: bool,
    /// The number of the next event.
    sequence: usize,
    /// Events that were not returned yet.
    chunks: Vec<Chunk>,
    /// Items that are complete.
    items: Vec<Value>,
    open: Option<Open>,
}

impl Output {
    pub(super) fn new(head: Map<String, Value>, id: String, stream: bool, logprobs: bool) -> Self {
        let (chunks, items) = (Vec::new(), Vec::new());
        Self { head, id, stream, logprobs, sequence: 0, chunks, items, open: None }
    }

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

    /// An event of the open item.
    fn emit_of(&mut self, open: &Open, event: &'static str, fields: Value) {
        let mut all = json!({ "item_id": open.id, "output_index": self.items.len() });
        if let (Value::Object(all), Value::Object(fields)) = (&mut all, fields) {
            // Calls have no parts.
            if !matches!(open.kind, Kind::Call(..)) {
                all.insert("content_index".to_string(), 0.into());
            }
            all.extend(fields);
        }
        self.emit(event, all);
    }

    fn take(&mut self) -> Vec<Chunk> {
        std::mem::take(&mut self.chunks)
    }

    /// Adds a text to the item of a kind, which is a new one if another one is open.
    fn add(&mut self, kind: Kind, text: &str, entry: Option<Value>) {
        let mut open = match self.open.take_if(|open| open.kind == kind) {
            Some(open) => open,
            None => self.start_item(kind),
        };
        open.text.push_str(text);
        let fields = match open.kind {
            Kind::Message => json!({ "delta": text, "logprobs": entry.iter().collect::<Vec<_>>() }),
            _ => json!({ "delta": text }),
        };
        open.logprobs.extend(entry.filter(|_| open.kind == Kind::Message));
        let event = match open.kind {
            Kind::Reasoning => "response.reasoning_text.delta",
            Kind::Message => "response.output_text.delta",
            Kind::Call(..) => "response.function_call_arguments.delta",
        };
        self.emit_of(&open, event, fields);
        self.open = Some(open);
    }

    fn start_item(&mut self, kind: Kind) -> Open {
        self.close("completed");
        let index = self.items.len();
        let prefix = match kind {
            Kind::Reasoning => "rs",
            Kind::Message => "msg",
            Kind::Call(..) => "fc",
        };
        let id = format!("{prefix}_{}{index}", self.id);
        let open = Open { kind, id, text: String::new(), logprobs: Vec::new() };
        self.emit("response.output_item.added", json!({ "output_index": index, "item": open.item("in_progress") }));
        if !matches!(open.kind, Kind::Call(..)) {
            self.emit_of(&open, "response.content_part.added", json!({ "part": open.part() }));
        }
        open
    }

    fn close(&mut self, status: &str) {
        let Some(open) = self.open.take() else { return };
        match &open.kind {
            Kind::Call(_, name) => {
                let fields = json!({ "name": name, "arguments": open.text });
                self.emit_of(&open, "response.function_call_arguments.done", fields);
            }
            Kind::Reasoning => {
                self.emit_of(&open, "response.reasoning_text.done", json!({ "text": open.text }));
                self.emit_of(&open, "response.content_part.done", json!({ "part": open.part() }));
            }
            Kind::Message => {
                let fields = json!({ "text": open.text, "logprobs": open.logprobs });
                self.emit_of(&open, "response.output_text.done", fields);
                self.emit_of(&open, "response.content_part.done", json!({ "part": open.part() }));
            }
        }
        let item = open.item(status);
        self.emit("response.output_item.done", json!({ "output_index": self.items.len(), "item": item }));
        self.items.push(item);
    }

    fn response(&self) -> Value {
        let mut response = self.head.clone();
        response.insert("output".to_string(), self.items.clone().into());
        response.into()
    }
}

impl Shape for Output {
    fn start(&mut self) -> Vec<Chunk> {
        for event in ["response.created", "response.in_progress"] {
            let response = self.response();
            self.emit(event, json!({ "response": response }));
        }
        self.take()
    }

    fn push(&mut self, _: usize, parts: Vec<ReplyPart>, said: Option<Said>) -> Vec<Chunk> {
        let mut entry = said.filter(|_| self.logprobs).map(|said| said.entry());
        for part in parts {
            match part {
                ReplyPart::Reasoning(text) => self.add(Kind::Reasoning, &text, None),
                ReplyPart::Content(text) => self.add(Kind::Message, &text, entry.take()),
                ReplyPart::ToolCall { index, name } => {
                    let open = self.start_item(Kind::Call(index, name));
                    self.open = Some(open);
                }
                ReplyPart::ToolArguments { delta, .. } => {
                    if let Some(kind @ Kind::Call(..)) = self.open.as_ref().map(|open| open.kind.clone()) {
                        self.add(kind, &delta, None);
                    }
                }
            }
        }
        // A token of a message that brings no text yet still says how likely it was.
        if entry.is_some() && self.open.as_ref().is_none_or(|open| open.kind == Kind::Message) {
            self.add(Kind::Message, "", entry);
        }
        self.take()
    }

    fn end(&mut self, _: usize, finish: Finish) -> Vec<Chunk> {
        let status = match finish {
            Finish::Length => "incomplete",
            Finish::Stop | Finish::ToolCalls => "completed",
        };
        // An answer has at least one item.
        if self.open.is_none() && self.items.is_empty() {
            self.open = Some(self.start_item(Kind::Message));
        }
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
        let sequence = self.sequence;
        let data =
            json!({ "type": "error", "sequence_number": sequence, "code": code, "message": message, "param": param });
        Chunk { event: Some("error"), data: data.to_string() }
    }

    fn whole(&mut self, _: &Totals) -> Value {
        self.response()
    }
}
