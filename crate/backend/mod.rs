//! How a plan runs. A backend knows ops, packed weights and slots, but no models.

mod adapter;
pub mod cpu;
pub mod reference;
mod sampling;
mod step;
mod timed;
#[cfg(feature = "webgpu")]
pub mod webgpu;

use std::str::FromStr;
use std::task::{Context, Poll};

pub use adapter::{AdapterFacts, SOFTWARE_ADAPTERS};
pub use sampling::{Draw, Logprobs, MAX_LOGPROBS, SampleRequest, SamplingRules};
use serde::{Deserialize, Serialize};
pub use step::{BLOCK, CachePart, MAX_KEPT, MAX_SEGMENTS, Place, Segment, Step, Stretch};
pub use timed::{Timed, TimedStep, Timing};

use crate::bail;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{CACHE_KINDS, CacheKind, Plan, WeightId};
#[cfg(doc)]
use crate::quant;

/// The type of the rows of keys and values in the cache. A backend may use a wider one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvType {
    /// As they are computed, in f32.
    #[default]
    F32,
    /// Rounded to f16.
    F16,
    /// int8 with an f16 scale per 32 values.
    Q8_0,
}

impl KvType {
    /// `f32`, `f16` or `q8_0`.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::Q8_0 => "q8_0",
        }
    }

    /// Bytes of `n` values of a head.
    pub fn bytes(self, n: usize) -> usize {
        match self {
            KvType::F32 => 4 * n,
            KvType::F16 => 2 * n,
            // The f16 scales are padded to whole words.
            KvType::Q8_0 => n + n.div_ceil(64) * 4,
        }
    }
}

impl FromStr for KvType {
    type Err = Error;

    /// `f32`, `f16` or `q8_0`.
    fn from_str(name: &str) -> Result<Self> {
        Ok(match name {
            "f32" => KvType::F32,
            "f16" => KvType::F16,
            "q8_0" => KvType::Q8_0,
            _ => bail!(InvalidArgument, "unknown cache type `{name}`; expected f32, f16 or q8_0"),
        })
    }
}

/// Sizes that are fixed when a plan is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Positions of a sequence: 0 to n_ctx - 1.
    pub n_ctx: usize,
    /// The most tokens of one step.
    pub max_tokens: usize,
    /// The most rows of logits of one step.
    pub max_outputs: usize,
    /// Type of the rows of keys and values, as returned by [`Backend::kv_type`].
    pub kv: KvType,
    /// The most blocks of each kind, of all sequences together. A backend starts with few and grows when a step names
    /// more.
    pub blocks: [usize; 2],
    /// The most slots for recurrent states; it grows to them likewise.
    pub slots: usize,
}

impl Limits {
    /// For one sequence of `n_ctx` positions, with logits for every token of a step.
    pub fn one(n_ctx: usize, max_tokens: usize, kv: KvType) -> Self {
        let blocks = [n_ctx.div_ceil(BLOCK); CACHE_KINDS];
        Self { n_ctx, max_tokens, max_outputs: max_tokens, kv, blocks, slots: 1 }
    }
}

/// Positions whose products do not show that [`Activations::Q8`] rules: to their keys and values all later positions look, the
/// first of them most of all, and there the answers to short questions are found. The CPU's activations have a second term of
/// int8 there, and GPUs multiply in f32.
pub const FINE_POSITIONS: usize = 64;

/// Precision of the activations in matrix products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activations {
    /// Exact f32: reference results are measured with it.
    #[default]
    F32,
    /// int8 with a scale per 32 columns, for matrices whose type [`quant::splits`]: several times faster, with an error
    /// below that of the quantised weights, and without one that shows in the first [`FINE_POSITIONS`]. GPUs have kernels for
    /// most of these types and use them only in steps of many tokens: short steps are bound by memory.
    Q8,
}

/// What a backend has done since it was prepared. Deterministic, so tests assert on these counts and never on times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Steps that were submitted.
    pub steps: u64,
    /// Kernels that were started; 0 on the CPU, as are the next two.
    pub dispatches: u64,
    /// Compute passes.
    pub passes: u64,
    /// Submissions to the queue.
    pub submits: u64,
    /// Bytes of step inputs written to the device, without weights.
    pub bytes_written: u64,
    /// Bytes read back: logits and chosen tokens.
    pub bytes_read: u64,
    /// Pipelines that were created; a step creates none.
    pub pipelines: u64,
    /// Buffers that were created; a step creates none.
    pub buffers: u64,
    /// Bind groups that were created; a step creates none.
    pub bind_groups: u64,
    /// The most steps that were in flight at once.
    pub in_flight: u64,
}

/// How far a step is that runs in parts. Each of its ops has as many places as the step has tokens: an op of many rows can be
/// left between two of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The place where the next part begins.
    pub next: u64,
    /// Where the step ends.
    pub of: u64,
}

impl Slice {
    /// Before a row of one of so many ops.
    fn new(op: usize, row: usize, ops: usize, step: &Step<'_>) -> Self {
        let tokens = step.len() as u64;
        Self { next: op as u64 * tokens + row as u64, of: ops as u64 * tokens }
    }

    /// The op of a place, and its row there.
    fn op_and_row(place: u64, ops: usize, step: &Step<'_>) -> Result<(usize, usize)> {
        let tokens = step.len() as u64;
        if place >= ops as u64 * tokens {
            bail!(InvalidArgument, "a step of {ops} ops with {tokens} tokens has no part from place {place} on");
        }
        Ok(((place / tokens) as usize, (place % tokens) as usize))
    }

    /// Whether it was the last part.
    pub fn is_last(self) -> bool {
        self.next == self.of
    }
}

/// Bytes that a backend holds, by what they are for: all buffers of a GPU. What is planned has no staging.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Packed weights, with what repacking adds.
    pub weights: u64,
    /// Keys and values.
    pub kv: u64,
    /// Recurrent states, copies of those included.
    pub states: u64,
    /// Values of a step, its logits among them, and tables.
    pub scratch: u64,
    /// What the host reads back, and blocks of the cache on their way to another place.
    pub staging: u64,
}

impl Memory {
    /// All of it.
    pub fn total(self) -> u64 {
        let Self { weights, kv, states, scratch, staging } = self;
        [weights, kv, states, scratch, staging].into_iter().fold(0, u64::saturating_add)
    }

    /// That of two backends.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            weights: self.weights.saturating_add(other.weights),
            kv: self.kv.saturating_add(other.kv),
            states: self.states.saturating_add(other.states),
            scratch: self.scratch.saturating_add(other.scratch),
            staging: self.staging.saturating_add(other.staging),
        }
    }

    /// Keys and values, and recurrent states.
    pub fn cache(self) -> u64 {
        self.kv.saturating_add(self.states)
    }
}

/// Runs plans. The engine calls `prepare`, then `write_weight` for every byte of every weight, then
/// `finish_weights`, and then `submit` and `poll_logits` in turn. Which sequence has which blocks and slots is the engine's
/// to know: a step names them.
pub trait Backend {
    /// `reference`, `cpu` or `webgpu`.
    fn name(&self) -> &'static str;

    /// Whether a matrix (matmul, embedding) may have this type.
    fn supports(&self, dtype: DType) -> bool;

    /// Why it cannot be used any more, as after the loss of a device; nothing while it can.
    fn fault(&self) -> Option<Error> {
        None
    }

    /// The type in which it keeps keys and values if this one is asked for.
    fn kv_type(&self, _: KvType) -> KvType {
        KvType::F32
    }

    /// Default tokens per step: larger steps are more efficient but take longer to abort.
    fn max_tokens(&self) -> usize {
        128
    }

    /// Allocates weights, states and slots, and compiles what the plan needs.
    fn prepare(&mut self, plan: Plan, limits: Limits) -> Result<()>;

    /// Writes packed bytes of a weight at `offset` bytes from its start. Pieces come in any size and order.
    fn write_weight(&mut self, w: WeightId, offset: usize, bytes: &[u8]) -> Result<()>;

    /// Ends loading: repacks what was written. Fails if bytes are missing.
    fn finish_weights(&mut self) -> Result<()>;

    /// Starts a step. The engine has checked ids, positions, row counts, blocks and slots.
    fn submit(&mut self, step: &Step<'_>) -> Result<()>;

    /// Starts the next part of a step that may take long, from place `from` on, so that the caller can do something else before
    /// the next one: as much as takes about a twentieth of a second, or has so many multiply-adds, but at least some rows of an op.
    /// Nothing else is submitted before the last part of a step, but a step from its start. Each part is read: the last one has
    /// the logits, the others none.
    fn submit_slice(&mut self, step: &Step<'_>, _from: u64, _work: Option<u64>) -> Result<Slice> {
        self.submit(step).map(|()| Slice { next: 1, of: 1 })
    }

    /// Copies the logits of the oldest unread step: `outputs` times the columns of its part. A step without outputs is read too,
    /// with an empty slice: this tells the caller that it is done.
    fn poll_logits(&mut self, cx: &mut Context<'_>, logits: &mut [f32]) -> Poll<Result<()>>;

    /// Prepares sampling on the device by these rules, after the trunk and after the block for multi-token prediction, so that a step can run before the host has read the previous
    /// token. Returns how many such steps may be in flight: 0 if the backend cannot sample.
    fn prepare_sampling(&mut self, _: &SamplingRules) -> Result<usize> {
        Ok(0)
    }

    /// Starts a step with one row of logits, and samples from it. A step whose history is not given goes on from the last
    /// step of the same part. `prepare_sampling` must have returned at
    /// least 1 for these rules.
    fn submit_sampled(&mut self, _: &Step<'_>, _: &SampleRequest<'_>) -> Result<()> {
        Err(Error::new(ErrorKind::InvalidState, "this backend does not sample tokens"))
    }

    /// Chooses the tokens of the last step, whose request or some of whose draws are masked, among those whose bits are set. Each
    /// row has as many words, one row after another: bit `id % 32` of its word `id / 32`. A token past the last word has none.
    /// Nothing else is submitted before.
    fn submit_masks(&mut self, _: &[u32]) -> Result<()> {
        Err(Error::new(ErrorKind::InvalidState, "this backend does not sample tokens"))
    }

    /// The token of the oldest unread sampled step. [`ErrorKind::DegenerateLogits`] if no token can be chosen from the
    /// logits.
    fn poll_token(&mut self, _: &mut Context<'_>) -> Poll<Result<u32>> {
        Poll::Ready(Err(Error::new(ErrorKind::InvalidState, "this backend does not sample tokens")))
    }

    /// Prepares to choose the tokens of several rows of logits by these rules, without penalties and log-probabilities. False
    /// if the backend cannot.
    fn prepare_rows(&mut self, _: &SamplingRules) -> Result<bool> {
        Ok(false)
    }

    /// Starts a step of the trunk, and chooses a token from each of its rows of logits: there are as many draws, and at most
    /// [`MAX_SEGMENTS`]. `prepare_rows` must have returned true for their rules. The last `drafted` tokens of the step, which has
    /// one segment then, are those that the last sampled steps of the block for multi-token prediction chose: what the step names
    /// in their place does not matter, so the host need not have read them.
    fn submit_rows(&mut self, _: &Step<'_>, _: &[Draw], _drafted: usize) -> Result<()> {
        Err(Error::new(ErrorKind::InvalidState, "this backend does not sample tokens"))
    }

    /// The tokens of the oldest unread step of `submit_rows`, whose draws are as many; each is
    /// [`ErrorKind::DegenerateLogits`] if none can be chosen from its row.
    fn poll_rows(&mut self, _: &mut Context<'_>, _: &mut [Result<u32>]) -> Poll<Result<()>> {
        Poll::Ready(Err(Error::new(ErrorKind::InvalidState, "this backend does not sample tokens")))
    }

    /// How likely the token was that `poll_token` returned last, where its rules ask for it.
    fn logprobs(&self) -> Option<&Logprobs> {
        None
    }

    /// Copies all rows of a block to another of its kind, after the steps that were submitted.
    fn copy_block(&mut self, kind: CacheKind, from: u32, to: u32) -> Result<()>;

    /// Bytes of a part of the cache, in the layout of this backend.
    fn part_bytes(&self, part: CachePart) -> usize;

    /// Starts to read a part of the cache as it is after the steps that were submitted.
    fn submit_read(&mut self, part: CachePart) -> Result<()>;

    /// Copies the oldest part that is being read: its `part_bytes`.
    fn poll_read(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<Result<()>>;

    /// Writes a part that a backend with the same plan and limits has read.
    fn write_part(&mut self, part: CachePart, bytes: &[u8]) -> Result<()>;

    /// Runs a step with each kernel by itself, and returns how long each took. Keys, values and recurrent states are
    /// updated as in `submit`; there are no logits to read.
    fn profile<'a>(&'a mut self, _: &'a Step<'a>) -> Timing<'a> {
        let refused = Error::new(ErrorKind::InvalidState, "profiling needs the GPU backend");
        Box::pin(std::future::ready(Err(refused)))
    }

    /// What it has done since `prepare`.
    fn counters(&self) -> Counters;

    /// What it holds now.
    fn memory(&self) -> Memory;
}
