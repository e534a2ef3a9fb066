//! The angles of rotary embeddings, as fractions of a turn.

use crate::dtype::DType;
use crate::graph::Rope;

/// Angle i of position 1 for each pair, as a 64-bit fraction of a turn: low word, high word.
///
/// Whole turns do not matter, so the product with a position may overflow, and keeps its low digits at any position.
pub fn turns(r: &Rope, freqs: Option<&[f32]>) -> Vec<[u32; 2]> {
    let turn = |i: usize| {
        let angle = f64::from(r.scale) * f64::from(r.base).powf(-2.0 * i as f64 / r.n_rot as f64);
        let angle = angle / freqs.map_or(1.0, |f| f64::from(f[i]));
        let turns = (angle / std::f64::consts::TAU).rem_euclid(1.0);
        let fixed = (turns * 2f64.powi(64)) as u64;
        [fixed as u32, (fixed >> 32) as u32]
    };
    (0..r.n_rot / 2).map(turn).collect()
}

/// The values of a weight that is not quantised; `None` for other types.
pub fn values(dtype: DType, bytes: &[u8]) -> Option<Vec<f32>> {
    let f32s = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    let pair = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
    Some(match dtype {
        DType::F32 => bytes.chunks_exact(4).map(f32s).collect(),
        DType::F16 => bytes.chunks_exact(2).map(|b| half::f16::from_bits(pair(b)).to_f32()).collect(),
        DType::BF16 => bytes.chunks_exact(2).map(|b| half::bf16::from_bits(pair(b)).to_f32()).collect(),
        _ => return None,
    })
}
