//! The block for multi-token prediction beside the tokens of a sequence.

use std::future::poll_fn;
use std::slice;

use super::sampler::argmax;
use super::{Engine, Sequence};
use crate::backend::{BLOCK, Draw, SampleRequest, SamplingRules, Step};
use crate::error::Result;
use crate::graph::Entry;

/// How a draft is chosen.
const GREEDY: SamplingRules = SamplingRules {
    temperature: 0.0,
    top_k: 0,
    top_p: 1.0,
    min_p: 0.0,
    repeat_penalty: 1.0,
    presence_penalty: 0.0,
    frequency_penalty: 0.0,
    penalty_last_n: 0,
    logprobs: None,
};

/// What is wanted of the rows of the block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The logits of the last one.
    Last,
    /// The logits of all.
    All,
    /// The token after the last one, which the backend chooses: it is left in flight.
    Token,
}

impl Engine {
    /// Predicts, with the block for multi-token prediction, the token after `next`, if `next` followed the tokens of the
    /// sequence: returns its logits. Those tokens are unchanged; the block has rows of its own, and runs only those that
    /// are new since the last call.
    pub async fn mtp(&mut self, sequence: &mut Sequence, next: u32) -> Result<&mut [f32]> {
        self.mtp_steps(sequence, next, Entry::Mtp, Wanted::Last, &mut |_| ()).await?;
        Ok(&mut self.logits[..self.mtp_vocab])
    }

    /// Runs the block for all tokens of a sequence, each with its next one, and passes on its logits: row j is for the
    /// token at position j + 2.
    pub async fn mtp_all(&mut self, sequence: &mut Sequence, next: u32, mut each: impl FnMut(&[f32])) -> Result<()> {
        sequence.mtp_seen = 0;
        self.mtp_steps(sequence, next, Entry::Mtp, Wanted::All, &mut each).await
    }

    /// Appends to `out` up to `most` tokens that the block predicts greedily one after another, if `next` followed the tokens
    /// of the sequence. The first comes from the trunk's result, the others from the block's own: its rows past the end
    /// of the sequence are written again before they are read otherwise.
    pub async fn mtp_chain(
        &mut self,
        sequence: &mut Sequence,
        next: u32,
        most: usize,
        out: &mut Vec<u32>,
    ) -> Result<()> {
        let (length, entry) = self.chain(sequence, most);
        if length > 0 && self.backend.prepare_sampling(&GREEDY)? >= length {
            self.submit_chain(sequence, next, (length, entry)).await?;
            for _ in 0..length {
                out.push(self.read_draft().await?);
            }
            return Ok(());
        }
        let (n, mut token) = (sequence.tokens.len(), next);
        for i in 0..length {
            if i == 0 {
                self.mtp_steps(sequence, token, entry(i), Wanted::Last, &mut |_| ()).await?;
            } else {
                self.mtp_step(sequence, &[token], n + i - 1, 1, entry(i)).await?;
            }
            let Some(id) = argmax(&self.logits[..self.mtp_vocab]) else { break };
            out.push(id);
            token = id;
        }
        Ok(())
    }

    /// The same chain and the step that verifies it, one behind the other: `rows` becomes `next` and the proposal, and the tokens
    /// after each of them are drawn. Nothing comes back to the host in between. False where the backend does not choose, or
    /// where there is no room for a proposal: then nothing was done.
    pub(super) async fn chain_and_verify(
        &mut self,
        sequence: &mut Sequence,
        next: u32,
        draws: &[Draw],
        rows: &mut Vec<u32>,
    ) -> Result<bool> {
        let (length, entry) = self.chain(sequence, draws.len() - 1);
        if length == 0 || self.backend.prepare_sampling(&GREEDY)? < length {
            return Ok(false);
        }
        rows.clear();
        rows.push(next);
        rows.resize(1 + length, 0);
        let pos = sequence.tokens.len();
        self.check(pos, rows)?;
        self.ready(sequence, rows.len()).await?;
        self.submit_chain(sequence, next, (length, entry)).await?;
        self.begin_states(sequence, rows.len())?;
        let step = [sequence.segment(rows, pos, rows.len())];
        self.submit_draws(&Step::trunk(&step), &draws[..rows.len()], length)?;
        for row in &mut rows[1..] {
            // One that cannot be chosen is not right; what the step has in its place does not matter.
            *row = self.read_draft().await.unwrap_or(u32::MAX);
        }
        self.read_unread().await?;
        Ok(true)
    }

    /// How many steps a chain has, and the part that each runs. A result is handed on to the next position inside of a block of the
    /// cache only, so there it ends.
    fn chain(&self, sequence: &Sequence, most: usize) -> (usize, impl Fn(usize) -> Entry + use<>) {
        let (n, n_ctx) = (sequence.tokens.len(), self.limits.n_ctx);
        let ends = move |i: usize| i + 1 == most || (n + i).is_multiple_of(BLOCK) || n + i == n_ctx;
        let length = (0..most).find(|i| ends(*i)).map_or(0, |i| i + 1);
        (length, move |i| if ends(i) { Entry::Mtp } else { Entry::MtpChain })
    }

    /// Starts a chain: each step runs the token that the backend chose after the one before.
    async fn submit_chain(
        &mut self,
        sequence: &mut Sequence,
        next: u32,
        (length, entry): (usize, impl Fn(usize) -> Entry),
    ) -> Result<()> {
        let n = sequence.tokens.len();
        self.mtp_steps(sequence, next, entry(0), Wanted::Token, &mut |_| ()).await?;
        for i in 1..length {
            let at = n + i - 1;
            self.make_room(sequence, at, at + 1, true)?;
            self.submit_draft(&Step { segments: &[sequence.segment(&[0], at, 1)], entry: entry(i), given: &[] }, None)?;
        }
        Ok(())
    }

    /// The oldest token of a chain that was not read.
    async fn read_draft(&mut self) -> Result<u32> {
        let id = poll_fn(|cx| self.backend.poll_token(cx)).await;
        self.queue.surplus -= 1;
        id
    }

    /// Starts a step whose token the backend chooses. Whoever drops what waits for it leaves a token to be drained.
    fn submit_draft(&mut self, step: &Step<'_>, history: Option<&[u32]>) -> Result<()> {
        self.backend.submit_sampled(step, &SampleRequest { rules: &GREEDY, key: 0, history, masked: false })?;
        self.queue.surplus += 1;
        self.counting.step(step);
        Ok(())
    }

    /// Brings the rows of the block for multi-token prediction to the present position. Passes the logits of all rows that
    /// run to `each` if those are wanted.
    async fn mtp_steps(
        &mut self,
        s: &mut Sequence,
        next: u32,
        entry: Entry,
        wanted: Wanted,
        each: &mut dyn FnMut(&[f32]),
    ) -> Result<()> {
        self.owns(s)?;
        if !self.mtp {
            crate::bail!(InvalidState, "there is no block for multi-token prediction; was the model opened with it?");
        }
        if s.tokens.is_empty() {
            crate::bail!(EmptyPrompt, "multi-token prediction follows a token of the cache: run one first");
        }
        self.check(0, slice::from_ref(&next))?;
        let n = s.tokens.len();
        // The block has no rows of images: of one it sees another token. What it says is a guess in any case.
        let embedded = |id: &u32| if self.is_of_image(*id) { 0 } else { *id };
        // Taken out so that steps can read it. A dropped future loses it, and then all rows run again.
        let mut after = std::mem::take(&mut s.mtp_tokens);
        after.truncate(s.mtp_seen);
        let known = s.tokens[1..].iter().map(embedded).chain([next]);
        let same = after.iter().zip(known).take_while(|(a, b)| **a == *b).count();
        s.mtp_seen = same.min(n - 1); // the last row always runs: its logits are needed
        after.truncate(s.mtp_seen);
        after.extend(s.tokens[s.mtp_seen + 1..].iter().map(embedded));
        after.push(next);
        let mut result = Ok(());
        while s.mtp_seen < n && result.is_ok() {
            let at = s.mtp_seen;
            let all = wanted == Wanted::All;
            let most = n.min(at + if all { self.limits.max_outputs } else { self.limits.max_tokens });
            let end = s.stretch_end(at, most);
            let outputs = if all { end - at } else { usize::from(end == n) };
            if wanted == Wanted::Token && end == n {
                result = self.mtp_ready(s, at, end).await;
                let step = Step { segments: &[s.segment(&after[at..end], at, 1)], entry, given: &[] };
                result = result.and_then(|()| self.submit_draft(&step, Some(&after)));
                s.mtp_seen = if result.is_ok() { end } else { at };
                break;
            }
            result = self.mtp_step(s, &after[at..end], at, outputs, entry).await;
            if result.is_ok() {
                s.mtp_seen = end;
                self.logits[..outputs * self.mtp_vocab].chunks_exact(self.mtp_vocab).for_each(&mut *each);
            }
        }
        s.mtp_tokens = after;
        result
    }

    async fn mtp_step(
        &mut self,
        s: &mut Sequence,
        tokens: &[u32],
        at: usize,
        outputs: usize,
        entry: Entry,
    ) -> Result<()> {
        self.mtp_ready(s, at, at + tokens.len()).await?;
        let step = Step { segments: &[s.segment(tokens, at, outputs)], entry, given: &[] };
        self.submit_and_read(&step).await
    }

    /// Reads what is in flight, and makes room for rows.
    async fn mtp_ready(&mut self, s: &mut Sequence, at: usize, end: usize) -> Result<()> {
        self.abandon();
        self.drain().await?;
        self.make_room(s, at, end, true)
    }
}
