//! Mixtures of experts.

use pagelm::DType;
use pagelm::backend::webgpu::{Options, WebGpu};
use pagelm::graph::ValueId;

use super::{blocks, dtypes};
use crate::common::backends::{self, gpu, gpu_wanted, parity};
use crate::common::cases::{Case, Parts};
use crate::common::tol;

const N_USED: [usize; 5] = [1, 2, 3, 5, 8];

#[test]
fn moe_route_gives_the_best_experts_and_their_shares() {
    for n_used in N_USED {
        for n_expert in [8, 9, 60, 128, 257] {
            // Apart, because the size of an expert's number would hide the digits of its share.
            let parts = [
                ("numbers", 0, true, tol::COPY),
                ("shares among them", n_used, true, tol::CURVE),
                ("shares among all", n_used, false, tol::CURVE),
            ];
            for (what, start, renormalise, tol) in parts {
                let case = Case::new(format!("moe_route {what} of {n_used} of {n_expert}"), &[17, 1], |p| {
                    let x = p.input(n_expert);
                    let route = p.g.moe_route(x, n_used, renormalise);
                    p.g.slice(route, 2 * n_used, start, n_used)
                });
                parity(&case, tol);
            }
        }
    }
}

#[test]
fn moe_route_prefers_the_lower_number_among_equals_and_survives_huge_logits() {
    for (n_expert, values) in [(70, &[0.0, 1.0][..]), (8, &[-3.0]), (33, &[1e30, -1e30, 2.0]), (5, &[-1e-40, 1e-40])] {
        for renormalise in [true, false] {
            let case = Case::new(format!("moe_route of {values:?}, renormalised: {renormalise}"), &[33], |p| {
                let table: Vec<f32> = (0..p.vocab * n_expert).map(|_| values[p.rng.below(values.len())]).collect();
                let x = p.input_of(&table);
                p.g.moe_route(x, 4, renormalise)
            });
            parity(&case, tol::CURVE);
        }
    }
}

/// A router over `n_expert` experts, and a matmul with them: of one x for all, or of one for each expert.
fn matmul_case(dtype: DType, n_expert: usize, n_used: usize, (cols, rows): (usize, usize), own_x: bool) -> Case {
    steps_case(dtype, n_expert, n_used, (cols, rows), own_x, &[3, 1], |p| p.input(n_expert))
}

/// The same with given steps and logits of the router.
fn steps_case(
    dtype: DType,
    n_expert: usize,
    n_used: usize,
    (cols, rows): (usize, usize),
    own_x: bool,
    steps: &[usize],
    logits: impl FnOnce(&mut Parts) -> ValueId,
) -> Case {
    let name = format!("moe_matmul {dtype} {n_used} of {n_expert} [{cols}] to {rows}, own x: {own_x}, {steps:?}");
    Case::new(name, steps, |p: &mut Parts| {
        let logits = logits(p);
        let route = p.g.moe_route(logits, n_used, true);
        let x = p.input(if own_x { n_used * cols } else { cols });
        let w = p.weight(dtype, n_expert * rows, cols);
        p.g.moe_matmul(w, x, route, n_expert)
    })
}

#[test]
fn moe_matmul_multiplies_by_the_matrices_of_the_chosen_experts_in_every_type() {
    for dtype in dtypes() {
        for own_x in [false, true] {
            parity(&matmul_case(dtype, 4, 2, (blocks(dtype, 160), 33), own_x), tol::DOT);
        }
    }
}

#[test]
fn moe_matmul_takes_any_number_of_experts_rows_and_columns() {
    for n_used in N_USED {
        for (cols, rows) in [(33, 7), (1, 65), (576, 1), (64, 96)] {
            parity(&matmul_case(DType::F32, 9, n_used, (cols, rows), n_used % 2 == 0), tol::DOT);
        }
    }
}

/// Steps of many tokens, whose rows are sorted by expert: for tiles of 32 rows, for tiles of 16, and single tokens.
const MANY: &[usize] = &[80, 30, 1];

#[test]
fn rows_sorted_by_expert_give_what_they_give_token_by_token() {
    use DType::{BF16, F16, IQ1_S, IQ2_XXS, MXFP4, Q4_0, Q4_K, Q6_K, Q8_0};
    for (i, dtype) in [Q4_0, Q8_0, Q4_K, Q6_K, MXFP4, F16, BF16, IQ2_XXS, IQ1_S].into_iter().enumerate() {
        let case = steps_case(dtype, 5, 2, (blocks(dtype, 160), 33 + i * 31), i % 2 == 0, MANY, |p| p.input(5));
        parity(&case, tol::DOT);
    }
    for n_used in 1..=8 {
        let case = steps_case(DType::F32, 9, n_used, (64, 7 + n_used * 30), n_used % 2 == 0, MANY, |p| p.input(9));
        parity(&case, tol::DOT);
    }
}

#[test]
fn experts_that_all_tokens_take_or_none_are_multiplied_all_the_same() {
    // The router prefers some experts always: one alone takes every row, and the others have no tile.
    for (n_expert, n_used, best) in [(6, 1, 0), (6, 1, 5), (6, 3, 2), (100, 4, 95)] {
        let logits = |p: &mut Parts| {
            let one = |e: usize| if e >= best && e < best + n_used { 9.0 } else { -9.0 };
            let table: Vec<f32> = (0..p.vocab * n_expert).map(|i| one(i % n_expert)).collect();
            p.input_of(&table)
        };
        // Enough rows for each of 100 experts on average.
        let steps: &[usize] = if n_expert == 100 { &[420, 220, 1] } else { MANY };
        parity(&steps_case(DType::Q5_0, n_expert, n_used, (32, 9), false, steps, logits), tol::DOT);
    }
}

#[test]
fn rows_are_sorted_by_expert_in_long_steps_on_hardware_adapters() {
    if !gpu_wanted() {
        return;
    }
    // Eight rows for each of 5 experts on average, where a token takes 2, are 20 tokens.
    let case = steps_case(DType::Q4_0, 5, 2, (64, 33), false, &[1, 19, 20, 40], |p| p.input(5));
    let count = |software| {
        let mut b = gpu(Options { software: Some(software), ..Options::default() });
        backends::dispatches(&mut b, &case)
    };
    // Two inputs, the router, the product, the last rows; and the sorting.
    assert_eq!(count(false), [5, 5, 6, 6]);
    assert_eq!(count(true), [5; 4]);
}

#[test]
fn a_route_that_no_router_made_is_followed_too() {
    // As where an op is run alone with the values that it reads.
    let case = Case::new("moe_matmul of a given route", &[40, 1], |p| {
        let (n_expert, rows) = (3, 33);
        let table: Vec<f32> = (0..p.vocab).flat_map(|i| [(i % 3) as f32, ((i + 1) % 3) as f32, 0.75, 0.25]).collect();
        let (x, route) = (p.input(64), p.input_of(&table));
        let w = p.weight(DType::Q4_0, n_expert * rows, 64);
        p.g.moe_matmul(w, x, route, n_expert)
    });
    parity(&case, tol::DOT);
}

#[test]
fn experts_that_are_split_between_buffers_give_the_same_result() {
    if !gpu_wanted() {
        return;
    }
    for software in [true, false] {
        for (dtype, cols, rows, limit) in
            [(DType::Q8_0, 96, 37, 9000), (DType::F16, 50, 37, 9000), (DType::IQ2_XXS, 256, 70, 20_500)]
        {
            let case = steps_case(dtype, 7, 3, (cols, rows), false, &[20, 3], |p| p.input(7));
            let options = Options { software: Some(software), ..Options::default() };
            let run = |mut b: WebGpu| backends::run(&mut b, &case).expect("runs");
            let want = run(gpu(options));
            // Some experts begin in the midst of a part.
            let got = run(gpu(Options { max_binding: Some(limit), ..options }));
            assert_eq!(got, want, "{}", case.name);
        }
    }
}

#[test]
fn moe_sum_adds_the_experts_by_their_shares() {
    for n_used in N_USED {
        for cols in [1, 31, 96, 1757] {
            let case = Case::new(format!("moe_sum {n_used} [{cols}]"), &[17, 1], |p| {
                let logits = p.input(8);
                let route = p.g.moe_route(logits, n_used, true);
                let x = p.input(n_used * cols);
                p.g.moe_sum(x, route)
            });
            parity(&case, tol::CURVE);
        }
    }
}
