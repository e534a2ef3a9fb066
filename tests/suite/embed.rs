//! Embeddings: the last hidden states, against another implementation and against each other.

use pagelm::ErrorKind;
use pagelm::backend::cpu::Cpu;
use pagelm::backend::reference::Reference;
use pagelm::engine::{Batch, EmbedParams, Engine, GenerateParams, Generation, Model, Options, Pooling, Session};
use pagelm::gguf::{Gguf, Value};
use pagelm::text::Tokenizer;
use pollster::block_on;

use super::golden::FIXTURES;
use crate::common::backends::{self, Candidate};
use crate::common::fixtures;
use crate::common::golden::{self, max_diff};

const OPTIONS: Options = Options { n_ctx: Some(96), max_tokens: 16, embeddings: Some(true), ..Options::DEFAULT };

/// One vector for each token, as they are.
const ROWS: EmbedParams = EmbedParams { pooling: Some(Pooling::None), normalize: false, dimensions: None };

fn everywhere() -> Vec<Candidate> {
    let reference = Candidate { name: "reference", make: || Box::new(Reference::new()), slack: 1.0 };
    backends::all().into_iter().chain([reference]).collect()
}

fn open(name: &str, options: Options) -> Engine {
    let file = fixtures::bytes(&format!("golden/{name}.gguf"));
    golden::open(&file, Box::new(Cpu::new(2)), options).unwrap().into_engine()
}

fn embed(engine: &mut Engine, texts: &[&[u32]], params: &EmbedParams) -> Vec<Vec<f32>> {
    block_on(engine.embed(texts, params)).unwrap()
}

fn code(result: pagelm::Result<Vec<Vec<f32>>>) -> ErrorKind {
    result.expect_err("it was refused").kind()
}

#[test]
fn every_architecture_gives_the_last_hidden_states_of_the_reference() {
    for name in FIXTURES {
        let (numbers, file) = golden::load(name);
        let prompt = &numbers.prompts[0];
        let want = &prompt.hidden.as_ref().expect("the first prompt has hidden states").norm.data;
        let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
        for c in everywhere() {
            let mut session = golden::open(&file, (c.make)(), OPTIONS).unwrap();
            let got = embed(session.engine(), &[&prompt.ids], &ROWS);
            // Those of hidden states in the tests of whole models; a GPU's exp, sin and tanh are looser.
            let most = largest * if c.name.starts_with("webgpu") { 5e-4 } else { 1e-4 };
            let diff = max_diff(&got[0], want);
            assert!(diff <= most, "{name} on {}: off by {diff:e}, more than {most:e}", c.name);
        }
    }
}

#[test]
fn a_model_whose_tokens_see_both_ways_gives_the_vectors_of_the_reference() {
    let numbers = fixtures::json("golden/gemma-embedding.json");
    let file = fixtures::bytes("golden/gemma-embedding.gguf");
    for c in everywhere() {
        // The file says how to pool, and that is enough.
        let options = Options { embeddings: None, ..OPTIONS };
        let mut session = golden::open(&file, (c.make)(), options).unwrap();
        for prompt in numbers["prompts"].as_array().unwrap() {
            let ids: Vec<u32> = serde_json::from_value(prompt["ids"].clone()).unwrap();
            let want: Vec<f32> = serde_json::from_value(prompt["embedding"]["data"].clone()).unwrap();
            let got = embed(session.engine(), &[&ids], &EmbedParams::default());
            // Of vectors with a length of 1: a tenth of what logits of about 8 may be off by.
            let most = if c.name.starts_with("webgpu") { 2e-4 } else { 3e-5 };
            let diff = max_diff(&got[0], &want);
            assert!(diff <= most, "{} tokens on {}: off by {diff:e}", ids.len(), c.name);
        }
    }
}

#[test]
fn texts_that_share_steps_have_the_vectors_that_they_have_alone() {
    // Full attention, windows, recurrent states, experts, and attention to both sides.
    for name in ["llama", "gemma3", "qwen35", "qwen3moe", "gemma-embedding"] {
        let mut engine = open(name, OPTIONS);
        // More than a step has room for, some longer than a step, some alike.
        let texts = (0..40).map(|i| (0..1 + i * 7 % 41).map(|j| (3 + i % 5 * 11 + j) % 300).collect());
        let texts: Vec<_> = texts.collect();
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        for pooling in [Pooling::None, Pooling::Mean, Pooling::Cls, Pooling::Last] {
            let params = EmbedParams { pooling: Some(pooling), ..ROWS };
            let together = embed(&mut engine, &texts, &params);
            for (i, text) in texts.iter().enumerate() {
                let rows = embed(&mut engine, &[text], &ROWS).remove(0);
                let dims = engine.embedding_length().unwrap();
                assert_eq!(rows.len(), text.len() * dims);
                let rows: Vec<&[f32]> = rows.chunks_exact(dims).collect();
                let mean = |c| rows.iter().map(|r| r[c]).sum::<f32>() / rows.len() as f32;
                let want = match pooling {
                    Pooling::None => rows.concat(),
                    Pooling::Mean => (0..dims).map(mean).collect(),
                    Pooling::Cls => rows[0].to_vec(),
                    Pooling::Last | Pooling::Rank => rows[rows.len() - 1].to_vec(),
                };
                assert_eq!(together[i], want, "{name}: text {i} by {pooling:?}");
            }
        }
        assert_eq!(engine.held(), ([0, 0], 0), "{name}: nothing of a text is kept");
    }
}

#[test]
fn vectors_have_the_length_and_the_dimensions_that_were_asked_for() {
    let mut engine = open("qwen3", OPTIONS);
    let text: &[u32] = &[5, 9, 200, 31];
    assert_eq!(engine.pooling(), Some(Pooling::Last), "the last token has seen all of the text");
    let plain = embed(&mut engine, &[text], &EmbedParams { pooling: Some(Pooling::Last), ..ROWS }).remove(0);
    let unit = embed(&mut engine, &[text], &EmbedParams::default()).remove(0);
    let norm = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
    assert!((norm(&unit) - 1.0).abs() < 1e-6 && norm(&plain) > 2.0);
    let short = embed(&mut engine, &[text], &EmbedParams { dimensions: Some(10), ..EmbedParams::default() }).remove(0);
    let want: Vec<f32> = plain[..10].iter().map(|x| x / norm(&plain[..10])).collect();
    assert!(max_diff(&short, &want) < 1e-6, "cut first, then normalised");
    assert!(embed(&mut engine, &[], &EmbedParams::default()).is_empty());
}

#[test]
fn a_text_that_cannot_run_is_refused_before_any_runs() {
    let mut engine = open("qwen3", OPTIONS);
    let steps = engine.backend().counters().steps;
    let long = [7; 97];
    for (texts, want) in [
        (&[&[1u32, 2][..], &[]][..], ErrorKind::EmptyPrompt),
        (&[&[1, 2], &[9999]], ErrorKind::TokenOutOfRange),
        (&[&[1, 2], &long], ErrorKind::ContextOverflow),
    ] {
        let error = block_on(engine.embed(texts, &EmbedParams::default())).unwrap_err();
        assert_eq!(error.kind(), want);
        assert!(error.to_string().contains("text 1"), "{error}");
    }
    for dimensions in [0, 65] {
        let params = EmbedParams { dimensions: Some(dimensions), ..EmbedParams::default() };
        assert_eq!(code(block_on(engine.embed(&[&[1]], &params))), ErrorKind::InvalidArgument);
    }
    assert_eq!(engine.backend().counters().steps, steps);
    // Where each token sees all others, the context is a step.
    let mut engine = open("gemma-embedding", Options { n_ctx: Some(20), ..OPTIONS });
    assert_eq!(embed(&mut engine, &[&[4; 20]], &EmbedParams::default()).len(), 1);
    assert_eq!(code(block_on(engine.embed(&[&[4; 21]], &EmbedParams::default()))), ErrorKind::ContextOverflow);
}

#[test]
fn a_model_generates_or_makes_embeddings_as_it_was_opened() {
    let (_, file) = golden::load("qwen3");
    let tokenizer = Tokenizer::from_gguf(&Gguf::parse(&file).unwrap().meta).unwrap();
    let session = |embeddings| golden::open(&file, Box::new(Cpu::new(1)), Options { embeddings, ..OPTIONS }).unwrap();
    let mut generates: Session = session(None);
    assert_eq!((generates.engine().embedding_length(), generates.engine().pooling()), (None, None));
    assert_eq!(code(block_on(generates.engine().embed(&[&[1]], &EmbedParams::default()))), ErrorKind::InvalidState);
    let mut embeds = session(Some(true));
    let params = || GenerateParams { max_tokens: Some(1), ..GenerateParams::default() };
    let refused = Generation::new(&mut embeds, &tokenizer, &[1], params(), 0.0).err().expect("it has no logits");
    assert_eq!(refused.kind(), ErrorKind::InvalidState);
    assert!(refused.to_string().contains("embeddings"), "{refused}");
    let refused = Batch::new(1).add(embeds.engine(), &tokenizer, &[1], params(), 0.0).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidState);
    // The head is not even loaded.
    let model = |embeddings| {
        let options = Options { embeddings: Some(embeddings), ..OPTIONS };
        Model::new(&Gguf::parse(&file).unwrap(), &|_| true, &options).unwrap().memory().weights
    };
    assert!(model(true) < model(false));
}

#[test]
fn the_file_says_how_to_pool() {
    let (_, file) = golden::load("qwen3");
    let gguf = Gguf::parse(&file).unwrap();
    let model = |value| {
        let mut gguf = gguf.clone();
        assert!(gguf.meta.insert("qwen3.pooling_type".into(), value));
        Model::new(&gguf, &|_| true, &Options { embeddings: None, ..OPTIONS })?
            .load(&gguf, &file, Box::new(Cpu::new(1)))
            .map(|mut session| session.engine().pooling())
    };
    for (value, want) in [
        (Value::Int(-1), None),
        (Value::Uint(0), None),
        (Value::Uint(1), Some(Pooling::Mean)),
        (Value::Uint(2), Some(Pooling::Cls)),
        (Value::Uint(3), Some(Pooling::Last)),
    ] {
        assert_eq!(model(value).unwrap(), want);
    }
    assert_eq!(model(Value::Uint(4)).unwrap_err().kind(), ErrorKind::MissingTensor, "a classifier");
    assert_eq!(model(Value::Uint(9)).unwrap_err().kind(), ErrorKind::BadConfig);
    let both = fixtures::bytes("golden/gemma-embedding.gguf");
    let refused = golden::open(&both, Box::new(Cpu::new(1)), Options { embeddings: Some(false), ..OPTIONS });
    assert_eq!(refused.err().expect("it cannot generate").kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_long_text_that_is_seen_both_ways_has_one_vector_on_every_backend() {
    let file = fixtures::bytes("golden/gemma-embedding.gguf");
    let text: Vec<u32> = (0..2048).map(|i| (i * 37 + i / 11) % 380).collect();
    let options = Options { n_ctx: Some(2048), ..OPTIONS };
    let vector = |c: &Candidate| {
        let mut session = golden::open(&file, (c.make)(), options).unwrap();
        embed(session.engine(), &[&text], &EmbedParams::default()).remove(0)
    };
    let all = backends::all();
    let want = vector(&all[0]);
    for c in &all[1..] {
        // Two implementations, of which one has a GPU's exp, sin and tanh: as for short texts.
        let diff = max_diff(&vector(c), &want);
        assert!(diff <= 2e-4, "{}: off by {diff:e}", c.name);
    }
}

#[test]
fn options_for_tokens_are_refused() {
    let file = fixtures::bytes("golden/qwen35_mtp.gguf");
    for options in [Options { mtp: true, ..OPTIONS }, Options { drafts: 2, ..OPTIONS }] {
        let refused = golden::open(&file, Box::new(Cpu::new(1)), options).err().expect("it would do nothing");
        assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
    }
}
