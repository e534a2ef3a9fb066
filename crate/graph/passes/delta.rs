//! Fusions in gated delta nets.

use super::edit::Edit;
use crate::graph::fused::QkNorm;
use crate::graph::ir::Graph;
use crate::graph::op::Op;
use crate::graph::rules::FuseRules;

/// The delta rule norms q and k itself: its sums over a head tell the norms on the way.
pub(super) fn l2_norms(g: Graph, _: &FuseRules) -> Graph {
    let mut e = Edit::new(g);
    for i in 0..e.g.nodes.len() {
        let mut op = e.g.nodes[i].op.clone();
        let Op::DeltaRule { q, k, delta, norm, .. } = &mut op else { continue };
        let (&Op::L2Norm { x: of_q, d_head, eps, scale: q_scale }, &Op::L2Norm { x: of_k, d_head: d, eps: e2, scale }) =
            (e.op(*q), e.op(*k))
        else {
            continue;
        };
        if [d_head, d] != [delta.d_head; 2] || eps != e2 || !e.only_reader(*q) || !e.only_reader(*k) {
            continue;
        }
        (*q, *k, *norm) = (of_q, of_k, Some(QkNorm { eps, q_scale, k_scale: scale }));
        e.set(i, op);
    }
    e.finish()
}
