//! The first rows of a step, and the rest: a long step runs in parts.

use crate::backend::{MAX_SEGMENTS, Segment, Step};
use crate::graph::Entry;

/// Some rows of a step: its segments, of which the first and the last may be cut.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    segments: [Segment<'a>; MAX_SEGMENTS],
    len: usize,
    entry: Entry,
    given: &'a [f32],
}

impl<'a> Rows<'a> {
    /// All rows of a step that was checked.
    pub(crate) fn all(step: &Step<'a>) -> Self {
        Self::new(step.segments.iter().copied(), step.entry, step.given)
    }

    fn new(from: impl Iterator<Item = Segment<'a>>, entry: Entry, given: &'a [f32]) -> Self {
        let mut segments = [Segment::alone(&[], 0, 0); MAX_SEGMENTS];
        let mut len = 0;
        for s in from.filter(|s| !s.tokens.is_empty()) {
            segments[len] = s;
            len += 1;
        }
        Self { segments, len, entry, given }
    }

    pub(crate) fn step(&self) -> Step<'_> {
        Step { segments: &self.segments[..self.len], entry: self.entry, given: self.given }
    }

    /// The first `n` rows, which have no logits, and the rest.
    pub(crate) fn split(&self, n: usize) -> (Self, Self) {
        let mut left = n;
        let mut parts = [Segment::alone(&[], 0, 0); MAX_SEGMENTS].map(|s| (s, s));
        for (s, part) in self.segments[..self.len].iter().zip(&mut parts) {
            let n = left.min(s.tokens.len());
            left -= n;
            let (first, rest) = s.tokens.split_at(n);
            // What is cut passes its recurrent states on in the slot for those at its end.
            let passed = &s.to[..s.to.len().min(1)];
            let (to, from) = if rest.is_empty() { (s.to, s.from) } else { (passed, passed.first().copied()) };
            *part = (
                Segment { tokens: first, outputs: 0, to, ..*s },
                Segment { tokens: rest, pos: s.pos + n, from: if n == 0 { s.from } else { from }, ..*s },
            );
        }
        let parts = &parts[..self.len];
        let columns = self.given.len() / self.step().len().max(1);
        let (first, rest) = self.given.split_at(n * columns);
        let new = |parts: &mut dyn Iterator<Item = Segment<'a>>, given| Self::new(parts, self.entry, given);
        (new(&mut parts.iter().map(|p| p.0), first), new(&mut parts.iter().map(|p| p.1), rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_segment_passes_its_states_on_and_others_stay_whole() {
        let tokens = [1, 2, 3, 4, 5, 6, 7];
        let a = Segment { from: Some(5), to: &[3], ..Segment::alone(&tokens[..2], 70, 0) };
        let b = Segment { from: None, to: &[4], ..Segment::alone(&tokens[2..], 0, 2) };
        let all = [a, b];
        let rows = Rows::all(&Step::trunk(&all));
        let (first, rest) = rows.split(4);
        let [f, g] = first.step().segments else { panic!("both begin") };
        let [h] = rest.step().segments else { panic!("one is over") };
        assert_eq!((f.tokens, f.pos, f.from, f.to, f.outputs), (&tokens[..2], 70, Some(5), &[3][..], 0));
        assert_eq!((g.tokens, g.pos, g.from, g.to, g.outputs), (&tokens[2..4], 0, None, &[4][..], 0));
        assert_eq!((h.tokens, h.pos, h.from, h.to, h.outputs), (&tokens[4..], 2, Some(4), &[4][..], 2));
        let (_, rest) = rows.split(2);
        assert_eq!((rest.step().segments[0].from, rest.step().outputs()), (None, 2), "not begun");
    }
}
