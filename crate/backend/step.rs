//! What one run of a plan works on: tokens of one or more sequences, and where the state of each lies.

use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::graph::{CACHE_KINDS, CacheKind, Dim, Entry, Graph, Op, Part, Shape};

/// Positions of a block of the cache.
pub const BLOCK: usize = 64;

/// The most segments of a step.
pub const MAX_SEGMENTS: usize = 16;

/// The most recurrent states that a segment keeps. A step with a segment that keeps more than one has at most this many
/// tokens.
pub const MAX_KEPT: usize = 8;

/// One run of a part of the plan.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// 1 to [`MAX_SEGMENTS`] of them, with at most [`Limits::max_tokens`](super::Limits::max_tokens) tokens together. Rows
    /// of a step are those of its segments, one after another.
    pub segments: &'a [Segment<'a>],
    /// The part of the graph that runs.
    pub entry: Entry,
    /// Where the part reads given rows: one for each token, as wide as the graph's
    /// [`given_columns`](Graph::given_columns).
    pub given: &'a [f32],
}

/// Consecutive tokens of one sequence: they see those before them in the sequence, and nothing of other segments.
///
/// The sequence's cache is in blocks of [`BLOCK`] positions. Two segments of a step may read the same block, but only one
/// writes to it. Its recurrent states are in slots: `from` is read and `to` is written, so a slot in neither keeps what it
/// has.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Ids below the size of the vocabulary, unless the step gives rows in their place; at least one.
    pub tokens: &'a [u32],
    /// The position of the first token.
    pub pos: usize,
    /// Rows of logits: those after the last so many tokens. Of a graph that groups its rows: so many groups.
    pub outputs: usize,
    /// The block of positions `BLOCK * i` and on, for each [`CacheKind`]. Entries that no token
    /// of the segment sees are not used, and may be any number.
    pub blocks: [&'a [u32]; CACHE_KINDS],
    /// The slot of the recurrent states before the first token; `None` for zeros.
    pub from: Option<u32>,
    /// The slots that get the recurrent states after each of the last `to.len()` tokens: 1 to [`MAX_KEPT`] of them.
    pub to: &'a [u32],
    /// Which coordinates its tokens have.
    pub place: Place,
}

/// The coordinates of consecutive tokens, by which heads are rotated. Those of text are all the same, its time: the position
/// in the cache, less what images before it take there beyond their time. The tokens of an image have one time, and a row and
/// a column from there on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// How far the time is behind the position in the cache.
    pub behind: usize,
    /// Of an image: the position of its first token in the cache.
    pub start: usize,
    /// Of an image: tokens of a row. 0 for text.
    pub width: usize,
}

impl Place {
    /// Time, row and column of the token at a position; images come in squares of `square` by `square` tokens.
    pub fn at(self, pos: usize, square: usize) -> [usize; 3] {
        if self.width == 0 {
            return [pos - self.behind; 3];
        }
        let (time, i) = (self.start - self.behind, pos - self.start);
        let (tile, inside, across) = (i / (square * square), i % (square * square), self.width / square);
        let row = tile / across * square + inside / square;
        let column = tile % across * square + inside % square;
        [time, time + row, time + column]
    }
}

/// The table of a sequence that has the cache for itself.
static IN_ORDER: [u32; 1024] = {
    let mut ids = [0; 1024];
    let mut i = 0;
    while i < ids.len() {
        ids[i] = i as u32;
        i += 1;
    }
    ids
};

impl<'a> Segment<'a> {
    /// Tokens of a sequence that has the first 65,536 positions of the cache for itself, and slot 0 for its recurrent
    /// states: where there is only one sequence, and nobody counts blocks.
    pub fn alone(tokens: &'a [u32], pos: usize, outputs: usize) -> Self {
        let from = (pos > 0).then_some(0);
        Self { tokens, pos, outputs, blocks: [&IN_ORDER; CACHE_KINDS], from, to: &[0], place: Place::default() }
    }

    /// The position after the last token.
    pub fn end(&self) -> usize {
        self.pos + self.tokens.len()
    }

    /// The entries of the table of a kind that tokens of the segment use; `window` is how far back they see, if not to the
    /// start.
    pub fn used(&self, kind: CacheKind, window: Option<usize>) -> &'a [u32] {
        &self.blocks[kind as usize][self.entries(kind, window)]
    }

    /// Their numbers in the table.
    pub fn entries(&self, kind: CacheKind, window: Option<usize>) -> Range<usize> {
        let window = window.filter(|_| kind == CacheKind::Window);
        let first = window.map_or(0, |w| (self.pos + 1).saturating_sub(w));
        first / BLOCK..self.end().div_ceil(BLOCK)
    }

    /// Where the row of a position lies in a state of a kind: a number of rows from its start.
    pub fn cache_row(&self, kind: CacheKind, pos: usize) -> usize {
        self.blocks[kind as usize][pos / BLOCK] as usize * BLOCK + pos % BLOCK
    }
}

/// Rows of a step through which a recurrent state goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Of one segment.
    pub rows: Range<usize>,
    /// The slot before the first row; `None` for zeros.
    pub from: Option<u32>,
    /// The slot after the last row.
    pub to: u32,
}

impl<'a> Step<'a> {
    /// A step of the trunk.
    pub fn trunk(segments: &'a [Segment<'a>]) -> Self {
        Self { segments, entry: Entry::Trunk, given: &[] }
    }

    /// The coordinates of each row.
    pub fn places(&self, square: usize) -> impl Iterator<Item = [usize; 3]> {
        self.segments.iter().flat_map(move |s| (s.pos..s.end()).map(move |pos| s.place.at(pos, square)))
    }

    /// Tokens of all segments.
    pub fn len(&self) -> usize {
        self.segments.iter().map(|s| s.tokens.len()).sum()
    }

    /// Whether it has no tokens.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows of logits of all segments.
    pub fn outputs(&self) -> usize {
        self.segments.iter().map(|s| s.outputs).sum()
    }

    /// The most positions that a token of the step sees, without windows.
    pub fn keys(&self) -> usize {
        self.segments.iter().map(Segment::end).max().unwrap_or(0)
    }

    /// The ids of all rows.
    pub fn tokens(&self) -> impl Iterator<Item = u32> {
        self.segments.iter().flat_map(|s| s.tokens.iter().copied())
    }

    /// The row of each row of logits.
    pub fn output_rows(&self) -> impl Iterator<Item = usize> {
        self.by_rows().flat_map(|(rows, s)| rows.end - s.outputs..rows.end)
    }

    /// Where the row after that of each row of logits lies in a state of a kind, as [`Entry::MtpChain`] writes it.
    pub fn next_rows(&self, kind: CacheKind) -> impl Iterator<Item = usize> {
        let last = |s: &'a Segment<'a>| s.end() - s.outputs..s.end();
        self.segments.iter().flat_map(move |s| last(s).map(move |p| s.cache_row(kind, p) + 1))
    }

    /// Each segment with its rows.
    pub fn by_rows(&self) -> impl Iterator<Item = (Range<usize>, &'a Segment<'a>)> {
        let mut end = 0;
        self.segments.iter().map(move |s| {
            end += s.tokens.len();
            (end - s.tokens.len()..end, s)
        })
    }

    /// Where recurrent states go, in order: each segment up to the first state that it keeps, then token by token.
    pub fn stretches(&self) -> impl Iterator<Item = Stretch> {
        self.by_rows().flat_map(|(rows, s)| {
            let first = rows.end + 1 - s.to.len();
            s.to.iter().enumerate().map(move |(i, to)| Stretch {
                rows: if i == 0 { rows.start } else { first + i - 1 }..first + i,
                from: if i == 0 { s.from } else { Some(s.to[i - 1]) },
                to: *to,
            })
        })
    }

    /// The part of the graph that runs. Fails if there is none, or if it would write past the end of a block.
    pub fn part(&self, g: &Graph) -> Result<Part> {
        let last_of_block = |s: &Segment<'_>| (s.end() - s.outputs..s.end()).any(|p| (p + 1).is_multiple_of(BLOCK));
        if self.entry == Entry::MtpChain && self.segments.iter().any(last_of_block) {
            crate::bail!(InvalidArgument, "a chain of predictions ends at the last position of a block");
        }
        let part = g.part(self.entry).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidState,
                "the plan has no such part; was the model opened with multi-token prediction, or for images?",
            )
        })?;
        // Steps of text look no further.
        if self.entry == Entry::Given || !self.given.is_empty() {
            self.check_given(g, &part)?;
        }
        Ok(part)
    }

    /// Refuses given rows that are not those that the part reads.
    fn check_given(&self, g: &Graph, part: &Part) -> Result<()> {
        let (tokens, outputs, given) = (self.len(), self.outputs(), self.given.len());
        let wanted = tokens * g.given_columns();
        if given != wanted {
            crate::bail!(InvalidArgument, "a step of {tokens} tokens must give {wanted} values, gives {given}");
        }
        let misfit = |op: &Op| matches!(op, Op::Group { n, .. } if outputs * n != tokens);
        if g.nodes[part.nodes.clone()].iter().any(|n| misfit(&n.op)) {
            crate::bail!(InvalidArgument, "a step of {tokens} tokens cannot have {outputs} rows of groups");
        }
        Ok(())
    }

    /// The position of each row of a value in this step.
    pub fn positions(&self, rows: Dim) -> impl Iterator<Item = usize> {
        let first = move |s: &Segment<'_>| match rows {
            Dim::Tokens => s.pos,
            Dim::Outputs => s.end() - s.outputs,
        };
        self.segments.iter().flat_map(move |s| first(s)..s.end())
    }

    /// How many of its tokens are among the first positions of their sequences, so many of these.
    pub fn within(&self, positions: usize) -> usize {
        self.segments.iter().map(|s| s.tokens.len().min(positions.saturating_sub(s.pos))).sum()
    }

    /// The rows of a value in this step.
    pub fn rows(&self, shape: Shape) -> usize {
        match shape.rows {
            Dim::Tokens => self.len(),
            Dim::Outputs => self.outputs(),
        }
    }
}

/// What a cache is made of, as snapshots take it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CachePart {
    /// A block, of all states of this kind.
    Block(CacheKind, u32),
    /// A slot, of all recurrent states.
    Slot(u32),
}
