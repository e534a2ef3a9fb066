//! How a plan runs. A backend knows ops, packed weights and slots; it never knows a model.

mod adapter;
pub mod cpu;
pub mod reference;
mod sampling;
mod timed;
#[cfg(feature = "webgpu")]
pub mod webgpu;

use std::str::FromStr;
use std::task::{Context, Poll};

pub use adapter::{AdapterFacts, SOFTWARE_ADAPTERS};
pub use sampling::{SampleRequest, SamplingRules};
use serde::{Deserialize, Serialize};
pub use timed::{Timed, TimedStep, Timing};

use crate::bail;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Dim, Entry, Graph, Part, Plan, Shape, WeightId};
#[cfg(doc)]
use crate::quant;

/// How rows of keys and values are kept. A backend may keep them wider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KvType {
    #[default]
    F32,
    F16,
    /// Signed bytes, with a scale for each 32.
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
            // Scales are f16, in whole words.
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
            _ => bail!(InvalidArgument, "there is no cache type `{name}`; take f32, f16 or q8_0"),
        })
    }
}

/// Sizes that are fixed when a plan is prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows of the cache: positions 0 to n_ctx - 1.
    pub n_ctx: usize,
    /// The most tokens of one step.
    pub max_tokens: usize,
    /// The most rows of logits of one step.
    pub max_outputs: usize,
    pub kv: KvType,
}

/// In which numbers activations meet the weights of a matrix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activations {
    /// As they are: what the reference figures are about.
    #[default]
    F32,
    /// Whole numbers of 8 bits with a scale for every 32 columns, where the matrix is of a type that
    /// [`quant::splits`]: several times faster, and as exact as the weights deserve. GPUs, which have kernels for most of
    /// these types, do it in steps of many tokens only: others are bound by memory.
    Q8,
}

/// One run of a part of the plan: `tokens` at positions `pos`, `pos + 1`, …, with logits for the last `outputs` of them.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    pub tokens: &'a [u32],
    pub pos: usize,
    pub outputs: usize,
    pub entry: Entry,
}

impl Step<'_> {
    /// What of the graph runs.
    pub fn part(&self, g: &Graph) -> Result<Part> {
        g.part(self.entry).ok_or_else(|| Error::new(ErrorKind::InvalidState, "the plan has no such entry"))
    }

    /// The rows of a value in this step.
    pub fn rows(&self, shape: Shape) -> usize {
        match shape.rows {
            Dim::Tokens => self.tokens.len(),
            Dim::Outputs => self.outputs,
        }
    }
}

/// What a backend did since it was prepared. Deterministic, so tests assert on these and never on times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    pub steps: u64,
    pub dispatches: u64,
    pub passes: u64,
    pub submits: u64,
    /// Bytes written to the device per step inputs (not weights), and read back.
    pub bytes_written: u64,
    pub bytes_read: u64,
    pub pipelines: u64,
    pub buffers: u64,
    pub bind_groups: u64,
    /// The most steps that were in flight at once.
    pub in_flight: u64,
}

/// Bytes that a backend holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    pub weights: u64,
    pub kv: u64,
    pub scratch: u64,
}

/// Runs plans. The engine calls `prepare`, then `write_weight` for every byte of every weight, then
/// `finish_weights`, and then `submit` and `poll_logits` in turn. Recurrent states are saved and restored between steps.
pub trait Backend {
    /// `reference`, `cpu` or `webgpu`.
    fn name(&self) -> &'static str;

    /// Whether a matrix (matmul, embedding) may have this type.
    fn supports(&self, dtype: DType) -> bool;

    /// How it keeps keys and values where this is wanted.
    fn kv_type(&self, _: KvType) -> KvType {
        KvType::F32
    }

    /// Tokens of a step, where the caller does not say: more keep it busier, and take longer to stop.
    fn max_tokens(&self) -> usize {
        128
    }

    /// Allocates weights, states and slots, and compiles what the plan needs.
    fn prepare(&mut self, plan: Plan, limits: Limits) -> Result<()>;

    /// Puts packed bytes of a weight at `offset` bytes from its start. Pieces come in any size and order.
    fn write_weight(&mut self, w: WeightId, offset: usize, bytes: &[u8]) -> Result<()>;

    /// All weights are there.
    fn finish_weights(&mut self) -> Result<()>;

    /// Starts a step. The engine has checked ids, positions and row counts.
    fn submit(&mut self, step: &Step<'_>) -> Result<()>;

    /// Copies the logits of the oldest step that was not read yet: `outputs * n_vocab` values. A step without outputs
    /// is read too, with an empty slice: it is how the caller knows that it is over.
    fn poll_logits(&mut self, cx: &mut Context<'_>, logits: &mut [f32]) -> Poll<Result<()>>;

    /// Makes ready to sample tokens by these rules on the device, so that neither they nor their logits must come to the
    /// host first. Returns how many such steps may be in flight at once: 0 where the backend cannot.
    fn prepare_sampling(&mut self, _: &SamplingRules) -> Result<usize> {
        Ok(0)
    }

    /// Starts a step of the trunk with one row of logits, from which a token is sampled. Only after
    /// `prepare_sampling` allowed some by these rules.
    fn submit_sampled(&mut self, _: &Step<'_>, _: &SampleRequest<'_>) -> Result<()> {
        Err(Error::new(ErrorKind::InvalidState, "this backend samples no tokens"))
    }

    /// The token of the oldest sampled step that was not read yet. An error of kind
    /// [`ErrorKind::DegenerateLogits`] where there was none to choose.
    fn poll_token(&mut self, _: &mut Context<'_>) -> Poll<Result<u32>> {
        Poll::Ready(Err(Error::new(ErrorKind::InvalidState, "this backend samples no tokens")))
    }

    /// Keeps a copy of all recurrent states, in place of the one before.
    fn save_recurrent(&mut self) -> Result<()>;

    /// Puts that copy back.
    fn restore_recurrent(&mut self) -> Result<()>;

    /// Runs a step with each kernel by itself, and says how long each took. Keys and values are written and recurrent
    /// states move on as in `submit`; there are no logits to read.
    fn profile<'a>(&'a mut self, _: &'a Step<'a>) -> Timing<'a> {
        let refused = Error::new(ErrorKind::InvalidState, "only kernels of a GPU are timed; take that backend");
        Box::pin(std::future::ready(Err(refused)))
    }

    fn counters(&self) -> Counters;

    fn memory(&self) -> Memory;
}
