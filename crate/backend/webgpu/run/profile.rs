//! Times each kernel of a step with timestamp queries.

use super::in_flight::mapped;
use crate::backend::webgpu::device::Gpu;
use crate::backend::webgpu::dispatch::Dispatch;
use crate::backend::webgpu::kernels;
use crate::backend::{Step, Timed};
use crate::bail;
use crate::error::Result;

/// Dispatches whose timestamps fit into one query set.
const BATCH: usize = 1024;

/// Runs a step's dispatches, each in a pass of its own.
pub(crate) async fn run(gpu: &Gpu, dispatches: &[Dispatch], step: &Step<'_>) -> Result<Vec<Timed>> {
    let running: Vec<_> = dispatches.iter().filter_map(|d| Some((d, d.grid(step)?))).collect();
    let mut all = Vec::with_capacity(running.len());
    for batch in running.chunks(BATCH) {
        let times = time(gpu, batch.len(), |encoder, i, writes| {
            let (d, [x, y, z]) = batch[i];
            let mut pass = encoder
                .begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(writes) });
            pass.set_pipeline(&d.pipeline);
            pass.set_bind_group(0, &d.group, &[]);
            pass.dispatch_workgroups(x, y, z);
        });
        let timed =
            |((d, _), ns): (&(&Dispatch, _), f64)| Timed { kernel: d.name, ns, weight_bytes: d.schedule.weight_bytes };
        all.extend(batch.iter().zip(times.await?).map(timed));
    }
    Ok(all)
}

/// Bytes per second of a kernel that only reads a large buffer, vector by vector: the limit to compare kernels with.
pub(crate) async fn streaming_read(gpu: &Gpu) -> Result<f64> {
    const REPEATS: usize = 5;
    // Larger than any cache, and small enough for a phone.
    let bytes = gpu.max_binding.min(if gpu.tuning.software { 64 << 20 } else { 256 << 20 }) / 4096 * 4096;
    let (from, to) = (gpu.storage("read", bytes)?, gpu.storage("sums", 1 << 16)?);
    let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("read"),
        source: wgpu::ShaderSource::Wgsl(kernels::read().into()),
    });
    let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("read"),
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: Default::default(),
        cache: None,
    });
    let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("read"),
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[
            wgpu::BindGroupEntry { binding: 0, resource: from.as_entire_binding() },
            wgpu::BindGroupEntry { binding: 1, resource: to.as_entire_binding() },
        ],
    });
    let times = time(gpu, REPEATS, |encoder, _, writes| {
        let mut pass =
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(writes) });
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(2048, 1, 1);
    });
    let best = times.await?.into_iter().fold(f64::INFINITY, f64::min);
    [from, to].iter().for_each(wgpu::Buffer::destroy);
    Ok(bytes as f64 / (best.max(1.0) * 1e-9))
}

/// The nanoseconds of each of the `n` passes that `record` encodes.
pub(crate) async fn time(
    gpu: &Gpu,
    n: usize,
    mut record: impl FnMut(&mut wgpu::CommandEncoder, usize, wgpu::ComputePassTimestampWrites<'_>),
) -> Result<Vec<f64>> {
    if !gpu.timestamps {
        bail!(InvalidState, "timestamp queries are not available: the GPU lacks them or the browser hides them");
    }
    let bytes = (2 * n * 8) as u64;
    let queries = gpu.device.create_query_set(&wgpu::QuerySetDescriptor {
        label: Some("times"),
        ty: wgpu::QueryType::Timestamp,
        count: 2 * n as u32,
    });
    use wgpu::BufferUsages as U;
    let buffer = |usage| {
        let desc = wgpu::BufferDescriptor { label: Some("times"), size: bytes, usage, mapped_at_creation: false };
        gpu.device.create_buffer(&desc)
    };
    let (resolved, read) = (buffer(U::QUERY_RESOLVE | U::COPY_SRC), buffer(U::MAP_READ | U::COPY_DST));
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    for i in 0..n {
        let (begin, end) = (Some(2 * i as u32), Some(2 * i as u32 + 1));
        record(
            &mut encoder,
            i,
            wgpu::ComputePassTimestampWrites {
                query_set: &queries,
                beginning_of_pass_write_index: begin,
                end_of_pass_write_index: end,
            },
        );
    }
    encoder.resolve_query_set(&queries, 0..2 * n as u32, &resolved, 0);
    encoder.copy_buffer_to_buffer(&resolved, 0, &read, 0, bytes);
    gpu.queue.submit([encoder.finish()]);
    mapped(gpu, &read).await?;
    let Ok(view) = read.get_mapped_range(..) else { bail!(GpuError, "the timestamps could not be read back") };
    let period = f64::from(gpu.queue.get_timestamp_period());
    let ticks = |at: &[u8]| at.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let times = view.chunks_exact(16).map(|pair| ticks(&pair[8..]).saturating_sub(ticks(&pair[..8])) as f64 * period);
    let times = times.collect();
    drop(view);
    [resolved, read].iter().for_each(wgpu::Buffer::destroy);
    Ok(times)
}
