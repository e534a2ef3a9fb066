//! The sampler: every stage against reference chains, the draw against the probabilities.

use pagelm::ErrorKind;
use pagelm::engine::sampler::{Candidates, Penalties, Sampler, SamplerParams, draw, uniform};
use serde::Deserialize;
use std::collections::BTreeMap;

use crate::common::fixtures;

#[derive(Deserialize)]
struct Sampling {
    logits: BTreeMap<String, Vec<Option<f32>>>,
    history: BTreeMap<String, Vec<u32>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    logits: String,
    chain: Vec<Stage>,
    kept_count: usize,
    kept_id_sum: u64,
    ids: Vec<u32>,
    probs: Vec<f64>,
    #[serde(default)]
    flags: Vec<String>,
}

#[derive(Deserialize, Debug)]
#[serde(tag = "op", rename_all = "snake_case")]
enum Stage {
    Penalties { last_n: usize, repeat: f32, frequency: f32, presence: f32 },
    TopK { k: i64 },
    TopP { p: f32, min_keep: Option<usize> },
    MinP { p: f32, min_keep: Option<usize> },
    Temperature { t: f32 },
}

/// Applies the chain with our stages and gives what is left with its probabilities, likeliest first.
fn run(case: &Case, logits: &[Option<f32>], history: &[u32]) -> Vec<(u32, f64)> {
    let mut logits: Vec<f32> = logits.iter().map(|l| l.unwrap_or(f32::NEG_INFINITY)).collect();
    let mut stages = &case.chain[..];
    if let [Stage::Penalties { last_n, repeat, frequency, presence }, rest @ ..] = stages {
        let p = Penalties { last_n: *last_n, repeat: *repeat, frequency: *frequency, presence: *presence };
        p.apply(&mut logits, history, &mut Vec::new());
        stages = rest;
    }
    let mut c = Candidates::default();
    c.fill(&logits);
    for stage in stages {
        match *stage {
            Stage::Penalties { .. } => panic!("penalties come first"),
            Stage::TopK { k } => c.top_k(usize::try_from(k).unwrap_or(0)),
            Stage::TopP { p, min_keep } => c.top_p(p, min_keep.unwrap_or(1)),
            Stage::MinP { p, min_keep } => c.min_p(p, min_keep.unwrap_or(1)),
            Stage::Temperature { t } => c.temperature(t),
        }
    }
    let mut left = c.as_slice().to_vec();
    left.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id)));
    let max = f64::from(left[0].logit);
    let sum: f64 = left.iter().map(|c| (f64::from(c.logit) - max).exp()).sum();
    left.iter().map(|c| (c.id, (f64::from(c.logit) - max).exp() / sum)).collect()
}

/// Logits are f32 here and the probabilities of the fixture are exact: rounding a logit of 100 moves one by 1e-5 of it.
const PROBABILITY: f64 = 2e-5;

#[test]
fn every_reference_chain_keeps_the_same_tokens_with_the_same_probabilities() {
    let text = fixtures::bytes("reference/sampling.json");
    let sampling: Sampling = serde_json::from_slice(&text).unwrap();
    for (i, case) in sampling.cases.iter().enumerate() {
        let what = format!("case {i}: {} {:?}", case.logits, case.chain);
        let left = run(case, &sampling.logits[&case.logits], &sampling.history[&case.logits]);
        let flag = |name: &str| case.flags.iter().any(|f| f == name);
        let (border, tie) = (flag("border"), flag("tie"));
        assert!(left.len().abs_diff(case.kept_count) <= usize::from(border), "{what}: {} left", left.len());
        if left.len() != case.kept_count {
            continue;
        }
        for (j, (&(id, p), (&want_id, &want_p))) in left.iter().zip(case.ids.iter().zip(&case.probs)).enumerate() {
            assert!(tie || id == want_id, "{what}: place {j} is {id}, not {want_id}");
            assert!((p - want_p).abs() <= PROBABILITY * want_p.max(1e-3), "{what}: place {j} has {p}, not {want_p}");
        }
        let sum: u64 = left.iter().map(|&(id, _)| u64::from(id)).sum();
        assert!(tie || sum == case.kept_id_sum, "{what}: the ids add up to {sum}");
    }
}

#[test]
fn draws_follow_the_probabilities() {
    let logits: Vec<f32> = (0..50).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
    let mut c = Candidates::default();
    c.fill(&logits);
    let n = 200_000;
    let mut counts = [0u32; 50];
    for step in 0..n {
        counts[draw(c.as_slice(), 42, step).unwrap() as usize] += 1;
    }
    let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
    // Pearson's chi-squared with 49 degrees of freedom: 94.6 is passed by chance once in 10,000 seeds.
    let chi: f64 = (logits.iter().zip(counts))
        .map(|(&l, seen)| {
            let expected = f64::from(l).exp() / sum * f64::from(n);
            (f64::from(seen) - expected).powi(2) / expected
        })
        .sum();
    assert!(chi < 94.6, "chi-squared is {chi}");
}

#[test]
fn random_numbers_are_even_and_differ_by_seed_step_and_token() {
    let mut bins = [0u32; 64];
    let mut seen = std::collections::BTreeSet::new();
    for i in 0..64_000u32 {
        let u = uniform(u64::from(i % 3) << 32 | 7, i / 100, i % 100);
        assert!(u > 0.0 && u < 1.0);
        seen.insert(u.to_bits());
        bins[(u * 64.0) as usize] += 1;
    }
    let chi: f64 = bins.iter().map(|&b| (f64::from(b) - 1000.0).powi(2) / 1000.0).sum();
    assert!(chi < 115.0, "chi-squared of 63 degrees is {chi}");
    assert!(seen.len() > 63_990, "{} different numbers", seen.len());
}

#[test]
fn random_numbers_stay_as_they_are_documented() {
    // Kernels on other devices reproduce them.
    let h = |seed, step, id| (uniform(seed, step, id) * 4_294_967_296.0 - 0.5) as u32;
    assert_eq!([h(0, 0, 0), h(0, 0, 1), h(0, 1, 0), h(1 << 32, 0, 0)], DOCUMENTED);
}

const DOCUMENTED: [u32; 4] = [0xe369d029, 0x8ec5454c, 0xd55a6808, 0xc7f85fa5];

#[test]
fn the_same_seed_gives_the_same_tokens_in_any_order_of_candidates() {
    let logits: Vec<f32> = (0..300).map(|i| ((i * 7919 % 300) as f32) * 0.02).collect();
    let sample = |seed| {
        let params = SamplerParams { seed, top_p: 0.9, ..SamplerParams::default() };
        let mut sampler = Sampler::new(params).unwrap();
        (0..50).map(|_| sampler.sample(&mut logits.clone(), &[]).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(sample(3), sample(3));
    assert_ne!(sample(3), sample(4));
    let mut c = Candidates::default();
    c.fill(&logits);
    let forward = draw(c.as_slice(), 9, 1);
    let backward: Vec<_> = c.as_slice().iter().rev().copied().collect();
    assert_eq!(forward, draw(&backward, 9, 1));
}

#[test]
fn greedy_takes_the_lowest_of_equally_likely_tokens() {
    let mut sampler = Sampler::new(SamplerParams { top_k: 5, min_p: 0.1, ..SamplerParams::greedy() }).unwrap();
    assert_eq!(sampler.sample(&mut [0.0, 2.0, 1.0, 2.0], &[]).unwrap(), 1);
    assert_eq!(sampler.sample(&mut [-3.0, f32::NEG_INFINITY, -2.0, -2.0], &[]).unwrap(), 2);
    assert_eq!(sampler.sample(&mut [5.0], &[]).unwrap(), 0);
}

#[test]
fn a_tiny_temperature_is_greedy_and_a_huge_one_is_even() {
    let mut cold = Sampler::new(SamplerParams { temperature: 1e-40, ..SamplerParams::default() }).unwrap();
    let mut hot = Sampler::new(SamplerParams { temperature: 1e30, ..SamplerParams::default() }).unwrap();
    let mut seen = [0; 3];
    for _ in 0..300 {
        assert_eq!(cold.sample(&mut [90.0, 90.5, -90.0], &[]).unwrap(), 1);
        seen[hot.sample(&mut [90.0, 90.5, -90.0], &[]).unwrap() as usize] += 1;
    }
    assert!(seen.iter().all(|&n| n > 60), "{seen:?}");
}

#[test]
fn penalties_and_bias_change_the_choice() {
    let greedy = SamplerParams::greedy();
    let choose = |params: SamplerParams, history: &[u32]| {
        Sampler::new(params).unwrap().sample(&mut [1.0, 3.0, 2.5, -1.0], history).unwrap()
    };
    assert_eq!(choose(SamplerParams { presence_penalty: 1.0, ..greedy.clone() }, &[1]), 2);
    assert_eq!(choose(SamplerParams { presence_penalty: 1.0, penalty_last_n: 1, ..greedy.clone() }, &[1, 0]), 1);
    assert_eq!(choose(SamplerParams { presence_penalty: 1.0, penalty_last_n: 0, ..greedy.clone() }, &[1]), 1);
    assert_eq!(choose(SamplerParams { frequency_penalty: 0.3, ..greedy.clone() }, &[1]), 1);
    assert_eq!(choose(SamplerParams { frequency_penalty: 0.3, ..greedy.clone() }, &[1, 1]), 2);
    assert_eq!(choose(SamplerParams { repeat_penalty: 1.5, ..greedy.clone() }, &[1, 999]), 2);
    assert_eq!(choose(SamplerParams { logit_bias: vec![(3, 10.0)], ..greedy.clone() }, &[]), 3);
    assert_eq!(choose(SamplerParams { logit_bias: vec![(1, f32::NEG_INFINITY)], ..greedy }, &[]), 2);
}

#[test]
fn logits_from_which_nothing_can_be_chosen_are_an_error_and_no_token() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for temperature in [0.0, 1.0] {
        let params = SamplerParams { temperature, ..SamplerParams::default() };
        let rows: [&mut [f32]; 6] =
            [&mut [0.0, nan, 1.0], &mut [0.0, inf, 1.0], &mut [-inf; 3], &mut [0.0; 3], &mut [7.5; 2], &mut []];
        let mut sampler = Sampler::new(params.clone()).unwrap();
        for row in rows {
            assert_eq!(sampler.sample(row, &[]).unwrap_err().kind(), ErrorKind::DegenerateLogits, "{row:?}");
        }
        assert_ne!(sampler.sample(&mut [0.0, -inf, 1.0], &[]).unwrap(), 1);
        let all = SamplerParams { logit_bias: vec![(0, -inf), (1, -inf)], ..params };
        let e = Sampler::new(all).unwrap().sample(&mut [0.0, 1.0], &[]).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::DegenerateLogits);
    }
}

#[test]
fn parameters_that_make_no_sense_are_refused_by_name() {
    let d = SamplerParams::default;
    let nan = f32::NAN;
    let bad = [
        ("temperature", SamplerParams { temperature: nan, ..d() }),
        ("temperature", SamplerParams { temperature: f32::INFINITY, ..d() }),
        ("temperature", SamplerParams { temperature: -1.0, ..d() }),
        ("temperature", SamplerParams { temperature: -f32::MIN_POSITIVE, ..d() }),
        ("top_p", SamplerParams { top_p: -0.1, ..d() }),
        ("top_p", SamplerParams { top_p: 1.1, ..d() }),
        ("min_p", SamplerParams { min_p: nan, ..d() }),
        ("repeat_penalty", SamplerParams { repeat_penalty: 0.0, ..d() }),
        ("repeat_penalty", SamplerParams { repeat_penalty: -1.0, ..d() }),
        ("presence_penalty", SamplerParams { presence_penalty: nan, ..d() }),
        ("frequency_penalty", SamplerParams { frequency_penalty: f32::INFINITY, ..d() }),
        ("logit bias", SamplerParams { logit_bias: vec![(0, nan)], ..d() }),
    ];
    for (name, params) in bad {
        let e = Sampler::new(params).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert!(e.detail().contains(name), "{e}");
    }
    let past = SamplerParams { logit_bias: vec![(2, 1.0)], ..d() };
    let e = Sampler::new(past).unwrap().sample(&mut [0.0, 1.0], &[]).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn what_a_file_says_of_sampling_is_taken_where_a_caller_says_nothing() {
    use pagelm::engine::FileSampling;
    use pagelm::gguf::{Meta, Value};
    let read = |keys: &[(&str, Value)]| {
        let mut meta = Meta::default();
        for (name, value) in keys {
            meta.insert(format!("general.sampling.{name}"), value.clone());
        }
        FileSampling::from_gguf(&meta)
    };
    let base = SamplerParams { seed: 7, presence_penalty: 0.5, ..SamplerParams::greedy() };
    assert_eq!(read(&[]).unwrap().over(base.clone()), base);
    let all = [
        ("temp", Value::Float(0.25)),
        ("top_k", Value::Int(20)),
        ("top_p", Value::Float(0.5)),
        ("min_p", Value::Uint(1)),
        ("penalty_repeat", Value::Float(1.5)),
        ("penalty_last_n", Value::Int(32)),
        ("mirostat", Value::Int(2)),
    ];
    let want = SamplerParams {
        temperature: 0.25,
        top_k: 20,
        top_p: 0.5,
        min_p: 1.0,
        repeat_penalty: 1.5,
        penalty_last_n: 32,
        ..base.clone()
    };
    assert_eq!(read(&all).unwrap().over(base.clone()), want);
    // llama.cpp's way to say "all".
    let all = read(&[("top_k", Value::Int(-1)), ("penalty_last_n", Value::Int(-1))]).unwrap();
    assert_eq!((all.top_k, all.penalty_last_n), (Some(0), Some(usize::MAX)));
    for (name, value, kind) in [
        ("temp", Value::String("warm".into()), ErrorKind::WrongKeyType),
        ("top_k", Value::Float(1.5), ErrorKind::WrongKeyType),
        ("temp", Value::Float(f64::NAN), ErrorKind::BadConfig),
        ("top_p", Value::Float(1.5), ErrorKind::BadConfig),
        ("min_p", Value::Int(-1), ErrorKind::BadConfig),
        ("penalty_repeat", Value::Int(0), ErrorKind::BadConfig),
    ] {
        assert_eq!(read(&[(name, value)]).unwrap_err().kind(), kind, "{name}");
    }
}
