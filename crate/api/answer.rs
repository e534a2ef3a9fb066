//! An answer while it comes: events of the engine go in, events of a stream come out, and in the end the whole.

use std::sync::Arc;

use serde_json::Value;

use super::error::ApiError;
use super::logprobs::Said;
use super::reply::Parts;
use super::usage::Totals;
use crate::engine::{Event, StopReason, Usage};
use crate::text::{ReplyPart, Tokenizer};

/// An event of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Its name, where the endpoint has names for its events.
    pub event: Option<&'static str>,
    /// JSON, or `[DONE]`.
    pub data: String,
}

impl Chunk {
    pub(super) fn of(data: &Value) -> Self {
        Self { event: None, data: data.to_string() }
    }

    /// As a server sends it (text/event-stream). JSON has no line breaks.
    pub fn to_sse(&self) -> String {
        let name = self.event.map_or(String::new(), |name| format!("event: {name}\n"));
        format!("{name}data: {}\n\n", self.data)
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    Stop,
    Length,
    ToolCalls,
}

impl Finish {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// What an endpoint makes of the parts of its answers. All of these return events of the stream, which are none unless the
/// request asked for a stream.
pub(super) trait Shape: Send {
    /// Before the first token.
    fn start(&mut self) -> Vec<Chunk>;
    /// A token of an answer, and the parts that it has brought.
    fn push(&mut self, index: usize, parts: Vec<ReplyPart>, said: Option<Said>) -> Vec<Chunk>;
    /// The end of an answer.
    fn end(&mut self, index: usize, finish: Finish) -> Vec<Chunk>;
    /// The end of all.
    fn finish(&mut self, totals: &Totals) -> Vec<Chunk>;
    /// An error in place of the rest.
    fn fail(&mut self, error: &ApiError) -> Chunk {
        Chunk { event: None, data: error.body() }
    }
    /// The whole body.
    fn whole(&mut self, totals: &Totals) -> Value;
}

/// The answer to a request, of one generation or several.
pub struct Answer {
    shape: Box<dyn Shape>,
    tokenizer: Arc<Tokenizer>,
    /// Those of the generations.
    parts: Vec<Parts>,
    /// Whether they have called a tool.
    called: Vec<bool>,
    usages: Vec<Option<Usage>>,
    /// Tokens of their reasoning, with its markers.
    reasoning: Vec<usize>,
    /// How many answers each prompt has.
    n: usize,
}

impl Answer {
    pub(super) fn new(shape: Box<dyn Shape>, tokenizer: Arc<Tokenizer>, parts: Vec<Parts>, n: usize) -> Self {
        let called = vec![false; parts.len()];
        let (usages, reasoning) = (vec![None; parts.len()], vec![0; parts.len()]);
        Self { shape, tokenizer, called, usages, reasoning, parts, n }
    }

    /// The first events of a stream.
    pub fn start(&mut self) -> Vec<Chunk> {
        self.shape.start()
    }

    /// Takes an event of the generation with this index among the prompts of the request. Returns events of the stream, with
    /// the last ones after the last generation is done.
    pub fn push(&mut self, index: usize, event: Event) -> Vec<Chunk> {
        match event {
            Event::Prefill { .. } => Vec::new(),
            Event::Token { id, text, logprobs } => {
                let said = logprobs.map(|l| Said::new(&self.tokenizer, id, &l));
                let reasoned = self.parts[index].is_reasoning();
                let parts = self.parts[index].push(&text);
                self.reasoning[index] += usize::from(reasoned || self.parts[index].is_reasoning());
                self.note_calls(index, &parts);
                self.shape.push(index, parts, said)
            }
            Event::Done { text, reason, usage } => {
                let mut parts = self.parts[index].push(&text);
                parts.extend(self.parts[index].finish());
                self.note_calls(index, &parts);
                let finish = match reason {
                    StopReason::MaxTokens | StopReason::ContextFull => Finish::Length,
                    StopReason::EndOfSequence | StopReason::StopString if self.called[index] => Finish::ToolCalls,
                    StopReason::EndOfSequence | StopReason::StopString => Finish::Stop,
                };
                self.usages[index] = Some(usage);
                let mut chunks = self.shape.push(index, parts, None);
                chunks.extend(self.shape.end(index, finish));
                if self.is_over() {
                    chunks.extend(self.shape.finish(&self.totals()));
                }
                chunks
            }
        }
    }

    /// Whether all generations are done.
    pub fn is_over(&self) -> bool {
        self.usages.iter().all(Option::is_some)
    }

    /// The last event of a stream in which something went wrong.
    pub fn fail(&mut self, error: &ApiError) -> Chunk {
        self.shape.fail(error)
    }

    /// The whole body, once all generations are done.
    pub fn whole(mut self) -> String {
        let totals = self.totals();
        self.shape.whole(&totals).to_string()
    }

    /// Tokens of all generations that are done.
    pub fn tokens(&self) -> usize {
        self.usages.iter().flatten().map(|u| u.completion_tokens).sum()
    }

    fn note_calls(&mut self, index: usize, parts: &[ReplyPart]) {
        self.called[index] |= parts.iter().any(|part| matches!(part, ReplyPart::ToolCall { .. }));
    }

    fn totals(&self) -> Totals {
        let usages: Vec<_> = self.usages.iter().map(|u| u.unwrap_or_default()).collect();
        Totals::of(&usages, self.n, self.reasoning.iter().sum())
    }
}
