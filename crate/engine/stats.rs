//! What an engine holds and has done, for those who look from outside.

use serde::Serialize;

use super::cache::Pool;
use crate::backend::Step;
use crate::graph::{ENTRIES, Entry, Plan, WeightReads};

/// How many there are of a part of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolUse {
    /// Those that sequences hold, idle ones too.
    pub held: usize,
    /// All that may be held; memory for them is taken when they are first used.
    pub total: usize,
}

impl PoolUse {
    pub(super) fn of(pool: &Pool) -> Self {
        Self { held: pool.held(), total: pool.limit() }
    }
}

/// What an [`Engine`](super::Engine) holds now, and sums of what it has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Blocks of 64 positions for the layers that see all of the context; none where the model has no such layers.
    pub context_blocks: PoolUse,
    /// The same for the layers with a window.
    pub window_blocks: PoolUse,
    /// Recurrent states.
    pub slots: PoolUse,
    /// Sequences that nobody runs, whose cache a new prompt may share.
    pub idle_sequences: usize,
    /// Positions that those have in the cache.
    pub cached_positions: usize,
    /// Sums of its steps.
    #[serde(flatten)]
    pub done: Done,
}

/// What speculation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Speculated {
    /// Tokens that were proposed.
    pub drafted: usize,
    /// Those that were right.
    pub accepted: usize,
    /// Steps that made tokens, with and without proposals.
    pub steps: usize,
}

/// Sums over steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Done {
    /// Steps that were started, of all parts of the model.
    pub steps: u64,
    /// Tokens that ran in them.
    pub tokens: u64,
    /// Rows of logits that they made.
    pub rows: u64,
    /// Bytes of packed weights that they read: each matrix counts once in a step.
    pub weight_bytes: u64,
    /// What speculation did, in all generations.
    pub speculated: Speculated,
}

/// Counts steps.
pub(super) struct Counting {
    reads: [WeightReads; ENTRIES],
    pub done: Done,
}

impl Counting {
    pub(super) fn new(plan: &Plan) -> Self {
        let reads = Entry::ALL.map(|entry| plan.weight_reads(entry));
        Self { reads, done: Done::default() }
    }

    /// Counts a step that was started.
    pub(super) fn step(&mut self, step: &Step<'_>) {
        let (tokens, outputs) = (step.len(), step.outputs());
        self.done.steps += 1;
        self.done.tokens += tokens as u64;
        self.done.rows += outputs as u64;
        self.done.weight_bytes += self.reads[step.entry as usize].bytes(tokens, outputs);
    }
}
