//! Checkpoints of Hugging Face give the graphs, the weights and the tokens of the GGUF files made from them.

use pagelm::backend::Backend;
use pagelm::backend::cpu::Cpu;
use pagelm::backend::reference::Reference;
use pagelm::engine::{Model, Options, Session};
use pagelm::gguf::{Gguf, Source};
use pagelm::hf::{Checkpoint, shards};
use pagelm::text::{EncodeOptions, Tokenizer, TokenizerFiles, tokenizer_from_hf};
use pagelm::{DType, Error, ErrorKind};
use pollster::block_on;
use serde_json::{Value, json};

use crate::common::checkpoint::{self, Tensor, raw_safetensors, safetensors};
use crate::common::{fixtures, tol};

const NAMES: &[&str] =
    &["llama", "llama32", "qwen2", "qwen2moe", "qwen3", "qwen3_tied", "qwen3moe", "gemma", "gemma2", "gemma3"];

/// A fixture in both forms.
struct Pair {
    file: Vec<u8>,
    gguf: Gguf,
    config: Value,
    prompt: Vec<u32>,
    tensors: Vec<Tensor>,
}

fn pair(name: &str) -> Pair {
    let file = fixtures::bytes(&format!("golden/{name}.gguf"));
    let numbers = fixtures::json(&format!("golden/{name}.json"));
    let gguf = Gguf::parse(&file).unwrap();
    let prompt = numbers["prompts"][1]["ids"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect();
    let tensors = checkpoint::tensors(&gguf, &file);
    Pair { config: numbers["config"].clone(), prompt, tensors, gguf, file }
}

impl Pair {
    fn open(&self) -> Result<Checkpoint<Vec<u8>>, Error> {
        let shard = ("model.safetensors".to_string(), safetensors(&self.tensors));
        Checkpoint::new(&self.config.to_string(), vec![shard])
    }

    fn refused(&self) -> Error {
        self.open().err().expect("must be refused")
    }

    fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|t| t.name == name).unwrap()
    }
}

fn backends() -> [Box<dyn Backend>; 2] {
    [Box::new(Reference::new()), Box::new(Cpu::new(1))]
}

fn logits(gguf: &Gguf, source: &dyn Source, backend: Box<dyn Backend>, prompt: &[u32]) -> Vec<f32> {
    let options = Options { n_ctx: Some(96), max_tokens: 70, max_outputs: 70, ..Options::DEFAULT };
    let model = Model::new(gguf, &|d| backend.supports(d), &options).unwrap();
    let mut session: Session = model.load(gguf, source, backend).unwrap();
    let mut rows = Vec::new();
    block_on(session.prefill_all(prompt, |row| rows.extend_from_slice(row))).unwrap();
    rows
}

/// Every tensor bit by bit, then every logit.
fn same(name: &str, p: &Pair, checkpoint: &Checkpoint<Vec<u8>>) {
    let mut names: Vec<_> = checkpoint.gguf.tensors.iter().map(|t| &t.name).collect();
    let mut want: Vec<_> = p.gguf.tensors.iter().map(|t| &t.name).collect();
    names.sort();
    want.sort();
    assert_eq!(names, want, "{name}");
    for t in &p.gguf.tensors {
        let own = checkpoint.gguf.tensor(&t.name).unwrap();
        assert_eq!((own.dtype, &own.dims, own.len), (t.dtype, &t.dims, t.len), "{name} {}", t.name);
        assert!(checkpoint.tensor(own).unwrap() == p.file.tensor(t).unwrap(), "{name}: {} differs", t.name);
    }
    for (a, b) in backends().into_iter().zip(backends()) {
        let on = a.name();
        let got = logits(&checkpoint.gguf, checkpoint, a, &p.prompt);
        assert!(got == logits(&p.gguf, &p.file, b, &p.prompt), "{name} on {on}: the logits differ");
    }
}

#[test]
fn a_checkpoint_has_the_weights_and_the_logits_of_its_gguf_file() {
    for name in NAMES {
        let p = pair(name);
        same(name, &p, &p.open().unwrap_or_else(|e| panic!("{name}: {e}")));
    }
}

#[test]
fn configurations_of_older_transformers_mean_the_same() {
    for name in NAMES {
        let mut p = pair(name);
        let config = p.config.as_object_mut().unwrap();
        let mut rope = config.remove("rope_parameters").unwrap();
        if let Some(local) = rope.get("sliding_attention") {
            config.insert("rope_local_base_freq".to_string(), local["rope_theta"].clone());
            rope = rope["full_attention"].clone();
        }
        config.insert("rope_theta".to_string(), rope["rope_theta"].clone());
        let plain = rope["rope_type"] == "default";
        config.insert("rope_scaling".to_string(), if plain { Value::Null } else { rope });
        if let Some(list) = config.remove("layer_types").filter(|_| *name == "gemma3") {
            assert_eq!(list[5], "full_attention");
            config.insert("sliding_window_pattern".to_string(), json!(6));
        }
        config.remove("tie_word_embeddings");
        same(name, &p, &p.open().unwrap_or_else(|e| panic!("{name}: {e}")));
    }
}

#[test]
fn shards_and_a_second_copy_of_a_tied_embedding_change_nothing() {
    let mut p = pair("llama32");
    let copy = Tensor { name: "lm_head.weight".to_string(), ..p.tensor("model.embed_tokens.weight").clone() };
    p.tensors.push(copy);
    let (a, b) = p.tensors.split_at(p.tensors.len() / 3);
    let files = vec![("a".to_string(), safetensors(a)), ("b".to_string(), safetensors(b))];
    same("llama32", &p, &Checkpoint::new(&p.config.to_string(), files).unwrap());
    let twice = vec![("a".to_string(), safetensors(a)), ("b".to_string(), safetensors(a))];
    let e = Checkpoint::new(&p.config.to_string(), twice).err().unwrap();
    assert_eq!((e.kind(), e.place().starts_with("b, tensor `")), (ErrorKind::BadCheckpoint, true), "{e}");
}

#[test]
fn the_index_names_files_of_its_folder_and_no_others() {
    let index = |map: Value| shards(&json!({ "metadata": {}, "weight_map": map }).to_string());
    let both = json!({ "a": "m-2.safetensors", "b": "m-1.safetensors", "c": "m-2.safetensors" });
    assert_eq!(index(both).unwrap(), ["m-1.safetensors", "m-2.safetensors"]);
    for bad in [json!({ "a": "../m.safetensors" }), json!({ "a": "/etc/passwd" }), json!({ "a": 1 })] {
        assert_eq!(index(bad).unwrap_err().kind(), ErrorKind::BadCheckpoint);
    }
    assert_eq!(index(Value::Null).unwrap_err().kind(), ErrorKind::MissingKey);
    assert_eq!(shards("{").unwrap_err().kind(), ErrorKind::BadCheckpoint);
}

#[test]
fn a_configuration_that_this_engine_would_compute_otherwise_is_refused() {
    use ErrorKind::*;
    let cases: &[(&str, &str, Value, ErrorKind)] = &[
        ("llama", "model_type", json!("mamba"), UnsupportedArchitecture),
        ("llama", "model_type", Value::Null, MissingKey),
        ("llama", "hidden_size", Value::Null, MissingKey),
        ("llama", "hidden_size", json!("many"), WrongKeyType),
        ("llama", "num_hidden_layers", json!(-1), WrongKeyType),
        ("llama", "hidden_act", json!("gelu"), BadConfig),
        ("llama", "quantization_config", json!({ "quant_method": "gptq" }), UnsupportedType),
        ("llama", "rope_parameters", json!({ "rope_type": "yarn", "factor": 4.0 }), BadConfig),
        ("llama", "rope_parameters", json!({ "rope_type": "llama3", "factor": 0.0 }), BadConfig),
        ("llama", "rope_parameters", json!({ "rope_type": "llama3" }), MissingKey),
        ("llama", "rope_parameters", json!({ "rope_type": "linear" }), MissingKey),
        ("llama", "partial_rotary_factor", json!(0.5), BadConfig),
        ("qwen2", "rope_parameters", json!({ "rope_type": "llama3", "factor": 8.0 }), BadConfig),
        ("qwen2", "use_sliding_window", json!(true), BadConfig),
        ("qwen2moe", "shared_expert_intermediate_size", Value::Null, MissingKey),
        ("qwen3", "layer_types", json!(["sliding_attention"]), BadConfig),
        ("qwen3moe", "norm_topk_prob", json!("yes"), WrongKeyType),
        ("qwen3moe", "mlp_only_layers", json!([0]), BadConfig),
        ("qwen3moe", "decoder_sparse_step", json!(2), BadConfig),
        ("qwen3moe", "num_local_experts", Value::Null, MissingKey),
        ("qwen3moe", "moe_intermediate_size", Value::Null, MissingKey),
        ("gemma", "hidden_act", json!("silu"), BadConfig),
        ("gemma2", "query_pre_attn_scalar", json!(144), BadConfig),
        ("gemma2", "query_pre_attn_scalar", Value::Null, BadConfig),
        ("gemma3", "sliding_window", Value::Null, BadConfig),
        ("gemma3", "layer_types", json!(["linear_attention"]), BadConfig),
        ("gemma3", "attn_logit_softcapping", json!(50.0), BadConfig),
        ("gemma3", "use_bidirectional_attention", json!(true), BadConfig),
    ];
    for (name, key, value, kind) in cases {
        let mut p = pair(name);
        p.config[key] = value.clone();
        let e = p.refused();
        assert_eq!(e.kind(), *kind, "{name} {key} {value}: {e}");
        assert!(e.place().contains("config.json, key `"), "{e}");
    }
    for text in ["[]", "{", ""] {
        let e = Checkpoint::<Vec<u8>>::new(text, Vec::new()).err().unwrap();
        assert_eq!((e.kind(), e.place()), (BadCheckpoint, "config.json"));
    }
}

#[test]
fn shares_of_experts_add_up_to_1_only_where_the_configuration_says_so() {
    for name in ["qwen2moe", "qwen3moe"] {
        let mut p = pair(name);
        let mut row = |value: Value| {
            p.config["norm_topk_prob"] = value;
            let checkpoint = p.open().unwrap();
            let [a, b] = backends().map(|b| logits(&checkpoint.gguf, &checkpoint, b, &p.prompt));
            tol::DOT.check(name, &b, &a, a.len());
            a
        };
        let [yes, no, absent] = [json!(true), json!(false), Value::Null].map(&mut row);
        assert_ne!(yes, no, "{name}");
        assert_eq!(absent, no, "{name}: transformers takes an absent key as false");
    }
}

#[test]
fn missing_keys_of_gemma2_have_the_defaults_of_transformers() {
    let mut p = pair("gemma2");
    let keys = ["attn_logit_softcapping", "final_logit_softcapping", "sliding_window"];
    let graph =
        |p: &Pair| pagelm::arch::build(&p.open().unwrap().gguf, &|_| true, Default::default()).unwrap().to_string();
    keys.iter().zip([json!(50.0), json!(30.0), json!(4096)]).for_each(|(key, v)| p.config[key] = v);
    let usual = graph(&p);
    keys.iter().for_each(|key| drop(p.config.as_object_mut().unwrap().remove(*key)));
    assert_eq!(graph(&p), usual);
    keys.iter().for_each(|key| p.config[key] = Value::Null);
    let off = graph(&p);
    assert!(["softcap", "window"].iter().all(|word| usual.contains(word) && !off.contains(word)), "{off}");
}

#[test]
fn tensors_that_lack_are_too_many_or_of_another_type_are_named() {
    use ErrorKind::*;
    let mut p = pair("qwen3");
    let build = |p: &Pair| Model::new(&p.open().unwrap().gguf, &|_| true, &Options::default()).unwrap_err();
    p.tensors.retain(|t| !t.name.contains("layers.1.mlp"));
    let e = build(&p);
    assert_eq!(e.kind(), MissingTensor);
    for name in ["blk.1.ffn_gate.weight", "blk.1.ffn_up.weight", "blk.1.ffn_down.weight"] {
        assert!(e.detail().contains(name), "{e}");
    }
    let mut p = pair("qwen3");
    p.tensors.retain(|t| t.name != "lm_head.weight");
    assert_eq!(p.refused().kind(), MissingTensor);
    let mut p = pair("qwen3");
    let t = p.tensor("model.norm.weight");
    t.name = "model.layers.0.mlp.experts.0.up_proj.weight".to_string();
    let e = p.refused();
    assert_eq!(
        (e.kind(), e.place()),
        (BadTensor, "model.safetensors, tensor `model.layers.0.mlp.experts.0.up_proj.weight`")
    );
    let mut p = pair("qwen3");
    p.tensor("model.norm.weight").dtype = "I32";
    let e = p.refused();
    assert_eq!((e.kind(), e.place()), (UnsupportedType, "model.safetensors, tensor `model.norm.weight`"));
    let mut p = pair("qwen3");
    p.tensor("model.layers.0.mlp.up_proj.weight").shape.reverse();
    assert_eq!(build(&p).kind(), BadTensor);
    let mut p = pair("llama");
    p.config["head_dim"] = json!(20);
    assert_eq!(p.refused().kind(), BadTensor);
}

#[test]
fn experts_are_found_under_either_key_and_one_that_lacks_or_differs_is_named() {
    use ErrorKind::*;
    const LAST: &str = "model.layers.2.mlp.experts.7.down_proj.weight";
    let mut p = pair("qwen3moe");
    let config = p.config.as_object_mut().unwrap();
    let n = config.remove("num_local_experts").unwrap();
    config.insert("num_experts".to_string(), n);
    same("qwen3moe of older transformers", &p, &p.open().unwrap());
    for missing in [LAST, "model.layers.2.mlp.experts.3.down_proj.weight"] {
        let mut p = pair("qwen3moe");
        p.tensors.retain(|t| t.name != missing);
        let e = p.refused();
        assert_eq!((e.kind(), e.place()), (MissingTensor, "blk.2.ffn_down_exps.weight"), "{e}");
        assert!(e.detail().contains("7 experts") && e.detail().contains("expected 8"), "{e}");
    }
    let mut p = pair("qwen3moe");
    p.tensor(LAST).shape.reverse();
    let e = p.refused();
    assert_eq!((e.kind(), e.place()), (BadTensor, &*format!("model.safetensors, tensor `{LAST}`")), "{e}");
    let mut p = pair("qwen3moe");
    p.tensor(LAST).name = LAST.replace(".7.", ".07.");
    let again = Tensor { name: LAST.to_string(), ..p.tensor(&LAST.replace(".7.", ".07.")).clone() };
    p.tensors.push(again);
    assert_eq!(p.refused().kind(), BadCheckpoint);
}

#[test]
fn a_broken_safetensors_file_says_what_is_wrong() {
    let p = pair("llama");
    let whole = safetensors(&p.tensors);
    let open = |bytes: &[u8]| {
        let e = Checkpoint::new(&p.config.to_string(), vec![("x.safetensors".to_string(), bytes)]).err();
        let e = e.expect("must be refused");
        assert!(e.place().starts_with("x.safetensors"), "{e}");
        assert_eq!(e.kind(), ErrorKind::BadCheckpoint, "{e}");
        e.detail().to_string()
    };
    for end in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        assert!(open(&whole[..end]).contains("download"));
    }
    assert!(open(&[&whole[..], b"x"].concat()).contains("contradicts"));
    let one = |offsets: &str, shape: &str| {
        let header = format!(r#"{{"model.norm.weight":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#);
        open(&raw_safetensors(&header, &[0; 8]))
    };
    assert!(one("[0,16]", "[4]").contains("contradicts"), "past the end");
    assert!(one("[4,8]", "[1]").contains("offsets"));
    assert!(one("[8,0]", "[2]").contains("offsets"));
    assert!(one("[0,8]", "[3]").contains("length"));
    one("[0,8]", "[4294967296,4294967296,4294967296]");
    one("[0,18446744073709551615]", "[2]");
    open(&raw_safetensors("{", &[]));
    open(&u64::MAX.to_le_bytes());
}

fn files<'a>(tokenizer: &'a str, settings: &'a str) -> TokenizerFiles<'a> {
    TokenizerFiles { tokenizer: Some(tokenizer), settings: Some(settings), config: "{}", ..TokenizerFiles::default() }
}

#[test]
fn tokenizer_json_gives_the_ids_of_the_gguf_file_and_of_its_own_library() {
    for name in ["vocab-llama-bpe", "vocab-qwen2", "vocab-smollm", "vocab-gpt-2", "vocab-spm", "vocab-spm-prefix"] {
        let file = fixtures::bytes(&format!("reference/{name}.gguf"));
        let cases = fixtures::json(&format!("reference/tokenizer-{name}.json"));
        let meta = Gguf::parse(&file).unwrap().meta;
        let want = Tokenizer::from_gguf(&meta).unwrap();
        let (json, settings) = (checkpoint::tokenizer(&meta).to_string(), checkpoint::settings(&meta).to_string());
        let mut own = pagelm::gguf::Meta::default();
        tokenizer_from_hf(&files(&json, &settings), want.vocab_size(), &mut own)
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        let got = Tokenizer::from_gguf(&own).unwrap();
        let library = tokenizers::Tokenizer::from_bytes(&json).unwrap();
        assert_eq!(got.vocab_size(), want.vocab_size());
        assert_eq!((got.bos(), got.eos(), got.adds_bos()), (want.bos(), want.eos(), want.adds_bos()), "{name}");
        assert_eq!(got.end_of_generation(), want.end_of_generation(), "{name}");
        for id in 0..want.vocab_size() as u32 {
            assert_eq!(got.piece(id, true), want.piece(id, true), "{name}: token {id}");
        }
        let mut asked = 0;
        for case in cases["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            for parse_special in [false, true] {
                let options = EncodeOptions { add_special: true, parse_special };
                let ids = got.encode(text, options).unwrap();
                assert_eq!(ids, want.encode(text, options).unwrap(), "{name}: {text:?}");
                // In the middle of a text only the library puts a space after a user-defined token (`text/mod.rs`).
                let spaced = name == "vocab-spm-prefix" && (text.contains("\n\n") || text.contains("<table>"));
                if parse_special && !spaced {
                    assert_eq!(ids, library.encode(text, true).unwrap().get_ids(), "{name}: {text:?}");
                    asked += 1;
                }
            }
        }
        assert!(asked > 380, "{name}: {asked} texts were compared with the library");
    }
}

#[test]
fn a_tokenizer_that_is_not_known_leaves_a_model_that_runs_on_ids() {
    let unknown = json!({ "model": { "type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0 } }).to_string();
    let words = json!({ "type": "Whitespace" });
    let other =
        json!({ "model": { "type": "BPE", "vocab": { "a": 0 }, "merges": [] }, "pre_tokenizer": words }).to_string();
    for text in [None, Some("{"), Some(unknown.as_str()), Some(other.as_str())] {
        let mut meta = pagelm::gguf::Meta::default();
        let config = r#"{ "eos_token_id": [3, 4] }"#;
        let files = TokenizerFiles { tokenizer: text, config, ..TokenizerFiles::default() };
        let e = tokenizer_from_hf(&files, 10, &mut meta).unwrap_err();
        assert_eq!(e.kind(), ErrorKind::BadTokenizer);
        let tokenizer = Tokenizer::from_gguf(&meta).unwrap();
        assert_eq!((tokenizer.vocab_size(), tokenizer.end_of_generation()), (10, &[3, 4][..]));
        assert_eq!(tokenizer.piece(5, true), Some(&b""[..]));
        let e = tokenizer.encode("a", EncodeOptions::default()).unwrap_err();
        assert!(e.kind() == ErrorKind::BadTokenizer && e.detail().contains("ids"), "{e}");
    }
    // A special token beyond the embedding, as text models of a family with images have one, is left out.
    let image = json!({
        "model": { "type": "BPE", "vocab": { "a": 0, "b": 1, "<image>": 2 }, "merges": [] },
        "added_tokens": [{ "id": 2, "content": "<image>", "special": true }],
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false },
    });
    let mut meta = pagelm::gguf::Meta::default();
    tokenizer_from_hf(&files(&image.to_string(), "{}"), 2, &mut meta).unwrap();
    assert_eq!(Tokenizer::from_gguf(&meta).unwrap().encode("ab", EncodeOptions::default()).unwrap(), [0, 1]);
    // An id beyond the embedding would index past it.
    let beyond = json!({ "model": { "type": "BPE", "vocab": { "a": 4_000_000_000u32 }, "merges": [] } }).to_string();
    let mut meta = pagelm::gguf::Meta::default();
    assert!(tokenizer_from_hf(&files(&beyond, "{}"), 10, &mut meta).unwrap_err().detail().contains("4000000000"));
}

#[test]
fn norms_are_widened_and_matrices_stay_packed() {
    let p = pair("llama");
    assert!(p.tensors.iter().any(|t| t.dtype == "BF16" && t.shape.len() == 1), "the norms are narrow in this one");
    let checkpoint = p.open().unwrap();
    for t in &checkpoint.gguf.tensors {
        assert_eq!(t.dtype, if t.dims.len() == 1 { DType::F32 } else { DType::BF16 }, "{}", t.name);
    }
}
