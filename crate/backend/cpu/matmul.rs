//! `y = W x` with W in panels and x in int8: integer dot products, scaled per group.
//!
//! The result of a row and a token is the same sequence of operations whatever the other rows and tokens are.
//!
//! Loops fill the arrays of the inner functions: the closure of `array::from_fn` may not be inlined, and then lacks the
//! wide instructions.

use std::ops::Range;

use super::activations::{Block, Rows};
use super::arena::LINE;
use super::format::{Bits, CHUNKS, COLS, Format, PANEL, with_format};
use super::lanes::{Ints, Isa, Job};
use super::packed::Packed;
use super::pool::{Groups, Pool, Tile};

/// `y` [tokens, rows] from `x`, with the first rows of `w`, whose bytes are in `memory`.
pub(super) fn matmul(pool: &Pool, isa: Isa, (w, memory): (&Packed, &[u8]), x: Rows<'_>, y: &mut [f32]) {
    let tokens = x.len();
    if tokens == 0 {
        return;
    }
    let rows = y.len() / tokens;
    let grain = grain(pool, rows.div_ceil(PANEL));
    pool.tiles(y, rows, (tokens, grain), |tile, _| isa.run(Part { w, memory, part: 0, x, shared: 1, tile }));
}

/// Row r of `y` is row r / `shared` of `x` times the matrix of its group.
pub(super) fn matmul_each(
    pool: &Pool,
    isa: Isa,
    (w, memory): (&Packed, &[u8]),
    (x, shared): (Rows<'_>, usize),
    groups: &Groups,
    y: &mut [f32],
) {
    let grain = grain(pool, w.rows.div_ceil(PANEL) * groups.len());
    pool.groups(y, w.rows, groups, grain, |tile, part, _| isa.run(Part { w, memory, part, x, shared, tile }));
}

/// Rows of a tile: at least four tiles per thread, if there is enough work, so that a thread that joins late takes fewer.
fn grain(pool: &Pool, panels: usize) -> usize {
    (panels / (pool.threads() * 4)).clamp(1, 8) * PANEL
}

/// Bytes from weights that are read to those that are asked for: what prefetches by itself stops where a page of 4 KB ends, also
/// where memory has larger ones.
const AHEAD: usize = 4096;

/// Some panels of a matrix times all rows of x that it has.
struct Part<'a> {
    w: &'a Packed,
    memory: &'a [u8],
    part: usize,
    x: Rows<'a>,
    /// Rows of y for each row of x.
    shared: usize,
    tile: Tile<'a>,
}

impl Job for Part<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Ints>(self) {
        with_format!(self.w.dtype, F => self.panels::<L, F>()).expect("it was packed");
    }
}

impl<'a> Part<'a> {
    #[inline(always)]
    fn panels<L: Ints, F: Format>(mut self) {
        let tokens = self.tile.rows.end;
        let mut t = self.tile.rows.start;
        while t < tokens {
            // Tokens of one term or of two. There are few such runs, so that panels are rarely read again.
            let is_fine = self.x.is_fine(self.x_row(t));
            let end = (t + 1..tokens).find(|&t| self.x.is_fine(self.x_row(t)) != is_fine).unwrap_or(tokens);
            for at in self.tile.cols.clone().step_by(PANEL) {
                let panel = self.w.panel(self.memory, self.part, at / PANEL);
                self.tokens::<L, F>(panel, at, is_fine, t..end);
            }
            t = end;
        }
    }

    /// Some tokens of one term or, if they are fine, of two.
    #[inline(always)]
    fn tokens<L: Ints, F: Format>(&mut self, panel: &[u8], at: usize, is_fine: bool, mut run: Range<usize>) {
        if L::TOKENS == 8 {
            self.terms::<L, F, 8>(panel, at, is_fine, &mut run);
        }
        self.terms::<L, F, 4>(panel, at, is_fine, &mut run);
        self.terms::<L, F, 2>(panel, at, is_fine, &mut run);
        for t in run {
            let x = self.rows(t, false);
            match L::W {
                16 => self.put::<L, 1, 1>(at, 0, t, false, sums::<L, F, 1, 1>(panel, 0, x)),
                8 => self.put::<L, 2, 1>(at, 0, t, false, sums::<L, F, 2, 1>(panel, 0, x)),
                _ => self.put::<L, 4, 1>(at, 0, t, false, sums::<L, F, 4, 1>(panel, 0, x)),
            }
        }
    }

    /// Takes T terms at a time from the start of `run`, while that many are left.
    #[inline(always)]
    fn terms<L: Ints, F: Format, const T: usize>(
        &mut self,
        panel: &[u8],
        at: usize,
        is_fine: bool,
        run: &mut Range<usize>,
    ) {
        let tokens = if is_fine { T / 2 } else { T };
        while run.len() >= tokens {
            let x = self.rows(run.start, is_fine);
            for sub in 0..PANEL / L::W {
                let sums = sums::<L, F, 1, T>(panel, sub, x);
                self.put::<L, 1, T>(at, sub, run.start, is_fine, sums);
            }
            run.start += tokens;
        }
    }

    /// The row of x of token `t`.
    #[inline(always)]
    fn x_row(&self, t: usize) -> usize {
        self.tile.at(t) / self.shared
    }

    /// T terms from token `t` on. A fine token has its two one after the other.
    #[inline(always)]
    fn rows<const T: usize>(&self, t: usize, is_fine: bool) -> [&'a [Block]; T] {
        let mut rows: [&[Block]; T] = [&[]; T];
        for (i, row) in rows.iter_mut().enumerate() {
            *row = match is_fine {
                false => self.x.row(self.x_row(t + i)),
                true if i % 2 == 0 => self.x.row(self.x_row(t + i / 2)),
                true => self.x.rest(self.x_row(t + i / 2)),
            };
        }
        rows
    }

    /// Stores the results of S registers, from register `sub` on, of the panel whose first row is `at`. All indices are
    /// constants, so that sums stay in registers.
    #[inline(always)]
    fn put<L: Ints, const S: usize, const T: usize>(
        &mut self,
        at: usize,
        sub: usize,
        t: usize,
        is_fine: bool,
        sums: [[L::F; T]; S],
    ) {
        for (s, sums) in sums.iter().enumerate() {
            let from = at - self.tile.cols.start + (sub + s) * L::W;
            if is_fine {
                for i in 0..T / 2 {
                    self.store::<L>(t + i, from, L::f_fma(sums[2 * i + 1], L::f_splat(1.0), sums[2 * i]));
                }
            } else {
                for (i, &sum) in sums.iter().enumerate() {
                    self.store::<L>(t + i, from, sum);
                }
            }
        }
    }

    /// Stores W results of a token from column `from` of the tile on.
    #[inline(always)]
    fn store<L: Ints>(&mut self, t: usize, from: usize, sums: L::F) {
        let y = self.tile.row(t);
        if let Some(y) = y.get_mut(from..from + L::W) {
            L::f_store(sums, y);
        } else if let Some(y) = y.get_mut(from..) {
            let mut all = [0.0; PANEL];
            L::f_store(sums, &mut all);
            y.copy_from_slice(&all[..y.len()]);
        }
    }
}

/// All dot products of `S * W` rows of a panel, from register `sub` on, with T tokens.
#[inline(always)]
fn sums<L: Ints, F: Format, const S: usize, const T: usize>(
    panel: &[u8],
    sub: usize,
    x: [&[Block]; T],
) -> [[L::F; T]; S] {
    let mut sums = [[L::f_zero(); T]; S];
    let mut first = 0;
    for cluster in panel.chunks(F::CLUSTER) {
        let (headers, blocks) = cluster.split_at(F::HEADERS);
        // The last headers of a panel may have no blocks.
        for (header, blocks) in headers.chunks_exact(F::HEADER).zip(blocks.chunks_exact(F::BLOCKS)) {
            let mut columns = x;
            for x in &mut columns {
                *x = &x[first..first + F::SPAN / COLS];
            }
            // One token is over before its weights are here; several wait for arithmetic.
            if T == 1 {
                for line in (0..F::BLOCKS).step_by(LINE) {
                    L::prefetch(blocks.as_ptr().wrapping_add(AHEAD + line));
                }
            }
            span::<L, F, S, T>(header, blocks, sub, columns, &mut sums);
            first += F::SPAN / COLS;
        }
    }
    sums
}

/// The columns of one header.
#[inline(always)]
fn span<L: Ints, F: Format, const S: usize, const T: usize>(
    header: &[u8],
    blocks: &[u8],
    sub: usize,
    x: [&[Block]; T],
    sums: &mut [[L::F; T]; S],
) {
    let groups = COLS / F::GROUP;
    let bias = if F::Bits::WIDE { L::WIDE_BIAS - F::OFFSET } else { -F::OFFSET };
    let negative = if F::Bits::WIDE { L::WIDE_NEGATIVE } else { 0 };
    let (mut d, mut m) = ([L::f_zero(); S], [L::f_zero(); S]);
    for s in 0..S {
        let from = 2 * L::W * (sub + s);
        d[s] = L::f_halves(&header[from..]);
        if F::MIN {
            m[s] = L::f_halves(&header[2 * PANEL + from..]);
        }
    }
    for (b, block) in blocks.chunks_exact(F::Bits::BYTES).enumerate() {
        let mut xs = [&x[0][b]; T];
        for t in 1..T {
            xs[t] = &x[t][b];
        }
        for (g, s) in (0..groups * S).map(|i| (i / S, i % S)) {
            let which = if groups == 1 { 2 } else { g };
            let mut acc = [L::i_splat(0); T];
            if bias != 0 || negative != 0 {
                for t in 0..T {
                    let (sum, below) = (i32::from(xs[t].sums[which]), i32::from(xs[t].negative[which]));
                    acc[t] = L::i_splat(sum * bias + below * negative);
                }
            }
            let (first, end) = (g * CHUNKS / groups, (g + 1) * CHUNKS / groups);
            let at = 4 * L::W * (sub + s);
            if L::PAIRS {
                products::<L, F, T>(&mut acc, block, (first..first + 2, at), xs);
                for j in (first + 2..end).step_by(2) {
                    let mut more = [L::i_splat(0); T];
                    products::<L, F, T>(&mut more, block, (j..j + 2, at), xs);
                    for t in 0..T {
                        acc[t] = L::i_add(acc[t], more[t]);
                    }
                }
            } else {
                products::<L, F, T>(&mut acc, block, (first..end, at), xs);
            }
            let (scale, min) = scales::<L, F>(header, b * groups + g, sub + s, (d[s], m[s]));
            for t in 0..T {
                let sum = L::f_mul(L::i_to_f(acc[t]), scale);
                sums[s][t] = L::f_fma(sum, L::f_splat(xs[t].d), sums[s][t]);
                if F::MIN {
                    sums[s][t] = L::f_fma(min, L::f_splat(xs[t].scaled[which]), sums[s][t]);
                }
            }
        }
    }
}

/// Adds the products of some chunks, of the rows whose bytes begin at `at`.
#[inline(always)]
fn products<L: Ints, F: Format, const T: usize>(
    acc: &mut [L::I; T],
    block: &[u8],
    (chunks, at): (Range<usize>, usize),
    x: [&Block; T],
) {
    for j in chunks {
        let w = F::Bits::chunk::<L>(block, j, at);
        for t in 0..T {
            let x = *x[t].q[4 * j..].first_chunk().expect("four columns");
            acc[t] = if F::Bits::WIDE { L::dot_wide(acc[t], w, x) } else { L::dot(acc[t], w, x) };
        }
    }
}

/// Scale and minimum of group `g` of a header, for the rows of register `sub`.
#[inline(always)]
fn scales<L: Ints, F: Format>(header: &[u8], g: usize, sub: usize, (d, m): (L::F, L::F)) -> (L::F, L::F) {
    if F::GROUPS == 0 {
        return (d, m);
    }
    let small = &header[F::SMALL + g * PANEL + sub * L::W..];
    if F::SHARED {
        let (low, high) = L::f_nibbles(small);
        return (L::f_mul(d, low), L::f_mul(m, L::f_mul(L::f_splat(-1.0), high)));
    }
    let scale = if F::SIGNED { L::f_signed(small) } else { L::f_unsigned(small) };
    if !F::MIN {
        return (L::f_mul(d, scale), m);
    }
    let min = L::f_unsigned(&small[F::GROUPS * PANEL..]);
    (L::f_mul(d, scale), L::f_mul(m, L::f_mul(L::f_splat(-1.0), min)))
}
