//! The CPU backend with activations of 8 bits: packed matrices and dot products of bytes, at every level of instructions.

use pagelm::DType;
use pagelm::backend::cpu::Cpu;
use pagelm::backend::reference::Reference;
use pagelm::backend::{Activations, FINE_POSITIONS};
use pagelm::engine::Options;
use pagelm::graph::{Delta, Op};
use pagelm::quant;
use pollster::block_on;

use crate::common::backends::run;
use crate::common::cases::Case;
use crate::common::fixtures;
use crate::common::golden::{argmax, max_diff, open};
use crate::common::tol::{self, Tol};

/// Runs the case at every level, and on several threads, and compares with the reference on the same whole numbers.
fn parity(case: &Case, tol: Tol) {
    let want = run(&mut Reference::with_activations(Activations::Q8), case).expect("runs on the reference");
    for (threads, level) in [(1, 0), (1, 1), (1, 2), (1, 3), (3, 2)] {
        let mut cpu = Cpu::with_level(threads, level).activations(Activations::Q8);
        let what = format!("{} at level {level} on {threads} threads", case.name);
        let got = run(&mut cpu, case).unwrap_or_else(|e| panic!("{what}: {e}"));
        tol.check(&what, &got, &want, case.cols());
    }
}

/// The types whose matrices meet whole numbers.
fn packed() -> impl Iterator<Item = DType> {
    DType::ALL.iter().copied().filter(|&d| quant::splits(d))
}

#[test]
fn matmul_of_every_packed_type_is_its_dot_products_in_whole_numbers() {
    for dtype in packed() {
        let block = dtype.block_elems();
        // Rows that fill no panel, tokens for every number of them that kernels take at a time, with one term and, in the
        // first positions, with two.
        let sizes =
            [(1, 1, 1), (1, 3, 33), (4, 1, 16), (5, 2, 17), (13, 1, 31), (21, 5, 49), (FINE_POSITIONS + 13, 2, 33)];
        for (tokens, blocks, out) in sizes {
            let cols = blocks * block;
            for more in [0, 19] {
                let name = format!("q8 matmul {dtype} [{tokens}, {cols}] to {out} of {}", out + more);
                let case = Case::new(name, &[tokens], |p| {
                    let x = p.input(cols);
                    let w = p.weight(dtype, out + more, cols);
                    p.g.matmul_rows(w, x, out)
                });
                parity(&case, tol::DOT);
            }
        }
    }
}

#[test]
fn the_largest_whole_numbers_do_not_overflow() {
    for dtype in packed() {
        let cols = 2 * dtype.block_elems();
        for sign in [1.0, -1.0] {
            // All activations are 127 or -127, and the weights' bytes are all ones or all zeros.
            let case = Case::new(format!("q8 extremes {dtype} {sign}"), &[5], |p| {
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
fn experts_whose_rows_fill_no_panel_are_kept_apart() {
    for dtype in [DType::Q4_0, DType::Q6_K] {
        let (cols, n_expert, n_used, rows) = (dtype.block_elems(), 5, 2, 19);
        // Some experts get as many rows as kernels take at a time, and some more.
        let case = Case::new(format!("q8 moe {dtype}"), &[45, 30, 7, 1], |p| {
            let x = p.input(cols);
            let router = p.weight(DType::F32, n_expert, cols);
            let logits = p.g.matmul(router, x);
            let route = p.g.moe_route(logits, n_used, true);
            let w = p.weight(dtype, n_expert * rows, cols);
            let y = p.g.moe_matmul(w, x, route, n_expert);
            p.g.moe_sum(y, route)
        });
        parity(&case, tol::DOT);
    }
}

#[test]
fn a_matrix_that_is_also_the_embedding_gives_the_same_rows_packed() {
    for dtype in packed() {
        let cols = 2 * dtype.block_elems();
        let case = Case::new(format!("q8 tied {dtype}"), &[9], |p| {
            let w = p.weight(dtype, p.vocab, cols);
            let x = p.g.embed(w, 1.5);
            p.g.matmul(w, x)
        });
        parity(&case, tol::DOT);
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let case = Case::new(format!("q8 of {bad}"), &[3], |p| {
            let mut x = vec![1.0; p.vocab * 64];
            x.iter_mut().step_by(64).for_each(|v| *v = bad);
            let x = p.input_of(&x);
            let w = p.weight(DType::Q4_0, 4, 64);
            p.g.matmul(w, x)
        });
        let mut cpu = Cpu::new(1).activations(Activations::Q8);
        let y = run(&mut cpu, &case).expect("runs");
        assert!(y.iter().all(|v| !v.is_finite()), "{bad} became {y:?}");
    }
}

#[test]
fn tiny_and_zero_activations_are_zero_and_not_noise() {
    for size in [0.0, 1e-42] {
        let case = Case::new(format!("q8 of {size}"), &[1], |p| {
            let x = p.input_of(&vec![size; p.vocab * 32]);
            let w = p.weight(DType::Q8_0, 4, 32);
            p.g.matmul(w, x)
        });
        let mut cpu = Cpu::new(1).activations(Activations::Q8);
        let y = run(&mut cpu, &case).expect("runs");
        assert!(y.iter().all(|v| v.abs() < 1e-30), "{y:?}");
    }
}

#[test]
fn a_prompt_gives_the_same_bits_wherever_it_is_cut_and_on_any_threads() {
    let case = |steps: &[usize]| {
        // The name seeds the numbers.
        Case::new("q8 cuts", &[80], |p| {
            let x = p.input(256);
            let [a, b] = [DType::Q4_K, DType::Q8_0].map(|d| p.weight(d, 256, 256));
            let x = p.g.matmul(a, x);
            p.g.matmul(b, x)
        })
        .cut(steps)
    };
    let bits = |threads, steps: &[usize]| {
        let mut cpu = Cpu::new(threads).activations(Activations::Q8);
        run(&mut cpu, &case(steps)).expect("runs")
    };
    let want = bits(1, &[80]);
    for (threads, steps) in [(2, &[80][..]), (3, &[65, 15]), (1, &[1; 80]), (2, &[3, 60, 17])] {
        assert_eq!(want, bits(threads, steps), "{threads} threads, cut {steps:?}");
    }
}

#[test]
fn experts_and_delta_nets_give_the_same_bits_wherever_a_prompt_is_cut_and_on_any_threads() {
    let (n_expert, n_used, delta) = (6, 3, Delta { n_k_head: 2, n_v_head: 4, d_head: 40 });
    let case = |steps: &[usize]| {
        Case::new("q8 cuts of experts and delta nets", &[75], |p| {
            let (x, logits) = (p.input(256), p.input(n_expert));
            let route = p.g.moe_route(logits, n_used, true);
            let up = p.weight(DType::Q4_K, n_expert * 256, 256);
            let down = p.weight(DType::Q6_K, n_expert * 96, 256);
            let y = p.g.moe_matmul(up, x, route, n_expert);
            let y = p.g.moe_matmul(down, y, route, n_expert);
            let x = p.g.moe_sum(y, route);
            let taps = p.weight(DType::F32, 96, 4);
            let conv = p.g.recurrent_state("conv", 3, 96);
            let x = p.g.ssm_conv(x, taps, conv);
            let mut of = |rows| {
                let w = p.weight(DType::Q8_0, rows, 96);
                p.g.matmul(w, x)
            };
            let [q, k, v, alpha, beta] = [80, 80, 160, 4, 4].map(&mut of);
            let (q, k) = (p.g.l2_norm(q, 40, 1e-6, 0.2), p.g.l2_norm(k, 40, 1e-6, 1.0));
            let (a, dt) = (p.weight_f32(1, &[-0.1, -0.5, -1.0, -2.0]), p.weight_f32(1, &[0.5, 0.0, -0.5, 1.0]));
            let state = p.g.recurrent_state("delta", 160, 40);
            p.g.op(Op::DeltaRule { q, k, v, alpha, beta, a, dt, state, delta, norm: None })
        })
        .cut(steps)
    };
    let bits = |threads, steps: &[usize]| {
        let mut cpu = Cpu::new(threads).activations(Activations::Q8);
        run(&mut cpu, &case(steps)).expect("runs")
    };
    let want = bits(1, &[75]);
    assert!(want.iter().any(|v| *v != 0.0), "the rule gives nothing");
    for (threads, steps) in [(2, &[75][..]), (3, &[5, 70]), (1, &[1; 75]), (2, &[64, 2, 9])] {
        assert_eq!(want, bits(threads, steps), "{threads} threads, cut {steps:?}");
    }
}

/// With two terms, half the step of a whole number is an error of 1/64,516 of a block's largest activation, at random in each
/// of the hundred-odd terms of a sum and through every layer. With one it was measured as up to 4 % of the largest logit in
/// these models, so 1/254 of that.
const ROUNDED: f32 = 0.04 / 254.0 + 1e-4;

#[test]
fn small_models_keep_their_logits_and_their_clear_tokens() {
    let numbers = fixtures::json("golden/quants/models.json");
    let list = |v: &serde_json::Value| -> Vec<f32> {
        v.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    };
    let mut clear = 0;
    for (name, variant) in numbers["variants"].as_object().unwrap() {
        let file = fixtures::bytes(&format!("golden/quants/{}", variant["gguf"].as_str().unwrap()));
        let cpu = Cpu::new(2).activations(Activations::Q8);
        let mut session = open(&file, Box::new(cpu), Options { n_ctx: Some(32), ..Options::default() }).expect(name);
        for (ids, want) in numbers["prompts"].as_array().unwrap().iter().zip(variant["outputs"].as_array().unwrap()) {
            let ids: Vec<u32> = ids.as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect();
            let want = list(&want["logits_last"]["data"]);
            session.rollback(0).unwrap();
            let got = block_on(session.prefill(&ids)).unwrap();
            let allowed = ROUNDED * want.iter().fold(0f32, |m, v| m.max(v.abs()));
            let diff = max_diff(got, &want);
            assert!(diff <= allowed, "{name}: off by {diff}, more than {allowed}");
            let best = argmax(&want);
            let second =
                want.iter().enumerate().filter(|&(i, _)| i as u32 != best).map(|(_, &v)| v).fold(f32::MIN, f32::max);
            if want[best as usize] - second > 2.0 * allowed {
                assert_eq!(argmax(got), best, "{name}");
                clear += 1;
            }
        }
    }
    assert!(clear >= 10, "only {clear} tokens were clear");
}
