//! Steps that run in parts, each of which is awaited before the next.

use super::in_flight::Answer;
use super::step::{Runner, Wanted, record, send};
use super::submit_budget::fitting;
use super::words;
use crate::backend::webgpu::device::Gpu;
use crate::backend::webgpu::prepare::states::Room;
use crate::backend::{Counters, Slice, Step};
use crate::bail;
use crate::error::Result;

impl Runner {
    /// Submits the dispatches from a place on that fit into a submit, or that have so much work.
    pub(crate) fn start_slice(
        &mut self,
        gpu: &Gpu,
        c: &mut Counters,
        step: &Step<'_>,
        from: usize,
        work: Option<u64>,
    ) -> Result<Slice> {
        self.check(step, Wanted::Logits)?;
        if from == 0 {
            self.reserve(gpu, c, Room::of(step, self.program.uses))?;
            words::write(&mut self.words, step, self.program.uses);
            c.bytes_written += send(gpu, &self.program.buffers, &self.words, step);
        }
        let Self { program, in_flight, budget, .. } = self;
        let (all, logits) = program.entry(step)?;
        if from >= all.len() {
            bail!(InvalidArgument, "a step of {} dispatches has no part from place {from} on", all.len());
        }
        let next = from + fitting(&all[from..], step, work.unwrap_or_else(|| budget.of(step)));
        let run = &all[from..next];
        if in_flight.is_empty() {
            budget.begin(run, step);
        }
        let mut encoder = record(gpu, c, run, step, u64::MAX, gpu.encoder(), |_| ());
        let slice = Slice { next, of: all.len() };
        let bytes = if slice.is_last() { step.outputs() * program.plan.graph.columns(step.entry) * 4 } else { 0 };
        in_flight.take(&mut encoder, Answer::Logits, [(logits, 0, bytes as u64)]);
        c.bytes_read += bytes as u64;
        c.steps += u64::from(slice.is_last());
        self.submit_last(gpu, c, encoder)?;
        Ok(slice)
    }
}
