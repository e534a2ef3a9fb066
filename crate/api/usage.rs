//! Counts and times of all generations of an answer.

use serde_json::{Value, json};

use crate::engine::Usage;

/// Sums over the generations of an answer; a prompt counts once, however many answers it has.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    prompt: usize,
    cached: usize,
    completion: usize,
    reasoning: usize,
    drafted: usize,
    accepted: usize,
    first: Usage,
    decode_tokens_per_s: f64,
}

impl Totals {
    /// Of generations in their order, `n` of each prompt, with so many tokens of reasoning in all.
    pub(super) fn of(usages: &[Usage], n: usize, reasoning: usize) -> Self {
        let mut totals = Self { first: usages.first().copied().unwrap_or_default(), reasoning, ..Self::default() };
        for (i, usage) in usages.iter().enumerate() {
            if i.is_multiple_of(n) {
                totals.prompt += usage.prompt_tokens;
                totals.cached += usage.cached_tokens;
            }
            totals.completion += usage.completion_tokens;
            totals.drafted += usage.speculated.drafted;
            totals.accepted += usage.speculated.accepted;
            totals.decode_tokens_per_s += usage.decode_tokens_per_s;
        }
        totals
    }

    /// `usage` of chat completions and completions. `extra` is not part of OpenAI's API.
    pub(super) fn of_completions(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": { "cached_tokens": self.cached },
            "completion_tokens_details": { "reasoning_tokens": self.reasoning },
            "extra": self.extra(),
        })
    }

    /// `usage` of responses.
    pub(super) fn of_responses(&self) -> Value {
        json!({
            "input_tokens": self.prompt,
            "input_tokens_details": { "cached_tokens": self.cached },
            "output_tokens": self.completion,
            "output_tokens_details": { "reasoning_tokens": self.reasoning },
            "total_tokens": self.prompt + self.completion,
            "extra": self.extra(),
        })
    }

    fn extra(&self) -> Value {
        json!({
            "time_to_first_token_s": self.first.time_to_first_token_ms / 1000.0,
            "prefill_tokens_per_s": self.first.prefill_tokens_per_s,
            "decode_tokens_per_s": self.decode_tokens_per_s,
            "drafted_tokens": self.drafted,
            "accepted_tokens": self.accepted,
        })
    }
}
