//! Small buffers that are made from weights on the host, once all weights are there.

use super::weights::Weights;
use crate::dtype::DType;
use crate::graph::{Graph, Op, Pre, Rope, WeightId};

/// What a table holds. Ops with the same table share it.
#[derive(Clone, Debug, PartialEq)]
pub enum Table {
    /// The angles of a rotary embedding, as fractions of a turn.
    Turns(Rope),
    /// The values of some weights one after another as f32, each from a multiple of four on.
    Values(Vec<WeightId>),
}

impl Table {
    /// The tables that node `i` reads.
    pub fn of(g: &Graph, i: usize) -> Vec<Self> {
        match &g.nodes[i].op {
            Op::Rope { rope, .. } => vec![Table::Turns(*rope)],
            Op::DeltaRule { a, dt, .. } => vec![Table::Values(vec![*a, *dt])],
            Op::Place(p) => {
                let norms = p.norms.map(|n| Table::Values(n.to_vec()));
                [Table::Turns(p.rope)].into_iter().chain(norms).collect()
            }
            Op::Project(p) => {
                let norm = match p.pre {
                    Pre::None => None,
                    Pre::Norm { w, .. } | Pre::GatedNorm { w, .. } => Some(w),
                };
                let added = taken_in(g, i).map(|sum| sum.w);
                let all: Vec<_> = norm.into_iter().chain(added).chain(p.parts.iter().filter_map(|p| p.bias)).collect();
                if all.is_empty() { Vec::new() } else { vec![Table::Values(all)] }
            }
            _ => Vec::new(),
        }
    }

    /// Where the values of a weight start.
    pub fn at(&self, g: &Graph, w: WeightId) -> Option<usize> {
        let Table::Values(all) = self else { return None };
        let before = all.iter().take_while(|x| **x != w);
        all.contains(&w).then(|| before.map(|w| g.weight(*w).cols.next_multiple_of(4)).sum())
    }

    pub fn bytes(&self, g: &Graph) -> u64 {
        match self {
            Table::Turns(rope) => rope.n_rot as u64 * 4,
            Table::Values(all) => all.iter().map(|w| g.weight(*w).cols.next_multiple_of(4) as u64 * 4).sum(),
        }
    }

    pub fn weights(&self) -> Vec<WeightId> {
        match self {
            Table::Turns(rope) => rope.freqs.into_iter().collect(),
            Table::Values(all) => all.clone(),
        }
    }

    /// What goes into the buffer.
    pub fn words(&self, g: &Graph, weights: &Weights) -> Vec<u32> {
        let values = |w: WeightId| values(g.weight(w).dtype, weights.host(w));
        match self {
            Table::Turns(rope) => turns(rope, rope.freqs.and_then(values).as_deref()).concat(),
            Table::Values(all) => {
                let padded = |w: &WeightId| {
                    let mut v: Vec<u32> = values(*w).unwrap_or_default().into_iter().map(f32::to_bits).collect();
                    v.resize(v.len().next_multiple_of(4), 0);
                    v
                };
                all.iter().flat_map(padded).collect()
            }
        }
    }
}

/// A sum that a projection makes along with its own work.
#[derive(Clone, Copy, Debug)]
pub struct Sum {
    pub node: usize,
    pub w: WeightId,
    pub eps: f32,
}

/// The `norm_add` whose work the projection at node `i` does: the one right before it, if that is what it norms.
pub fn taken_in(g: &Graph, i: usize) -> Option<Sum> {
    let Op::Project(p) = &g.nodes[i].op else { return None };
    let Op::NormAdd { w, eps, .. } = g.node(p.x).op else { return None };
    let normed = matches!(p.pre, Pre::Norm { .. }) && p.experts.is_none();
    (normed && p.x.index() + 1 == i).then_some(Sum { node: p.x.index(), w, eps })
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
