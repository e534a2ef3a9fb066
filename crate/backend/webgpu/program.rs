//! A plan made ready: buffers, pipelines and bind groups of every dispatch. Steps make none of these.

use std::collections::HashMap;

use super::device::Gpu;
use super::kernels::{self, Access, Kernel};
use super::lower;
use super::pace::Work;
use super::states::States;
use super::tables::Table;
use super::weights::Weights;
use crate::backend::{Limits, Step};
use crate::bail;
use crate::error::Result;
use crate::graph::{Dim, Graph, Op, Plan, Shape, SlotId, ValueId};

/// Bytes from the start of the step buffer to the token ids: bindings start at multiples of this.
pub const IDS_AT: u64 = 256;

/// When a dispatch runs: for so many rows, and so many keys at the end of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    rows: [usize; 2],
    keys: [usize; 2],
}

impl When {
    pub const ALWAYS: Self = Self { rows: [1, usize::MAX], keys: [0, usize::MAX] };

    /// For `least` to `most` rows.
    pub fn rows(least: usize, most: usize) -> Self {
        Self { rows: [least, most], ..Self::ALWAYS }
    }

    /// And for `least` to `most` keys.
    #[must_use]
    pub fn and_keys(self, least: usize, most: usize) -> Self {
        Self { keys: [least, most], ..self }
    }

    pub fn is_never(&self) -> bool {
        self.rows[0] > self.rows[1]
    }

    /// For fewer rows than this.
    #[must_use]
    pub fn before(&self) -> Self {
        Self::rows(1, self.rows[0] - 1)
    }

    /// For as many rows, and more.
    #[must_use]
    pub fn and_more(&self) -> Self {
        Self::rows(self.rows[0], usize::MAX)
    }

    /// Whether it never happens in steps of at most `rows` rows.
    pub fn is_beyond(&self, rows: usize) -> bool {
        self.rows[0] > rows
    }
}

/// Workgroups along y that grow with the keys: one for each `chunk` of them.
#[derive(Clone, Copy, Debug)]
pub struct Chunks {
    pub keys: usize,
    pub window: Option<usize>,
}

pub struct Dispatch {
    pub name: &'static str,
    /// Bytes of packed weights that it reads.
    pub weight_bytes: u64,
    /// What else it does.
    pub other: Work,
    pub pipeline: wgpu::ComputePipeline,
    pub group: wgpu::BindGroup,
    /// What the group binds after the step uniform.
    bound: Vec<wgpu::Buffer>,
    grid: [u32; 2],
    z: usize,
    rows: Dim,
    rows_per_group: usize,
    pub when: When,
    pub chunks: Option<Chunks>,
    /// Workgroups along z besides those for rows.
    pub more: usize,
}

impl Dispatch {
    /// The grid in this step, `None` where it does not run.
    pub fn grid(&self, step: &Step<'_>) -> Option<[u32; 3]> {
        let rows = step.rows(Shape { rows: self.rows, cols: 0 });
        let keys = step.pos + step.tokens.len();
        let within = |[least, most]: [usize; 2], n: usize| (least..=most).contains(&n);
        if !within(self.when.rows, rows) || !within(self.when.keys, keys) {
            return None;
        }
        let y = self.chunks.map_or(self.grid[1], |c| keys.min(c.window.unwrap_or(keys)).div_ceil(c.keys) as u32);
        Some([self.grid[0], y, ((rows * self.z).div_ceil(self.rows_per_group) + self.more) as u32])
    }

    /// Its work in this step, none where it does not run.
    pub fn work(&self, step: &Step<'_>) -> u64 {
        let Some([_, _, z]) = self.grid(step) else { return 0 };
        // One that takes them all has no more than there are.
        let each = if self.rows_per_group == usize::MAX { step.tokens.len() } else { self.rows_per_group };
        let rows = (z as usize * each).div_ceil(self.z);
        self.other.total(self.weight_bytes, rows, step.pos + step.tokens.len())
    }

    /// Binds another buffer in the place of one. Says whether that was bound.
    fn rebind(&mut self, gpu: &Gpu, step: &wgpu::Buffer, from: &wgpu::Buffer, to: &wgpu::Buffer) -> bool {
        if !self.bound.contains(from) {
            return false;
        }
        self.bound.iter_mut().filter(|b| *b == from).for_each(|b| *b = to.clone());
        self.group = group(gpu, self.name, &self.pipeline.get_bind_group_layout(0), step, &self.bound);
        true
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
        let scratch = gpu.storage("scratch", lower::scratch_bytes(g, limits, gpu.tuning))?;
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
        let quantized = gpu.storage("quantized", lower::quantized_bytes(g, limits, gpu.tuning))?;
        let buffers = (slots.len() + tables.len() + groups.len() + 3) as u64 + states.buffers() + weights.buffers();
        let mut program = Self {
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

    fn compile(&mut self, gpu: &Gpu) -> Result<()> {
        let mut compiler = Compiler { gpu, layouts: HashMap::new(), pipelines: HashMap::new() };
        for (entry, part) in self.plan.graph.parts().enumerate() {
            let mut all = Vec::new();
            for i in part.nodes {
                lower::node(self, i, &mut compiler, &mut all);
            }
            self.dispatches[entry] = all;
        }
        self.pipelines = compiler.pipelines.len() as u64;
        self.bind_groups = self.dispatches.iter().map(|d| d.len() as u64).sum();
        gpu.fault.check()
    }
}

/// The step uniform and these buffers, of which `step` stands for the ids.
fn group(
    gpu: &Gpu,
    name: &str,
    layout: &wgpu::BindGroupLayout,
    step: &wgpu::Buffer,
    bound: &[wgpu::Buffer],
) -> wgpu::BindGroup {
    let part = |buffer, offset, size| wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size });
    let uniform = part(step, 0, wgpu::BufferSize::new(16));
    let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: uniform }];
    for (i, buffer) in bound.iter().enumerate() {
        let resource = if buffer == step { part(step, IDS_AT, None) } else { buffer.as_entire_binding() };
        entries.push(wgpu::BindGroupEntry { binding: i as u32 + 1, resource });
    }
    gpu.device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(name), layout, entries: &entries })
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

/// Makes pipelines, each text once.
pub struct Compiler<'a> {
    pub gpu: &'a Gpu,
    layouts: HashMap<Vec<Access>, wgpu::BindGroupLayout>,
    pipelines: HashMap<String, wgpu::ComputePipeline>,
}

impl Compiler<'_> {
    /// The dispatch of a kernel on these buffers, of which `step` stands for the ids.
    pub fn dispatch(&mut self, k: Kernel, rows: Dim, step: &wgpu::Buffer, bound: &[&wgpu::Buffer]) -> Dispatch {
        assert_eq!(k.bind.len(), bound.len(), "{} binds other buffers than it was given", k.name);
        let layout = self.layout(&k.bind);
        let bound: Vec<_> = bound.iter().map(|b| (*b).clone()).collect();
        let group = group(self.gpu, k.name, &layout, step, &bound);
        let (name, grid, z, rows_per_group) = (k.name, k.grid, k.z, k.rows);
        let pipeline = self.pipeline(k, &layout);
        Dispatch {
            name,
            weight_bytes: 0,
            other: Work::default(),
            pipeline,
            group,
            bound,
            grid,
            z,
            rows,
            rows_per_group,
            when: When::ALWAYS,
            chunks: None,
            more: 0,
        }
    }

    fn layout(&mut self, bind: &[Access]) -> wgpu::BindGroupLayout {
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
        self.layouts.entry(bind.to_vec()).or_insert_with(make).clone()
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
