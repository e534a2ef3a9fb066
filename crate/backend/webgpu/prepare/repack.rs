//! Repacks weights on the GPU once they are complete: tile by tile, in place, through a staging buffer.

use crate::backend::webgpu::device::Gpu;
use crate::backend::webgpu::kernels::repack::{GRID_X, TILE, fields, source};
use crate::dtype::DType;
use crate::error::Result;

/// Bytes that are repacked at a time.
const STAGING: usize = 16 << 20;

/// Repacks the tiles of a buffer that holds `rows` rows (whole tiles) of `cols` values.
pub(crate) struct Repacker<'a> {
    gpu: &'a Gpu,
    staging: Option<wgpu::Buffer>,
    pipelines: Vec<((DType, usize), wgpu::ComputePipeline)>,
}

impl<'a> Repacker<'a> {
    pub(crate) fn new(gpu: &'a Gpu) -> Self {
        Self { gpu, staging: None, pipelines: Vec::new() }
    }

    pub(crate) fn repack(&mut self, buffer: &wgpu::Buffer, dtype: DType, cols: usize, rows: usize) -> Result<()> {
        let Some(fields) = fields(dtype) else { return Ok(()) };
        let tile = TILE * dtype.row_bytes(cols).expect("the reader refuses rows that are not whole blocks");
        let pipeline = self.pipeline(dtype, cols, tile, fields);
        // Offsets of bindings are multiples of 256: so are 16 tiles, each of which is a multiple of 16.
        let batch = (STAGING / tile / 16 * 16).max(16).min(rows / TILE);
        let staging = self.staging((batch * tile) as u64)?;
        for first in (0..rows / TILE).step_by(batch) {
            let tiles = batch.min(rows / TILE - first);
            let (at, len) = ((first * tile) as u64, (tiles * tile) as u64);
            let part = |binding, buffer, offset| {
                let size = wgpu::BufferSize::new(len);
                let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size });
                wgpu::BindGroupEntry { binding, resource }
            };
            let group = self.gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: Some("repack"),
                layout: &pipeline.get_bind_group_layout(0),
                entries: &[part(0, &staging, 0), part(1, buffer, at)],
            });
            let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(buffer, at, &staging, 0, len);
            {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                pass.set_pipeline(&pipeline);
                pass.set_bind_group(0, &group, &[]);
                let groups = (len as u32 / 4).div_ceil(64);
                pass.dispatch_workgroups(groups.min(GRID_X as u32), groups.div_ceil(GRID_X as u32), 1);
            }
            self.gpu.queue.submit([encoder.finish()]);
        }
        self.gpu.fault.check()
    }

    fn staging(&mut self, bytes: u64) -> Result<wgpu::Buffer> {
        if self.staging.as_ref().is_none_or(|b| b.size() < bytes) {
            self.free();
            self.staging = Some(self.gpu.storage("repack", bytes)?);
        }
        Ok(self.staging.clone().expect("it was just made"))
    }

    /// At once: a browser would wait for its garbage collector.
    fn free(&mut self) {
        if let Some(staging) = self.staging.take() {
            staging.destroy();
        }
    }

    fn pipeline(&mut self, dtype: DType, cols: usize, tile: usize, fields: &[(usize, usize)]) -> wgpu::ComputePipeline {
        if let Some((_, p)) = self.pipelines.iter().find(|(of, _)| *of == (dtype, cols)) {
            return p.clone();
        }
        let source = source(dtype, cols, tile, fields);
        let module = self.gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
            label: Some("repack"),
            source: wgpu::ShaderSource::Wgsl(source.into()),
        });
        let pipeline = self.gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("repack"),
            layout: None,
            module: &module,
            entry_point: Some("main"),
            compilation_options: Default::default(),
            cache: None,
        });
        self.pipelines.push(((dtype, cols), pipeline.clone()));
        pipeline
    }
}

impl Drop for Repacker<'_> {
    fn drop(&mut self) {
        self.free();
    }
}
