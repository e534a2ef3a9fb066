//! Measures variants of kernels on the device, with matrices and heads of the sizes of a model.

use std::future::poll_fn;

use super::in_flight::{Answer, InFlight};
use super::profile;
use super::words;
use crate::backend::webgpu::device::Gpu;
use crate::backend::webgpu::dispatch::{Compiler, Dispatch};
use crate::backend::webgpu::kernels::libs::in_ints;
use crate::backend::webgpu::prepare::program::Program;
use crate::backend::webgpu::prepare::states::Room;
use crate::backend::webgpu::tuning::{Candidate, GEMV_MAX_ROWS, Gemm, Knob, Tuning, WIDE_MATRIX_ROWS};
use crate::backend::{KvType, Limits, Segment, Step};
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Attention, Builder, Entry, Graph, Op, Plan, StateId, Weight, WeightId};

/// Time limit in milliseconds; a measurement that has started still ends.
const BUDGET: f64 = 1000.0;

/// The least milliseconds of a measurement: clocks in browsers are coarse.
const SPAN: f64 = 4.0;
const ROUNDS: usize = 3;
const MOST_REPEATS: f64 = 64.0;

/// A variant must take less than this fraction of the default's time: a smaller gain is noise.
const GAIN: f64 = 0.97;

/// Bytes of weights of a trial: more than the caches hold, because a model's weights come from memory.
const BYTES: usize = 64 << 20;
const COPIES: usize = 16;

/// The most rows of the matrix and of x for the gemm, and positions for attention.
const ROWS: usize = 1024;
const TOKENS: usize = 256;
const POSITIONS: usize = 4096;

/// The tokens of a short prompt.
const SHORT: usize = 64;

/// The clock of the measurements.
#[derive(Clone, Copy)]
pub struct Clock<'a> {
    /// The host's, in milliseconds.
    pub now: &'a dyn Fn() -> f64,
    /// Whether to use timestamp queries of the GPU, if it has them.
    pub gpu: bool,
}

/// The fastest candidates; each is measured together with the best of those before it.
pub(crate) async fn tune(
    gpu: &Gpu,
    plan: &Plan,
    limits: Limits,
    candidates: &[Candidate],
    clock: Clock<'_>,
) -> Result<Tuning> {
    let end = (clock.now)() + BUDGET;
    // A trial has no past, so all of its positions are first ones.
    let mut best = Tuning { fine: 0, ..gpu.tuning };
    for (of, trial) in trials(&plan.graph, limits) {
        let some: Vec<_> = candidates.iter().filter(|c| of(c.knob) && best.with(c.knob) != best).collect();
        if !some.is_empty() && (clock.now)() < end {
            best = trial.run(gpu, best, &some, (clock, end)).await?;
        }
    }
    Ok(Tuning { fine: gpu.tuning.fine, ..best })
}

/// A small plan, and the step that is measured.
struct Trial {
    plan: Plan,
    limits: Limits,
    pos: usize,
    tokens: Vec<u32>,
}

type Of = fn(Knob) -> bool;

fn trials(g: &Graph, limits: Limits) -> Vec<(Of, Trial)> {
    let wide = largest(g, |w| w.rows >= WIDE_MATRIX_ROWS);
    let narrow = largest(g, |w| w.rows < WIDE_MATRIX_ROWS);
    let ints = largest(g, |w| in_ints(w.dtype)).filter(|_| limits.max_tokens > GEMV_MAX_ROWS);
    let attention = g.nodes.iter().find_map(|n| match &n.op {
        Op::Attention { attn, .. } => Some(*attn),
        _ => None,
    });
    let mut all: Vec<(Of, Trial)> = Vec::new();
    all.extend(wide.map(|w| (is_wide as Of, Trial::product(w, w.rows, 1))));
    all.extend(narrow.map(|w| (is_narrow as Of, Trial::product(w, w.rows, 1))));
    all.extend(ints.map(|w| (is_gemm as Of, Trial::product(w, w.rows.min(ROWS), limits.max_tokens.min(TOKENS)))));
    let short = limits.max_tokens.min(SHORT);
    let filling = narrow.filter(|_| short > GEMV_MAX_ROWS);
    all.extend(filling.map(|w| (is_fill as Of, Trial::product(w, w.rows.min(ROWS), short))));
    all.extend(attention.map(|a| (is_attn_chunk as Of, Trial::attention(a, limits.n_ctx.min(POSITIONS)))));
    all
}

fn is_wide(c: Knob) -> bool {
    matches!(c, Knob::Wide(_))
}

fn is_narrow(c: Knob) -> bool {
    matches!(c, Knob::Narrow(_))
}

fn is_gemm(c: Knob) -> bool {
    matches!(c, Knob::Gemm(_))
}

fn is_fill(c: Knob) -> bool {
    matches!(c, Knob::Fill(_))
}

fn is_attn_chunk(c: Knob) -> bool {
    matches!(c, Knob::AttnChunk(_))
}

/// Of the matrices that are read whole for each token, one of the size that makes up most bytes.
fn largest(g: &Graph, is: impl Fn(&Weight) -> bool) -> Option<&Weight> {
    let read = g.nodes.iter().flat_map(|n| match &n.op {
        Op::MatMul { w, .. } => vec![*w],
        Op::FusedMatMul(p) if p.experts.is_none() => p.parts.iter().map(|p| p.w).collect(),
        _ => Vec::new(),
    });
    let matrices: Vec<&Weight> = read.map(|w| g.weight(w)).filter(|w| w.cols.is_multiple_of(32) && is(w)).collect();
    let alike = |a: &Weight, b: &Weight| (a.dtype, a.rows, a.cols) == (b.dtype, b.rows, b.cols);
    let bytes = |w: &Weight| matrices.iter().filter(|v| alike(v, w)).map(|v| v.bytes()).sum::<usize>();
    matrices.iter().copied().max_by_key(|w| bytes(w))
}

impl Trial {
    /// The product of copies of some rows of a matrix with that many tokens.
    fn product(w: &Weight, rows: usize, tokens: usize) -> Self {
        let rows = rows.min((BYTES / w.row_bytes()).max(WIDE_MATRIX_ROWS));
        let copies = (BYTES / (rows * w.row_bytes()).max(1)).clamp(1, COPIES);
        let mut g = Builder::new();
        let table = g.weight("x", DType::F32, TOKENS, w.cols);
        let x = g.embed(table, 1.0);
        let products: Vec<_> = (0..copies)
            .map(|i| {
                let w = g.weight(&format!("w{i}"), w.dtype, rows, w.cols);
                g.matmul(w, x)
            })
            .collect();
        let sum = products.into_iter().reduce(|a, b| g.add(a, b)).expect("there is one");
        let out = g.last_rows(sum);
        Self::new(g.finish(out), tokens, 0, tokens)
    }

    /// Attention of one token to `n_ctx` positions.
    fn attention(attn: Attention, n_ctx: usize) -> Self {
        let mut g = Builder::new();
        let mut input = |name: &str, heads: usize| {
            let table = g.weight(name, DType::F32, TOKENS, heads * attn.d_head);
            g.embed(table, 1.0)
        };
        let (q, k, v) = (input("q", attn.n_head), input("k", attn.n_kv_head), input("v", attn.n_kv_head));
        let states = ["keys", "values"].map(|name| g.state(name, attn.n_kv_head * attn.d_head));
        g.kv_store(k, states[0]);
        g.kv_store(v, states[1]);
        let y = g.attention(q, states[0], states[1], attn);
        let out = g.last_rows(y);
        Self::new(g.finish(out), n_ctx, n_ctx - 1, 1)
    }

    fn new(graph: Graph, n_ctx: usize, pos: usize, tokens: usize) -> Self {
        let limits = Limits::one(n_ctx, tokens, KvType::F32);
        Self { plan: Plan::new(graph), limits, pos, tokens: (0..tokens as u32).collect() }
    }

    /// The segments of the step.
    fn segments(&self) -> [Segment<'_>; 1] {
        [Segment::alone(&self.tokens, self.pos, self.tokens.len())]
    }

    /// The number of logits of the step.
    fn numbers(&self) -> usize {
        self.tokens.len() * self.plan.graph.columns(Entry::Trunk)
    }

    /// The fastest tuning: the default, or the default with one of the candidates.
    async fn run(
        &self,
        gpu: &Gpu,
        default: Tuning,
        changes: &[&Candidate],
        (clock, end): (Clock<'_>, f64),
    ) -> Result<Tuning> {
        // Sized for the candidate that needs the most.
        let roomy = Tuning {
            attn_chunk: changes.iter().fold(default.attn_chunk, |n, c| n.min(default.with(c.knob).attn_chunk)),
            ..default
        };
        let roomy = Tuning { gemm: Gemm::Q8, ..roomy };
        let mut bench = Bench::new(gpu, self, roomy)?;
        let mut compiler = Compiler::new(gpu);
        let plain = bench.compile(&mut compiler, default)?;
        let want = bench.numbers(&plain).await?;
        let mut variants = vec![(default, plain, f64::INFINITY)];
        for c in changes {
            if (clock.now)() >= end {
                break;
            }
            let tuning = default.with(c.knob);
            let run = bench.compile(&mut compiler, tuning)?;
            // A driver may miscompile one of them.
            let off = distance(&bench.numbers(&run).await?, &want);
            if off <= c.tolerance {
                variants.push((tuning, run, f64::INFINITY));
            } else {
                tracing::warn!("{:?} is off by {off:e} on this GPU and is not used", c.knob);
            }
        }
        let once = bench.time(&variants[0].1, 1, clock).await?;
        let repeats = (SPAN / once.max(1e-3)).ceil().clamp(1.0, MOST_REPEATS) as usize;
        for round in 0..ROUNDS {
            for (_, run, best) in &mut variants {
                // Candidates that were not measured are not chosen.
                if round > 0 && (clock.now)() >= end {
                    break;
                }
                *best = best.min(bench.time(run, repeats, clock).await?);
            }
        }
        bench.program.buffers.weights.destroy();
        let limit = variants[0].2 * GAIN;
        let fastest = variants.iter().filter(|v| v.2 > 0.0 && v.2 <= limit).min_by(|a, b| a.2.total_cmp(&b.2));
        Ok(fastest.map_or(default, |v| v.0))
    }
}

/// The largest difference, relative to the largest value.
fn distance(got: &[f32], want: &[f32]) -> f32 {
    let size = want.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let off = |(a, b): (&f32, &f32)| if a.is_finite() { (a - b).abs() / size } else { f32::INFINITY };
    got.iter().zip(want).map(off).fold(0.0, f32::max)
}

/// A trial's plan on the device.
struct Bench<'a> {
    gpu: &'a Gpu,
    trial: &'a Trial,
    program: Program,
    in_flight: InFlight,
}

impl<'a> Bench<'a> {
    fn new(gpu: &'a Gpu, trial: &'a Trial, roomy: Tuning) -> Result<Self> {
        let mut program = Program::allocate(gpu, trial.plan.clone(), trial.limits, roomy)?;
        program.reserve(gpu, Room::most(trial.limits))?;
        fill(gpu, &mut program)?;
        let mut in_flight = InFlight::default();
        in_flight.add(gpu, Answer::Logits, 1, (trial.numbers() * 4).max(16) as u64)?;
        let mut words = Vec::new();
        words::write(&mut words, &Step::trunk(&trial.segments()), program.uses);
        gpu.queue.write_buffer(&program.buffers.step, 0, bytemuck::cast_slice(&words));
        Ok(Self { gpu, trial, program, in_flight })
    }

    fn compile(&mut self, compiler: &mut Compiler<'_>, tuning: Tuning) -> Result<Vec<Dispatch>> {
        let [trunk, ..] = self.program.compile(self.gpu, compiler, tuning)?;
        Ok(trunk)
    }

    /// The logits of the step.
    async fn numbers(&mut self, run: &[Dispatch]) -> Result<Vec<f32>> {
        let mut encoder = self.gpu.encoder();
        let segments = self.trial.segments();
        let step = Step::trunk(&segments);
        record(&mut encoder, run, &step, None);
        let mut got = vec![0.0; self.trial.numbers()];
        let output = self.program.entry(&step)?.1.clone();
        self.finish(encoder, &output, bytemuck::cast_slice_mut(&mut got)).await?;
        Ok(got)
    }

    /// Milliseconds of the kernels under test, by the GPU's clock if it has one.
    async fn time(&mut self, run: &[Dispatch], repeats: usize, clock: Clock<'_>) -> Result<f64> {
        let segments = self.trial.segments();
        let step = Step::trunk(&segments);
        if clock.gpu && self.gpu.timestamps {
            let times = profile::time(self.gpu, 1, |encoder, _, writes| {
                record(encoder, run, &step, Some((repeats, Some(writes))));
            });
            return Ok(times.await?[0] * 1e-6);
        }
        let begin = (clock.now)();
        let mut encoder = self.gpu.encoder();
        record(&mut encoder, run, &step, Some((repeats, None)));
        let unread = self.program.buffers.step.clone();
        self.finish(encoder, &unread, &mut []).await?;
        Ok((clock.now)() - begin)
    }

    async fn finish(&mut self, mut encoder: wgpu::CommandEncoder, from: &wgpu::Buffer, out: &mut [u8]) -> Result<()> {
        self.in_flight.take(&mut encoder, Answer::Logits, [(from, 0, out.len() as u64)]);
        let submission = self.gpu.queue.submit([encoder.finish()]);
        self.in_flight.notify(&self.gpu.queue, submission);
        poll_fn(|cx| self.in_flight.poll(self.gpu, cx, Answer::Logits, out)).await
    }
}

/// Records one pass: the whole step, or the kernels under test many times.
fn record(
    encoder: &mut wgpu::CommandEncoder,
    run: &[Dispatch],
    step: &Step<'_>,
    timed: Option<(usize, Option<wgpu::ComputePassTimestampWrites<'_>>)>,
) {
    let around = ["embed", "kv_store", "add", "last_rows"];
    let (repeats, timestamp_writes) = timed.clone().unwrap_or((1, None));
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
    for _ in 0..repeats {
        for d in run.iter().filter(|d| timed.is_none() || !around.contains(&d.name)) {
            let Some([x, y, z]) = d.grid(step) else { continue };
            pass.set_pipeline(&d.pipeline);
            pass.set_bind_group(0, &d.group, &[]);
            pass.dispatch_workgroups(x, y, z);
        }
    }
}

/// Fills weights and states with values that keep all sums finite.
fn fill(gpu: &Gpu, program: &mut Program) -> Result<()> {
    const PIECE: usize = 1 << 20;
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let floats: Vec<f32> = (0..PIECE / 4).map(|_| (random() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect();
    let floats: &[u8] = bytemuck::cast_slice(&floats);
    // Whatever float type these bytes are read as, the value is finite and below 2.
    let words: Vec<u64> = (0..PIECE / 8).map(|_| random() & 0x9f9f_9f9f_9f9f_9f9f | 0x2020_2020_2020_2020).collect();
    let packed: &[u8] = bytemuck::cast_slice(&words);
    for i in 0..program.plan.graph.weights.len() {
        let w = &program.plan.graph.weights[i];
        let (bytes, from) = (w.bytes(), if w.dtype == DType::F32 { floats } else { packed });
        for at in (0..bytes).step_by(PIECE) {
            program.buffers.weights.write(gpu, WeightId(i as u32), at, &from[..PIECE.min(bytes - at)])?;
        }
    }
    program.buffers.weights.finish(gpu)?;
    for i in 0..program.plan.graph.states.len() {
        let buffer = program.buffers.states.get(StateId(i as u32));
        for at in (0..buffer.size()).step_by(PIECE) {
            gpu.queue.write_buffer(buffer, at, &floats[..(buffer.size() - at).min(PIECE as u64) as usize]);
        }
    }
    program.fill_tables(gpu);
    gpu.fault.check()
}
