//! Which bytes of a file are needed, and where each of them goes. A state machine without I/O: the host reads or
//! fetches ranges in any order and in pieces of any size, and is told the weight and the offset of every piece.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::gguf::Gguf;
use crate::graph::{Graph, WeightId};

/// A run of bytes that belongs to one weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The weight that they belong to.
    pub weight: WeightId,
    /// Bytes from the start of the weight.
    pub offset: usize,
    /// The range within the bytes that the host has.
    pub bytes: Range<usize>,
}

/// One weight in the file.
#[derive(Clone, Debug)]
struct Target {
    weight: WeightId,
    /// Bytes from the start of the file.
    file: Range<u64>,
}

/// Follows a load from the first byte to the last.
#[derive(Clone, Debug)]
pub struct Loader {
    /// In the order of the file.
    targets: Vec<Target>,
    /// File ranges that have arrived, in order, not touching each other.
    have: Vec<Range<u64>>,
    total: u64,
    done: u64,
}

impl Loader {
    /// Needs the bytes of each weight of the graph, which was built from this file.
    pub fn new(gguf: &Gguf, graph: &Graph) -> Self {
        let mut targets: Vec<_> = (graph.weights.iter().zip(0..))
            .map(|(w, i)| {
                let t = gguf.tensor(&w.name).expect("the graph was built from this file");
                Target { weight: WeightId(i), file: t.offset..t.offset + t.len }
            })
            .collect();
        targets.sort_by_key(|t| t.file.start);
        let total = targets.iter().map(|t| t.file.end - t.file.start).sum();
        Self { targets, have: Vec::new(), total, done: 0 }
    }

    /// The file ranges that are still needed, in order; neighbours less than `gap` bytes apart are joined.
    pub fn wanted(&self, gap: u64) -> Vec<Range<u64>> {
        let mut out: Vec<Range<u64>> = Vec::new();
        for t in &self.targets {
            for r in self.missing(t.file.clone()) {
                match out.last_mut() {
                    Some(last) if r.start - last.end <= gap => last.end = r.end,
                    _ => out.push(r),
                }
            }
        }
        out
    }

    /// Records `len` bytes that start at `offset` of the file, and returns where they go. Bytes that are not needed, or
    /// that arrived before, are in no piece.
    pub fn place(&mut self, offset: u64, len: usize) -> Vec<Piece> {
        let end = offset.saturating_add(len as u64);
        let first = self.targets.partition_point(|t| t.file.end <= offset);
        let mut pieces = Vec::new();
        for t in &self.targets[first..] {
            if t.file.start >= end {
                break;
            }
            for r in self.missing(offset.max(t.file.start)..end.min(t.file.end)) {
                self.done += r.end - r.start;
                pieces.push(Piece {
                    weight: t.weight,
                    offset: (r.start - t.file.start) as usize,
                    bytes: (r.start - offset) as usize..(r.end - offset) as usize,
                });
            }
        }
        self.note(offset..end);
        pieces
    }

    /// Bytes that have arrived, and bytes in total.
    pub fn progress(&self) -> (u64, u64) {
        (self.done, self.total)
    }

    /// Refuses a load that ended early.
    pub fn finish(&self) -> Result<()> {
        if self.done == self.total {
            return Ok(());
        }
        let missing = self.total - self.done;
        let first = self.wanted(0).first().map_or(0, |r| r.start);
        Err(Error::new(
            ErrorKind::GgufTruncated,
            format!("{missing} bytes of weights are missing, the first at byte {first}; is the download complete?"),
        ))
    }

    /// The parts of `range` that have not arrived yet.
    fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut out = Vec::new();
        let mut start = range.start;
        let first = self.have.partition_point(|h| h.end <= range.start);
        for h in self.have[first..].iter().take_while(|h| h.start < range.end) {
            if h.start > start {
                out.push(start..h.start);
            }
            start = start.max(h.end);
        }
        if start < range.end {
            out.push(start..range.end);
        }
        out
    }

    /// Adds `range` to what has arrived.
    fn note(&mut self, mut range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = self.have.partition_point(|h| h.end < range.start);
        let last = self.have.partition_point(|h| h.start <= range.end);
        if first < last {
            range.start = range.start.min(self.have[first].start);
            range.end = range.end.max(self.have[last - 1].end);
        }
        self.have.splice(first..last, [range]);
    }
}
