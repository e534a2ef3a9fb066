//! Packed weights on the GPU, as they are in the file. A weight that is larger than a binding is split by rows.

use std::collections::BTreeMap;

use super::repack::Repacker;
use crate::backend::webgpu::device::Gpu;
use crate::backend::webgpu::kernels::repack::{self, TILE};
use crate::backend::webgpu::kernels::table::Table;
use crate::bail;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Graph, Op, Post, Weight, WeightId};
use crate::quant;

/// Bytes past the end that kernels may read: they load aligned words, up to one too many.
const SLACK: u64 = 16;

/// Native only: bytes that may sit in staging buffers before they are submitted, and the bytes that the smallest write
/// counts for.
const MAX_STAGED: usize = 32 << 20;
const MIN_STAGED: usize = 64 << 10;

/// Some rows of a weight, in a buffer of their own.
#[derive(Debug)]
pub(crate) struct Part {
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
    /// The next `len` bytes go to a GPU buffer as they are.
    Raw {
        /// Where to.
        buffer: &'a wgpu::Buffer,
        /// In bytes from its start, a multiple of 4.
        offset: u64,
        /// A multiple of 4.
        len: usize,
    },
    /// The next bytes go through `write_weight`.
    Write {
        /// How many of them.
        len: usize,
    },
}

struct Store {
    name: String,
    dtype: DType,
    cols: usize,
    parts: Vec<Part>,
    /// The bytes on the host (perhaps only there): they go into a table once the weights are complete.
    host: Option<Vec<u8>>,
}

pub(crate) struct Weights {
    all: Vec<Store>,
    /// Words of which only some bytes have arrived: the bytes, and a mask of those that are valid.
    edges: BTreeMap<(u32, usize, usize), ([u8; 4], u8)>,
    staged: usize,
    /// Whether the bytes are repacked for the kernels, no longer in the order of the file.
    packed: bool,
}

impl Weights {
    pub(crate) fn new(gpu: &Gpu, g: &Graph) -> Result<Self> {
        let tables: Vec<Vec<WeightId>> =
            (0..g.nodes.len()).map(|i| Table::of(g, i).iter().flat_map(Table::weights).collect()).collect();
        let mut all = Vec::with_capacity(g.weights.len());
        for (i, w) in g.weights.iter().enumerate() {
            let id = WeightId(i as u32);
            let host = tables.iter().any(|t| t.contains(&id)).then(|| vec![0; w.bytes()]);
            // The weight of a fused `norm_add` is in the table of the matmul, but the kernel that runs alone binds it.
            let bound = g.nodes.iter().zip(&tables).any(|(n, t)| n.op.weights().any(|x| x == id) && !t.contains(&id));
            let rows = rows_of_parts(g, id, gpu.max_binding)?;
            let parts = if bound { split(gpu, w, rows)? } else { Vec::new() };
            all.push(Store { name: w.name.clone(), dtype: w.dtype, cols: w.cols, parts, host });
        }
        Ok(Self { all, edges: BTreeMap::new(), staged: 0, packed: false })
    }

    /// The parts of a weight, in the order of their rows.
    pub(crate) fn parts(&self, w: WeightId) -> &[Part] {
        &self.all[w.index()].parts
    }

    /// The bytes of a weight that is kept on the host.
    pub(crate) fn host(&self, w: WeightId) -> &[u8] {
        self.all[w.index()].host.as_deref().unwrap_or(&[])
    }

    pub(crate) fn bytes(&self) -> u64 {
        let of = |s: &Store| {
            let parts: u64 = s.parts.iter().map(|p| p.buffer.size()).sum();
            parts + s.host.as_ref().map_or(0, |h| h.len() as u64)
        };
        self.all.iter().map(of).sum()
    }

    /// Frees the memory at once: a browser would wait for its garbage collector.
    pub(crate) fn destroy(&self) {
        self.all.iter().flat_map(|s| &s.parts).for_each(|p| p.buffer.destroy());
    }

    pub(crate) fn buffers(&self) -> u64 {
        self.all.iter().map(|s| s.parts.len() as u64).sum()
    }

    /// How the next bytes of a piece of `len` bytes at `offset` must be written.
    pub(crate) fn target(&self, w: WeightId, offset: usize, len: usize) -> Option<Target<'_>> {
        let store = &self.all[w.index()];
        if store.host.is_some() {
            return Some(Target::Write { len });
        }
        target_in(&store.parts, offset, len)
    }

    pub(crate) fn write(&mut self, gpu: &Gpu, w: WeightId, mut offset: usize, mut bytes: &[u8]) -> Result<()> {
        let Store { name, parts, host, .. } = &mut self.all[w.index()];
        if let Some(to) = host {
            let Some(to) = offset.checked_add(bytes.len()).and_then(|end| to.get_mut(offset..end)) else {
                bail!(InvalidArgument, "weight `{name}` has {} bytes, the piece ends past them", to.len());
            };
            to.copy_from_slice(bytes);
        }
        if parts.is_empty() {
            return Ok(());
        }
        while !bytes.is_empty() {
            let done = match target_in(&self.all[w.index()].parts, offset, bytes.len().min(MAX_STAGED)) {
                None => bail!(InvalidArgument, "the piece ends past the end of weight `{}`", self.all[w.index()].name),
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

    /// Repacks the weights. Fails if bytes are missing.
    pub(crate) fn finish(&mut self, gpu: &Gpu) -> Result<()> {
        if let Some(((w, _, word), _)) = self.edges.first_key_value() {
            let name = &self.all[*w as usize].name;
            bail!(InvalidState, "weight `{name}` is incomplete near byte {} of a part", word * 4);
        }
        gpu.queue.submit([]);
        self.staged = 0;
        if !std::mem::replace(&mut self.packed, true) {
            let mut repacker = Repacker::new(gpu);
            for s in &self.all {
                s.parts.iter().try_for_each(|p| repacker.repack(&p.buffer, s.dtype, s.cols, tiled(s.dtype, p.rows)))?;
            }
        }
        gpu.wait()
    }

    /// Collects the bytes of a word until it is complete: a queue writes whole words.
    fn write_edge(&mut self, gpu: &Gpu, w: WeightId, offset: usize, bytes: &[u8]) {
        let parts = &self.all[w.index()].parts;
        let i = parts.partition_point(|p| p.start + p.len <= offset);
        let at = offset - parts[i].start;
        let key = (w.0, i, at / 4);
        // Bytes behind the end of the part never arrive.
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

    /// Each write takes staging memory until the queue has run; this bounds it.
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

fn target_in(parts: &[Part], offset: usize, len: usize) -> Option<Target<'_>> {
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

/// Refuses weights of which a binding does not hold the smallest part.
pub(crate) fn check(g: &Graph, max_binding: u64) -> Result<()> {
    (0..g.weights.len()).try_for_each(|i| rows_of_parts(g, WeightId(i as u32), max_binding).map(drop))
}

/// Rows of each part: as many as a binding holds, and the same for the two halves of a gated linear unit.
fn rows_of_parts(g: &Graph, w: WeightId, max_binding: u64) -> Result<usize> {
    let halves = g.nodes.iter().find_map(|n| match &n.op {
        Op::FusedMatMul(p) if matches!(p.post, Post::Glu(_)) && p.parts.iter().any(|p| p.w == w) => Some(&p.parts[..]),
        _ => None,
    });
    let together = || halves.unwrap_or_default().iter().map(|p| p.w).chain([w]).map(|w| g.weight(w));
    let row_bytes = together().map(Weight::row_bytes).max().unwrap_or(0);
    let behind = together().map(|w| grid(w).len()).max().unwrap_or(0) as u64 + SLACK;
    let room = usize::try_from(max_binding.saturating_sub(behind + 16)).unwrap_or(usize::MAX);
    let most = room / row_bytes.max(1);
    // Parts begin with a tile.
    let in_tiles = most < g.weight(w).rows && together().any(|w| repack::fields(w.dtype).is_some());
    let most = if in_tiles { most / TILE * TILE } else { most };
    if most == 0 {
        bail!(
            OutOfMemory,
            "{TILE} rows of weight `{}` with {row_bytes} bytes each are more than the GPU can bind",
            g.weight(w).name
        );
    }
    let blended = || g.nodes.iter().any(|n| matches!(n.op, Op::Blend { w: table, .. } if table == w));
    if most < g.weight(w).rows && blended() {
        bail!(
            OutOfMemory,
            "weight `{}` is larger than the {max_binding} bytes that the GPU can bind",
            g.weight(w).name
        );
    }
    Ok(most)
}

/// Rows, rounded up to whole tiles.
fn tiled(dtype: DType, rows: usize) -> usize {
    if repack::fields(dtype).is_some() { rows.next_multiple_of(TILE) } else { rows }
}

fn grid(w: &Weight) -> &'static [u8] {
    bytemuck::cast_slice(quant::grid(w.dtype).unwrap_or_default())
}

/// Allocates the parts of a weight. The grid of its type follows the rows of each part, at the next whole word.
fn split(gpu: &Gpu, w: &Weight, most: usize) -> Result<Vec<Part>> {
    let (row_bytes, grid) = (w.row_bytes(), grid(w));
    let mut parts = Vec::new();
    for row0 in (0..w.rows).step_by(most) {
        let rows = most.min(w.rows - row0);
        let len = rows * row_bytes;
        let end = (tiled(w.dtype, rows) * row_bytes).next_multiple_of(4) as u64;
        let buffer = gpu.storage(&w.name, end + grid.len() as u64 + SLACK)?;
        if !grid.is_empty() {
            gpu.queue.write_buffer(&buffer, end, grid);
        }
        parts.push(Part { buffer, row0, rows, start: row0 * row_bytes, len });
    }
    Ok(parts)
}
