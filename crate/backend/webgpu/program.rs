//! A plan made ready: buffers, pipelines and bind groups of every dispatch. Steps make none of these.

use super::device::Gpu;
use super::dispatch::{Compiler, Dispatch, IDS_AT};
use super::kernels;
use super::lower;
use super::states::States;
use super::tables::Table;
use super::tuning::Tuning;
use super::weights::Weights;
use crate::backend::{Limits, Step};
use crate::bail;
use crate::error::Result;
use crate::graph::{Dim, Graph, Op, Plan, SlotId, ValueId};

pub struct Program {
    pub plan: Plan,
    pub limits: Limits,
    pub weights: Weights,
    /// Of the trunk, and of the block for multi-token prediction.
    dispatches: [Vec<Dispatch>; 2],
    /// The step uniform, and from [`IDS_AT`] the token ids.
    pub step: wgpu::Buffer,
    slots: Vec<wgpu::Buffer>,
    pub states: States,
    tables: Vec<(Table, wgpu::Buffer)>,
    /// What kernels pass to each other inside of a node.
    pub scratch: wgpu::Buffer,
    /// The rows of a step by expert, for each slot of a route.
    groups: Vec<(SlotId, wgpu::Buffer)>,
    /// Rows of x in whole numbers, likewise.
    pub quantized: wgpu::Buffer,
    /// What was made so far.
    pub pipelines: u64,
    pub buffers: u64,
    pub bind_groups: u64,
}

impl Program {
    pub fn new(gpu: &Gpu, plan: Plan, limits: Limits) -> Result<Self> {
        let mut program = Self::allocate(gpu, plan, limits, gpu.tuning)?;
        let mut compiler = Compiler::new(gpu, gpu.tuning);
        program.dispatches = program.compile(&mut compiler)?;
        program.pipelines = compiler.pipelines();
        program.bind_groups = program.dispatches.iter().map(|d| d.len() as u64).sum();
        Ok(program)
    }

    /// Makes the buffers.
    pub fn allocate(gpu: &Gpu, plan: Plan, limits: Limits, tuning: Tuning) -> Result<Self> {
        check(&plan.graph, limits)?;
        let weights = Weights::new(gpu, &plan.graph)?;
        let g = &plan.graph;
        let rows = |d: Dim| if d == Dim::Tokens { limits.max_tokens } else { limits.max_outputs };
        let slot = |s: &crate::graph::Slot| gpu.storage("slot", (rows(s.rows) * s.cols * 4) as u64);
        let slots = plan.slots.slots.iter().map(slot).collect::<Result<Vec<_>>>()?;
        let states = States::new(gpu, g, limits)?;
        let step = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("step"),
            size: IDS_AT + (limits.max_tokens.max(1) * 4) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut tables: Vec<(Table, wgpu::Buffer)> = Vec::new();
        for table in (0..g.nodes.len()).flat_map(|i| Table::of(g, i)) {
            if !tables.iter().any(|(t, _)| *t == table) {
                let buffer = gpu.storage("table", table.bytes(g))?;
                tables.push((table, buffer));
            }
        }
        let scratch = gpu.storage("scratch", lower::scratch_bytes(g, limits, tuning))?;
        let mut groups: Vec<(SlotId, wgpu::Buffer)> = Vec::new();
        for (i, node) in g.nodes.iter().enumerate() {
            let Op::MoeRoute { x, n_used } = &node.op else { continue };
            let slot = plan.slot(ValueId(i as u32));
            let tiled = !kernels::moe_tiles(g.shape(*x).cols, *n_used, gpu.tuning).is_empty();
            if tiled && !groups.iter().any(|(s, _)| *s == slot) {
                let bytes = kernels::group_bytes(g.shape(*x).cols, *n_used, limits.max_tokens);
                groups.push((slot, gpu.storage("groups", bytes as u64)?));
            }
        }
        let quantized = gpu.storage("quantized", lower::quantized_bytes(g, limits, tuning))?;
        let buffers = (slots.len() + tables.len() + groups.len() + 3) as u64 + states.buffers() + weights.buffers();
        Ok(Self {
            plan,
            limits,
            weights,
            dispatches: Default::default(),
            step,
            slots,
            states,
            tables,
            scratch,
            quantized,
            groups,
            pipelines: 0,
            buffers,
            bind_groups: 0,
        })
    }

    /// Writes what is made from weights on the host.
    pub fn fill_tables(&self, gpu: &Gpu) {
        for (table, buffer) in &self.tables {
            let words = table.words(&self.plan.graph, &self.weights);
            gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&words));
        }
    }

    /// What a step runs, and the buffer of its logits.
    pub fn entry(&self, step: &Step<'_>) -> Result<(&[Dispatch], &wgpu::Buffer)> {
        let part = step.part(&self.plan.graph)?;
        Ok((&self.dispatches[step.entry as usize], self.slot(part.output)))
    }

    /// Makes room in the cache for positions below `end`. Returns how many buffers were made for it.
    pub fn reserve(&mut self, gpu: &Gpu, end: usize) -> Result<u64> {
        let Self { states, dispatches, step, .. } = self;
        let mut bind_groups = 0;
        let made = states.reserve(gpu, &self.plan.graph, self.limits, end, |old, new| {
            for d in dispatches.iter_mut().flatten() {
                bind_groups += u64::from(d.rebind(gpu, step, old, new));
            }
        })?;
        self.buffers += made;
        self.bind_groups += bind_groups;
        Ok(made)
    }

    pub fn scratch_bytes(&self) -> u64 {
        let tables = self.tables.iter().map(|(_, b)| b);
        let groups = self.groups.iter().map(|(_, b)| b);
        let rest = [&self.step, &self.scratch, &self.quantized];
        self.slots.iter().chain(tables).chain(groups).chain(rest).map(wgpu::Buffer::size).sum()
    }

    pub fn table(&self, table: &Table) -> &wgpu::Buffer {
        let found = self.tables.iter().find(|(t, _)| t == table);
        &found.expect("each table of the plan was made").1
    }

    /// The rows of a step by expert, of a route for which there are tiles.
    pub fn groups(&self, route: ValueId) -> &wgpu::Buffer {
        let slot = self.plan.slot(route);
        let found = self.groups.iter().find(|(s, _)| *s == slot);
        &found.expect("each route that has tiles has groups").1
    }

    pub fn slot(&self, v: ValueId) -> &wgpu::Buffer {
        &self.slots[self.plan.slot(v).0 as usize]
    }

    /// The dispatches of both parts of the plan.
    pub fn compile(&self, compiler: &mut Compiler<'_>) -> Result<[Vec<Dispatch>; 2]> {
        let mut dispatches: [Vec<Dispatch>; 2] = Default::default();
        for (part, all) in self.plan.graph.parts().zip(&mut dispatches) {
            for i in part.nodes {
                lower::node(self, i, compiler, all);
            }
        }
        compiler.gpu.fault.check().map(|()| dispatches)
    }
}

/// Refuses what no kernel can run, before anything is allocated.
fn check(g: &Graph, limits: Limits) -> Result<()> {
    let most = limits.max_tokens.max(limits.max_outputs);
    if most > kernels::MAX_GRID {
        bail!(InvalidArgument, "a step of {most} tokens is more than the {} of a GPU grid", kernels::MAX_GRID);
    }
    for node in &g.nodes {
        for w in node.op.weights().map(|w| g.weight(w)) {
            let matrix = match &node.op {
                Op::Embed { .. } | Op::MatMul { .. } | Op::MoeMatMul { .. } => true,
                Op::Project(p) => p.parts.iter().any(|p| g.weight(p.w) == w),
                _ => false,
            };
            let known = if matrix && w.cols.is_multiple_of(32) {
                kernels::quant_libs(w.dtype).is_some()
            } else {
                kernels::value_libs(w.dtype).is_some()
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
