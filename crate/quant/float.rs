//! The plain floats.

use super::each_block;

/// An f16, given by its bits. Branch-free, so that loops over it become vector code on every target.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    // 2^(127 - 15): what the exponent lacks once the bits stand where f32 has them. The product is exact, and it also
    // gives subnormal numbers their exponent.
    const REBIAS: f32 = f32::from_bits((127 + 127 - 15) << 23);
    let sign = u32::from(bits & 0x8000) << 16;
    let rest = u32::from(bits & 0x7fff) << 13;
    let finite = (f32::from_bits(rest) * REBIAS).to_bits();
    let special = rest | 0x7f80_0000;
    f32::from_bits(sign | if rest >= 0x7c00 << 13 { special } else { finite })
}

pub fn f32(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 4], [y]| *y = f32::from_le_bytes(*b));
}

pub fn f16(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 2], [y]| *y = f16_to_f32(u16::from_le_bytes(*b)));
}

pub fn bf16(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 2], [y]| *y = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16));
}
