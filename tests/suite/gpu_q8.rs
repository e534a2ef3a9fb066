//! The GPU backend with activations of 8 bits: long steps multiply whole numbers, short ones stay as they are.

use pagelm::backend::reference::Reference;
use pagelm::backend::webgpu::{Gemm, Knob, Options, Tuning, WebGpu};
use pagelm::backend::{Activations, Backend, FINE_POSITIONS, Limits};
use pagelm::engine;
use pagelm::gguf::Gguf;
use pagelm::graph::Act;
use pagelm::text::{ChatTemplate, RenderOptions, Tokenizer, chat_prompt};
use pagelm::{DType, quant};
use pollster::block_on;
use serde_json::json;

use crate::common::backends::{self, gpu, gpu_wanted, run};
use crate::common::cases::{Case, Parts};
use crate::common::conversation::value;
use crate::common::fixtures;
use crate::common::golden::{argmax, max_diff, open};
use crate::common::tol::{self, Tol};

/// The types whose long steps are in whole numbers.
const PACKED: [DType; 10] = [
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::Q2_K,
    DType::Q3_K,
    DType::Q4_K,
    DType::Q5_K,
    DType::Q6_K,
];

/// Int8 from the first position on, where tests have theirs.
const COARSE: Options = Options {
    spec_limits: false,
    max_binding: None,
    software: Some(false),
    rate: None,
    activations: Activations::Q8,
    fine_positions: Some(0),
};

fn hardware(activations: Activations) -> WebGpu {
    gpu(Options { activations, ..COARSE })
}

/// Runs the case and compares with the reference on the same whole numbers.
fn parity(case: &Case, tol: Tol) {
    parity_with(case, tol, Tuning::new(false, Gemm::Q8).fill);
}

/// The same where so many workgroups fill the GPU, which decides the size of tiles.
fn parity_with(case: &Case, tol: Tol, fill: usize) {
    if !gpu_wanted() {
        return;
    }
    let want = run(&mut Reference::with_coarse_q8(), case).expect("runs on the reference");
    let mut gpu = hardware(Activations::Q8);
    let default = gpu.tuning();
    assert!(gpu.adopt(&default.with(Knob::Fill(fill)).record(default)), "{fill} is a candidate");
    let what = format!("{}, filled by {fill}", case.name);
    let got = run(&mut gpu, case).unwrap_or_else(|e| panic!("{what}: {e}"));
    tol.check(&what, &got, &want, case.cols());
}

fn matmul(p: &mut Parts, dtype: DType, out: usize, cols: usize) -> pagelm::graph::ValueId {
    let x = p.input(cols);
    let w = p.weight(dtype, out, cols);
    p.g.matmul(w, x)
}

#[test]
fn gemm_q8_of_every_packed_type_is_its_dot_products_in_whole_numbers() {
    for dtype in PACKED {
        assert!(quant::splits(dtype), "the reference does the same");
        // Odd numbers of runs, rows that fill no tile, tokens that fill none or several: in tiles of 16, of 32 and of 64.
        let of_16 = [(17, 1, 1, 64), (64, 3, 33, 64), (130, 9, 17, 256)];
        let of_32 = [(21, 5, 129, 1), (75, 1, 1030, 64)];
        let of_64 = [(33, 1, 1, 1), (65, 2, 64, 1), (130, 3, 129, 1)];
        for (tokens, blocks, out, fill) in of_16.into_iter().chain(of_32).chain(of_64) {
            let cols = blocks * dtype.block_elems();
            let case = Case::new(format!("q8 {dtype} [{tokens}, {cols}] to {out}"), &[tokens], |p| {
                matmul(p, dtype, out, cols)
            });
            parity_with(&case, tol::DOT, fill);
        }
    }
}

#[test]
fn the_largest_whole_numbers_do_not_overflow_on_the_gpu() {
    for dtype in PACKED {
        let cols = 2 * dtype.block_elems();
        for sign in [1.0, -1.0] {
            let case = Case::new(format!("q8 extremes {dtype} {sign}"), &[18], |p| {
                let x: Vec<f32> = (0..p.vocab * cols).map(|i| if i % 3 == 0 { -sign } else { sign }).collect();
                let x = p.input_of(&x);
                let w = p.weight_filled(dtype, 32, cols, |row| if row % 2 == 0 { 0xff } else { 0 });
                p.g.matmul(w, x)
            });
            parity(&case, tol::DOT);
        }
    }
}

#[test]
fn rows_of_outliers_zeros_and_tiny_values_are_scaled_each_by_itself() {
    for dtype in [DType::Q4_0, DType::Q6_K] {
        let cols = 2 * dtype.block_elems();
        let case = Case::new(format!("q8 sizes {dtype}"), &[40], |p| {
            let sizes = [1.0, 0.0, 1e6, 1e-42, 3e-30, 65536.0, 1e-6];
            let value = |i: usize, r: f32| if i.is_multiple_of(97) { 900.0 * r } else { r };
            let mut x: Vec<f32> = (0..p.vocab * cols).map(|i| value(i, p.rng.range(-1.0, 1.0))).collect();
            for (t, row) in x.chunks_exact_mut(cols).enumerate() {
                row.iter_mut().for_each(|v| *v *= sizes[t % sizes.len()]);
            }
            let x = p.input_of(&x);
            let w = p.weight(dtype, 35, cols);
            p.g.matmul(w, x)
        });
        parity(&case, tol::DOT);
    }
}

#[test]
fn what_is_not_finite_stays_so_on_the_gpu() {
    if !gpu_wanted() {
        return;
    }
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let case = Case::new(format!("q8 of {bad}"), &[20], |p| {
            let mut x = vec![1.0; p.vocab * 64];
            x.iter_mut().step_by(64).for_each(|v| *v = bad);
            let x = p.input_of(&x);
            let w = p.weight(DType::Q4_0, 4, 64);
            p.g.matmul(w, x)
        });
        let y = run(&mut hardware(Activations::Q8), &case).expect("runs");
        assert!(y.iter().all(|v| !v.is_finite()), "{bad} became {y:?}");
    }
}

/// A norm, three matrices of types with scales of their own kinds, gate and up, and a sum: what passes fuse.
fn layer(steps: &[usize]) -> Case {
    Case::new("q8 layer", steps, |p| {
        let x = p.input(256);
        let norm = p.weight(DType::F32, 1, 256);
        let h = p.g.rms_norm(x, norm, 1e-5);
        let project = |p: &mut Parts, dtype, rows, x| {
            let w = p.weight(dtype, rows, 256);
            p.g.matmul(w, x)
        };
        let (a, b) = (project(p, DType::Q4_K, 96, h), project(p, DType::Q6_K, 160, h));
        let y = p.g.concat(a, b);
        let bias = p.weight(DType::F32, 1, 256);
        let y = project(p, DType::Q8_0, 256, y);
        let y = p.g.add_bias(y, bias);
        let x = p.g.add(x, y);
        let norm = p.weight(DType::F32, 1, 256);
        let h = p.g.rms_norm(x, norm, 1e-5);
        let (gate, up) = (project(p, DType::Q5_K, 256, h), project(p, DType::Q4_0, 256, h));
        let y = p.g.glu(gate, up, Act::Silu);
        let y = project(p, DType::Q2_K, 256, y);
        p.g.add(x, y)
    })
}

/// A step of a whole number is missed where a sum of f32 in another order rounds to its other side: 1/127 of a block's
/// largest value, in few of the terms of a sum.
const MISSED: Tol = Tol { abs: 1e-6, rel: 2e-3 };

#[test]
fn what_passes_fuse_around_a_projection_happens_around_whole_numbers_too() {
    for (tokens, fill) in [(70, 256), (30, 1), (70, 1)] {
        parity_with(&layer(&[tokens]), MISSED, fill);
    }
}

#[test]
fn matrices_in_parts_are_multiplied_in_whole_numbers_too() {
    if !gpu_wanted() {
        return;
    }
    let case = layer(&[70]);
    let want = run(&mut gpu(COARSE), &case).expect("runs whole");
    let parts = Options { max_binding: Some(90_000), ..COARSE };
    let got = run(&mut gpu(parts), &case).expect("runs in parts");
    assert_eq!(got, want, "the same products, added in the same order");
}

/// Experts of two types each, a norm before them, their sum added to what came.
fn experts(types: [DType; 3], (n_expert, n_used): (usize, usize), steps: &[usize]) -> Case {
    Case::new(format!("q8 experts {types:?} {n_used} of {n_expert}"), steps, |p| {
        let x = p.input(256);
        let norm = p.weight(DType::F32, 1, 256);
        let h = p.g.rms_norm(x, norm, 1e-5);
        let logits = p.input(n_expert);
        let route = p.g.moe_route(logits, n_used, true);
        let [gate, up] = [types[0], types[1]].map(|dtype| {
            let w = p.weight(dtype, n_expert * 256, 256);
            p.g.moe_matmul(w, h, route, n_expert)
        });
        let y = p.g.glu(gate, up, Act::Silu);
        let w = p.weight(types[2], n_expert * 256, 256);
        let y = p.g.moe_matmul(w, y, route, n_expert);
        let y = p.g.moe_sum(y, route);
        p.g.add(x, y)
    })
}

#[test]
fn rows_sorted_by_expert_are_multiplied_in_whole_numbers() {
    parity(&experts([DType::Q4_0, DType::Q5_1, DType::Q8_0], (5, 2), &[70]), MISSED);
    parity(&experts([DType::Q4_K, DType::Q4_K, DType::Q6_K], (9, 3), &[50]), MISSED);
    parity(&experts([DType::Q2_K, DType::Q3_K, DType::Q5_K], (3, 1), &[30]), MISSED);
}

#[test]
fn experts_in_parts_are_multiplied_in_whole_numbers_too() {
    if !gpu_wanted() {
        return;
    }
    let case = experts([DType::Q4_0, DType::Q5_1, DType::Q8_0], (5, 2), &[70]);
    let want = run(&mut gpu(COARSE), &case).expect("runs whole");
    let got = run(&mut gpu(Options { max_binding: Some(150_000), ..COARSE }), &case).expect("runs in parts");
    assert_eq!(got, want, "each row is a product of its own");
}

/// What the steps of a case took.
fn dispatches(backend: &mut WebGpu, case: &Case) -> u64 {
    backends::dispatches(backend, case).iter().sum()
}

#[test]
fn only_long_steps_of_packed_types_are_in_whole_numbers_and_only_where_asked() {
    if !gpu_wanted() {
        return;
    }
    let case = |dtype, tokens| Case::new("q8 or not", &[tokens], |p| matmul(p, dtype, 16, 256));
    let [mut exact, mut q8] = [Activations::F32, Activations::Q8].map(hardware);
    let mut more = |dtype, tokens| {
        let case = case(dtype, tokens);
        dispatches(&mut q8, &case) - dispatches(&mut exact, &case)
    };
    assert_eq!(more(DType::Q4_0, 17), 1, "quantize_q8");
    assert_eq!(more(DType::Q4_0, 16), 0, "a step of few tokens");
    assert_eq!(more(DType::F16, 17), 0, "weights that are no whole numbers");
    let mut software = gpu(Options { software: Some(true), activations: Activations::Q8, ..Options::default() });
    let mut plain = gpu(Options { software: Some(true), ..Options::default() });
    let case = case(DType::Q4_0, 17);
    assert_eq!(dispatches(&mut software, &case), dispatches(&mut plain, &case), "software adapters");
}

#[test]
fn rows_of_x_are_quantised_once_for_all_matrices_of_a_projection() {
    if !gpu_wanted() {
        return;
    }
    let case = layer(&[20]);
    let count = |activations, max_binding| {
        let mut b = gpu(Options { activations, max_binding, ..COARSE });
        dispatches(&mut b, &case)
    };
    let projections = 4;
    assert_eq!(count(Activations::Q8, None) - count(Activations::F32, None), projections);
    assert_eq!(count(Activations::Q8, Some(90_000)) - count(Activations::F32, Some(90_000)), projections);
}

/// As with the CPU's: half the step of a whole number, at random in each term and through every layer.
const ROUNDED: f32 = 0.06;

#[test]
fn small_models_keep_their_logits_on_the_gpu() {
    if !gpu_wanted() {
        return;
    }
    let numbers = fixtures::json("golden/quants/models.json");
    for name in ["Q4_0", "Q8_0", "Q3_K", "Q5_K", "Q6_K"] {
        let variant = &numbers["variants"][name];
        let file = fixtures::bytes(&format!("golden/quants/{}", variant["gguf"].as_str().unwrap()));
        let options = engine::Options { n_ctx: Some(64), ..engine::Options::default() };
        let ids: Vec<u32> = (0..40).map(|i| i * 7 % 50 + 3).collect();
        let [exact, q8] = [Activations::F32, Activations::Q8].map(|a| {
            let mut session = open(&file, Box::new(hardware(a)), options).expect(name);
            block_on(session.prefill(&ids)).unwrap().to_vec()
        });
        let allowed = ROUNDED * exact.iter().fold(0f32, |m, v| m.max(v.abs()));
        let diff = max_diff(&q8, &exact);
        assert!(diff <= allowed, "{name}: off by {diff}, more than {allowed}");
        assert!(diff > 0.0, "{name}: nothing was rounded");
    }
}

/// A device as users have it.
fn fine() -> WebGpu {
    gpu(Options { fine_positions: None, ..COARSE })
}

#[test]
fn steps_of_first_positions_are_in_f32_and_later_ones_in_whole_numbers() {
    if !gpu_wanted() {
        return;
    }
    let experts = |steps: &[usize]| experts([DType::Q4_K, DType::Q4_K, DType::Q6_K], (9, 3), steps);
    for case in [layer as fn(&[usize]) -> Case, experts] {
        let exact = run(&mut Reference::new(), &case(&[50, 14])).expect("runs on the reference");
        let first = case(&[50, 14]);
        tol::DOT.check("first positions", &run(&mut fine(), &first).expect("runs"), &exact, first.cols());
        let later = case(&[50]).starting_at(FINE_POSITIONS);
        let want = run(&mut Reference::with_coarse_q8(), &later).expect("runs on the reference");
        MISSED.check("later positions", &run(&mut fine(), &later).expect("runs"), &want, later.cols());
        let [mut plain, mut q8] = [hardware(Activations::F32), fine()];
        assert_eq!(dispatches(&mut q8, &first), dispatches(&mut plain, &first), "nothing was quantised");
        assert!(dispatches(&mut q8, &later) > dispatches(&mut plain, &later), "it was quantised");
    }
}

#[test]
fn a_prompt_is_cut_where_its_first_positions_end() {
    if !gpu_wanted() {
        return;
    }
    let file = fixtures::bytes("golden/quants/qwen3_q4_0.gguf");
    let options = engine::Options { n_ctx: Some(256), ..engine::Options::default() };
    let ids: Vec<u32> = (0..150).map(|i| i * 7 % 50 + 3).collect();
    let run = |backend: Box<dyn Backend>, cuts: &[usize]| {
        let mut session = open(&file, backend, options).expect("it is a model");
        let mut from = 0;
        for &to in cuts {
            block_on(session.prefill_part(&ids[from..to])).unwrap();
            from = to;
        }
        let logits = block_on(session.prefill(&ids[from..])).unwrap().to_vec();
        (logits, session.backend().counters().submits)
    };
    let (exact, _) = run(Box::new(hardware(Activations::F32)), &[]);
    let (whole, submits) = run(Box::new(fine()), &[]);
    let (cut, _) = run(Box::new(fine()), &[FINE_POSITIONS]);
    assert_eq!(whole, cut, "the same as two steps");
    let (coarse, once) = run(Box::new(hardware(Activations::Q8)), &[]);
    assert_eq!(submits, once + 1, "in one more submit");
    // What they read of the first positions is exact, which they themselves are not.
    let off = |logits: &[f32]| max_diff(logits, &exact);
    assert!(0.0 < off(&whole) && off(&whole) < off(&coarse), "{} and {}", off(&whole), off(&coarse));
}

#[test]
fn the_first_question_of_the_readme_is_answered_on_gpus_as_f32_answers_it() {
    let Some(path) = fixtures::model("SmolLM2-135M-Instruct.Q4_1.gguf").filter(|_| gpu_wanted()) else { return };
    let file = std::fs::read(path).unwrap();
    let meta = Gguf::parse(&file).unwrap().meta;
    let tokenizer = Tokenizer::from_gguf(&meta).unwrap();
    let template = ChatTemplate::from_gguf(&meta).unwrap();
    let messages = value(&json!([{ "role": "user", "content": "What is the capital of France?" }]));
    let options = RenderOptions { add_generation_prompt: true, ..Default::default() };
    let ids = chat_prompt(&template, &tokenizer, &messages, options).unwrap();
    let options = engine::Options { n_ctx: Some(64), ..engine::Options::default() };
    let mut session = open(&file, Box::new(fine()), options).unwrap();
    let mut answer = vec![argmax(block_on(session.prefill(&ids)).unwrap())];
    while answer.len() < 7 {
        answer.push(argmax(block_on(session.decode(answer[answer.len() - 1])).unwrap()));
    }
    assert_eq!(tokenizer.decode(&answer, false), b"The capital of France is Paris.");
}

#[test]
fn narrow_steps_need_no_room_for_whole_numbers() {
    if !gpu_wanted() {
        return;
    }
    let case = Case::new("q8 room", &[20], |p| matmul(p, DType::Q4_0, 16, 4096));
    let scratch = |max_tokens| {
        let mut b = hardware(Activations::Q8);
        let one = Limits::one(case.limits.n_ctx, max_tokens, case.limits.kv);
        let limits = Limits { max_outputs: 1, ..one };
        b.prepare(case.plan.clone(), limits).expect("prepares");
        b.memory().scratch
    };
    let of_row = 4096 / 32 * 48;
    assert!(scratch(17) - scratch(16) > 17 * of_row && scratch(16) < 17 * (4096 + 16) * 4 + 4096, "{}", scratch(16));
}
