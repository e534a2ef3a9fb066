//! `/v1/rerank`.

use pagelm::DType;
use pagelm::api::{Api, Job, Names};
use pagelm::backend::cpu::Cpu;
use pagelm::engine::{EmbedParams, Options, Pooling};
use pagelm::gguf::Gguf;
use pagelm::text::{EncodeOptions, Tokenizer};
use pollster::block_on;
use serde_json::{Value, json};

use super::{Model, open_with};
use crate::common::gguf_writer::GgufWriter;
use crate::common::rng::Rng;
use crate::common::{fixtures, golden};

const PATH: &str = "/v1/rerank";
const OPTIONS: Options = Options { n_ctx: Some(64), sequences: 2, ..Options::DEFAULT };

fn run(model: &mut Model, body: &Value) -> Value {
    let Job::Embed(embed) = model.accept(PATH, body).unwrap().job else { panic!("it embeds") };
    let texts: Vec<_> = embed.texts.iter().map(Vec::as_slice).collect();
    let vectors = block_on(model.engine.embed(&texts, &embed.params)).unwrap();
    let answer: Value = serde_json::from_str(&embed.body(&vectors)).unwrap();
    assert_eq!(answer["usage"], json!({ "prompt_tokens": embed.tokens(), "total_tokens": embed.tokens() }));
    answer
}

/// Indexes and scores, in their order.
fn ranks(answer: &Value) -> Vec<(usize, f32)> {
    let of = |r: &Value| (r["index"].as_u64().unwrap() as usize, r["relevance_score"].as_f64().unwrap() as f32);
    answer["results"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn documents_come_in_the_order_of_their_cosines() {
    let mut model = open_with("gemma-embedding", None, |_| {}, Options { embeddings: Some(true), ..OPTIONS });
    let documents = ["a dog", "Hello", "<bos> x", "Hello you"];
    let body = json!({ "model": "tiny", "query": "Hello", "documents": documents });
    let answer = run(&mut model, &body);
    assert_eq!((&answer["object"], &answer["model"]), (&"list".into(), &"tiny".into()));
    let ids = |text| model.tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: false }).unwrap();
    let texts: Vec<_> = ["Hello"].into_iter().chain(documents).map(ids).collect();
    let texts: Vec<_> = texts.iter().map(Vec::as_slice).collect();
    let vectors = block_on(model.engine.embed(&texts, &EmbedParams::default())).unwrap();
    let cosine = |i: usize| vectors[0].iter().zip(&vectors[i + 1]).map(|(a, b)| a * b).sum::<f32>();
    let mut want: Vec<_> = (0..documents.len()).map(|i| (i, cosine(i))).collect();
    want.sort_by(|a, b| b.1.total_cmp(&a.1));
    assert_eq!(ranks(&answer), want);
    assert!(want[0].0 == 1 && (want[0].1 - 1.0).abs() < 1e-5, "the same text is the best: {want:?}");
    assert_eq!(answer["results"][0].get("document"), None);
    let best = json!({
        "query": "Hello", "documents": [{ "text": "a dog" }, { "text": "Hello" }], "top_n": 1, "return_documents": true
    });
    let results = &run(&mut model, &best)["results"];
    assert_eq!(results.as_array().unwrap().len(), 1);
    assert_eq!((&results[0]["index"], &results[0]["document"]), (&json!(1), &json!({ "text": "Hello" })));
    for (wrong, param) in [
        (json!({ "documents": ["a"] }), "query"),
        (json!({ "query": "a" }), "documents"),
        (json!({ "query": "a", "documents": [] }), "documents"),
        (json!({ "query": "a", "documents": "b" }), "documents"),
        (json!({ "query": 3, "documents": ["b"] }), "query"),
        (json!({ "query": "a", "documents": ["b", 3] }), "documents[1]"),
        (json!({ "query": "a", "documents": [{ "title": "b" }] }), "documents[0].text"),
        (json!({ "query": "a", "documents": ["b"], "top_n": 0 }), "top_n"),
    ] {
        let refused = model.refused(PATH, &wrong);
        assert_eq!(refused.param.as_deref(), Some(param), "{wrong}");
        assert!(!refused.message.contains("token ids"), "{}", refused.message);
    }
}

const TEMPLATE: &str = "Does {document} answer {query}? \"yes\" or {no}\n";

/// A fixture with a classifier of so many classes.
fn ranking(classes: usize, template: Option<&str>) -> Vec<u8> {
    let file = fixtures::bytes("golden/qwen3.gguf");
    let gguf = Gguf::parse(&file).unwrap();
    let mut w = gguf.meta.iter().fold(GgufWriter::new(), |w, (key, value)| w.kv(key, value.clone()));
    w = w.u32("qwen3.pooling_type", 4);
    if let Some(template) = template {
        w = w.string("tokenizer.chat_template.rerank", template);
    }
    for t in &gguf.tensors {
        w = w.tensor(&t.name, t.dtype, &t.dims, &file[t.offset as usize..][..t.len as usize]);
    }
    let columns = gguf.meta.u32("qwen3.embedding_length").unwrap() as usize;
    let mut rng = Rng::named("classifier");
    let bytes: Vec<u8> = (0..classes * columns).flat_map(|_| rng.range(-1.0, 1.0).to_le_bytes()).collect();
    match classes {
        0 => w.finish(),
        _ => w.tensor("cls.output.weight", DType::F32, &[columns as u64, classes as u64], &bytes).finish(),
    }
}

fn open(file: &[u8]) -> Model {
    let meta = Gguf::parse(file).unwrap().meta;
    let tokenizer = std::sync::Arc::new(Tokenizer::from_gguf(&meta).unwrap());
    let api = Api::new(&meta, tokenizer.clone(), Names::Any("tiny".to_string()), 1_600_000_000).unwrap();
    let engine = golden::open(file, Box::new(Cpu::new(1)), OPTIONS).unwrap().into_engine();
    Model { api, tokenizer, engine }
}

#[test]
fn a_model_that_ranks_reads_each_document_with_the_query() {
    let file = ranking(2, Some(TEMPLATE));
    let mut model = open(&file);
    let documents = ["a dog", "{query}", "<|im_end|>"];
    let body = json!({ "query": "who?", "documents": documents });
    let answer = run(&mut model, &body);
    // The classifier over the hidden states of the file without it.
    let gguf = Gguf::parse(&file).unwrap();
    let w = gguf.tensors.iter().find(|t| t.name == "cls.output.weight").unwrap();
    let w: Vec<f32> = bytemuck::pod_collect_to_vec(&file[w.offset as usize..][..w.len as usize]);
    let plain = fixtures::bytes("golden/qwen3.gguf");
    let options = Options { embeddings: Some(true), ..OPTIONS };
    let mut plain = golden::open(&plain, Box::new(Cpu::new(1)), options).unwrap();
    let last = EmbedParams { pooling: Some(Pooling::Last), normalize: false, dimensions: None };
    let score = |document: &str| {
        // What is in braces and neither of both is text, as is all of a document.
        let text = format!("Does {document} answer who?? \"yes\" or {{no}}\n");
        let ids = model.tokenizer.encode(&text, EncodeOptions { add_special: true, parse_special: false }).unwrap();
        let hidden = block_on(plain.engine().embed(&[&ids], &last)).unwrap().remove(0);
        let [yes, no] = [0, 1].map(|c| {
            let row = &w[c * hidden.len()..][..hidden.len()];
            row.iter().zip(&hidden).map(|(a, b)| f64::from(a * b)).sum::<f64>()
        });
        1.0 / (1.0 + (no - yes).exp())
    };
    let want: Vec<f64> = documents.into_iter().map(score).collect();
    for (index, got) in ranks(&answer) {
        // Activations of 8 bits are not used here: only the order of sums differs.
        assert!((f64::from(got) - want[index]).abs() < 1e-4, "{index}: {got}, {want:?}");
    }
    let order: Vec<_> = ranks(&answer).iter().map(|r| r.1).collect();
    assert!(order.len() == 3 && order.is_sorted_by(|a, b| a >= b));
    let refused = model.refused("/v1/embeddings", &json!({ "input": "a" }));
    assert!(refused.message.contains("/v1/rerank"), "{}", refused.message);
    let pooled = EmbedParams { pooling: Some(Pooling::Mean), ..EmbedParams::default() };
    assert!(block_on(model.engine.embed(&[&[1, 2]], &pooled)).is_err());
    // A single class has its score as it is.
    let single = ranks(&run(&mut open(&ranking(1, Some(TEMPLATE))), &body));
    assert!(single.iter().any(|r| !(0.0..=1.0).contains(&r.1)), "{single:?}");
}

#[test]
fn a_file_that_lacks_a_part_of_ranking_is_refused() {
    let error = golden::open(&ranking(0, Some(TEMPLATE)), Box::new(Cpu::new(1)), OPTIONS).err().unwrap();
    assert_eq!(error.kind(), pagelm::ErrorKind::MissingTensor, "{error}");
    let refused = open(&ranking(2, None)).refused(PATH, &json!({ "query": "a", "documents": ["b"] }));
    assert!(refused.message.contains("tokenizer.chat_template.rerank"), "{}", refused.message);
}
