//! Whole models against the numbers of another implementation.

pub(crate) mod images;

use std::future::poll_fn;

use pagelm::backend::reference::Reference;
use pagelm::backend::{Backend, Segment, Step};
use pagelm::engine::{Model, Options, Session};
use pagelm::gguf::Gguf;
use pollster::block_on;

use crate::common::backends::{self, Candidate};
use crate::common::fixtures;
use crate::common::golden::{self, argmax, max_diff};

pub(super) const FIXTURES: &[&str] = &[
    "llama",
    "llama32",
    "qwen2",
    "qwen2moe",
    "qwen3",
    "qwen3_tied",
    "qwen3moe",
    "gemma",
    "gemma2",
    "gemma3",
    "qwen35",
    "qwen35moe",
    "qwen35_mtp",
];

/// Room for the longest prompt and what follows it.
const OPTIONS: Options = Options { n_ctx: Some(96), max_tokens: 70, max_outputs: 70, ..Options::DEFAULT };

/// Two f32 implementations are 1e-4 apart; a GPU's exp, sin and tanh are looser.
fn logit_tolerance(backend: &str) -> f32 {
    if backend == "webgpu" { 2e-3 } else { 3e-4 }
}

/// Of the largest value of the tensor.
const HIDDEN: f32 = 1e-4;

/// Runs `check` on every fixture and backend.
fn everywhere(check: impl Fn(&str, &golden::Golden, &mut Session)) {
    for name in FIXTURES {
        let (numbers, file) = golden::load(name);
        let reference = Candidate { name: "reference", make: || Box::new(Reference::new()), slack: 1.0 };
        for Candidate { name: backend, make, .. } in backends::all().into_iter().chain([reference]) {
            let what = format!("{name} on {backend}");
            let mut session = golden::open(&file, make(), OPTIONS).unwrap_or_else(|e| panic!("{what}: {e}"));
            check(&what, &numbers, &mut session);
        }
    }
}

#[test]
fn every_logit_of_every_prompt_is_within_tolerance() {
    everywhere(|what, numbers, session| {
        let tol = logit_tolerance(session.backend().name());
        for (i, prompt) in numbers.prompts.iter().enumerate() {
            let mut rows = Vec::new();
            session.rollback(0).unwrap();
            block_on(session.prefill_all(&prompt.ids, |row| rows.extend_from_slice(row))).unwrap();
            let last = &rows[rows.len() - session.n_vocab()..];
            let all = prompt.logits_all.as_ref().map_or(0.0, |want| max_diff(&rows, &want.data));
            let diff = max_diff(last, &prompt.logits_last.data).max(all);
            assert!(diff <= tol, "{what}: prompt {i} is off by {diff:e}, more than {tol:e}");
        }
    });
}

#[test]
fn greedy_tokens_are_the_reference_s_by_cached_decode_and_by_recompute() {
    everywhere(|what, numbers, session| {
        for (i, prompt) in numbers.prompts.iter().enumerate() {
            let Some(greedy) = &prompt.greedy else { continue };
            session.rollback(0).unwrap();
            let mut next = argmax(block_on(session.prefill(&prompt.ids)).unwrap());
            let mut ids = prompt.ids.clone();
            for (step, &want) in greedy.tokens.iter().enumerate() {
                assert_eq!(next, want, "{what}: prompt {i} step {step} by cached decode");
                ids.push(next);
                next = argmax(block_on(session.decode(next)).unwrap());
            }
            // All rows of one prompt, which end where each step did: another cut gives what a test below says.
            let mut recomputed = Vec::new();
            session.rollback(0).unwrap();
            block_on(session.prefill_all(&ids[..ids.len() - 1], |row| recomputed.push(argmax(row)))).unwrap();
            assert_eq!(recomputed[prompt.ids.len() - 1..], greedy.tokens, "{what}: prompt {i} by recompute");
        }
    });
}

#[test]
fn models_that_see_say_of_text_before_an_image_what_the_reference_says() {
    for name in ["qwen3vl", "qwen35vl", "gemma3vl"] {
        let numbers = fixtures::json(&format!("golden/{name}.json"));
        let file = fixtures::bytes(&format!("golden/{name}.gguf"));
        for c in backends::all() {
            let mut session = golden::open(&file, (c.make)(), OPTIONS).unwrap();
            for case in numbers["cases"].as_array().unwrap() {
                let text = case["ids"].as_array().unwrap().iter().take_while(|id| **id != numbers["image_token_id"]);
                let ids: Vec<u32> = text.map(|id| id.as_u64().unwrap() as u32).collect();
                assert!(ids.len() > 3);
                let all = case["logits_all"]["data"].as_array().unwrap().iter();
                let want: Vec<f32> = all.map(|v| v.as_f64().unwrap() as f32).collect();
                let mut rows = Vec::new();
                session.rollback(0).unwrap();
                block_on(session.prefill_all(&ids, |row| rows.extend_from_slice(row))).unwrap();
                let diff = max_diff(&rows, &want[..rows.len()]);
                let tol = logit_tolerance(session.backend().name());
                assert!(diff <= tol, "{name} on {}: off by {diff:e}", c.name);
            }
        }
    }
}

#[test]
fn a_prompt_cut_anywhere_gives_the_logits_of_one_step() {
    everywhere(|what, numbers, session| {
        let tol = logit_tolerance(session.backend().name());
        let prompt = &numbers.prompts[1];
        for cut in 1..prompt.ids.len() {
            session.rollback(0).unwrap();
            block_on(session.prefill_part(&prompt.ids[..cut])).unwrap();
            let diff = max_diff(block_on(session.prefill(&prompt.ids[cut..])).unwrap(), &prompt.logits_last.data);
            assert!(diff <= tol, "{what}: cut after {cut}: off by {diff:e}");
        }
        session.rollback(0).unwrap();
        for (i, id) in prompt.ids.iter().enumerate() {
            let row = block_on(session.decode(*id)).unwrap();
            let n = row.len();
            let want = &prompt.logits_all.as_ref().expect("the second prompt has all rows").data[i * n..][..n];
            let diff = max_diff(row, want);
            assert!(diff <= tol, "{what}: token {i} alone: off by {diff:e}");
        }
    });
}

#[test]
fn hidden_states_of_the_reference_backend_are_within_tolerance() {
    for name in FIXTURES {
        let (numbers, file) = golden::load(name);
        let prompt = &numbers.prompts[0];
        let mut backend = Reference::new();
        run_once(&mut backend, &file, &prompt.ids);
        for (tensor, want) in prompt.hidden.as_ref().expect("the first prompt has hidden states").named() {
            let value = backend.graph().named(&tensor).unwrap_or_else(|| panic!("{name}: no value is named {tensor}"));
            let got: Vec<f32> = backend.value(value).iter().map(|&v| v as f32).collect();
            let largest = want.data.iter().fold(0f32, |m, v| m.max(v.abs()));
            let diff = max_diff(&got, &want.data);
            assert!(diff <= HIDDEN * largest, "{name}: {tensor} is off by {diff:e}, its largest value is {largest}");
        }
    }
}

/// Loads the file and runs one step with all rows, keeping the backend to look into.
fn run_once(backend: &mut Reference, file: &[u8], ids: &[u32]) {
    let gguf = Gguf::parse(file).unwrap();
    let model = Model::new(&gguf, &|d| backend.supports(d), &OPTIONS).unwrap();
    backend.prepare(model.plan.clone(), model.limits).unwrap();
    for piece in model.loader.clone().place(0, file.len()) {
        backend.write_weight(piece.weight, piece.offset, &file[piece.bytes]).unwrap();
    }
    backend.submit(&Step::trunk(&[Segment::alone(ids, 0, ids.len())])).unwrap();
    let mut logits = vec![0.0; ids.len() * model.plan.graph.n_vocab()];
    block_on(poll_fn(|cx| backend.poll_logits(cx, &mut logits))).unwrap();
}
