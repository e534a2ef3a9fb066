//! What a backend needs to sample tokens itself.

use serde::Serialize;

/// The most tokens beside the chosen one whose log-probabilities may be asked for: those of OpenAI's API.
pub const MAX_LOGPROBS: usize = 20;

/// How likely a token was: natural logarithms of probabilities of the model's own distribution, which penalties, biases and
/// the temperature leave as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Logprobs {
    /// Of the token that was chosen.
    pub logprob: f32,
    /// The likeliest tokens with theirs, the likeliest first; of equal ones the lowest id.
    pub top: Vec<(u32, f32)>,
}

/// The rules of a sampler: the engine's `SamplerParams` say what each does, and its CPU sampler is what a backend must
/// agree with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingRules {
    /// At 0 the most likely token is taken.
    pub temperature: f32,
    /// 0 is off.
    pub top_k: usize,
    /// 1 is off.
    pub top_p: f32,
    /// 0 is off.
    pub min_p: f32,
    /// 1 is off.
    pub repeat_penalty: f32,
    /// 0 is off.
    pub presence_penalty: f32,
    /// 0 is off.
    pub frequency_penalty: f32,
    /// 0 where no penalty changes anything.
    pub penalty_last_n: usize,
    /// Reports how likely each token was, and so many of the likeliest ones: with penalties backends need not know how.
    pub logprobs: Option<usize>,
}

/// How the token after a step is sampled.
#[derive(Clone, Copy, Debug)]
pub struct SampleRequest<'a> {
    /// Those that were given to `prepare_sampling`.
    pub rules: &'a SamplingRules,
    /// The key of this draw's random numbers.
    pub key: u32,
    /// All tokens up to the end of the step. `None` where the step runs the token that was sampled after the step before:
    /// the backend has that one and those before, and the single token that the step names does not matter.
    pub history: Option<&'a [u32]>,
    /// The token is chosen among those of a mask, which is given once the step runs.
    pub masked: bool,
}

/// How the token after one of several rows of logits is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Those that were given to `prepare_rows`.
    pub rules: SamplingRules,
    /// The key of this draw's random numbers.
    pub key: u32,
    /// The token is chosen among those of a mask, which is given once the step runs.
    pub masked: bool,
}
