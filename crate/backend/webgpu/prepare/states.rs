//! State that outlives a step: rows of keys and values in blocks, and recurrent states in slots. Both grow.

use std::ops::Range;

use crate::backend::webgpu::device::{Gpu, check_binding};
use crate::backend::webgpu::kernels::kv::kv_of;
use crate::backend::{BLOCK, CachePart, KvType, Limits, Segment, Step};
use crate::error::Result;
use crate::graph::{CACHE_KINDS, CacheKind, ENTRIES, Entry, Graph, Op, StateId, StateRows};

/// The initial blocks of each kind, and the number by which they grow.
const CHUNK: usize = 8;

/// Bytes of states that grow in one submit. More of them grow one after another, each freed as soon as the GPU is done
/// with it, to keep the peak low.
const GROW_AT_ONCE: u64 = 64 << 20;

/// What the states of a graph need of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Uses {
    /// Whether there are states of each kind.
    kinds: [bool; CACHE_KINDS],
    /// How many positions back a token sees in states of [`CacheKind::Window`].
    window: Option<usize>,
    pub recurrent: bool,
    /// By the number of the entry, whether tokens see those after them: then a step runs as a whole.
    pub whole: [bool; ENTRIES],
}

impl Uses {
    pub(crate) fn of(g: &Graph) -> Self {
        let units: Vec<_> = (0..g.states.len()).map(|i| kind_of(g, StateId(i as u32))).collect();
        let kinds = CacheKind::ALL.map(|kind| units.contains(&Some(kind)));
        let whole = Entry::ALL.map(|entry| !g.is_causal(entry));
        Self { kinds, window: g.window(), recurrent: units.contains(&None), whole }
    }

    /// How many kinds there are.
    pub(crate) fn kinds(&self) -> usize {
        self.kinds.iter().filter(|k| **k).count()
    }

    /// The entries of its table that a segment reads or writes.
    pub(crate) fn entries(&self, kind: CacheKind, s: &Segment<'_>) -> Range<usize> {
        if self.kinds[kind as usize] { s.entries(kind, self.window) } else { 0..0 }
    }
}

/// How many blocks of each kind there are, and how many slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    blocks: [usize; CACHE_KINDS],
    slots: usize,
}

impl Room {
    /// What the limits allow.
    pub(crate) fn most(limits: Limits) -> Self {
        Self { blocks: limits.blocks, slots: limits.slots }
    }

    /// What a step names, whose tables have all entries that it uses.
    pub(crate) fn of(step: &Step<'_>, uses: Uses) -> Self {
        let blocks = CacheKind::ALL.map(|kind| {
            let named = |s: &Segment<'_>| s.blocks[kind as usize][uses.entries(kind, s)].iter().max().copied();
            step.segments.iter().filter_map(named).max().map_or(0, after)
        });
        let named = step.segments.iter().flat_map(|s| s.from.iter().chain(s.to));
        let slots = named.max().filter(|_| uses.recurrent).map_or(0, |i| after(*i));
        Self { blocks, slots }
    }

    /// What holds a part of the cache.
    pub(crate) fn of_part(part: CachePart) -> Self {
        let mut room = Self { blocks: [0; CACHE_KINDS], slots: 0 };
        match part {
            CachePart::Block(kind, i) => room.blocks[kind as usize] = after(i),
            CachePart::Slot(i) => room.slots = after(i),
        }
        room
    }

    pub(crate) fn is_within(&self, most: Self) -> bool {
        self.slots <= most.slots && self.blocks.iter().zip(most.blocks).all(|(n, most)| *n <= most)
    }

    /// With at least half more of what is too little.
    fn grown(self, need: Self, limits: Limits) -> Self {
        let grow = |have: usize, need: usize, by: usize, most: usize| {
            let more = need.max(have + have.div_ceil(2)).next_multiple_of(by).min(most);
            if need > have { more } else { have }
        };
        let mut blocks = self.blocks;
        for (i, have) in blocks.iter_mut().enumerate() {
            *have = grow(*have, need.blocks[i], CHUNK, limits.blocks[i]);
        }
        Self { blocks, slots: grow(self.slots, need.slots, 1, limits.slots) }
    }
}

fn after(i: u32) -> usize {
    i as usize + 1
}

struct State {
    buffer: wgpu::Buffer,
    /// `None` for a recurrent state.
    kind: Option<CacheKind>,
    /// Bytes of a block or a slot.
    unit: u64,
}

impl State {
    fn bytes(&self, room: Room) -> u64 {
        bytes(self.kind, self.unit, room)
    }
}

/// Buffers that were replaced, with the new ones.
#[derive(Default)]
pub(crate) struct Grown {
    pub moved: Vec<(wgpu::Buffer, wgpu::Buffer)>,
    pub submits: u64,
}

pub(crate) struct States {
    all: Vec<State>,
    room: Room,
    /// A block on its way from a buffer to the same: made when one is copied.
    staging: Option<wgpu::Buffer>,
}

impl States {
    pub(crate) fn new(gpu: &Gpu, g: &Graph, limits: Limits) -> Result<Self> {
        check(g, limits, gpu.max_binding)?;
        let room = Room { blocks: limits.blocks.map(|n| n.min(CHUNK)), slots: limits.slots.min(1) };
        let state = |i: usize| {
            let (kind, unit) = unit_of(g, StateId(i as u32), limits.kv);
            let buffer = gpu.storage(&g.states[i].name, bytes(kind, unit, room))?;
            Ok(State { buffer, kind, unit })
        };
        Ok(Self { all: (0..g.states.len()).map(state).collect::<Result<_>>()?, room, staging: None })
    }

    pub(crate) fn get(&self, s: StateId) -> &wgpu::Buffer {
        &self.all[s.index()].buffer
    }

    /// Bytes of keys and values, of recurrent states, and of staging.
    pub(crate) fn bytes(&self) -> (u64, u64, u64) {
        let of = |recurrent| {
            let all = self.all.iter().filter(|s| s.kind.is_none() == recurrent);
            all.map(|s| s.buffer.size()).sum()
        };
        (of(false), of(true), self.staging.as_ref().map_or(0, wgpu::Buffer::size))
    }

    pub(crate) fn buffers(&self) -> u64 {
        self.all.len() as u64
    }

    /// Grows to what is needed: what is there moves to larger buffers.
    pub(crate) fn reserve(&mut self, gpu: &Gpu, g: &Graph, limits: Limits, need: Room) -> Result<Grown> {
        let mut grown = Grown::default();
        if need.is_within(self.room) {
            return Ok(grown);
        }
        self.room = self.room.grown(need, limits);
        let (mut encoder, mut waiting) = (gpu.encoder(), Vec::new());
        let submit = |encoder: wgpu::CommandEncoder, waiting: &mut Vec<wgpu::Buffer>| {
            gpu.queue.submit([encoder.finish()]);
            waiting.drain(..).for_each(|old| old.destroy());
        };
        for (i, s) in self.all.iter_mut().enumerate().filter(|(_, s)| s.bytes(self.room) > s.buffer.size()) {
            let new = gpu.storage(&g.states[i].name, s.bytes(self.room))?;
            encoder.copy_buffer_to_buffer(&s.buffer, 0, &new, 0, s.buffer.size());
            let old = std::mem::replace(&mut s.buffer, new.clone());
            waiting.push(old.clone());
            grown.moved.push((old, new));
            if waiting.iter().map(wgpu::Buffer::size).sum::<u64>() > GROW_AT_ONCE {
                submit(std::mem::replace(&mut encoder, gpu.encoder()), &mut waiting);
                grown.submits += 1;
            }
        }
        if !waiting.is_empty() {
            submit(encoder, &mut waiting);
            grown.submits += 1;
        }
        gpu.fault.check().map(|()| grown)
    }

    /// The places of a part of the cache: buffer, offset and length of each.
    pub(crate) fn places(&self, part: CachePart) -> impl Iterator<Item = (&wgpu::Buffer, u64, u64)> {
        let (kind, i) = match part {
            CachePart::Block(kind, i) => (Some(kind), i),
            CachePart::Slot(i) => (None, i),
        };
        let all = self.all.iter().filter(move |s| s.kind == kind);
        all.map(move |s| (&s.buffer, u64::from(i) * s.unit, s.unit))
    }

    /// Makes the buffer through which blocks are copied. Returns how many buffers that made.
    pub(crate) fn prepare_copies(&mut self, gpu: &Gpu) -> Result<u64> {
        let largest = self.all.iter().filter(|s| s.kind.is_some()).map(|s| s.unit).max();
        let Some(largest) = largest.filter(|_| self.staging.is_none()) else { return Ok(0) };
        self.staging = Some(gpu.storage("staging", largest)?);
        Ok(1)
    }

    /// Copies a block to another of its kind.
    ///
    /// # Panics
    /// Where copies were not prepared.
    pub(crate) fn copy(&self, gpu: &Gpu, kind: CacheKind, from: u32, to: u32) {
        let mut encoder = gpu.encoder();
        for (buffer, at, bytes) in self.places(CachePart::Block(kind, from)) {
            // WebGPU has no copies within a buffer.
            let staging = self.staging.as_ref().expect("copies were prepared");
            encoder.copy_buffer_to_buffer(buffer, at, staging, 0, bytes);
            encoder.copy_buffer_to_buffer(staging, 0, buffer, u64::from(to) * bytes, bytes);
        }
        gpu.queue.submit([encoder.finish()]);
    }
}

/// Refuses states that could not be bound whole once the cache is full.
pub(crate) fn check(g: &Graph, limits: Limits, max_binding: u64) -> Result<()> {
    (0..g.states.len()).try_for_each(|i| {
        let (kind, unit) = unit_of(g, StateId(i as u32), limits.kv);
        check_binding(&g.states[i].name, bytes(kind, unit, Room::most(limits)), max_binding)
    })
}

fn bytes(kind: Option<CacheKind>, unit: u64, room: Room) -> u64 {
    unit * kind.map_or(room.slots, |k| room.blocks[k as usize]) as u64
}

/// The kind of a state with a row per position; `None` for a recurrent one.
fn kind_of(g: &Graph, s: StateId) -> Option<CacheKind> {
    (!g.state(s).rows.is_recurrent()).then(|| g.cache_kind(s))
}

/// The kind of a state, and bytes of a block or a slot of it.
fn unit_of(g: &Graph, s: StateId, kv: KvType) -> (Option<CacheKind>, u64) {
    let state = g.state(s);
    let heads = g.nodes.iter().find_map(|n| match &n.op {
        Op::RopeStore(p) if p.keys == s || p.values == s => Some(state.cols / p.rope.d_head),
        _ => None,
    });
    let row = heads.map_or(state.cols * 4, |n| n * kv_of(g, s, kv).bytes(state.cols / n));
    let rows = match state.rows {
        StateRows::Ctx => BLOCK,
        StateRows::Recurrent(rows) => rows,
    };
    (kind_of(g, s), (rows * row) as u64)
}
