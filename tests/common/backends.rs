//! The backends under test, and how to run a case on one.

use std::future::poll_fn;

use pagelm::Result;
use pagelm::backend::cpu::Cpu;
use pagelm::backend::reference::Reference;
use pagelm::backend::webgpu::{Options, WebGpu};
use pagelm::backend::{Backend, Segment, Step};
use pagelm::graph::WeightId;

use super::cases::Case;
use super::skipped;
use super::tol::Tol;

/// A backend that is compared with the reference.
pub struct Candidate {
    pub name: &'static str,
    pub make: fn() -> Box<dyn Backend>,
    /// How much coarser than exact f32 on a CPU it may be.
    pub slack: f32,
}

/// Every backend that runs on this machine.
pub fn all() -> Vec<Candidate> {
    let mut all = vec![
        Candidate { name: "cpu, 1 thread", make: || Box::new(Cpu::new(1)), slack: 1.0 },
        Candidate { name: "cpu, 3 threads", make: || Box::new(Cpu::new(3)), slack: 1.0 },
        Candidate { name: "cpu, plain instructions", make: || Box::new(Cpu::with_level(1, 0)), slack: 1.0 },
        Candidate { name: "cpu, widest instructions", make: || Box::new(Cpu::with_level(1, u8::MAX)), slack: 1.0 },
    ];
    if gpu_wanted() {
        all.push(Candidate { name: "webgpu", make: || Box::new(gpu(Options::default())), slack: 1.0 });
        all.push(Candidate { name: "webgpu, other kernels", make: || Box::new(other_gpu()), slack: 1.0 });
    }
    all
}

/// Whether this machine is expected to have a GPU adapter. Only a user who says so goes without.
pub fn gpu_wanted() -> bool {
    let skip = std::env::var_os("PAGELM_NO_GPU").is_some_and(|v| v == "1");
    if skip {
        skipped::list("PAGELM_NO_GPU is 1: the GPU backend is not tested");
    }
    !skip
}

/// The kernels that this machine's adapter would not get by itself, and the limits that every device has.
fn other_gpu() -> WebGpu {
    let software = Some(!gpu(Options::default()).adapter().software);
    gpu(Options { spec_limits: true, software, ..Options::default() })
}

/// A GPU backend.
///
/// # Panics
/// Where there is no adapter.
pub fn gpu(options: Options) -> WebGpu {
    pollster::block_on(WebGpu::new(options))
        .unwrap_or_else(|e| panic!("{e}\nTo test without a GPU set PAGELM_NO_GPU=1."))
}

/// Prepares the backend and writes the weights: some whole, some in odd pieces, last piece first.
pub fn load(backend: &mut dyn Backend, case: &Case) -> Result<()> {
    backend.prepare(case.plan.clone(), case.limits)?;
    for (i, bytes) in case.weights.iter().enumerate() {
        let piece = if i % 2 == 0 { bytes.len() } else { (bytes.len() / 5 + 3) | 1 };
        let starts: Vec<usize> = (0..bytes.len()).step_by(piece.max(1)).collect();
        for &at in starts.iter().rev() {
            backend.write_weight(WeightId(i as u32), at, &bytes[at..bytes.len().min(at + piece)])?;
        }
    }
    backend.finish_weights()
}

/// Runs one step and gives back its logits.
pub fn step(backend: &mut dyn Backend, step: &Step<'_>, cols: usize) -> Result<Vec<f32>> {
    backend.submit(step)?;
    let mut logits = vec![f32::NAN; step.outputs() * cols];
    pollster::block_on(poll_fn(|cx| backend.poll_logits(cx, &mut logits)))?;
    Ok(logits)
}

/// The dispatches of each step of a case, which makes no buffer and no pipeline.
pub fn dispatches(b: &mut WebGpu, case: &Case) -> Vec<u64> {
    load(b, case).expect("loads");
    let mut counts = Vec::new();
    let mut done = 0;
    for &n in &case.steps {
        let before = b.counters();
        let tokens = &case.tokens[done..done + n];
        step(b, &Step::trunk(&[Segment::alone(tokens, case.start + done, n)]), case.cols()).expect("runs");
        let c = b.counters();
        assert_eq!((c.pipelines, c.buffers), (before.pipelines, before.buffers), "a step makes nothing");
        counts.push(c.dispatches - before.dispatches);
        done += n;
    }
    counts
}

/// All rows of all steps of a case.
pub fn run(backend: &mut dyn Backend, case: &Case) -> Result<Vec<f32>> {
    load(backend, case)?;
    steps(backend, case)
}

/// Runs the steps of a case on a backend that has its weights.
pub fn steps(backend: &mut dyn Backend, case: &Case) -> Result<Vec<f32>> {
    let mut rows = Vec::new();
    let mut done = 0;
    for &n in &case.steps {
        let tokens = &case.tokens[done..done + n];
        rows.extend(step(backend, &Step::trunk(&[Segment::alone(tokens, case.start + done, n)]), case.cols())?);
        done += n;
    }
    Ok(rows)
}

/// Runs the case on every backend and compares with the reference.
pub fn parity(case: &Case, tol: Tol) {
    let want = run(&mut Reference::new(), case).unwrap_or_else(|e| panic!("{} on the reference: {e}", case.name));
    for c in all() {
        let what = format!("{} on {}", case.name, c.name);
        let mut backend = (c.make)();
        if !case.plan.graph.weights.iter().all(|w| backend.supports(w.dtype)) {
            continue; // It says so, and an engine asks before it prepares.
        }
        let got = run(&mut *backend, case).unwrap_or_else(|e| panic!("{what}: {e}"));
        tol.times(c.slack).check(&what, &got, &want, case.cols());
    }
}
