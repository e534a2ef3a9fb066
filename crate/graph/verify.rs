//! The invariants of a graph, checked when it is built and after each pass.

use super::infer::infer;
use super::ir::{Dim, Graph, ValueId};
use super::op::Op;

/// Says what is wrong, or nothing:
///
/// * operands are made before they are read, and are values, not effects;
/// * weights and states are declared;
/// * each shape is what `infer` says;
/// * attention reads only states that the same step has stored to;
/// * the output has one row for each wanted output.
pub fn verify(g: &Graph) -> Result<(), String> {
    let mut stored = vec![false; g.states.len()];
    for (i, node) in g.nodes.iter().enumerate() {
        let at = |what: String| format!("{} ({}): {what}", ValueId(i as u32), node.op.name());
        for x in node.op.operands() {
            if x.index() >= i {
                return Err(at(format!("reads {x}, which is not made yet")));
            }
            if g.node(x).shape.is_none() {
                return Err(at(format!("reads {x}, which is an effect")));
            }
        }
        if let Some(w) = node.op.weights().find(|w| w.index() >= g.weights.len()) {
            return Err(at(format!("reads {w}, which is not declared")));
        }
        for state in node.op.stores() {
            match stored.get_mut(state.index()) {
                Some(s) => *s = true,
                None => return Err(at(format!("writes {state}, which is not declared"))),
            }
        }
        if let Op::Attention { k, v, .. } = node.op
            && let Some(s) = [k, v].iter().find(|s| !stored.get(s.index()).is_some_and(|&s| s))
        {
            return Err(at(format!("reads {s} before this step's rows are stored")));
        }
        let shape = infer(g, &node.op).map_err(at)?;
        if shape != node.shape {
            return Err(at(format!("has shape {:?}, inferred is {shape:?}", node.shape)));
        }
    }
    match g.nodes.get(g.output.index()).map(|n| n.shape) {
        Some(Some(s)) if s.rows == Dim::Outputs => Ok(()),
        _ => Err(format!("the output {} must be a value with a row for each wanted output", g.output)),
    }
}
