//! What a backend runs: the graph after its passes, and a slot for each value. Made once per model.

use std::fmt;

use super::expand::expand;
use super::ir::{Graph, ValueId};
use super::memory::{self, SlotId, Slots};
use super::op::Op;
use super::passes;
use super::rules::FuseRules;

/// A graph with the slot of each value: what a backend prepares.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What runs.
    pub graph: Graph,
    /// Where values lie while they are needed.
    pub slots: Slots,
    /// Tokens that must never come out: their logits are -inf.
    pub suppressed: Vec<u32>,
}

/// Where a value lies in rows of its slot: value i of a row at `at + i / len * group + i % len`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Values from one row to the next.
    pub stride: usize,
    /// Column of the first value.
    pub at: usize,
    /// Columns from one run to the next.
    pub group: usize,
    /// Columns of a run.
    pub len: usize,
}

impl Plan {
    /// Assigns slots to the values of a graph.
    pub fn new(graph: Graph) -> Self {
        let graph = passes::run(graph);
        let slots = memory::assign(&graph, None);
        Self { graph, slots, suppressed: Vec::new() }
    }

    /// The same with ops fused, for a backend that runs them. Weights and states keep their numbers.
    #[must_use]
    pub fn fused(&self, rules: &FuseRules) -> Self {
        let graph = passes::fuse(self.graph.clone(), rules);
        let slots = memory::assign(&graph, Some(rules));
        Self { graph, slots, suppressed: self.suppressed.clone() }
    }

    /// The same without fused ops, for a backend that does not run them.
    #[must_use]
    pub fn expanded(self) -> Self {
        let is_fused = |op: &Op| {
            matches!(
                op,
                Op::FusedMatMul(_) | Op::RopeStore(_) | Op::NormAdd { .. } | Op::DeltaRule { norm: Some(_), .. }
            ) || matches!(op, Op::Attention { gate: Some(_), .. })
        };
        if !self.graph.nodes.iter().any(|n| is_fused(&n.op)) {
            return self;
        }
        Self { suppressed: self.suppressed, ..Self::new(expand(&self.graph)) }
    }

    /// The slot of a value.
    ///
    /// # Panics
    /// Where the node is an effect.
    pub fn slot(&self, v: ValueId) -> SlotId {
        self.slots.slot_of[v.index()].expect("an effect has no slot")
    }

    /// Where a value lies in its slot.
    pub fn view(&self, v: ValueId) -> View {
        let g = &self.graph;
        let cols = g.shape(v).cols;
        match g.node(v).op {
            Op::Slice { x, group, start, len } if self.slots.in_place[v.index()] => {
                let under = self.view(x);
                assert_eq!(under.len, under.group, "a slice of a slice with gaps\n{g}");
                let group = if group == g.shape(x).cols { len } else { group };
                View { at: under.at + start, group, len, ..under }
            }
            _ => View { stride: cols, at: 0, group: cols, len: cols },
        }
    }

    /// Whether a value is read where another one has it, and nothing makes it.
    pub fn in_place(&self, v: ValueId) -> bool {
        self.slots.in_place[v.index()]
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, s) in self.slots.slots.iter().enumerate() {
            writeln!(f, "slot {i} [{}, {}]", s.rows, s.cols)?;
        }
        write!(f, "{}", self.graph)
    }
}
