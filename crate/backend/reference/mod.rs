//! The reference: one plain loop per op, in f64 throughout.
//!
//! Every kernel and every fusion is judged against it, so it is slow on purpose: a reader must see at a glance that a
//! loop is the formula of its op. Values of the last step can be looked at by node.

mod delta;
mod moe;
mod ops;

use std::collections::VecDeque;
use std::task::{Context, Poll};

use super::{Activations, Backend, Counters, Limits, Memory, Step};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Entry, Graph, Plan, ValueId, WeightId};
use crate::quant;
use ops::Run;

/// Runs each op alone, in f64, one loop per formula: what the other backends are compared with.
#[derive(Default)]
pub struct Reference {
    plan: Option<Plan>,
    activations: Activations,
    weights: Vec<Vec<u8>>,
    states: Vec<Vec<f64>>,
    /// A copy of them; only the recurrent ones are ever put back.
    saved: Vec<Vec<f64>>,
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

    /// With activations of matrices as they are in the given numbers, else exact.
    pub fn with_activations(activations: Activations) -> Self {
        Self { activations, ..Self::default() }
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
        self.states = g.states.iter().map(|s| vec![0.0; s.rows.count(limits.n_ctx) * s.cols]).collect();
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
        if step.pos == 0 && step.entry == Entry::Trunk {
            let states = self.states.iter_mut().zip(&plan.graph.states);
            states.filter(|(_, s)| s.rows.is_recurrent()).for_each(|(state, _)| state.fill(0.0));
        }
        for i in part.nodes {
            let activations = self.activations;
            let run = Run { activations, g: &plan.graph, weights: &self.weights, values: &self.values, step };
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

    fn save_recurrent(&mut self) -> Result<()> {
        self.saved = self.states.clone();
        Ok(())
    }

    fn restore_recurrent(&mut self) -> Result<()> {
        let plan = self.plan.as_ref().expect("prepare comes first");
        let states = self.states.iter_mut().zip(&self.saved).zip(&plan.graph.states);
        states.filter(|(_, s)| s.rows.is_recurrent()).for_each(|((state, saved), _)| state.clone_from(saved));
        Ok(())
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn memory(&self) -> Memory {
        Memory {
            weights: self.weights.iter().map(|w| w.len() as u64).sum(),
            kv: self.states.iter().map(|s| 8 * s.len() as u64).sum(),
            scratch: self.values.iter().map(|v| 8 * v.len() as u64).sum(),
        }
    }
}
