//! Four bits that index a table of sixteen levels, denser around zero.

use super::blocks::{each_block, half, part};

/// Levels of the IQ4 types.
pub const LEVELS: [f32; 16] =
    [-127.0, -104.0, -83.0, -65.0, -49.0, -35.0, -22.0, -10.0, 1.0, 13.0, 25.0, 38.0, 53.0, 69.0, 89.0, 113.0];

/// `d` f16, 16 bytes of nibbles as in Q4_0: `LEVELS[q] * d`.
pub(super) fn iq4_nl(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 18], y: &mut [f32; 32]| levels(half(b, 0), part(b, 2), y));
}

/// `d` f16, the high bit pairs of the eight group scales u16, their low nibbles in 4 bytes, 128 bytes of nibbles. Each
/// group of 32 is laid out as in IQ4_NL, with the scale `(s - 32) * d`.
pub(super) fn iq4_xs(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 136], y: &mut [f32; 256]| {
        let (d, high, low) = (half(b, 0), u16::from_le_bytes(*part(b, 2)), part::<4>(b, 4));
        for (i, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let s = i32::from(low[i / 2] >> (i % 2 * 4) & 15) | i32::from(high >> (2 * i) & 3) << 4;
            levels(d * (s - 32) as f32, part(b, 8 + i * 16), y);
        }
    });
}

#[inline(always)]
fn levels(d: f32, qs: &[u8; 16], y: &mut [f32; 32]) {
    for j in 0..16 {
        y[j] = d * LEVELS[usize::from(qs[j] & 15)];
        y[j + 16] = d * LEVELS[usize::from(qs[j] >> 4)];
    }
}
