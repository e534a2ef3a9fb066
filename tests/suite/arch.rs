//! Descriptions: what is wrong with a file is found, and named, before a byte of weights is read.

use pagelm::arch::{self, Wanted};
use pagelm::backend::reference::Reference;
use pagelm::engine::{Model, Options};
use pagelm::gguf::{Gguf, Value};
use pagelm::{DType, Error, ErrorKind};

use crate::common::fixtures;
use crate::common::gguf_writer::GgufWriter;
use crate::common::unread::Unread;

/// A llama with one layer, in which some keys are other than they should be and some tensors are left out.
fn llama(keys: &[(&str, u32)], without: &[&str]) -> GgufWriter {
    let mut w = GgufWriter::new().string("general.architecture", "llama");
    let usual = [
        ("block_count", 1),
        ("context_length", 64),
        ("embedding_length", 8),
        ("feed_forward_length", 12),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
    ];
    for (key, value) in usual {
        let value = keys.iter().find(|(k, _)| *k == key).map_or(value, |(_, v)| *v);
        w = w.u32(&format!("llama.{key}"), value);
    }
    for (key, value) in keys.iter().filter(|(k, _)| usual.iter().all(|(u, _)| u != k)) {
        w = w.u32(&format!("llama.{key}"), *value);
    }
    w = w.f32("llama.attention.layer_norm_rms_epsilon", 1e-5);
    let tensors: [(&str, &[u64]); 11] = [
        ("token_embd.weight", &[8, 5]),
        ("output_norm.weight", &[8]),
        ("blk.0.attn_norm.weight", &[8]),
        ("blk.0.attn_q.weight", &[8, 8]),
        ("blk.0.attn_k.weight", &[8, 4]),
        ("blk.0.attn_v.weight", &[8, 4]),
        ("blk.0.attn_output.weight", &[8, 8]),
        ("blk.0.ffn_norm.weight", &[8]),
        ("blk.0.ffn_gate.weight", &[8, 12]),
        ("blk.0.ffn_up.weight", &[8, 12]),
        ("blk.0.ffn_down.weight", &[12, 8]),
    ];
    for (name, dims) in tensors.into_iter().filter(|(n, _)| !without.contains(n)) {
        let n: u64 = dims.iter().product();
        w = w.tensor(name, DType::F32, dims, &vec![0; 4 * n as usize]);
    }
    w
}

fn build(w: GgufWriter) -> Result<pagelm::graph::Graph, Error> {
    arch::build(&Gguf::parse(&w.finish()).unwrap(), &|_| true, Wanted::default())
}

fn refused(w: GgufWriter, kind: ErrorKind, parts: &[&str]) {
    let gguf = Gguf::parse(&w.finish()).unwrap();
    let model = Model::new(&gguf, &|_| true, &Options::default());
    let e = model.and_then(|m| m.load(&gguf, &Unread, Box::new(Reference::new()))).err().expect("must be refused");
    assert_eq!(e.kind(), kind, "{e}");
    parts.iter().for_each(|p| assert!(e.to_string().contains(p), "`{p}` is not in: {e}"));
}

#[test]
fn a_whole_file_is_described() {
    assert_eq!(build(llama(&[], &[])).unwrap().n_vocab(), 5);
}

#[test]
fn an_unknown_architecture_is_named_with_those_that_run() {
    let w = GgufWriter::new().string("general.architecture", "mamba");
    refused(w, ErrorKind::UnsupportedArchitecture, &["`mamba`", "llama"]);
}

#[test]
fn a_file_without_an_architecture_lacks_that_key() {
    refused(GgufWriter::new(), ErrorKind::MissingKey, &["general.architecture"]);
}

#[test]
fn all_missing_tensors_are_listed_at_once() {
    let w = llama(&[], &["blk.0.attn_k.weight", "output_norm.weight"]);
    refused(w, ErrorKind::MissingTensor, &["`blk.0.attn_k.weight`", "`output_norm.weight`"]);
}

#[test]
fn a_missing_key_is_named() {
    let w = GgufWriter::new().string("general.architecture", "llama");
    refused(w, ErrorKind::MissingKey, &["llama.embedding_length"]);
}

#[test]
fn a_key_of_another_type_is_named_with_the_type_that_it_must_have() {
    let w = GgufWriter::new().string("general.architecture", "llama").string("llama.embedding_length", "many");
    refused(w, ErrorKind::WrongKeyType, &["llama.embedding_length", "integer", "string"]);
}

#[test]
fn a_tensor_of_another_shape_is_named_with_both_shapes() {
    let w = llama(&[("feed_forward_length", 16)], &[]);
    refused(w, ErrorKind::BadTensor, &["`blk.0.ffn_up.weight`", "[8, 16]", "[8, 12]"]);
}

#[test]
fn sizes_that_cannot_be_meant_are_refused_with_their_key() {
    refused(llama(&[("attention.head_count", 0)], &[]), ErrorKind::BadConfig, &["attention.head_count"]);
    refused(llama(&[("attention.head_count", 3)], &[]), ErrorKind::BadConfig, &["must divide"]);
    refused(llama(&[("attention.head_count_kv", 3)], &[]), ErrorKind::BadConfig, &["head_count_kv", "must divide"]);
    refused(llama(&[("rope.dimension_count", 5)], &[]), ErrorKind::BadConfig, &["rope.dimension_count", "even"]);
    refused(llama(&[("attention.value_length", 2)], &[]), ErrorKind::BadConfig, &["value_length"]);
    refused(llama(&[("attention.key_length", 1 << 24)], &[]), ErrorKind::BadConfig, &["heads of"]);
    refused(llama(&[("embedding_length", u32::MAX)], &[]), ErrorKind::BadConfig, &["embedding_length"]);
}

#[test]
fn a_layer_count_beyond_the_tensors_is_refused_and_not_believed() {
    refused(llama(&[("block_count", 1 << 24)], &[]), ErrorKind::BadConfig, &["block_count", "tensors"]);
}

#[test]
fn a_rope_scaling_that_is_not_known_is_refused() {
    let w = llama(&[], &[]).string("llama.rope.scaling.type", "yarn");
    refused(w, ErrorKind::BadConfig, &["rope.scaling.type", "`yarn`"]);
}

#[test]
fn a_tensor_of_a_layer_that_nothing_reads_is_refused() {
    let w = llama(&[], &[]).tensor("blk.0.attn_q.bias", DType::F32, &[8], &[0; 32]);
    refused(w, ErrorKind::UnknownContent, &["`blk.0.attn_q.bias`"]);
}

#[test]
fn a_type_that_the_backend_lacks_is_refused_with_the_tensors_that_have_it() {
    let gguf = Gguf::parse(&llama(&[], &[]).finish()).unwrap();
    let model = Model::new(&gguf, &|d| d != DType::F32, &Options::default());
    let e = model.and_then(|m| m.load(&gguf, &Unread, Box::new(Reference::new()))).err().expect("must be refused");
    assert_eq!(e.kind(), ErrorKind::UnsupportedType);
    assert!(
        e.to_string().contains("unsupported tensor types: `blk.0.attn_k.weight` is F32, `blk.0.attn_output.weight`"),
        "{e}"
    );
}

#[test]
fn a_context_of_nothing_is_refused() {
    let gguf = Gguf::parse(&llama(&[], &[]).finish()).unwrap();
    let e = Model::new(&gguf, &|_| true, &Options { n_ctx: Some(0), ..Options::default() }).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn the_default_context_is_the_trained_one_up_to_4096() {
    for (trained, want) in [(64, 64), (1 << 20, 4096)] {
        let gguf = Gguf::parse(&llama(&[("context_length", trained)], &[]).finish()).unwrap();
        assert_eq!(Model::new(&gguf, &|_| true, &Options::default()).unwrap().limits.n_ctx, want);
    }
}

#[test]
fn absurd_metadata_of_every_kind_gives_an_error_or_a_graph_and_never_a_panic() {
    let values = [
        Value::Uint(0),
        Value::Uint(u64::MAX),
        Value::Int(-1),
        Value::Float(f64::NAN),
        Value::Float(-1e38),
        Value::Bool(true),
        Value::String(String::new()),
    ];
    let file = fixtures::bytes("golden/llama.gguf");
    let whole = Gguf::parse(&file).unwrap();
    let keys: Vec<String> = whole.meta.iter().map(|(k, _)| k.to_string()).collect();
    let mut refusals = 0;
    for key in &keys {
        for value in &values {
            let mut gguf = whole.clone();
            gguf.meta = Default::default();
            for (k, v) in whole.meta.iter() {
                gguf.meta.insert(k.to_string(), if k == key { value.clone() } else { v.clone() });
            }
            refusals += usize::from(Model::new(&gguf, &|_| true, &Options::default()).is_err());
        }
    }
    assert!(refusals > 40, "only {refusals} were refused");
}

/// Run with UPDATE_GOLDEN=1 to write the dumps anew; look at what changed before committing it.
#[test]
fn graphs_are_those_that_were_looked_at() {
    for (name, _) in arch::REGISTRY {
        let file = fixtures::bytes(&format!("golden/{name}.gguf"));
        let graph = arch::build(&Gguf::parse(&file).unwrap(), &|_| true, Wanted::default()).unwrap();
        let path = format!("{}/tests/golden/graph/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        let text = graph.to_string();
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let want = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}; set UPDATE_GOLDEN=1"));
        assert_eq!(text, want, "the graph of {name} is another than in {path}");
    }
}
