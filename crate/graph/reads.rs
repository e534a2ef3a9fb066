//! How many bytes of packed weights a step reads.

use super::ir::{Dim, Entry};
use super::op::Op;
use super::plan::Plan;

/// What the ops of a part read of weights. Each matrix is read once, however many rows a step has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WeightReads {
    /// Bytes that every step reads.
    whole: usize,
    /// Those that only a step with rows of logits reads.
    outputs: usize,
    /// Those of a token: rows of embeddings.
    token: usize,
    experts: Vec<Experts>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Experts {
    /// Bytes of one.
    bytes: usize,
    /// How many a token uses, and how many there are.
    used: usize,
    all: usize,
}

impl WeightReads {
    /// Bytes of a step with so many tokens and rows of logits. Tokens count as if no two chose the same expert, until all
    /// are read.
    pub fn bytes(&self, tokens: usize, outputs: usize) -> u64 {
        let experts = self.experts.iter().map(|e| e.bytes * (e.used * tokens).min(e.all)).sum::<usize>();
        let outputs = if outputs > 0 { self.outputs } else { 0 };
        (self.whole + outputs + self.token * tokens + experts) as u64
    }
}

impl Plan {
    /// What the steps of a part read of weights; nothing where the model has no such part.
    pub fn weight_reads(&self, entry: Entry) -> WeightReads {
        let g = &self.graph;
        let mut reads = WeightReads::default();
        for node in g.part(entry).into_iter().flat_map(|p| &g.nodes[p.nodes]) {
            let all = || node.op.weights().map(|w| g.weight(w).bytes()).sum::<usize>();
            match node.op {
                Op::Embed { w, .. } => reads.token += g.weight(w).row_bytes(),
                Op::Blend { w, x, all: false } => reads.token += g.shape(x).cols / 2 * g.weight(w).row_bytes(),
                // A row of the route is the expert numbers and then their shares.
                Op::MoeMatMul { w, route, n_expert, .. } => reads.experts.push(Experts {
                    bytes: g.weight(w).bytes() / n_expert,
                    used: g.shape(route).cols / 2,
                    all: n_expert,
                }),
                Op::MatMul { w, rows, .. } if node.shape.is_some_and(|s| s.rows == Dim::Outputs) => {
                    reads.outputs += rows * g.weight(w).row_bytes();
                }
                _ if node.shape.is_some_and(|s| s.rows == Dim::Outputs) => reads.outputs += all(),
                _ => reads.whole += all(),
            }
        }
        reads
    }
}
