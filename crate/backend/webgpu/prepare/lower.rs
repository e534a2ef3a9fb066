//! From nodes to kernels: which family lowers each op.

use crate::backend::webgpu::kernels::launch::{Facts, Launch, Launches};
use crate::backend::webgpu::kernels::{attention, delta, elementwise, embed, kv, matmul, moe, norm, rope_store};
use crate::graph::{Op, ValueId};

/// The launches of node `i`, after those of the nodes before it.
pub(crate) fn node(facts: Facts<'_>, i: usize) -> Vec<Launch> {
    let g = &facts.plan.graph;
    if g.nodes[i].shape.is_some() && facts.plan.in_place(ValueId(i as u32)) {
        return Vec::new();
    }
    let mut l = Launches::new(facts, i);
    match &g.nodes[i].op {
        Op::Embed { w, scale } => embed::lower(&mut l, *w, *scale),
        Op::Blend { w, x, all } => embed::lower_blend(&mut l, *w, *x, *all),
        op @ (Op::MatMul { .. } | Op::MoeMatMul { .. } | Op::FusedMatMul(_)) => matmul::lower(&mut l, op),
        Op::RmsNorm { w, eps, .. } => norm::lower(&mut l, *w, *eps),
        Op::LayerNorm { eps, .. } => norm::lower_layer(&mut l, *eps),
        Op::NormAdd { x, y, w, eps } => norm::lower_add(&mut l, (*x, *y), *w, *eps),
        Op::L2Norm { d_head, eps, scale, .. } => norm::lower_l2(&mut l, *d_head, *eps, *scale),
        Op::Rope { rope, .. } => rope_store::lower_rope(&mut l, rope),
        Op::RopeStore(p) => rope_store::lower(&mut l, p),
        Op::KvStore { state, .. } => kv::store(&mut l, *state),
        Op::KvStoreNext { x, state } => kv::store_next(&mut l, *x, *state),
        Op::KvLoad { state } => kv::load(&mut l, *state),
        op @ Op::Attention { .. } => attention::lower(&mut l, op),
        Op::SsmConv { x, w, state } => delta::lower_conv(&mut l, *x, *w, *state),
        op @ Op::DeltaRule { .. } => delta::lower_rule(&mut l, op),
        Op::MoeRoute { x, n_used, renormalise } => moe::lower_route(&mut l, *x, *n_used, *renormalise),
        Op::MoeSum { route, .. } => moe::lower_sum(&mut l, *route),
        op @ (Op::Given { .. }
        | Op::AddBias { .. }
        | Op::Add { .. }
        | Op::Concat { .. }
        | Op::Activate { .. }
        | Op::Glu { .. }
        | Op::Softcap { .. }
        | Op::SigmoidGate { .. }
        | Op::Slice { .. }
        | Op::LastRows { .. }
        | Op::Group { .. }) => elementwise::lower(&mut l, op),
    }
    l.finish()
}
