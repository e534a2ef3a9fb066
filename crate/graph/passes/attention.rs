//! Fusions around attention.

use super::edit::Edit;
use crate::graph::fused::RopeStore;
use crate::graph::ir::{Graph, StateId, ValueId, WeightId};
use crate::graph::op::Op;
use crate::graph::rope::Rope;
use crate::graph::rules::FuseRules;

/// A gate on the result of attention becomes part of it.
pub(super) fn gates(g: Graph, _: &FuseRules) -> Graph {
    let mut e = Edit::new(g);
    for i in 0..e.g.nodes.len() {
        let Op::SigmoidGate { x, gate: by } = e.g.nodes[i].op else { continue };
        let mut op = e.op(x).clone();
        let Op::Attention { gate, .. } = &mut op else { continue };
        if gate.is_none() && e.cols(by) == e.cols(x) && e.only_reader(x) {
            *gate = Some(by);
            e.set(i, op);
        }
    }
    e.finish()
}

/// Norm, rotation and storing of what one fused matmul gave.
pub(super) fn rope_stores(g: Graph, rules: &FuseRules) -> Graph {
    let mut e = Edit::new(g);
    for i in 0..e.g.nodes.len() {
        let Op::Attention { q, k, v, .. } = e.g.nodes[i].op else { continue };
        if let Some((store, stores)) = rope_store(&e, i, (q, k, v), rules.vector) {
            let last = stores[0].max(stores[1]).max(q.index());
            let rotated = q;
            e.redirect(rotated, ValueId(last as u32));
            stores.iter().filter(|s| **s != last).for_each(|s| e.remove(*s));
            e.set(last, Op::RopeStore(Box::new(store)));
        }
    }
    e.finish()
}

/// The op that stands for the chains that lead to attention `i`, and the two stores that it replaces.
fn rope_store(
    e: &Edit,
    i: usize,
    (q, keys, values): (ValueId, StateId, StateId),
    vector: usize,
) -> Option<(RopeStore, [usize; 2])> {
    // Other parts store to the same states.
    let part = e.g.parts().map(|p| p.nodes).find(|nodes| nodes.contains(&i))?;
    let store = |state: StateId| {
        let mut stores = part.clone().filter(|n| e.g.nodes[*n].op.stores().any(|s| s == state));
        let (first, second) = (stores.next()?, stores.next());
        (second.is_none() && first < i).then_some(first)
    };
    let (of_k, of_v) = (store(keys)?, store(values)?);
    let (Op::KvStore { x: k, .. }, Op::KvStore { x: v, .. }) = (&e.g.nodes[of_k].op, &e.g.nodes[of_v].op) else {
        return None;
    };
    let (q, norm_q, rope) = chain(e, q)?;
    let (k, norm_k, rope_k) = chain(e, *k)?;
    let (norms, eps) = match (norm_q, norm_k) {
        (None, None) => (None, 0.0),
        (Some((a, e1)), Some((b, e2))) if e1 == e2 => (Some([a, b]), e1),
        _ => return None,
    };
    // All three lie in the value of one fused matmul, and are read and stored by vectors.
    let from = |v: ValueId| under(e, v, vector);
    let one = from(q).is_some() && from(q) == from(k) && from(q) == from(*v);
    if rope != rope_k || !rope.d_head.is_multiple_of(vector) || !one {
        return None;
    }
    Some((RopeStore { q, k, v: *v, norms, eps, rope, keys, values }, [of_k, of_v]))
}

/// A norm per head and its epsilon, if there is one.
type Norm = Option<(WeightId, f32)>;

/// What lies before a rotation, and before a norm per head before that.
fn chain(e: &Edit, v: ValueId) -> Option<(ValueId, Norm, Rope)> {
    let &Op::Rope { x, rope } = e.op(v) else { return None };
    if !e.only_reader(v) {
        return None;
    }
    match *e.op(x) {
        Op::RmsNorm { x: y, w, eps } if e.only_reader(x) && e.g.weight(w).cols == rope.d_head => {
            Some((y, Some((w, eps)), rope))
        }
        _ => Some((x, None, rope)),
    }
}

/// The fused matmul that a value is a slice of, with starts and lengths that are whole vectors.
fn under(e: &Edit, v: ValueId, vector: usize) -> Option<ValueId> {
    match *e.op(v) {
        Op::Slice { x, group, start, len } if [group, start, len].iter().all(|n| n.is_multiple_of(vector)) => {
            under(e, x, vector)
        }
        Op::FusedMatMul(_) => Some(v),
        _ => None,
    }
}
