//! One token after another, with steps in flight ahead of the token that is read.

use std::future::poll_fn;

use super::{Engine, Sampler, Sequence};
use crate::backend::{SampleRequest, SamplingRules, Step};
use crate::error::Result;
use crate::grammar::Matcher;

/// The tokens of a step count as in the cache once the sampled token was taken. Everything else that the engine does, and a
/// failure, drops the steps in flight. The rows of the cache that they wrote are past the end and written again before
/// they are read; recurrent states cannot go back, so the tokens run again from the checkpoint when the sequence
/// continues.
impl Engine {
    /// Runs the tokens of `all` that the sequence does not have, and returns the token that `sampler` chooses after the
    /// last of them. `all` starts with the tokens of the sequence.
    ///
    /// If the backend samples, the steps after that one are started too, each with the token of the step before: as
    /// many as hide the readback latency, and no more than there are tokens `wanted`, including this one. The next
    /// calls take their tokens, as long as `all` grows by the returned tokens and the sampler is the same.
    ///
    /// `now` returns milliseconds from any fixed point. After a dropped future the next call continues where it was.
    pub async fn next_token(
        &mut self,
        s: &mut Sequence,
        all: &[u32],
        sampler: &mut Sampler,
        wanted: usize,
        now: &dyn Fn() -> f64,
    ) -> Result<u32> {
        self.owns(s)?;
        let Some(rules) = self.prepare_sampling(sampler)? else {
            let new = all.get(s.tokens.len()..).unwrap_or_default();
            return sampler.choose(self.prefill(s, new).await?, None, all);
        };
        if !self.runs(s, all) {
            self.start(s, all, &rules, (sampler.key(0), false)).await?;
        }
        while self.queue.waiting < wanted.min(self.queue.depth.steps()) && self.next_position(s) < self.limits.n_ctx {
            self.start_next(s, &rules, sampler.key(self.queue.waiting))?;
        }
        let id = self.take(s).await?;
        sampler.count(self.backend.logprobs());
        self.queue.depth.token_arrived(now());
        Ok(id)
    }

    /// The same among the tokens that a grammar lets through, or `None` if the backend cannot. The mask is made while the step
    /// runs; there are no steps ahead, for their masks depend on its token.
    pub(super) async fn next_masked(
        &mut self,
        s: &mut Sequence,
        all: &[u32],
        sampler: &mut Sampler,
        grammar: &mut Matcher,
        now: &dyn Fn() -> f64,
    ) -> Result<Option<u32>> {
        self.owns(s)?;
        // What the device reports is of the tokens that it chooses among.
        let rules = if sampler.reports() { None } else { self.prepare_sampling(sampler)? };
        let Some(rules) = rules else { return Ok(None) };
        self.start(s, all, &rules, (sampler.key(0), true)).await?;
        let mask = grammar.mask();
        self.backend.submit_masks(mask.as_deref().unwrap_or_default())?;
        if let Err(e) = mask {
            self.abandon();
            return Err(e);
        }
        let id = self.take(s).await?;
        sampler.count(None);
        self.queue.depth.token_arrived(now());
        Ok(Some(id))
    }

    /// Prepares the backend to sample by this sampler's rules, so that the first token need not wait for it. Returns
    /// the rules, or `None` if it cannot.
    pub(super) fn prepare_sampling(&mut self, sampler: &Sampler) -> Result<Option<SamplingRules>> {
        self.generates()?;
        let Some(rules) = sampler.rules() else { return Ok(None) };
        let max = self.backend.prepare_sampling(&rules)?;
        self.queue.depth.limit(max);
        Ok((max > 0).then_some(rules))
    }

    /// Refuses to generate with a model that was opened for embeddings.
    pub(super) fn generates(&self) -> Result<()> {
        if self.embeds.is_some() {
            crate::bail!(
                InvalidState,
                "the model was opened for embeddings, by its file or by an option, and cannot generate; open it with \
                 `embeddings` off, or use one that generates"
            );
        }
        Ok(())
    }

    /// Steps in flight whose tokens were not taken yet.
    pub fn in_flight(&self) -> usize {
        self.queue.waiting
    }

    /// How many steps are kept in flight if the backend samples.
    pub fn queue_depth(&self) -> usize {
        self.queue.depth.steps()
    }

    /// Whether the oldest step in flight is that of the tokens of `all` that the sequence does not have.
    fn runs(&self, s: &Sequence, all: &[u32]) -> bool {
        let of = self.queue.owner == s.id && self.queue.waiting > 0;
        of && all.get(s.tokens.len()..) == Some(&self.queue.running[..])
    }

    /// Starts the step of the tokens of `all` that the sequence does not have.
    async fn start(
        &mut self,
        s: &mut Sequence,
        all: &[u32],
        rules: &SamplingRules,
        (key, masked): (u32, bool),
    ) -> Result<()> {
        let new = all.get(s.tokens.len()..).unwrap_or_default();
        self.check(s.tokens.len(), new)?;
        self.abandon();
        if self.is_of_image(new[new.len() - 1]) {
            crate::bail!(
                InvalidArgument,
                "a token follows text, and the prompt ends with an image; add what comes after it"
            );
        }
        let (before, new) = new.split_at(self.last_stretch(new).max(new.len().saturating_sub(self.limits.max_tokens)));
        if !before.is_empty() {
            self.prefill_part(s, before).await?;
        }
        self.ready(s, new.len()).await?;
        self.drain().await?;
        let pos = s.tokens.len();
        self.submit_sampled(s, new, pos, &SampleRequest { rules, key, history: Some(all), masked })?;
        self.queue.owner = s.id;
        self.queue.running.extend_from_slice(new);
        self.queue.depth.restart();
        Ok(())
    }

    /// Starts a step of the token that is sampled after the newest step.
    fn start_next(&mut self, s: &mut Sequence, rules: &SamplingRules, key: u32) -> Result<()> {
        let pos = self.next_position(s);
        self.make_room(s, pos, pos + 1, true)?;
        self.submit_sampled(s, &[0], pos, &SampleRequest { rules, key, history: None, masked: false })
    }

    fn submit_sampled(&mut self, s: &mut Sequence, tokens: &[u32], pos: usize, r: &SampleRequest<'_>) -> Result<()> {
        self.begin_states(s, 1)?;
        let segments = [s.segment(tokens, pos, 1)];
        self.backend.submit_sampled(&Step::trunk(&segments), r)?;
        self.counting.step(&Step::trunk(&segments));
        // The next step goes on from there, but the states have seen tokens that may not be wanted.
        s.end_states(0);
        self.queue.waiting += 1;
        Ok(())
    }

    /// The position after the newest of the steps in flight: all but the oldest run one token.
    fn next_position(&self, s: &Sequence) -> usize {
        s.tokens.len() + self.queue.running.len() + self.queue.waiting - 1
    }

    /// The token that was sampled after the oldest step.
    async fn take(&mut self, s: &mut Sequence) -> Result<u32> {
        self.drain().await?;
        let result = poll_fn(|cx| self.backend.poll_token(cx)).await;
        self.queue.waiting -= 1;
        match result {
            Ok(id) => {
                s.tokens.append(&mut self.queue.running);
                self.queue.running.push(id);
                if !self.past.recurrent || self.queue.waiting == 0 {
                    self.settle(s);
                }
            }
            Err(_) => self.abandon(),
        }
        result
    }

    /// Drops the steps in flight of a sequence.
    pub(super) fn abandon_of(&mut self, s: &Sequence) {
        if self.queue.owner == s.id {
            self.abandon();
        }
    }

    /// Drops the steps whose tokens were not taken.
    pub(super) fn abandon(&mut self) {
        self.queue.surplus += std::mem::take(&mut self.queue.waiting);
        self.queue.running.clear();
    }

    /// Reads the results that are no longer wanted: a backend returns them in order.
    pub(super) async fn drain(&mut self) -> Result<()> {
        self.read_unread().await?;
        while self.queue.surplus > 0 {
            // Any error is ignored here: if the device is lost, the next call reports it too.
            let _ = poll_fn(|cx| self.backend.poll_token(cx)).await;
            self.queue.surplus -= 1;
        }
        Ok(())
    }
}
