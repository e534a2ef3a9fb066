//! A plan made ready: buffers, pipelines and bind groups of every dispatch. Steps make none of these.

use std::collections::HashMap;

use super::device::Gpu;
use super::kernels::{self, Access, Experts, Kernel, Matrix};
use super::tables::Table;
use super::weights::Weights;
use crate::backend::{Limits, Step};
use crate::bail;
use crate::error::Result;
use crate::graph::{Dim, Graph, Op, Plan, Shape, ValueId, WeightId};

/// Bytes from the start of the step buffer to the token ids: bindings start at multiples of this.
pub const IDS_AT: u64 = 256;

/// When a dispatch runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Always,
    OneRow,
    FewRows,
    ManyRows,
}

pub struct Dispatch {
    pub pipeline: wgpu::ComputePipeline,
    pub group: wgpu::BindGroup,
    grid: [u32; 2],
    rows: Dim,
    rows_per_group: usize,
    when: When,
}

impl Dispatch {
    /// The grid in this step, `None` where it does not run.
    pub fn grid(&self, step: &Step<'_>) -> Option<[u32; 3]> {
        let rows = step.rows(Shape { rows: self.rows, cols: 0 });
        let runs = match self.when {
            When::Always => rows > 0,
            When::OneRow => rows == 1,
            When::FewRows => (2..=kernels::FEW).contains(&rows),
            When::ManyRows => rows > kernels::FEW,
        };
        runs.then(|| [self.grid[0], self.grid[1], rows.div_ceil(self.rows_per_group) as u32])
    }
}

pub struct Program {
    pub plan: Plan,
    pub limits: Limits,
    pub weights: Weights,
    /// Of the trunk, and of the block for multi-token prediction.
    dispatches: [Vec<Dispatch>; 2],
    /// The step uniform, and from [`IDS_AT`] the token ids.
    pub step: wgpu::Buffer,
    slots: Vec<wgpu::Buffer>,
    states: Vec<wgpu::Buffer>,
    /// Each recurrent state's number, and room for a copy of it.
    saved: Vec<(usize, wgpu::Buffer)>,
    tables: Vec<(Table, wgpu::Buffer)>,
    pub pipelines: u64,
}

impl Program {
    pub fn new(gpu: &Gpu, plan: Plan, limits: Limits) -> Result<Self> {
        check(&plan.graph, limits)?;
        let weights = Weights::new(gpu, &plan.graph)?;
        let g = &plan.graph;
        let rows = |d: Dim| if d == Dim::Tokens { limits.max_tokens } else { limits.max_outputs };
        let slot = |s: &crate::graph::Slot| gpu.storage("slot", (rows(s.rows) * s.cols * 4) as u64);
        let slots = plan.slots.slots.iter().map(slot).collect::<Result<_>>()?;
        let state = |s: &crate::graph::State| gpu.storage(&s.name, (s.rows.count(limits.n_ctx) * s.cols * 4) as u64);
        let states = g.states.iter().map(state).collect::<Result<_>>()?;
        let recurrent = g.states.iter().enumerate().filter(|(_, s)| s.rows.is_recurrent());
        let saved = recurrent.map(|(i, s)| Ok((i, state(s)?))).collect::<Result<_>>()?;
        let step = gpu.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("step"),
            size: IDS_AT + (limits.max_tokens.max(1) * 4) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let mut tables: Vec<(Table, wgpu::Buffer)> = Vec::new();
        for table in g.nodes.iter().filter_map(|n| Table::of(&n.op)) {
            if !tables.iter().any(|(t, _)| *t == table) {
                tables.push((table, gpu.storage("table", table.bytes(g))?));
            }
        }
        let mut program = Self {
            plan,
            limits,
            weights,
            dispatches: Default::default(),
            step,
            slots,
            states,
            saved,
            tables,
            pipelines: 0,
        };
        program.compile(gpu)?;
        Ok(program)
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

    pub fn kv_bytes(&self) -> u64 {
        let saved = self.saved.iter().map(|(_, b)| b);
        self.states.iter().chain(saved).map(wgpu::Buffer::size).sum()
    }

    /// Copies the recurrent states to their copies, or back. Says whether there are any.
    pub fn copy_recurrent(&self, gpu: &Gpu, back: bool) -> bool {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (i, saved) in &self.saved {
            let (from, to) = if back { (saved, &self.states[*i]) } else { (&self.states[*i], saved) };
            encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size());
        }
        if !self.saved.is_empty() {
            gpu.queue.submit([encoder.finish()]);
        }
        !self.saved.is_empty()
    }

    pub fn scratch_bytes(&self) -> u64 {
        let tables = self.tables.iter().map(|(_, b)| b);
        self.slots.iter().chain(tables).chain([&self.step]).map(wgpu::Buffer::size).sum()
    }

    pub fn buffers(&self) -> u64 {
        (self.slots.len() + self.states.len() + self.tables.len() + 1) as u64 + self.weights.buffers()
    }

    fn slot(&self, v: ValueId) -> &wgpu::Buffer {
        &self.slots[self.plan.slot(v).0 as usize]
    }

    fn compile(&mut self, gpu: &Gpu) -> Result<()> {
        let mut compiler = Compiler { gpu, layouts: HashMap::new(), pipelines: HashMap::new() };
        for (entry, part) in self.plan.graph.parts().enumerate() {
            let mut all = Vec::new();
            for i in part.nodes {
                self.node(i, &mut compiler, &mut all);
            }
            self.dispatches[entry] = all;
        }
        self.pipelines = compiler.pipelines.len() as u64;
        gpu.fault.check()
    }

    /// The dispatches of a node.
    fn node(&self, i: usize, compiler: &mut Compiler<'_>, all: &mut Vec<Dispatch>) {
        let g = &self.plan.graph;
        let node = &g.nodes[i];
        let operands: Vec<&wgpu::Buffer> = node.op.operands().map(|v| self.slot(v)).collect();
        let out = node.shape.map(|_| self.slot(ValueId(i as u32)));
        let cols = match (&node.op, node.shape) {
            (Op::KvStore { state, .. }, _) => g.state(*state).cols,
            (_, shape) => shape.map_or(0, |s| s.cols),
        };
        let rows = node.shape.map_or(Dim::Tokens, |s| s.rows);
        let most = if rows == Dim::Tokens { self.limits.max_tokens } else { self.limits.max_outputs };
        let tuning = compiler.gpu.tuning;
        let mut push = |k: Kernel, when, buffers: &[&wgpu::Buffer]| {
            all.push(compiler.dispatch(k, when, rows, &self.step, buffers));
        };
        let mut simple = |k: Kernel, between: &[&wgpu::Buffer]| {
            let buffers: Vec<_> = operands.iter().copied().chain(between.iter().copied()).chain(out).collect();
            push(k, When::Always, &buffers);
        };
        match &node.op {
            Op::Embed { w, scale } => {
                for (m, buffer) in self.matrices(*w) {
                    // The first operand is the ids: the step buffer, bound by `dispatch`.
                    simple(kernels::embed(m, *scale), &[&self.step, buffer]);
                }
            }
            Op::MatMul { w, x } => {
                for (m, buffer) in self.matrices(*w) {
                    let buffers = [buffer, self.slot(*x), self.slot(ValueId(i as u32))];
                    push(kernels::gemv(m, rows, tuning), When::OneRow, &buffers);
                    if most > 1 {
                        push(kernels::gemm(m, rows, true, tuning), When::FewRows, &buffers);
                    }
                    if most > kernels::FEW {
                        push(kernels::gemm(m, rows, false, tuning), When::ManyRows, &buffers);
                    }
                }
            }
            Op::AddBias { b, .. } => simple(kernels::add_bias(cols, g.weight(*b).dtype), &[self.vector(*b)]),
            Op::RmsNorm { w, eps, .. } => {
                let weight = g.weight(*w);
                simple(kernels::rms_norm(cols, weight.cols, weight.dtype, *eps, tuning), &[self.vector(*w)]);
            }
            Op::Rope { rope, .. } => simple(kernels::rope(cols, rope), &[self.table(&node.op)]),
            Op::KvStore { state, .. } => simple(kernels::kv_store(cols), &[&self.states[state.index()]]),
            Op::KvLoad { state } => simple(kernels::kv_load(cols), &[&self.states[state.index()]]),
            Op::Attention { k, v, attn, .. } => {
                let states = [&self.states[k.index()], &self.states[v.index()]];
                simple(kernels::attention(attn, tuning), &states);
            }
            Op::Add { .. } => simple(kernels::add(cols), &[]),
            Op::Concat { a, b } => simple(kernels::concat(g.shape(*a).cols, g.shape(*b).cols), &[]),
            Op::Glu { act, .. } => simple(kernels::glu(cols, *act), &[]),
            Op::Softcap { cap, .. } => simple(kernels::softcap(cols, *cap), &[]),
            Op::LastRows { .. } => simple(kernels::last_rows(cols), &[]),
            Op::SigmoidGate { gate, .. } => simple(kernels::sigmoid_gate(cols, g.shape(*gate).cols), &[]),
            Op::Slice { x, group, start, len } => {
                simple(kernels::slice(g.shape(*x).cols, *group, *start, *len), &[]);
            }
            Op::L2Norm { d_head, eps, scale, .. } => {
                simple(kernels::l2_norm(cols, *d_head, (*eps, *scale), tuning), &[]);
            }
            Op::SsmConv { w, state, .. } => {
                for (taps, buffer) in self.matrices(*w) {
                    simple(kernels::ssm_conv(taps), &[buffer, &self.states[state.index()]]);
                }
            }
            Op::DeltaRule { state, delta, .. } => {
                let between = [self.table(&node.op), &self.states[state.index()]];
                simple(kernels::delta_rule(*delta, tuning), &between);
            }
            Op::MoeRoute { x, n_used } => simple(kernels::moe_route(g.shape(*x).cols, *n_used, tuning), &[]),
            Op::MoeMatMul { w, x, route, n_expert } => {
                let shared_x = g.shape(*x).cols == g.weight(*w).cols;
                let experts = Experts { n_expert: *n_expert, n_used: g.shape(*route).cols / 2, shared_x };
                for (m, buffer) in self.matrices(*w) {
                    let buffers = [buffer, self.slot(*x), self.slot(*route), self.slot(ValueId(i as u32))];
                    push(kernels::moe_matmul(m, experts, tuning), When::Always, &buffers);
                }
            }
            Op::MoeSum { route, .. } => simple(kernels::moe_sum(cols, g.shape(*route).cols / 2), &[]),
        }
    }

    fn matrices(&self, w: WeightId) -> impl Iterator<Item = (Matrix, &wgpu::Buffer)> {
        let weight = self.plan.graph.weight(w);
        self.weights.parts(w).iter().map(|p| {
            let (dtype, cols, total_rows) = (weight.dtype, weight.cols, weight.rows);
            (Matrix { dtype, cols, row0: p.row0, rows: p.rows, total_rows }, &p.buffer)
        })
    }

    fn table(&self, op: &Op) -> &wgpu::Buffer {
        let found = self.tables.iter().find(|(t, _)| Table::of(op) == Some(*t));
        &found.expect("each table of the plan was made").1
    }

    fn vector(&self, w: WeightId) -> &wgpu::Buffer {
        &self.weights.parts(w)[0].buffer
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
            let matrix = matches!(node.op, Op::Embed { .. } | Op::MatMul { .. } | Op::MoeMatMul { .. });
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

/// Makes pipelines, each text once.
struct Compiler<'a> {
    gpu: &'a Gpu,
    layouts: HashMap<&'static [Access], wgpu::BindGroupLayout>,
    pipelines: HashMap<String, wgpu::ComputePipeline>,
}

impl Compiler<'_> {
    fn dispatch(&mut self, k: Kernel, when: When, rows: Dim, step: &wgpu::Buffer, bound: &[&wgpu::Buffer]) -> Dispatch {
        assert_eq!(k.bind.len(), bound.len(), "{} binds other buffers than it was given", k.name);
        let layout = self.layout(k.bind);
        let part = |buffer, offset, size| wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size });
        let uniform = part(step, 0, wgpu::BufferSize::new(16));
        let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: uniform }];
        for (i, &buffer) in bound.iter().enumerate() {
            let resource = if buffer == step { part(step, IDS_AT, None) } else { buffer.as_entire_binding() };
            entries.push(wgpu::BindGroupEntry { binding: i as u32 + 1, resource });
        }
        let desc = wgpu::BindGroupDescriptor { label: Some(k.name), layout: &layout, entries: &entries };
        let group = self.gpu.device.create_bind_group(&desc);
        let (grid, rows_per_group) = (k.grid, k.rows);
        Dispatch { pipeline: self.pipeline(k, &layout), group, grid, rows, rows_per_group, when }
    }

    fn layout(&mut self, bind: &'static [Access]) -> wgpu::BindGroupLayout {
        let make = || {
            let entry = |binding: usize, ty| wgpu::BindGroupLayoutEntry {
                binding: binding as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
                count: None,
            };
            let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform)];
            for (i, access) in bind.iter().enumerate() {
                entries.push(entry(i + 1, wgpu::BufferBindingType::Storage { read_only: *access == Access::Read }));
            }
            let desc = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
            self.gpu.device.create_bind_group_layout(&desc)
        };
        self.layouts.entry(bind).or_insert_with(make).clone()
    }

    fn pipeline(&mut self, k: Kernel, layout: &wgpu::BindGroupLayout) -> wgpu::ComputePipeline {
        if let Some(p) = self.pipelines.get(&k.source) {
            return p.clone();
        }
        let device = &self.gpu.device;
        let source = wgpu::ShaderSource::Wgsl(k.source.as_str().into());
        let desc = wgpu::ShaderModuleDescriptor { label: Some(k.name), source };
        // SAFETY: every index is bounded by construction: by the constants of the text, which come from the sizes of
        // the buffers that are bound, and by the step, whose rows and positions were checked against the limits.
        // Token ids are checked by the engine, and `embed` by the rows of its part. Numbers of experts are bounded where
        // they are read. Every loop ends. In a browser this is an ordinary module.
        let module = unsafe { device.create_shader_module_trusted(desc, wgpu::ShaderRuntimeChecks::unchecked()) };
        let set = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(k.name),
            layout: Some(&set),
            module: &module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        self.pipelines.insert(k.source, pipeline.clone());
        pipeline
    }
}
