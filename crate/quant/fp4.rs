//! Four-bit floats (E2M1) with a small float as the scale of a group.

use super::blocks::{each_block, part};

/// E2M1: sign, two bits of exponent, one of mantissa. The reference's table is of integers, so its zero has no sign.
const E2M1: [f32; 16] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// The scale as an E8M0 byte, 16 bytes of nibbles: byte j holds value j below and value j + 16 above.
pub(super) fn mxfp4(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 17], y: &mut [f32; 32]| {
        let (d, qs) = (e8m0(b[0]), part::<16>(b, 1));
        for j in 0..16 {
            y[j] = d * E2M1[usize::from(qs[j] & 15)];
            y[j + 16] = d * E2M1[usize::from(qs[j] >> 4)];
        }
    });
}

/// Four scales as E4M3 bytes without sign, then four groups of 8 bytes of nibbles: byte j of a group holds its value j
/// below and value j + 8 above.
pub(super) fn nvfp4(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 36], y: &mut [f32; 64]| {
        for (i, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            let (d, qs) = (ue4m3(b[i]), part::<8>(b, 4 + i * 8));
            for j in 0..8 {
                y[j] = d * E2M1[usize::from(qs[j] & 15)];
                y[j + 8] = d * E2M1[usize::from(qs[j] >> 4)];
            }
        }
    });
}

/// 2^(e - 127), a subnormal f32 for e = 0.
#[inline(always)]
fn e8m0(e: u8) -> f32 {
    f32::from_bits(if e == 0 { 1 << 22 } else { u32::from(e) << 23 })
}

/// Four bits of exponent (bias 7), three of mantissa. The NaN code counts as zero.
#[inline(always)]
fn ue4m3(x: u8) -> f32 {
    let (e, m) = (u32::from(x >> 3 & 15), u32::from(x & 7));
    if x & 0x7f == 0x7f {
        0.0
    } else if e == 0 {
        m as f32 / 512.0
    } else {
        f32::from_bits((e + 120) << 23 | m << 20)
    }
}
