//! Keys and tensors that change what a model computes are used as llama.cpp uses them, or refused by name.

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
fn a_window_of_0_is_none_and_a_window_that_architectures_without_one_would_notice_is_refused() {
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
fn keys_that_change_numbers_are_refused_by_name_and_passed_over_where_that_is_wanted() {
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
        ("pooling_type", uint(3)),
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
        // Only qwen2moe leaves the shares of experts as they are.
        let norm = ("expert_weights_norm", Some(Value::Bool(*name == "qwen2moe")));
        let own = own.iter().chain([&norm]).map(|(key, value)| (format!("{name}.{key}"), value));
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
    let yes = Some(Value::Bool(true));
    let no = Some(Value::Bool(false));
    for (name, _) in arch::REGISTRY {
        let plain = golden(name);
        let d_head = plain.meta.opt_u32(&format!("{name}.attention.key_length")).unwrap();
        let own: Vec<(String, Option<Value>)> = [
            ("attention.causal", yes.clone()),
            ("attention.scale", float(d_head.map_or(0.0, |d| (1.0 / (d as f32).sqrt()).into()))),
            ("attention.clamp_kqv", float(0.0)),
            ("attention.layer_norm_epsilon", float(1e-5)),
            ("logit_scale", float(1.0)),
            ("residual_scale", float(1.0)),
            ("embedding_scale", float(0.0)),
            ("expert_weights_scale", float(1.0)),
            ("expert_weights_norm", Some(Value::Bool(*name != "qwen2moe"))),
            ("expert_gating_func", uint(1)),
            ("expert_group_count", uint(1)),
            ("expert_shared_count", uint(0)),
            ("leading_dense_block_count", uint(0)),
            ("pooling_type", uint(0)),
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

#[test]
fn tensors_that_nothing_reads_are_refused_by_name_wherever_they_are() {
    let names = [
        "output.bias",
        "output.scale",
        "output_norm.bias",
        "token_embd_norm.weight",
        "rope_factors_long.weight",
        "rope_factors_short.weight",
        "dense.0.weight",
        "dense_2.weight",
        "cls.output.weight",
        "position_embd.weight",
        "blk.0.attn_q.scale",
        "blk.999.ffn_up.weight",
        "anything",
    ];
    for (arch, _) in arch::REGISTRY {
        let plain = golden(arch);
        for name in names {
            let altered = with_tensors(&plain, &[name]);
            refused(&altered, ErrorKind::UnknownContent, &[&format!("tensor `{name}`")]);
            let allowed = arch::build(&altered, &|_| true, Wanted { allow_unknown: true, ..Wanted::default() });
            assert_eq!(allowed.unwrap().to_string(), graph(&plain), "{name}");
        }
        let senses = with_tensors(&plain, &["v.blk.0.attn_q.weight", "mm.0.weight", "a.blk.0.ffn_up.weight"]);
        assert_eq!(graph(&senses), graph(&plain));
    }
    // Only llama reads these.
    refused(
        &with_tensors(&golden("qwen2"), &["rope_freqs.weight"]),
        ErrorKind::UnknownContent,
        &["`rope_freqs.weight`"],
    );
    assert!(golden("llama32").tensor("rope_freqs.weight").is_some() && build(&golden("llama32")).is_ok());
}

#[test]
fn one_error_names_everything_that_is_wrong_and_long_foreign_names_are_cut() {
    let mut bad = with_tensors(&golden("llama"), &["output.bias", "dense.0.weight"]);
    bad = with(&bad, &[("llama.logit_scale", float(0.5)), ("prism.hadamard.block_size", uint(8))]);
    bad.tensors.retain(|t| t.name != "blk.0.attn_k.weight" && t.name != "output_norm.weight");
    bad.tensors.iter_mut().find(|t| t.name == "blk.0.attn_norm.weight").unwrap().dims = vec![5];
    let parts = [
        "`blk.0.attn_k.weight`",
        "`output_norm.weight`",
        "`blk.0.attn_norm.weight` must be",
        "`llama.logit_scale` = 0.5 (expected 1 or 0)",
        "`prism.hadamard.block_size` = 8",
        "tensor `output.bias`",
        "tensor `dense.0.weight`",
    ];
    refused(&bad, ErrorKind::MissingTensor, &parts);
    let name = "ä".repeat(30_000);
    let long = with_tensors(&with(&golden("llama"), &[(&name, string(&name))]), &[&name]);
    let e = build(&long).unwrap_err().to_string();
    assert!(e.len() < 1000 && e.contains('…'), "{}", e.len());
    let names: Vec<String> = (0..5000).map(|i| format!("t{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let e = build(&with_tensors(&golden("llama"), &names)).unwrap_err().to_string();
    assert!(e.contains("`t0`") && e.contains("and 4968 more") && e.len() < 1000, "{e}");
}

#[test]
fn a_part_of_a_split_model_says_which_and_its_counts_are_checked() {
    let plain = golden("llama");
    let n = plain.tensors.len() as u64;
    let split =
        |no, count, tensors| [("split.no", uint(no)), ("split.count", uint(count)), ("split.tensors.count", tensors)];
    let mut first = with(&plain, &split(0, 2, uint(n)));
    first.tensors.truncate(10);
    refused(&first, ErrorKind::SplitFile, &["part 1 of 2", &format!("10 of {n} tensors"), "llama-gguf-split"]);
    // The parts after the first say nothing of the model.
    let numbers = GgufWriter::new().u32("split.no", 1).u32("split.count", 2).u32("split.tensors.count", n as u32);
    let second = Gguf::parse(&numbers.tensor("a", DType::F32, &[1], &[0; 4]).finish()).unwrap();
    refused(&second, ErrorKind::SplitFile, &["part 2 of 2"]);
    refused(&with(&plain, &split(0, 2, None)), ErrorKind::SplitFile, &["part 1 of 2"]);
    for whole in [split(0, 1, uint(n)), split(0, 0, uint(n)), split(0, 0, uint(0)), split(0, 1, None)] {
        assert_eq!(graph(&with(&plain, &whole)), graph(&plain));
    }
    refused(&with(&plain, &split(2, 2, uint(n))), ErrorKind::GgufInvalid, &["`split.no` is 2", "`split.count` is 2"]);
    refused(&with(&plain, &split(0, 2, uint(3))), ErrorKind::GgufInvalid, &["`split.tensors.count` is 3"]);
    refused(&with(&plain, &split(0, 1, uint(n + 1))), ErrorKind::GgufInvalid, &["`split.tensors.count`", "complete?"]);
    refused(&with(&plain, &[("split.count", string("2"))]), ErrorKind::WrongKeyType, &["split.count"]);
}

#[test]
fn files_of_every_maker_that_are_here_have_nothing_unknown() {
    for name in
        ["SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m-q4_k_m.gguf", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"]
    {
        let Some(path) = fixtures::model(name) else { continue };
        let mut head = vec![0; 16 << 20];
        std::io::Read::read_exact(&mut std::fs::File::open(&path).unwrap(), &mut head).unwrap();
        let mut reader = pagelm::gguf::Reader::new(None);
        let pagelm::gguf::Progress::Done(gguf) = reader.push(&head).unwrap() else { panic!("{name}: a longer header") };
        build(&gguf).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn a_tensor_with_room_after_it_is_not_of_the_type_that_its_number_says() {
    // Some programs write other types under the number 42: one byte a value here, 18 for 64 as Q2_0.
    let mut long = crate::common::gguf_writer::RawTensor::new("a", DType::Q2_0, &[256], &[0; 256]);
    long.bytes = vec![0; 256];
    let w = GgufWriter::new().raw_tensor(long).tensor("b", DType::F32, &[1], &[0; 4]);
    let e = Gguf::parse(&w.finish()).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::GgufInvalid);
    assert!(["`a`", "72 bytes as Q2_0", "after 256"].iter().all(|p| e.to_string().contains(p)), "{e}");
}
