//! The GPU backend: WGSL kernels through wgpu, in browsers on WebGPU and natively on Vulkan or Metal.
//!
//! `prepare` makes every buffer, pipeline and bind group; a step writes one small buffer, records one pass, and submits
//! once (see `pace` for long steps).

mod device;
mod dispatch;
mod kernels;
mod lower;
mod pace;
mod profile;
mod program;
mod readback;
mod repack;
mod sample;
mod states;
mod tables;
mod tune;
mod tuning;
mod variants;
mod weights;
mod wgsl;

use std::task::{Context, Poll};

pub use device::{AdapterInfo, Options};
pub use tune::Clock;
pub use tuning::{Candidate, Change, Gemm, Gemv, Tuning, candidates};
pub use variants::shader_sources;
pub use weights::Target;

use self::device::Gpu;
use self::dispatch::IDS_AT;
use self::pace::Pace;
use self::program::Program;
use self::readback::Ring;
use self::sample::Sampler;
use super::{Backend, Choice, Counters, KvType, Limits, Memory, Rules, Step, TimedStep, Timing};
use crate::bail;
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Plan, WeightId};

/// Steps whose logits may be on their way at once.
const SEATS: usize = 4;

pub struct WebGpu {
    gpu: Gpu,
    rate: Option<u64>,
    loaded: Option<Loaded>,
    counters: Counters,
}

/// What `prepare` makes.
struct Loaded {
    program: Program,
    ring: Ring,
    /// Made when it is first asked for.
    sampler: Option<Sampler>,
    /// The step buffer as it is written: kept, so that steps do not allocate.
    words: Vec<u32>,
    pace: Pace,
}

impl WebGpu {
    /// Asks for an adapter and a device.
    pub async fn new(options: Options) -> Result<Self> {
        Ok(Self { gpu: Gpu::request(options).await?, rate: options.rate, loaded: None, counters: Counters::default() })
    }

    pub fn adapter(&self) -> &AdapterInfo {
        &self.gpu.info
    }

    pub fn device(&self) -> &wgpu::Device {
        &self.gpu.device
    }

    pub fn queue(&self) -> &wgpu::Queue {
        &self.gpu.queue
    }

    /// How the next bytes of a piece of `len` bytes at `offset` of a weight must be written, so that a host can hand
    /// them to the GPU itself. A host goes on with the rest of the piece until nothing is left of it.
    pub fn weight_target(&self, w: WeightId, offset: usize, len: usize) -> Result<Target<'_>> {
        let target = loaded(&self.loaded)?.program.weights.target(w, offset, len);
        target.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, format!("{w} ends before byte {offset}")))
    }

    /// What went wrong outside any call, if anything did. Browsers tell of failed allocations after a while only:
    /// await the queue, then ask this.
    pub fn check(&self) -> Result<()> {
        self.gpu.fault.check()
    }

    async fn time(&mut self, step: &Step<'_>) -> Result<TimedStep> {
        let Loaded { program, words, .. } = self.loaded.as_mut().ok_or_else(not_prepared)?;
        fits(step, program.limits)?;
        reserve(program, &self.gpu, step, &mut self.counters)?;
        head(words, step);
        ids(words, step);
        let read_bytes_per_s = profile::streaming_read(&self.gpu).await?;
        self.gpu.queue.write_buffer(&program.step, 0, bytemuck::cast_slice(words));
        let kernels = profile::run(&self.gpu, program.entry(step)?.0, step).await?;
        Ok(TimedStep { kernels, read_bytes_per_s })
    }

    /// Records a step and submits it, with a copy of what comes back to the host: one pass and one submit, or several
    /// where it would take long.
    fn start(&mut self, step: &Step<'_>, choice: Option<&Choice<'_>>) -> Result<()> {
        self.gpu.fault.check()?;
        let Loaded { program, ring, sampler, words, pace } = self.loaded.as_mut().ok_or_else(not_prepared)?;
        fits(step, program.limits)?;
        let mut sampling = match choice {
            Some(choice) => Some((sampler.as_mut().ok_or_else(not_asked)?, choice)),
            None => None,
        };
        match &sampling {
            Some((sampler, choice)) => sampler.check(step, choice)?,
            None => ring.vacant()?,
        }
        let (gpu, c) = (&self.gpu, &mut self.counters);
        reserve(program, gpu, step, c)?;
        let (run, output) = program.entry(step)?;
        if ring.waiting() == 0 && sampling.as_ref().is_none_or(|(sampler, _)| sampler.ring.waiting() == 0) {
            pace.begin(run, step);
        }
        let slice = pace.slice(step);
        let send = |words: &[u32]| {
            gpu.queue.write_buffer(&program.step, 0, bytemuck::cast_slice(words));
            words.len() as u64 * 4
        };

        let mut last = *step;
        let n = pace::tokens(run, step, slice);
        while last.tokens.len() > n {
            let (tokens, rest) = last.tokens.split_at(n.min(last.tokens.len() - step.outputs));
            let part = Step { tokens, outputs: 0, ..last };
            head(words, &part);
            ids(words, &part);
            c.bytes_written += send(words);
            let encoder = pace::record(gpu, run, &part, slice, c, gpu.encoder(), |_| ());
            gpu.queue.submit([encoder.finish()]);
            c.submits += 1;
            last = Step { tokens: rest, pos: last.pos + tokens.len(), ..last };
        }

        head(words, &last);
        if let Some((sampler, choice)) = &sampling {
            sampler.write(&last, choice, words);
        }
        let known = choice.is_none_or(|c| c.history.is_some());
        if known {
            ids(words, &last);
        }
        c.bytes_written += send(words);
        let mut encoder = gpu.encoder();
        if let Some((sampler, _)) = sampling.as_ref().filter(|_| !known) {
            sampler.feed(&mut encoder, &program.step);
        }
        let mut encoder = pace::record(gpu, run, &last, slice, c, encoder, |pass| {
            if let Some((sampler, _)) = &sampling {
                sampler.record(pass);
            }
        });
        c.dispatches += u64::from(sampling.is_some());
        let ring = match &mut sampling {
            Some((sampler, choice)) => {
                c.bytes_read += sampler.take(&mut encoder);
                c.bytes_written += sampler.write_history(gpu, choice);
                &mut sampler.ring
            }
            None => {
                let logits = (step.outputs * program.plan.graph.n_vocab() * 4) as u64;
                ring.take(&mut encoder, output, logits);
                c.bytes_read += logits;
                ring
            }
        };
        let submission = gpu.queue.submit([encoder.finish()]);
        ring.listen(&gpu.queue, submission);

        c.steps += 1;
        c.submits += 1;
        c.in_flight = c.in_flight.max(ring.waiting() as u64);
        gpu.fault.check()
    }

    fn copy_recurrent(&mut self, back: bool) -> Result<()> {
        let loaded = self.loaded.as_mut().ok_or_else(not_prepared)?;
        self.counters.submits += u64::from(loaded.program.states.copy_recurrent(&self.gpu, back));
        self.gpu.fault.check()
    }
}

fn loaded(l: &Option<Loaded>) -> Result<&Loaded> {
    l.as_ref().ok_or_else(not_prepared)
}

fn not_prepared() -> Error {
    Error::new(ErrorKind::InvalidState, "no plan was prepared")
}

fn not_asked() -> Error {
    Error::new(ErrorKind::InvalidState, "no choice was asked for")
}

impl Backend for WebGpu {
    fn name(&self) -> &'static str {
        "webgpu"
    }

    fn supports(&self, dtype: DType) -> bool {
        kernels::quant_libs(dtype).is_some()
    }

    fn max_tokens(&self) -> usize {
        if self.gpu.tuning.software { 128 } else { 256 }
    }

    fn kv_type(&self, wanted: KvType) -> KvType {
        wanted
    }

    fn prepare(&mut self, plan: Plan, limits: Limits) -> Result<()> {
        self.gpu.fault.check()?;
        self.loaded = None; // Frees what an earlier plan held, before this one needs memory.
        let program = Program::new(&self.gpu, plan.fused(), limits)?;
        let logits = limits.max_outputs * program.plan.graph.n_vocab() * 4;
        let ring = Ring::new(&self.gpu, logits as u64, SEATS)?;
        self.counters = Counters {
            pipelines: program.pipelines,
            buffers: program.buffers + ring.buffers(),
            bind_groups: program.bind_groups,
            ..Counters::default()
        };
        let pace = Pace::new(self.rate, self.gpu.tuning.software);
        self.loaded = Some(Loaded { program, ring, sampler: None, words: Vec::new(), pace });
        self.gpu.fault.check()
    }

    fn write_weight(&mut self, w: WeightId, offset: usize, bytes: &[u8]) -> Result<()> {
        let loaded = self.loaded.as_mut().ok_or_else(not_prepared)?;
        loaded.program.weights.write(&self.gpu, w, offset, bytes)
    }

    fn finish_weights(&mut self) -> Result<()> {
        let loaded = self.loaded.as_mut().ok_or_else(not_prepared)?;
        loaded.program.fill_tables(&self.gpu);
        loaded.program.weights.finish(&self.gpu)
    }

    fn submit(&mut self, step: &Step<'_>) -> Result<()> {
        self.start(step, None)
    }

    fn prepare_choice(&mut self, rules: &Rules) -> Result<usize> {
        let loaded = self.loaded.as_mut().ok_or_else(not_prepared)?;
        if !sample::knows(rules, loaded.program.plan.graph.n_vocab()) {
            return Ok(0);
        }
        if loaded.sampler.is_none() {
            let sampler = Sampler::new(&self.gpu, &loaded.program)?;
            self.counters.pipelines += 1;
            self.counters.buffers += sampler.buffers();
            self.counters.bind_groups += 1;
            loaded.sampler = Some(sampler);
        }
        self.gpu.fault.check().map(|()| sample::SEATS)
    }

    fn submit_choice(&mut self, step: &Step<'_>, choice: &Choice<'_>) -> Result<()> {
        self.start(step, Some(choice))
    }

    fn poll_choice(&mut self, cx: &mut Context<'_>) -> Poll<Result<u32>> {
        self.gpu.fault.check()?;
        let loaded = self.loaded.as_mut().ok_or_else(not_prepared)?;
        let token = loaded.sampler.as_mut().ok_or_else(not_asked)?.poll(&self.gpu, cx);
        if token.is_ready() {
            loaded.pace.end();
        }
        token
    }

    fn poll_logits(&mut self, cx: &mut Context<'_>, logits: &mut [f32]) -> Poll<Result<()>> {
        self.gpu.fault.check()?;
        let loaded = self.loaded.as_mut().ok_or_else(not_prepared)?;
        let read = loaded.ring.poll(&self.gpu, cx, bytemuck::cast_slice_mut(logits));
        if read.is_ready() {
            loaded.pace.end();
        }
        read
    }

    fn save_recurrent(&mut self) -> Result<()> {
        self.copy_recurrent(false)
    }

    fn restore_recurrent(&mut self) -> Result<()> {
        self.copy_recurrent(true)
    }

    fn profile<'a>(&'a mut self, step: &'a Step<'a>) -> Timing<'a> {
        Box::pin(self.time(step))
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn memory(&self) -> Memory {
        self.loaded.as_ref().map_or_else(Memory::default, |l| Memory {
            weights: l.program.weights.bytes(),
            kv: l.program.states.bytes(),
            scratch: l.program.scratch_bytes() + l.sampler.as_ref().map_or(0, Sampler::bytes),
        })
    }
}

/// Makes room in the cache for a step.
fn reserve(program: &mut Program, gpu: &Gpu, step: &Step<'_>, c: &mut Counters) -> Result<()> {
    let before = program.bind_groups;
    let made = program.reserve(gpu, step.pos + step.tokens.len())?;
    c.buffers += made;
    c.submits += made;
    c.bind_groups += program.bind_groups - before;
    Ok(())
}

/// The start of the step buffer of a step.
fn head(words: &mut Vec<u32>, step: &Step<'_>) {
    words.clear();
    words.extend([step.tokens.len() as u32, step.pos as u32, step.outputs as u32, 0]);
}

/// And its ids.
fn ids(words: &mut Vec<u32>, step: &Step<'_>) {
    words.resize(IDS_AT as usize / 4, 0);
    words.extend_from_slice(step.tokens);
}

/// Kernels run without bounds checks, so a step that does not fit must not start.
fn fits(step: &Step<'_>, limits: Limits) -> Result<()> {
    let end = step.pos.saturating_add(step.tokens.len());
    if end > limits.n_ctx {
        bail!(ContextOverflow, "the step ends at position {end}, the context has {}", limits.n_ctx);
    }
    if step.tokens.is_empty() || step.tokens.len() > limits.max_tokens {
        bail!(InvalidArgument, "a step has 1 to {} tokens, this one {}", limits.max_tokens, step.tokens.len());
    }
    if step.outputs > limits.max_outputs.min(step.tokens.len()) {
        bail!(InvalidArgument, "{} rows of logits are more than the step or the limits have", step.outputs);
    }
    Ok(())
}
