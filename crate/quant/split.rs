//! Blocks split into integers and scales, for kernels that multiply int8; and the quantisation of activations.

use super::blocks::part;
use super::kquant::{q3_scales, scales_and_mins};
use super::legacy::five_bits;
use crate::dtype::DType;

/// Columns that share one scale of the activations.
pub const Q8_COLS: usize = 32;

/// One block, of 32 or 256 columns. Value i of group g is
/// - `d * scales[g] * (q[i] - offset)` where the type has no minima (`scales` are 1 in blocks of 32), or
/// - `d * q[i] + m` in blocks of 32, `d * scales[g] * q[i] - m * mins[g]` in blocks of 256, where it has.
///
/// with the offset that makes `q` signed again: 4 for Q3_K, 8 for Q4_0, 16 for Q5_0, 32 for Q6_K, 128 for Q8_0. Of the IQ4
/// types `q` indexes [`super::IQ4_LEVELS`].
pub struct Split {
    /// f16, little-endian.
    pub d: [u8; 2],
    /// f16, little-endian; 0 where the type has no minima.
    pub m: [u8; 2],
    /// One per group of 16 or 32 values.
    pub scales: [i8; 16],
    /// One per group, as `scales`.
    pub mins: [u8; 16],
    /// The integers, or the indices; of a block of 32 the first 32.
    pub q: [u8; 256],
}

impl Default for Split {
    fn default() -> Self {
        Self { d: [0; 2], m: [0; 2], scales: [1; 16], mins: [0; 16], q: [0; 256] }
    }
}

/// Whether [`split`] knows the type. Matrices of these types meet activations of 8 bits, where those are wanted.
pub fn splits(dtype: DType) -> bool {
    use DType::*;
    matches!(dtype, Q4_0 | Q4_1 | Q5_0 | Q5_1 | Q8_0 | IQ4_NL | Q2_K | Q3_K | Q4_K | Q5_K | Q6_K | IQ4_XS)
}

/// Takes a block apart.
///
/// # Panics
/// Where the type is none that [`splits`], or the block is too short.
pub fn split(dtype: DType, b: &[u8], s: &mut Split) {
    let two = |at: usize| *part::<2>(b, at);
    match dtype {
        DType::Q4_0 | DType::IQ4_NL => {
            s.d = two(0);
            nibbles(part(b, 2), &mut s.q);
        }
        DType::Q4_1 => {
            (s.d, s.m) = (two(0), two(2));
            nibbles(part(b, 4), &mut s.q);
        }
        DType::Q5_0 => {
            s.d = two(0);
            s.q[..32].copy_from_slice(&five_bits(*part(b, 2), part(b, 6)));
        }
        DType::Q5_1 => {
            (s.d, s.m) = (two(0), two(2));
            s.q[..32].copy_from_slice(&five_bits(*part(b, 4), part(b, 8)));
        }
        DType::Q8_0 => {
            s.d = two(0);
            s.q[..32].copy_from_slice(&part::<32>(b, 2).map(|q| q ^ 128));
        }
        DType::Q2_K => {
            (s.d, s.m) = (two(80), two(82));
            s.scales = part::<16>(b, 0).map(|v| (v & 15) as i8);
            s.mins = part::<16>(b, 0).map(|v| v >> 4);
            for i in 0..256 {
                s.q[i] = b[16 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
            }
        }
        DType::Q3_K => {
            s.d = two(108);
            s.scales = q3_scales(part(b, 96));
            for i in 0..256 {
                let low = b[32 + i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
                s.q[i] = low | (b[i % 32] >> (i / 32) & 1) << 2;
            }
        }
        DType::Q4_K | DType::Q5_K => {
            (s.d, s.m) = (two(0), two(2));
            for (g, (scale, min)) in scales_and_mins(part(b, 4)).into_iter().enumerate() {
                (s.scales[g], s.mins[g]) = (scale as i8, min);
            }
            let low = if dtype == DType::Q4_K { 16 } else { 48 };
            for i in 0..256 {
                s.q[i] = b[low + i / 64 * 32 + i % 32] >> (i / 32 % 2 * 4) & 15;
                if dtype == DType::Q5_K {
                    s.q[i] |= (b[16 + i % 32] >> (i / 32) & 1) << 4;
                }
            }
        }
        DType::Q6_K => {
            s.d = two(208);
            s.scales = part::<16>(b, 192).map(|v| v as i8);
            for i in 0..256 {
                let (half, j, l) = (i / 128, i / 32 % 4, i % 32);
                let low = b[half * 64 + j % 2 * 32 + l] >> (j / 2 * 4) & 15;
                s.q[i] = low | (b[128 + half * 32 + l] >> (j * 2) & 3) << 4;
            }
        }
        DType::IQ4_XS => {
            s.d = two(0);
            let high = u16::from_le_bytes(two(2));
            for (i, q) in s.q.as_chunks_mut::<32>().0.iter_mut().enumerate() {
                let low = b[4 + i / 2] >> (i % 2 * 4) & 15;
                s.scales[i] = (low | ((high >> (2 * i) & 3) as u8) << 4) as i8 - 32;
                nibbles(part(b, 8 + i * 16), q);
            }
        }
        _ => panic!("blocks of {dtype} are not integers times a scale"),
    }
}

fn nibbles(qs: &[u8; 16], q: &mut [u8]) {
    for j in 0..16 {
        (q[j], q[j + 16]) = (qs[j] & 15, qs[j] >> 4);
    }
}

/// Activations as int8: `x[i]` is about `d * q[i]`, with `d` the largest size over 127. Ties go to even.
/// What is not finite makes `d` so, and with it every product.
#[inline(always)]
pub fn q8(x: &[f32; Q8_COLS], q: &mut [i8; Q8_COLS]) -> f32 {
    // The bits of sizes are in the order of the sizes, with infinity and then NaN at the end.
    let largest = x.iter().fold(0, |m, v| (v.to_bits() & 0x7fff_ffff).max(m));
    let d = f32::from_bits(largest) / 127.0;
    let inverse = if d >= f32::MIN_POSITIVE { 1.0 / d } else { 0.0 };
    // Adding 1.5 * 2^23 rounds to an integer, which then is the low bits.
    const ROUND: f32 = 12_582_912.0;
    for i in 0..Q8_COLS {
        q[i] = (x[i] * inverse + ROUND).to_bits() as i8;
    }
    d
}

/// What [`q8`] leaves of activations: a second term for those that must be more precise.
#[inline(always)]
pub fn q8_rest(x: &[f32; Q8_COLS], q: &[i8; Q8_COLS], d: f32) -> [f32; Q8_COLS] {
    let mut rest = *x;
    for i in 0..Q8_COLS {
        rest[i] -= d * f32::from(q[i]);
    }
    rest
}
