//! Broken vocabularies end in an error that names the fault, and hard texts end.

use pagelm::gguf::{Array, Meta, Strings, Value};
use pagelm::text::{EncodeOptions, Tokenizer};
use pagelm::{Error, ErrorKind};

fn strings<S: AsRef<[u8]>>(list: &[S]) -> Value {
    let mut out = Strings::default();
    list.iter().for_each(|s| out.push(s.as_ref()));
    Value::Array(Array::Strings(out))
}

fn key(name: &str) -> String {
    format!("tokenizer.ggml.{name}")
}

/// A whole small vocabulary, in which `change` replaces some keys (with `None`: removes them).
fn build(base: Vec<(&str, Value)>, change: Vec<(&str, Option<Value>)>) -> Result<Tokenizer, Error> {
    let mut meta = Meta::default();
    for (name, value) in &change {
        if let Some(value) = value {
            meta.insert(key(name), value.clone());
        }
    }
    for (name, value) in base {
        if !change.iter().any(|(changed, _)| *changed == name) {
            meta.insert(key(name), value);
        }
    }
    Tokenizer::from_gguf(&meta)
}

fn bpe(change: Vec<(&str, Option<Value>)>) -> Result<Tokenizer, Error> {
    let base = vec![
        ("model", Value::String("gpt2".into())),
        ("pre", Value::String("gpt-2".into())),
        ("tokens", strings(&["a", "b", "ab", "Ġ", "<|im_end|>"])),
        ("token_type", Value::Array(Array::Int(vec![1, 1, 1, 1, 3]))),
        ("merges", strings(&["a b"])),
        ("eos_token_id", Value::Uint(4)),
    ];
    build(base, change)
}

fn spm(change: Vec<(&str, Option<Value>)>) -> Result<Tokenizer, Error> {
    let base = vec![
        ("model", Value::String("llama".into())),
        ("tokens", strings(&["<unk>", "a", "b", "ab", "\u{2581}", "<0x0A>", "aa", "aaa"])),
        ("token_type", Value::Array(Array::Int(vec![2, 1, 1, 1, 1, 6, 1, 1]))),
        ("scores", Value::Array(Array::Float(vec![0.0, -3.0, -4.0, -1.0, -5.0, 0.0, -2.0, -2.0]))),
        ("unknown_token_id", Value::Uint(0)),
        ("add_space_prefix", Value::Bool(false)),
    ];
    build(base, change)
}

#[test]
fn whole_vocabularies_are_read() {
    assert_eq!(bpe(vec![]).unwrap().encode("ab a", EncodeOptions::default()).unwrap(), [2, 3, 0]);
    let spm = spm(vec![]).unwrap();
    assert_eq!(spm.encode("ab a\nz", EncodeOptions::default()).unwrap(), [3, 4, 1, 5, 0]);
    assert_eq!(spm.piece(8, true), None);
}

#[test]
fn equal_scores_join_from_left_to_right() {
    let ids = spm(vec![]).unwrap().encode("aaaaa", EncodeOptions::default()).unwrap();
    assert_eq!(ids, [7, 6]);
}

#[test]
fn an_unknown_tokenizer_is_refused_by_name() {
    for (name, value) in [("model", "bert"), ("pre", "nonsense-7b")] {
        let error = bpe(vec![(name, Some(Value::String(value.into())))]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::BadTokenizer);
        assert!(error.detail().contains(value), "{error}");
    }
}

#[test]
fn broken_vocabularies_are_refused() {
    let int = |v: &[i64]| Some(Value::Array(Array::Int(v.to_vec())));
    let float = |v: &[f32]| Some(Value::Array(Array::Float(v.to_vec())));
    let bad = [
        ("no model", bpe(vec![("model", None)])),
        ("no tokens", bpe(vec![("tokens", None)])),
        ("empty", bpe(vec![("tokens", Some(strings::<&str>(&[])))])),
        ("no merges", bpe(vec![("merges", None)])),
        ("unknown left", bpe(vec![("merges", Some(strings(&["c b"])))])),
        ("unknown result", bpe(vec![("merges", Some(strings(&["b a"])))])),
        ("no pair", bpe(vec![("merges", Some(strings(&["ab"])))])),
        ("half a pair", bpe(vec![("merges", Some(strings(&["a "])))])),
        ("few types", bpe(vec![("token_type", int(&[1, 1]))])),
        ("strange type", bpe(vec![("token_type", int(&[1, 1, 1, 1, 9]))])),
        ("same token twice", bpe(vec![("tokens", Some(strings(&["a", "b", "ab", "a", "c"])))])),
        ("no UTF-8", bpe(vec![("tokens", Some(strings(&[&b"a"[..], b"b", b"ab", b"\xFF", b"c"])))])),
        ("merges no UTF-8", bpe(vec![("merges", Some(strings(&[b"\xFF b"])))])),
        ("id out of range", bpe(vec![("eos_token_id", Some(Value::Uint(5)))])),
        ("no scores", spm(vec![("scores", None)])),
        ("few scores", spm(vec![("scores", float(&[1.0]))])),
        ("no number", spm(vec![("scores", float(&[0.0, f32::NAN, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]))])),
        ("no byte", spm(vec![("token_type", int(&[2, 1, 1, 6, 1, 6, 1, 1]))])),
        ("twice", spm(vec![("tokens", Some(strings(&["x", "a", "b", "a", "c", "<0x0A>", "d", "e"])))])),
    ];
    for (name, result) in bad {
        let error = result.err().unwrap_or_else(|| panic!("{name} was accepted"));
        assert_eq!(error.kind(), ErrorKind::BadTokenizer, "{name}: {error}");
    }
    let error = bpe(vec![("eos_token_id", Some(Value::String("4".into())))]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::WrongKeyType);
}

#[test]
fn a_text_that_no_token_spells_is_refused() {
    let tokenizer = spm(vec![("unknown_token_id", None)]).unwrap();
    assert_eq!(tokenizer.encode("z", EncodeOptions::default()).unwrap_err().kind(), ErrorKind::BadTokenizer);
}

#[test]
fn an_absent_special_token_is_written_as_minus_one() {
    let tokenizer = bpe(vec![("bos_token_id", Some(Value::Int(-1)))]).unwrap();
    assert_eq!(tokenizer.bos(), None);
}

#[test]
fn long_texts_without_a_break_are_no_trouble() {
    let options = EncodeOptions::default();
    for tokenizer in [bpe(vec![]).unwrap(), spm(vec![]).unwrap()] {
        for text in ["ab".repeat(500_000), "a".repeat(1_000_000), " ".repeat(1_500_000)] {
            let ids = tokenizer.encode(&text, options).unwrap();
            assert_eq!(tokenizer.decode(&ids, false), text.as_bytes());
        }
    }
}

#[test]
fn empty_tokens_may_occur_more_than_once() {
    let types = |kind| Some(Value::Array(Array::Int([1, 1, 1, 1, 3, kind, kind].to_vec())));
    for kind in 1..=5 {
        let tokens = Some(strings(&["a", "b", "ab", "Ġ", "<|im_end|>", "", ""]));
        let tokenizer = bpe(vec![("tokens", tokens), ("token_type", types(kind))]).unwrap();
        assert_eq!(tokenizer.encode("ab a", EncodeOptions::default()).unwrap(), [2, 3, 0]);
        assert_eq!((tokenizer.vocab_size(), tokenizer.piece(6, true)), (7, Some(&[][..])));
        let tokens = Some(strings(&["<unk>", "a", "b", "ab", "\u{2581}", "", "aa", ""]));
        let types = Some(Value::Array(Array::Int(vec![2, 1, 1, 1, 1, kind, 1, kind])));
        let tokenizer = spm(vec![("tokens", tokens), ("token_type", types)]).unwrap();
        assert_eq!(tokenizer.encode("ab a", EncodeOptions::default()).unwrap(), [3, 4, 1]);
    }
}

#[test]
fn text_that_no_token_spells_is_never_left_out() {
    let error = bpe(vec![]).unwrap().encode("abc", EncodeOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadTokenizer);
    assert!(error.detail().contains("abc"), "{error}");
}

#[test]
fn control_tokens_are_no_words() {
    // `llama-bpe` takes a word that is a token as a whole.
    let change = || {
        vec![
            ("pre", Some(Value::String("llama-bpe".into()))),
            ("tokens", Some(strings(&["a", "b", "ba", "Ġ", "ab"]))),
            ("merges", Some(strings(&["b a"]))),
        ]
    };
    let tokenizer = bpe(change()).unwrap();
    assert_eq!(tokenizer.encode("ab", EncodeOptions::default()).unwrap(), [0, 1]);
    let parse = EncodeOptions { parse_special: true, ..EncodeOptions::default() };
    assert_eq!(tokenizer.encode("ab", parse).unwrap(), [4]);
}
