//! The invariants of a graph, checked when it is built and after each pass.

use super::infer::infer;
use super::ir::{Dim, Entry, Graph, ValueId};
use super::op::Op;

/// Says what is wrong, or nothing:
///
/// * operands are made before they are read, and are values, not effects;
/// * weights and states are declared;
/// * each shape is what `infer` says;
/// * attention reads only states that the same step has stored to, and loads read only what some step stores;
/// * the parts of the graph share states but no values, and the block for multi-token prediction has no recurrent ones;
/// * the output of each part has one row for each wanted output.
pub fn verify(g: &Graph) -> Result<(), String> {
    let trunk = g.given.map_or(0, |v| v.index() + 1);
    let mtp = g.part(Entry::Mtp).map_or(g.nodes.len(), |p| p.nodes.start);
    let mut stored = vec![None; g.states.len()]; // the first node of the part that did
    for (i, node) in g.nodes.iter().enumerate() {
        let part = [mtp, trunk, 0].into_iter().find(|start| *start <= i).unwrap_or(0);
        let at = |what: String| format!("{} ({}): {what}", ValueId(i as u32), node.op.name());
        for x in node.op.operands() {
            if x.index() < part {
                return Err(at(format!("reads {x} of another part")));
            }
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
                Some(s) => *s = Some(part),
                None => return Err(at(format!("writes {state}, which is not declared"))),
            }
        }
        match node.op {
            Op::KvLoad { state } if !stored.get(state.index()).is_some_and(Option::is_some) => {
                return Err(at(format!("reads {state}, which nothing stores")));
            }
            Op::Attention { k, v, .. } => {
                if let Some(s) = [k, v].iter().find(|s| stored.get(s.index()) != Some(&Some(part))) {
                    return Err(at(format!("reads {s} before this step's rows are stored")));
                }
            }
            ref op if part == mtp && op.recurrent_state().is_some() => {
                return Err(at("only the trunk may have recurrent states".to_string()));
            }
            _ => {}
        }
        let shape = infer(g, &node.op).map_err(at)?;
        if shape != node.shape {
            return Err(at(format!("has shape {:?}, inferred is {shape:?}", node.shape)));
        }
    }
    for part in g.parts() {
        let v = part.output;
        let shape = g.nodes.get(v.index()).and_then(|n| n.shape).filter(|_| part.nodes.contains(&v.index()));
        if !shape.is_some_and(|s| s.rows == Dim::Outputs) {
            return Err(format!("the output {v} must be a value of its part with a row for each wanted output"));
        }
    }
    Ok(())
}
