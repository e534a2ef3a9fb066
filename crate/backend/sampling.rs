//! What a backend needs to sample tokens itself.

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
}
