//! A vocabulary of all bytes: token b is byte b, and 256 and 257 end a text.

use pagelm::gguf::{Array, Meta, Strings, Value};
use pagelm::text::Tokenizer;

/// Both tokens that end a text.
pub const ENDS: [u32; 2] = [256, 257];

/// The tokenizer. More tokens may follow, each text.
pub fn with(more: &[&str]) -> Tokenizer {
    Tokenizer::from_gguf(&meta(more, &[])).unwrap()
}

/// The header of its file, with more tokens: texts, and control tokens after them.
pub fn meta(more: &[&str], controls: &[&str]) -> Meta {
    // Bytes that are no visible character of Latin-1 are named by characters after those.
    let visible = |b: u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let hidden: Vec<u32> = (0..256).filter(|b| !visible(*b)).collect();
    let name = |b: u32| char::from_u32(hidden.iter().position(|h| *h == b).map_or(b, |i| 256 + i as u32)).unwrap();
    let mut tokens = Strings::default();
    (0..256).for_each(|b| tokens.push(name(b).to_string().as_bytes()));
    ["<|end|>", "<|return|>"].iter().chain(more).chain(controls).for_each(|t| tokens.push(t.as_bytes()));
    let kinds = [vec![1; 256], vec![3; 2], vec![1; more.len()], vec![3; controls.len()]].concat();
    let mut meta = Meta::default();
    meta.insert("general.architecture".to_string(), Value::String("llama".into()));
    for (key, value) in [
        ("model", Value::String("gpt2".into())),
        ("pre", Value::String("gpt-2".into())),
        ("tokens", Value::Array(Array::Strings(tokens))),
        ("token_type", Value::Array(Array::Int(kinds))),
        ("merges", Value::Array(Array::Strings(Strings::default()))),
        ("eos_token_id", Value::Uint(ENDS[0].into())),
    ] {
        meta.insert(format!("tokenizer.ggml.{key}"), value);
    }
    meta
}
