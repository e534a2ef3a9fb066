//! Attention of many tokens at once.

use pagelm::backend::webgpu::Options;
use pagelm::graph::Attention;

use super::{PLAIN, attention_case};
use crate::common::backends::{gpu, gpu_wanted, parity, run};
use crate::common::tol;

/// Heads, key heads, and sizes that take four, two or one row a thread, with and without whole chunks of vectors.
const HEADS: [(usize, usize, usize); 7] =
    [(2, 2, 6), (8, 1, 64), (6, 2, 80), (3, 1, 96), (4, 4, 128), (4, 2, 256), (2, 1, 512)];

#[test]
fn attention_of_many_tokens_sees_the_past_and_not_what_comes() {
    for (n_head, n_kv_head, d_head) in HEADS {
        // Scores of the same size whatever the head.
        let attn = Attention { n_head, n_kv_head, d_head, scale: 1.6 / d_head as f32, ..PLAIN };
        parity(&attention_case(&[13, 33, 1, 70], attn), tol::ATTENTION);
    }
    let attn = Attention { n_head: 9, n_kv_head: 3, d_head: 64, scale: 0.125, ..PLAIN };
    parity(&attention_case(&[260, 13], attn), tol::ATTENTION);
}

#[test]
fn attention_of_many_tokens_skips_what_lies_before_its_window() {
    // Windows within a tile of keys, across some, and longer than the past of the first steps.
    for (window, softcap) in [(1, None), (9, Some(5.0)), (32, None), (61, None), (100, Some(5.0))] {
        let attn = Attention { n_head: 6, n_kv_head: 2, d_head: 72, window: Some(window), softcap, ..PLAIN };
        parity(&attention_case(&[33, 40, 1, 75], attn), tol::ATTENTION);
    }
}

#[test]
fn attention_of_many_tokens_survives_scores_that_overflow_an_exponential() {
    let attn = Attention { n_head: 3, n_kv_head: 1, scale: 40.0, ..PLAIN };
    // Scores of tens of thousands: their own rounding is what the weights of near ties show.
    parity(&attention_case(&[45, 20], attn), tol::ATTENTION.times(500.0));
}

#[test]
fn a_token_attends_alike_in_a_short_step_and_in_a_long_one() {
    if !gpu_wanted() {
        return;
    }
    let attn = Attention { n_head: 6, n_kv_head: 3, d_head: 64, window: Some(40), ..PLAIN };
    for software in [true, false] {
        let mut b = gpu(Options { software: Some(software), ..Options::default() });
        let want = run(&mut b, &attention_case(&[90], attn)).expect("runs at once");
        for steps in [&[8, 9, 1, 72][..], &[1; 90], &[31, 59]] {
            let got = run(&mut b, &attention_case(&[90], attn).cut(steps)).expect("runs in pieces");
            tol::ATTENTION.check(&format!("steps {steps:?}"), &got, &want, 6 * 64);
        }
    }
}
