//! Fuses norms into the fused matmuls that read them.

use super::edit::Edit;
use super::matmul::as_fused;
use crate::graph::fused::{Post, Pre};
use crate::graph::ir::{Dim, Graph, ValueId};
use crate::graph::op::Op;
use crate::graph::rules::FuseRules;

/// A norm of whole rows that only fused matmuls read. The head keeps its norm where the rules say so.
pub(super) fn norms(g: Graph, rules: &FuseRules) -> Graph {
    let mut e = Edit::new(g);
    for i in 0..e.g.nodes.len() {
        let Op::RmsNorm { x, w, eps } = e.g.nodes[i].op else { continue };
        let normed = ValueId(i as u32);
        if e.g.weight(w).cols != e.cols(x) || (e.g.shape(x).rows == Dim::Outputs && !rules.head_norm) {
            continue;
        }
        let projects: Option<Vec<_>> = (e.readers(normed).iter())
            .map(|&r| {
                let p = as_fused(&e.g, &e.g.nodes[r].op, rules)?;
                (p.x == normed && p.pre == Pre::None && !other_uses(&e.g.nodes[r].op, normed)).then_some((r, p))
            })
            .collect();
        for (r, mut p) in projects.into_iter().flatten() {
            (p.x, p.pre) = (x, Pre::Norm { w, eps });
            e.set(r, Op::FusedMatMul(Box::new(p)));
        }
    }
    e.finish()
}

/// `act(gate) * rms_norm(x)` that only one fused matmul reads.
pub(super) fn gated_norms(g: Graph, rules: &FuseRules) -> Graph {
    let mut e = Edit::new(g);
    for i in 0..e.g.nodes.len() {
        let Op::Glu { gate, up, act } = e.g.nodes[i].op else { continue };
        let (v, &Op::RmsNorm { x, w, eps }) = (ValueId(i as u32), e.op(up)) else { continue };
        // Factors are applied by vectors.
        if !e.only_reader(up) || !e.only_reader(v) || !e.g.weight(w).cols.is_multiple_of(rules.vector) {
            continue;
        }
        let r = e.readers(v)[0];
        let Some(mut p) = as_fused(&e.g, &e.g.nodes[r].op, rules) else { continue };
        if p.x == v && p.pre == Pre::None && p.experts.is_none() && !matches!(p.post, Post::Glu(_)) {
            (p.x, p.pre) = (x, Pre::GatedNorm { w, eps, gate, act });
            e.set(r, Op::FusedMatMul(Box::new(p)));
        }
    }
    e.finish()
}

/// Whether the op reads a value more than once.
fn other_uses(op: &Op, v: ValueId) -> bool {
    op.operands().filter(|x| *x == v).count() > 1
}
