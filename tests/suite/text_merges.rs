//! The merges of byte-level BPE, against the `tokenizers` crate on vocabularies of chance.

use pagelm::gguf::{Array, Meta, Strings, Value};
use pagelm::text::{EncodeOptions, Tokenizer};
use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab};

use crate::common::rng::Rng;

const CONTROL: i64 = 3;

struct Vocabulary {
    tokens: Vec<String>,
    types: Vec<i64>,
    merges: Vec<(String, String)>,
}

/// Letters, and tokens that neighbours make; some of them in several ways, and some merges twice.
fn vocabulary(rng: &mut Rng) -> Vocabulary {
    let mut tokens: Vec<String> = ["a", "b", "c"].map(String::from).to_vec();
    let mut merges = Vec::new();
    for _ in 0..rng.below(24) {
        let (left, right) = (tokens[rng.below(tokens.len())].clone(), tokens[rng.below(tokens.len())].clone());
        let joined = format!("{left}{right}");
        if !tokens.contains(&joined) {
            tokens.insert(3 + rng.below(tokens.len() - 2), joined);
        }
        merges.push((left, right));
    }
    // Without a merge: only a word as a whole can be these, and not the second.
    tokens
        .extend(["abcabc", "cbacba"].map(String::from).into_iter().filter(|t| !tokens.contains(t)).collect::<Vec<_>>());
    let last = tokens.len() - 1;
    let types = (0..tokens.len()).map(|id| if id == last { CONTROL } else { 1 }).collect();
    Vocabulary { tokens, types, merges }
}

fn strings(list: impl Iterator<Item = String>) -> Value {
    let mut out = Strings::default();
    list.for_each(|s| out.push(s.as_bytes()));
    Value::Array(Array::Strings(out))
}

fn ours(v: &Vocabulary, pre: &str) -> Result<Tokenizer, pagelm::Error> {
    let mut meta = Meta::default();
    for (name, value) in [
        ("model", Value::String("gpt2".into())),
        ("pre", Value::String(pre.into())),
        ("tokens", strings(v.tokens.iter().cloned())),
        ("token_type", Value::Array(Array::Int(v.types.clone()))),
        ("merges", strings(v.merges.iter().map(|(a, b)| format!("{a} {b}")))),
    ] {
        meta.insert(format!("tokenizer.ggml.{name}"), value);
    }
    Tokenizer::from_gguf(&meta)
}

fn theirs(v: &Vocabulary, whole_words: bool) -> BPE {
    let merged: Vec<String> = v.merges.iter().flat_map(|(a, b)| [a.clone(), b.clone(), format!("{a}{b}")]).collect();
    let mut words = Vocab::default();
    for (id, token) in v.tokens.iter().enumerate() {
        if v.types[id] != CONTROL || merged.contains(token) {
            words.insert(token.clone(), id as u32);
        }
    }
    BPE::builder().vocab_and_merges(words, v.merges.clone()).ignore_merges(whole_words).build().unwrap()
}

#[test]
fn words_are_merged_as_the_tokenizers_crate_merges_them() {
    let mut rng = Rng::named("merges");
    let (mut joined, mut whole) = (0, 0);
    for _ in 0..300 {
        let v = vocabulary(&mut rng);
        for (pre, whole_words) in [("gpt-2", false), ("llama-bpe", true)] {
            let (ours, theirs) = (ours(&v, pre).unwrap(), theirs(&v, whole_words));
            let chance = (0..20).map(|_| (0..1 + rng.below(20)).map(|_| ["a", "b", "c"][rng.below(3)]).collect());
            for word in chance.chain(["abcabc", "cbacba"].map(String::from)).collect::<Vec<String>>() {
                let want: Vec<u32> = theirs.tokenize(&word).unwrap().iter().map(|t| t.id).collect();
                let got = ours.encode(&word, EncodeOptions::default()).unwrap();
                assert_eq!(got, want, "{pre}: {word} by {:?} and {:?}", v.tokens, v.merges);
                joined += word.len() - got.len();
                whole += usize::from(word == "abcabc" && got.len() == 1);
            }
        }
    }
    assert!(joined > 10_000 && whole > 250, "{joined} letters joined and {whole} whole words are no test");
}

#[test]
fn a_merge_that_makes_no_token_is_named() {
    let v = Vocabulary {
        tokens: ["a", "b"].map(String::from).to_vec(),
        types: vec![1, 1],
        merges: vec![("a".into(), "b".into())],
    };
    let error = ours(&v, "gpt-2").err().unwrap().to_string();
    assert!(error.contains("merge 0, `a b`") && error.contains("tokenizer.ggml.merges"), "{error}");
}
