//! Blocks of 32 values with one scale (`d`) and perhaps one minimum (`m`), both f16; and Q1_0 (128 signs) and Q2_0
//! (64 levels), which have a scale only.
//!
//! Nibbles: byte j holds value j in its low half and value j + 16 in its high half. A fifth bit, where there is one, is
//! bit j of a word for value j.

use super::blocks::{each_block, half, part};

/// `d` f16, 16 bytes of nibbles: `(q - 8) * d`.
pub(super) fn q4_0(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 18], y: &mut [f32; 32]| {
        let (d, qs) = (half(b, 0), part::<16>(b, 2));
        for j in 0..16 {
            y[j] = (i32::from(qs[j] & 15) - 8) as f32 * d;
            y[j + 16] = (i32::from(qs[j] >> 4) - 8) as f32 * d;
        }
    });
}

/// `d`, `m` f16, 16 bytes of nibbles: `q * d + m`.
pub(super) fn q4_1(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 20], y: &mut [f32; 32]| {
        let (d, m, qs) = (half(b, 0), half(b, 2), part::<16>(b, 4));
        for j in 0..16 {
            y[j] = f32::from(qs[j] & 15) * d + m;
            y[j + 16] = f32::from(qs[j] >> 4) * d + m;
        }
    });
}

/// `d` f16, the fifth bits u32, 16 bytes of nibbles: `(q - 16) * d`.
pub(super) fn q5_0(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 22], y: &mut [f32; 32]| {
        let d = half(b, 0);
        let q = five_bits(*part(b, 2), part(b, 6));
        for (y, q) in y.iter_mut().zip(q) {
            *y = (i32::from(q) - 16) as f32 * d;
        }
    });
}

/// `d`, `m` f16, the fifth bits u32, 16 bytes of nibbles: `q * d + m`.
pub(super) fn q5_1(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 24], y: &mut [f32; 32]| {
        let (d, m) = (half(b, 0), half(b, 2));
        let q = five_bits(*part(b, 4), part(b, 8));
        for (y, q) in y.iter_mut().zip(q) {
            *y = f32::from(q) * d + m;
        }
    });
}

#[inline(always)]
pub(super) fn five_bits(high: [u8; 4], qs: &[u8; 16]) -> [u8; 32] {
    let high = u32::from_le_bytes(high);
    let mut q = [0; 32];
    for j in 0..16 {
        q[j] = qs[j] & 15 | ((high >> j & 1) << 4) as u8;
        q[j + 16] = qs[j] >> 4 | ((high >> (j + 16) & 1) << 4) as u8;
    }
    q
}

/// `d` f16, 32 signed bytes: `q * d`.
pub(super) fn q8_0(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 34], y: &mut [f32; 32]| {
        let (d, qs) = (half(b, 0), part::<32>(b, 2));
        for j in 0..32 {
            y[j] = f32::from(qs[j] as i8) * d;
        }
    });
}

/// `d` f16, 128 bits, lowest first: `d` where the bit is set, else `-d`.
pub(super) fn q1_0(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 18], y: &mut [f32; 128]| {
        let (d, qs) = (half(b, 0), part::<16>(b, 2));
        for (y, bits) in y.as_chunks_mut::<8>().0.iter_mut().zip(qs) {
            for (j, y) in y.iter_mut().enumerate() {
                *y = (i32::from(bits >> j & 1) * 2 - 1) as f32 * d;
            }
        }
    });
}

/// `d` f16, 64 values of 2 bits, lowest first: `(q - 1) * d`.
pub(super) fn q2_0(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 18], y: &mut [f32; 64]| {
        let (d, qs) = (half(b, 0), part::<16>(b, 2));
        for (y, pairs) in y.as_chunks_mut::<4>().0.iter_mut().zip(qs) {
            for (j, y) in y.iter_mut().enumerate() {
                *y = (i32::from(pairs >> (2 * j) & 3) - 1) as f32 * d;
            }
        }
    });
}
