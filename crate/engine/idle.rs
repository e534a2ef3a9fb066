//! Sequences that nobody runs now. A new prompt goes on from the one that it shares the most with, whatever conversation
//! that came from; when the cache is full, the least recently used one gives up its end.

use super::sequence::{Past, Sequence};

/// The most idle sequences: looking for a prefix reads all of their tokens.
const MOST: usize = 64;

/// The least recently used first.
#[derive(Default)]
pub(super) struct Idle(Vec<Sequence>);

impl Idle {
    /// Keeps a sequence, unless it has nothing to share.
    pub(super) fn keep(&mut self, sequence: Sequence) {
        if sequence.tokens().is_empty() {
            return;
        }
        if self.0.len() == MOST {
            self.0.remove(0);
        }
        self.0.push(sequence);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Tokens of all of them.
    pub(super) fn positions(&self) -> usize {
        self.0.iter().map(|s| s.tokens().len()).sum()
    }

    /// The sequence that saves the most tokens of a prompt, and how many.
    pub(super) fn best(&self, prompt: &[u32], past: Past) -> Option<(usize, usize)> {
        let all = self.0.iter().enumerate().map(|(i, s)| (i, saves(s, prompt, past)));
        all.max_by_key(|(_, saved)| *saved).filter(|(_, saved)| *saved > 0)
    }

    /// Takes a sequence out.
    pub(super) fn take(&mut self, i: usize) -> Sequence {
        self.0.remove(i)
    }

    /// Gives up the end of the least recently used sequence. Returns false where nothing is left.
    pub(super) fn shrink(&mut self, past: Past) -> bool {
        let Some(first) = self.0.first_mut() else { return false };
        if !first.shrink(past) || first.tokens().is_empty() {
            self.0.remove(0);
        }
        true
    }

    /// Gives up a recurrent state. Returns false where none is left.
    pub(super) fn forget(&mut self) -> bool {
        let Some(first) = self.0.first_mut() else { return false };
        // The state at the end goes with the last checkpoint: without one nothing of the sequence is of use.
        if !first.forget_saved() {
            self.0.remove(0);
        }
        true
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// How many tokens of a prompt need not run if it goes on from a sequence.
pub(super) fn saves(s: &Sequence, prompt: &[u32], past: Past) -> usize {
    s.resumable(common(s.tokens(), prompt), past)
}

/// How many tokens of a prompt a sequence starts with; the last one always runs, because its logits are wanted.
pub(super) fn common(tokens: &[u32], prompt: &[u32]) -> usize {
    let same = tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
    same.min(prompt.len().saturating_sub(1))
}
