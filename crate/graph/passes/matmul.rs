//! Fuses matrix products with the same input into one op.

use std::collections::HashMap;

use super::edit::Edit;
use crate::graph::fused::{Experts, FusedMatMul, Post, Pre, Term};
use crate::graph::infer::infer;
use crate::graph::ir::{Graph, Node, ValueId};
use crate::graph::op::Op;
use crate::graph::rules::FuseRules;

/// The fused matmul that an op is, if it may become part of a larger one.
pub(super) fn as_fused(g: &Graph, op: &Op, rules: &FuseRules) -> Option<FusedMatMul> {
    let plain = |x, w, experts| {
        let parts = vec![Term { w, bias: None }];
        g.weight(w).cols.is_multiple_of(rules.run).then_some(FusedMatMul {
            x,
            pre: Pre::None,
            parts,
            post: Post::None,
            experts,
        })
    };
    match op {
        // Kernels of fused products take whole matrices.
        Op::MatMul { w, x, rows } => plain(*x, *w, None).filter(|_| *rows == g.weight(*w).rows),
        Op::MoeMatMul { w, x, route, n_expert } => plain(*x, *w, Some(Experts { route: *route, n: *n_expert })),
        Op::FusedMatMul(p) => Some((**p).clone()),
        _ => None,
    }
}

/// `matmul` and the bias that is added to it.
pub(super) fn biases(g: Graph, rules: &FuseRules) -> Graph {
    let mut e = Edit::new(g);
    for i in 0..e.g.nodes.len() {
        let Op::AddBias { x, b } = e.g.nodes[i].op else { continue };
        let Op::MatMul { .. } = e.op(x) else { continue };
        let Some(mut p) = as_fused(&e.g, e.op(x), rules).filter(|_| e.only_reader(x)) else { continue };
        p.parts[0].bias = Some(b);
        e.set(i, Op::FusedMatMul(Box::new(p)));
    }
    e.finish()
}

/// The gate and the other half of a gated linear unit.
pub(super) fn glus(g: Graph, rules: &FuseRules) -> Graph {
    let mut e = Edit::new(g);
    for i in 0..e.g.nodes.len() {
        let Op::Glu { gate, up, act } = e.g.nodes[i].op else { continue };
        let halves = (as_fused(&e.g, e.op(gate), rules), as_fused(&e.g, e.op(up), rules));
        let (Some(mut p), Some(q)) = halves else { continue };
        let alike = p.x == q.x && p.experts == q.experts && p.post == Post::None && q.post == Post::None;
        if alike && e.only_reader(gate) && e.only_reader(up) {
            p.parts.extend(q.parts);
            p.post = Post::Glu(act);
            e.set(i, Op::FusedMatMul(Box::new(p)));
        }
    }
    e.finish()
}

/// Products with the same x, whatever their types: one fused matmul where the first was, and a slice of it for each.
pub(super) fn merge(g: Graph, rules: &FuseRules) -> Graph {
    let mut groups: HashMap<ValueId, Vec<(usize, FusedMatMul)>> = HashMap::new();
    for (i, node) in g.nodes.iter().enumerate() {
        let whole = |p: &FusedMatMul| p.post == Post::None && p.experts.is_none() && p.pre == Pre::None;
        if let Some(p) = as_fused(&g, &node.op, rules).filter(whole) {
            groups.entry(p.x).or_default().push((i, p));
        }
    }
    groups.retain(|_, members| (2..=rules.max_parts).contains(&members.len()));
    let mut new = Graph { nodes: Vec::new(), ..g.clone() };
    let push = |new: &mut Graph, op: Op, name| {
        let shape = infer(new, &op).unwrap_or_else(|e| panic!("{e}\n{new}"));
        new.nodes.push(Node { op, shape, name });
        ValueId(new.nodes.len() as u32 - 1)
    };
    let mut new_id: Vec<ValueId> = Vec::with_capacity(g.nodes.len());
    // The fused matmul of each group that was begun, and the columns of it that are given away.
    let mut begun: HashMap<ValueId, (ValueId, usize)> = HashMap::new();
    for (i, node) in g.nodes.iter().enumerate() {
        let x = node.op.operands().next();
        let group = x.and_then(|x| groups.get(&x)).filter(|members| members.iter().any(|(at, _)| *at == i));
        let mut op = node.op.clone();
        op.map_operands(|v| *v = new_id[v.index()]);
        let id = match (group, x) {
            (Some(members), Some(x)) => {
                let (from, at) = begun.entry(x).or_insert_with(|| {
                    let parts = members.iter().flat_map(|(_, p)| p.parts.clone()).collect();
                    let whole = FusedMatMul { x: new_id[x.index()], parts, ..members[0].1.clone() };
                    (push(&mut new, Op::FusedMatMul(Box::new(whole)), None), 0)
                });
                let len = g.shape(ValueId(i as u32)).cols;
                let slice = Op::Slice { x: *from, group: new.shape(*from).cols, start: *at, len };
                *at += len;
                push(&mut new, slice, node.name.clone())
            }
            _ => push(&mut new, op, node.name.clone()),
        };
        new_id.push(id);
    }
    new.output = new_id[g.output.index()];
    new.mtp = g.mtp.map(|v| new_id[v.index()]);
    new.given = g.given.map(|v| new_id[v.index()]);
    new
}
