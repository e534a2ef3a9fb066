//! The simple formats back from f32: for tests, for made-up models and for values that change type at load.
//!
//! Each value goes to the nearest level of its block; no search for better scales.

use half::{bf16, f16};

use crate::bail;
use crate::dtype::DType;
use crate::error::Result;

/// Whether [`encode`] knows the type.
pub fn encodable(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16 | DType::Q8_0 | DType::Q4_0 | DType::Q4_1)
}

/// Encodes whole blocks. The errors are a type that cannot be encoded, and a length that is not a multiple of the block.
pub fn encode(dtype: DType, values: &[f32]) -> Result<Vec<u8>> {
    let Some(len) = dtype.row_bytes(values.len()) else {
        bail!(InvalidArgument, "{} values are not a multiple of the block size of {dtype}", values.len());
    };
    let mut out = Vec::with_capacity(len);
    match dtype {
        DType::F32 => out.extend(values.iter().flat_map(|v| v.to_le_bytes())),
        DType::F16 => out.extend(values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes())),
        DType::BF16 => out.extend(values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes())),
        DType::Q8_0 => values.as_chunks().0.iter().for_each(|x| q8_0(x, &mut out)),
        DType::Q4_0 => values.as_chunks().0.iter().for_each(|x| q4_0(x, &mut out)),
        DType::Q4_1 => values.as_chunks().0.iter().for_each(|x| q4_1(x, &mut out)),
        _ => bail!(UnsupportedType, "values cannot be encoded as {dtype}"),
    }
    Ok(out)
}

fn q8_0(x: &[f32; 32], out: &mut Vec<u8>) {
    let most = x.iter().fold(0.0f32, |a, v| a.max(v.abs()));
    let inverse = scale(most / 127.0, out);
    out.extend(x.map(|v| (v * inverse).round_ties_even().clamp(-127.0, 127.0) as i8 as u8));
}

/// The levels reach from -8 to 7: the value of largest size takes the -8.
fn q4_0(x: &[f32; 32], out: &mut Vec<u8>) {
    let most = x.iter().fold(0.0f32, |a, v| if v.abs() > a.abs() { *v } else { a });
    let inverse = scale(most / -8.0, out);
    nibbles(x.map(|v| (v * inverse).round_ties_even() + 8.0), out);
}

fn q4_1(x: &[f32; 32], out: &mut Vec<u8>) {
    let (low, high) = x.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    let inverse = scale((high - low) / 15.0, out);
    let m = f16::from_f32(low);
    out.extend(m.to_le_bytes());
    nibbles(x.map(|v| ((v - m.to_f32()) * inverse).round_ties_even()), out);
}

/// Writes `d` as f16; returns the inverse of what will be read (0 for 0).
fn scale(d: f32, out: &mut Vec<u8>) -> f32 {
    let d = f16::from_f32(d);
    out.extend(d.to_le_bytes());
    let d = d.to_f32();
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

fn nibbles(q: [f32; 32], out: &mut Vec<u8>) {
    let q = q.map(|v| v.clamp(0.0, 15.0) as u8);
    out.extend((0..16).map(|j| q[j] | q[j + 16] << 4));
}
