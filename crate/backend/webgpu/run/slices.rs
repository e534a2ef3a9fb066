//! Steps that run in parts, each of which is awaited before the next.

use super::in_flight::Answer;
use super::step::{Runner, Wanted, send};
use super::submit_budget::{fitting, record, work_of};
use super::words;
use crate::backend::webgpu::device::Gpu;
use crate::backend::webgpu::dispatch::{Dispatch, SKIPPED_AT};
use crate::backend::webgpu::prepare::states::Room;
use crate::backend::{Counters, Slice, Step};
use crate::bail;
use crate::error::Result;

/// A part of a step: some dispatches, or some workgroups of one.
enum Part<'a> {
    Whole(&'a [Dispatch]),
    /// Those along z from the first number up to the second.
    Some(&'a Dispatch, [usize; 2]),
}

impl Runner {
    /// Submits what fits into a submit from a place on, or what has so much work.
    pub(crate) fn start_slice(
        &mut self,
        gpu: &Gpu,
        c: &mut Counters,
        step: &Step<'_>,
        from: u64,
        work: Option<u64>,
    ) -> Result<Slice> {
        self.check(step, Wanted::Logits)?;
        let (first, skipped) = Slice::op_and_row(from, self.program.entry(step)?.0.len(), step)?;
        if from == 0 {
            self.reserve(gpu, c, Room::of(step, self.program.uses))?;
            words::write(&mut self.words, step, self.program.uses);
            c.bytes_written += send(gpu, &self.program.buffers, &self.words, step);
        } else {
            gpu.queue.write_buffer(&self.program.buffers.step, SKIPPED_AT, &(skipped as u32).to_le_bytes());
            c.bytes_written += 4;
        }
        let Self { program, in_flight, budget, .. } = self;
        let (all, logits) = program.entry(step)?;
        let (part, next, work) = part(all, step, (first, skipped), work.unwrap_or_else(|| budget.of(step)))?;
        if in_flight.is_empty() {
            budget.begin(work, step);
        }
        let mut encoder = match part {
            Part::Whole(run) => record(gpu, c, run, step, u64::MAX, gpu.encoder(), |_| ()),
            Part::Some(d, [first, end]) => {
                let mut encoder = gpu.encoder();
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                if let Some([x, y, _]) = d.grid(step) {
                    d.record(&mut pass, [x, y, (end - first) as u32]);
                    c.dispatches += 1;
                }
                drop(pass);
                c.passes += 1;
                encoder
            }
        };
        let slice = Slice::new(next.0, next.1, all.len(), step);
        let bytes = if slice.is_last() { step.outputs() * program.plan.graph.columns(step.entry) * 4 } else { 0 };
        in_flight.take(&mut encoder, Answer::Logits, [(logits, 0, bytes as u64)]);
        c.bytes_read += bytes as u64;
        c.steps += u64::from(slice.is_last());
        self.submit_last(gpu, c, encoder)?;
        Ok(slice)
    }
}

/// The part that begins at a dispatch after some of its workgroups along z, where the next one begins, and its work: of a
/// dispatch with more than so much work some workgroups alone, as the uniform has one number of those that are skipped.
fn part<'a>(
    all: &'a [Dispatch],
    step: &Step<'_>,
    (first, skipped): (usize, usize),
    budget: u64,
) -> Result<(Part<'a>, (usize, usize), u64)> {
    let fit = if skipped > 0 { 1 } else { fitting(&all[first..], step, budget) };
    let run = &all[first..first + fit];
    let work = work_of(run, step);
    let mut working = run.iter().enumerate().filter(|(_, d)| d.work(step) > 0);
    if let (Some((i, d)), None) = (working.next(), working.next())
        && (skipped > 0 || work > budget)
        && let Some(parts) = d.parts(step).filter(|parts| skipped < *parts)
    {
        let each = (work / parts as u64).max(1);
        let n = usize::try_from(budget / each).unwrap_or(usize::MAX).clamp(1, parts - skipped);
        let end = skipped + n;
        let next = if end == parts { (first + i + 1, 0) } else { (first + i, end) };
        return Ok((Part::Some(d, [skipped, end]), next, n as u64 * each));
    }
    if skipped > 0 {
        bail!(InvalidArgument, "dispatch {first} of the step has no part from workgroup {skipped} on");
    }
    Ok((Part::Whole(run), (first + fit, 0), work))
}
