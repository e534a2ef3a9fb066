//! Step-level work: prefill, decode, rollback. Owns the positions of the cache and their rules.

mod lookahead;
pub(super) mod profile;
mod queue;
mod queue_depth;

use std::future::poll_fn;

use self::queue::Queue;
use super::sampler::refuse_degenerate;
use crate::backend::{Backend, Limits, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Entry, Plan, StateRows};

/// A sequence of tokens in the cache of one backend.
///
/// Logits that are not finite or all equal are an error of kind [`ErrorKind::DegenerateLogits`]: a kernel or a file is
/// broken.
///
/// Every method leaves the session usable if it fails: positions advance only after a step has finished, and a row of
/// the cache past the last position is written again before it is read.
pub struct Session {
    backend: Box<dyn Backend>,
    limits: Limits,
    n_vocab: usize,
    /// The tokens whose rows are in the cache; row i holds position i.
    tokens: Vec<u32>,
    /// How many of them the recurrent states have seen. Fewer than all after a rollback: the states cannot go back, so
    /// the tokens run again before the next step.
    seen: usize,
    recurrent: bool,
    /// How many tokens the saved copy of the recurrent states has seen.
    saved: Option<usize>,
    /// Whether there is a block for multi-token prediction.
    mtp: bool,
    /// The token of each row in that block's cache: the one after the row's position.
    mtp_tokens: Vec<u32>,
    /// How many of those rows belong to tokens that are still in the cache.
    mtp_seen: usize,
    /// `[max_outputs, n_vocab]`.
    logits: Vec<f32>,
    /// Tokens that must never be generated.
    suppressed: Vec<u32>,
    /// Rows of logits of a step that was submitted but not read: a caller dropped its future.
    unread: Option<usize>,
    queue: Queue,
}

impl Session {
    pub(super) fn new(backend: Box<dyn Backend>, plan: &Plan, limits: Limits) -> Self {
        let n_vocab = plan.graph.n_vocab();
        let logits = vec![0.0; limits.max_outputs * n_vocab];
        let recurrent = plan.graph.states.iter().any(|s| matches!(s.rows, StateRows::Recurrent(_)));
        let mtp = plan.graph.mtp.is_some();
        Self {
            backend,
            limits,
            n_vocab,
            tokens: Vec::with_capacity(limits.n_ctx),
            seen: 0,
            recurrent,
            saved: None,
            mtp,
            mtp_tokens: Vec::with_capacity(if mtp { limits.n_ctx } else { 0 }),
            mtp_seen: 0,
            logits,
            suppressed: plan.suppressed.clone(),
            unread: None,
            queue: Queue::new(limits),
        }
    }

    /// The backend that the session owns.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// The sizes that the backend was prepared for.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Columns of a row of logits.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// The tokens in the cache.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Appends tokens and returns the logits after the last of them.
    pub async fn prefill(&mut self, ids: &[u32]) -> Result<&mut [f32]> {
        self.check(self.tokens.len(), ids)?;
        let mut left = ids;
        while !left.is_empty() {
            let n = left.len().min(self.limits.max_tokens);
            let (chunk, rest) = left.split_at(n);
            self.step(chunk, usize::from(rest.is_empty())).await?;
            left = rest;
        }
        Ok(&mut self.logits[..self.n_vocab])
    }

    /// Appends tokens and passes the logits after each of them to `each`, in order. A step has at most as many tokens
    /// as the rows of logits that the session was opened with.
    pub async fn prefill_all(&mut self, ids: &[u32], mut each: impl FnMut(&[f32])) -> Result<()> {
        self.check(self.tokens.len(), ids)?;
        for chunk in ids.chunks(self.limits.max_outputs) {
            self.step(chunk, chunk.len()).await?;
            self.logits[..chunk.len() * self.n_vocab].chunks_exact(self.n_vocab).for_each(&mut each);
        }
        Ok(())
    }

    /// Appends the tokens of a part of a prompt without logits; at most `max_tokens` of them.
    pub async fn prefill_part(&mut self, ids: &[u32]) -> Result<()> {
        self.check(self.tokens.len(), ids)?;
        for chunk in ids.chunks(self.limits.max_tokens) {
            self.step(chunk, 0).await?;
        }
        Ok(())
    }

    /// Appends one token and returns the logits after it.
    pub async fn decode(&mut self, id: u32) -> Result<&mut [f32]> {
        self.check(self.tokens.len(), &[id])?;
        self.step(&[id], 1).await?;
        Ok(&mut self.logits[..self.n_vocab])
    }

    /// Whether the model was opened with a block for multi-token prediction.
    pub fn has_mtp(&self) -> bool {
        self.mtp
    }

    /// Predicts, with the block for multi-token prediction, the token after `next`, if `next` followed the tokens in
    /// the cache: returns its logits. Those tokens are unchanged; the block has rows of its own, and runs only those
    /// that are new since the last call.
    pub async fn mtp(&mut self, next: u32) -> Result<&mut [f32]> {
        self.mtp_steps(next, false, &mut |_| ()).await?;
        Ok(&mut self.logits[..self.n_vocab])
    }

    /// Runs the block for all tokens in the cache, each with its next one, and passes on its logits: row j is for the
    /// token at position j + 2.
    pub async fn mtp_all(&mut self, next: u32, mut each: impl FnMut(&[f32])) -> Result<()> {
        self.mtp_seen = 0;
        self.mtp_steps(next, true, &mut each).await
    }

    /// Whether the model has states that cannot go back by themselves.
    pub fn is_recurrent(&self) -> bool {
        self.recurrent
    }

    /// Makes it cheap to roll back to the present position, until the next checkpoint. Only models with recurrent
    /// states need it: without one they run all their tokens again.
    pub fn checkpoint(&mut self) -> Result<()> {
        if self.recurrent && self.seen == self.tokens.len() {
            self.backend.save_recurrent()?;
            self.saved = Some(self.seen);
        }
        Ok(())
    }

    /// Forgets all tokens after the first `n`.
    pub fn rollback(&mut self, n: usize) -> Result<()> {
        if n > self.tokens.len() {
            crate::bail!(InvalidArgument, "cannot roll back to {n} tokens: the cache holds {}", self.tokens.len());
        }
        self.abandon();
        if self.recurrent && n < self.tokens.len() {
            self.seen = 0;
            self.saved = self.saved.filter(|saved| *saved <= n);
        }
        self.tokens.truncate(n);
        self.seen = self.seen.min(n);
        self.mtp_seen = self.mtp_seen.min(n);
        Ok(())
    }

    /// Rolls back to the common prefix of the cache and a whole new prompt, and returns how many tokens of the prompt
    /// need not run again. The last one always runs: its logits are needed. A prompt that cannot run changes nothing.
    pub fn reuse(&mut self, prompt: &[u32]) -> Result<usize> {
        self.check(0, prompt)?;
        let same = self.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let kept = same.min(prompt.len() - 1);
        self.rollback(kept)?;
        Ok(kept)
    }

    /// Checks tokens at position `have` and on for everything that can be wrong, before anything runs.
    fn check(&self, have: usize, ids: &[u32]) -> Result<()> {
        if ids.is_empty() {
            crate::bail!(EmptyPrompt, "there are no tokens to run; give at least one");
        }
        if let Some((i, id)) = ids.iter().enumerate().find(|(_, id)| **id as usize >= self.n_vocab) {
            return Err(Error::new(ErrorKind::TokenOutOfRange, format!("the vocabulary has {} tokens", self.n_vocab))
                .at(format!("token {id} at index {i}")));
        }
        let n_ctx = self.limits.n_ctx;
        if ids.len() > n_ctx - have {
            let new = ids.len();
            crate::bail!(
                ContextOverflow,
                "{have} tokens and {new} new ones do not fit in a context of {n_ctx}; shorten the prompt or open the model with a larger context"
            );
        }
        Ok(())
    }

    async fn step(&mut self, tokens: &[u32], outputs: usize) -> Result<()> {
        if self.seen < self.tokens.len() {
            self.replay().await?;
        }
        let pos = self.tokens.len();
        // A step that fails, or whose future is dropped, may have changed the states.
        self.seen = if self.recurrent { 0 } else { pos };
        self.run(Entry::Trunk, tokens, pos, outputs).await?;
        self.tokens.extend_from_slice(tokens);
        self.seen = self.tokens.len();
        Ok(())
    }

    /// Brings the recurrent states to the present position: from the checkpoint, or from the start.
    async fn replay(&mut self) -> Result<()> {
        let mut at = 0;
        if let Some(saved) = self.saved {
            self.backend.restore_recurrent()?;
            at = saved;
        }
        while at < self.tokens.len() {
            let end = self.tokens.len().min(at + self.limits.max_tokens);
            let again = self.tokens[at..end].to_vec();
            self.run(Entry::Trunk, &again, at, 0).await?;
            at = end;
        }
        self.seen = at;
        Ok(())
    }

    /// Brings the rows of the block for multi-token prediction to the present position. Computes the logits of the last
    /// row, or with `all` passes those of all rows that run to `each`.
    async fn mtp_steps(&mut self, next: u32, all: bool, each: &mut dyn FnMut(&[f32])) -> Result<()> {
        if !self.mtp {
            crate::bail!(InvalidState, "there is no block for multi-token prediction; was the model opened with it?");
        }
        if self.tokens.is_empty() {
            crate::bail!(EmptyPrompt, "multi-token prediction follows a token of the cache: run one first");
        }
        self.check(0, &[next])?;
        let n = self.tokens.len();
        // Taken out so that steps can read it. A dropped future loses it, and then all rows run again.
        let mut after = std::mem::take(&mut self.mtp_tokens);
        after.truncate(self.mtp_seen);
        let wanted = self.tokens[1..].iter().chain([&next]);
        let same = after.iter().zip(wanted).take_while(|(a, b)| a == b).count();
        self.mtp_seen = same.min(n - 1); // the last row always runs: its logits are needed
        after.truncate(self.mtp_seen);
        after.extend_from_slice(&self.tokens[self.mtp_seen + 1..]);
        after.push(next);
        let mut result = Ok(());
        while self.mtp_seen < n && result.is_ok() {
            let at = self.mtp_seen;
            let end = n.min(at + if all { self.limits.max_outputs } else { self.limits.max_tokens });
            let outputs = if all { end - at } else { usize::from(end == n) };
            result = self.run(Entry::Mtp, &after[at..end], at, outputs).await;
            if result.is_ok() {
                self.mtp_seen = end;
                self.logits[..outputs * self.n_vocab].chunks_exact(self.n_vocab).for_each(&mut *each);
            }
        }
        self.mtp_tokens = after;
        result
    }

    async fn run(&mut self, entry: Entry, tokens: &[u32], pos: usize, outputs: usize) -> Result<()> {
        self.abandon();
        self.drain().await?;
        self.backend.submit(&Step { tokens, pos, outputs, entry })?;
        self.unread = Some(outputs);
        self.read(outputs).await?;
        for row in self.logits[..outputs * self.n_vocab].chunks_exact_mut(self.n_vocab) {
            // Before some are suppressed: that would hide that all were equal.
            refuse_degenerate(row)?;
            self.suppressed.iter().for_each(|&id| row[id as usize] = f32::NEG_INFINITY);
        }
        Ok(())
    }

    async fn read(&mut self, rows: usize) -> Result<()> {
        let logits = &mut self.logits[..rows * self.n_vocab];
        let result = poll_fn(|cx| self.backend.poll_logits(cx, logits)).await;
        self.unread = None;
        result
    }
}
