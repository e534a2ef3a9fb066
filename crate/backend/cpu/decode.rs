//! Decodes packed rows to f32 with SIMD, for the most common types; the others go through `quant`.
//!
//! The values are the same to the last bit: the products of a scale and a small integer are exact in f32, so fusing
//! them with the sum changes nothing. Written with [`Lanes`] and not as plain loops, because the compiler would
//! vectorise those over blocks, with scattered stores.

use super::lanes::{Chunk, Ints, Isa, Job, Lanes};
use crate::dtype::DType;
use crate::quant::{self, BlockFormat};

/// A packed matrix [rows, cols].
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub dtype: DType,
    pub bytes: &'a [u8],
    pub cols: usize,
}

impl Matrix<'_> {
    pub(super) fn row_bytes(&self) -> usize {
        self.dtype.row_bytes(self.cols).expect("`prepare` refuses rows that are not whole blocks")
    }

    /// Decodes rows from `first` on, as many as `out` holds.
    #[inline(always)]
    pub(super) fn decode<L: Lanes>(&self, first: usize, out: &mut [f32]) {
        let rows = out.len() / self.cols;
        let bytes = &self.bytes[first * self.row_bytes()..][..rows * self.row_bytes()];
        decode::<L>(self.dtype, bytes, out);
    }
}

/// Row `row` of a matrix.
pub(super) fn decode_row(isa: Isa, w: Matrix<'_>, row: usize, out: &mut [f32]) {
    isa.run(Row { w, row, out });
}

struct Row<'a> {
    w: Matrix<'a>,
    row: usize,
    out: &'a mut [f32],
}

impl Job for Row<'_> {
    type Out = ();

    #[inline(always)]
    fn run<L: Ints>(self) {
        self.w.decode::<L>(self.row, self.out);
    }
}

/// A loop, not a function that takes a function: calls through `Fn` are not compiled with the wide instructions.
macro_rules! each {
    ($f:ident, $bytes:expr, $out:expr) => {
        for (block, values) in $bytes.as_chunks().0.iter().zip($out.as_chunks_mut().0) {
            $f::<L>(block, values);
        }
    };
}

/// Whole blocks, exactly as many as `out` has room for.
#[inline(always)]
fn decode<L: Lanes>(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        DType::Q4_0 => each!(q4_0, bytes, out),
        DType::Q4_1 => each!(q4_1, bytes, out),
        DType::Q5_0 => each!(q5_0, bytes, out),
        DType::Q5_1 => each!(q5_1, bytes, out),
        DType::Q8_0 => each!(q8_0, bytes, out),
        DType::Q4_K => each!(q4_k, bytes, out),
        DType::Q6_K => each!(q6_k, bytes, out),
        _ => BlockFormat::of(dtype).expect("`prepare` asked `decodable`").decode(bytes, out),
    }
}

#[inline(always)]
fn half(block: &[u8], at: usize) -> f32 {
    quant::f16_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

#[inline(always)]
fn bytes16(block: &[u8], at: usize) -> &[u8; 16] {
    block[at..].first_chunk().expect("the part lies in the block")
}

/// Stores `q * d + m` at `at`.
#[inline(always)]
fn put<L: Lanes>(y: &mut [f32], at: usize, q: L::V, d: f32, m: f32) {
    let place: &mut Chunk = y[at..].first_chunk_mut().expect("the part lies in the block");
    *place = L::store(L::fma(q, L::splat(d), L::splat(m)));
}

#[inline(always)]
fn q4_0<L: Lanes>(b: &[u8; 18], y: &mut [f32; 32]) {
    let (d, (low, high)) = (half(b, 0), L::nibbles(bytes16(b, 2)));
    put::<L>(y, 0, low, d, -8.0 * d);
    put::<L>(y, 16, high, d, -8.0 * d);
}

#[inline(always)]
fn q4_1<L: Lanes>(b: &[u8; 20], y: &mut [f32; 32]) {
    let (d, m, (low, high)) = (half(b, 0), half(b, 2), L::nibbles(bytes16(b, 4)));
    put::<L>(y, 0, low, d, m);
    put::<L>(y, 16, high, d, m);
}

#[inline(always)]
fn q5_0<L: Lanes>(b: &[u8; 22], y: &mut [f32; 32]) {
    let d = half(b, 0);
    let (low, high) = five_bits(b, 2);
    put::<L>(y, 0, L::unsigned(&low), d, -16.0 * d);
    put::<L>(y, 16, L::unsigned(&high), d, -16.0 * d);
}

#[inline(always)]
fn q5_1<L: Lanes>(b: &[u8; 24], y: &mut [f32; 32]) {
    let (d, m) = (half(b, 0), half(b, 2));
    let (low, high) = five_bits(b, 4);
    put::<L>(y, 0, L::unsigned(&low), d, m);
    put::<L>(y, 16, L::unsigned(&high), d, m);
}

/// The word of fifth bits at `at`, and the nibbles after it.
#[inline(always)]
fn five_bits(b: &[u8], at: usize) -> ([u8; 16], [u8; 16]) {
    let fifth = u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
    let (nibbles, mut low, mut high) = (bytes16(b, at + 4), [0; 16], [0; 16]);
    for j in 0..16 {
        low[j] = nibbles[j] & 15 | ((fifth >> j & 1) << 4) as u8;
        high[j] = nibbles[j] >> 4 | ((fifth >> (j + 16) & 1) << 4) as u8;
    }
    (low, high)
}

#[inline(always)]
fn q8_0<L: Lanes>(b: &[u8; 34], y: &mut [f32; 32]) {
    let d = half(b, 0);
    put::<L>(y, 0, L::signed(bytes16(b, 2)), d, 0.0);
    put::<L>(y, 16, L::signed(bytes16(b, 18)), d, 0.0);
}

/// Groups 2i and 2i + 1 are the low and high nibbles of the same 32 bytes. Of the 12 bytes of scales and minima, the
/// low six bits of the first eight are those of groups 0 to 3; the last four hold the low nibbles of the others, whose
/// high bits are the top two bits of the first eight.
#[inline(always)]
fn q4_k<L: Lanes>(b: &[u8; 144], y: &mut [f32; 256]) {
    let (d, dmin, s) = (half(b, 0), half(b, 2), &b[4..16]);
    let mut group = [(0.0, 0.0); 8];
    for i in 0..4 {
        let (scale, min) = (s[i + 8] & 15 | s[i] >> 6 << 4, s[i + 8] >> 4 | s[i + 4] >> 6 << 4);
        group[i] = (d * f32::from(s[i] & 63), -(dmin * f32::from(s[i + 4] & 63)));
        group[i + 4] = (d * f32::from(scale), -(dmin * f32::from(min)));
    }
    for i in 0..4 {
        for part in 0..2 {
            let (low, high) = L::nibbles(bytes16(b, 16 + i * 32 + part * 16));
            put::<L>(y, i * 64 + part * 16, low, group[2 * i].0, group[2 * i].1);
            put::<L>(y, i * 64 + 32 + part * 16, high, group[2 * i + 1].0, group[2 * i + 1].1);
        }
    }
}

/// Each half of the block has 64 bytes of low nibbles and 32 bytes of bit pairs: value 32j + l has pair j of byte l.
#[inline(always)]
fn q6_k<L: Lanes>(b: &[u8; 210], y: &mut [f32; 256]) {
    let d = half(b, 208);
    for i in 0..16 {
        let (h, j, part) = (i / 8, i % 8 / 2, i % 2 * 16);
        let (low, high) = (bytes16(b, h * 64 + j % 2 * 32 + part), bytes16(b, 128 + h * 32 + part));
        let mut q = [0; 16];
        for l in 0..16 {
            q[l] = low[l] >> (j / 2 * 4) & 15 | (high[l] >> (j * 2) & 3) << 4;
        }
        let d = d * f32::from(b[192 + i] as i8);
        put::<L>(y, i * 16, L::unsigned(&q), d, -32.0 * d);
    }
}
