//! The CPU backend, on several threads: int8 activations times packed weights, or exact f32 arithmetic.
//!
//! `pool` distributes work over threads, `lanes` chooses instructions. `packed` and `format` lay weights out for
//! `matmul`; weights in the file's layout go to `matmul_f32`. `cache` holds keys and values for `attention`; `rows`,
//! `delta` and `moe` hold the other ops.

mod activations;
mod arena;
mod attention;
mod cache;
mod decode;
mod delta;
mod format;
mod lanes;
mod math;
mod matmul;
mod matmul_f32;
mod memory;
mod model;
mod moe;
mod packed;
mod pool;
mod rows;
mod slices;
mod states;

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Activations, Backend, CachePart, Counters, KvType, Limits, Memory, Slice, Step};
use crate::bail;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{CacheKind, Graph, Op, Plan, WeightId};
use crate::quant;
use lanes::Isa;
use model::Model;
use pool::Pool;
pub use pool::Worker;

/// Bytes of the sums of attention for one token, which grow with the context.
pub fn attention_bytes(g: &Graph, n_ctx: usize) -> u64 {
    let of_chunk = |op: &Op| match op {
        Op::Attention { attn, .. } => 4 * attention::sums_of_token(attn, attention::CHUNK),
        _ => 0,
    };
    let most = g.nodes.iter().map(|n| of_chunk(&n.op)).max().unwrap_or(0);
    (most as u64).saturating_mul(n_ctx.div_ceil(attention::CHUNK) as u64)
}

/// Runs plans with SIMD on a pool of threads.
pub struct Cpu {
    pool: Arc<Pool>,
    isa: Isa,
    activations: Activations,
    model: Option<Model>,
    ready: VecDeque<Vec<f32>>,
    /// Buffers of logits that were read, for reuse.
    spare: Vec<Vec<f32>>,
    /// Parts of the cache that were read and not taken.
    read: VecDeque<Vec<u8>>,
    counters: Counters,
}

/// The default instruction level.
const WIDEST: u8 = 3;

impl Cpu {
    /// Runs on `threads` threads, the caller's among them; on one if the target cannot start threads.
    pub fn new(threads: usize) -> Self {
        Self::with_level(threads, WIDEST)
    }

    /// With no wider instructions than those of a level, out of what this machine has.
    ///
    /// | Level | x86-64 | aarch64 |
    /// |---|---|---|
    /// | 0 | plain loops | plain loops |
    /// | 1 | AVX2 | NEON |
    /// | 2 | and dot products of bytes (VNNI) | and dot products of signed bytes (DotProd) |
    /// | 3 | AVX-512 with VNNI | and of unsigned with signed ones (I8MM) |
    ///
    /// Other targets choose at compile time.
    pub fn with_level(threads: usize, level: u8) -> Self {
        Self::with_pool(Pool::new(threads), level)
    }

    /// Sets the precision before `prepare`; the default is exact f32.
    #[must_use]
    pub fn activations(self, activations: Activations) -> Self {
        Self { activations, ..self }
    }

    /// Lets the host abandon the engine: a step that runs when `stopped` becomes true ends soon, and its results are
    /// worthless.
    #[must_use]
    pub fn until(mut self, stopped: fn() -> bool) -> Self {
        Arc::get_mut(&mut self.pool).expect("no other backend has its threads yet").stopped = stopped;
        self
    }

    /// Gives the host's clock, in milliseconds, where threads that it lends may be ended without a word: a step that waits
    /// for one panics after 20 seconds.
    #[must_use]
    pub fn with_clock(mut self, clock: fn() -> f64) -> Self {
        Arc::get_mut(&mut self.pool).expect("no other backend has its threads yet").clock = Some(clock);
        self
    }

    /// Runs on the caller's thread and on those that the host lends: `lend` gets a worker for each of the others, and
    /// returns whether there is a thread for it. The thread may start at any time, or never: nothing waits for it.
    pub fn with_lent(threads: usize, lend: impl FnMut(Worker) -> bool) -> Self {
        Self::with_pool(Pool::lent(threads, lend), WIDEST)
    }

    fn with_pool(pool: Pool, level: u8) -> Self {
        let isa = Isa::at_most(level);
        let (model, ready, spare, read, counters) = Default::default();
        let activations = Activations::F32;
        Self { pool: Arc::new(pool), isa, activations, model, ready, spare, read, counters }
    }

    /// Another backend on the same threads, for another plan. They take turns: each waits for its own steps.
    pub fn beside(&self) -> Self {
        let (model, ready, spare, read, counters) = Default::default();
        let (pool, isa, activations) = (self.pool.clone(), self.isa, self.activations);
        Self { pool, isa, activations, model, ready, spare, read, counters }
    }

    /// The most threads that will work, the caller's among them.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// How many of them run already.
    pub fn running(&self) -> usize {
        self.pool.running()
    }

    fn model(&mut self) -> Result<&mut Model> {
        self.model.as_mut().ok_or_else(unprepared)
    }
}

fn unprepared() -> Error {
    Error::new(ErrorKind::InvalidState, "no plan is prepared; call `prepare` first")
}

impl Backend for Cpu {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn supports(&self, dtype: DType) -> bool {
        quant::decodable(dtype)
    }

    fn kv_type(&self, wanted: KvType) -> KvType {
        wanted
    }

    fn prepare(&mut self, plan: Plan, limits: Limits) -> Result<()> {
        self.ready.clear();
        self.spare.clear();
        self.read.clear();
        self.counters = Counters::default();
        self.model = None; // frees the old one before the new one is allocated
        let model = Model::new(plan.expanded(), limits, self.activations)?;
        self.pool.reserve(model.scratch_len());
        self.model = Some(model);
        Ok(())
    }

    fn write_weight(&mut self, w: WeightId, offset: usize, bytes: &[u8]) -> Result<()> {
        let Some(model) = &mut self.model else { return Err(unprepared()) };
        model.write_weight(&self.pool, w, offset, bytes)
    }

    fn finish_weights(&mut self) -> Result<()> {
        let isa = self.isa;
        self.model()?.finish_weights(isa);
        Ok(())
    }

    fn submit(&mut self, step: &Step<'_>) -> Result<()> {
        self.submit_slice(step, 0, Some(u64::MAX)).map(drop)
    }

    fn submit_slice(&mut self, step: &Step<'_>, from: u64, work: Option<u64>) -> Result<Slice> {
        let Some(model) = &mut self.model else { return Err(unprepared()) };
        let work = work.unwrap_or_else(|| slices::usual(self.pool.threads()));
        let (piece, slice) = slices::next(model.graph(), step, from, work)?;
        model.run(&self.pool, self.isa, step, &piece)?;
        let mut logits = self.spare.pop().unwrap_or_default();
        logits.clear();
        if slice.is_last() {
            logits.extend_from_slice(model.output(step));
            self.counters.steps += 1;
        }
        self.ready.push_back(logits);
        Ok(slice)
    }

    fn poll_logits(&mut self, _: &mut Context<'_>, logits: &mut [f32]) -> Poll<Result<()>> {
        Poll::Ready((|| {
            let Some(ready) = self.ready.pop_front() else { bail!(InvalidState, "every submitted step was read") };
            if ready.len() != logits.len() {
                bail!(InvalidArgument, "the step made {} logits, there is room for {}", ready.len(), logits.len());
            }
            logits.copy_from_slice(&ready);
            self.spare.push(ready);
            Ok(())
        })())
    }

    fn copy_block(&mut self, kind: CacheKind, from: u32, to: u32) -> Result<()> {
        self.model()?.states.copy_block(kind, from as usize, to as usize)
    }

    fn part_bytes(&self, part: CachePart) -> usize {
        self.model.as_ref().map_or(0, |m| m.states.part_bytes(part))
    }

    fn submit_read(&mut self, part: CachePart) -> Result<()> {
        let mut bytes = Vec::new();
        self.model()?.states.read(part, &mut bytes);
        self.read.push_back(bytes);
        Ok(())
    }

    fn poll_read(&mut self, _: &mut Context<'_>, bytes: &mut [u8]) -> Poll<Result<()>> {
        Poll::Ready(match self.read.pop_front() {
            Some(read) => {
                bytes.copy_from_slice(&read);
                Ok(())
            }
            None => Err(Error::new(ErrorKind::InvalidState, "every part that was submitted was read")),
        })
    }

    fn write_part(&mut self, part: CachePart, bytes: &[u8]) -> Result<()> {
        self.model()?.states.write(part, bytes)
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn memory(&self) -> Memory {
        let mut m = self.model.as_ref().map(Model::memory).unwrap_or_default();
        m.scratch += self.pool.scratch_bytes() as u64;
        m
    }
}
