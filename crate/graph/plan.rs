//! What a backend runs: the graph after its passes, and a slot for each value. Made once per model.

use std::fmt;

use super::ir::{Entry, Graph, ValueId};
use super::memory::{self, SlotId, Slots};
use super::passes;

#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub graph: Graph,
    pub slots: Slots,
}

impl Plan {
    pub fn new(graph: Graph) -> Self {
        let graph = passes::run(graph);
        let slots = memory::assign(&graph);
        Self { graph, slots }
    }

    /// The slot of a value.
    ///
    /// # Panics
    /// Where the node is an effect.
    pub fn slot(&self, v: ValueId) -> SlotId {
        self.slots.slot_of[v.index()].expect("an effect has no slot")
    }

    /// Bytes of packed weights that one decode step of the trunk reads: every matrix once, and one row of each embedding.
    pub fn weight_bytes_per_token(&self) -> usize {
        use super::op::Op;
        let g = &self.graph;
        let node_bytes = |op: &Op| match op {
            Op::Embed { w, .. } => g.weight(*w).row_bytes(),
            _ => op.weights().map(|w| g.weight(w).bytes()).sum(),
        };
        let trunk = g.part(Entry::Trunk).map_or(0..0, |p| p.nodes);
        g.nodes[trunk].iter().map(|n| node_bytes(&n.op)).sum()
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
