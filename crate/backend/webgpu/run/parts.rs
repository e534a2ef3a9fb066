//! Parts of the cache that are copied, read and written.

use std::task::{Context, Poll};

use super::in_flight::Answer;
use super::step::Runner;
use crate::backend::webgpu::device::Gpu;
use crate::backend::webgpu::prepare::states::Room;
use crate::backend::{CachePart, Counters};
use crate::bail;
use crate::error::Result;
use crate::graph::CacheKind;

impl Runner {
    /// Bytes of a part of the cache.
    pub(crate) fn part_bytes(&self, part: CachePart) -> u64 {
        self.program.buffers.states.places(part).map(|(_, _, bytes)| bytes).sum()
    }

    /// Copies a block after what was submitted.
    pub(crate) fn copy_block(
        &mut self,
        gpu: &Gpu,
        c: &mut Counters,
        kind: CacheKind,
        from: u32,
        to: u32,
    ) -> Result<()> {
        for i in [from, to] {
            self.reserve_part(gpu, c, CachePart::Block(kind, i))?;
        }
        let states = &mut self.program.buffers.states;
        if from == to || states.places(CachePart::Block(kind, from)).next().is_none() {
            return Ok(());
        }
        c.buffers += states.prepare_copies(gpu)?;
        states.copy(gpu, kind, from, to);
        c.submits += 1;
        gpu.fault.check()
    }

    /// Starts to read a part of the cache as it is after what was submitted.
    pub(crate) fn submit_read(&mut self, gpu: &Gpu, c: &mut Counters, part: CachePart) -> Result<()> {
        self.reserve_part(gpu, c, part)?;
        let bytes = self.part_bytes(part);
        c.buffers += self.reads.ensure(gpu, Answer::Part, bytes)?;
        let mut encoder = gpu.encoder();
        let places = self.program.buffers.states.places(part);
        self.reads.take(&mut encoder, Answer::Part, places);
        let submission = gpu.queue.submit([encoder.finish()]);
        self.reads.notify(&gpu.queue, submission);
        c.submits += 1;
        gpu.fault.check()
    }

    /// Copies the oldest part that is being read.
    pub(crate) fn poll_read(&mut self, gpu: &Gpu, cx: &Context<'_>, bytes: &mut [u8]) -> Poll<Result<()>> {
        let read = self.reads.poll(gpu, cx, Answer::Part, bytes);
        self.reads.free_all_but_one();
        read
    }

    /// Writes a part of the cache after what was submitted.
    pub(crate) fn write_part(&mut self, gpu: &Gpu, c: &mut Counters, part: CachePart, bytes: &[u8]) -> Result<()> {
        self.reserve_part(gpu, c, part)?;
        let want = self.part_bytes(part);
        if bytes.len() as u64 != want {
            bail!(InvalidArgument, "{part:?} has {want} bytes, not {}: it is of another plan or backend", bytes.len());
        }
        let mut rest = bytes;
        for (buffer, at, len) in self.program.buffers.states.places(part) {
            let (now, later) = rest.split_at(len as usize);
            gpu.queue.write_buffer(buffer, at, now);
            rest = later;
        }
        gpu.fault.check()
    }

    fn reserve_part(&mut self, gpu: &Gpu, c: &mut Counters, part: CachePart) -> Result<()> {
        let need = Room::of_part(part);
        if !need.is_within(Room::most(self.program.limits)) {
            bail!(InvalidArgument, "{part:?} is beyond the limits of the cache");
        }
        self.reserve(gpu, c, need)
    }
}
