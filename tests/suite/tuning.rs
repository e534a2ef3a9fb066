//! Variants of kernels that are chosen by measuring: the same numbers with each of them, and a record that survives.

use std::cell::Cell;
use std::time::Instant;

use pagelm::DType;
use pagelm::backend::Activations;
use pagelm::backend::reference::Reference;
use pagelm::backend::webgpu::{Candidate, Clock, Gemm, Gemv, Knob, Options, Tuning, WebGpu, candidates};
use pagelm::engine::{self, Model};
use pagelm::gguf::Gguf;
use pagelm::graph::{Act, Attention};
use pollster::block_on;

use crate::common::backends::{gpu, gpu_wanted, run};
use crate::common::cases::Case;
use crate::common::{golden, tol};

fn hardware(activations: Activations) -> WebGpu {
    gpu(Options { software: Some(false), activations, ..Options::default() })
}

const DEFAULTS: [Gemm; 2] = [Gemm::F32, Gemm::Q8];

#[test]
fn choices_survive_their_record() {
    for default in DEFAULTS.map(|g| Tuning::new(false, g)) {
        for c in candidates(default) {
            let tuning = default.with(c.knob);
            assert_eq!(default.recorded(&tuning.record(default)), Some(tuning));
        }
        let software = Tuning { software: true, ..default };
        let record = default.record(default);
        assert_eq!(software.recorded(&record), Some(software), "what the adapter is does not come from a record");
    }
}

#[test]
fn a_broken_or_foreign_record_is_none() {
    let default = Tuning::new(false, Gemm::F32);
    let good = default.record(default);
    for bad in ["", "{}", "null", "[]", "{\"version\":\"0.0.0\"}", &good[1..], &good[..good.len() - 1]] {
        assert_eq!(default.recorded(bad), None, "{bad}");
    }
    let version = format!("\"{}\"", env!("CARGO_PKG_VERSION"));
    for (from, to) in [
        (version.as_str(), "\"0.0.0\""),
        ("\"rows\":4", "\"rows\":3"),
        ("\"lanes\":32", "\"lanes\":0"),
        ("\"lanes\":32", "\"lanes\":-1"),
        ("\"attn_chunk\":32", "\"attn_chunk\":1000000"),
        ("\"fill\":64", "\"fill\":0"),
        ("\"f32\"", "\"f64\""),
        ("\"f32\"", "\"q8\""),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good, "{from} is in the record");
        assert_eq!(default.recorded(&bad), None, "{bad}");
    }
    let q8 = Tuning::new(false, Gemm::Q8);
    assert_eq!(default.recorded(&q8.record(q8)), None, "measured with other candidates");
    if gpu_wanted() {
        let mut gpu = hardware(Activations::F32);
        assert!(gpu.adopt(&default.with(Knob::AttnChunk(64)).record(default)) && gpu.tuning().attn_chunk == 64);
        assert!(!gpu.adopt("nonsense"));
        assert_eq!(gpu.tuning(), default, "and not what it was before");
    }
}

/// Runs a case with each candidate and compares with the reference.
fn parity(case: &Case, tol: tol::Tol, is: impl Fn(Knob) -> bool) {
    if !gpu_wanted() {
        return;
    }
    let default = Tuning::new(false, Gemm::F32);
    let want = run(&mut Reference::new(), case).expect("runs on the reference");
    for c in candidates(default).into_iter().filter(|c| is(c.knob)) {
        let mut gpu = hardware(Activations::F32);
        assert!(gpu.adopt(&default.with(c.knob).record(default)));
        let got = run(&mut gpu, case).expect("runs");
        tol.check(&format!("{} with {:?}", case.name, c.knob), &got, &want, case.cols());
    }
}

#[test]
fn every_shape_of_a_gemv_gives_the_same_products() {
    for (dtype, cols, rows) in [(DType::Q4_K, 256, 37), (DType::Q8_0, 352, 5), (DType::Q4_0, 32, 4099)] {
        let case = Case::new(format!("gemv {dtype} {cols} to {rows}"), &[1, 3], |p| {
            let x = p.input(cols);
            let w = p.weight(dtype, rows, cols);
            p.g.matmul(w, x)
        });
        parity(&case, tol::DOT, |c| match c {
            Knob::Wide(_) => rows >= 4096,
            Knob::Narrow(_) => rows < 4096,
            _ => false,
        });
    }
    let case = Case::new("gemv of gate and up", &[1], |p| {
        let x = p.input(256);
        let norm = p.weight(DType::F32, 1, 256);
        let h = p.g.rms_norm(x, norm, 1e-5);
        let [gate, up] = [DType::Q5_K, DType::Q6_K].map(|d| p.weight(d, 61, 256));
        let (gate, up) = (p.g.matmul(gate, h), p.g.matmul(up, h));
        p.g.glu(gate, up, Act::Silu)
    });
    parity(&case, tol::LAYER, |c| matches!(c, Knob::Narrow(_)));
}

#[test]
fn tiles_of_every_size_give_the_same_products() {
    for (dtype, cols, rows) in [(DType::Q4_K, 256, 37), (DType::F16, 96, 130), (DType::Q6_K, 256, 1030)] {
        let case = Case::new(format!("tiles of {dtype} {cols} to {rows}"), &[17, 33, 70], |p| {
            let x = p.input(cols);
            let w = p.weight(dtype, rows, cols);
            p.g.matmul(w, x)
        });
        parity(&case, tol::DOT, |c| matches!(c, Knob::Fill(_)));
    }
    let case = Case::new("tiles of gate and up", &[30, 40], |p| {
        let x = p.input(256);
        let [gate, up] = [DType::Q5_K, DType::Q8_0].map(|d| p.weight(d, 61, 256));
        let (gate, up) = (p.g.matmul(gate, x), p.g.matmul(up, x));
        p.g.glu(gate, up, Act::Silu)
    });
    parity(&case, tol::LAYER, |c| matches!(c, Knob::Fill(_)));
}

#[test]
fn attention_in_chunks_of_any_size_is_the_same() {
    for (n_head, n_kv_head, d_head, window) in [(6, 2, 64, None), (4, 2, 256, None), (3, 1, 32, Some(70))] {
        let attn = Attention { n_head, n_kv_head, d_head, scale: 0.1, causal: true, window, softcap: None };
        let case = Case::new(format!("attention {n_head} {d_head} {window:?} in chunks"), &[150, 1, 150, 1], |p| {
            let q = p.input(n_head * d_head);
            let [k, v] = [0; 2].map(|_| p.input(n_kv_head * d_head));
            let [k, v] = [k, v].map(|x| p.stored(x, n_kv_head * d_head));
            p.g.attention(q, k, v, attn)
        });
        parity(&case, tol::ATTENTION, |c| matches!(c, Knob::AttnChunk(_)));
    }
}

const OPTIONS: engine::Options = engine::Options { n_ctx: Some(96), max_tokens: 40, ..engine::Options::DEFAULT };

#[test]
fn tuning_ends_with_a_candidate_changes_no_numbers_and_leaves_nothing_behind() {
    if !gpu_wanted() {
        return;
    }
    for activations in [Activations::F32, Activations::Q8] {
        let (numbers, file) = golden::load("llama");
        let gguf = Gguf::parse(&file).unwrap();
        let model = || Model::new(&gguf, &|_| true, &OPTIONS).unwrap();
        let logits = |gpu: WebGpu| {
            let mut session = model().load(&gguf, &&*file, Box::new(gpu)).unwrap();
            let made = session.backend().counters();
            let mut rows = block_on(session.prefill(&numbers.prompts[0].ids)).unwrap().to_vec();
            rows.extend_from_slice(block_on(session.decode(7)).unwrap());
            (rows, made)
        };
        let (want, plain) = logits(hardware(activations));

        let mut tuned = hardware(activations);
        let default = tuned.tuning();
        let start = Instant::now();
        let Model { plan, limits, .. } = model();
        let now = || start.elapsed().as_secs_f64() * 1e3;
        let clock = Clock { now: &now, gpu: activations == Activations::F32 };
        let record =
            block_on(tuned.tune(&plan, limits, clock)).expect("it ends").expect("the kernels are for hardware");
        assert!(start.elapsed().as_secs() < 60, "it took {:?}", start.elapsed());
        assert_eq!(default.recorded(&record), Some(tuned.tuning()), "each choice is a candidate, and is in the record");
        let (got, made) = logits(tuned);
        assert_eq!(made.buffers, plain.buffers);
        // Short steps of these models are of few rows: int8 changes the pipelines of the long ones only.
        assert!(made.pipelines <= plain.pipelines + 4, "{} and {}", made.pipelines, plain.pipelines);
        let off = golden::max_diff(&got, &want);
        assert!(off <= if activations == Activations::F32 { 2e-4 } else { 0.2 }, "{activations:?}: off by {off}");
    }
}

#[test]
fn a_faster_variant_with_other_numbers_is_not_chosen() {
    if !gpu_wanted() {
        return;
    }
    let case = Case::new("two matrices", &[40], |p| {
        let x = p.input(256);
        let [a, b] = [0; 2].map(|_| p.weight(DType::Q4_0, 256, 256));
        let y = p.g.matmul(a, x);
        p.g.matmul(b, y)
    });
    // Whole numbers are half a percent off: with a tolerance of rounding only, they are a broken kernel.
    let knob = Knob::Gemm(Gemm::Q8);
    for (tolerance, chosen) in [(2e-2, true), (1e-4, false)] {
        let mut gpu = hardware(Activations::F32);
        // Each measurement takes less than the one before.
        let (now, step) = (Cell::new(0.0), Cell::new(64.0));
        let clock = || {
            step.set(step.get() * 0.8);
            now.set(now.get() + step.get());
            now.get()
        };
        let list = [Candidate { knob, tolerance }];
        block_on(gpu.tune_among(&list, &case.plan, case.limits, Clock { now: &clock, gpu: false })).expect("it ends");
        assert_eq!(gpu.tuning().gemm == Gemm::Q8, chosen, "with a tolerance of {tolerance}");
    }
}

#[test]
fn tuning_stops_when_its_time_is_over_and_software_adapters_are_not_tuned() {
    if !gpu_wanted() {
        return;
    }
    let case = Case::new("one matrix", &[1], |p| {
        let x = p.input(64);
        let w = p.weight(DType::Q8_0, 64, 64);
        p.g.matmul(w, x)
    });
    let calls = Cell::new(0);
    let clock = || {
        calls.set(calls.get() + 1);
        f64::from(calls.get()) * 600.0
    };
    let mut short = hardware(Activations::F32);
    let default = short.tuning();
    block_on(short.tune(&case.plan, case.limits, Clock { now: &clock, gpu: false })).expect("it ends");
    assert_eq!(short.tuning(), default);
    assert!(calls.get() < 12, "asked the clock {} times", calls.get());

    let mut software = gpu(Options { software: Some(true), ..Options::default() });
    let list = [Candidate { knob: Knob::Narrow(Gemv { rows: 4, lanes: 8, threads: 64 }), tolerance: f32::INFINITY }];
    let default = software.tuning();
    let none = block_on(software.tune_among(&list, &case.plan, case.limits, Clock { now: &|| 0.0, gpu: true }))
        .expect("it ends");
    assert_eq!((none, software.tuning()), (None, default));
}
