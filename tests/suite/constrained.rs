//! Generation within a grammar: alone, in batches, speculatively, and where the GPU chooses.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use pagelm::ErrorKind;
use pagelm::backend::Backend;
use pagelm::backend::cpu::Cpu;
use pagelm::backend::reference::Reference;
use pagelm::backend::webgpu::Options as GpuOptions;
use pagelm::engine::{
    Batch, Event, GenerateParams, Generation, Options, ProposerName, SamplerParams, Session, SpeculateParams,
    StopReason, Usage,
};
use pagelm::gguf::Gguf;
use pagelm::grammar::GrammarSource;
use pagelm::text::{EncodeOptions, Tokenizer};
use pollster::block_on;
use serde_json::{Value, json};

use crate::common::backends::{self, gpu, gpu_wanted};
use crate::common::faulty::Faulty;
use crate::common::golden;

const OPTIONS: Options = Options {
    n_ctx: Some(256),
    cache: Some(1200),
    sequences: 4,
    max_tokens: 20,
    drafts: 4,
    mtp: true,
    ..Options::DEFAULT
};

/// Random weights with a vocabulary of bytes and some words: plain layers, recurrent states, SentencePiece.
const MODELS: [&str; 3] = ["llama", "qwen35_mtp", "gemma3"];

fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::from_gguf(&Gguf::parse(&golden::load(name).1).unwrap().meta).unwrap()
}

fn open(name: &str, backend: Box<dyn Backend>) -> Session {
    golden::open(&golden::load(name).1, backend, OPTIONS).unwrap()
}

/// A prompt after which proposals are such that the grammar lets through, and others.
const REPEATS: &str = r#"{"name":"aaaa","kind":"reader","at":{"x":1}} {"name":"aaaa","kind": "#;

/// Of which every answer comes to an end.
fn schema() -> Value {
    json!({"type": "object", "properties": {
        "name": {"type": "string", "maxLength": 6}, "kind": {"enum": ["reader", "writer", null]},
        "at": {"type": "object", "properties": {"x": {"type": "integer", "minimum": -9, "maximum": 9}},
            "required": ["x"], "additionalProperties": false}},
        "required": ["name", "kind", "at"], "additionalProperties": false})
}

fn params(seed: u64) -> GenerateParams {
    GenerateParams {
        max_tokens: Some(650),
        sampler: SamplerParams { seed, ..SamplerParams::default() },
        grammar: Some(GrammarSource::JsonSchema(schema().to_string())),
        ..GenerateParams::default()
    }
}

#[derive(Debug, PartialEq)]
struct Answer {
    tokens: Vec<u32>,
    text: String,
    reason: StopReason,
}

fn run(session: &mut Session, tokenizer: &Tokenizer, prompt: &[u32], params: GenerateParams) -> (Answer, Usage) {
    let mut g = Generation::new(session, tokenizer, prompt, params, 0.0).unwrap();
    let mut all = String::new();
    loop {
        // A clock that stands still: proposals always pay.
        match block_on(g.next(session, tokenizer, &|| 0.0)).unwrap().expect("no end before `Done`") {
            Event::Prefill { .. } => {}
            Event::Token { text, .. } => all += &text,
            Event::Done { text, reason, usage } => {
                return (Answer { tokens: g.generated().to_vec(), text: all + &text, reason }, usage);
            }
        }
    }
}

fn prompt(tokenizer: &Tokenizer) -> Vec<u32> {
    tokenizer.encode("The answer is", EncodeOptions { add_special: true, ..EncodeOptions::default() }).unwrap()
}

/// Parses an answer and checks it against the schema.
fn check(what: &str, answer: &Answer) {
    assert_eq!(answer.reason, StopReason::EndOfSequence, "{what}: {}", answer.text);
    let value = serde_json::from_str(&answer.text).unwrap_or_else(|e| panic!("{what}: {e}: {}", answer.text));
    assert!(jsonschema::is_valid(&schema(), &value), "{what}: {}", answer.text);
}

#[test]
fn random_weights_give_what_the_schema_allows_on_every_backend() {
    for name in MODELS {
        let tokenizer = tokenizer(name);
        let prompt = prompt(&tokenizer);
        for c in backends::all() {
            let mut session = open(name, (c.make)());
            for seed in 0..6 {
                let sampler = SamplerParams { repeat_penalty: 1.1, ..params(seed).sampler };
                let (answer, usage) =
                    run(&mut session, &tokenizer, &prompt, GenerateParams { sampler, ..params(seed) });
                check(&format!("{name} on {}, seed {seed}", c.name), &answer);
                assert_eq!(usage.completion_tokens, answer.tokens.len());
            }
        }
    }
}

/// The CPU computes a row alike in every step.
fn cpu() -> Box<dyn Backend> {
    Box::new(Cpu::new(1))
}

#[test]
fn a_batch_gives_what_each_gives_alone() {
    for name in MODELS {
        let tokenizer = tokenizer(name);
        let prompt = prompt(&tokenizer);
        let mut session = open(name, cpu());
        let free = GenerateParams { grammar: None, max_tokens: Some(30), ..params(9) };
        let all = [params(1), params(2), free, GenerateParams { logprobs: Some(1), ..params(3) }];
        let want: Vec<_> = all.iter().map(|p| run(&mut session, &tokenizer, &prompt, p.clone()).0).collect();
        let mut engine = open(name, cpu()).into_engine();
        let mut batch = Batch::default();
        let ids: Vec<_> =
            all.into_iter().map(|p| batch.add(&mut engine, &tokenizer, &prompt, p, 0.0).unwrap()).collect();
        let bad = GenerateParams { grammar: Some(GrammarSource::Regex("(".into())), ..params(4) };
        let e = batch.add(&mut engine, &tokenizer, &prompt, bad, 0.0).unwrap_err();
        assert_eq!((e.kind(), batch.len()), (ErrorKind::BadGrammar, 4), "and the others go on");
        let mut got = vec![Vec::new(); 4];
        while !batch.is_empty() {
            for (id, event) in block_on(batch.next(&mut engine, &tokenizer, &|| 0.0)).unwrap() {
                if let Event::Token { id: token, .. } = event.unwrap() {
                    got[ids.iter().position(|i| *i == id).unwrap()].push(token);
                }
            }
        }
        for (got, want) in got.iter().zip(&want) {
            assert_eq!(*got, want.tokens, "{name}");
        }
    }
}

#[test]
fn speculation_changes_no_token() {
    let tokenizer = tokenizer("qwen35_mtp");
    let prompt = tokenizer.encode(REPEATS, EncodeOptions::default()).unwrap();
    let mut drafted = 0;
    for seed in 0..8 {
        let plain = run(&mut open("qwen35_mtp", cpu()), &tokenizer, &prompt, params(seed)).0;
        check("plain", &plain);
        for proposer in [ProposerName::Lookup, ProposerName::Mtp] {
            let speculate = Some(SpeculateParams { proposer, max_draft: None });
            let mut session = open("qwen35_mtp", cpu());
            let (answer, usage) = run(&mut session, &tokenizer, &prompt, GenerateParams { speculate, ..params(seed) });
            assert_eq!(answer, plain, "{proposer:?}, seed {seed}");
            drafted += usage.speculated.drafted;
        }
    }
    assert!(drafted > 0, "nothing was proposed that the grammar lets through");
}

#[test]
fn tokens_that_must_come_run_in_one_step() {
    for name in MODELS {
        let tokenizer = tokenizer(name);
        let prompt = prompt(&tokenizer);
        let mut session = open(name, cpu());
        let (answer, _) = run(&mut session, &tokenizer, &prompt, params(5));
        let steps = session.backend().counters().steps as usize;
        // With log-probabilities each token has its step. Both choose the same.
        let mut session = open(name, cpu());
        let (one_by_one, _) = run(&mut session, &tokenizer, &prompt, GenerateParams { logprobs: Some(0), ..params(5) });
        let more = session.backend().counters().steps as usize;
        assert_eq!(answer, one_by_one, "{name}");
        assert!(more >= answer.tokens.len(), "{name}: {more} steps");
        println!("{name}: {} tokens in {steps} and {more} steps", answer.tokens.len());
        if name != "gemma3" {
            assert!(steps + 8 < more, "{name}: {steps} and {more} steps");
        }
    }
}

#[test]
fn the_gpu_chooses_under_a_mask_and_no_logits_come_back() {
    if !gpu_wanted() {
        return;
    }
    for name in MODELS {
        let tokenizer = tokenizer(name);
        let prompt = prompt(&tokenizer);
        for (software, top_k) in [(true, 0), (false, 20)] {
            let make = || Box::new(gpu(GpuOptions { software: Some(software), ..GpuOptions::default() }));
            let of = |logprobs| {
                let sampler = SamplerParams { top_k, ..params(7).sampler };
                GenerateParams { sampler, logprobs, ..params(7) }
            };
            let mut session = open(name, make());
            let (answer, _) = run(&mut session, &tokenizer, &prompt, of(None));
            check(name, &answer);
            let c = session.backend().counters();
            assert!(c.bytes_read <= 4 * answer.tokens.len() as u64, "{name}: {c:?}");
            assert_eq!(c.in_flight, 1, "{name}: {c:?}");
            // With log-probabilities the host chooses, from the same logits.
            let mut session = open(name, make());
            let on_host = run(&mut session, &tokenizer, &prompt, of(Some(0))).0;
            assert_eq!(answer, on_host, "{name}, software kernels: {software}, top-k {top_k}");
            assert!(session.backend().counters().bytes_read > 1000 * answer.tokens.len() as u64);
        }
    }
}

#[test]
fn the_gpu_chooses_rows_of_drafts_under_masks_and_no_logits_come_back() {
    if !gpu_wanted() {
        return;
    }
    let tokenizer = tokenizer("qwen35_mtp");
    let prompt = tokenizer.encode(REPEATS, EncodeOptions::default()).unwrap();
    for software in [true, false] {
        let make =
            || open("qwen35_mtp", Box::new(gpu(GpuOptions { software: Some(software), ..GpuOptions::default() })));
        for proposer in [ProposerName::Lookup, ProposerName::Mtp] {
            let speculate = Some(SpeculateParams { proposer, max_draft: None });
            let mut drafted = 0;
            for seed in 0..4 {
                let mut session = make();
                let params = GenerateParams { speculate, ..params(seed) };
                let (answer, usage) = run(&mut session, &tokenizer, &prompt, params.clone());
                check(&format!("{proposer:?}, seed {seed}"), &answer);
                drafted += usage.speculated.drafted;
                // Eight bytes of each row, and four of each token that the block proposes.
                let most = 8 * (answer.tokens.len() + usage.speculated.drafted) + 4 * 4 * usage.speculated.steps;
                let c = session.backend().counters();
                assert!(c.bytes_read <= most as u64, "{proposer:?}: {} bytes, at most {most}", c.bytes_read);
                // With log-probabilities the host chooses.
                let on_host = run(&mut make(), &tokenizer, &prompt, GenerateParams { logprobs: Some(0), ..params }).0;
                assert_eq!(answer, on_host, "{proposer:?}, seed {seed}, software kernels: {software}");
            }
            assert!(drafted > 0, "{proposer:?} proposed nothing that the grammar lets through");
        }
    }
}

#[test]
fn the_gpu_chooses_for_a_batch_under_masks_and_no_logits_come_back() {
    if !gpu_wanted() {
        return;
    }
    let tokenizer = tokenizer("llama");
    let prompt = prompt(&tokenizer);
    for software in [true, false] {
        let mut engine = open("llama", Box::new(gpu(GpuOptions { software: Some(software), ..GpuOptions::default() })))
            .into_engine();
        let mut batch = Batch::default();
        let free = GenerateParams { grammar: None, ignore_eos: true, max_tokens: Some(30), ..params(9) };
        for params in [params(1), free, params(2)] {
            batch.add(&mut engine, &tokenizer, &prompt, params, 0.0).unwrap();
        }
        let (mut answers, mut tokens) = (vec![String::new(); 3], 0);
        while !batch.is_empty() {
            for (id, event) in block_on(batch.next(&mut engine, &tokenizer, &|| 0.0)).unwrap() {
                if let Event::Token { text, .. } | Event::Done { text, .. } = event.unwrap() {
                    answers[id as usize - 1] += &text;
                    tokens += 1;
                }
            }
        }
        for answer in [&answers[0], &answers[2]] {
            let value = serde_json::from_str(answer).unwrap_or_else(|e| panic!("{e}: {answer}"));
            assert!(jsonschema::is_valid(&schema(), &value), "{answer}");
        }
        let c = engine.backend().counters();
        assert!(c.bytes_read <= 8 * tokens, "{} bytes for {tokens} tokens", c.bytes_read);
    }
}

#[test]
fn a_generation_without_a_grammar_goes_on_as_before_after_one_with() {
    let tokenizer = tokenizer("llama");
    let prompt = prompt(&tokenizer);
    for c in backends::all() {
        let free = GenerateParams { grammar: None, max_tokens: Some(20), ignore_eos: true, ..params(3) };
        let want = run(&mut open("llama", (c.make)()), &tokenizer, &prompt, free.clone()).0;
        let mut session = open("llama", (c.make)());
        run(&mut session, &tokenizer, &prompt, params(1));
        assert_eq!(run(&mut session, &tokenizer, &prompt, free).0, want, "{}", c.name);
    }
}

#[test]
fn log_probabilities_are_those_of_the_model_itself() {
    let tokenizer = tokenizer("llama");
    let prompt = prompt(&tokenizer);
    let first = |grammar| {
        let mut session = open("llama", cpu());
        let params = GenerateParams { grammar, logprobs: Some(20), max_tokens: Some(1), ..params(2) };
        let mut g = Generation::new(&mut session, &tokenizer, &prompt, params, 0.0).unwrap();
        loop {
            match block_on(g.next(&mut session, &tokenizer, &|| 0.0)).unwrap() {
                Some(Event::Token { id, logprobs, .. }) => return (id, logprobs.unwrap()),
                other => assert!(matches!(other, Some(Event::Prefill { .. })), "{other:?}"),
            }
        }
    };
    let (_, free) = first(None);
    let (id, bound) = first(Some(GrammarSource::JsonObject));
    assert_eq!(tokenizer.piece(id, false), Some(&b"{"[..]));
    assert_eq!(free.top, bound.top);
    assert!(bound.logprob < -1.0, "random weights do not expect a brace: {}", bound.logprob);
}

#[test]
fn what_cannot_be_met_is_refused_before_anything_runs() {
    let tokenizer = tokenizer("llama");
    let mut session = open("llama", cpu());
    let prompt = prompt(&tokenizer);
    let mut refused = |params: GenerateParams| {
        Generation::new(&mut session, &tokenizer, &prompt, params, 0.0).err().expect("is refused").kind()
    };
    let of = |source| GenerateParams { grammar: Some(source), ..params(0) };
    assert_eq!(refused(of(GrammarSource::JsonSchema(r#"{"enum":[]}"#.into()))), ErrorKind::BadGrammar);
    assert_eq!(refused(of(GrammarSource::JsonSchema(r#"{"not":{}}"#.into()))), ErrorKind::BadGrammar);
    assert_eq!(refused(GenerateParams { ignore_eos: true, ..params(0) }), ErrorKind::InvalidArgument);
    assert_eq!(session.backend().counters().steps, 0);
    // A bias that leaves none of the tokens that the grammar lets through.
    let brace = tokenizer.encode("{", EncodeOptions::default()).unwrap();
    let sampler = SamplerParams { logit_bias: vec![(brace[0], f32::NEG_INFINITY)], ..SamplerParams::default() };
    let params = GenerateParams { sampler, logprobs: Some(0), ..params(0) };
    let mut g = Generation::new(&mut session, &tokenizer, &prompt, params, 0.0).unwrap();
    let e = loop {
        match block_on(g.next(&mut session, &tokenizer, &|| 0.0)) {
            Ok(event) => assert!(matches!(event, Some(Event::Prefill { .. })), "{event:?}"),
            Err(e) => break e,
        }
    };
    assert!(e.kind() == ErrorKind::DegenerateLogits && e.detail().contains("grammar"), "{e}");
}

#[test]
fn an_answer_that_is_cut_is_the_start_of_one() {
    let tokenizer = tokenizer("llama");
    let prompt = prompt(&tokenizer);
    let whole = run(&mut open("llama", cpu()), &tokenizer, &prompt, params(4)).0;
    for n in 0..whole.tokens.len() {
        let (cut, usage) =
            run(&mut open("llama", cpu()), &tokenizer, &prompt, GenerateParams { max_tokens: Some(n), ..params(4) });
        assert_eq!((&cut.tokens[..], cut.reason), (&whole.tokens[..n], StopReason::MaxTokens), "{n} tokens");
        assert_eq!(usage.completion_tokens, n);
    }
    let all = GenerateParams { max_tokens: Some(whole.tokens.len()), ..params(4) };
    assert_eq!(run(&mut open("llama", cpu()), &tokenizer, &prompt, all).0, whole);
    for n_ctx in prompt.len()..prompt.len() + whole.tokens.len() - 1 {
        let options = Options { n_ctx: Some(n_ctx), cache: None, ..OPTIONS };
        let mut session = golden::open(&golden::load("llama").1, cpu(), options).unwrap();
        let n = session.limits().n_ctx + 1 - prompt.len();
        let cut = run(&mut session, &tokenizer, &prompt, params(4)).0;
        if n < whole.tokens.len() {
            assert_eq!((&cut.tokens[..], cut.reason), (&whole.tokens[..n], StopReason::ContextFull), "{n_ctx}");
        }
    }
}

#[test]
fn a_dropped_step_changes_no_token() {
    let tokenizer = tokenizer("llama");
    let prompt = prompt(&tokenizer);
    let want = run(&mut open("llama", Box::new(Reference::new())), &tokenizer, &prompt, params(6)).0;
    let mut session = open("llama", Box::new(Faulty::new(Reference::new()).slow()));
    let mut g = Generation::new(&mut session, &tokenizer, &prompt, params(6), 0.0).unwrap();
    let mut dropped = 0;
    loop {
        {
            let mut first = pin!(g.next(&mut session, &tokenizer, &|| 0.0));
            if let std::task::Poll::Ready(event) = first.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                if matches!(event.unwrap().unwrap(), Event::Done { .. }) {
                    break;
                }
                continue;
            }
        }
        dropped += 1;
        if matches!(block_on(g.next(&mut session, &tokenizer, &|| 0.0)).unwrap(), Some(Event::Done { .. })) {
            break;
        }
    }
    assert!(dropped > 10, "{dropped}");
    assert_eq!(g.generated(), want.tokens);
}
