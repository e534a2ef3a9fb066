//! Log-probabilities of generated tokens: those of the model's own distribution, however a token was chosen and wherever.

use pagelm::ErrorKind;
use pagelm::backend::{Logprobs, MAX_LOGPROBS};
use pagelm::engine::{
    Batch, Event, GenerateParams, Generation, Options, ProposerName, SamplerParams, Session, SpeculateParams,
};
use pagelm::gguf::Gguf;
use pagelm::text::Tokenizer;
use pollster::block_on;

use crate::common::backends;
use crate::common::golden;

const OPTIONS: Options = Options { n_ctx: Some(96), max_tokens: 20, drafts: 3, sequences: 2, ..Options::DEFAULT };

/// Each token with what is said of it.
type Said = Vec<(u32, Option<Logprobs>)>;

fn run(session: &mut Session, tokenizer: &Tokenizer, prompt: &[u32], params: GenerateParams) -> Said {
    let mut g = Generation::new(session, tokenizer, prompt, params, 0.0).unwrap();
    let mut said = Vec::new();
    while let Some(event) = block_on(g.next(session, tokenizer, &|| 0.0)).unwrap() {
        if let Event::Token { id, logprobs, .. } = event {
            said.push((id, logprobs));
        }
    }
    said
}

/// `ln softmax(row)`.
fn log_softmax(row: &[f32]) -> Vec<f64> {
    let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let all = row.iter().map(|l| f64::from(l - top).exp()).sum::<f64>().ln() + f64::from(top);
    row.iter().map(|l| f64::from(*l) - all).collect()
}

fn holds(what: &str, session: &mut Session, prompt: &[u32], said: &Said, n: usize, tol: f64) {
    let mut ids = prompt.to_vec();
    for (id, logprobs) in said {
        session.rollback(0).unwrap();
        let want = log_softmax(block_on(session.prefill(&ids)).unwrap());
        let Logprobs { logprob, top } = logprobs.as_ref().unwrap_or_else(|| panic!("{what}: none at {}", ids.len()));
        assert!((f64::from(*logprob) - want[*id as usize]).abs() <= tol, "{what}: {logprob} at {}", ids.len());
        assert_eq!(top.len(), n, "{what}");
        let mut best: Vec<_> = (0..want.len()).collect();
        best.sort_by(|a, b| want[*b].total_cmp(&want[*a]));
        for (i, (id, logprob)) in top.iter().enumerate() {
            // Another cut of the prompt may swap two that are about equal.
            let (own, of_rank) = (want[*id as usize], want[best[i]]);
            assert!((own - of_rank).abs() <= tol && (f64::from(*logprob) - own).abs() <= tol, "{what}: rank {i}");
        }
        ids.push(*id);
    }
}

#[test]
fn a_generation_says_how_likely_each_token_was_and_which_were_likelier() {
    let tempered = SamplerParams { temperature: 1.5, top_k: 30, seed: 5, ..SamplerParams::default() };
    let penalised = SamplerParams { repeat_penalty: 1.4, logit_bias: vec![(7, 2.0)], ..tempered.clone() };
    for name in ["llama", "gemma3"] {
        let (numbers, file) = golden::load(name);
        let tokenizer = Tokenizer::from_gguf(&Gguf::parse(&file).unwrap().meta).unwrap();
        let prompt = &numbers.prompts[1].ids;
        for c in backends::all() {
            // As far apart as logits of two ways through a step may be, and the sum of all.
            let tol = if c.name.starts_with("webgpu") { 4e-3 } else { 1e-5 };
            let mut session = golden::open(&file, (c.make)(), OPTIONS).unwrap();
            for (how, sampler) in
                [("greedy", SamplerParams::greedy()), ("tempered", tempered.clone()), ("penalised", penalised.clone())]
            {
                for proposer in [None, Some(ProposerName::Lookup)] {
                    let speculate = proposer.map(|proposer| SpeculateParams { proposer, max_draft: None });
                    let params = |logprobs| GenerateParams {
                        max_tokens: Some(12),
                        sampler: sampler.clone(),
                        ignore_eos: true,
                        speculate,
                        logprobs,
                        ..GenerateParams::default()
                    };
                    let what = format!("{name} on {}, {how}, {proposer:?}", c.name);
                    let plain = run(&mut session, &tokenizer, prompt, params(None));
                    assert!(plain.len() == 12 && plain.iter().all(|(_, logprobs)| logprobs.is_none()), "{what}");
                    for n in [0, 5, MAX_LOGPROBS] {
                        let said = run(&mut session, &tokenizer, prompt, params(Some(n)));
                        let ids = |said: &Said| said.iter().map(|(id, _)| *id).collect::<Vec<_>>();
                        assert_eq!(ids(&said), ids(&plain), "{what}");
                        holds(&what, &mut session, prompt, &said, n, tol);
                    }
                }
            }
        }
    }
}

#[test]
fn generations_of_a_batch_say_it_too() {
    let (numbers, file) = golden::load("qwen35");
    let tokenizer = Tokenizer::from_gguf(&Gguf::parse(&file).unwrap().meta).unwrap();
    for c in backends::all() {
        let mut session = golden::open(&file, (c.make)(), OPTIONS).unwrap();
        let mut batch = Batch::new(2);
        let mut said = [Vec::new(), Vec::new()];
        for (p, logprobs) in numbers.prompts[..2].iter().zip([Some(3), None]) {
            let sampler = SamplerParams::greedy();
            let params =
                GenerateParams { max_tokens: Some(9), sampler, ignore_eos: true, logprobs, ..Default::default() };
            batch.add(session.engine(), &tokenizer, &p.ids, params, 0.0).unwrap();
        }
        while !batch.is_empty() {
            for (id, event) in block_on(batch.next(session.engine(), &tokenizer, &|| 0.0)).unwrap() {
                if let Event::Token { id: token, logprobs, .. } = event.unwrap() {
                    said[id as usize - 1].push((token, logprobs));
                }
            }
        }
        let tol = if c.name.starts_with("webgpu") { 4e-3 } else { 1e-5 };
        holds(c.name, &mut session, &numbers.prompts[0].ids, &said[0], 3, tol);
        assert!(said[1].len() == 9 && said[1].iter().all(|(_, logprobs)| logprobs.is_none()));
    }
}

#[test]
fn more_than_the_most_are_refused() {
    let (_, file) = golden::load("llama");
    let tokenizer = Tokenizer::from_gguf(&Gguf::parse(&file).unwrap().meta).unwrap();
    let mut session = golden::open(&file, Box::new(pagelm::backend::cpu::Cpu::new(1)), OPTIONS).unwrap();
    let params = GenerateParams { logprobs: Some(MAX_LOGPROBS + 1), ..GenerateParams::default() };
    let refused = Generation::new(&mut session, &tokenizer, &[1], params, 0.0).err().expect("21 are too many");
    assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
}
