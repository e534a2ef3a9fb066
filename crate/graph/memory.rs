//! Assigns values to slots by their live ranges: values that do not overlap share a buffer.

use super::ir::{Dim, Graph};
use super::op::Op;
use super::rules::FuseRules;

/// An index into [`Slots::slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId(pub u32);

/// One buffer of f32 rows, used by several values, one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The rows that it has room for.
    pub rows: Dim,
    /// The most columns that one of its values has.
    pub cols: usize,
}

/// The slot of each value; `None` for effects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    /// All slots; a backend allocates each once.
    pub slots: Vec<Slot>,
    /// The slot of each value, by node; `None` for effects.
    pub slot_of: Vec<Option<SlotId>>,
    /// Slices that are read where they are, in the slot of what they are a slice of.
    pub in_place: Vec<bool>,
}

/// Gives each value a slot such that no two live values share one, and no step writes a slot that it reads.
///
/// The second rule lets a backend bind slots whole: some may not bind a buffer as read-only and as writable at once. It
/// follows from keeping the operands of a step alive until the step is over.
///
/// With the rules of a backend that runs fused plans, slices get no slot where all their readers can read them in place.
pub fn assign(g: &Graph, rules: Option<&FuseRules>) -> Slots {
    let in_place = in_place(g, rules.is_some());
    let with_next = rules.is_some_and(|r| r.norm_add_with_next);
    let mut last_use: Vec<usize> = (0..g.nodes.len()).collect();
    for (i, node) in g.nodes.iter().enumerate() {
        node.op.operands().for_each(|x| last_use[x.index()] = i);
        if let (true, Op::NormAdd { x, y, .. }) = (with_next, &node.op) {
            [x, y].iter().for_each(|v| last_use[v.index()] = i + 1);
        }
    }
    // What a part gives back is read before another part runs.
    g.parts().for_each(|p| last_use[p.output.index()] = p.nodes.end - 1);
    for (i, node) in g.nodes.iter().enumerate().rev().filter(|(i, _)| in_place[*i]) {
        node.op.operands().for_each(|x| last_use[x.index()] = last_use[x.index()].max(last_use[i]));
    }

    let mut slots: Vec<Slot> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut live: Vec<(usize, usize)> = Vec::new(); // (last use, slot)
    let mut slot_of = vec![None; g.nodes.len()];
    for (i, node) in g.nodes.iter().enumerate() {
        live.retain(|&(last, slot)| {
            let over = last < i;
            if over {
                free.push(slot);
            }
            !over
        });
        let Some(shape) = node.shape else { continue };
        if let (true, Op::Slice { x, .. }) = (in_place[i], &node.op) {
            slot_of[i] = slot_of[x.index()];
            continue;
        }
        let same_rows = |s: usize| slots[s].rows == shape.rows;
        // Smallest slot that holds it, else the largest to grow, else a new one.
        let fits = free.iter().copied().filter(|&s| same_rows(s) && slots[s].cols >= shape.cols);
        let small = free.iter().copied().filter(|&s| same_rows(s) && slots[s].cols < shape.cols);
        let found = fits.min_by_key(|&s| slots[s].cols).or_else(|| small.max_by_key(|&s| slots[s].cols));
        let slot = match found {
            Some(s) => {
                free.retain(|&f| f != s);
                slots[s].cols = slots[s].cols.max(shape.cols);
                s
            }
            None => {
                slots.push(Slot { rows: shape.rows, cols: shape.cols });
                slots.len() - 1
            }
        };
        slot_of[i] = Some(SlotId(slot as u32));
        live.push((last_use[i], slot));
    }
    Slots { slots, slot_of, in_place }
}

fn in_place(g: &Graph, views: bool) -> Vec<bool> {
    let mut all: Vec<bool> = g.nodes.iter().map(|n| views && matches!(n.op, Op::Slice { .. })).collect();
    g.parts().for_each(|p| all[p.output.index()] = false);
    for (i, node) in g.nodes.iter().enumerate().rev() {
        for x in node.op.operands() {
            // A slice that is made reads its operand like any op; one that is not leaves it to its own readers.
            let made_slice = matches!(node.op, Op::Slice { .. }) && !all[i];
            all[x.index()] &= node.op.reads_in_place(x) && !made_slice;
        }
    }
    all
}
