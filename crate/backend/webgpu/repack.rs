//! How packed weights lie on the GPU, and how they get there.
//!
//! Blocks of most types are no whole number of vectors, or of words. Of those, the fields of the blocks of 16 rows (a
//! tile) are put together, those of whole vectors first: a tile has as many bytes as before, starts where it started, and
//! its fields are aligned. So bytes go to their place as they come, and when all are there each tile is repacked in
//! place, through a staging buffer on the GPU.

use std::fmt::Write;

use super::device::Gpu;
use super::wgsl::Const::U;
use super::wgsl::{constant, file};
use crate::dtype::DType;
use crate::error::Result;

/// Rows of a tile. Blocks of an odd number of bytes need 16 of them for whole vectors.
pub const TILE: usize = 16;

/// Bytes that are repacked at a time.
const STAGING: usize = 16 << 20;

/// The fields of a block as offset and length, in the order of their planes. `None`: rows stay as they are.
pub fn fields(dtype: DType) -> Option<&'static [(usize, usize)]> {
    Some(match dtype {
        DType::Q4_0 | DType::IQ4_NL => &[(2, 16), (0, 2)],
        DType::Q4_1 => &[(4, 16), (0, 4)],
        DType::Q5_0 => &[(6, 16), (2, 4), (0, 2)],
        DType::Q5_1 => &[(8, 16), (0, 8)],
        DType::Q8_0 => &[(2, 32), (0, 2)],
        DType::Q2_K => &[(0, 80), (80, 4)],
        DType::Q3_K => &[(0, 96), (96, 12), (108, 2)],
        DType::Q6_K => &[(0, 208), (208, 2)],
        DType::IQ4_XS => &[(8, 128), (0, 8)],
        DType::MXFP4 => &[(1, 16), (0, 1)],
        _ => return None,
    })
}

/// Repacks the tiles of a buffer that holds `rows` rows (whole tiles) of `cols` values.
pub struct Repacker<'a> {
    gpu: &'a Gpu,
    staging: Option<wgpu::Buffer>,
    pipelines: Vec<((DType, usize), wgpu::ComputePipeline)>,
}

impl<'a> Repacker<'a> {
    pub fn new(gpu: &'a Gpu) -> Self {
        Self { gpu, staging: None, pipelines: Vec::new() }
    }

    pub fn repack(&mut self, buffer: &wgpu::Buffer, dtype: DType, cols: usize, rows: usize) -> Result<()> {
        let Some(fields) = fields(dtype) else { return Ok(()) };
        let tile = TILE * dtype.row_bytes(cols).expect("the reader refuses rows that are no whole blocks");
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
            self.staging = Some(self.gpu.storage("repack", bytes)?);
        }
        Ok(self.staging.clone().expect("it was just made"))
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

/// Workgroups in the first dimension of a grid.
const GRID_X: usize = 32768;

/// The shader for a type and a length of rows; `source` in it says where a byte of a tile comes from.
pub fn source(dtype: DType, cols: usize, tile: usize, fields: &[(usize, usize)]) -> String {
    let blocks = TILE * cols / dtype.block_elems();
    let mut text = "fn source(i: u32) -> u32 {\n".to_string();
    let mut start = 0;
    for (offset, len) in fields {
        let end = start + blocks * len;
        let block = dtype.block_bytes();
        writeln!(
            text,
            "    if (i < {end}u) {{ return (i - {start}u) / {len}u * {block}u + {offset}u + (i - {start}u) % {len}u; }}"
        )
        .expect("writing to a string does not fail");
        start = end;
    }
    text.push_str("    return i;\n}\n");
    let consts = [("TILE_BYTES", U(tile)), ("GRID_X", U(GRID_X))];
    let mut all = String::new();
    consts.into_iter().for_each(|(key, value)| constant(&mut all, key, value));
    all + &text + file("repack")
}
