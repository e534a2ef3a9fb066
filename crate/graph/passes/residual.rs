//! Fuses residual sums into the fused matmul before them.

use super::edit::Edit;
use super::matmul::as_fused;
use crate::graph::fused::{FusedMatMul, Post};
use crate::graph::ir::{Graph, ValueId};
use crate::graph::op::Op;
use crate::graph::rules::FuseRules;

/// The fused matmul adds its result to the residual stream; where a norm comes between them, the norm does.
pub(super) fn sums(g: Graph, rules: &FuseRules) -> Graph {
    let mut e = Edit::new(g);
    // Outer sums first: they say what inner ones become.
    for i in (0..e.g.nodes.len()).rev() {
        let Op::Add { a, b } = e.g.nodes[i].op else { continue };
        // a + (b1 + b2) where b1 is a fused matmul, and b2 may be: (a + b1) + b2, the inner sum in place of b1 + b2.
        if let &Op::Add { a: b1, b: b2 } = e.op(b)
            && e.only_reader(b)
            && a < b
            && let (Some(first), last) = (summand(&e, b1, rules), summand(&e, b2, rules))
        {
            e.set(b.index(), add(a, first));
            e.set(i, last.map_or(Op::Add { a: b, b: b2 }, |last| add(b, last)));
        } else if let Some(last) = summand(&e, b, rules) {
            e.set(i, add(a, last));
        } else if let &Op::RmsNorm { x: y, w, eps } = e.op(b)
            && e.only_reader(b)
            && e.g.weight(w).cols == e.cols(y)
        {
            e.set(i, Op::NormAdd { x: a, y, w, eps });
        }
    }
    e.finish()
}

fn add(to: ValueId, (mut p, gate): (FusedMatMul, Option<ValueId>)) -> Op {
    p.post = Post::Add { to, gate };
    Op::FusedMatMul(Box::new(p))
}

/// A fused matmul that only a sum reads, the sum over its experts, or either behind a gate of one column.
fn summand(e: &Edit, v: ValueId, rules: &FuseRules) -> Option<(FusedMatMul, Option<ValueId>)> {
    if !e.only_reader(v) {
        return None;
    }
    match *e.op(v) {
        Op::SigmoidGate { x, gate } if e.cols(gate) == 1 => {
            summand(e, x, rules).filter(|(p, _)| p.experts.is_none()).map(|(p, _)| (p, Some(gate)))
        }
        Op::MoeSum { x, route } if e.only_reader(x) => {
            let p = as_fused(&e.g, e.op(x), rules)?;
            (p.experts.is_some_and(|x| x.route == route) && plain(&p)).then_some((p, None))
        }
        _ => as_fused(&e.g, e.op(v), rules).filter(|p| p.experts.is_none() && plain(p)).map(|p| (p, None)),
    }
}

fn plain(p: &FusedMatMul) -> bool {
    p.post == Post::None && p.parts.len() == 1
}
