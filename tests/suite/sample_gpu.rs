//! Tokens chosen on the GPU are those that the CPU sampler chooses.

mod rows;

use std::future::poll_fn;

use pagelm::backend::webgpu::{Options, WebGpu};
use pagelm::backend::{Backend, Logprobs, SampleRequest, SamplingRules, Segment, Step};
use pagelm::engine::{Sampler, SamplerParams};
use pagelm::{ErrorKind, Result};
use pollster::block_on;

use crate::common::backends::{gpu, gpu_wanted, load};
use crate::common::cases::Case;
use crate::common::rng::Rng;

/// A model whose logits after token i are row i of a table.
fn table(name: &str, steps: &[usize], cols: usize, rows: &[Vec<f32>]) -> Case {
    let case = Case::new(name, steps, |p| {
        assert_eq!(rows.len(), p.vocab);
        p.input_of(&rows.concat())
    });
    assert_eq!(case.cols(), cols);
    case
}

/// About normal.
fn bell(rng: &mut Rng, size: f32) -> f32 {
    (0..6).map(|_| rng.range(-1.0, 1.0)).sum::<f32>() * size
}

fn on_all(case: &Case, check: impl Fn(&str, &mut WebGpu)) {
    if !gpu_wanted() {
        return;
    }
    for software in [true, false] {
        let mut backend = gpu(Options { software: Some(software), ..Options::default() });
        load(&mut backend, case).expect("loads");
        check(&format!("{}, software kernels: {software}", case.name), &mut backend);
    }
}

fn read(b: &mut WebGpu) -> Result<u32> {
    block_on(poll_fn(|cx| b.poll_token(cx)))
}

/// What the GPU says of its last token is what the CPU says of it.
fn likely_alike(what: &str, b: &WebGpu, cpu: &Sampler) {
    let (got, want) = (b.logprobs().expect("it says"), cpu.logprobs().expect("so does this"));
    let ids = |l: &Logprobs| l.top.iter().map(|t| t.0).collect::<Vec<_>>();
    assert_eq!(ids(got), ids(want), "{what}");
    let all = |l: &Logprobs| l.top.iter().map(|t| t.1).chain([l.logprob]).collect::<Vec<_>>();
    for (got, want) in all(got).into_iter().zip(all(want)) {
        // The sum of all exponentials is one of f32s.
        assert!((got - want).abs() <= 1e-4 * want.abs().max(1.0), "{what}: {got}, not {want}");
    }
}

/// Lets the GPU choose after `history`, of which the last token runs.
fn choose(b: &mut WebGpu, sampler: &Sampler, rules: &SamplingRules, history: &[u32]) -> Result<u32> {
    let pos = history.len() - 1;
    let step = Step { segments: &[Segment::alone(&history[pos..], pos, 1)], ..Step::trunk(&[]) };
    b.submit_sampled(&step, &SampleRequest { rules, key: sampler.key(0), history: Some(history), masked: false })?;
    read(b)
}

fn settings() -> Vec<SamplerParams> {
    let base = SamplerParams { seed: 0x1234_5678_9abc_def0, ..SamplerParams::default() };
    let mut all = vec![SamplerParams::greedy(), base.clone(), SamplerParams { seed: 3, ..base.clone() }];
    for temperature in [0.3, 0.8, 1.7] {
        all.push(SamplerParams { temperature, ..base.clone() });
        for top_k in [1, 2, 7, 40, 64] {
            all.push(SamplerParams { temperature, top_k, ..base.clone() });
            all.push(SamplerParams { temperature, top_k, top_p: 0.7, min_p: 0.02, ..base.clone() });
        }
        for top_p in [0.0, 0.1, 0.5, 0.9, 0.999] {
            all.push(SamplerParams { temperature, top_p, ..base.clone() });
        }
        for min_p in [0.01, 0.3, 1.0] {
            all.push(SamplerParams { temperature, min_p, ..base.clone() });
            all.push(SamplerParams { temperature, min_p, top_p: 0.8, ..base.clone() });
        }
    }
    let penalised = SamplerParams { repeat_penalty: 1.3, frequency_penalty: 0.4, presence_penalty: -0.3, ..base };
    for penalty_last_n in [1, 5, 64, 300] {
        all.push(SamplerParams { penalty_last_n, ..penalised.clone() });
        all.push(SamplerParams { penalty_last_n, temperature: 0.0, ..penalised.clone() });
        all.push(SamplerParams { penalty_last_n, top_k: 20, top_p: 0.9, ..penalised.clone() });
    }
    all
}

#[test]
fn a_chain_of_choices_that_never_left_the_gpu_is_that_of_the_cpu() {
    let mut rng = Rng::named("chain");
    let vocab = 97;
    let rows: Vec<Vec<f32>> = (0..vocab).map(|_| (0..vocab).map(|_| bell(&mut rng, 1.5)).collect()).collect();
    let case = table("a chain", &[1; 92], vocab, &rows);
    on_all(&case, |what, b| {
        for params in settings() {
            let sampler = Sampler::new(params.clone()).unwrap();
            let rules = sampler.rules().expect("no bias");
            assert!(b.prepare_sampling(&rules).unwrap() > 0);
            // Three steps are always ahead of the token that is read.
            let (mut cpu, mut history) = (sampler.clone(), vec![5]);
            let mut submitted = 0;
            while history.len() < 92 {
                while submitted < 91 && submitted < history.len() + 2 {
                    let step = Step { segments: &[Segment::alone(&[5], submitted, 1)], ..Step::trunk(&[]) };
                    let known = (submitted == 0).then_some(&history[..]);
                    let request =
                        SampleRequest { rules: &rules, key: sampler.key(submitted), history: known, masked: false };
                    b.submit_sampled(&step, &request).unwrap();
                    submitted += 1;
                }
                let want = cpu.sample(&mut rows[history[history.len() - 1] as usize].clone(), &history).unwrap();
                assert_eq!(read(b).unwrap(), want, "{what}: token {} with {params:?}", history.len());
                history.push(want);
            }
        }
    });
}

#[test]
fn choices_among_many_tokens_are_those_of_the_cpu() {
    let mut rng = Rng::named("many");
    let cols = 5003;
    let minus = f32::NEG_INFINITY;
    let mut rows: Vec<Vec<f32>> = vec![
        (0..cols).map(|_| bell(&mut rng, 2.0)).collect(),
        // A distribution as flat as they come, and many ties.
        (0..cols).map(|_| rng.below(7) as f32 * 0.1).collect(),
        // Sorted, so that neighbours are alike; the best are all near each other.
        (0..cols).map(|i| i as f32 * 0.002 - 900.0).collect(),
        // Few tokens are possible at all.
        (0..cols).map(|i| if i % 701 == 3 { bell(&mut rng, 1.0) } else { minus }).collect(),
        // The best lie in the stripe of one thread.
        (0..cols).map(|i| if i % 256 == 9 { 9.0 + bell(&mut rng, 0.3) } else { bell(&mut rng, 0.5) }).collect(),
        // Zeros of both signs, and nothing above them.
        (0..cols).map(|i| if i % 2 == 0 { -0.0 } else { [0.0, -1.0][i / 2 % 2] }).collect(),
    ];
    rows[0][4999] = 1e30;
    rows[0][17] = -1e30;
    let case = table("many tokens", &[1], cols, &rows);
    on_all(&case, |what, b| {
        for params in settings() {
            let sampler = Sampler::new(params.clone()).unwrap();
            let rules = sampler.rules().expect("no bias");
            assert!(b.prepare_sampling(&rules).unwrap() > 0);
            for (i, row) in rows.iter().enumerate() {
                let (mut cpu, token) = (sampler.clone(), [i as u32]);
                for draw in 0..3 {
                    let got = choose(b, &cpu, &rules, &token).unwrap();
                    let want = cpu.sample(&mut row.clone(), &token).unwrap();
                    assert_eq!(got, want, "{what}: row {i}, draw {draw} with {params:?}");
                }
                let n = [0, 1, 7, 20][i % 4];
                let mut cpu = sampler.clone().with_logprobs(Some(n)).unwrap();
                let Some(rules) = cpu.rules() else { continue };
                let got = choose(b, &cpu, &rules, &token).unwrap();
                assert_eq!(got, cpu.sample(&mut row.clone(), &token).unwrap(), "{what}: row {i} with {params:?}");
                likely_alike(&format!("{what}: row {i} with {params:?}"), b, &cpu);
            }
        }
    });
}

#[test]
fn logits_from_which_nothing_can_be_chosen_are_an_error_and_no_token() {
    let mut rng = Rng::named("degenerate");
    let cols = 301;
    let good: Vec<f32> = (0..cols).map(|_| bell(&mut rng, 1.0)).collect();
    let with = |value: f32| [&good[..200], &[value], &good[201..]].concat();
    let bad = [
        with(f32::NAN),
        with(-f32::NAN),
        with(f32::INFINITY),
        vec![f32::NEG_INFINITY; cols],
        vec![0.25; cols],
        (0..cols).map(|i| if i % 3 == 0 { 0.0 } else { -0.0 }).collect(),
    ];
    let rows: Vec<_> = bad.iter().cloned().chain([good.clone()]).collect();
    let case = table("degenerate", &[1, 1], cols, &rows);
    on_all(&case, |what, b| {
        for params in [
            SamplerParams::greedy(),
            SamplerParams::default(),
            SamplerParams { top_k: 9, top_p: 0.5, ..SamplerParams::default() },
            SamplerParams { top_p: 0.5, repeat_penalty: 1.5, ..SamplerParams::default() },
        ] {
            let mut cpu = Sampler::new(params.clone()).unwrap();
            let rules = cpu.rules().expect("no bias");
            assert!(b.prepare_sampling(&rules).unwrap() > 0);
            for (i, row) in bad.iter().enumerate() {
                let token = [i as u32];
                let first = SampleRequest { rules: &rules, key: 7, history: Some(&token), masked: false };
                let step = Step { segments: &[Segment::alone(&token, 0, 1)], ..Step::trunk(&[]) };
                b.submit_sampled(&step, &first).unwrap();
                // What was started after it runs some token, and harms nothing.
                let after = [Segment::alone(&token, 1, 1)];
                b.submit_sampled(&Step::trunk(&after), &SampleRequest { history: None, ..first }).unwrap();
                let e = read(b).expect_err("no token");
                assert_eq!(e.kind(), ErrorKind::DegenerateLogits, "{what}: row {i} with {params:?}");
                let _ = read(b);
                assert_eq!(cpu.sample(&mut row.clone(), &token).expect_err("nor here").kind(), e.kind());
            }
            let token = [6];
            let got = choose(b, &cpu, &rules, &token).unwrap();
            assert_eq!(got, cpu.sample(&mut good.clone(), &token).unwrap(), "{what} with {params:?}");
        }
        b.check().expect("nothing else went wrong");
    });
}

#[test]
fn penalties_that_leave_no_token_are_an_error() {
    let huge = SamplerParams { presence_penalty: f32::MAX, frequency_penalty: f32::MAX, ..SamplerParams::default() };
    let rows = vec![vec![-1.0, f32::NEG_INFINITY, f32::NEG_INFINITY]; 6];
    let case = table("penalised away", &[1], 3, &rows);
    on_all(&case, |what, b| {
        for params in [SamplerParams { temperature: 0.0, ..huge.clone() }, huge.clone()] {
            let mut cpu = Sampler::new(params).unwrap();
            let rules = cpu.rules().expect("no bias");
            assert!(b.prepare_sampling(&rules).unwrap() > 0);
            let e = choose(b, &cpu, &rules, &[0]).expect_err("the one token is penalised away");
            assert_eq!(e.kind(), ErrorKind::DegenerateLogits, "{what}");
            assert_eq!(cpu.sample(&mut rows[0].clone(), &[0]).expect_err("nor here").kind(), e.kind());
        }
    });
}

#[test]
fn rules_that_the_gpu_does_not_know_are_declined() {
    let rows: Vec<Vec<f32>> = (0..6u8).map(|i| (0..99u8).map(|j| f32::from(i ^ j)).collect()).collect();
    let case = table("declined", &[1], 99, &rows);
    on_all(&case, |what, b| {
        let rules = |p: SamplerParams| Sampler::new(p).unwrap().rules();
        let mut knows = |p| b.prepare_sampling(&rules(p).expect("no bias")).unwrap() > 0;
        let top_k = |top_k| SamplerParams { top_k, ..SamplerParams::default() };
        // As many as there are tokens is no limit at all.
        assert_eq!([64, 65, 98, 99, 1000].map(|k| knows(top_k(k))), [true, false, false, true, true], "{what}");
        let far = SamplerParams { penalty_last_n: 1025, ..SamplerParams::default() };
        assert!(knows(far.clone()) && !knows(SamplerParams { repeat_penalty: 1.1, ..far }), "{what}");
        assert_eq!(rules(SamplerParams { logit_bias: vec![(1, 1.0)], ..SamplerParams::default() }), None);

        let sampler = Sampler::new(top_k(65)).unwrap();
        let refused = choose(b, &sampler, &sampler.rules().expect("no bias"), &[0]).expect_err("was declined");
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument, "{what}");
        assert_eq!(read(b).expect_err("nothing was started").kind(), ErrorKind::InvalidState, "{what}");
    });
}

#[test]
fn a_chosen_token_costs_one_submit_one_small_write_and_four_bytes() {
    let rows: Vec<Vec<f32>> =
        (0..25u16).map(|i| (0..25u16).map(|j| f32::from((i * 7 + j * 5) % 23)).collect()).collect();
    let case = table("what a token costs", &[1; 20], 25, &rows);
    on_all(&case, |what, b| {
        let params = SamplerParams { repeat_penalty: 1.2, ..SamplerParams::default() };
        let rules = Sampler::new(params).unwrap().rules().expect("no bias");
        assert!(b.prepare_sampling(&rules).unwrap() > 0);
        let segment = |pos| [Segment::alone(&[3], pos, 1)];
        b.submit_sampled(
            &Step::trunk(&segment(0)),
            &SampleRequest { rules: &rules, key: 1, history: Some(&[3]), masked: false },
        )
        .unwrap();
        let mut before = b.counters();
        for pos in 1..20 {
            b.submit_sampled(
                &Step::trunk(&segment(pos)),
                &SampleRequest { rules: &rules, key: 1, history: None, masked: false },
            )
            .unwrap();
            let c = b.counters();
            assert_eq!((c.steps, c.passes, c.submits), (before.steps + 1, before.passes + 1, before.submits + 1));
            assert_eq!(c.dispatches - before.dispatches, case.plan.graph.nodes.len() as u64 + 2, "{what}");
            assert_eq!((c.bytes_written - before.bytes_written, c.bytes_read - before.bytes_read), (1296, 4), "{what}");
            assert_eq!((c.pipelines, c.buffers), (before.pipelines, before.buffers), "{what}");
            before = c;
            read(b).unwrap();
        }
        assert_eq!(before.in_flight, 2, "{what}");
        // The token, the sum of all, its logit, and five tokens with theirs.
        let sampler = Sampler::new(SamplerParams::default()).unwrap().with_logprobs(Some(5)).unwrap();
        choose(b, &sampler, &sampler.rules().expect("no penalty"), &[3]).unwrap();
        assert_eq!(b.counters().bytes_read - before.bytes_read, 4 + 4 * (2 + 2 * 5), "{what}");
    });
}

#[test]
fn suppressed_tokens_are_not_chosen() {
    let mut rng = Rng::named("suppressed");
    let cols = 1009;
    let rows: Vec<Vec<f32>> = (0..6).map(|_| (0..cols).map(|_| bell(&mut rng, 2.0)).collect()).collect();
    let mut case = table("suppressed", &[1], cols, &rows);
    // The likelier half of the first row, in no order.
    case.plan.suppressed = (0..cols as u32).rev().filter(|&i| rows[0][i as usize] > 0.0).collect();
    assert!(case.plan.suppressed.len() > 300);
    on_all(&case, |what, b| {
        for params in settings() {
            let mut cpu = Sampler::new(params.clone()).unwrap();
            let rules = cpu.rules().expect("no bias");
            assert!(b.prepare_sampling(&rules).unwrap() > 0);
            for (i, row) in rows.iter().enumerate() {
                let mut row = row.clone();
                case.plan.suppressed.iter().for_each(|&id| row[id as usize] = f32::NEG_INFINITY);
                // A token that is suppressed is penalised too.
                let history = [i as u32];
                if let Some(rules) = cpu.clone().with_logprobs(Some(4)).unwrap().rules() {
                    let mut cpu = cpu.clone().with_logprobs(Some(4)).unwrap();
                    choose(b, &cpu, &rules, &history).unwrap();
                    cpu.sample(&mut row.clone(), &history).unwrap();
                    likely_alike(&format!("{what}: row {i} with {params:?}"), b, &cpu);
                }
                let got = choose(b, &cpu, &rules, &history).unwrap();
                assert!(!case.plan.suppressed.contains(&got), "{what}: row {i} with {params:?}");
                assert_eq!(got, cpu.sample(&mut row, &history).unwrap(), "{what}: row {i} with {params:?}");
            }
        }
    });
}
