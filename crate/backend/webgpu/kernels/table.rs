//! Small buffers that the host computes from weights: which of them a node reads, and their content.

use crate::graph::{Graph, Op, Pre, Rope, WeightId, norm_add_before};

/// The content of a table. Ops with the same table share it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Table {
    /// The angles of a rotary embedding, as fractions of a turn.
    Turns(Rope),
    /// The values of some weights one after another as f32, each aligned to four values.
    Values(Vec<WeightId>),
}

impl Table {
    /// The tables that node `i` reads.
    pub(crate) fn of(g: &Graph, i: usize) -> Vec<Self> {
        match &g.nodes[i].op {
            Op::Rope { rope, .. } => vec![Table::Turns(*rope)],
            Op::LayerNorm { w, b, .. } => vec![Table::Values(vec![*w, *b])],
            Op::DeltaRule { a, dt, .. } => vec![Table::Values(vec![*a, *dt])],
            Op::RopeStore(p) => {
                let norms = p.norms.map(|n| Table::Values(n.to_vec()));
                [Table::Turns(p.rope)].into_iter().chain(norms).collect()
            }
            Op::FusedMatMul(p) => {
                let norm = match p.pre {
                    Pre::None => None,
                    Pre::Norm { w, .. } | Pre::GatedNorm { w, .. } => Some(w),
                };
                let added = norm_add_before(g, i).map(|sum| sum.w);
                let all: Vec<_> = norm.into_iter().chain(added).chain(p.parts.iter().filter_map(|p| p.bias)).collect();
                if all.is_empty() { Vec::new() } else { vec![Table::Values(all)] }
            }
            _ => Vec::new(),
        }
    }

    /// Where the values of a weight start.
    pub(crate) fn at(&self, g: &Graph, w: WeightId) -> Option<usize> {
        let Table::Values(all) = self else { return None };
        let before = all.iter().take_while(|x| **x != w);
        all.contains(&w).then(|| before.map(|w| g.weight(*w).cols.next_multiple_of(4)).sum())
    }

    pub(crate) fn bytes(&self, g: &Graph) -> u64 {
        match self {
            Table::Turns(rope) => rope.n_rot as u64 * 4,
            Table::Values(all) => all.iter().map(|w| g.weight(*w).cols.next_multiple_of(4) as u64 * 4).sum(),
        }
    }

    pub(crate) fn weights(&self) -> Vec<WeightId> {
        match self {
            Table::Turns(rope) => rope.freqs.into_iter().collect(),
            Table::Values(all) => all.clone(),
        }
    }
}
