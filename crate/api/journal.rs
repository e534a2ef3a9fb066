//! What a run has done, in numbers that a host keeps without reading them: another engine goes on from them.

use crate::backend::Logprobs;
use crate::engine::{Event, Mark, StopReason};
use crate::error::Result;

/// An entry of a journal.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    /// The generations were added, and the caller got the start of a stream.
    Started,
    /// Of the generation with this index.
    Mark(usize, Mark),
    /// The caller got everything.
    Over,
}

// Kinds of entries: the first number of each, with the index above these bits.
const STARTED: u32 = 0;
const OVER: u32 = 1;
const CACHED: u32 = 2;
const TOKEN: u32 = 3;
const LIKELY: u32 = 4;
const DONE: u32 = 5;
const KIND_BITS: u32 = 3;

const REASONS: [StopReason; 4] =
    [StopReason::EndOfSequence, StopReason::StopString, StopReason::MaxTokens, StopReason::ContextFull];

impl Entry {
    pub(super) fn write(&self, to: &mut Vec<u32>) {
        let (index, mark) = match self {
            Self::Started => return to.push(STARTED),
            Self::Over => return to.push(OVER),
            Self::Mark(index, mark) => (*index as u32, mark),
        };
        let head = |kind| index << KIND_BITS | kind;
        match mark {
            Mark::Cached(n) => to.extend([head(CACHED), *n as u32]),
            Mark::Token { id, logprobs: None } => to.extend([head(TOKEN), *id]),
            Mark::Token { id, logprobs: Some(Logprobs { logprob, top }) } => {
                to.extend([head(LIKELY), *id, logprob.to_bits(), top.len() as u32]);
                to.extend(top.iter().flat_map(|(id, logprob)| [*id, logprob.to_bits()]));
            }
            Mark::Done(reason) => {
                let reason = REASONS.iter().position(|r| r == reason).unwrap_or_default();
                to.extend([head(DONE), reason as u32]);
            }
        }
    }
}

/// What an event of a generation is to another engine; before it, how much of its prompt was in the cache, if that is news.
pub(super) fn note(to: &mut Vec<u32>, index: usize, event: &Event, cached: Option<usize>) {
    let mark = match event {
        Event::Prefill { .. } => None,
        Event::Token { id, logprobs, .. } => Some(Mark::Token { id: *id, logprobs: logprobs.clone() }),
        Event::Done { reason, .. } => Some(Mark::Done(*reason)),
    };
    let all = cached.map(Mark::Cached).into_iter().chain(mark);
    all.for_each(|mark| Entry::Mark(index, mark).write(to));
}

/// Reads a journal, which may be any numbers.
pub(super) fn read(journal: &[u32]) -> Result<Vec<Entry>> {
    let mut rest = journal.iter().copied();
    let mut all = Vec::new();
    while let Some(head) = rest.next() {
        let at = journal.len() - rest.len() - 1;
        match entry(head, &mut rest) {
            Some(entry) => all.push(entry),
            None => crate::bail!(InvalidArgument, "number {at} of what is to be said again begins no whole entry"),
        }
    }
    Ok(all)
}

fn entry(head: u32, rest: &mut impl Iterator<Item = u32>) -> Option<Entry> {
    let mark = match head & ((1 << KIND_BITS) - 1) {
        STARTED => return Some(Entry::Started),
        OVER => return Some(Entry::Over),
        CACHED => Mark::Cached(rest.next()? as usize),
        TOKEN => Mark::Token { id: rest.next()?, logprobs: None },
        LIKELY => {
            let (id, logprob, n) = (rest.next()?, f32::from_bits(rest.next()?), rest.next()?);
            let top = (0..n).map(|_| Some((rest.next()?, f32::from_bits(rest.next()?)))).collect::<Option<_>>()?;
            Mark::Token { id, logprobs: Some(Logprobs { logprob, top }) }
        }
        DONE => Mark::Done(*REASONS.get(rest.next()? as usize)?),
        _ => return None,
    };
    Some(Entry::Mark((head >> KIND_BITS) as usize, mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_were_written_and_parts_of_them_are_refused() {
        let top = vec![(7, -0.5), (9, -1.25)];
        let all = [
            Entry::Started,
            Entry::Mark(0, Mark::Cached(12)),
            Entry::Mark(3, Mark::Token { id: 40_000, logprobs: None }),
            Entry::Mark(1, Mark::Token { id: 7, logprobs: Some(Logprobs { logprob: -0.5, top }) }),
            Entry::Mark(1, Mark::Token { id: 8, logprobs: Some(Logprobs { logprob: -2.0, top: Vec::new() }) }),
            Entry::Mark(3, Mark::Done(StopReason::MaxTokens)),
            Entry::Over,
        ];
        let mut journal = Vec::new();
        let mut ends = vec![0];
        for entry in &all {
            entry.write(&mut journal);
            ends.push(journal.len());
        }
        for n in 0..=journal.len() {
            let whole = ends.iter().position(|end| *end == n);
            assert_eq!(read(&journal[..n]).ok(), whole.map(|i| all[..i].to_vec()), "the first {n} numbers");
        }
        for wrong in [[6, 0], [7, 0], [DONE, 4], [LIKELY, 1]] {
            assert!(read(&wrong).is_err(), "{wrong:?}");
        }
        assert!(read(&[LIKELY, 1, 0, u32::MAX]).is_err(), "a length is not believed");
    }
}
