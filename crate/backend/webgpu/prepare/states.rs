//! State that outlives a step: rows of keys and values, which grow, and recurrent states, which do not.

use crate::backend::webgpu::device::{Gpu, check_binding};
use crate::backend::webgpu::kernels::kv::kv_of;
use crate::backend::{KvType, Limits};
use crate::error::Result;
use crate::graph::{Graph, Op, StateId};

/// The initial capacity of the cache in positions, and the least by which it grows.
const CHUNK: usize = 512;

pub(crate) struct States {
    all: Vec<wgpu::Buffer>,
    /// Positions for which states with a row per position have room.
    rows: usize,
    /// The index of each recurrent state, and the buffer of its copy.
    saved: Vec<(usize, wgpu::Buffer)>,
}

impl States {
    pub(crate) fn new(gpu: &Gpu, g: &Graph, limits: Limits) -> Result<Self> {
        check(g, limits, gpu.max_binding)?;
        let rows = limits.n_ctx.min(CHUNK);
        let state = |i: usize| allocate(gpu, g, i, limits.kv, rows);
        let all = (0..g.states.len()).map(state).collect::<Result<_>>()?;
        let recurrent = (0..g.states.len()).filter(|i| g.states[*i].rows.is_recurrent());
        let saved = recurrent.map(|i| Ok((i, state(i)?))).collect::<Result<_>>()?;
        Ok(Self { all, rows, saved })
    }

    pub(crate) fn get(&self, s: StateId) -> &wgpu::Buffer {
        &self.all[s.index()]
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.all.iter().chain(self.saved.iter().map(|(_, b)| b)).map(wgpu::Buffer::size).sum()
    }

    pub(crate) fn buffers(&self) -> u64 {
        (self.all.len() + self.saved.len()) as u64
    }

    /// Grows the cache to hold positions below `end`, and at least by half: rows move to larger buffers, and `moved` is
    /// called with the old and the new one. Returns how many moved.
    pub(crate) fn reserve(
        &mut self,
        gpu: &Gpu,
        g: &Graph,
        limits: Limits,
        end: usize,
        mut moved: impl FnMut(&wgpu::Buffer, &wgpu::Buffer),
    ) -> Result<u64> {
        if end <= self.rows {
            return Ok(0);
        }
        let rows = end.max(self.rows + self.rows / 2).next_multiple_of(CHUNK).min(limits.n_ctx);
        let mut n = 0;
        for (i, buffer) in self.all.iter_mut().enumerate().filter(|(i, _)| !g.states[*i].rows.is_recurrent()) {
            let new = allocate(gpu, g, i, limits.kv, rows)?;
            let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(buffer, 0, &new, 0, buffer.size());
            gpu.queue.submit([encoder.finish()]);
            moved(buffer, &new);
            // One at a time, each freed as soon as the GPU is done with it, to keep the peak low.
            std::mem::replace(buffer, new).destroy();
            n += 1;
        }
        self.rows = rows;
        gpu.fault.check().map(|()| n)
    }

    /// Copies the recurrent states to their copies, or back. Returns whether there are any.
    pub(crate) fn copy_recurrent(&self, gpu: &Gpu, back: bool) -> bool {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        for (i, saved) in &self.saved {
            let (from, to) = if back { (saved, &self.all[*i]) } else { (&self.all[*i], saved) };
            encoder.copy_buffer_to_buffer(from, 0, to, 0, from.size());
        }
        if !self.saved.is_empty() {
            gpu.queue.submit([encoder.finish()]);
        }
        !self.saved.is_empty()
    }
}

/// Refuses states that could not be bound whole once the context is full.
pub(crate) fn check(g: &Graph, limits: Limits, max_binding: u64) -> Result<()> {
    (0..g.states.len()).try_for_each(|i| {
        let bytes = state_bytes(g, StateId(i as u32), limits.kv, limits.n_ctx);
        check_binding(&g.states[i].name, bytes, max_binding)
    })
}

/// A state with room for `rows` positions.
fn allocate(gpu: &Gpu, g: &Graph, i: usize, kv: KvType, rows: usize) -> Result<wgpu::Buffer> {
    gpu.storage(&g.states[i].name, state_bytes(g, StateId(i as u32), kv, rows))
}

/// Bytes of a state with room for `rows` positions.
fn state_bytes(g: &Graph, s: StateId, kv: KvType, rows: usize) -> u64 {
    let state = g.state(s);
    let heads = g.nodes.iter().find_map(|n| match &n.op {
        Op::RopeStore(p) if p.keys == s || p.values == s => Some(state.cols / p.rope.d_head),
        _ => None,
    });
    let row = heads.map_or(state.cols * 4, |n| n * kv_of(g, s, kv).bytes(state.cols / n));
    (state.rows.count(rows) * row) as u64
}
