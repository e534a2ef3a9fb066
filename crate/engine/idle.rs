//! Sequences that nobody runs now. A new prompt goes on from the one that it shares the most with, whatever conversation
//! that came from; when the cache is full, the least recently used one gives up its end.

use super::sequence::{Past, Sequence};

/// The most idle sequences. Their tokens and tables are the host's memory, which blocks of the cache do not bound where those are shared.
const MOST: usize = 1024;

struct Kept {
    sequence: Sequence,
    /// When it was used last, counted in uses of all.
    used: u64,
}

/// In the order of their tokens. So those that share the most with a prompt are next to where that would be, and each further
/// one on a side shares at most as much: a search compares as many tokens as a walk down a tree of prefixes.
#[derive(Default)]
pub(super) struct Idle {
    kept: Vec<Kept>,
    uses: u64,
}

impl Idle {
    /// Keeps a sequence, unless it has nothing to share.
    pub(super) fn keep(&mut self, mut sequence: Sequence) {
        if sequence.tokens().is_empty() {
            return;
        }
        if self.kept.len() == MOST {
            self.least_recent().map(|i| self.kept.remove(i));
        }
        sequence.give_room();
        self.uses += 1;
        self.insert(Kept { sequence, used: self.uses });
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Tokens of all of them.
    pub(super) fn positions(&self) -> usize {
        self.kept.iter().map(|k| k.sequence.tokens().len()).sum()
    }

    /// The sequence that saves the most tokens of a prompt, and how many.
    pub(super) fn best(&self, prompt: &[u32], past: Past) -> Option<(usize, usize)> {
        let at = self.place(prompt);
        let shares = |i: usize| (i, common(self.kept[i].sequence.tokens(), prompt));
        let mut before = (0..at).rev().map(shares).peekable();
        let mut after = (at..self.kept.len()).map(shares).peekable();
        let (mut best, mut most) = (None, 0);
        loop {
            let [left, right] = [before.peek(), after.peek()].map(|next| next.map_or(0, |(_, n)| *n));
            let next = if left >= right { before.next() } else { after.next() };
            let Some((i, _)) = next.filter(|(_, n)| *n > most) else { break };
            let saved = saves(&self.kept[i].sequence, prompt, past);
            if saved > most {
                (best, most) = (Some(i), saved);
            }
        }
        best.map(|i| (i, most))
    }

    /// The sequence that was kept last.
    pub(super) fn newest(&self) -> Option<usize> {
        (0..self.kept.len()).max_by_key(|i| self.kept[*i].used)
    }

    /// Takes a sequence out.
    pub(super) fn take(&mut self, i: usize) -> Sequence {
        self.kept.remove(i).sequence
    }

    /// Gives up the end of the least recently used sequence. Returns false where nothing is left.
    pub(super) fn shrink(&mut self, past: Past) -> bool {
        let Some(i) = self.least_recent() else { return false };
        // A shorter one has another place.
        let mut first = self.kept.remove(i);
        if first.sequence.shrink(past) && !first.sequence.tokens().is_empty() {
            self.insert(first);
        }
        true
    }

    /// Gives up a recurrent state. Returns false where none is left.
    pub(super) fn forget(&mut self) -> bool {
        let Some(i) = self.least_recent() else { return false };
        // The state at the end goes with the last checkpoint: without one nothing of the sequence is of use.
        if !self.kept[i].sequence.forget_saved() {
            self.kept.remove(i);
        }
        true
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }

    fn least_recent(&self) -> Option<usize> {
        (0..self.kept.len()).min_by_key(|i| self.kept[*i].used)
    }

    fn insert(&mut self, kept: Kept) {
        self.kept.insert(self.place(kept.sequence.tokens()), kept);
    }

    /// How many sequences come before these tokens.
    fn place(&self, tokens: &[u32]) -> usize {
        self.kept.partition_point(|k| k.sequence.tokens() < tokens)
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

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Past = Past { recurrent: false, window: None };

    fn sequence(tokens: &[u32]) -> Sequence {
        let mut sequence = Sequence::new((0, 0), 64, false);
        sequence.tokens.extend_from_slice(tokens);
        sequence
    }

    /// Tokens of three values, from a generator of numbers (<https://en.wikipedia.org/wiki/Xorshift>).
    fn tokens(state: &mut u32) -> Vec<u32> {
        let mut next = || {
            *state ^= *state << 13;
            *state ^= *state >> 17;
            *state ^= *state << 5;
            *state
        };
        let n = next() % 12;
        (0..n).map(|_| next() % 3).collect()
    }

    #[test]
    fn the_best_sequence_saves_as_much_as_any() {
        let (mut idle, mut all, mut state) = (Idle::default(), Vec::new(), 7);
        for round in 0..1200 {
            let new = tokens(&mut state);
            idle.keep(sequence(&new));
            all.push(new);
            if round % 3 == 0 {
                // From the least recently used one, one token after another.
                let first = all.iter().position(|t: &Vec<u32>| !t.is_empty()).unwrap_or(0);
                assert!(idle.shrink(PLAIN) || all[first].is_empty());
                all.drain(..=first);
            }
            let prompt = tokens(&mut state);
            let most = all.iter().map(|t| common(t, &prompt)).max().unwrap_or(0);
            assert_eq!(idle.best(&prompt, PLAIN).map_or(0, |(_, n)| n), most, "{prompt:?} in round {round}");
        }
    }

    #[test]
    fn the_least_recently_used_sequence_is_given_up() {
        let mut idle = Idle::default();
        (0..MOST as u32).for_each(|i| idle.keep(sequence(&[i, 1])));
        let used = idle.take(idle.best(&[0, 1, 2], PLAIN).unwrap().0);
        idle.keep(used);
        idle.keep(sequence(&[9999, 1]));
        assert_eq!(idle.len(), MOST);
        let saved = |first| idle.best(&[first, 1, 2], PLAIN).map(|(_, n)| n);
        assert_eq!([saved(0), saved(1), saved(2), saved(9999)], [Some(2), None, Some(2), Some(2)]);
    }
}
