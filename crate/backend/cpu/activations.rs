//! Activations as int8, with a scale per 32 columns.

use super::lanes::Isa;
use super::pool::Pool;
use crate::quant::{self, Q8_COLS};

/// 32 columns of a row, and the sums that kernels need for offsets and minima: of each half, then of the whole.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
pub(super) struct Block {
    pub q: [i8; Q8_COLS],
    pub d: f32,
    /// Sums of `q`, times `d`.
    pub scaled: [f32; 3],
    /// Sums of `q`.
    pub sums: [i16; 3],
    /// Sums of the magnitudes of the negative values of `q`.
    pub negative: [i16; 3],
    _rest: f32,
}

/// Blocks per thread at a time: with fewer a second thread costs more than it gains.
const GRAIN: usize = 512;

/// Quantises `x`, all rows as one, into `blocks`, whose length is the number of blocks.
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
