//! Tokens that are chosen on the GPU, so that the next step need not wait for the host.

use super::program::Program;
use crate::backend::webgpu::device::Gpu;
use crate::backend::webgpu::dispatch::{HEAD, ROW_WORDS, ROWS_AT, STEP_WORDS};
use crate::backend::webgpu::kernels::sample::{LISTED, PART, Sizes, sample};
use crate::backend::{Draw, Logprobs, MAX_LOGPROBS, MAX_SEGMENTS, SampleRequest, SamplingRules, Step};
use crate::bail;
use crate::error::Result;
use crate::graph::Entry;

/// Dispatches of a choice.
pub(crate) const DISPATCHES: u64 = 2;

/// The most tokens back that penalties may look here: each of them is compared with all others.
const RECENT: usize = 1024;

/// Bytes of the token that the host reads; that for the next step follows.
const ID: u64 = 4;

/// Bytes of what the host reads at most: the token, the logarithm of the sum of all probabilities, its logit, and the
/// likeliest tokens with theirs.
pub(crate) const MOST_READ: u64 = ID * (3 + 2 * MAX_LOGPROBS as u64);

/// Bytes of the token that the host reads, and of that for the next step.
const CHOSEN: u64 = 2 * ID;

/// Of a single row of the trunk or of the block for multi-token prediction, or of several rows of the trunk.
pub(crate) struct Sampler {
    /// The pipelines, in order, each with what it is bound to.
    kernels: [(wgpu::ComputePipeline, wgpu::BindGroup); 2],
    /// What the first kernel finds in each part of a row.
    parts: wgpu::Buffer,
    parts_of_row: u32,
    /// The shader's `hows`, if there are several: that of a single row lies in the step.
    draws: Option<wgpu::Buffer>,
    /// The token at each position, and the one after the last; then the suppressed tokens.
    history: wgpu::Buffer,
    /// The token for the host, and that for the next step.
    pub chosen: wgpu::Buffer,
    /// Of each row a bit for each token that may be chosen.
    allowed: wgpu::Buffer,
    n_vocab: usize,
    trunk: bool,
    /// Offset and number of the suppressed tokens in the history's buffer.
    suppressed: [u32; 2],
}

/// Whether the kernel implements these rules for several rows at once: without a history of each, and reports.
pub(crate) fn knows_rows(rules: &SamplingRules, n_vocab: usize) -> bool {
    rules.penalty_last_n == 0 && rules.logprobs.is_none() && knows(rules, n_vocab)
}

/// Whether the kernel implements these rules.
pub(crate) fn knows(rules: &SamplingRules, n_vocab: usize) -> bool {
    let penalties = rules.penalty_last_n <= if rules.logprobs.is_none() { RECENT } else { 0 };
    (rules.top_k <= LISTED || rules.top_k >= n_vocab) && penalties
}

impl Sampler {
    /// For steps with so many rows of logits at most.
    pub(crate) fn new(gpu: &Gpu, program: &Program, entry: Entry, rows: usize) -> Result<Self> {
        let (_, logits) = program.entry(&Step { entry, ..Step::trunk(&[]) })?;
        let n_vocab = program.plan.graph.columns(entry);
        // The block may choose among fewer tokens.
        let of_these = program.plan.suppressed.iter().copied().filter(|id| (*id as usize) < n_vocab);
        let suppressed: Vec<u32> = of_these.collect();
        let at = program.limits.n_ctx + 1;
        let history = gpu.storage("history", (at + suppressed.len()) as u64 * 4)?;
        if !suppressed.is_empty() {
            gpu.queue.write_buffer(&history, at as u64 * 4, bytemuck::cast_slice(&suppressed));
        }
        let suppressed = [at as u32, suppressed.len() as u32];
        let chosen = gpu.storage("chosen", if rows == 1 { ID + MOST_READ } else { rows as u64 * CHOSEN })?;
        let allowed = gpu.storage("allowed", (rows * n_vocab.div_ceil(32)) as u64 * 4)?;
        // What it reads waits for memory: as many threads as there may be wait together. A software adapter's do not.
        let limits = gpu.device.limits();
        let most = limits.max_compute_invocations_per_workgroup.min(limits.max_compute_workgroup_size_x);
        let threads = |wanted: u32| if gpu.tuning.software { 32 } else { (wanted.min(most) / 32 * 32) as usize };
        let parts_of_row = if gpu.tuning.software { 8 } else { 64 };
        let sizes = Sizes { n_vocab, rows, parts: parts_of_row, part_threads: threads(256), threads: threads(1024) };
        let parts = gpu.storage("parts", (rows * parts_of_row * PART) as u64)?;
        let device = &gpu.device;
        let draws = (rows > 1).then(|| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("draws"),
                size: (rows * HEAD) as u64,
                usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        });
        let buffer = draws.as_ref().unwrap_or(&program.buffers.step);
        let hows = wgpu::BufferBinding { buffer, offset: 0, size: wgpu::BufferSize::new((rows * HEAD) as u64) };
        let made = |i: usize, source: &str, last: &wgpu::Buffer| {
            let label = Some(["sample_parts", "sample"][i]);
            // With checks of bounds: what they read comes from earlier dispatches, and they are few workgroups.
            let source = wgpu::ShaderSource::Wgsl(source.into());
            let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label, source });
            let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label,
                layout: None,
                module: &module,
                entry_point: Some("main"),
                compilation_options: Default::default(),
                cache: None,
            });
            let resources = [
                wgpu::BindingResource::Buffer(hows.clone()),
                logits.as_entire_binding(),
                history.as_entire_binding(),
                parts.as_entire_binding(),
                last.as_entire_binding(),
            ];
            let entries: Vec<_> =
                (1..).zip(resources).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
            let layout = &pipeline.get_bind_group_layout(0);
            let group = device.create_bind_group(&wgpu::BindGroupDescriptor { label, layout, entries: &entries });
            (pipeline, group)
        };
        let [of_parts, of_row] = sample(sizes);
        let kernels = [made(0, &of_parts, &allowed), made(1, &of_row, &chosen)];
        let (parts_of_row, trunk) = (parts_of_row as u32, entry == Entry::Trunk);
        Ok(Self { kernels, parts, parts_of_row, draws, history, chosen, allowed, n_vocab, trunk, suppressed })
    }

    /// How many pipelines were made, and as many groups of bindings.
    pub(crate) fn pipelines(&self) -> u64 {
        self.kernels.len() as u64
    }

    /// How many were made.
    pub(crate) fn buffers(&self) -> u64 {
        [&self.parts, &self.history, &self.chosen, &self.allowed].len() as u64 + u64::from(self.draws.is_some())
    }

    pub(crate) fn bytes(&self) -> u64 {
        let draws = self.draws.as_ref().map_or(0, wgpu::Buffer::size);
        self.parts.size() + self.history.size() + self.chosen.size() + self.allowed.size() + draws
    }

    /// Fails if the kernel cannot sample the token of this step.
    pub(crate) fn check(&self, step: &Step<'_>, request: &SampleRequest<'_>) -> Result<()> {
        let one = step.segments.len() == 1 && step.outputs() == 1;
        if !knows(request.rules, self.n_vocab) || !one || (step.entry == Entry::Trunk) != self.trunk {
            bail!(InvalidArgument, "sampling needs prepared rules and a step with one segment and one row of logits");
        }
        if request.history.is_some_and(|h| h.len() != step.keys()) || (request.history.is_none() && step.len() != 1) {
            bail!(InvalidArgument, "the sampling history must end with the last token of its step");
        }
        Ok(())
    }

    /// Writes what the shader's `How` has after the first words of the step.
    pub(crate) fn write(&self, step: &Step<'_>, request: &SampleRequest<'_>, words: &mut [u32]) {
        self.write_how((request.rules, request.key, request.masked), step.keys(), words);
    }

    fn write_how(&self, (r, key, masked): (&SamplingRules, u32, bool), end: usize, words: &mut [u32]) {
        let top_k = if r.top_k < self.n_vocab { r.top_k } else { 0 };
        let likely = r.logprobs.map_or(0, |n| n.min(MAX_LOGPROBS).min(self.n_vocab) + 1);
        // Below this every difference between logits decides.
        let temperature = if r.temperature > 0.0 { r.temperature.max(1e-30) } else { 0.0 };
        let least = if r.min_p > 0.0 { r.min_p.ln() } else { -1e38 };
        let floats =
            [temperature, r.top_p, least, r.repeat_penalty, r.frequency_penalty, r.presence_penalty].map(f32::to_bits);
        words[..4].copy_from_slice(&[
            key,
            (top_k | usize::from(masked) << 15 | likely << 16) as u32,
            r.penalty_last_n.min(end) as u32,
            end as u32,
        ]);
        words[4..10].copy_from_slice(&floats);
        words[10..].copy_from_slice(&self.suppressed);
    }

    /// Fails if the kernel cannot choose the tokens of this step.
    pub(crate) fn check_rows(&self, step: &Step<'_>, draws: &[Draw]) -> Result<()> {
        let known = draws.iter().all(|d| knows_rows(&d.rules, self.n_vocab));
        if !known || step.entry != Entry::Trunk || step.outputs() != draws.len() || draws.len() > MAX_SEGMENTS {
            bail!(InvalidArgument, "choosing tokens needs prepared rules, and one to {MAX_SEGMENTS} rows of logits");
        }
        Ok(())
    }

    /// Writes how the token of each row is chosen. Returns the bytes that were written.
    pub(crate) fn write_draws(&self, gpu: &Gpu, draws: &[Draw]) -> u64 {
        let mut words = [[0; HEAD / 4]; MAX_SEGMENTS];
        for (words, d) in words.iter_mut().zip(draws) {
            self.write_how((&d.rules, d.key, d.masked), 0, &mut words[STEP_WORDS..]);
        }
        let bytes = bytemuck::cast_slice(&words[..draws.len()]);
        gpu.queue.write_buffer(self.draws.as_ref().expect("there are several rows"), 0, bytes);
        bytes.len() as u64
    }

    /// The tokens of so many rows, as the host reads them.
    pub(crate) fn answer_rows(&self, rows: usize) -> [(&wgpu::Buffer, u64, u64); 2] {
        [(&self.chosen, 0, rows as u64 * CHOSEN), (&self.chosen, 0, 0)]
    }

    /// What penalties look at, where the host knows it. Returns the bytes that were written.
    pub(crate) fn write_history(&self, gpu: &Gpu, request: &SampleRequest<'_>) -> u64 {
        let Some(history) = request.history.filter(|_| request.rules.penalty_last_n > 0) else { return 0 };
        let start = history.len().saturating_sub(request.rules.penalty_last_n);
        let recent = bytemuck::cast_slice(&history[start..]);
        gpu.queue.write_buffer(&self.history, start as u64 * 4, recent);
        recent.len() as u64
    }

    /// Writes the masks of so many rows, by way of `words`. Returns the bytes that were written.
    pub(crate) fn write_masks(&self, gpu: &Gpu, masks: &[u32], rows: usize, words: &mut Vec<u32>) -> u64 {
        words.clear();
        let (given, own) = (masks.len() / rows, self.n_vocab.div_ceil(32));
        for row in 0..rows {
            words.extend_from_slice(&masks[row * given..][..given.min(own)]);
            words.resize((row + 1) * own, 0);
        }
        let bytes = bytemuck::cast_slice(words);
        gpu.queue.write_buffer(&self.allowed, 0, bytes);
        bytes.len() as u64
    }

    /// What the host reads of a token that was sampled by these rules: places of `chosen`, and bytes.
    pub(crate) fn answer(&self, rules: &SamplingRules) -> [(&wgpu::Buffer, u64, u64); 2] {
        let more = rules.logprobs.map_or(0, |n| 2 + 2 * n.min(MAX_LOGPROBS).min(self.n_vocab) as u64);
        [(&self.chosen, 0, ID), (&self.chosen, 2 * ID, more * ID)]
    }

    /// Puts the token that the step before chose in the place of the step's.
    pub(crate) fn feed(&self, encoder: &mut wgpu::CommandEncoder, step: &wgpu::Buffer) {
        encoder.copy_buffer_to_buffer(&self.chosen, ID, step, ROWS_AT, ID);
    }

    /// Fails where the last tokens of a step cannot be those that were chosen here.
    pub(crate) fn check_drafted(&self, step: &Step<'_>, drafted: usize) -> Result<()> {
        if step.segments.len() != 1 || drafted >= step.len() {
            bail!(
                InvalidArgument,
                "tokens of the block can follow one that the host knows, in a step with one segment"
            );
        }
        Ok(())
    }

    /// Puts the tokens that the last steps chose in the places of the last ones of a step. The block's token for a position is
    /// in the history one place before it: no step of it ends with that token.
    pub(crate) fn feed_drafted(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        to: &wgpu::Buffer,
        step: &Step<'_>,
        drafted: usize,
    ) {
        let (chosen, row) = (step.keys() - 1 - drafted, step.len() - drafted);
        for i in 0..drafted {
            let at = ROWS_AT + ((row + i) * ROW_WORDS) as u64 * ID;
            encoder.copy_buffer_to_buffer(&self.history, (chosen + i) as u64 * ID, to, at, ID);
        }
    }

    pub(crate) fn record(&self, pass: &mut wgpu::ComputePass<'_>, rows: usize) {
        let rows = rows as u32;
        for ((pipeline, group), (x, y)) in self.kernels.iter().zip([(self.parts_of_row, rows), (rows, 1)]) {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, group, &[]);
            pass.dispatch_workgroups(x, y, 1);
        }
    }
}

/// What the words after a token say of it.
pub(crate) fn logprobs(words: &[u32], out: &mut Logprobs) {
    let Some(([all, chosen], top)) = words.split_first_chunk() else { return };
    let all = f32::from_bits(*all);
    out.logprob = f32::from_bits(*chosen) - all;
    out.top.clear();
    let finite = top.as_chunks().0.iter().map(|[id, logit]| (*id, f32::from_bits(*logit))).filter(|t| t.1.is_finite());
    out.top.extend(finite.map(|(id, logit)| (id, logit - all)));
}

/// What the shader writes is a token or why there is none.
pub(crate) fn token(id: u32) -> Result<u32> {
    match id {
        u32::MAX => bail!(DegenerateLogits, "a logit is not finite; compare this backend with the reference"),
        0xffff_fffe => bail!(DegenerateLogits, "all logits are equal; compare this backend with the reference"),
        0xffff_fffd => bail!(DegenerateLogits, "the penalties leave no token to choose from"),
        id => Ok(id),
    }
}
