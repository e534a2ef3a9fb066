//! Gated delta nets: a state of fixed size that every step rewrites.

use pagelm::DType;
use pagelm::backend::reference::Reference;
use pagelm::backend::webgpu::Options;
use pagelm::backend::{Backend, Segment, Step};
use pagelm::graph::{Delta, Op};

use super::{sizes, wide};
use crate::common::backends::{self, parity};
use crate::common::cases::{Case, Parts};
use crate::common::tol::{self, Tol};

#[test]
fn sigmoid_gate_takes_a_gate_for_each_value_or_one_for_a_row() {
    for (rows, cols) in sizes() {
        for gates in [1, cols] {
            let case = Case::new(format!("sigmoid_gate [{rows}, {cols}] by {gates}"), &[rows], |p| {
                let x = p.input(cols);
                let gate = wide(p, gates);
                let gate = p.input_of(&gate);
                p.g.sigmoid_gate(x, gate)
            });
            parity(&case, tol::CURVE);
        }
    }
}

#[test]
fn slice_takes_the_same_columns_of_each_group() {
    for (groups, group, start, len) in
        [(1, 1, 0, 1), (1, 33, 0, 33), (5, 31, 7, 3), (3, 64, 32, 32), (2, 576, 4, 8), (9, 128, 0, 64), (4, 12, 2, 4)]
    {
        let case = Case::new(format!("slice {start} + {len} of {groups} x {group}"), &[17, 1], |p| {
            let x = p.input(groups * group);
            p.g.slice(x, group, start, len)
        });
        parity(&case, tol::COPY);
    }
}

#[test]
fn l2_norm_gives_heads_of_the_wanted_length() {
    for (heads, d_head) in [(1, 1), (3, 31), (16, 32), (5, 33), (4, 128), (2, 1757)] {
        let case = Case::new(format!("l2_norm {heads} x {d_head}"), &[17, 1], |p| {
            let x = p.input(heads * d_head);
            p.g.l2_norm(x, d_head, 1e-6, 0.125)
        });
        parity(&case, tol::ELEMENT.times(3.0));
    }
    let zeros = Case::new("l2_norm of zeros", &[3], |p| {
        let x = p.input_of(&vec![0.0; p.vocab * 32]);
        p.g.l2_norm(x, 32, 1e-6, 1.0)
    });
    parity(&zeros, tol::COPY);
}

fn conv_case(cols: usize, taps: usize, dtype: DType, steps: &[usize]) -> Case {
    Case::new(format!("ssm_conv {dtype} [{cols}] of {taps} in steps {steps:?}"), steps, |p| {
        let x = p.input(cols);
        let w = p.weight(dtype, cols, taps);
        let state = p.g.recurrent_state("conv", taps - 1, cols);
        p.g.ssm_conv(x, w, state)
    })
}

#[test]
fn ssm_conv_remembers_the_inputs_of_the_steps_before() {
    for (cols, taps) in [(1, 2), (31, 3), (33, 4), (96, 4), (1757, 4), (64, 7)] {
        for steps in [&[1, 1, 1, 1, 1][..], &[17, 1, 1], &[2, 1, 33, 1], &[65]] {
            parity(&conv_case(cols, taps, DType::F32, steps), tol::CURVE.times(3.0));
        }
    }
    for dtype in [DType::F16, DType::BF16] {
        parity(&conv_case(33, 3, dtype, &[5, 1]), tol::CURVE.times(3.0));
    }
}

/// Keys and queries of length one, as in a model: without that the state grows without bound.
fn rule(p: &mut Parts, delta: Delta) -> pagelm::graph::ValueId {
    let Delta { n_k_head, n_v_head, d_head } = delta;
    let (q, k) = (p.input(n_k_head * d_head), p.input(n_k_head * d_head));
    let (q, k) = (p.g.l2_norm(q, d_head, 1e-6, 0.25), p.g.l2_norm(k, d_head, 1e-6, 1.0));
    let (v, alpha, beta) = (p.input(n_v_head * d_head), p.input(n_v_head), p.input(n_v_head));
    let a: Vec<f32> = (0..n_v_head).map(|_| p.rng.range(-2.0, -0.01)).collect();
    let dt = p.rng.values(n_v_head);
    let (a, dt) = (p.weight_f32(1, &a), p.weight_f32(1, &dt));
    let state = p.g.recurrent_state("delta", n_v_head * d_head, d_head);
    p.g.op(Op::DeltaRule { q, k, v, alpha, beta, a, dt, state, delta, norm: None })
}

fn rule_case(delta: Delta, steps: &[usize]) -> Case {
    Case::new(format!("{delta:?} in steps {steps:?}"), steps, |p| rule(p, delta))
}

#[test]
fn delta_rule_carries_its_state_from_step_to_step() {
    for d_head in [1, 6, 16, 31, 32, 128] {
        for (n_k_head, group) in [(1, 1), (2, 1), (3, 2), (2, 4)] {
            let delta = Delta { n_k_head, n_v_head: n_k_head * group, d_head };
            for steps in [&[1, 1, 1][..], &[17, 1, 1], &[2, 5, 1, 30]] {
                parity(&rule_case(delta, steps), tol::RECURRENT);
            }
        }
    }
}

/// Steps of many tokens, for which there are kernels that go through them in chunks of 32: prompts that end at a chunk,
/// before it or after it, and few tokens between.
const CUTS: [&[usize]; 2] = [&[100, 31, 1, 32, 33], &[17, 3, 65, 64, 1]];

#[test]
fn delta_rule_in_chunks_carries_the_state_that_single_tokens_do() {
    for (i, d_head) in [1, 6, 31, 64, 128].into_iter().enumerate() {
        let delta = Delta { n_k_head: 1 + i % 2, n_v_head: 2, d_head };
        CUTS.iter().for_each(|steps| parity(&rule_case(delta, steps), tol::RECURRENT));
    }
    // Wide heads, of which a workgroup keeps fewer columns, or too wide to keep any.
    for d_head in [256, 260, 516] {
        parity(&rule_case(Delta { n_k_head: 1, n_v_head: 1, d_head }, &[33, 1, 31]), tol::RECURRENT);
    }
}

#[test]
fn the_delta_rule_runs_by_chunks_in_long_steps_on_hardware_adapters() {
    if !backends::gpu_wanted() {
        return;
    }
    let count = |d_head, software: bool| {
        let case = rule_case(Delta { n_k_head: 1, n_v_head: 1, d_head }, &[1, 16, 17]);
        let mut b = backends::gpu(Options { software: Some(software), ..Options::default() });
        let counts = backends::dispatches(&mut b, &case);
        counts.iter().map(|n| n - counts[0]).collect::<Vec<_>>()
    };
    // What all columns share is a kernel of its own.
    assert_eq!(count(32, false), [0, 0, 1]);
    assert_eq!(count(516, false), [0; 3]);
    assert_eq!(count(32, true), [0; 3]);
}

#[test]
fn cuts_of_a_prompt_change_neither_the_results_of_the_delta_rule_nor_its_state() {
    let delta = Delta { n_k_head: 2, n_v_head: 4, d_head: 32 };
    let case = rule_case(delta, &[99]);
    let want = backends::run(&mut Reference::new(), &case).expect("runs");
    for cut in [1, 16, 17, 31, 32, 33, 64, 98] {
        let case = rule_case(delta, &[99]).cut(&[cut, 99 - cut]);
        for c in backends::all() {
            let got = backends::run(&mut *(c.make)(), &case).expect("runs");
            tol::RECURRENT.times(c.slack).check(&format!("cut at {cut} on {}", c.name), &got, &want, case.cols());
        }
    }
}

/// The rule with given alphas (before softplus) and betas (before the sigmoid), and keys that repeat.
fn extreme(what: &str, alphas: &[f32], betas: &[f32], outlier: f32) -> Case {
    let delta = Delta { n_k_head: 1, n_v_head: 2, d_head: 32 };
    let Delta { n_k_head, n_v_head, d_head } = delta;
    Case::new(format!("delta_rule with {what}"), &[70, 1, 30], |p| {
        let of = |p: &mut Parts, values: &[f32]| {
            let table: Vec<f32> = (0..p.vocab * n_v_head).map(|_| values[p.rng.below(values.len())]).collect();
            p.input_of(&table)
        };
        let (alpha, beta) = (of(p, alphas), of(p, betas));
        let signs: Vec<f32> = (0..p.vocab * d_head).map(|i| if i / d_head % 3 == 0 { -1.0 } else { 1.0 }).collect();
        let (q, k) = (p.input(n_k_head * d_head), p.input_of(&signs));
        let (q, k) = (p.g.l2_norm(q, d_head, 1e-6, 1.0), p.g.l2_norm(k, d_head, 1e-6, 1.0));
        let values: Vec<f32> = (0..p.vocab * n_v_head * d_head)
            .map(|_| p.rng.range(-1.0, 1.0) * if p.rng.below(50) == 0 { outlier } else { 1.0 })
            .collect();
        let v = p.input_of(&values);
        let (a, dt) = (p.weight_f32(1, &[-1.0, -1.0]), p.weight_f32(1, &[0.0, 0.0]));
        let state = p.g.recurrent_state("delta", n_v_head * d_head, d_head);
        p.g.op(Op::DeltaRule { q, k, v, alpha, beta, a, dt, state, delta, norm: None })
    })
}

#[test]
fn delta_rule_in_chunks_survives_every_decay_and_every_share_of_a_change() {
    let all = [-200.0, -20.0, -3.0, 0.0, 3.0, 20.0, 200.0];
    parity(&extreme("every decay and share", &all, &all, 1.0), tol::RECURRENT);
    parity(&extreme("states that are kept", &[-30.0, -10.0], &[30.0, 0.0], 1.0), tol::RECURRENT);
    parity(&extreme("states that are forgotten now and then", &[90.0, -9.0, -9.0], &[2.0, -2.0], 1.0), tol::RECURRENT);
    parity(&extreme("no change at all", &[-3.0], &[-200.0], 1.0), tol::RECURRENT);
    parity(&extreme("outliers", &[-5.0, 0.0], &[1.0, -1.0], 1e4), tol::RECURRENT);
}

#[test]
fn delta_rule_survives_gates_that_overflow_an_exponential() {
    let delta = Delta { n_k_head: 2, n_v_head: 4, d_head: 32 };
    let Delta { n_k_head, n_v_head, d_head } = delta;
    let case = Case::new("delta_rule with huge gates", &[17, 1], |p| {
        let qk = p.input(n_k_head * d_head);
        let qk = p.g.l2_norm(qk, d_head, 1e-6, 1.0);
        let (v, alpha, beta) = (p.input(n_v_head * d_head), wide(p, n_v_head), wide(p, n_v_head));
        let (alpha, beta) = (p.input_of(&alpha), p.input_of(&beta));
        let (a, dt) = (p.weight_f32(1, &[-0.5, -1e-3, -4.0, 0.0]), p.weight_f32(1, &[0.0, -90.0, 1.0, 3.0]));
        let state = p.g.recurrent_state("delta", n_v_head * d_head, d_head);
        p.g.op(Op::DeltaRule { q: qk, k: qk, v, alpha, beta, a, dt, state, delta, norm: None })
    });
    parity(&case, tol::RECURRENT);
}

/// Runs a sequence, another one from position 0, and its next token.
fn twice(b: &mut dyn Backend, case: &Case) -> Vec<f32> {
    backends::load(b, case).expect("loads");
    let mut rows = Vec::new();
    for (range, pos) in [(0..9, 0), (9..10, 9), (10..13, 0), (13..14, 3), (3..4, 0), (4..9, 1)] {
        let s = Step { segments: &[Segment::alone(&case.tokens[range.clone()], pos, range.len())], ..Step::trunk(&[]) };
        rows.extend(backends::step(b, &s, case.cols()).expect("runs"));
    }
    rows
}

#[test]
fn a_sequence_that_starts_again_forgets_the_one_before() {
    let delta = Delta { n_k_head: 2, n_v_head: 4, d_head: 16 };
    let cases: [(Case, Tol); 2] =
        [(conv_case(33, 4, DType::F32, &[14]), tol::CURVE.times(3.0)), (rule_case(delta, &[14]), tol::RECURRENT)];
    for (case, tol) in cases {
        let want = twice(&mut Reference::new(), &case);
        for c in backends::all() {
            let got = twice(&mut *(c.make)(), &case);
            tol.times(c.slack).check(&format!("{} on {}", case.name, c.name), &got, &want, case.cols());
        }
    }
}
