//! The plain floats.

use super::blocks::{each_block, f16_to_f32};

pub(super) fn f32(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 4], [y]| *y = f32::from_le_bytes(*b));
}

pub(super) fn f16(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 2], [y]| *y = f16_to_f32(u16::from_le_bytes(*b)));
}

pub(super) fn bf16(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 2], [y]| *y = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16));
}
