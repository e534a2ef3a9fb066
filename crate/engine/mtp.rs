//! The block for multi-token prediction beside the tokens of a sequence.

use std::slice;

use super::sampler::argmax;
use super::{Engine, Sequence};
use crate::backend::{BLOCK, Step};
use crate::error::Result;
use crate::graph::Entry;

impl Engine {
    /// Predicts, with the block for multi-token prediction, the token after `next`, if `next` followed the tokens of the
    /// sequence: returns its logits. Those tokens are unchanged; the block has rows of its own, and runs only those that
    /// are new since the last call.
    pub async fn mtp(&mut self, sequence: &mut Sequence, next: u32) -> Result<&mut [f32]> {
        self.mtp_steps(sequence, next, Entry::Mtp, false, &mut |_| ()).await?;
        Ok(&mut self.logits[..self.mtp_vocab])
    }

    /// Runs the block for all tokens of a sequence, each with its next one, and passes on its logits: row j is for the
    /// token at position j + 2.
    pub async fn mtp_all(&mut self, sequence: &mut Sequence, next: u32, mut each: impl FnMut(&[f32])) -> Result<()> {
        sequence.mtp_seen = 0;
        self.mtp_steps(sequence, next, Entry::Mtp, true, &mut each).await
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
        let n = sequence.tokens.len();
        let mut token = next;
        for i in 0..most {
            // A result is handed on to the next position inside of a block of the cache only, so there a chain ends.
            let last = i + 1 == most || (n + i).is_multiple_of(BLOCK) || n + i == self.limits.n_ctx;
            let entry = if last { Entry::Mtp } else { Entry::MtpChain };
            if i == 0 {
                self.mtp_steps(sequence, token, entry, false, &mut |_| ()).await?;
            } else {
                self.mtp_step(sequence, &[token], n + i - 1, 1, entry).await?;
            }
            let Some(id) = argmax(&self.logits[..self.mtp_vocab]) else { break };
            out.push(id);
            if last {
                break;
            }
            token = id;
        }
        Ok(())
    }

    /// Brings the rows of the block for multi-token prediction to the present position. Computes the logits of the last
    /// row, or with `all` passes those of all rows that run to `each`.
    async fn mtp_steps(
        &mut self,
        s: &mut Sequence,
        next: u32,
        entry: Entry,
        all: bool,
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
        // Taken out so that steps can read it. A dropped future loses it, and then all rows run again.
        let mut after = std::mem::take(&mut s.mtp_tokens);
        after.truncate(s.mtp_seen);
        let wanted = s.tokens[1..].iter().chain([&next]);
        let same = after.iter().zip(wanted).take_while(|(a, b)| a == b).count();
        s.mtp_seen = same.min(n - 1); // the last row always runs: its logits are needed
        after.truncate(s.mtp_seen);
        after.extend_from_slice(&s.tokens[s.mtp_seen + 1..]);
        after.push(next);
        let mut result = Ok(());
        while s.mtp_seen < n && result.is_ok() {
            let at = s.mtp_seen;
            let end = n.min(at + if all { self.limits.max_outputs } else { self.limits.max_tokens });
            let outputs = if all { end - at } else { usize::from(end == n) };
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
        self.abandon();
        self.drain().await?;
        self.make_room(s, at, at + tokens.len(), true)?;
        let step = Step { segments: &[s.segment(tokens, at, outputs)], entry };
        self.submit_and_read(&step).await
    }
}
