//! A compiled plan: buffers, pipelines and bind groups of every dispatch. Steps create none of these.

use super::buffers::Buffers;
use super::lower;
use super::states::{Grown, Room, Uses};
use crate::backend::webgpu::device::Gpu;
use crate::backend::webgpu::dispatch::{Compiler, Dispatch, MAX_GRID};
use crate::backend::webgpu::kernels::launch::Facts;
use crate::backend::webgpu::kernels::libs::{quant_libs, value_libs};
use crate::backend::webgpu::tuning::Tuning;
use crate::backend::{Limits, Step};
use crate::bail;
use crate::error::Result;
use crate::graph::{ENTRIES, Entry, Graph, Op, Plan, WeightId};

pub(crate) struct Program {
    pub plan: Plan,
    pub limits: Limits,
    pub uses: Uses,
    pub buffers: Buffers,
    /// Dispatches of each part, by the number of its entry.
    dispatches: [Vec<Dispatch>; ENTRIES],
    pub made: Made,
}

/// How many objects a program has created, and how many submits that took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Made {
    pub pipelines: u64,
    pub buffers: u64,
    pub bind_groups: u64,
    pub submits: u64,
}

impl Program {
    pub(crate) fn new(gpu: &Gpu, plan: Plan, limits: Limits) -> Result<Self> {
        let mut program = Self::allocate(gpu, plan, limits, gpu.tuning)?;
        let mut compiler = Compiler::new(gpu);
        program.dispatches = program.compile(gpu, &mut compiler, gpu.tuning)?;
        program.made.pipelines = compiler.pipelines();
        program.made.bind_groups = program.dispatches.iter().map(|d| d.len() as u64).sum();
        Ok(program)
    }

    /// Allocates the buffers.
    pub(crate) fn allocate(gpu: &Gpu, plan: Plan, limits: Limits, tuning: Tuning) -> Result<Self> {
        check(&plan.graph, limits)?;
        let buffers = Buffers::new(gpu, &plan, limits, tuning)?;
        let made = Made { buffers: buffers.count(), ..Made::default() };
        let uses = Uses::of(&plan.graph);
        Ok(Self { plan, limits, uses, buffers, dispatches: Default::default(), made })
    }

    /// Compiles the dispatches of all parts of the plan.
    pub(crate) fn compile(
        &self,
        gpu: &Gpu,
        compiler: &mut Compiler<'_>,
        tuning: Tuning,
    ) -> Result<[Vec<Dispatch>; ENTRIES]> {
        let Self { plan, buffers, .. } = self;
        let parts = |w: WeightId| buffers.weights.parts(w).iter().map(|p| p.row0..p.row0 + p.rows).collect();
        let facts = Facts { plan, limits: self.limits, tuning, parts: &parts };
        let mut dispatches: [Vec<Dispatch>; ENTRIES] = Default::default();
        for (entry, all) in Entry::ALL.into_iter().zip(&mut dispatches) {
            for launch in plan.graph.part(entry).into_iter().flat_map(|p| p.nodes).flat_map(|i| lower::node(facts, i)) {
                let bound: Vec<_> = launch.operands.iter().map(|o| buffers.get(plan, o)).collect();
                all.push(compiler.dispatch(launch.kernel, launch.schedule, &buffers.step, &bound));
            }
        }
        gpu.fault.check().map(|()| dispatches)
    }

    /// The dispatches of a step, and the buffer of its logits.
    pub(crate) fn entry(&self, step: &Step<'_>) -> Result<(&[Dispatch], &wgpu::Buffer)> {
        let part = step.part(&self.plan.graph)?;
        Ok((&self.dispatches[step.entry as usize], self.buffers.slot(self.plan.slot(part.output))))
    }

    /// Grows the cache to what is needed. Returns what that created.
    pub(crate) fn reserve(&mut self, gpu: &Gpu, need: Room) -> Result<Made> {
        let Self { buffers, dispatches, .. } = self;
        let Grown { moved, submits } = buffers.states.reserve(gpu, &self.plan.graph, self.limits, need)?;
        let mut made = Made { buffers: moved.len() as u64, submits, ..Made::default() };
        for d in dispatches.iter_mut().flatten().filter(|_| !moved.is_empty()) {
            made.bind_groups += u64::from(d.rebind(gpu, &buffers.step, &moved));
        }
        Ok(made)
    }

    /// Fills the tables that are computed on the host from weights.
    pub(crate) fn fill_tables(&self, gpu: &Gpu) {
        self.buffers.tables.fill(gpu, &self.plan.graph, &self.buffers.weights);
    }
}

/// Refuses, before anything is allocated, a plan that no kernel can run.
fn check(g: &Graph, limits: Limits) -> Result<()> {
    let most = limits.max_tokens.max(limits.max_outputs);
    if most > MAX_GRID {
        bail!(
            InvalidArgument,
            "a step of {most} tokens exceeds the limit {} of a GPU grid; lower the tokens of a step",
            MAX_GRID
        );
    }
    for node in &g.nodes {
        for w in node.op.weights().map(|w| g.weight(w)) {
            let matrix = match &node.op {
                Op::Embed { .. } | Op::MatMul { .. } | Op::MoeMatMul { .. } | Op::Blend { all: true, .. } => true,
                Op::FusedMatMul(p) => p.parts.iter().any(|p| g.weight(p.w) == w),
                _ => false,
            };
            let known = if matrix && w.cols.is_multiple_of(32) {
                quant_libs(w.dtype).is_some()
            } else {
                value_libs(w.dtype).is_some()
            };
            if !known {
                bail!(
                    UnsupportedType,
                    "{}: the GPU has no kernel for {} in weight `{}`",
                    node.op.name(),
                    w.dtype,
                    w.name
                );
            }
        }
    }
    Ok(())
}
