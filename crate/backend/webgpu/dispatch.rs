//! Dispatches: the bindings of a kernel, when it runs and with which grid, its pipeline and its bind group.

mod when;

use std::collections::HashMap;

pub(super) use self::when::When;
use super::device::Gpu;
use super::tuning::GEMV_MAX_ROWS;
use crate::backend::{MAX_SEGMENTS, Step};
use crate::graph::{Dim, Graph, Op, Shape};

/// Bytes of the step uniform before its segments, and of a segment: `step.wgsl` declares the same.
pub(super) const HEAD: usize = 64;
/// Its words before those of the sampler.
pub(super) const STEP_WORDS: usize = 4;
pub(super) const SEGMENT: usize = 64;

/// Where the step uniform says how many workgroups along z ran before.
pub(super) const SKIPPED_AT: u64 = (HEAD + MAX_SEGMENTS * SEGMENT) as u64;

/// Bytes of the step uniform.
const UNIFORM: u64 = SKIPPED_AT + 16;

/// Byte offset of the rows in the step buffer: bindings start at multiples of 256.
pub(super) const ROWS_AT: u64 = UNIFORM.next_multiple_of(256);

/// Words of a row: what `rows.wgsl` says.
pub(super) const ROW_WORDS: usize = 4;

/// The most workgroups in one dimension of a grid.
pub(super) const MAX_GRID: usize = 65535;

/// What a kernel does to a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Access {
    Read,
    Write,
}

/// A shader and how it is dispatched.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    pub name: &'static str,
    pub source: String,
    /// The bindings after the step uniform.
    pub bind: Vec<Access>,
    /// Workgroups along x and y.
    pub grid: [u32; 2],
    /// What each workgroup along z takes; there are `z` times as many.
    pub each: Each,
    pub z: usize,
}

/// What a workgroup along z takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Each {
    /// So many rows of the step, whatever their sequence.
    Rows(usize),
    /// So many consecutive tokens of a segment: `tile.wgsl` finds them.
    Tile(usize),
    Segment,
    Step,
}

impl Each {
    /// How many workgroups there are, `z` for each, if the result has so many rows.
    fn of(self, step: &Step<'_>, rows: usize, z: usize) -> usize {
        match self {
            Each::Rows(n) => (rows * z).div_ceil(n),
            Each::Tile(n) => z * step.segments.iter().map(|s| s.tokens.len().div_ceil(n)).sum::<usize>(),
            Each::Segment => z * step.segments.len(),
            Each::Step => z,
        }
    }
}

/// Workgroups along y that grow with the keys: `wanted` of them, each with a multiple of `shortest` keys, and more if
/// one would have more than `longest`. `attention_chunks.wgsl` computes the same. Rows that see fewer keys than others
/// of the step have fewer chunks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunks {
    pub wanted: usize,
    pub shortest: usize,
    pub longest: usize,
    pub window: Option<usize>,
}

impl Chunks {
    /// The number of chunks after this many keys.
    pub(super) fn after(&self, keys: usize) -> usize {
        let seen = keys.min(self.window.unwrap_or(keys));
        let each = seen.div_ceil(self.wanted * self.shortest) * self.shortest;
        seen.div_ceil(each.clamp(self.shortest, self.longest))
    }

    /// The most chunks after up to this many keys.
    pub(super) fn most(&self, keys: usize) -> usize {
        let seen = keys.min(self.window.unwrap_or(keys));
        seen.div_ceil(self.shortest).min(self.wanted.max(seen.div_ceil(self.longest)))
    }
}

/// The cost of reading or writing one value, which is memory-bound.
const VALUE: usize = 64;

/// The work of a dispatch other than multiplying weights, in approximate multiply-adds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    /// Per row.
    row: usize,
    /// Per key that a row sees; `window` is the most keys that it sees.
    key: usize,
    window: Option<usize>,
}

impl Work {
    pub(super) fn of(g: &Graph, node: usize) -> Self {
        let cols = g.nodes[node].shape.map_or(1, |s| s.cols);
        match &g.nodes[node].op {
            Op::Attention { attn: a, .. } => Self { row: cols * VALUE, key: 2 * cols, window: a.window },
            // Its chunks run one after another.
            Op::DeltaRule { delta, .. } => Self { row: 16 * cols * delta.d_head, ..Self::default() },
            _ => Self { row: cols * VALUE, ..Self::default() },
        }
    }

    /// The work for that many rows that end after `keys` keys. A packed byte of weights is two multiply-adds, and
    /// reading it costs as much as multiplying it with a few rows.
    fn total(self, weight_bytes: u64, rows: usize, keys: usize) -> u64 {
        let seen = keys.min(self.window.unwrap_or(keys));
        2 * weight_bytes * rows.max(GEMV_MAX_ROWS) as u64 + (rows * (self.row + self.key * seen)) as u64
    }
}

/// In which steps a kernel runs, and its work in them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// Rows of its result.
    pub rows: Dim,
    pub when: When,
    pub chunks: Option<Chunks>,
    /// Workgroups along z other than those for rows.
    pub more: usize,
    /// Bytes of packed weights that it reads.
    pub weight_bytes: u64,
    /// Its other work.
    pub work: Work,
}

/// A kernel that is ready to run.
pub(super) struct Dispatch {
    pub name: &'static str,
    pub schedule: Schedule,
    pub pipeline: wgpu::ComputePipeline,
    pub group: wgpu::BindGroup,
    /// The bindings after the step uniform.
    bound: Vec<wgpu::Buffer>,
    grid: [u32; 2],
    each: Each,
    z: usize,
    /// Whether its workgroups along z count from those that ran before, so that it can run in parts.
    counts: bool,
}

impl Dispatch {
    /// How many workgroups along z it has in this step, if it can run some of them at a time.
    pub(super) fn parts(&self, step: &Step<'_>) -> Option<usize> {
        self.grid(step).filter(|_| self.counts).map(|[_, _, z]| z as usize)
    }

    /// The grid in this step; `None` if it does not run.
    pub(super) fn grid(&self, step: &Step<'_>) -> Option<[u32; 3]> {
        let Schedule { rows, when, chunks, more, .. } = self.schedule;
        let (rows, keys) = (step.rows(Shape { rows, cols: 0 }), step.keys());
        if !when.holds(step, rows) {
            return None;
        }
        let y = chunks.map_or(self.grid[1], |c| c.after(keys) as u32);
        Some([self.grid[0], y, (self.each.of(step, rows, self.z) + more) as u32])
    }

    /// Its work in this step; 0 if it does not run.
    pub(super) fn work(&self, step: &Step<'_>) -> u64 {
        let Some([_, _, z]) = self.grid(step) else { return 0 };
        // Those of a tile that is not full cost as much as others.
        let rows = match self.each {
            Each::Rows(n) | Each::Tile(n) => (z as usize * n).div_ceil(self.z),
            Each::Segment | Each::Step => step.len(),
        };
        self.schedule.work.total(self.schedule.weight_bytes, rows, step.keys())
    }

    /// Records it with a grid.
    pub(super) fn record(&self, pass: &mut wgpu::ComputePass<'_>, [x, y, z]: [u32; 3]) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }

    /// Replaces bound buffers by others. Returns whether any of the old ones was bound.
    pub(super) fn rebind(&mut self, gpu: &Gpu, step: &wgpu::Buffer, moved: &[(wgpu::Buffer, wgpu::Buffer)]) -> bool {
        let mut any = false;
        for b in &mut self.bound {
            if let Some((_, to)) = moved.iter().find(|(from, _)| b == from) {
                *b = to.clone();
                any = true;
            }
        }
        if any {
            self.group = group(gpu, self.name, &self.pipeline.get_bind_group_layout(0), step, &self.bound);
        }
        any
    }
}

/// The step uniform and these buffers; `step` stands for the rows.
fn group(
    gpu: &Gpu,
    name: &str,
    layout: &wgpu::BindGroupLayout,
    step: &wgpu::Buffer,
    bound: &[wgpu::Buffer],
) -> wgpu::BindGroup {
    let part = |buffer, offset, size| wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size });
    let uniform = part(step, 0, wgpu::BufferSize::new(UNIFORM));
    let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: uniform }];
    for (i, buffer) in bound.iter().enumerate() {
        let resource = if buffer == step { part(step, ROWS_AT, None) } else { buffer.as_entire_binding() };
        entries.push(wgpu::BindGroupEntry { binding: i as u32 + 1, resource });
    }
    gpu.device.create_bind_group(&wgpu::BindGroupDescriptor { label: Some(name), layout, entries: &entries })
}

/// Compiles pipelines, each source once.
pub(super) struct Compiler<'a> {
    gpu: &'a Gpu,
    layouts: HashMap<Vec<Access>, wgpu::BindGroupLayout>,
    pipelines: HashMap<String, wgpu::ComputePipeline>,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(gpu: &'a Gpu) -> Self {
        Self { gpu, layouts: HashMap::new(), pipelines: HashMap::new() }
    }

    /// How many were compiled.
    pub(super) fn pipelines(&self) -> u64 {
        self.pipelines.len() as u64
    }

    /// The dispatch of a kernel on these buffers; `step` stands for the rows.
    pub(super) fn dispatch(
        &mut self,
        k: Kernel,
        schedule: Schedule,
        step: &wgpu::Buffer,
        bound: &[&wgpu::Buffer],
    ) -> Dispatch {
        assert_eq!(k.bind.len(), bound.len(), "{} binds other buffers than it was given", k.name);
        let layout = self.layout(&k.bind);
        let bound: Vec<_> = bound.iter().map(|b| (*b).clone()).collect();
        let group = group(self.gpu, k.name, &layout, step, &bound);
        let (name, grid, each, z) = (k.name, k.grid, k.each, k.z);
        let counts = z == 1 && schedule.more == 0 && k.source.contains("now.skipped");
        let pipeline = self.pipeline(k, &layout);
        Dispatch { name, schedule, pipeline, group, bound, grid, each, z, counts }
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
        // SAFETY: every index is bounded by construction: by the constants of the source, which come from the sizes of
        // the bound buffers, and by the step, whose rows, positions, blocks and slots were checked against the limits.
        // Token ids are checked by the engine, and `embed` by the rows of its part. Expert numbers are bounded where they are read.
        // Every loop ends. In a browser this is an ordinary module.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_fill_a_gpu_and_are_never_more_than_there_is_room_for() {
        let c = Chunks { wanted: 64, shortest: 32, longest: 256, window: None };
        assert_eq!([1, 32, 33, 200, 2048, 2049, 4096].map(|n| c.after(n)), [1, 1, 2, 7, 64, 33, 64]);
        assert_eq!(c.after(32768), 128, "they are no longer than the longest");
        let windowed = Chunks { window: Some(512), ..c };
        assert_eq!((windowed.after(400), windowed.after(100_000)), (13, 16));
        for c in [c, windowed, Chunks { wanted: 3, shortest: 32, longest: 128, window: None }] {
            for n in [1, 31, 64, 511, 513, 2047, 3000, 40_000] {
                assert!((1..=n).all(|keys| c.after(keys) <= c.most(n)), "{c:?} after {n}");
            }
        }
    }

    #[test]
    fn work_grows_with_weights_rows_and_the_keys_of_a_window() {
        let work = Work { row: 3, key: 5, window: Some(100) };
        assert_eq!(work.total(0, 2, 40), 2 * (3 + 5 * 40));
        assert_eq!(work.total(0, 2, 400), 2 * (3 + 5 * 100));
        assert_eq!(work.total(7, 64, 0) - work.total(0, 64, 0), 2 * 7 * 64);
        let reads = work.total(7, 1, 0) - work.total(0, 1, 0);
        assert_eq!(reads, 2 * 7 * GEMV_MAX_ROWS as u64, "reading weights costs too");
    }
}
