//! One conversation at a time: an engine and the sequence that it runs.

use super::idle::common;
use super::{Engine, Profile, Sampler, Sequence};
use crate::backend::{Backend, Limits};
use crate::error::Result;

/// An engine with one sequence of its own; see [`Engine`] for what its methods do.
pub struct Session {
    engine: Engine,
    sequence: Sequence,
}

impl Session {
    /// With an empty sequence.
    pub fn new(mut engine: Engine) -> Self {
        let sequence = engine.sequence();
        Self { engine, sequence }
    }

    /// The engine alone.
    pub fn into_engine(self) -> Engine {
        self.engine
    }

    /// The engine, which may run other sequences too.
    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    /// The engine and the sequence.
    pub fn parts(&mut self) -> (&mut Engine, &mut Sequence) {
        (&mut self.engine, &mut self.sequence)
    }

    /// The backend that the engine owns.
    pub fn backend(&self) -> &dyn Backend {
        self.engine.backend()
    }

    /// The sizes that the backend was prepared for.
    pub fn limits(&self) -> Limits {
        self.engine.limits()
    }

    /// Columns of a row of logits.
    pub fn n_vocab(&self) -> usize {
        self.engine.n_vocab()
    }

    /// The tokens in the cache.
    pub fn tokens(&self) -> &[u32] {
        self.sequence.tokens()
    }

    /// Whether the model was opened with a block for multi-token prediction.
    pub fn has_mtp(&self) -> bool {
        self.engine.has_mtp()
    }

    /// Whether the model has states that cannot go back by themselves.
    pub fn is_recurrent(&self) -> bool {
        self.engine.is_recurrent()
    }

    /// Appends tokens and returns the logits after the last of them.
    pub async fn prefill(&mut self, ids: &[u32]) -> Result<&mut [f32]> {
        self.engine.prefill(&mut self.sequence, ids).await
    }

    /// Appends tokens and passes the logits after each of them to `each`, in order.
    pub async fn prefill_all(&mut self, ids: &[u32], each: impl FnMut(&[f32])) -> Result<()> {
        self.engine.prefill_all(&mut self.sequence, ids, each).await
    }

    /// Appends the tokens of a part of a prompt without logits.
    pub async fn prefill_part(&mut self, ids: &[u32]) -> Result<()> {
        self.engine.prefill_part(&mut self.sequence, ids).await
    }

    /// Appends one token and returns the logits after it.
    pub async fn decode(&mut self, id: u32) -> Result<&mut [f32]> {
        self.engine.prefill(&mut self.sequence, &[id]).await
    }

    /// Predicts the token after `next` with the block for multi-token prediction.
    pub async fn mtp(&mut self, next: u32) -> Result<&mut [f32]> {
        self.engine.mtp(&mut self.sequence, next).await
    }

    /// Runs that block for all tokens in the cache.
    pub async fn mtp_all(&mut self, next: u32, each: impl FnMut(&[f32])) -> Result<()> {
        self.engine.mtp_all(&mut self.sequence, next, each).await
    }

    /// Runs the tokens of `all` that are not in the cache, and returns the token that `sampler` chooses after them.
    pub async fn next_token(
        &mut self,
        all: &[u32],
        sampler: &mut Sampler,
        wanted: usize,
        now: &dyn Fn() -> f64,
    ) -> Result<u32> {
        self.engine.next_token(&mut self.sequence, all, sampler, wanted, now).await
    }

    /// Makes it cheap to roll back to the present position.
    pub fn checkpoint(&mut self) -> Result<()> {
        self.engine.checkpoint(&mut self.sequence);
        Ok(())
    }

    /// Forgets all tokens after the first `n`.
    pub fn rollback(&mut self, n: usize) -> Result<()> {
        self.engine.rollback(&mut self.sequence, n)
    }

    /// Makes the sequence the common prefix of a whole new prompt and of what is in the cache, this sequence or one that
    /// was left before. Returns how many tokens of the prompt need not run again: the last one always runs, because its
    /// logits are needed. A prompt that cannot run changes nothing.
    pub fn reuse(&mut self, prompt: &[u32]) -> Result<usize> {
        self.engine.check(0, prompt)?;
        let kept = common(self.sequence.tokens(), prompt);
        if kept < self.sequence.tokens().len() {
            let left = std::mem::replace(&mut self.sequence, self.engine.sequence());
            self.engine.leave(left);
            self.sequence = self.engine.resume(prompt)?;
        }
        // Steps in flight are those of another sampler.
        let kept = self.sequence.tokens().len();
        self.engine.rollback(&mut self.sequence, kept)?;
        Ok(kept)
    }

    /// Steps in flight whose tokens were not taken yet.
    pub fn in_flight(&self) -> usize {
        self.engine.in_flight()
    }

    /// How many steps are kept in flight if the backend samples.
    pub fn queue_depth(&self) -> usize {
        self.engine.queue_depth()
    }

    /// Times a token after `depth` others, kernel by kernel.
    pub async fn profile(&mut self, depth: usize, reps: usize) -> Result<Profile> {
        self.engine.profile(depth, reps).await
    }
}
