//! The GPU backend: WGSL kernels through wgpu, in browsers on WebGPU and natively on Vulkan or Metal.
//!
//! `prepare` makes every buffer, pipeline and bind group; a step writes one small buffer, records one pass, and submits
//! once (see `run::submit_budget` for long steps). Imports go downwards only: this file, `run`, `prepare`, `kernels`,
//! `shader`, and below them `dispatch`, `device` and `tuning`.

mod device;
mod dispatch;
mod kernels;
mod prepare;
mod run;
mod shader;
mod tuning;

use std::task::{Context, Poll};

pub use self::device::{Adapter, AdapterInfo, Options};
pub use self::kernels::{FUSE_RULES, shader_sources};
pub use self::prepare::weights::Target;
pub use self::run::autotune::Clock;
pub use self::tuning::{Candidate, Gemm, Gemv, Knob, Tuning, candidates};

use self::device::Gpu;
use self::run::step::{Runner, Wanted};
use self::run::{autotune, profile};
use super::{
    Backend, CachePart, Counters, Draw, KvType, Limits, Logprobs, Memory, SampleRequest, SamplingRules, Slice, Step,
    TimedStep, Timing,
};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{CacheKind, Plan, WeightId};

/// Whether a matrix may have this type.
pub fn supports(dtype: DType) -> bool {
    kernels::libs::quant_libs(dtype).is_some()
}

/// The default tokens per step, with the kernels for software adapters or those for hardware.
pub fn max_tokens(software: bool) -> usize {
    // Fewer leave large GPUs mostly idle, and small ones lose nothing: long steps are split into several submissions.
    if software { 128 } else { 512 }
}

/// Refuses a plan with a buffer that an adapter with bindings of this size could not bind: what `prepare` would do,
/// without a device. The adapter's kernels are those for software adapters or those for hardware.
pub fn check_limits(plan: &Plan, limits: Limits, software: bool, max_binding: u64) -> Result<()> {
    prepare::buffers::check(&plan.fused(&FUSE_RULES), limits, Tuning::new(software, Gemm::F32), max_binding)
}

/// Runs plans in WGSL on a device that it requests itself.
pub struct WebGpu {
    gpu: Gpu,
    rate: Option<u64>,
    runner: Option<Runner>,
    counters: Counters,
}

impl WebGpu {
    /// Asks for an adapter and a device.
    pub async fn new(options: Options) -> Result<Self> {
        Self::on(&Adapter::find().await?, options).await
    }

    /// Asks an adapter for a device.
    pub async fn on(adapter: &Adapter, options: Options) -> Result<Self> {
        let gpu = Gpu::request(adapter, options).await?;
        Ok(Self { gpu, rate: options.rate, runner: None, counters: Counters::default() })
    }

    /// Another backend on the same device, for another plan.
    pub fn beside(&self) -> Self {
        Self { gpu: self.gpu.clone(), rate: self.rate, runner: None, counters: Counters::default() }
    }

    /// Facts about the adapter.
    pub fn adapter(&self) -> &AdapterInfo {
        &self.gpu.info
    }

    /// For hosts that write to buffers themselves.
    pub fn device(&self) -> &wgpu::Device {
        &self.gpu.device
    }

    /// For hosts that write to buffers themselves.
    pub fn queue(&self) -> &wgpu::Queue {
        &self.gpu.queue
    }

    /// Where the next bytes of a piece of `len` bytes at `offset` of a weight must be written, so that a host can write
    /// them to the GPU itself. A host repeats this with the rest of the piece until nothing is left.
    pub fn weight_target(&self, w: WeightId, offset: usize, len: usize) -> Result<Target<'_>> {
        let target = self.runner.as_ref().ok_or_else(not_prepared)?.program.buffers.weights.target(w, offset, len);
        target.ok_or_else(|| Error::new(ErrorKind::InvalidArgument, format!("byte {offset} is past the end of {w}")))
    }

    /// Refuses a plan with a buffer that this device could not bind, before anything is allocated.
    pub fn check_limits(&self, plan: &Plan, limits: Limits) -> Result<()> {
        prepare::buffers::check(&plan.fused(&FUSE_RULES), limits, self.gpu.tuning, self.gpu.max_binding)
    }

    /// The first error outside any call. Browsers report failed allocations with a delay: await the queue before this
    /// call.
    pub fn check(&self) -> Result<()> {
        self.gpu.fault.check()
    }

    /// The kernel variants that the next plan runs.
    pub fn tuning(&self) -> Tuning {
        self.gpu.tuning
    }

    /// Uses the variants that a record of [`WebGpu::tune`] names. Returns false if the record is invalid, of another
    /// version or for other candidates: then measure again. The host knows whether the record is of this adapter and
    /// driver.
    pub fn adopt(&mut self, record: &str) -> bool {
        let recorded = self.gpu.default.recorded(record);
        self.gpu.tuning = recorded.unwrap_or(self.gpu.default);
        recorded.is_some()
    }

    /// Measures which kernel variants are the fastest for the matrices of this plan, uses them for the plans that are
    /// prepared after it, and returns a record for the host to keep. It takes about a second. `None` on a software
    /// adapter, which has no choice of variants.
    pub async fn tune(&mut self, plan: &Plan, limits: Limits, clock: Clock<'_>) -> Result<Option<String>> {
        self.tune_among(&candidates(self.gpu.default), plan, limits, clock).await
    }

    /// The same among these variants. Those whose results differ too much from the default's are never chosen.
    pub async fn tune_among(
        &mut self,
        candidates: &[Candidate],
        plan: &Plan,
        limits: Limits,
        clock: Clock<'_>,
    ) -> Result<Option<String>> {
        self.gpu.fault.check()?;
        self.gpu.tuning = self.gpu.default;
        if self.gpu.default.software {
            return Ok(None);
        }
        self.gpu.tuning = autotune::tune(&self.gpu, plan, limits, candidates, clock).await?;
        tracing::info!("tuned: {:?}", self.gpu.tuning);
        Ok(Some(self.gpu.tuning.record(self.gpu.default)))
    }

    async fn time(&mut self, step: &Step<'_>) -> Result<TimedStep> {
        let runner = self.runner.as_mut().ok_or_else(not_prepared)?;
        runner.write(&self.gpu, &mut self.counters, step)?;
        let read_bytes_per_s = profile::streaming_read(&self.gpu).await?;
        let kernels = profile::run(&self.gpu, runner.program.entry(step)?.0, step).await?;
        Ok(TimedStep { kernels, read_bytes_per_s })
    }

    fn start(&mut self, step: &Step<'_>, wanted: Wanted<'_>) -> Result<()> {
        self.gpu.fault.check()?;
        let runner = self.runner.as_mut().ok_or_else(not_prepared)?;
        runner.start(&self.gpu, &mut self.counters, step, wanted)
    }
}

fn not_prepared() -> Error {
    Error::new(ErrorKind::InvalidState, "no plan is prepared; call `prepare` first")
}

impl Backend for WebGpu {
    fn name(&self) -> &'static str {
        "webgpu"
    }

    fn supports(&self, dtype: DType) -> bool {
        supports(dtype)
    }

    fn fault(&self) -> Option<Error> {
        self.check().err()
    }

    fn max_tokens(&self) -> usize {
        max_tokens(self.gpu.tuning.software)
    }

    fn kv_type(&self, wanted: KvType) -> KvType {
        wanted
    }

    fn prepare(&mut self, plan: Plan, limits: Limits) -> Result<()> {
        self.gpu.fault.check()?;
        self.runner = None; // Frees what an earlier plan held before this one allocates.
        let runner = Runner::new(&self.gpu, plan.fused(&FUSE_RULES), limits, self.rate)?;
        self.counters = runner.counters();
        self.runner = Some(runner);
        self.gpu.fault.check()
    }

    fn write_weight(&mut self, w: WeightId, offset: usize, bytes: &[u8]) -> Result<()> {
        let runner = self.runner.as_mut().ok_or_else(not_prepared)?;
        runner.program.buffers.weights.write(&self.gpu, w, offset, bytes)
    }

    fn finish_weights(&mut self) -> Result<()> {
        let runner = self.runner.as_mut().ok_or_else(not_prepared)?;
        runner.program.fill_tables(&self.gpu);
        runner.program.buffers.weights.finish(&self.gpu)
    }

    fn submit(&mut self, step: &Step<'_>) -> Result<()> {
        self.start(step, Wanted::Logits)
    }

    fn submit_slice(&mut self, step: &Step<'_>, from: u64, work: Option<u64>) -> Result<Slice> {
        self.gpu.fault.check()?;
        let runner = self.runner.as_mut().ok_or_else(not_prepared)?;
        runner.start_slice(&self.gpu, &mut self.counters, step, from, work)
    }

    fn prepare_sampling(&mut self, rules: &SamplingRules) -> Result<usize> {
        let runner = self.runner.as_mut().ok_or_else(not_prepared)?;
        runner.prepare_sampling(&self.gpu, &mut self.counters, rules)
    }

    fn submit_sampled(&mut self, step: &Step<'_>, request: &SampleRequest<'_>) -> Result<()> {
        self.start(step, Wanted::Token(request))
    }

    fn submit_masks(&mut self, masks: &[u32]) -> Result<()> {
        let runner = self.runner.as_mut().ok_or_else(not_prepared)?;
        runner.submit_masks(&self.gpu, &mut self.counters, masks)
    }

    fn poll_token(&mut self, cx: &mut Context<'_>) -> Poll<Result<u32>> {
        self.gpu.fault.check()?;
        self.runner.as_mut().ok_or_else(not_prepared)?.poll_token(&self.gpu, cx)
    }

    fn prepare_rows(&mut self, rules: &SamplingRules) -> Result<bool> {
        let runner = self.runner.as_mut().ok_or_else(not_prepared)?;
        runner.prepare_rows(&self.gpu, &mut self.counters, rules)
    }

    fn submit_rows(&mut self, step: &Step<'_>, draws: &[Draw], drafted: usize) -> Result<()> {
        self.start(step, Wanted::Rows(draws, drafted))
    }

    fn poll_rows(&mut self, cx: &mut Context<'_>, tokens: &mut [Result<u32>]) -> Poll<Result<()>> {
        self.gpu.fault.check()?;
        self.runner.as_mut().ok_or_else(not_prepared)?.poll_rows(&self.gpu, cx, tokens)
    }

    fn logprobs(&self) -> Option<&Logprobs> {
        self.runner.as_ref().map(|r| &r.logprobs)
    }

    fn poll_logits(&mut self, cx: &mut Context<'_>, logits: &mut [f32]) -> Poll<Result<()>> {
        self.gpu.fault.check()?;
        self.runner.as_mut().ok_or_else(not_prepared)?.poll_logits(&self.gpu, cx, logits)
    }

    fn copy_block(&mut self, kind: CacheKind, from: u32, to: u32) -> Result<()> {
        self.gpu.fault.check()?;
        let runner = self.runner.as_mut().ok_or_else(not_prepared)?;
        runner.copy_block(&self.gpu, &mut self.counters, kind, from, to)
    }

    fn part_bytes(&self, part: CachePart) -> usize {
        self.runner.as_ref().map_or(0, |r| r.part_bytes(part) as usize)
    }

    fn submit_read(&mut self, part: CachePart) -> Result<()> {
        self.gpu.fault.check()?;
        self.runner.as_mut().ok_or_else(not_prepared)?.submit_read(&self.gpu, &mut self.counters, part)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<Result<()>> {
        self.gpu.fault.check()?;
        self.runner.as_mut().ok_or_else(not_prepared)?.poll_read(&self.gpu, cx, bytes)
    }

    fn write_part(&mut self, part: CachePart, bytes: &[u8]) -> Result<()> {
        self.gpu.fault.check()?;
        self.runner.as_mut().ok_or_else(not_prepared)?.write_part(&self.gpu, &mut self.counters, part, bytes)
    }

    fn profile<'a>(&'a mut self, step: &'a Step<'a>) -> Timing<'a> {
        Box::pin(self.time(step))
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn memory(&self) -> Memory {
        self.runner.as_ref().map_or_else(Memory::default, |r| {
            let buffers = &r.program.buffers;
            let (kv, states, staging) = buffers.states.bytes();
            Memory {
                weights: buffers.weights.bytes(),
                kv,
                states,
                scratch: buffers.scratch_bytes() + r.samplers().map(|s| s.bytes()).sum::<u64>(),
                staging: staging + r.readback_bytes(),
            }
        })
    }
}
