//! What outlives a step: caches of keys and values, rows of other values by position, and recurrent states in slots. All
//! grow when a step names a block or a slot that was not there.

use super::cache::{Cache, Paged, caches};
use super::lanes::Isa;
use super::memory::zeros;
use crate::backend::{BLOCK, CachePart, Limits, Segment, Step, Stretch};
use crate::error::Result;
use crate::graph::{CacheKind, Graph, StateId};

#[derive(Default)]
pub(super) struct States {
    all: Vec<Rows>,
    /// How far back tokens see in states of [`CacheKind::Window`].
    window: Option<usize>,
}

/// The rows of one state.
enum Rows {
    /// Those that attention reads.
    Cache(CacheKind, Cache),
    /// Other rows by position, `[block, BLOCK, cols]`.
    ByPosition { kind: CacheKind, cols: usize, values: Vec<f32> },
    /// `[slot, len]`.
    Slots { len: usize, values: Vec<f32> },
}

/// The state of a stretch of tokens: brings it to where it is rewritten. `slots` [slot, len].
impl Stretch {
    pub(super) fn state<'a>(&self, slots: &'a mut [f32], len: usize) -> &'a mut [f32] {
        let to = self.to as usize * len;
        match self.from {
            Some(from) if from == self.to => {}
            Some(from) => slots.copy_within(from as usize * len..(from as usize + 1) * len, to),
            None => slots[to..to + len].fill(0.0),
        }
        &mut slots[to..to + len]
    }
}

impl States {
    pub(super) fn new(g: &Graph, limits: Limits) -> Result<Self> {
        let rows = g.states.iter().zip(0..).zip(caches(g, limits)?).map(|((state, i), cache)| {
            let kind = g.cache_kind(StateId(i));
            match cache {
                Some(cache) => Rows::Cache(kind, cache),
                None if state.rows.is_recurrent() => {
                    Rows::Slots { len: state.rows.count(0) * state.cols, values: Vec::new() }
                }
                None => Rows::ByPosition { kind, cols: state.cols, values: Vec::new() },
            }
        });
        Ok(Self { all: rows.collect(), window: g.window() })
    }

    /// Makes room for the blocks and slots of a step.
    pub(super) fn reserve(&mut self, step: &Step<'_>) -> Result<()> {
        let window = self.window;
        let most = |kind| {
            let used = step.segments.iter().flat_map(|s| s.used(kind, window));
            used.max().map_or(0, |b| *b as usize + 1)
        };
        let blocks = CacheKind::ALL.map(most);
        let slots = step.segments.iter().flat_map(|s| s.to.iter().copied().chain(s.from)).max();
        let slots = slots.map_or(0, |s| s as usize + 1);
        self.all.iter_mut().try_for_each(|rows| match rows {
            Rows::Cache(kind, cache) => cache.reserve(blocks[*kind as usize]),
            Rows::ByPosition { kind, cols, values } => grow(values, blocks[*kind as usize] * BLOCK * *cols),
            Rows::Slots { len, values } => grow(values, slots * *len),
        })
    }

    /// Bytes of rows by position, and of slots.
    pub(super) fn bytes(&self) -> (u64, u64) {
        self.all.iter().fold((0, 0), |(kv, slots), rows| match rows {
            Rows::Cache(_, cache) => (kv + cache.bytes() as u64, slots),
            Rows::ByPosition { values, .. } => (kv + size_of_val(&**values) as u64, slots),
            Rows::Slots { values, .. } => (kv, slots + size_of_val(&**values) as u64),
        })
    }

    /// Stores the rows of a step.
    pub(super) fn store(&mut self, isa: Isa, state: StateId, step: &Step<'_>, x: &[f32]) {
        let rows = &mut self.all[state.index()];
        let cols = x.len() / step.len();
        for (of, s) in step.by_rows() {
            let x = &x[of.start * cols..of.end * cols];
            match rows {
                Rows::Cache(kind, cache) => cache.store(isa, s.blocks[*kind as usize], s.pos, x),
                Rows::ByPosition { kind, values, .. } => {
                    for (pos, x) in (s.pos..).zip(x.chunks_exact(cols)) {
                        values[s.cache_row(*kind, pos) * cols..][..cols].copy_from_slice(x);
                    }
                }
                Rows::Slots { .. } => unreachable!("the verifier refuses to store rows in a recurrent state"),
            }
        }
    }

    /// Stores the rows of the rows of logits of a step, each at the position after that of its token.
    pub(super) fn store_next(&mut self, state: StateId, step: &Step<'_>, x: &[f32]) {
        let Rows::ByPosition { kind, cols, values } = &mut self.all[state.index()] else {
            unreachable!("only what the op loads again is stored ahead, and that is no cache")
        };
        for (row, x) in step.next_rows(*kind).zip(x.chunks_exact(*cols)) {
            values[row * *cols..][..*cols].copy_from_slice(x);
        }
    }

    /// Reads the rows of a step.
    pub(super) fn load(&self, state: StateId, step: &Step<'_>, y: &mut [f32]) {
        let Rows::ByPosition { kind, cols, values } = &self.all[state.index()] else {
            unreachable!("`new` gives caches to attention only")
        };
        let rows = step.segments.iter().flat_map(|s| (s.pos..s.end()).map(move |p| s.cache_row(*kind, p)));
        for (row, y) in rows.zip(y.chunks_exact_mut(*cols)) {
            y.copy_from_slice(&values[row * cols..][..*cols]);
        }
    }

    /// The rows of a segment's sequence.
    pub(super) fn paged<'a>(&'a self, state: StateId, s: &Segment<'a>) -> Paged<'a> {
        let Rows::Cache(kind, cache) = &self.all[state.index()] else {
            unreachable!("`new` gives a cache to each attention")
        };
        Paged { cache, blocks: s.blocks[*kind as usize] }
    }

    /// All slots of a recurrent state, to be taken out while an op rewrites them.
    pub(super) fn slots(&mut self, state: StateId) -> &mut Vec<f32> {
        let Rows::Slots { values, .. } = &mut self.all[state.index()] else {
            unreachable!("the verifier refuses recurrent ops on other states")
        };
        values
    }

    /// Values of a slot.
    pub(super) fn slot_len(&self, state: StateId) -> usize {
        match &self.all[state.index()] {
            Rows::Slots { len, .. } => *len,
            _ => 0,
        }
    }

    pub(super) fn copy_block(&mut self, kind: CacheKind, from: usize, to: usize) -> Result<()> {
        for rows in &mut self.all {
            match rows {
                Rows::Cache(k, cache) if *k == kind => {
                    cache.reserve(to + 1)?;
                    let block = cache.block(from).to_vec();
                    cache.block_mut(to).copy_from_slice(&block);
                }
                Rows::ByPosition { kind: k, cols, values } if *k == kind => {
                    let len = BLOCK * *cols;
                    grow(values, (to + 1) * len)?;
                    values.copy_within(from * len..(from + 1) * len, to * len);
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn part_bytes(&self, part: CachePart) -> usize {
        self.all.iter().map(|rows| rows.bytes_of(part)).sum()
    }

    /// Appends the bytes of a part.
    pub(super) fn read(&self, part: CachePart, out: &mut Vec<u8>) {
        for rows in self.all.iter().filter(|rows| rows.bytes_of(part) > 0) {
            match (rows, part) {
                (Rows::Cache(_, cache), CachePart::Block(_, i)) => out.extend_from_slice(cache.block(i as usize)),
                (Rows::Cache(..), CachePart::Slot(_)) => {}
                (
                    Rows::ByPosition { values, .. } | Rows::Slots { values, .. },
                    CachePart::Block(_, i) | CachePart::Slot(i),
                ) => {
                    let len = rows.bytes_of(part);
                    out.extend_from_slice(&bytemuck::cast_slice(values)[i as usize * len..][..len]);
                }
            }
        }
    }

    /// Writes the bytes of a part.
    pub(super) fn write(&mut self, part: CachePart, mut bytes: &[u8]) -> Result<()> {
        let (CachePart::Block(_, i) | CachePart::Slot(i)) = part;
        let i = i as usize;
        for rows in self.all.iter_mut() {
            let len = rows.bytes_of(part);
            if len == 0 {
                continue;
            }
            let (own, rest) = bytes.split_at(len);
            bytes = rest;
            match rows {
                Rows::Cache(_, cache) => {
                    cache.reserve(i + 1)?;
                    cache.block_mut(i).copy_from_slice(own);
                }
                Rows::ByPosition { values, .. } | Rows::Slots { values, .. } => {
                    grow(values, (i + 1) * len / size_of::<f32>())?;
                    bytemuck::cast_slice_mut(values)[i * len..][..len].copy_from_slice(own);
                }
            }
        }
        Ok(())
    }
}

impl Rows {
    /// Bytes of its share in a part.
    fn bytes_of(&self, part: CachePart) -> usize {
        match (self, part) {
            (Rows::Cache(k, cache), CachePart::Block(kind, _)) if *k == kind => cache.block_bytes(),
            (Rows::ByPosition { kind: k, cols, .. }, CachePart::Block(kind, _)) if *k == kind => {
                BLOCK * cols * size_of::<f32>()
            }
            (Rows::Slots { len, .. }, CachePart::Slot(_)) => len * size_of::<f32>(),
            _ => 0,
        }
    }
}

/// Makes room for `len` values, zeros where they are new.
fn grow(values: &mut Vec<f32>, len: usize) -> Result<()> {
    if len > values.len() {
        let mut new = zeros(len)?;
        new[..values.len()].copy_from_slice(values);
        *values = new;
    }
    Ok(())
}
