//! Keys and tensors that change what a model computes are used as llama.cpp uses them, or refused by name.

mod files;

use pagelm::arch::{self, Wanted};
use pagelm::backend::reference::Reference;
use pagelm::engine::{Model, Options};
use pagelm::gguf::{Array, Gguf, Meta, Strings, TensorInfo, Value};
use pagelm::graph::Graph;
use pagelm::{DType, Error, ErrorKind};
use pollster::block_on;

use crate::common::fixtures;
use crate::common::gguf_writer::GgufWriter;
use crate::common::golden::max_diff;

fn file(name: &str) -> Vec<u8> {
    fixtures::bytes(&format!("golden/{name}.gguf"))
}

fn golden(name: &str) -> Gguf {
    Gguf::parse(&file(name)).unwrap()
}

/// The same header with these keys set; `None` takes one out.
fn with(gguf: &Gguf, changes: &[(&str, Option<Value>)]) -> Gguf {
    let mut meta = Meta::default();
    for (key, value) in changes {
        value.iter().for_each(|v| assert!(meta.insert(key.to_string(), v.clone())));
    }
    for (key, value) in gguf.meta.iter().filter(|(k, _)| changes.iter().all(|(c, _)| c != k)) {
        meta.insert(key.to_string(), value.clone());
    }
    Gguf { meta, ..gguf.clone() }
}

fn with_tensors(gguf: &Gguf, names: &[&str]) -> Gguf {
    let mut out = gguf.clone();
    let first = out.tensors[0].clone();
    let like =
        |name: &&str| TensorInfo { name: name.to_string(), dtype: DType::F32, dims: vec![4], len: 16, ..first.clone() };
    out.tensors.extend(names.iter().map(like));
    out
}

fn build(gguf: &Gguf) -> Result<Graph, Error> {
    arch::build(gguf, &|_| true, Wanted::default())
}

fn graph(gguf: &Gguf) -> String {
    build(gguf).unwrap().to_string()
}

fn refused(gguf: &Gguf, kind: ErrorKind, parts: &[&str]) {
    let e = build(gguf).err().unwrap_or_else(|| panic!("accepted though it has {parts:?}"));
    assert_eq!(e.kind(), kind, "{e}");
    parts.iter().for_each(|p| assert!(e.to_string().contains(p), "`{p}` is not in: {e}"));
}

fn logits(name: &str, gguf: &Gguf) -> Vec<f32> {
    let model = Model::new(gguf, &|_| true, &Options { n_ctx: Some(16), ..Options::default() }).unwrap();
    let mut session = model.load(gguf, &file(name), Box::new(Reference::new())).unwrap();
    block_on(session.prefill(&[3, 1, 4, 1, 5, 9, 2, 6])).unwrap().to_vec()
}

const fn float(v: f64) -> Option<Value> {
    Some(Value::Float(v))
}

const fn uint(v: u64) -> Option<Value> {
    Some(Value::Uint(v))
}

fn string(v: &str) -> Option<Value> {
    Some(Value::String(v.to_string()))
}

#[test]
fn a_factor_of_the_rotation_without_a_type_is_linear_under_its_old_name_too() {
    let plain = golden("llama");
    let ty = |name| ("llama.rope.scaling.type", string(name));
    let factor = |v| ("llama.rope.scaling.factor", float(v));
    let old = |v| ("llama.rope.scale_linear", float(v));
    let linear = with(&plain, &[ty("linear"), factor(4.0)]);
    let (without, scaled) = (logits("llama", &plain), logits("llama", &linear));
    assert!(max_diff(&without, &scaled) > 0.1, "the factor must change the logits of this file");
    for changes in [vec![factor(4.0)], vec![old(4.0)], vec![ty("linear"), old(4.0)], vec![factor(4.0), old(2.0)]] {
        let altered = with(&plain, &changes);
        assert_eq!(graph(&altered), graph(&linear), "{changes:?}");
        assert_eq!(logits("llama", &altered), scaled, "{changes:?}");
    }
    for changes in
        [vec![ty("none"), factor(4.0)], vec![factor(0.0)], vec![factor(1.0)], vec![old(0.0)], vec![ty("linear")]]
    {
        assert_eq!(graph(&with(&plain, &changes)), graph(&plain), "{changes:?}");
    }
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        refused(&with(&plain, &[factor(bad)]), ErrorKind::BadConfig, &["llama.rope.scaling.factor"]);
        refused(&with(&plain, &[old(bad)]), ErrorKind::BadConfig, &["llama.rope.scale_linear"]);
    }
}

#[test]
fn gemma2_without_caps_or_window_has_those_that_all_of_its_models_have() {
    let plain = golden("gemma2");
    let keys = ["gemma2.attn_logit_softcapping", "gemma2.final_logit_softcapping", "gemma2.attention.sliding_window"];
    let usual = with(&plain, &[(keys[0], float(50.0)), (keys[1], float(30.0)), (keys[2], uint(4096))]);
    let early = with(&plain, &keys.map(|key| (key, None)));
    assert_eq!(graph(&early), graph(&usual));
    assert_eq!(logits("gemma2", &early), logits("gemma2", &usual));
    // What 0 means: none of it.
    let off = with(&plain, &[(keys[0], float(0.0)), (keys[1], float(0.0)), (keys[2], uint(0))]);
    assert!(
        ["softcap", "window"].iter().all(|w| graph(&usual).contains(w) && !graph(&off).contains(w)),
        "{}",
        graph(&off)
    );
    assert!(max_diff(&logits("gemma2", &off), &logits("gemma2", &usual)) > 1e-3);
    // Layers with a window rotate with a base of their own where the file has one.
    let local = with(&plain, &[("gemma2.rope.freq_base_swa", float(500.0))]);
    assert!(max_diff(&logits("gemma2", &local), &logits("gemma2", &plain)) > 1e-3);
}

#[test]
fn gemma3_without_a_window_has_layers_that_are_all_alike() {
    let plain = golden("gemma3");
    let key = "gemma3.attention.sliding_window";
    let (absent, zero) = (with(&plain, &[(key, None)]), with(&plain, &[(key, uint(0))]));
    assert_eq!(graph(&absent), graph(&zero));
    assert!(graph(&plain).contains("window") && !graph(&zero).contains("window"));
    // No layer has the base of those with a window.
    let base = with(&zero, &[("gemma3.rope.freq_base_swa", float(123.0))]);
    assert_eq!(graph(&base), graph(&zero));
    assert_ne!(graph(&with(&plain, &[("gemma3.rope.freq_base_swa", float(123.0))])), graph(&plain));
    let uncapped = with(&plain, &[("gemma3.final_logit_softcapping", float(0.0))]);
    assert_eq!(graph(&uncapped), graph(&plain));
}

#[test]
fn a_window_that_an_architecture_would_ignore_is_refused() {
    for name in ["llama", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "qwen35", "gemma"] {
        let plain = golden(name);
        let key = format!("{name}.attention.sliding_window");
        let trained = u64::from(plain.meta.u32(&format!("{name}.context_length")).unwrap());
        for harmless in [0, trained] {
            assert_eq!(graph(&with(&plain, &[(&key, uint(harmless))])), graph(&plain), "{name}");
        }
        refused(&with(&plain, &[(&key, uint(4))]), ErrorKind::UnknownContent, &[&format!("`{key}` = 4")]);
    }
}

#[test]
fn lists_of_layers_have_an_entry_for_each() {
    let bools = |n: usize| Some(Value::Array(Array::Bool((0..n).map(|i| i % 2 == 0).collect())));
    let ints = |n: usize| Some(Value::Array(Array::Int((0..n).map(|i| i64::from(i % 2 == 0)).collect())));
    let other = Some(Value::Array(Array::Float(vec![1.0; 99])));
    for (name, key) in [("gemma3", "attention.sliding_window_pattern"), ("qwen35", "attention.recurrent_layers")] {
        let plain = golden(name);
        let key = format!("{name}.{key}");
        let n = plain.meta.u32(&format!("{name}.block_count")).unwrap() as usize;
        refused(&with(&plain, &[(&key, bools(n - 1))]), ErrorKind::BadConfig, &[&key, "layers"]);
        refused(&with(&plain, &[(&key, other.clone())]), ErrorKind::BadConfig, &[&key, "bools"]);
        if name == "gemma3" {
            let listed = graph(&with(&plain, &[(&key, bools(n))]));
            assert_eq!(listed, graph(&with(&plain, &[(&key, ints(n))])));
            assert_ne!(listed, graph(&plain));
        }
    }
}

#[test]
fn keys_that_change_numbers_are_refused_by_name_unless_allowed() {
    let no = Some(Value::Bool(false));
    let yes = Some(Value::Bool(true));
    let texts = Some(Value::Array(Array::Strings(Strings::default())));
    let own: &[(&str, Option<Value>)] = &[
        ("attention.causal", no.clone()),
        ("attention.causal", uint(0)),
        ("attention.scale", float(0.5)),
        ("attention.clamp_kqv", float(8.0)),
        ("attention.max_alibi_bias", float(8.0)),
        ("attention.key_length_swa", uint(7)),
        ("logit_scale", float(0.5)),
        ("residual_scale", float(0.22)),
        ("embedding_scale", float(12.0)),
        ("rope.scaling.attn_factor", float(1.2)),
        ("rope.scaling.yarn_attn_factor", float(1.2)),
        ("rope.scaling.yarn_ext_factor", float(1.0)),
        ("rope.scaling.yarn_log_multiplier", float(0.1)),
        ("rope.scaling.alpha", float(1000.0)),
        ("rope.dimension_count_swa", uint(2)),
        ("expert_weights_scale", float(2.5)),
        ("expert_gating_func", uint(2)),
        ("expert_group_count", uint(4)),
        ("expert_shared_count", uint(3)),
        ("leading_dense_block_count", uint(1)),
        ("classifier.output_labels", texts.clone()),
        ("use_parallel_residual", yes.clone()),
        ("swiglu_clamp_exp", Some(Value::Array(Array::Float(vec![0.0, 7.0])))),
        ("a_key_of_tomorrow", uint(0)),
    ];
    let common: &[(&str, Option<Value>)] = &[
        ("prism.hadamard.transform", yes.clone()),
        ("prism.hadamard.block_size", uint(128)),
        ("prism.hadamard.weight_names", texts.clone()),
        ("general.tensor_extra.name", texts),
        ("general.tensor_extra.prec_a4", Some(Value::Array(Array::Bool(vec![true])))),
        ("general.rotation", uint(1)),
        ("general.type", string("adapter")),
        ("adapter.lora.alpha", float(16.0)),
        ("xielu.beta", float(0.5)),
        ("somebody.else", string("fwht")),
        ("tokenizer.ggml.normalizer.lowercase", yes.clone()),
        ("tokenizer.ggml.remove_extra_whitespaces", yes.clone()),
        ("tokenizer.ggml.precompiled_charsmap", Some(Value::Array(Array::Int(vec![1])))),
        ("tokenizer.rwkv.world", string("x")),
        ("tokenizer.ggml.a_key_of_tomorrow", uint(0)),
        ("unnamed", uint(0)),
    ];
    for (name, _) in arch::REGISTRY {
        let plain = golden(name);
        // What this one is known by.
        let other = |key: &str| (*name, key) != ("gemma-embedding", "attention.causal");
        let own = own.iter().filter(|(key, _)| other(key)).map(|(key, value)| (format!("{name}.{key}"), value));
        let others = common.iter().map(|(key, value)| (key.to_string(), value));
        for (key, value) in own.chain(others) {
            let altered = with(&plain, &[(&key, value.clone())]);
            refused(&altered, ErrorKind::UnknownContent, &[&format!("`{key}`"), "allow"]);
            let allowed = arch::build(&altered, &|_| true, Wanted { allow_unknown: true, ..Wanted::default() });
            assert_eq!(allowed.unwrap().to_string(), graph(&plain), "{name}: {key}");
        }
        // Of another architecture's name nothing is known.
        refused(
            &with(&plain, &[("mamba.ssm.conv_kernel", uint(4))]),
            ErrorKind::UnknownContent,
            &["mamba.ssm.conv_kernel"],
        );
    }
    let cap = [("llama.attn_logit_softcapping", float(50.0)), ("llama.nextn_predict_layers", uint(1))];
    refused(&with(&golden("llama"), &cap), ErrorKind::UnknownContent, &[cap[0].0, cap[1].0]);
    let experts = [("qwen3.expert_count", uint(8)), ("qwen3.full_attention_interval", uint(4))];
    refused(&with(&golden("qwen3"), &experts), ErrorKind::UnknownContent, &[experts[0].0, experts[1].0]);
}

#[test]
fn keys_that_say_what_is_done_anyway_and_notes_of_programs_change_nothing() {
    let texts = |list: &[&str]| {
        let mut strings = Strings::default();
        list.iter().for_each(|s| strings.push(s.as_bytes()));
        Some(Value::Array(Array::Strings(strings)))
    };
    let no = Some(Value::Bool(false));
    for (name, _) in arch::REGISTRY {
        let plain = golden(name);
        let d_head = plain.meta.opt_u32(&format!("{name}.attention.key_length")).unwrap();
        let own: Vec<(String, Option<Value>)> = [
            ("attention.causal", Some(Value::Bool(*name != "gemma-embedding"))),
            ("attention.scale", float(d_head.map_or(0.0, |d| (1.0 / (d as f32).sqrt()).into()))),
            ("attention.clamp_kqv", float(0.0)),
            ("attention.layer_norm_epsilon", float(1e-5)),
            ("logit_scale", float(1.0)),
            ("residual_scale", float(1.0)),
            ("embedding_scale", float(0.0)),
            ("expert_weights_scale", float(1.0)),
            // Only qwen2moe leaves the shares of experts as they are.
            ("expert_weights_norm", Some(Value::Bool(*name != "qwen2moe"))),
            ("expert_gating_func", uint(1)),
            ("expert_group_count", uint(1)),
            ("expert_shared_count", uint(0)),
            ("leading_dense_block_count", uint(0)),
            ("pooling_type", uint(1)),
            ("rope.scaling.attn_factor", float(1.0)),
            ("rope.scaling.original_context_length", uint(4096)),
            ("rope.scaling.finetuned", no.clone()),
            ("rope.scaling.yarn_beta_fast", float(32.0)),
            ("swiglu_clamp_exp", Some(Value::Array(Array::Float(vec![0.0, 0.0])))),
            ("tensor_data_layout", string("Meta AI original pth")),
            ("vocab_size", uint(384)),
            ("vision.block_count", uint(27)),
            ("mm.tokens_per_image", uint(256)),
        ]
        .map(|(key, value)| (format!("{name}.{key}"), value))
        .into();
        let common = [
            ("general.type", string("model")),
            ("general.description", string("words")),
            ("general.tags", texts(&["a", "b"])),
            ("general.base_model.count", uint(1)),
            ("general.base_model.0.repo_url", string("https://example.org")),
            ("general.sampling.temp", float(0.7)),
            ("general.parameter_count", uint(1)),
            ("quantize.imatrix.entries_count", uint(510)),
            ("quantize.imatrix.file", string("a.gguf")),
            ("mradermacher.quantize_version", string("2")),
            ("split.no", uint(0)),
            ("split.count", uint(0)),
            ("split.tensors.count", uint(plain.tensors.len() as u64)),
            ("tokenizer.ggml.fim_pre_token_id", uint(1)),
            ("tokenizer.ggml.add_sep_token", no.clone()),
            ("tokenizer.ggml.remove_extra_whitespaces", no.clone()),
            ("tokenizer.ggml.precompiled_charsmap", Some(Value::Array(Array::Int(vec![])))),
            ("tokenizer.huggingface.json", string("{}")),
            ("tokenizer.chat_template.tool_use", string("x")),
        ];
        let common = common.into_iter().map(|(key, value)| (key.to_string(), value));
        let all: Vec<_> = own.into_iter().chain(common).collect();
        let all: Vec<_> = all.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        assert_eq!(graph(&with(&plain, &all)), graph(&plain), "{name}");
    }
}
