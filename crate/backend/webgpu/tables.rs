//! Small buffers that are made from weights on the host, once all weights are there.

use super::weights::Weights;
use crate::dtype::DType;
use crate::graph::{Graph, Op, Rope, WeightId};

/// What a table holds. Ops with the same table share it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Table {
    /// The angles of a rotary embedding, as fractions of a turn.
    Turns(Rope),
    /// The `a` of each value head, and then its `dt`: one binding of the delta rule instead of two.
    Gates(WeightId, WeightId),
}

impl Table {
    /// The table that an op reads.
    pub fn of(op: &Op) -> Option<Self> {
        match *op {
            Op::Rope { rope, .. } => Some(Table::Turns(rope)),
            Op::DeltaRule { a, dt, .. } => Some(Table::Gates(a, dt)),
            _ => None,
        }
    }

    pub fn bytes(&self, g: &Graph) -> u64 {
        match self {
            Table::Turns(rope) => rope.n_rot as u64 * 4,
            Table::Gates(a, dt) => (g.weight(*a).cols + g.weight(*dt).cols) as u64 * 4,
        }
    }

    /// What goes into the buffer.
    pub fn words(&self, g: &Graph, weights: &Weights) -> Vec<u32> {
        let values = |w: WeightId| values(g.weight(w).dtype, weights.host(w));
        match self {
            Table::Turns(rope) => turns(rope, rope.freqs.and_then(values).as_deref()).concat(),
            Table::Gates(a, dt) => [a, dt].iter().filter_map(|w| values(**w)).flatten().map(f32::to_bits).collect(),
        }
    }
}

/// Angle i of position 1 for each pair, as a 64-bit fraction of a turn: low word, high word.
///
/// Whole turns do not matter, so the product with a position may overflow, and keeps its low digits at any position.
fn turns(r: &Rope, freqs: Option<&[f32]>) -> Vec<[u32; 2]> {
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
fn values(dtype: DType, bytes: &[u8]) -> Option<Vec<f32>> {
    let f32s = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
    let pair = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
    Some(match dtype {
        DType::F32 => bytes.chunks_exact(4).map(f32s).collect(),
        DType::F16 => bytes.chunks_exact(2).map(|b| half::f16::from_bits(pair(b)).to_f32()).collect(),
        DType::BF16 => bytes.chunks_exact(2).map(|b| half::bf16::from_bits(pair(b)).to_f32()).collect(),
        _ => return None,
    })
}
