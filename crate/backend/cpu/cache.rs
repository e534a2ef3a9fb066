//! The keys or the values of past tokens, in blocks from which attention reads 16 values at once.
//!
//! A block holds [`BLOCK`] positions of one head. Keys are column-major, all positions of a column side by side, so
//! that the scores of 16 keys are computed together; values are row-major, all columns of a position side by side.

use super::lanes::{Ints, Isa};
use super::memory::zeros;
use crate::backend::{BLOCK, KvType, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Graph, Op};
use crate::quant::f16_to_f32;

/// The most blocks that are allocated at once.
const CHUNK: usize = 8;

/// Values that share a scale of q8_0.
const SCALED: usize = 32;

/// Whether the rows are keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Keys,
    Values,
}

/// The layout of one head's rows in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub kind: KvType,
    pub role: Role,
    pub d_head: usize,
}

impl Layout {
    /// Values that lie side by side: a multiple of 16, whole registers.
    pub(super) fn width(self) -> usize {
        match self.role {
            Role::Keys => BLOCK,
            Role::Values => self.d_head.next_multiple_of(16),
        }
    }

    /// The number of rows of that width.
    pub(super) fn rows(self) -> usize {
        match self.role {
            Role::Keys => self.d_head,
            Role::Values => BLOCK,
        }
    }

    fn values(self) -> usize {
        self.rows() * self.width()
    }

    /// Scales of q8_0 in a block: for each position, one per 32 columns.
    fn scales(self) -> usize {
        BLOCK * self.d_head.div_ceil(SCALED)
    }

    /// Bytes of a block.
    fn bytes(self) -> usize {
        match self.kind {
            KvType::F32 => 4 * self.values(),
            KvType::F16 => 2 * self.values(),
            KvType::Q8_0 => self.values() + 2 * self.scales(),
        }
    }

    /// Where the value of a position and a column lies.
    #[inline(always)]
    fn at(self, slot: usize, col: usize) -> usize {
        match self.role {
            Role::Keys => col * BLOCK + slot,
            Role::Values => slot * self.width() + col,
        }
    }

    /// Where the scale of a position and a group of columns lies.
    #[inline(always)]
    fn scale_at(self, slot: usize, group: usize) -> usize {
        match self.role {
            Role::Keys => group * BLOCK + slot,
            Role::Values => slot * self.d_head.div_ceil(SCALED) + group,
        }
    }
}

/// All rows of a state, in chunks of `[block, head, ...]`.
pub(super) struct Cache {
    pub layout: Layout,
    n_head: usize,
    /// Blocks of a chunk.
    chunk: usize,
    /// Words, so that f32 is aligned.
    chunks: Vec<Vec<u32>>,
}

/// The rows of one sequence.
#[derive(Clone, Copy)]
pub(super) struct Paged<'a> {
    pub cache: &'a Cache,
    /// Which block holds positions `BLOCK * i` and on.
    pub blocks: &'a [u32],
}

impl<'a> Paged<'a> {
    /// The rows of a head at positions `BLOCK * i` and on.
    #[inline(always)]
    pub(super) fn block(self, i: usize, head: usize) -> &'a [u8] {
        let len = self.cache.layout.bytes();
        &self.cache.block(self.blocks[i] as usize)[head * len..][..len]
    }
}

impl Cache {
    /// Without room yet, for up to `blocks` blocks of `n_head` heads.
    pub(super) fn new(layout: Layout, n_head: usize, blocks: usize) -> Self {
        Self { layout, n_head, chunk: blocks.clamp(1, CHUNK), chunks: Vec::new() }
    }

    /// Makes room for blocks below `n`. Fails if there is not enough memory.
    pub(super) fn reserve(&mut self, n: usize) -> Result<()> {
        while self.chunks.len() * self.chunk < n {
            self.chunks.push(zeros(self.chunk * self.block_bytes() / 4)?);
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        self.chunks.iter().map(|c| size_of_val(&**c)).sum()
    }

    /// Bytes of a block of all heads.
    pub(super) fn block_bytes(&self) -> usize {
        self.n_head * self.layout.bytes()
    }

    /// A block of all heads.
    #[inline(always)]
    pub(super) fn block(&self, block: usize) -> &[u8] {
        let len = self.block_bytes();
        &bytemuck::cast_slice(&self.chunks[block / self.chunk])[block % self.chunk * len..][..len]
    }

    pub(super) fn block_mut(&mut self, block: usize) -> &mut [u8] {
        let len = self.block_bytes();
        &mut bytemuck::cast_slice_mut(&mut self.chunks[block / self.chunk])[block % self.chunk * len..][..len]
    }

    /// Stores rows `x` [tokens, n_head * d_head] at a position of a sequence and those after it.
    pub(super) fn store(&mut self, isa: Isa, blocks: &[u32], pos: usize, x: &[f32]) {
        let Layout { kind, d_head: d, .. } = self.layout;
        let (layout, len, cols) = (self.layout, self.layout.bytes(), self.n_head * d);
        let mut done = 0;
        while done * cols < x.len() {
            let first = (pos + done) % BLOCK;
            let x = &x[done * cols..];
            let x = &x[..x.len().min((BLOCK - first) * cols)];
            let memory = self.block_mut(blocks[(pos + done) / BLOCK] as usize);
            isa.wide(
                #[inline(always)]
                || {
                    for (slot, x) in (first..).zip(x.chunks_exact(cols)) {
                        for (x, block) in x.chunks_exact(d).zip(memory.chunks_exact_mut(len)) {
                            match kind {
                                KvType::F32 => put_f32(layout, slot, x, bytemuck::cast_slice_mut(block)),
                                KvType::F16 => put_f16(layout, slot, x, bytemuck::cast_slice_mut(block)),
                                KvType::Q8_0 => put_q8_0(layout, slot, x, block),
                            }
                        }
                    }
                },
            );
            done += x.len() / cols;
        }
    }
}

/// A cache for each state that attention reads, as keys or as values.
pub(super) fn caches(g: &Graph, limits: Limits) -> Result<Vec<Option<Cache>>> {
    let mut caches: Vec<Option<Cache>> = g.states.iter().map(|_| None).collect();
    for n in &g.nodes {
        let Op::Attention { k, v, attn, .. } = &n.op else { continue };
        for (state, role) in [(k, Role::Keys), (v, Role::Values)] {
            let blocks = limits.blocks[g.cache_kind(*state) as usize];
            let layout = Layout { kind: limits.kv, role, d_head: attn.d_head };
            match &caches[state.index()] {
                None => caches[state.index()] = Some(Cache::new(layout, attn.n_kv_head, blocks)),
                Some(other) if other.layout == layout => {}
                Some(_) => {
                    let what = "attention reads its rows as keys and as values, or in heads of two sizes";
                    return Err(Error::new(ErrorKind::InvalidArgument, what).at(&g.state(*state).name));
                }
            }
        }
    }
    Ok(caches)
}

#[inline(always)]
fn put_f32(layout: Layout, slot: usize, x: &[f32], block: &mut [f32]) {
    x.iter().enumerate().for_each(|(c, x)| block[layout.at(slot, c)] = *x);
}

#[inline(always)]
fn put_f16(layout: Layout, slot: usize, x: &[f32], block: &mut [u16]) {
    x.iter().enumerate().for_each(|(c, x)| block[layout.at(slot, c)] = f16_bits(*x));
}

#[inline(always)]
fn put_q8_0(layout: Layout, slot: usize, x: &[f32], block: &mut [u8]) {
    let (values, scales) = block.split_at_mut(layout.values());
    let scales: &mut [u16] = bytemuck::cast_slice_mut(scales);
    for (g, x) in x.chunks(SCALED).enumerate() {
        // A NaN must not be lost, so it becomes the scale.
        let most = x.iter().fold(0f32, |m, x| if x.abs() <= m { m } else { x.abs() });
        let scale = f16_bits(most / 127.0);
        scales[layout.scale_at(slot, g)] = scale;
        let scale = f16_to_f32(scale);
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        for (c, x) in x.iter().enumerate() {
            values[layout.at(slot, g * SCALED + c)] = (x * inverse).round_ties_even() as i8 as u8;
        }
    }
}

/// The nearest f16; finite values stay finite. Without branches, so that loops vectorise.
#[inline(always)]
fn f16_bits(x: f32) -> u16 {
    const MOST: u32 = 0x477f_e000; // 65504
    const LEAST_NORMAL: u32 = 0x3880_0000; // 2^-14
    let sign = x.to_bits() >> 16 & 0x8000;
    let size = x.to_bits() & 0x7fff_ffff;
    let special = 0x7c00 | if size > 0x7f80_0000 { 0x0200 } else { 0 };
    let clamped = if size > MOST { MOST } else { size };
    // The exponent's bias goes from 127 to 15; adding half of the last kept bit, less one if that bit is even, rounds.
    let normal = (clamped.wrapping_sub(112 << 23).wrapping_add(0xfff + (clamped >> 13 & 1))) >> 13;
    // At 0.5 the last bit of an f32 is worth 2^-24, like that of a subnormal f16.
    let small = (f32::from_bits(clamped) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let finite = if clamped < LEAST_NORMAL { small } else { normal };
    (sign | if size >= 0x7f80_0000 { special } else { finite }) as u16
}

/// A matrix whose values are read 16 at a time, as f32.
pub(super) trait Panel: Copy {
    /// 16 values from column `c` on, in row `i`.
    fn load<L: Ints, const C: usize>(self, i: usize, c: usize) -> [L::V; C];

    /// The values from column `c` on of each of the first `n` rows.
    #[inline(always)]
    fn each<L: Ints, const C: usize>(self, n: usize, c: usize, mut f: impl FnMut(usize, [L::V; C])) {
        for i in 0..n {
            f(i, self.load::<L, C>(i, c));
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct F32s<'a>(pub &'a [f32], pub usize);

impl Panel for F32s<'_> {
    #[inline(always)]
    fn load<L: Ints, const C: usize>(self, i: usize, c: usize) -> [L::V; C] {
        let x = &self.0[i * self.1 + c..][..16 * C].as_chunks().0[..C];
        let mut v = [L::zero(); C];
        for k in 0..C {
            v[k] = L::load(&x[k]);
        }
        v
    }

    /// Checks of bounds leave the loop: there they take as long as the products.
    #[inline(always)]
    fn each<L: Ints, const C: usize>(self, n: usize, c: usize, mut f: impl FnMut(usize, [L::V; C])) {
        for (i, x) in self.0[..n * self.1].chunks_exact(self.1).enumerate() {
            let x = &x[c..][..16 * C].as_chunks().0[..C];
            let mut v = [L::zero(); C];
            for k in 0..C {
                v[k] = L::load(&x[k]);
            }
            f(i, v);
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct F16s<'a>(&'a [u8], usize);

impl Panel for F16s<'_> {
    #[inline(always)]
    fn load<L: Ints, const C: usize>(self, i: usize, c: usize) -> [L::V; C] {
        let x = &self.0[2 * (i * self.1 + c)..][..32 * C].as_chunks().0[..C];
        let mut v = [L::zero(); C];
        for k in 0..C {
            v[k] = L::halves(&x[k]);
        }
        v
    }
}

#[derive(Clone, Copy)]
pub(super) struct Q8s<'a> {
    layout: Layout,
    values: &'a [u8],
    scales: &'a [u8],
}

impl Panel for Q8s<'_> {
    #[inline(always)]
    fn load<L: Ints, const C: usize>(self, i: usize, c: usize) -> [L::V; C] {
        let x = &self.values[i * self.layout.width() + c..][..16 * C].as_chunks().0[..C];
        let mut v = [L::zero(); C];
        for k in 0..C {
            let scale = match self.layout.role {
                Role::Keys => {
                    let at = 2 * self.layout.scale_at(c + 16 * k, i / SCALED);
                    L::halves(self.scales[at..].first_chunk().expect("a scale for each position"))
                }
                Role::Values => {
                    let at = 2 * self.layout.scale_at(i, (c + 16 * k) / SCALED);
                    let bits = self.scales[at..].first_chunk().expect("a scale for each group");
                    L::splat(f16_to_f32(u16::from_le_bytes(*bits)))
                }
            };
            v[k] = L::fma(L::signed(&x[k]), scale, L::zero());
        }
        v
    }
}

impl Layout {
    /// The rows of a block of f32.
    pub(super) fn f32s(self, block: &[u8]) -> F32s<'_> {
        F32s(bytemuck::cast_slice(block), self.width())
    }

    /// The rows of a block of f16.
    pub(super) fn f16s(self, block: &[u8]) -> F16s<'_> {
        F16s(block, self.width())
    }

    /// The rows of a block of q8_0.
    pub(super) fn q8s(self, block: &[u8]) -> Q8s<'_> {
        let (values, scales) = block.split_at(self.values());
        Q8s { layout: self, values, scales }
    }

    /// Decodes the rows of a block to f32.
    #[inline(always)]
    pub(super) fn decode<L: Ints>(self, block: &[u8], out: &mut [f32]) {
        match self.kind {
            KvType::F32 => self.copy::<L, _>(self.f32s(block), out),
            KvType::F16 => self.copy::<L, _>(self.f16s(block), out),
            KvType::Q8_0 => self.copy::<L, _>(self.q8s(block), out),
        }
    }

    #[inline(always)]
    fn copy<L: Ints, P: Panel>(self, panel: P, out: &mut [f32]) {
        let width = self.width();
        for (i, row) in out.chunks_exact_mut(width).enumerate() {
            for (c, out) in row.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                let [v] = panel.load::<L, 1>(i, 16 * c);
                *out = L::store(v);
            }
        }
    }
}
