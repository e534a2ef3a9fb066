//! IQ1, IQ2 and IQ3: eight values at a time are one point of a grid of eight dimensions, or two of a grid of four. A
//! block of 256 stores the numbers of its points, a scale for each group of 16 or 32 values, and for IQ2 and IQ3 the
//! signs, as bits that are set for negative values.

use super::blocks::{each_block, f16_to_f32, half, part};
use super::grids::{IQ1_S, IQ2_S, IQ2_XS, IQ2_XXS, IQ3_S, IQ3_XXS};
use crate::dtype::DType;

/// The points of the grid of a type: levels as digits from the lowest bit on, eight of two bits (IQ1, IQ2) or four of
/// three bits (IQ3). `None` for types without a grid.
pub fn grid(dtype: DType) -> Option<&'static [u16]> {
    Some(match dtype {
        DType::IQ2_XXS => &IQ2_XXS,
        DType::IQ2_XS => &IQ2_XS,
        DType::IQ2_S => &IQ2_S,
        DType::IQ3_XXS => &IQ3_XXS,
        DType::IQ3_S => &IQ3_S,
        DType::IQ1_S | DType::IQ1_M => &IQ1_S,
        _ => return None,
    })
}

/// `d` f16, then for each group of 32: four bytes of point numbers, and a word of four sign codes of seven bits with
/// the scale `s` above: `(0.5 + s) * d / 4`.
pub(super) fn iq2_xxs(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 66], y: &mut [f32; 256]| {
        let d = half(b, 0);
        for (i, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (qs, s) = (part::<4>(b, 2 + i * 8), u32::from_le_bytes(*part(b, 6 + i * 8)));
            let d = d * (0.5 + (s >> 28) as f32) * 0.25;
            for (j, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                two(IQ2_XXS[usize::from(qs[j])], even(s >> (7 * j)), d, y);
            }
        }
    });
}

/// `d` f16, for each eight values a u16 of nine bits of point number and seven of sign code, 8 bytes of scales: a
/// nibble `s` for each 16 values, `(0.5 + s) * d / 4`.
pub(super) fn iq2_xs(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 74], y: &mut [f32; 256]| {
        let (d, scales) = (half(b, 0), part::<8>(b, 66));
        for (i, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let q = u16::from_le_bytes(*part(b, 2 + i * 2));
            let d = d * (0.5 + f32::from(nibble(scales, i / 2))) * 0.25;
            two(IQ2_XS[usize::from(q & 511)], even(u32::from(q >> 9)), d, y);
        }
    });
}

/// `d` f16, for each eight values a byte of point number and then a byte of signs, 8 bytes with two high bits of each
/// point number, 8 bytes of scales as in IQ2_XS.
pub(super) fn iq2_s(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 82], y: &mut [f32; 256]| {
        let (d, qs, signs) = (half(b, 0), part::<32>(b, 2), part::<32>(b, 34));
        let (high, scales) = (part::<8>(b, 66), part::<8>(b, 74));
        for (i, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let q = usize::from(qs[i]) | usize::from(high[i / 4] >> (i % 4 * 2) & 3) << 8;
            let d = d * (0.5 + f32::from(nibble(scales, i / 2))) * 0.25;
            two(IQ2_S[q], signs[i], d, y);
        }
    });
}

/// `d` f16, a byte of point number for each four values, and for each group of 32 a word of sign codes and scale as in
/// IQ2_XXS: `(0.5 + s) * d / 2`. The levels are 4, 12, 20 … 52 and 62.
pub(super) fn iq3_xxs(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 98], y: &mut [f32; 256]| {
        let (d, qs) = (half(b, 0), part::<64>(b, 2));
        for (i, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let s = u32::from_le_bytes(*part(b, 66 + i / 4 * 4));
            let d = d * (0.5 + (s >> 28) as f32) * 0.5;
            let points = [qs[i * 2], qs[i * 2 + 1]].map(|q| IQ3_XXS[usize::from(q)]);
            three(points, |q| 8 * q + 4 + (q + 1) / 8 * 2, even(s >> (i % 4 * 7)), d, y);
        }
    });
}

/// `d` f16, a byte of point number for each four values, 8 bytes with the ninth bits of these numbers, a byte of signs
/// for each eight values, 4 bytes of scales: a nibble `s` for each 32 values, `(1 + 2s) * d`. The levels are
/// 1, 3, 5 … 15.
pub(super) fn iq3_s(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 110], y: &mut [f32; 256]| {
        let (d, qs, high) = (half(b, 0), part::<64>(b, 2), part::<8>(b, 66));
        let (signs, scales) = (part::<32>(b, 74), part::<4>(b, 106));
        for (i, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let d = d * f32::from(1 + 2 * nibble(scales, i / 4));
            let points = [i * 2, i * 2 + 1].map(|j| {
                let high = usize::from(high[j / 8] >> (j % 8) & 1);
                IQ3_S[usize::from(qs[j]) | high << 8]
            });
            three(points, |q| 2 * q + 1, signs[i], d, y);
        }
    });
}

/// `d` f16, a byte of point number for each eight values, and for each group of 32 a u16: three high bits of its four
/// point numbers, three bits of scale `s`, and a bit that moves its values down by an eighth instead of up:
/// `(point ± 1/8) * (2s + 1) * d`.
pub(super) fn iq1_s(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 50], y: &mut [f32; 256]| {
        let (d, qs) = (half(b, 0), part::<32>(b, 2));
        for (i, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let h = u16::from_le_bytes(*part(b, 34 + i / 4 * 2));
            let d = d * f32::from(2 * (h >> 12 & 7) + 1);
            let q = usize::from(qs[i]) | usize::from(h >> (i % 4 * 3) & 7) << 8;
            one(IQ1_S[q], h & 0x8000 != 0, d, y);
        }
    });
}

/// A byte of point number for each eight values, a nibble for each eight values (three high bits of the point number,
/// and the bit that moves them down as in IQ1_S), and four u16: each holds four scales of three bits, for 16 values
/// each, and a nibble of `d`, lowest first.
pub(super) fn iq1_m(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 56], y: &mut [f32; 256]| {
        let (qs, high) = (part::<32>(b, 0), part::<16>(b, 32));
        let scales: [u16; 4] = std::array::from_fn(|i| u16::from_le_bytes(*part(b, 48 + i * 2)));
        let d = f16_to_f32((0..4).fold(0, |d, i| d | (scales[i] >> 12) << (4 * i)));
        for (i, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let d = d * f32::from(2 * (scales[i / 8] >> (i / 2 % 4 * 3) & 7) + 1);
            let h = nibble(high, i);
            one(IQ1_S[usize::from(qs[i]) | usize::from(h & 7) << 8], h & 8 != 0, d, y);
        }
    });
}

/// Seven signs from the low bits of a code; the eighth makes the number of negative values even.
#[inline(always)]
fn even(code: u32) -> u8 {
    let s = code & 127;
    (s | (s.count_ones() & 1) << 7) as u8
}

/// Nibble i, the low one of each byte first.
#[inline(always)]
fn nibble(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 2] >> (i % 2 * 4) & 15
}

/// `d` or, where the sign bit is set, `-d`.
#[inline(always)]
fn signed(d: f32, signs: u8, i: usize) -> f32 {
    f32::from_bits(d.to_bits() ^ u32::from(signs >> i & 1) << 31)
}

/// Levels -1, 0 and 1, and an eighth down or up.
#[inline(always)]
fn one(point: u16, down: bool, d: f32, y: &mut [f32; 8]) {
    let shift = if down { -1.125 } else { -0.875 };
    for (i, y) in y.iter_mut().enumerate() {
        *y = d * (f32::from(point >> (2 * i) & 3) + shift);
    }
}

/// Levels 8, 25 and 43. Computed and not looked up, here and in `three`: that becomes vector code.
#[inline(always)]
fn two(point: u16, signs: u8, d: f32, y: &mut [f32; 8]) {
    for (i, y) in y.iter_mut().enumerate() {
        let q = point >> (2 * i) & 3;
        *y = signed(d, signs, i) * f32::from(17 * q + 8 + q / 2);
    }
}

#[inline(always)]
fn three(points: [u16; 2], level: impl Fn(u16) -> u16, signs: u8, d: f32, y: &mut [f32; 8]) {
    for (i, y) in y.iter_mut().enumerate() {
        *y = signed(d, signs, i) * f32::from(level(points[i / 4] >> (i % 4 * 3) & 7));
    }
}
