//! From a node to kernels: which of them run, in which steps, and on which buffers. Does not use a device.

use std::ops::Range;

use super::matrix::Matrix;
use super::table::Table;
use crate::backend::Limits;
use crate::backend::webgpu::dispatch::{Kernel, Schedule, When, Work};
use crate::backend::webgpu::tuning::Tuning;
use crate::graph::{Dim, Graph, Op, Plan, StateId, ValueId, View, WeightId};

/// A buffer of a plan, by its content.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    /// The rows of the step, and the tables of their sequences' blocks.
    Rows,
    /// The slot of a value.
    Value(ValueId),
    /// A part of a weight, by its number.
    Weight(WeightId, usize),
    State(StateId),
    Table(Table),
    /// The rows of a step by expert, for a route.
    Groups(ValueId),
    /// The rows that the step gives.
    Given,
    /// Scratch that the kernels of a node pass to each other.
    Scratch,
    /// Rows of x in int8, also scratch.
    Quantized,
}

/// A kernel with its schedule and its bindings after the step uniform.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub kernel: Kernel,
    pub schedule: Schedule,
    pub operands: Vec<Operand>,
}

/// What decides which kernels run for the nodes of a plan.
#[derive(Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub plan: &'a Plan,
    pub limits: Limits,
    pub tuning: Tuning,
    /// The rows of each part of a weight.
    pub parts: &'a dyn Fn(WeightId) -> Vec<Range<usize>>,
}

/// The launches of one node, as they are collected.
pub(crate) struct Launches<'a> {
    pub plan: &'a Plan,
    pub g: &'a Graph,
    pub node: usize,
    pub limits: Limits,
    pub tuning: Tuning,
    parts: &'a dyn Fn(WeightId) -> Vec<Range<usize>>,
    /// The bytes of packed weights that the next launches read.
    pub weight_bytes: u64,
    all: Vec<Launch>,
}

impl<'a> Launches<'a> {
    pub(crate) fn new(facts: Facts<'a>, node: usize) -> Self {
        let Facts { plan, limits, tuning, parts } = facts;
        Self { plan, g: &plan.graph, node, limits, tuning, parts, weight_bytes: 0, all: Vec::new() }
    }

    pub(crate) fn finish(self) -> Vec<Launch> {
        self.all
    }

    /// Adds a kernel that runs `when`, unless no step is that long.
    pub(crate) fn push(
        &mut self,
        k: impl FnOnce() -> Kernel,
        when: When,
        operands: &[Operand],
    ) -> Option<&mut Schedule> {
        let rows = self.g.nodes[self.node].shape.map_or(Dim::Tokens, |s| s.rows);
        let most = if rows == Dim::Tokens { self.limits.max_tokens } else { self.limits.max_outputs };
        if when.is_beyond(most) {
            return None;
        }
        let (work, weight_bytes) = (Work::of(self.g, self.node), self.weight_bytes);
        let schedule = Schedule { rows, when, chunks: None, more: 0, weight_bytes, work };
        self.all.push(Launch { kernel: k(), schedule, operands: operands.to_vec() });
        self.all.last_mut().map(|l| &mut l.schedule)
    }

    /// The same for a kernel that reads no packed weights, before those that do.
    pub(crate) fn push_unweighed(&mut self, k: impl FnOnce() -> Kernel, when: When, operands: &[Operand]) {
        let weight_bytes = std::mem::take(&mut self.weight_bytes);
        self.push(k, when, operands);
        self.weight_bytes = weight_bytes;
    }

    /// Adds the only kernel of a node, which binds its operands, then `between`, then the result.
    pub(crate) fn one_kernel(&mut self, k: Kernel, between: &[Operand]) {
        let node = &self.g.nodes[self.node];
        let out = node.shape.map(|_| self.out());
        let operands: Vec<_> =
            node.op.operands().map(Operand::Value).chain(between.iter().cloned()).chain(out).collect();
        self.push(|| k, When::ALWAYS, &operands);
    }

    pub(crate) fn out(&self) -> Operand {
        Operand::Value(ValueId(self.node as u32))
    }

    /// Columns of the result.
    pub(crate) fn cols(&self) -> usize {
        self.g.nodes[self.node].shape.map_or(0, |s| s.cols)
    }

    pub(crate) fn view(&self, v: ValueId) -> View {
        self.plan.view(v)
    }

    /// The tables that the node reads.
    pub(crate) fn tables(&self) -> Vec<Table> {
        Table::of(self.g, self.node)
    }

    /// The parts of a weight that the node reads.
    pub(crate) fn matrices(&self, w: WeightId) -> Vec<(Matrix, Operand)> {
        let weight = self.g.weight(w);
        let (dtype, cols) = (weight.dtype, weight.cols);
        let total_rows = if let Op::MatMul { rows, .. } = self.g.nodes[self.node].op { rows } else { weight.rows };
        let part = |(i, rows): (usize, Range<usize>)| {
            let (row0, held) = (rows.start, rows.len());
            let rows = held.min(total_rows - row0);
            (Matrix { dtype, cols, row0, rows, total_rows, held }, Operand::Weight(w, i))
        };
        (self.parts)(w).into_iter().enumerate().filter(|(_, rows)| rows.start < total_rows).map(part).collect()
    }
}
