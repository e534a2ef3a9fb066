//! From a row of logits to a token.
//!
//! The chain: the mask of a grammar, penalties, logit bias, top-k, top-p, min-p, temperature, and a draw. The draw needs no order among the
//! candidates and no sum over them, so a kernel can do it in one reduction; [`uniform`] defines its random numbers.

mod candidates;
mod penalties;
mod random;

pub use candidates::{Candidate, Candidates};
pub use penalties::Penalties;
pub use random::{draw, uniform};

use serde::Deserialize;

use crate::backend::{Logprobs, MAX_LOGPROBS, SamplingRules};
use crate::error::Result;

/// How tokens are chosen. The default is that of OpenAI's API: the model's own distribution.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SamplerParams {
    /// Logits are divided by it; 0 takes the most likely token, and of equally likely ones the lowest id.
    pub temperature: f32,
    /// Sample from the k most likely tokens; 0 is off.
    pub top_k: usize,
    /// Sample from the most likely tokens whose probabilities add up to p; 1 is off.
    pub top_p: f32,
    /// Sample from tokens at least this fraction as likely as the most likely one; 0 is off.
    pub min_p: f32,
    /// Logits of recent tokens are divided by it where positive, else multiplied; 1 is off.
    pub repeat_penalty: f32,
    /// Subtracted from the logits of recent tokens.
    pub presence_penalty: f32,
    /// Subtracted from the logits of recent tokens, times how often they occur.
    pub frequency_penalty: f32,
    /// How many of the last tokens are recent, including the prompt; 0 turns all penalties off.
    pub penalty_last_n: usize,
    /// Seed of the random numbers: the same seed gives the same tokens.
    pub seed: u64,
    /// Added to the logits of single tokens; -inf forbids one.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Default for SamplerParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_last_n: 64,
            seed: 0,
            logit_bias: Vec::new(),
        }
    }
}

impl SamplerParams {
    /// Always the most likely token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    pub(super) fn check(&self) -> Result<()> {
        let fraction = |x: f32| (0.0..=1.0).contains(&x);
        let rules = [
            ("temperature", self.temperature, (0.0..=f32::MAX).contains(&self.temperature), "finite and at least 0"),
            ("top_p", self.top_p, fraction(self.top_p), "from 0 to 1"),
            ("min_p", self.min_p, fraction(self.min_p), "from 0 to 1"),
            (
                "repeat_penalty",
                self.repeat_penalty,
                self.repeat_penalty.is_normal() && self.repeat_penalty > 0.0,
                "above 0",
            ),
            ("presence_penalty", self.presence_penalty, self.presence_penalty.is_finite(), "finite"),
            ("frequency_penalty", self.frequency_penalty, self.frequency_penalty.is_finite(), "finite"),
        ];
        for (name, value, ok, want) in rules {
            if !ok {
                crate::bail!(InvalidArgument, "{name} must be {want}, is {value}");
            }
        }
        if let Some((id, bias)) = self.logit_bias.iter().find(|(_, b)| b.is_nan() || *b == f32::INFINITY) {
            crate::bail!(InvalidArgument, "the logit bias of token {id} must be finite or -inf, is {bias}");
        }
        Ok(())
    }

    fn penalties(&self) -> Penalties {
        Penalties {
            last_n: self.penalty_last_n,
            repeat: self.repeat_penalty,
            frequency: self.frequency_penalty,
            presence: self.presence_penalty,
        }
    }
}

/// Chooses one token after another. Allocates on the first call only.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplerParams,
    /// Tokens drawn so far: the counter of the random numbers.
    step: u32,
    candidates: Candidates,
    recent: Vec<u32>,
    /// Whether log-probabilities are wanted, and of how many of the likeliest tokens.
    wanted: Option<usize>,
    /// The row that they are of, before anything changes it.
    row: Vec<f32>,
    /// Those of the last token.
    logprobs: Logprobs,
}

impl Sampler {
    /// A sampler at its first draw. Fails if a parameter is out of its range (`invalid-argument`).
    pub fn new(params: SamplerParams) -> Result<Self> {
        params.check()?;
        Ok(Self {
            params,
            step: 0,
            candidates: Candidates::default(),
            recent: Vec::new(),
            wanted: None,
            row: Vec::new(),
            logprobs: Logprobs::default(),
        })
    }

    /// The same sampler, which also says how likely each token was and which ones were the `n` likeliest, if `n` is given.
    pub fn with_logprobs(self, n: Option<usize>) -> Result<Self> {
        if let Some(n) = n.filter(|n| *n > MAX_LOGPROBS) {
            crate::bail!(InvalidArgument, "log-probabilities can be had of {MAX_LOGPROBS} tokens at most, not {n}");
        }
        Ok(Self { wanted: n, ..self })
    }

    /// How likely the last token was, if that is wanted.
    pub fn logprobs(&self) -> Option<&Logprobs> {
        self.wanted.map(|_| &self.logprobs)
    }

    /// Whether log-probabilities are wanted.
    pub(super) fn reports(&self) -> bool {
        self.wanted.is_some()
    }

    /// The rules for a backend that chooses tokens itself; `None` if they do not cover these parameters.
    pub fn rules(&self) -> Option<SamplingRules> {
        let p = &self.params;
        let known = p.logit_bias.is_empty() && (self.wanted.is_none() || p.penalties().are_off());
        known.then(|| SamplingRules {
            temperature: p.temperature,
            top_k: p.top_k,
            top_p: p.top_p,
            min_p: p.min_p,
            repeat_penalty: p.repeat_penalty,
            presence_penalty: p.presence_penalty,
            frequency_penalty: p.frequency_penalty,
            penalty_last_n: if p.penalties().are_off() { 0 } else { p.penalty_last_n },
            logprobs: self.wanted,
        })
    }

    /// The key of the draw that comes after `ahead` others, for a backend that samples.
    pub fn key(&self, ahead: usize) -> u32 {
        random::key(self.params.seed, self.step.wrapping_add(ahead as u32))
    }

    /// Counts a token that a backend sampled, and takes what it says of it.
    pub fn count(&mut self, logprobs: Option<&Logprobs>) {
        self.step = self.step.wrapping_add(1);
        if let Some(logprobs) = logprobs.filter(|_| self.wanted.is_some()) {
            self.logprobs.clone_from(logprobs);
        }
    }

    /// Chooses the next token; modifies `logits`. `history` are the tokens before it, oldest first.
    ///
    /// Logits from which no token can be chosen (NaN, +inf, all -inf, all equal) are an error and do not count as a
    /// draw: they mean that a kernel or a file is broken, and a token chosen from them would hide it.
    pub fn sample(&mut self, logits: &mut [f32], history: &[u32]) -> Result<u32> {
        refuse_degenerate(logits)?;
        self.choose(logits, None, history)
    }

    /// The same for a row of a session, which has refused those already, among the tokens of a mask, a bit for each.
    pub(super) fn choose(&mut self, logits: &mut [f32], mask: Option<&[u32]>, history: &[u32]) -> Result<u32> {
        if self.wanted.is_some() {
            self.row.clear();
            self.row.extend_from_slice(logits);
        }
        if let Some(mask) = mask {
            apply(mask, logits);
        }
        let p = &self.params;
        p.penalties().apply(logits, history, &mut self.recent);
        for &(id, bias) in &p.logit_bias {
            match logits.get_mut(id as usize) {
                Some(l) => *l += bias,
                None => crate::bail!(
                    InvalidArgument,
                    "the logit bias names token {id}, but the vocabulary has {} tokens",
                    logits.len()
                ),
            }
        }
        let id = if p.temperature == 0.0 {
            argmax(logits)
        } else {
            let c = &mut self.candidates;
            c.fill(logits);
            c.top_k(p.top_k);
            c.top_p(p.top_p, 1);
            c.min_p(p.min_p, 1);
            c.temperature(p.temperature);
            draw(c.as_slice(), p.seed, self.step)
        };
        let Some(id) = id else {
            crate::bail!(DegenerateLogits, "the penalties, the logit bias and the grammar leave no token");
        };
        self.count(None);
        self.report(id);
        Ok(id)
    }

    /// Computes the log-probabilities of a token chosen from the row that was kept.
    fn report(&mut self, id: u32) {
        let Some(n) = self.wanted else { return };
        let c = &mut self.candidates;
        c.fill(&self.row);
        let top = c.as_slice().iter().fold(f32::NEG_INFINITY, |m, t| m.max(t.logit));
        let sum: f64 = c.as_slice().iter().map(|t| f64::from(t.logit - top).exp()).sum();
        let all = f64::from(top) + sum.ln();
        let logprob = |logit: f32| (f64::from(logit) - all) as f32;
        self.logprobs.logprob = logprob(self.row[id as usize]);
        self.logprobs.top.clear();
        if n > 0 {
            c.top_k(n);
            self.logprobs.top.extend(c.as_slice().iter().map(|t| (t.id, logprob(t.logit))));
            // They are in no order where there are no more than that.
            self.logprobs.top.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        }
    }
}

/// Forbids the tokens whose bits are 0, and those past the end of the mask.
fn apply(mask: &[u32], logits: &mut [f32]) {
    let words = mask.iter().chain(std::iter::repeat(&0));
    for (chunk, word) in logits.chunks_mut(32).zip(words).filter(|(_, word)| **word != u32::MAX) {
        let forbidden = (0..).zip(chunk).filter(|(i, _)| word >> i & 1 == 0);
        forbidden.for_each(|(_, l)| *l = f32::NEG_INFINITY);
    }
}

/// The id of the largest finite logit, and of equal ones the lowest.
pub(super) fn argmax(logits: &[f32]) -> Option<u32> {
    let mut best = None;
    let mut top = f32::NEG_INFINITY;
    for (&l, id) in logits.iter().zip(0..) {
        if l > top && l.is_finite() {
            (best, top) = (Some(id), l);
        }
    }
    best
}

/// Refuses logits from which no token can be chosen.
pub(super) fn refuse_degenerate(logits: &[f32]) -> Result<()> {
    let first = logits.first().copied().unwrap_or(f32::NEG_INFINITY);
    // No branches, so that it runs on whole registers.
    let (mut bad, mut differ) = (false, false);
    for &l in logits {
        bad |= l.is_nan() | (l == f32::INFINITY);
        differ |= l != first;
    }
    if bad {
        let (i, l) = logits.iter().enumerate().find(|(_, l)| l.is_nan() || **l == f32::INFINITY).expect("one is bad");
        crate::bail!(
            DegenerateLogits,
            "the logit of token {i} is {l}, expected a finite number; compare this backend with the reference"
        );
    }
    if !differ && (logits.len() > 1 || first == f32::NEG_INFINITY) {
        crate::bail!(DegenerateLogits, "all logits are {first}; compare this backend with the reference");
    }
    Ok(())
}
