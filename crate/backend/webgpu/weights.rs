//! Packed weights on the GPU, as they are in the file. A weight that is larger than a binding is split by rows.

use std::collections::BTreeMap;

use super::device::Gpu;
use crate::bail;
use crate::error::Result;
use crate::graph::{Graph, Op, Weight, WeightId};
use crate::quant;

/// Bytes past the end that kernels may read: they load aligned words, and one too many.
const SLACK: u64 = 16;

/// Bytes that may wait in staging buffers natively before the GPU is made to take them, and what the smallest write
/// counts for.
const MAX_STAGED: usize = 32 << 20;
const MIN_STAGED: usize = 64 << 10;

/// Some rows of a weight, in a buffer of their own.
#[derive(Debug)]
pub struct Part {
    pub buffer: wgpu::Buffer,
    pub row0: usize,
    pub rows: usize,
    /// Bytes from the start of the weight to the start of this part, and its length.
    start: usize,
    len: usize,
}

/// Where the next bytes of a weight go.
#[derive(Debug)]
pub enum Target<'a> {
    /// So many bytes to this place in a GPU buffer; place and count are multiples of 4.
    Raw { buffer: &'a wgpu::Buffer, offset: u64, len: usize },
    /// So many bytes through `write_weight`.
    Write { len: usize },
}

enum Store {
    Gpu(Vec<Part>),
    /// Kept here only: it is folded into a table when all weights are there.
    Host(Vec<u8>),
}

pub struct Weights {
    all: Vec<(String, Store)>,
    /// Words of which only some bytes came yet: bytes, and a mask of those that are there.
    edges: BTreeMap<(u32, usize, usize), ([u8; 4], u8)>,
    staged: usize,
}

impl Weights {
    pub fn new(gpu: &Gpu, g: &Graph) -> Result<Self> {
        let in_table = |w: WeightId| {
            g.nodes.iter().any(|n| match n.op {
                Op::Rope { rope, .. } => rope.freqs == Some(w),
                Op::DeltaRule { a, dt, .. } => a == w || dt == w,
                _ => false,
            })
        };
        let mut all = Vec::with_capacity(g.weights.len());
        for (i, w) in g.weights.iter().enumerate() {
            let store = if in_table(WeightId(i as u32)) { Store::Host(vec![0; w.bytes()]) } else { split(gpu, w)? };
            all.push((w.name.clone(), store));
        }
        Ok(Self { all, edges: BTreeMap::new(), staged: 0 })
    }

    /// The parts of a weight, in the order of their rows.
    pub fn parts(&self, w: WeightId) -> &[Part] {
        match &self.all[w.index()].1 {
            Store::Gpu(parts) => parts,
            Store::Host(_) => &[],
        }
    }

    /// The bytes of a weight that stays on the host.
    pub fn host(&self, w: WeightId) -> &[u8] {
        match &self.all[w.index()].1 {
            Store::Gpu(_) => &[],
            Store::Host(bytes) => bytes,
        }
    }

    pub fn bytes(&self) -> u64 {
        let parts = self.all.iter().map(|(_, s)| match s {
            Store::Gpu(parts) => parts.iter().map(|p| p.buffer.size()).sum(),
            Store::Host(bytes) => bytes.len() as u64,
        });
        parts.sum()
    }

    pub fn buffers(&self) -> u64 {
        self.all.iter().map(|(_, s)| if let Store::Gpu(parts) = s { parts.len() as u64 } else { 0 }).sum()
    }

    /// How the next bytes of a piece of `len` bytes at `offset` must be written.
    pub fn target(&self, w: WeightId, offset: usize, len: usize) -> Option<Target<'_>> {
        let Store::Gpu(parts) = &self.all[w.index()].1 else { return Some(Target::Write { len }) };
        let p = parts.iter().find(|p| (p.start..p.start + p.len).contains(&offset))?;
        let at = offset - p.start;
        let len = len.min(p.len - at);
        let whole = (at + len) / 4 * 4;
        Some(if !at.is_multiple_of(4) {
            Target::Write { len: len.min(4 - at % 4) }
        } else if whole > at {
            Target::Raw { buffer: &p.buffer, offset: at as u64, len: whole - at }
        } else {
            Target::Write { len }
        })
    }

    pub fn write(&mut self, gpu: &Gpu, w: WeightId, mut offset: usize, mut bytes: &[u8]) -> Result<()> {
        if let (name, Store::Host(to)) = &mut self.all[w.index()] {
            let Some(to) = offset.checked_add(bytes.len()).and_then(|end| to.get_mut(offset..end)) else {
                bail!(InvalidArgument, "weight `{name}` has {} bytes, a piece ends after them", to.len());
            };
            to.copy_from_slice(bytes);
            return Ok(());
        }
        while !bytes.is_empty() {
            let done = match self.target(w, offset, bytes.len().min(MAX_STAGED)) {
                None => bail!(InvalidArgument, "weight `{}`: a piece ends after it", self.all[w.index()].0),
                Some(Target::Raw { buffer, offset, len }) => {
                    gpu.queue.write_buffer(buffer, offset, &bytes[..len]);
                    len
                }
                Some(Target::Write { len }) => {
                    self.write_edge(gpu, w, offset, &bytes[..len]);
                    len
                }
            };
            offset += done;
            bytes = &bytes[done..];
            self.flush(gpu, done)?;
        }
        Ok(())
    }

    /// Every weight must be whole now.
    pub fn finish(&mut self, gpu: &Gpu) -> Result<()> {
        if let Some(((w, _, word), _)) = self.edges.first_key_value() {
            let name = &self.all[*w as usize].0;
            bail!(InvalidState, "weight `{name}` is incomplete near byte {} of a part", word * 4);
        }
        gpu.queue.submit([]);
        self.staged = 0;
        gpu.wait()
    }

    /// Collects the bytes of a word until all are there. Words are what a queue can write.
    fn write_edge(&mut self, gpu: &Gpu, w: WeightId, offset: usize, bytes: &[u8]) {
        let Store::Gpu(parts) = &self.all[w.index()].1 else { return };
        let i = parts.partition_point(|p| p.start + p.len <= offset);
        let at = offset - parts[i].start;
        let key = (w.0, i, at / 4);
        // Behind the end of the part there is nothing to wait for.
        let beyond = (0..4).filter(|b| at / 4 * 4 + b >= parts[i].len).fold(0, |m, b| m | 1 << b);
        let (word, mask) = self.edges.entry(key).or_insert(([0; 4], beyond));
        for (b, &byte) in (at % 4..4).zip(bytes) {
            word[b] = byte;
            *mask |= 1 << b;
        }
        if *mask == 0b1111 {
            gpu.queue.write_buffer(&parts[i].buffer, (at / 4 * 4) as u64, word);
            self.edges.remove(&key);
        }
    }

    /// Each write takes staging memory until the queue has run: bounds it.
    fn flush(&mut self, gpu: &Gpu, written: usize) -> Result<()> {
        self.staged += written.max(MIN_STAGED);
        if cfg!(not(target_arch = "wasm32")) && self.staged >= MAX_STAGED {
            gpu.queue.submit([]);
            self.staged = 0;
            gpu.wait()?;
        }
        gpu.fault.check()
    }
}

/// Allocates the parts of a weight. Behind the rows of each part lies the grid of its type, from the next whole word on.
fn split(gpu: &Gpu, w: &Weight) -> Result<Store> {
    let row_bytes = w.row_bytes();
    let grid: &[u8] = bytemuck::cast_slice(quant::grid(w.dtype).unwrap_or_default());
    let behind = grid.len() as u64 + SLACK;
    let room = usize::try_from(gpu.max_binding.saturating_sub(behind + 16)).unwrap_or(usize::MAX);
    let most = room / row_bytes.max(1);
    if most == 0 {
        bail!(OutOfMemory, "a row of weight `{}` has {row_bytes} bytes, more than the GPU binds", w.name);
    }
    let mut parts = Vec::new();
    for row0 in (0..w.rows).step_by(most) {
        let rows = most.min(w.rows - row0);
        let len = rows * row_bytes;
        let end = len.next_multiple_of(4) as u64;
        let buffer = gpu.storage(&w.name, end + behind)?;
        if !grid.is_empty() {
            gpu.queue.write_buffer(&buffer, end, grid);
        }
        parts.push(Part { buffer, row0, rows, start: row0 * row_bytes, len });
    }
    Ok(Store::Gpu(parts))
}
