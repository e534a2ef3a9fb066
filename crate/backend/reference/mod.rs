//! The reference: one plain loop per op, in f64 throughout.
//!
//! Every kernel and every fusion is judged against it, so it is slow on purpose: a reader must see at a glance that a
//! loop is the formula of its op. Values of the last step can be looked at by node.

mod delta;
mod moe;
mod ops;

use std::collections::VecDeque;
use std::task::{Context, Poll};

use super::{Activations, BLOCK, Backend, CachePart, Counters, FINE_POSITIONS, Limits, Memory, Step};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{CacheKind, Graph, Plan, State, StateId, ValueId, WeightId};
use crate::quant;
use ops::Run;

/// Runs each op alone, in f64, one loop per formula: what the other backends are compared with.
#[derive(Default)]
pub struct Reference {
    plan: Option<Plan>,
    activations: Activations,
    /// Positions whose int8 activations have a second term.
    fine: usize,
    weights: Vec<Vec<u8>>,
    states: Vec<Vec<f64>>,
    /// Parts of the cache that are being read.
    read: VecDeque<Vec<u8>>,
    /// The value of each node in the last step, `[rows, cols]`.
    values: Vec<Vec<f64>>,
    ready: VecDeque<Vec<f32>>,
    counters: Counters,
}

impl Reference {
    /// With exact activations.
    pub fn new() -> Self {
        Self::default()
    }

    /// With activations of matrices in the given numbers as the CPU makes them, else exact.
    pub fn with_activations(activations: Activations) -> Self {
        Self { activations, fine: FINE_POSITIONS, ..Self::default() }
    }

    /// With activations of matrices in int8 as GPUs make them: of one term.
    pub fn with_coarse_q8() -> Self {
        Self { activations: Activations::Q8, ..Self::default() }
    }

    /// Another one like it, for another plan.
    pub fn beside(&self) -> Self {
        Self { activations: self.activations, fine: self.fine, ..Self::default() }
    }

    /// A value of the last step, row-major.
    pub fn value(&self, v: ValueId) -> &[f64] {
        &self.values[v.index()]
    }

    /// The graph that runs.
    ///
    /// # Panics
    /// Before `prepare`.
    pub fn graph(&self) -> &Graph {
        &self.plan.as_ref().expect("prepare comes first").graph
    }

    /// Each state that has a share in a part of the cache: where that starts, its length, and the state.
    fn parts(&mut self, part: CachePart) -> impl Iterator<Item = (usize, usize, &mut Vec<f64>)> {
        let g = &self.plan.as_ref().expect("prepare comes first").graph;
        let (CachePart::Block(_, number) | CachePart::Slot(number)) = part;
        let states = self.states.iter_mut().enumerate();
        states.filter_map(move |(i, s)| part_len(g, i, part).map(|len| (number as usize * len, len, s)))
    }
}

/// Values of a block or a slot of a state.
fn unit(g: &Graph, state: usize) -> usize {
    let State { rows, cols, .. } = g.states[state];
    rows.count(BLOCK) * cols
}

/// The same, if it has a share in a part of this kind.
fn part_len(g: &Graph, state: usize, part: CachePart) -> Option<usize> {
    let recurrent = g.states[state].rows.is_recurrent();
    let shares = match part {
        CachePart::Block(kind, _) => !recurrent && g.cache_kind(StateId(state as u32)) == kind,
        CachePart::Slot(_) => recurrent,
    };
    shares.then(|| unit(g, state))
}

impl Backend for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn supports(&self, dtype: DType) -> bool {
        quant::decodable(dtype)
    }

    fn prepare(&mut self, plan: Plan, limits: Limits) -> Result<()> {
        let plan = plan.expanded();
        let g = &plan.graph;
        self.weights = g.weights.iter().map(|w| vec![0; w.bytes()]).collect();
        let len = |i: usize| {
            let context = g.cache_kind(StateId(i as u32)) as usize;
            let blocks = if g.states[i].rows.is_recurrent() { limits.slots } else { limits.blocks[context] };
            blocks * unit(g, i)
        };
        self.states = (0..g.states.len()).map(|i| vec![0.0; len(i)]).collect();
        self.values = vec![Vec::new(); g.nodes.len()];
        self.plan = Some(plan);
        Ok(())
    }

    fn write_weight(&mut self, w: WeightId, offset: usize, bytes: &[u8]) -> Result<()> {
        let weight = &mut self.weights[w.index()];
        match offset.checked_add(bytes.len()).and_then(|end| weight.get_mut(offset..end)) {
            Some(place) => place.copy_from_slice(bytes),
            None => {
                return Err(Error::new(ErrorKind::InvalidArgument, "the bytes end past the end of the weight").at(w));
            }
        }
        Ok(())
    }

    fn finish_weights(&mut self) -> Result<()> {
        Ok(())
    }

    fn submit(&mut self, step: &Step<'_>) -> Result<()> {
        let part = step.part(self.graph())?;
        let plan = self.plan.take().expect("`graph` has seen it");
        for i in part.nodes {
            let (activations, fine) = (self.activations, self.fine);
            let run = Run { activations, fine, g: &plan.graph, weights: &self.weights, values: &self.values, step };
            self.values[i] = run.op(&plan.graph.nodes[i].op, &mut self.states)?;
        }
        let logits = self.values[part.output.index()].iter().map(|&x| x as f32).collect();
        self.ready.push_back(logits);
        self.counters.steps += 1;
        self.plan = Some(plan);
        Ok(())
    }

    fn poll_logits(&mut self, _: &mut Context<'_>, logits: &mut [f32]) -> Poll<Result<()>> {
        let ready = self.ready.pop_front().expect("a step was submitted");
        logits.copy_from_slice(&ready);
        Poll::Ready(Ok(()))
    }

    fn copy_block(&mut self, kind: CacheKind, from: u32, to: u32) -> Result<()> {
        for (_, len, rows) in self.parts(CachePart::Block(kind, 0)) {
            rows.copy_within(from as usize * len..(from as usize + 1) * len, to as usize * len);
        }
        Ok(())
    }

    fn part_bytes(&self, part: CachePart) -> usize {
        let g = self.graph();
        (0..g.states.len()).filter_map(|i| part_len(g, i, part)).map(|len| 8 * len).sum()
    }

    fn submit_read(&mut self, part: CachePart) -> Result<()> {
        let values = self.parts(part).flat_map(|(at, len, rows)| rows[at..at + len].to_vec());
        let bytes = values.flat_map(f64::to_le_bytes).collect();
        self.read.push_back(bytes);
        Ok(())
    }

    fn poll_read(&mut self, _: &mut Context<'_>, bytes: &mut [u8]) -> Poll<Result<()>> {
        bytes.copy_from_slice(&self.read.pop_front().expect("a read was submitted"));
        Poll::Ready(Ok(()))
    }

    fn write_part(&mut self, part: CachePart, bytes: &[u8]) -> Result<()> {
        let mut values = bytes.as_chunks().0.iter().copied().map(f64::from_le_bytes);
        for (at, len, rows) in self.parts(part) {
            rows[at..at + len].iter_mut().zip(&mut values).for_each(|(x, v)| *x = v);
        }
        Ok(())
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn memory(&self) -> Memory {
        let graph = self.plan.as_ref().map(|plan| &plan.graph);
        let states = |recurrent| {
            let all = graph.into_iter().flat_map(|g| &g.states).zip(&self.states);
            all.filter(|(s, _)| s.rows.is_recurrent() == recurrent).map(|(_, values)| 8 * values.len() as u64).sum()
        };
        Memory {
            weights: self.weights.iter().map(|w| w.len() as u64).sum(),
            kv: states(false),
            states: states(true),
            scratch: self.values.iter().map(|v| 8 * v.len() as u64).sum(),
            staging: 0,
        }
    }
}
