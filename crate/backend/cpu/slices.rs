//! Steps that run in parts: how many nodes make one.

use std::ops::Range;

use crate::backend::{Slice, Step};
use crate::error::Result;
use crate::graph::{Graph, Op};

/// Multiply-adds of a thread in about a twentieth of a second, in a browser on an ordinary machine.
const USUAL: u64 = 200_000_000;

/// The work of a part on so many threads.
pub(super) fn usual(threads: usize) -> u64 {
    USUAL * threads as u64
}

/// The nodes of the part of a step that begins at a place: at least one, and no more than make so much work.
pub(super) fn next(g: &Graph, step: &Step<'_>, from: usize, work: u64) -> Result<(Range<usize>, Slice)> {
    let nodes = step.part(g)?.nodes;
    if from >= nodes.len() {
        crate::bail!(InvalidArgument, "a step of {} ops has no part from place {from} on", nodes.len());
    }
    let start = nodes.start + from;
    let (mut end, mut left) = (start + 1, work.saturating_sub(work_of(g, start, step)));
    while end < nodes.end {
        let Some(rest) = left.checked_sub(work_of(g, end, step)) else { break };
        (end, left) = (end + 1, rest);
    }
    Ok((start..end, Slice { next: end - nodes.start, of: nodes.len() }))
}

/// About how many multiply-adds a node takes in a step.
fn work_of(g: &Graph, node: usize, step: &Step<'_>) -> u64 {
    let node = &g.nodes[node];
    let Some(shape) = node.shape else { return 0 };
    let of_value = match &node.op {
        Op::MatMul { w, .. } => g.weight(*w).cols,
        Op::MoeMatMul { w, route, .. } => g.weight(*w).cols * (g.shape(*route).cols / 2).max(1),
        Op::Blend { x, .. } => g.shape(*x).cols,
        Op::Attention { .. } => 2 * step.keys(),
        Op::DeltaRule { delta, .. } => 4 * delta.d_head,
        _ => 1,
    };
    step.rows(shape) as u64 * shape.cols as u64 * of_value as u64
}
