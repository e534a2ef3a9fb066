//! K-quants: blocks of 256 values in groups of 16 or 32, each group with a small integer scale (and perhaps a minimum),
//! which one or two f16 per block turn into real ones.

use super::blocks::{each_block, half, part};

/// 16 bytes of group scale (low nibble) and minimum (high nibble), 64 bytes of 2-bit values, `d`, `dmin` f16. Groups of
/// 16. Each half of the block has 32 bytes; bit pair j of them holds values 32j..32j + 32 of the half.
pub(super) fn q2_k(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 84], y: &mut [f32; 256]| {
        let (scales, d, dmin) = (part::<16>(b, 0), half(b, 80), half(b, 82));
        for (i, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (qs, shift) = (part::<32>(b, 16 + i / 4 * 32), i % 4 * 2);
            for g in 0..2 {
                let s = scales[i * 2 + g];
                let (dl, ml) = (d * f32::from(s & 15), dmin * f32::from(s >> 4));
                for l in g * 16..g * 16 + 16 {
                    y[l] = dl * f32::from(qs[l] >> shift & 3) - ml;
                }
            }
        }
    });
}

/// 32 bytes of third bits (bit i of byte l for value 32i + l; a clear one means minus 4), 64 bytes of 2-bit values as in
/// Q2_K, 12 bytes of 6-bit group scales, `d` f16. Groups of 16.
pub(super) fn q3_k(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 110], y: &mut [f32; 256]| {
        let (high, scales, d) = (part::<32>(b, 0), q3_scales(part(b, 96)), half(b, 108));
        for (i, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (qs, shift) = (part::<32>(b, 32 + i / 4 * 32), i % 4 * 2);
            for g in 0..2 {
                let dl = d * f32::from(scales[i * 2 + g]);
                for l in g * 16..g * 16 + 16 {
                    let q = (qs[l] >> shift & 3 | (high[l] >> i & 1) << 2) as i8 - 4;
                    y[l] = dl * f32::from(q);
                }
            }
        }
    });
}

/// Scale i: its low four bits lie in the nibbles of bytes 0..8 (low halves first), its high two in bytes 8..12.
#[inline(always)]
pub(super) fn q3_scales(s: &[u8; 12]) -> [i8; 16] {
    std::array::from_fn(|i| {
        let low = s[i % 8] >> (i / 8 * 4) & 15;
        let high = s[8 + i % 4] >> (i / 4 * 2) & 3;
        (low | high << 4) as i8 - 32
    })
}

/// `d`, `dmin` f16, 12 bytes of 6-bit scales and minima, 128 bytes of nibbles. Groups of 32: each 32 bytes hold one
/// group in their low halves and the next in their high halves.
pub(super) fn q4_k(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 144], y: &mut [f32; 256]| {
        let (d, dmin, groups) = (half(b, 0), half(b, 2), scales_and_mins(part(b, 4)));
        for (i, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (qs, shift) = (part::<32>(b, 16 + i / 2 * 32), i % 2 * 4);
            let (dl, ml) = (d * f32::from(groups[i].0), dmin * f32::from(groups[i].1));
            for l in 0..32 {
                y[l] = dl * f32::from(qs[l] >> shift & 15) - ml;
            }
        }
    });
}

/// As Q4_K, with 32 bytes of fifth bits before the nibbles: bit i of byte l for value l of group i.
pub(super) fn q5_k(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 176], y: &mut [f32; 256]| {
        let (d, dmin, groups, high) = (half(b, 0), half(b, 2), scales_and_mins(part(b, 4)), part::<32>(b, 16));
        for (i, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (qs, shift) = (part::<32>(b, 48 + i / 2 * 32), i % 2 * 4);
            let (dl, ml) = (d * f32::from(groups[i].0), dmin * f32::from(groups[i].1));
            for l in 0..32 {
                let q = qs[l] >> shift & 15 | (high[l] >> i & 1) << 4;
                y[l] = dl * f32::from(q) - ml;
            }
        }
    });
}

/// Eight pairs of 6 bits: the first four whole in bytes 0..4 (scales) and 4..8 (minima); of the last four the low bits
/// in the nibbles of bytes 8..12, the high ones on top of the first four.
#[inline(always)]
pub(super) fn scales_and_mins(s: &[u8; 12]) -> [(u8, u8); 8] {
    std::array::from_fn(|i| match i {
        0..4 => (s[i] & 63, s[i + 4] & 63),
        _ => (s[i + 4] & 15 | s[i - 4] >> 6 << 4, s[i + 4] >> 4 | s[i] >> 6 << 4),
    })
}

/// 128 bytes of low nibbles, 64 of high bit pairs, 16 signed group scales, `d` f16. Groups of 16. Each half of the
/// block has 64 bytes of nibbles (low halves first) and 32 of pairs: value 32j + l of the half has pair j of byte l.
pub(super) fn q6_k(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 210], y: &mut [f32; 256]| {
        let (scales, d) = (part::<16>(b, 192), half(b, 208));
        for (i, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (h, j) = (i / 4, i % 4);
            let (low, high) = (part::<32>(b, h * 64 + j % 2 * 32), part::<32>(b, 128 + h * 32));
            for g in 0..2 {
                let dl = d * f32::from(scales[i * 2 + g] as i8);
                for l in g * 16..g * 16 + 16 {
                    let q = (low[l] >> (j / 2 * 4) & 15 | (high[l] >> (j * 2) & 3) << 4) as i8 - 32;
                    y[l] = dl * f32::from(q);
                }
            }
        }
    });
}
