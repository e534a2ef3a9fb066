//! Activations as int8, with a scale per 32 columns; of some rows in two such terms.

use std::ops::Range;

use super::lanes::Isa;
use super::memory::zeros;
use super::pool::Pool;
use crate::error::Result;
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

/// Rows of activations in blocks of 32 columns.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// Blocks of a row.
    per_row: usize,
    /// Rows of a token: several are those of its experts.
    of_token: usize,
    blocks: &'a [Block],
    /// What `blocks` leave, of fine rows.
    rest: &'a [Block],
    fine: &'a [bool],
}

impl<'a> Rows<'a> {
    pub(super) fn len(&self) -> usize {
        self.fine.len() * self.of_token
    }

    pub(super) fn row(&self, r: usize) -> &'a [Block] {
        &self.blocks[r * self.per_row..][..self.per_row]
    }

    /// Whether a row has a second term.
    pub(super) fn is_fine(&self, r: usize) -> bool {
        self.fine[r / self.of_token]
    }

    /// The second term of a row that has one.
    pub(super) fn rest(&self, r: usize) -> &'a [Block] {
        &self.rest[r * self.per_row..][..self.per_row]
    }

    /// Those of some tokens.
    pub(super) fn slice(&self, tokens: Range<usize>) -> Self {
        let len = self.of_token * self.per_row;
        let blocks = tokens.start * len..tokens.end * len;
        let (rest, fine) = (&self.rest[blocks.clone()], &self.fine[tokens]);
        Self { blocks: &self.blocks[blocks], rest, fine, ..*self }
    }

    /// The same values as rows for a matrix of so many columns.
    pub(super) fn of_cols(&self, cols: usize) -> Self {
        let per_row = cols / Q8_COLS;
        Self { per_row, of_token: self.of_token * self.per_row / per_row, ..*self }
    }
}

/// Room for the rows of a value.
#[derive(Default)]
pub(super) struct Quantized {
    blocks: Vec<Block>,
    rest: Vec<Block>,
    fine: Vec<bool>,
    rows: usize,
    per_row: usize,
}

impl Quantized {
    /// For so many rows, of so many blocks in all.
    pub(super) fn new(rows: usize, blocks: usize) -> Result<Self> {
        let fine = zeros(rows)?;
        Ok(Self { blocks: zeros(blocks)?, rest: zeros(blocks)?, fine, rows: 0, per_row: 0 })
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.blocks) + size_of_val(&*self.rest)
    }

    pub(super) fn rows(&self) -> Rows<'_> {
        let n = self.rows * self.per_row;
        let (blocks, rest) = (&self.blocks[..n], &self.rest[..n]);
        Rows { per_row: self.per_row, of_token: 1, blocks, rest, fine: &self.fine[..self.rows] }
    }

    /// Quantises the rows of `x`, of which `fine` says for each whether it gets a second term.
    pub(super) fn quantize(&mut self, pool: &Pool, isa: Isa, x: &[f32], fine: impl Iterator<Item = bool>) {
        self.rows = 0;
        for is_fine in fine {
            self.fine[self.rows] = is_fine;
            self.rows += 1;
        }
        self.per_row = x.len() / Q8_COLS / self.rows.max(1);
        let Self { ref mut blocks, ref mut rest, ref fine, rows, per_row } = *self;
        quantize(pool, isa, x, &mut blocks[..rows * per_row]);
        if !fine[..rows].contains(&true) {
            return;
        }
        let blocks = &*blocks;
        pool.tiles(&mut rest[..rows * per_row], per_row, (1, per_row), |mut tile, _| {
            let r = tile.rows.start;
            if fine[r] {
                let (x, blocks) = (&x[r * per_row * Q8_COLS..], &blocks[r * per_row..]);
                isa.wide(
                    #[inline(always)]
                    || {
                        for ((x, b), rest) in x.as_chunks().0.iter().zip(blocks).zip(tile.row(r)) {
                            *rest = block(&quant::q8_rest(x, &b.q, b.d));
                        }
                    },
                );
            }
        });
    }
}

/// Quantises `x`, all rows as one, into `blocks`, whose length is the number of blocks.
fn quantize(pool: &Pool, isa: Isa, x: &[f32], blocks: &mut [Block]) {
    let n = blocks.len();
    pool.tiles(blocks, n, (1, GRAIN), |mut tile, _| {
        let x = &x[tile.cols.start * Q8_COLS..tile.cols.end * Q8_COLS];
        isa.wide(
            #[inline(always)]
            || {
                for (x, b) in x.as_chunks().0.iter().zip(tile.row(0)) {
                    *b = block(x);
                }
            },
        );
    });
}

#[inline(always)]
fn block(x: &[f32; Q8_COLS]) -> Block {
    let mut b: Block = bytemuck::Zeroable::zeroed();
    b.d = quant::q8(x, &mut b.q);
    let half = |h: usize| b.q[h * 16..][..16].iter().map(|&q| i16::from(q));
    let (low, high) = (half(0).sum::<i16>(), half(1).sum::<i16>());
    b.sums = [low, high, low + high];
    b.scaled = b.sums.map(|s| b.d * f32::from(s));
    let negative = |h: usize| half(h).map(|q| (-q).max(0)).sum::<i16>();
    let (low, high) = (negative(0), negative(1));
    b.negative = [low, high, low + high];
    b
}
