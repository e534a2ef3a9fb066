//! Three levels: -d, 0 and d.

use super::blocks::{each_block, half, part};

/// 48 bytes of five ternary digits each, 4 bytes of four, `d` f16. Digit n of bytes 0..32 holds values 32n..32n + 32, of
/// bytes 32..48 values 160 + 16n.., of the last four 240 + 4n...
pub(super) fn tq1_0(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 54], y: &mut [f32; 256]| {
        let d = half(b, 52);
        digits(part::<32>(b, 0), d, &mut y[..160]);
        digits(part::<16>(b, 32), d, &mut y[160..240]);
        digits(part::<4>(b, 48), d, &mut y[240..]);
    });
}

/// A byte is a fraction of 256 in base 3: each digit is what three times the fraction carries over.
#[inline(always)]
fn digits<const N: usize>(qs: &[u8; N], d: f32, y: &mut [f32]) {
    let mut rest = *qs;
    for y in y.as_chunks_mut::<N>().0 {
        for (y, rest) in y.iter_mut().zip(&mut rest) {
            let three = u16::from(*rest) * 3;
            *y = ((three >> 8) as i16 - 1) as f32 * d;
            *rest = three as u8;
        }
    }
}

/// 64 bytes of 2-bit values, `d` f16: `(q - 1) * d`. Each half of the block has 32 bytes; bit pair j of them holds values
/// 32j..32j + 32 of the half.
pub(super) fn tq2_0(bytes: &[u8], out: &mut [f32]) {
    each_block(bytes, out, |b: &[u8; 66], y: &mut [f32; 256]| {
        let d = half(b, 64);
        for (i, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (qs, shift) = (part::<32>(b, i / 4 * 32), i % 4 * 2);
            for l in 0..32 {
                y[l] = (i32::from(qs[l] >> shift & 3) - 1) as f32 * d;
            }
        }
    });
}
