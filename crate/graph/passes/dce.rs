//! Dead code elimination.

use crate::graph::ir::{Graph, Node, ValueId};

/// Removes nodes whose value nothing reads. Effects stay, and so do their operands.
///
/// ```text
/// before: %1 = rms_norm %0 a      after: %1 = rms_norm %0 b
///         %2 = rms_norm %0 b             output %1
///         output %2
/// ```
pub fn dce(g: Graph) -> Graph {
    let mut live = vec![false; g.nodes.len()];
    g.parts().for_each(|p| live[p.output.index()] = true);
    for (i, node) in g.nodes.iter().enumerate().rev() {
        if live[i] || node.op.is_effect() {
            live[i] = true;
            node.op.operands().for_each(|x| live[x.index()] = true);
        }
    }
    let mut new_id = vec![ValueId(0); g.nodes.len()];
    let mut nodes: Vec<Node> = Vec::with_capacity(g.nodes.len());
    for (i, mut node) in g.nodes.into_iter().enumerate().filter(|(i, _)| live[*i]) {
        new_id[i] = ValueId(nodes.len() as u32);
        node.op.map_operands(|v| *v = new_id[v.index()]);
        nodes.push(node);
    }
    let new = |v: ValueId| new_id[v.index()];
    let (given, output, mtp) = (g.given.map(new), new(g.output), g.mtp.map(new));
    Graph { given, output, mtp, nodes, weights: g.weights, states: g.states }
}
