//! One step: what is written for it, the passes that are recorded, and what comes back to the host.

use std::task::{Context, Poll};

use super::cut::Rows;
use super::in_flight::{Answer, InFlight};
use super::submit_budget::{SubmitBudget, fitting, tokens_at_once, unanswered};
use super::words;
use crate::backend::webgpu::device::Gpu;
use crate::backend::webgpu::dispatch::Dispatch;
use crate::backend::webgpu::prepare::program::Program;
use crate::backend::webgpu::prepare::sampler::{self, Sampler};
use crate::backend::webgpu::prepare::states::{Room, Uses};
use crate::backend::{Counters, Limits, Logprobs, MAX_KEPT, MAX_SEGMENTS, SampleRequest, SamplingRules, Step};
use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{CacheKind, Entry, Plan};

/// Steps whose tokens the GPU chooses that may be in flight at once, and steps with rows of logits, which take more
/// memory.
const MAX_IN_FLIGHT: usize = 12;
const MAX_LOGITS_IN_FLIGHT: usize = 4;

/// A plan that is ready, and its steps in flight.
pub(crate) struct Runner {
    pub program: Program,
    /// That of the trunk and that of the block for multi-token prediction, made when they are first asked for.
    pub samplers: [Option<Sampler>; 2],
    /// How the token of the last step is chosen, if that waits for its mask.
    masked: Option<(Entry, SamplingRules)>,
    /// Of the last token that was read, if it came with some.
    pub logprobs: Logprobs,
    in_flight: InFlight,
    /// Parts of the cache that are being read.
    pub reads: InFlight,
    budget: SubmitBudget,
    /// The step buffer as it is written: kept, so that steps do not allocate.
    words: Vec<u32>,
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
                    let sampler = Sampler::new(gpu, &self.program, entry)?;
                    c.pipelines += 1;
                    c.buffers += sampler.buffers();
                    c.bind_groups += 1;
                    self.samplers[number(entry)] = Some(sampler);
                }
            }
        }
        gpu.fault.check().map(|()| MAX_IN_FLIGHT)
    }

    /// Submits a step, with a copy of what comes back to the host: one pass and one submit, or several where it would
    /// take long.
    pub(crate) fn start(
        &mut self,
        gpu: &Gpu,
        c: &mut Counters,
        step: &Step<'_>,
        request: Option<&SampleRequest<'_>>,
    ) -> Result<()> {
        self.check(step, request)?;
        self.reserve(gpu, c, Room::of(step, self.program.uses))?;
        if self.in_flight.is_empty() {
            self.budget.begin(self.program.entry(step)?.0, step);
        }
        let budget = self.budget.of(step);
        let last = self.submit_all_but_last(gpu, c, step, budget)?;
        self.write_last(gpu, c, &last.step(), request);
        let encoder = self.record_last(gpu, c, &last.step(), request, budget)?;
        c.steps += 1;
        self.masked = request.filter(|r| r.masked).map(|r| (step.entry, *r.rules));
        if self.masked.is_some() {
            gpu.queue.submit([encoder.finish()]);
            c.submits += 1;
            return gpu.fault.check();
        }
        self.submit_last(gpu, c, encoder)
    }

    fn submit_last(&mut self, gpu: &Gpu, c: &mut Counters, encoder: wgpu::CommandEncoder) -> Result<()> {
        let submission = gpu.queue.submit([encoder.finish()]);
        self.in_flight.notify(&gpu.queue, submission);
        c.submits += 1;
        c.in_flight = c.in_flight.max(self.in_flight.len() as u64);
        gpu.fault.check()
    }

    /// Chooses the token of the step that waits for its mask.
    pub(crate) fn submit_mask(&mut self, gpu: &Gpu, c: &mut Counters, mask: &[u32]) -> Result<()> {
        let Some((entry, rules)) = self.masked.take() else { bail!(InvalidState, "no step waits for a mask") };
        let sampler = self.samplers[number(entry)].as_ref().ok_or_else(not_asked)?;
        c.bytes_written += sampler.write_mask(gpu, mask);
        let mut encoder = gpu.encoder();
        sampler.record(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
        c.passes += 1;
        c.dispatches += 1;
        let places = sampler.answer(&rules);
        self.in_flight.take(&mut encoder, Answer::Token, places);
        c.bytes_read += places.iter().map(|p| p.2).sum::<u64>();
        self.submit_last(gpu, c, encoder)
    }

    /// Refuses what cannot run, before anything starts.
    fn check(&self, step: &Step<'_>, request: Option<&SampleRequest<'_>>) -> Result<()> {
        fits(step, self.program.limits, self.program.uses)?;
        let Some(request) = request else { return self.in_flight.ensure_free(Answer::Logits) };
        self.samplers[number(step.entry)].as_ref().ok_or_else(not_asked)?.check(step, request)?;
        self.in_flight.ensure_free(Answer::Token)
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
        let n = if program.uses.whole { last.step().len() } else { tokens_at_once(run, &last, budget) };
        while last.step().len() > n {
            let (first, rest) = last.split(n.min(unanswered(&last.step())));
            let part = first.step();
            words::write(words, &part, program.uses);
            c.bytes_written += send(gpu, &program.buffers.step, words);
            let encoder = record(gpu, c, run, &part, budget, gpu.encoder(), |_| ());
            gpu.queue.submit([encoder.finish()]);
            c.submits += 1;
            last = rest;
        }
        Ok(last)
    }

    /// Writes what the last pass of a step reads.
    fn write_last(&mut self, gpu: &Gpu, c: &mut Counters, last: &Step<'_>, request: Option<&SampleRequest<'_>>) {
        let Self { program, samplers, words, .. } = self;
        words::write(words, last, program.uses);
        if let (Some(sampler), Some(request)) = (&samplers[number(last.entry)], request) {
            sampler.write(last, request, words::sampling(words));
            c.bytes_written += sampler.write_history(gpu, request);
        }
        c.bytes_written += send(gpu, &program.buffers.step, words);
    }

    /// Records the last pass of a step, and the copy of its result unless a mask comes first.
    fn record_last(
        &mut self,
        gpu: &Gpu,
        c: &mut Counters,
        last: &Step<'_>,
        request: Option<&SampleRequest<'_>>,
        budget: u64,
    ) -> Result<wgpu::CommandEncoder> {
        let Self { program, samplers, in_flight, .. } = self;
        let (run, logits) = program.entry(last)?;
        let sampler = samplers[number(last.entry)].as_ref().filter(|_| request.is_some());
        let mut encoder = gpu.encoder();
        if let Some(sampler) = sampler.filter(|_| !is_known(request)) {
            sampler.feed(&mut encoder, &program.buffers.step);
        }
        if request.is_some_and(|r| r.masked) {
            return Ok(record(gpu, c, run, last, budget, encoder, |_| ()));
        }
        let sample = |pass: &mut wgpu::ComputePass<'_>| sampler.into_iter().for_each(|s| s.record(pass));
        let mut encoder = record(gpu, c, run, last, budget, encoder, sample);
        c.dispatches += u64::from(sampler.is_some());
        let (answer, places) = match sampler.zip(request) {
            Some((sampler, request)) => (Answer::Token, sampler.answer(request.rules)),
            None => {
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
        send(gpu, &self.program.buffers.step, &self.words);
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
fn is_known(request: Option<&SampleRequest<'_>>) -> bool {
    request.is_none_or(|c| c.history.is_some())
}

/// Returns the bytes that were written.
fn send(gpu: &Gpu, to: &wgpu::Buffer, words: &[u32]) -> u64 {
    gpu.queue.write_buffer(to, 0, bytemuck::cast_slice(words));
    words.len() as u64 * 4
}

/// Kernels run without bounds checks, so a step that does not fit must not start.
fn fits(step: &Step<'_>, limits: Limits, uses: Uses) -> Result<()> {
    let n = step.segments.len();
    if !(1..=MAX_SEGMENTS).contains(&n) {
        bail!(InvalidArgument, "a step must have 1 to {MAX_SEGMENTS} segments, has {n}");
    }
    if step.len() > limits.max_tokens || step.segments.iter().any(|s| s.tokens.is_empty()) {
        let tokens = step.len();
        bail!(
            InvalidArgument,
            "a step must have 1 to {} tokens, some of each segment; it has {tokens}",
            limits.max_tokens
        );
    }
    for s in step.segments {
        let end = s.pos.saturating_add(s.tokens.len());
        if end > limits.n_ctx {
            bail!(ContextOverflow, "the step ends at position {end}, the context holds {}", limits.n_ctx);
        }
        if s.outputs > s.tokens.len() {
            bail!(InvalidArgument, "{} rows of logits exceed the {} tokens of a segment", s.outputs, s.tokens.len());
        }
        for kind in CacheKind::ALL {
            let (table, used) = (s.blocks[kind as usize], uses.entries(kind, s));
            if table.len() < used.end {
                bail!(InvalidArgument, "a table of {} {kind:?} blocks does not reach position {end}", table.len());
            }
        }
        if uses.recurrent && !(1..=MAX_KEPT.min(s.tokens.len())).contains(&s.to.len()) {
            bail!(InvalidArgument, "a segment of {} tokens cannot keep {} states", s.tokens.len(), s.to.len());
        }
    }
    if step.outputs() > limits.max_outputs {
        bail!(InvalidArgument, "{} rows of logits exceed the limit {}", step.outputs(), limits.max_outputs);
    }
    if uses.recurrent && step.len() > MAX_KEPT && step.segments.iter().any(|s| s.to.len() > 1) {
        bail!(InvalidArgument, "a step of {} tokens keeps one state of each segment, not more", step.len());
    }
    let segments_with_slots = if uses.recurrent { n } else { 0 };
    if !Room::of(step, uses).is_within(Room::most(limits)) || segments_with_slots > limits.slots {
        bail!(InvalidArgument, "the step names blocks or slots beyond {:?} and {}", limits.blocks, limits.slots);
    }
    Ok(())
}

/// Records a run and submits as much of it as is over the budget of one submit. Gives back the encoder of the rest;
/// `after` goes into its pass.
fn record(
    gpu: &Gpu,
    c: &mut Counters,
    mut run: &[Dispatch],
    step: &Step<'_>,
    budget: u64,
    mut encoder: wgpu::CommandEncoder,
    after: impl FnOnce(&mut wgpu::ComputePass<'_>),
) -> wgpu::CommandEncoder {
    loop {
        let (now, later) = run.split_at(fitting(run, step, budget));
        run = later;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for d in now {
            let Some([x, y, z]) = d.grid(step) else { continue };
            pass.set_pipeline(&d.pipeline);
            pass.set_bind_group(0, &d.group, &[]);
            pass.dispatch_workgroups(x, y, z);
            c.dispatches += 1;
        }
        c.passes += 1;
        if run.is_empty() {
            after(&mut pass);
            drop(pass);
            return encoder;
        }
        drop(pass);
        gpu.queue.submit([encoder.finish()]);
        c.submits += 1;
        encoder = gpu.encoder();
    }
}
