//! One step: what is written for it, the passes that are recorded, and what comes back to the host.

use std::task::{Context, Poll};

use super::cut::Rows;
use super::fits::fits;
use super::in_flight::{Answer, InFlight};
use super::submit_budget::{SubmitBudget, alike, record, tokens_at_once, unanswered, work_of};
use super::words;
use crate::backend::webgpu::device::Gpu;
use crate::backend::webgpu::prepare::buffers::Buffers;
use crate::backend::webgpu::prepare::program::Program;
use crate::backend::webgpu::prepare::sampler::{self, Sampler};
use crate::backend::webgpu::prepare::states::Room;
use crate::backend::{Counters, Draw, Limits, Logprobs, MAX_SEGMENTS, SampleRequest, SamplingRules, Step};
use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Entry, Plan};

/// Steps whose tokens the GPU chooses that may be in flight at once, and steps with rows of logits, which take more
/// memory.
const MAX_IN_FLIGHT: usize = 12;
const MAX_LOGITS_IN_FLIGHT: usize = 4;

/// What the host wants of a step.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    Logits,
    /// The token after its row of logits.
    Token(&'a SampleRequest<'a>),
    /// A token after each row. So many of the last tokens are those that the block for multi-token prediction chose.
    Rows(&'a [Draw], usize),
}

impl<'a> Wanted<'a> {
    fn token(self) -> Option<&'a SampleRequest<'a>> {
        if let Wanted::Token(request) = self { Some(request) } else { None }
    }

    /// What waits for masks, of a step of this part.
    fn masked(self, entry: Entry) -> Option<Masked> {
        match self {
            Wanted::Token(request) if request.masked => Some(Masked::Token(entry, *request.rules)),
            Wanted::Rows(draws, _) if draws.iter().any(|d| d.masked) => Some(Masked::Rows(draws.len())),
            _ => None,
        }
    }
}

/// What is chosen once there are masks.
#[derive(Clone, Copy)]
enum Masked {
    Token(Entry, SamplingRules),
    /// After each of so many rows.
    Rows(usize),
}

/// A plan that is ready, and its steps in flight.
pub(crate) struct Runner {
    pub program: Program,
    /// That of the trunk and that of the block for multi-token prediction, made when they are first asked for.
    samplers: [Option<Sampler>; 2],
    /// That of several rows of the trunk.
    row_sampler: Option<Sampler>,
    /// Of the last step, if that waits for masks.
    masked: Option<Masked>,
    /// Of the last token that was read, if it came with some.
    pub logprobs: Logprobs,
    pub(super) in_flight: InFlight,
    /// Parts of the cache that are being read.
    pub reads: InFlight,
    pub(super) budget: SubmitBudget,
    /// The step buffer as it is written: kept, so that steps do not allocate.
    pub(super) words: Vec<u32>,
}

impl Runner {
    /// With work per second that is given, or else measured.
    pub(crate) fn new(gpu: &Gpu, plan: Plan, limits: Limits, rate: Option<u64>) -> Result<Self> {
        let program = Program::new(gpu, plan, limits)?;
        let logits = limits.max_outputs * program.plan.graph.columns(Entry::Trunk) * 4;
        let mut in_flight = InFlight::default();
        in_flight.add(gpu, Answer::Logits, MAX_LOGITS_IN_FLIGHT, logits as u64)?;
        let budget = SubmitBudget::new(rate, gpu.tuning.software);
        Ok(Self {
            program,
            samplers: [None, None],
            row_sampler: None,
            masked: None,
            logprobs: Logprobs::default(),
            in_flight,
            reads: InFlight::default(),
            budget,
            words: Vec::new(),
        })
    }

    /// What was made so far.
    pub(crate) fn counters(&self) -> Counters {
        let made = self.program.made;
        Counters {
            pipelines: made.pipelines,
            buffers: made.buffers + MAX_LOGITS_IN_FLIGHT as u64,
            bind_groups: made.bind_groups,
            ..Counters::default()
        }
    }

    /// Prepares sampling by these rules. Returns how many such steps may be in flight at once.
    pub(crate) fn prepare_sampling(&mut self, gpu: &Gpu, c: &mut Counters, rules: &SamplingRules) -> Result<usize> {
        if !sampler::knows(rules, self.program.plan.graph.columns(Entry::Trunk)) {
            return Ok(0);
        }
        if self.samplers[0].is_none() {
            self.in_flight.add(gpu, Answer::Token, MAX_IN_FLIGHT, sampler::MOST_READ)?;
            c.buffers += MAX_IN_FLIGHT as u64;
            for entry in [Entry::Trunk, Entry::Mtp] {
                if self.program.plan.graph.part(entry).is_some() {
                    self.samplers[number(entry)] = Some(self.sampler(gpu, c, entry, 1)?);
                }
            }
        }
        gpu.fault.check().map(|()| MAX_IN_FLIGHT)
    }

    /// Prepares choosing the tokens of several rows by these rules.
    pub(crate) fn prepare_rows(&mut self, gpu: &Gpu, c: &mut Counters, rules: &SamplingRules) -> Result<bool> {
        if !sampler::knows_rows(rules, self.program.plan.graph.columns(Entry::Trunk)) {
            return Ok(false);
        }
        if self.row_sampler.is_none() {
            let sampler = self.sampler(gpu, c, Entry::Trunk, MAX_SEGMENTS)?;
            // A dropped future leaves one unread.
            self.in_flight.add(gpu, Answer::Rows, 2, sampler.answer_rows(MAX_SEGMENTS)[0].2)?;
            c.buffers += 2;
            self.row_sampler = Some(sampler);
        }
        gpu.fault.check().map(|()| true)
    }

    fn sampler(&self, gpu: &Gpu, c: &mut Counters, entry: Entry, rows: usize) -> Result<Sampler> {
        let sampler = Sampler::new(gpu, &self.program, entry, rows)?;
        c.pipelines += sampler.pipelines();
        c.buffers += sampler.buffers();
        c.bind_groups += sampler.pipelines();
        Ok(sampler)
    }

    /// All that were made.
    pub(crate) fn samplers(&self) -> impl Iterator<Item = &Sampler> {
        self.samplers.iter().chain([&self.row_sampler]).flatten()
    }

    /// Bytes of the buffers that the host maps.
    pub(crate) fn readback_bytes(&self) -> u64 {
        self.in_flight.bytes() + self.reads.bytes()
    }

    /// Submits a step, with a copy of what comes back to the host: one pass and one submit, or several where it would
    /// take long.
    pub(crate) fn start(&mut self, gpu: &Gpu, c: &mut Counters, step: &Step<'_>, wanted: Wanted<'_>) -> Result<()> {
        self.check(step, wanted)?;
        self.reserve(gpu, c, Room::of(step, self.program.uses))?;
        if self.in_flight.is_empty() {
            self.budget.begin(work_of(self.program.entry(step)?.0, step), step);
        }
        let budget = self.budget.of(step);
        let last = self.submit_all_but_last(gpu, c, step, budget)?;
        self.write_last(gpu, c, &last.step(), wanted);
        let encoder = self.record_last(gpu, c, &last.step(), wanted, budget)?;
        c.steps += 1;
        self.masked = wanted.masked(step.entry);
        if self.masked.is_some() {
            gpu.queue.submit([encoder.finish()]);
            c.submits += 1;
            return gpu.fault.check();
        }
        self.submit_last(gpu, c, encoder)
    }

    pub(super) fn submit_last(&mut self, gpu: &Gpu, c: &mut Counters, encoder: wgpu::CommandEncoder) -> Result<()> {
        let submission = gpu.queue.submit([encoder.finish()]);
        self.in_flight.notify(&gpu.queue, submission);
        c.submits += 1;
        c.in_flight = c.in_flight.max(self.in_flight.len() as u64);
        gpu.fault.check()
    }

    /// Chooses the tokens of the step that waits for masks.
    pub(crate) fn submit_masks(&mut self, gpu: &Gpu, c: &mut Counters, masks: &[u32]) -> Result<()> {
        let Some(masked) = self.masked.take() else { bail!(InvalidState, "no step waits for a mask") };
        let (sampler, rows) = match masked {
            Masked::Token(entry, _) => (&self.samplers[number(entry)], 1),
            Masked::Rows(rows) => (&self.row_sampler, rows),
        };
        let sampler = sampler.as_ref().ok_or_else(not_asked)?;
        c.bytes_written += sampler.write_masks(gpu, masks, rows, &mut self.words);
        let mut encoder = gpu.encoder();
        sampler.record(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()), rows);
        c.passes += 1;
        c.dispatches += sampler::DISPATCHES;
        let (answer, places) = match masked {
            Masked::Token(_, rules) => (Answer::Token, sampler.answer(&rules)),
            Masked::Rows(rows) => (Answer::Rows, sampler.answer_rows(rows)),
        };
        self.in_flight.take(&mut encoder, answer, places);
        c.bytes_read += places.iter().map(|p| p.2).sum::<u64>();
        self.submit_last(gpu, c, encoder)
    }

    /// Refuses what cannot run, before anything starts.
    pub(super) fn check(&self, step: &Step<'_>, wanted: Wanted<'_>) -> Result<()> {
        fits(step, self.program.limits, self.program.uses)?;
        let answer = match wanted {
            Wanted::Logits => Answer::Logits,
            Wanted::Token(request) => {
                self.samplers[number(step.entry)].as_ref().ok_or_else(not_asked)?.check(step, request)?;
                Answer::Token
            }
            Wanted::Rows(draws, drafted) => {
                self.row_sampler.as_ref().ok_or_else(not_asked)?.check_rows(step, draws)?;
                if drafted > 0 {
                    self.samplers[number(Entry::Mtp)].as_ref().ok_or_else(not_asked)?.check_drafted(step, drafted)?;
                }
                Answer::Rows
            }
        };
        self.in_flight.ensure_free(answer)
    }

    /// Makes room in the cache.
    pub(crate) fn reserve(&mut self, gpu: &Gpu, c: &mut Counters, need: Room) -> Result<()> {
        let made = self.program.reserve(gpu, need)?;
        c.buffers += made.buffers;
        c.submits += made.submits;
        c.bind_groups += made.bind_groups;
        Ok(())
    }

    /// Runs the first tokens by themselves if a single dispatch over all tokens would take too long. Returns the rest
    /// of the step.
    fn submit_all_but_last<'a>(
        &mut self,
        gpu: &Gpu,
        c: &mut Counters,
        step: &Step<'a>,
        budget: u64,
    ) -> Result<Rows<'a>> {
        let Self { program, words, .. } = self;
        let run = program.entry(step)?.0;
        let mut last = Rows::all(step);
        let whole = program.uses.whole[step.entry as usize];
        let most = if whole { step.len() } else { tokens_at_once(run, &last, budget) };
        let at_once = |left: &Step<'_>| if whole { left.len() } else { most.min(alike(left, gpu.tuning)) };
        loop {
            let n = at_once(&last.step());
            if n == last.step().len() {
                break;
            }
            let (first, rest) = last.split(n.min(unanswered(&last.step())));
            let part = first.step();
            words::write(words, &part, program.uses);
            c.bytes_written += send(gpu, &program.buffers, words, &part);
            let encoder = record(gpu, c, run, &part, budget, gpu.encoder(), |_| ());
            gpu.queue.submit([encoder.finish()]);
            c.submits += 1;
            last = rest;
        }
        Ok(last)
    }

    /// Writes what the last pass of a step reads.
    fn write_last(&mut self, gpu: &Gpu, c: &mut Counters, last: &Step<'_>, wanted: Wanted<'_>) {
        let Self { program, samplers, row_sampler, words, .. } = self;
        words::write(words, last, program.uses);
        match (wanted, &samplers[number(last.entry)], row_sampler) {
            (Wanted::Token(request), Some(sampler), _) => {
                sampler.write(last, request, words::sampling(words));
                c.bytes_written += sampler.write_history(gpu, request);
            }
            (Wanted::Rows(draws, _), _, Some(sampler)) => c.bytes_written += sampler.write_draws(gpu, draws),
            _ => {}
        }
        c.bytes_written += send(gpu, &program.buffers, words, last);
    }

    /// Records the last pass of a step, and the copy of its result unless masks come first.
    fn record_last(
        &mut self,
        gpu: &Gpu,
        c: &mut Counters,
        last: &Step<'_>,
        wanted: Wanted<'_>,
        budget: u64,
    ) -> Result<wgpu::CommandEncoder> {
        let Self { program, samplers, row_sampler, in_flight, .. } = self;
        let (run, logits) = program.entry(last)?;
        let sampler = match wanted {
            Wanted::Logits => None,
            Wanted::Token(_) => samplers[number(last.entry)].as_ref(),
            Wanted::Rows(..) => row_sampler.as_ref(),
        };
        let mut encoder = gpu.encoder();
        if let Some(sampler) = sampler.filter(|_| !is_known(wanted)) {
            sampler.feed(&mut encoder, &program.buffers.step);
        }
        if let (Wanted::Rows(_, drafted), Some(block)) = (wanted, &samplers[number(Entry::Mtp)]) {
            block.feed_drafted(&mut encoder, &program.buffers.step, last, drafted);
        }
        if wanted.masked(last.entry).is_some() {
            return Ok(record(gpu, c, run, last, budget, encoder, |_| ()));
        }
        let sample =
            |pass: &mut wgpu::ComputePass<'_>| sampler.into_iter().for_each(|s| s.record(pass, last.outputs()));
        let mut encoder = record(gpu, c, run, last, budget, encoder, sample);
        c.dispatches += sampler.map_or(0, |_| sampler::DISPATCHES);
        let (answer, places) = match (wanted, sampler) {
            (Wanted::Token(request), Some(sampler)) => (Answer::Token, sampler.answer(request.rules)),
            (Wanted::Rows(draws, _), Some(sampler)) => (Answer::Rows, sampler.answer_rows(draws.len())),
            _ => {
                let bytes = last.outputs() * program.plan.graph.columns(last.entry) * 4;
                (Answer::Logits, [(logits, 0, bytes as u64), (logits, 0, 0)])
            }
        };
        in_flight.take(&mut encoder, answer, places);
        c.bytes_read += places.iter().map(|p| p.2).sum::<u64>();
        Ok(encoder)
    }

    /// Copies the logits of the oldest step that gives some.
    pub(crate) fn poll_logits(&mut self, gpu: &Gpu, cx: &Context<'_>, logits: &mut [f32]) -> Poll<Result<()>> {
        self.poll(gpu, cx, Answer::Logits, bytemuck::cast_slice_mut(logits))
    }

    /// The token of the oldest step that chooses one.
    pub(crate) fn poll_token(&mut self, gpu: &Gpu, cx: &Context<'_>) -> Poll<Result<u32>> {
        if self.samplers[0].is_none() {
            return Poll::Ready(Err(not_asked()));
        }
        let mut words = [0u32; sampler::MOST_READ as usize / 4];
        let n = self.in_flight.oldest(Answer::Token) as usize / 4;
        let read = self.poll(gpu, cx, Answer::Token, bytemuck::cast_slice_mut(&mut words[..n]));
        if let Poll::Ready(Ok(())) = read {
            sampler::logprobs(&words[1..n], &mut self.logprobs);
        }
        read.map(|read| read.and_then(|()| sampler::token(words[0])))
    }

    /// The tokens of the oldest step that chooses one for each row.
    pub(crate) fn poll_rows(&mut self, gpu: &Gpu, cx: &Context<'_>, tokens: &mut [Result<u32>]) -> Poll<Result<()>> {
        // Each is followed by that for a next step.
        let mut words = [[0u32; 2]; MAX_SEGMENTS];
        let words = &mut words[..tokens.len().min(MAX_SEGMENTS)];
        let read = self.poll(gpu, cx, Answer::Rows, bytemuck::cast_slice_mut(words));
        tokens.iter_mut().zip(words).for_each(|(token, word)| *token = sampler::token(word[0]));
        read
    }

    fn poll(&mut self, gpu: &Gpu, cx: &Context<'_>, answer: Answer, out: &mut [u8]) -> Poll<Result<()>> {
        let read = self.in_flight.poll(gpu, cx, answer, out);
        if read.is_ready() {
            self.budget.end();
        }
        read
    }

    /// Writes what a step reads, without starting it.
    pub(crate) fn write(&mut self, gpu: &Gpu, c: &mut Counters, step: &Step<'_>) -> Result<()> {
        fits(step, self.program.limits, self.program.uses)?;
        self.reserve(gpu, c, Room::of(step, self.program.uses))?;
        words::write(&mut self.words, step, self.program.uses);
        send(gpu, &self.program.buffers, &self.words, step);
        Ok(())
    }
}

/// Of the sampler of a part.
fn number(entry: Entry) -> usize {
    usize::from(entry != Entry::Trunk)
}

fn not_asked() -> Error {
    Error::new(ErrorKind::InvalidState, "no step was submitted to be sampled")
}

/// Whether the host knows the tokens of a step: else the step before chooses the one of it.
fn is_known(wanted: Wanted<'_>) -> bool {
    wanted.token().is_none_or(|c| c.history.is_some())
}

/// Returns the bytes that were written.
pub(super) fn send(gpu: &Gpu, to: &Buffers, words: &[u32], step: &Step<'_>) -> u64 {
    gpu.queue.write_buffer(&to.step, 0, bytemuck::cast_slice(words));
    if let (Some(to), false) = (&to.given, step.given.is_empty()) {
        gpu.queue.write_buffer(to, 0, bytemuck::cast_slice(step.given));
    }
    (words.len() + step.given.len()) as u64 * 4
}
