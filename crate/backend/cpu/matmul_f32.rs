//! `y = W x` with packed W: a few rows at a time are decoded to f32 and multiplied with all tokens of the step.
//!
//! The dot product of a row and a token is the same sequence of operations whatever the other rows and tokens are, so a
//! token's result does not depend on how the prompt is split into steps.

use super::decode::Matrix;
use super::lanes::{Chunk, Ints, Isa, Job, Lanes};
use super::pool::{Groups, Pool, Tile};

/// Bytes of decoded rows that are kept for all tokens: half of a core's usual share of the second-level cache.
const DECODED: usize = 128 << 10;

/// Rows of length `k` that are decoded together if there are many tokens.
fn group(k: usize) -> usize {
    (DECODED / 4 / k).next_multiple_of(4).clamp(4, 64)
}

/// The scratch that a worker needs for rows of length `k`.
pub(super) fn scratch_len(k: usize) -> usize {
    group(k) * k
}

/// `y` [tokens, rows] from `x` [tokens, cols].
pub(super) fn matmul_f32(pool: &Pool, isa: Isa, w: Matrix<'_>, x: &[f32], y: &mut [f32]) {
    let tokens = x.len() / w.cols;
    if tokens == 0 {
        return;
    }
    let rows = y.len() / tokens;
    pool.tiles(y, rows, (tokens, grain(pool, rows)), |tile, worker| {
        let scratch = &mut *pool.scratch(worker);
        isa.run(Part { w, x, shared: 1, tile, scratch });
    });
}

/// With one of the matrices that lie one after another in `w`: row r of `y` is row r / `shared` of `x` times the matrix of
/// its group.
pub(super) fn matmul_f32_each(
    pool: &Pool,
    isa: Isa,
    w: Matrix<'_>,
    (x, shared): (&[f32], usize),
    groups: &Groups,
    y: &mut [f32],
) {
    if y.is_empty() {
        return;
    }
    let rows = y.len() / groups.rows();
    let len = rows * w.row_bytes();
    pool.groups(y, rows, groups, grain(pool, rows * groups.len()), |tile, group, worker| {
        let scratch = &mut *pool.scratch(worker);
        let w = Matrix { bytes: &w.bytes[group * len..][..len], ..w };
        isa.run(Part { w, x, shared, tile, scratch });
    });
}

/// Rows of W of a tile.
fn grain(pool: &Pool, rows: usize) -> usize {
    (rows / (pool.threads() * 4)).next_multiple_of(4).clamp(4, 64)
}

/// Some rows of W times all rows of x that it has.
struct Part<'a> {
    w: Matrix<'a>,
    x: &'a [f32],
    /// Rows of y for each row of x.
    shared: usize,
    tile: Tile<'a>,
    scratch: &'a mut Vec<f32>,
}

impl Job for Part<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Ints>(self) {
        let Part { w, x, shared, mut tile, scratch } = self;
        let x = (x, shared);
        let k = w.cols;
        let group = if tile.rows.len() > 4 { group(k) } else { 4 };
        let mut first = tile.cols.start;
        while first < tile.cols.end {
            let n = group.min(tile.cols.end - first);
            let decoded = &mut scratch[..n * k];
            w.decode::<L>(first, decoded);
            let at = first - tile.cols.start;
            if L::ROOMY {
                group_times_tokens::<L, 4, 4>(decoded, x, k, &mut tile, at);
            } else {
                group_times_tokens::<L, 2, 3>(decoded, x, k, &mut tile, at);
            }
            first += n;
        }
    }
}

/// Decoded rows [n, k] times all tokens, R rows and T tokens at a time: `R * T` sums stay in registers.
#[inline(always)]
fn group_times_tokens<L: Lanes, const R: usize, const T: usize>(
    w: &[f32],
    x: (&[f32], usize),
    k: usize,
    tile: &mut Tile<'_>,
    at: usize,
) {
    let tokens = tile.rows.clone();
    let whole = tokens.end - tokens.len() % T;
    for t in (tokens.start..whole).step_by(T) {
        rows_times_tokens::<L, R, T>(w, x, k, tile, at, t);
    }
    for t in whole..tokens.end {
        rows_times_tokens::<L, 4, 1>(w, x, k, tile, at, t);
    }
}

/// Decoded rows times the T tokens from `t` on.
#[inline(always)]
fn rows_times_tokens<L: Lanes, const R: usize, const T: usize>(
    w: &[f32],
    x: (&[f32], usize),
    k: usize,
    tile: &mut Tile<'_>,
    at: usize,
    t: usize,
) {
    let n = w.len() / k;
    let (x, shared) = x;
    let x: [&[f32]; T] = std::array::from_fn(|i| &x[tile.at(t + i) / shared * k..][..k]);
    let whole = n / R * R;
    for r in (0..whole).step_by(R) {
        let rows: [&[f32]; R] = std::array::from_fn(|i| &w[(r + i) * k..][..k]);
        put(tile, t, at + r, dots::<L, R, T>(rows, x));
    }
    for r in whole..n {
        put(tile, t, at + r, dots::<L, 1, T>([&w[r * k..][..k]], x));
    }
}

#[inline(always)]
fn put<const R: usize, const T: usize>(tile: &mut Tile<'_>, t: usize, at: usize, sums: [[f32; T]; R]) {
    for i in 0..T {
        let y = &mut tile.row(t + i)[at..at + R];
        y.iter_mut().zip(&sums).for_each(|(y, row)| *y = row[i]);
    }
}

/// All dot products of R rows and T tokens.
#[inline(always)]
pub(super) fn dots<L: Lanes, const R: usize, const T: usize>(w: [&[f32]; R], x: [&[f32]; T]) -> [[f32; T]; R] {
    let n = x[0].len() / 16;
    let mut wc: [&[Chunk]; R] = [&[]; R];
    let mut xc: [&[Chunk]; T] = [&[]; T];
    for r in 0..R {
        wc[r] = &w[r].as_chunks().0[..n];
    }
    for t in 0..T {
        xc[t] = &x[t].as_chunks().0[..n];
    }
    let mut acc = [[L::zero(); T]; R];
    for i in 0..n {
        let mut xs = [L::zero(); T];
        for t in 0..T {
            xs[t] = L::load(&xc[t][i]);
        }
        for r in 0..R {
            let ws = L::load(&wc[r][i]);
            for t in 0..T {
                acc[r][t] = L::fma(ws, xs[t], acc[r][t]);
            }
        }
    }
    let mut sums = [[0.0; T]; R];
    for r in 0..R {
        for t in 0..T {
            sums[r][t] = L::sum(acc[r][t]);
            for i in n * 16..x[t].len() {
                sums[r][t] = L::fma1(w[r][i], x[t][i], sums[r][t]);
            }
        }
    }
    sums
}
