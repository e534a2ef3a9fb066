//! Writes Hugging Face checkpoints from GGUF files: what a converter does, backwards.

use pagelm::DType;
use pagelm::gguf::{Array, Gguf, Meta, Strings, TensorInfo, Value};
use serde_json::{Value as Json, json};

/// A tensor as a safetensors file holds it.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub dtype: &'static str,
    pub shape: Vec<u64>,
    pub bytes: Vec<u8>,
}

/// The tensors of a model under transformers' names, with transformers' values.
pub fn tensors(gguf: &Gguf, file: &[u8]) -> Vec<Tensor> {
    let arch = gguf.meta.architecture().unwrap();
    let bf16 = gguf.tensors.iter().any(|t| t.dtype == DType::BF16);
    let mut out = Vec::new();
    for t in gguf.tensors.iter().filter(|t| t.name != "rope_freqs.weight") {
        let mut bytes = file[t.offset as usize..(t.offset + t.len) as usize].to_vec();
        if arch.starts_with("gemma") && t.name.ends_with("norm.weight") {
            bytes = floats(&bytes).flat_map(|v| (v - 1.0).to_le_bytes()).collect();
        }
        if arch == "llama" && (t.name.ends_with("attn_q.weight") || t.name.ends_with("attn_k.weight")) {
            bytes = halves(&gguf.meta, t, &bytes);
        }
        let mut dtype = match t.dtype {
            DType::F32 => "F32",
            DType::F16 => "F16",
            DType::BF16 => "BF16",
            other => panic!("{other} is no type of a checkpoint"),
        };
        // A checkpoint has one type; where it loses nothing, so does this one.
        if bf16 && dtype == "F32" && floats(&bytes).all(|v| v.to_bits() & 0xffff == 0) {
            dtype = "BF16";
            bytes = bytes.chunks(4).flat_map(|b| [b[2], b[3]]).collect();
        }
        let shape: Vec<u64> = t.dims.iter().rev().copied().collect();
        if let Some((layer, part)) = t.name.split_once(".ffn_").filter(|(_, part)| part.ends_with("_exps.weight")) {
            // A tensor for each expert.
            let (layer, part) = (layer.replace("blk", "model.layers"), part.replace("exps", "proj"));
            for (i, bytes) in bytes.chunks(bytes.len() / shape[0] as usize).enumerate() {
                let name = format!("{layer}.mlp.experts.{i}.{part}");
                out.push(Tensor { name, dtype, shape: shape[1..].to_vec(), bytes: bytes.to_vec() });
            }
            continue;
        }
        out.push(Tensor { name: name(arch, &t.name), dtype, shape, bytes });
    }
    out
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()))
}

/// Row `2i` of a head is row `i` of the checkpoint, row `2i + 1` is row `i + d_head / 2`.
fn halves(meta: &Meta, t: &TensorInfo, bytes: &[u8]) -> Vec<u8> {
    let d_head = meta.u32("llama.attention.key_length").unwrap() as usize;
    let row = bytes.len() / t.rows();
    let mut out = vec![0; bytes.len()];
    for r in 0..t.rows() {
        let (head, i) = (r / d_head, r % d_head);
        let to = head * d_head + i / 2 + if i % 2 == 1 { d_head / 2 } else { 0 };
        out[to * row..][..row].copy_from_slice(&bytes[r * row..][..row]);
    }
    out
}

fn name(arch: &str, gguf: &str) -> String {
    let Some((layer, rest)) = gguf.strip_prefix("blk.").and_then(|n| n.split_once('.')) else {
        return match gguf {
            "token_embd.weight" => "model.embed_tokens.weight",
            "output_norm.weight" => "model.norm.weight",
            "output.weight" => "lm_head.weight",
            other => panic!("{other}"),
        }
        .to_string();
    };
    let (stem, kind) = rest.split_once('.').unwrap();
    let four_norms = matches!(arch, "gemma2" | "gemma3");
    let stem = match stem {
        "attn_norm" => "input_layernorm",
        "attn_output" => "self_attn.o_proj",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "ffn_norm" if four_norms => "pre_feedforward_layernorm",
        "ffn_norm" | "post_attention_norm" => "post_attention_layernorm",
        "post_ffw_norm" => "post_feedforward_layernorm",
        "ffn_gate_inp" => "mlp.gate",
        "ffn_gate_inp_shexp" => "mlp.shared_expert_gate",
        "ffn_gate_shexp" => "mlp.shared_expert.gate_proj",
        "ffn_up_shexp" => "mlp.shared_expert.up_proj",
        "ffn_down_shexp" => "mlp.shared_expert.down_proj",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        other => panic!("{other}"),
    };
    format!("model.layers.{layer}.{stem}.{kind}")
}

/// A safetensors file.
pub fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = json!({ "__metadata__": { "format": "pt" } });
    let mut data = Vec::new();
    for t in tensors {
        let start = data.len();
        data.extend(&t.bytes);
        header[&t.name] = json!({ "dtype": t.dtype, "shape": t.shape, "data_offsets": [start, data.len()] });
    }
    raw_safetensors(&header.to_string(), &data)
}

/// A safetensors file with any header.
pub fn raw_safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn strings<'m>(meta: &'m Meta, key: &str) -> impl Iterator<Item = &'m str> + use<'m> {
    let list: Option<&Strings> = meta.opt_strings(key).unwrap();
    list.into_iter().flat_map(|l| l.iter()).map(|s| std::str::from_utf8(s).unwrap())
}

/// `tokenizer.json` of the vocabulary in a GGUF file.
pub fn tokenizer(meta: &Meta) -> Json {
    let tokens: Vec<&str> = strings(meta, "tokenizer.ggml.tokens").collect();
    let kinds: Vec<i64> = match meta.get("tokenizer.ggml.token_type") {
        Some(Value::Array(Array::Int(v))) => v.clone(),
        other => panic!("{other:?}"),
    };
    let mut vocab = json!({});
    let mut added = Vec::new();
    for (id, (token, kind)) in tokens.iter().zip(&kinds).enumerate() {
        match kind {
            5 => {}
            2..=4 => {
                // Those that follow the vocabulary need not be in it.
                if kinds[id..].iter().any(|k| !matches!(k, 2..=5)) {
                    vocab[*token] = json!(id);
                }
                added.push(json!({
                    "id": id, "content": token, "special": *kind != 4,
                    "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                }));
            }
            _ => vocab[*token] = json!(id),
        }
    }
    let bos = meta.opt_u32("tokenizer.ggml.bos_token_id").unwrap();
    let adds_bos = meta.opt_bool("tokenizer.ggml.add_bos_token").unwrap() == Some(true);
    let template = bos.filter(|_| adds_bos).map(|bos| {
        let name = tokens[bos as usize];
        json!({
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": name, "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 0 } }],
            "special_tokens": { name: { "id": name, "ids": [bos], "tokens": [name] } },
        })
    });
    let model = meta.string("tokenizer.ggml.model").unwrap();
    let (normalizer, words, merges) = if model == "llama" { spm(meta, &tokens, &kinds) } else { bpe(meta) };
    let unknown = kinds.iter().position(|k| *k == 2).map(|id| tokens[id]);
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": normalizer, "pre_tokenizer": words, "post_processor": template, "decoder": null,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": model == "llama",
            "ignore_merges": meta.opt_string("tokenizer.ggml.pre").unwrap() == Some("llama-bpe"),
            "vocab": vocab, "merges": merges,
        },
    })
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn bpe(meta: &Meta) -> (Json, Json, Json) {
    let pre = meta.string("tokenizer.ggml.pre").unwrap();
    let bytes =
        |own: bool| json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": own });
    let split = |pattern: &str| {
        let split =
            json!({ "type": "Split", "pattern": { "Regex": pattern }, "behavior": "Isolated", "invert": false });
        json!({ "type": "Sequence", "pretokenizers": [split, bytes(false)] })
    };
    let words = match pre {
        "llama-bpe" => split(LLAMA3),
        "qwen2" => split(QWEN2),
        "smollm" => {
            let digits = json!({ "type": "Digits", "individual_digits": true });
            json!({ "type": "Sequence", "pretokenizers": [digits, bytes(true)] })
        }
        "gpt-2" => bytes(true),
        other => panic!("{other}"),
    };
    let normalizer = if pre == "qwen2" { json!({ "type": "NFC" }) } else { Json::Null };
    // Old files have a string for each merge, new ones a pair.
    let merge = |m: &str| if pre == "qwen2" { json!(m) } else { json!(m.split(' ').collect::<Vec<_>>()) };
    (normalizer, words, strings(meta, "tokenizer.ggml.merges").map(merge).collect())
}

/// Every way to make a token of two others, those of the best token first.
fn spm(meta: &Meta, tokens: &[&str], kinds: &[i64]) -> (Json, Json, Json) {
    let Some(Value::Array(Array::Float(scores))) = meta.get("tokenizer.ggml.scores") else { panic!("no scores") };
    let known: std::collections::HashSet<&str> = tokens.iter().copied().collect();
    let mut ids: Vec<usize> = (0..tokens.len()).filter(|id| kinds[*id] == 1).collect();
    ids.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    let mut merges = Vec::new();
    for token in ids.into_iter().map(|id| tokens[id]) {
        for (at, _) in token.char_indices().skip(1) {
            let (a, b) = token.split_at(at);
            if known.contains(a) && known.contains(b) {
                merges.push(json!([a, b]));
            }
        }
    }
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" });
    let prefix = meta.opt_bool("tokenizer.ggml.add_space_prefix").unwrap() == Some(true);
    let prepend = json!({ "type": "Prepend", "prepend": "\u{2581}" });
    let normalizer = if prefix { json!({ "type": "Sequence", "normalizers": [prepend, replace] }) } else { replace };
    (normalizer, Json::Null, Json::Array(merges))
}

/// `tokenizer_config.json`.
pub fn settings(meta: &Meta) -> Json {
    let tokens: Vec<&str> = strings(meta, "tokenizer.ggml.tokens").collect();
    let name = |key: &str| meta.opt_u32(&format!("tokenizer.ggml.{key}")).unwrap().map(|id| tokens[id as usize]);
    // Either form is in use.
    let eos = name("eos_token_id").map(|eos| json!({ "content": eos, "special": true }));
    json!({ "bos_token": name("bos_token_id"), "eos_token": eos, "chat_template": meta.opt_string("tokenizer.chat_template").unwrap() })
}
