//! What a generation reports.

use serde::Serialize;

use super::stats::Speculated;
use crate::backend::Logprobs;

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// The model ended the sequence. That token is not part of the output.
    EndOfSequence,
    /// The text reached one of the stop strings, which is not part of it.
    StopString,
    /// The generation has reached the requested number of tokens.
    MaxTokens,
    /// The context is full: not an error, but the text may be cut.
    ContextFull,
}

impl StopReason {
    /// The stable, kebab-case code.
    pub fn code(self) -> &'static str {
        match self {
            StopReason::EndOfSequence => "end-of-sequence",
            StopReason::StopString => "stop-string",
            StopReason::MaxTokens => "max-tokens",
            StopReason::ContextFull => "context-full",
        }
    }
}

/// What a generation has done, as far as another engine must know it to go on after it: see
/// [`Batch::replay`](super::Batch::replay). Texts are made again.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the docs of the variants name their fields")]
pub enum Mark {
    /// So many tokens of its prompt were in the cache.
    Cached(usize),
    /// It chose a token, and said how likely that was.
    Token { id: u32, logprobs: Option<Logprobs> },
    /// It ended.
    Done(StopReason),
}

/// Counts and times of one generation. A rate is 0 if there is not enough to measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Tokens of the prompt, including cached ones.
    pub prompt_tokens: usize,
    /// Tokens of the prompt that were already in the cache, when it was first read.
    pub cached_tokens: usize,
    /// Tokens that were generated, without the one that ended the sequence.
    pub completion_tokens: usize,
    /// From the start of the generation; 0 if there was no token.
    pub time_to_first_token_ms: f64,
    /// Over the tokens that were not cached.
    pub prefill_tokens_per_s: f64,
    /// Over the tokens after the first.
    pub decode_tokens_per_s: f64,
    /// What speculative decoding did; zeros without.
    pub speculated: Speculated,
}

/// What [`Generation::next`](super::Generation::next) reports: progress of the prompt, tokens, and finally the end.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the docs of the variants name their fields")]
pub enum Event {
    /// `done` of the `total` tokens of the prompt are in the cache.
    Prefill { done: usize, total: usize },
    /// A token, and the text that is now certain: none while a character or a possible stop string is incomplete. With
    /// `logprobs`, how likely it was.
    Token { id: u32, text: String, logprobs: Option<Logprobs> },
    /// The end, with the text that was held back.
    Done { text: String, reason: StopReason, usage: Usage },
}
