//! Steps that run in parts: which rows of which nodes make one.

use std::ops::Range;

use crate::backend::{Slice, Step};
use crate::error::Result;
use crate::graph::{Graph, Op};

/// Multiply-adds of a thread in about a twentieth of a second, in a browser on an ordinary machine.
const USUAL: u64 = 200_000_000;

/// A part of an op has a multiple of so many rows: they are multiplied in tiles, and share what is decoded of a matrix.
const GRAIN: u64 = 16;

/// The work of a part on so many threads.
pub(super) fn usual(threads: usize) -> u64 {
    USUAL * threads as u64
}

/// A part of a step: some nodes, of which the first may have begun and the last may not end.
pub(super) struct Piece {
    pub nodes: Range<usize>,
    /// The first row of the first node, and the row after the last one of the last node; `None` for all of it.
    first: usize,
    end: Option<usize>,
}

impl Piece {
    /// Whether it is the first one of a step that starts at a node.
    pub(super) fn is_start(&self, node: usize) -> bool {
        self.nodes.start == node && self.first == 0
    }

    /// Those of a node that has so many.
    pub(super) fn rows(&self, node: usize, all: usize) -> Range<usize> {
        let first = if node == self.nodes.start { self.first } else { 0 };
        let end = self.end.filter(|_| node + 1 == self.nodes.end);
        first..end.unwrap_or(all)
    }
}

/// The part of a step that begins at a place: no more than make so much work, but at least a node, or some rows of it.
pub(super) fn next(g: &Graph, step: &Step<'_>, from: u64, work: u64) -> Result<(Piece, Slice)> {
    let nodes = step.part(g)?.nodes;
    let (op, first) = Slice::op_and_row(from, nodes.len(), step)?;
    let start = nodes.start + op;
    if first > 0 && (!g.nodes[start].op.is_by_row() || first as u64 >= work_of(g, start, step).0) {
        crate::bail!(InvalidArgument, "op {op} of the step has no part from row {first} on");
    }
    let (mut end, mut row, mut left) = (start, first as u64, work);
    while end < nodes.end {
        let (rows, each) = work_of(g, end, step);
        let whole = rows.saturating_sub(row) * each;
        let is_first = end == start;
        if g.nodes[end].op.is_by_row() && whole > left {
            let grains = (left / each / GRAIN).max(u64::from(is_first));
            if row + grains * GRAIN < rows {
                row += grains * GRAIN;
                break;
            }
        } else if whole > left && !is_first {
            break;
        }
        (end, row, left) = (end + 1, 0, left.saturating_sub(whole));
    }
    let slice = Slice::new(end - nodes.start, row as usize, nodes.len(), step);
    // A node that has begun is of this part.
    let (end, of_last) = if row > 0 { (end + 1, Some(row as usize)) } else { (end, None) };
    Ok((Piece { nodes: start..end, first, end: of_last }, slice))
}

/// The rows of a node in a step, and about how many multiply-adds one takes.
fn work_of(g: &Graph, node: usize, step: &Step<'_>) -> (u64, u64) {
    let node = &g.nodes[node];
    let Some(shape) = node.shape else { return (0, 1) };
    let of_value = match &node.op {
        Op::MatMul { w, .. } => g.weight(*w).cols,
        Op::MoeMatMul { w, route, .. } => g.weight(*w).cols * (g.shape(*route).cols / 2).max(1),
        Op::Blend { x, .. } => g.shape(*x).cols,
        Op::Attention { .. } => 2 * step.keys(),
        Op::DeltaRule { delta, .. } => 4 * delta.d_head,
        // Exponentials take as long as so many.
        Op::Activate { .. } | Op::Glu { .. } | Op::Softcap { .. } | Op::SigmoidGate { .. } => 8,
        _ => 1,
    };
    (step.rows(shape) as u64, shape.cols as u64 * of_value as u64)
}
