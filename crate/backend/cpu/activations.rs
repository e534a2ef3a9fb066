//! Activations as int8, with a scale per 32 of them.

use super::lanes::Isa;
use super::pool::Pool;
use crate::quant::{self, Q8_COLS};

/// 32 columns of a row, and the sums that kernels take offsets and minima with: of both halves, then of all.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub(super) struct Block {
    pub q: [i8; Q8_COLS],
    pub d: f32,
    /// Of `q`, times `d`.
    pub scaled: [f32; 3],
    /// Of `q`.
    pub sums: [i16; 3],
    /// Of the magnitudes of those in `q` that are negative.
    pub negative: [i16; 3],
    _rest: f32,
}

/// Blocks for one thread at a time: below it a second one costs more than it brings.
const GRAIN: usize = 512;

/// Turns all rows of `x` into blocks, whose number tells how many.
pub(super) fn quantize(pool: &Pool, isa: Isa, x: &[f32], blocks: &mut [Block]) {
    let n = blocks.len();
    pool.tiles(blocks, n, (1, GRAIN), |mut tile, _| {
        let x = &x[tile.cols.start * Q8_COLS..tile.cols.end * Q8_COLS];
        isa.wide(
            #[inline(always)]
            || {
                for (x, b) in x.as_chunks().0.iter().zip(tile.row(0)) {
                    b.d = quant::q8(x, &mut b.q);
                    let half = |h: usize| b.q[h * 16..][..16].iter().map(|&q| i16::from(q));
                    let (low, high) = (half(0).sum::<i16>(), half(1).sum::<i16>());
                    b.sums = [low, high, low + high];
                    b.scaled = b.sums.map(|s| b.d * f32::from(s));
                    let negative = |h: usize| half(h).map(|q| (-q).max(0)).sum::<i16>();
                    let (low, high) = (negative(0), negative(1));
                    b.negative = [low, high, low + high];
                }
            },
        );
    });
}
