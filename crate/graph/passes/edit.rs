//! Changes to a graph in place: nodes become other nodes, and what is dead afterwards goes.

use super::dce::dce;
use crate::graph::infer::infer;
use crate::graph::ir::{Graph, Node, ValueId};
use crate::graph::op::Op;

pub(super) struct Edit {
    pub g: Graph,
    /// The nodes that read each value, in order; what an edit changes is seen by the next one.
    readers: Vec<Vec<usize>>,
    removed: Vec<bool>,
}

impl Edit {
    pub(super) fn new(g: Graph) -> Self {
        let mut readers = vec![Vec::new(); g.nodes.len()];
        for (i, node) in g.nodes.iter().enumerate() {
            node.op.operands().for_each(|x| readers[x.index()].push(i));
        }
        let removed = vec![false; g.nodes.len()];
        Self { g, readers, removed }
    }

    pub(super) fn op(&self, v: ValueId) -> &Op {
        &self.g.node(v).op
    }

    pub(super) fn cols(&self, v: ValueId) -> usize {
        self.g.shape(v).cols
    }

    pub(super) fn readers(&self, v: ValueId) -> &[usize] {
        &self.readers[v.index()]
    }

    /// Whether nothing but one op reads a value.
    pub(super) fn only_reader(&self, v: ValueId) -> bool {
        self.readers(v).len() == 1 && v != self.g.output && ![self.g.mtp, self.g.given].contains(&Some(v))
    }

    /// Node i computes `op` from now on.
    pub(super) fn set(&mut self, i: usize, op: Op) {
        self.g.nodes[i].op.operands().for_each(|x| self.readers[x.index()].retain(|r| *r != i));
        for x in op.operands() {
            self.readers[x.index()].push(i);
        }
        let shape = infer(&self.g, &op).unwrap_or_else(|e| panic!("{e}\n{}", self.g));
        let name = self.g.nodes[i].name.take();
        self.g.nodes[i] = Node { op, shape, name };
    }

    /// Takes an effect out, or a value that nothing reads any more.
    pub(super) fn remove(&mut self, i: usize) {
        self.removed[i] = true;
        self.g.nodes[i].op.operands().for_each(|x| self.readers[x.index()].retain(|r| *r != i));
    }

    /// Readers of `old` read `new`.
    pub(super) fn redirect(&mut self, old: ValueId, new: ValueId) {
        for r in std::mem::take(&mut self.readers[old.index()]) {
            self.g.nodes[r].op.map_operands(|x| {
                if *x == old {
                    *x = new;
                }
            });
            self.readers[new.index()].push(r);
        }
    }

    /// The new graph, without what was removed or is dead.
    pub(super) fn finish(self) -> Graph {
        let mut new_id = vec![ValueId(u32::MAX); self.g.nodes.len()];
        let mut nodes: Vec<Node> = Vec::with_capacity(self.g.nodes.len());
        for (i, mut node) in self.g.nodes.into_iter().enumerate().filter(|(i, _)| !self.removed[*i]) {
            new_id[i] = ValueId(nodes.len() as u32);
            node.op.map_operands(|v| *v = new_id[v.index()]);
            nodes.push(node);
        }
        let new = |v: ValueId| new_id[v.index()];
        let (given, output, mtp) = (self.g.given.map(new), new(self.g.output), self.g.mtp.map(new));
        dce(Graph { given, output, mtp, nodes, weights: self.g.weights, states: self.g.states })
    }
}
