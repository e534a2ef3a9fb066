//! The tokenizer against llama.cpp and the families' own tokenizers, and the text stream.

use std::path::Path;

use pagelm::gguf::{Meta, Progress, Reader};
use pagelm::text::{EncodeOptions, TextStream, Tokenizer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::common::{fixtures, rng::Rng};

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };
const PARSE: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };
const ADD: EncodeOptions = EncodeOptions { add_special: true, parse_special: false };
const ADD_PARSE: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };

/// The metadata at the start of a file, without reading the weights behind it.
pub fn header(path: &Path) -> Meta {
    use std::io::Read;
    let mut file = std::fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut reader = Reader::new(None);
    let mut piece = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut piece).expect("readable");
        assert!(n > 0, "{} ends inside its header", path.display());
        if let Progress::Done(gguf) = reader.push(&piece[..n]).unwrap_or_else(|e| panic!("{}: {e}", path.display())) {
            return gguf.meta;
        }
    }
}

fn ids(v: &Value) -> Vec<u32> {
    v.as_array().expect("ids").iter().map(|n| n.as_u64().expect("an id") as u32).collect()
}

fn hex(v: &Value) -> Vec<u8> {
    let s = v.as_str().expect("hex");
    (0..s.len()).step_by(2).map(|i| u8::from_str_radix(&s[i..i + 2], 16).expect("hex")).collect()
}

/// Checks everything that a tokenizer fixture says. Returns (cases, cases in which the second opinion was taken).
fn check_fixture(name: &str, tokenizer: &Tokenizer) -> (usize, usize) {
    let data = fixtures::json(&format!("reference/tokenizer-{name}.json"));
    assert_eq!(tokenizer.vocab_size() as u64, data["n_vocab"].as_u64().expect("n_vocab"), "{name}");
    check_special(name, tokenizer, &data);
    check_pieces(name, tokenizer, &data);
    let prefix = ids(&data["add_special_prefix"]);
    let mut second = 0;
    let cases = data["cases"].as_array().expect("cases");
    for case in cases {
        let text = case["text"].as_str().expect("text");
        let plain = ids(case.get("sentencepiece_ids").unwrap_or(&case["ids"]));
        let parsed = case.get("ids_parse_special").map_or_else(|| plain.clone(), ids);
        // The HF tokenizers recognise special tokens; they also give the plain ids where there is none in the text.
        let (plain, parsed) = match case.get("hf_tokenizers_ids") {
            Some(hf) if case.get("ids_parse_special").is_none() => (ids(hf), ids(hf)),
            Some(hf) => (plain, ids(hf)),
            // Nobody else was asked about this pre-tokenizer, but what the names of tokens mean is the same for all.
            None if parsed.iter().any(|&id| is_named_only(tokenizer, id)) => (plain.clone(), plain),
            None => (plain, parsed),
        };
        second += usize::from(case.get("hf_tokenizers_ids").or(case.get("sentencepiece_ids")).is_some());
        assert_eq!(tokenizer.encode(text, PLAIN).unwrap(), plain, "{name}: {text:?}");
        assert_eq!(tokenizer.encode(text, PARSE).unwrap(), parsed, "{name}, special tokens parsed: {text:?}");
        assert_eq!(tokenizer.encode(text, ADD).unwrap(), [prefix.clone(), plain].concat(), "{name}: {text:?}");
        assert_eq!(tokenizer.encode(text, ADD_PARSE).unwrap(), [prefix.clone(), parsed].concat(), "{name}: {text:?}");
    }
    (cases.len(), second)
}

/// A normal or user-defined token with a name that makes llama.cpp take it for a control token.
fn is_named_only(tokenizer: &Tokenizer, id: u32) -> bool {
    matches!(tokenizer.piece(id, false), Some(b"</s>" | b"<eos>"))
}

fn check_special(name: &str, tokenizer: &Tokenizer, data: &Value) {
    let special = &data["special"];
    let id = |key: &str| u32::try_from(special[key].as_i64().expect("an id")).ok();
    assert_eq!(tokenizer.bos(), id("bos"), "{name}");
    assert_eq!(tokenizer.eos(), id("eos"), "{name}");
    assert_eq!(tokenizer.adds_bos(), special["add_bos"].as_bool().expect("add_bos"), "{name}");
    assert_eq!(tokenizer.adds_eos(), special["add_eos"].as_bool().expect("add_eos"), "{name}");
    // llama.cpp goes by names, whatever type the file gives to the token.
    let ends = |id: &u32| Some(*id) == tokenizer.eos() || tokenizer.piece(*id, false).is_some_and(<[u8]>::is_empty);
    let want: Vec<u32> = ids(&special["end_of_generation"]).into_iter().filter(ends).collect();
    assert_eq!(tokenizer.end_of_generation(), want, "{name}");
}

fn check_pieces(name: &str, tokenizer: &Tokenizer, data: &Value) {
    for (id, want) in data["pieces"].as_object().expect("pieces") {
        let id = id.parse().expect("an id");
        assert_eq!(tokenizer.piece(id, true), Some(&hex(want)[..]), "{name}: piece of {id}");
    }
    for case in data["decode"].as_array().expect("decode") {
        let ids = ids(&case["ids"]);
        for (key, show_special) in [("special_hex", true), ("hidden_hex", false)] {
            // llama.cpp takes tokens of these names for control tokens whatever the file says.
            let ids: Vec<u32> =
                ids.iter().copied().filter(|&id| show_special || !is_named_only(tokenizer, id)).collect();
            let mut bytes = tokenizer.decode(&ids, show_special);
            // It drops the space that encoding put in front; a stream cannot know that it stands at the start.
            if data["keys"]["add_space_prefix"] == true && bytes.first() == Some(&b' ') {
                bytes.remove(0);
            }
            assert_eq!(bytes, hex(&case[key]), "{name}: {ids:?}");
        }
        let mut stream = TextStream::default();
        let streamed: String = ids.iter().map(|&id| stream.push(tokenizer.piece(id, true).unwrap())).collect();
        let all = String::from_utf8_lossy(&tokenizer.decode(&ids, true)).into_owned();
        assert_eq!(streamed + &stream.finish(), all, "{name}: {ids:?}");
    }
    for (key, show_special) in [("special", true), ("hidden", false)] {
        let mut hash = Sha256::new();
        for id in 0..tokenizer.vocab_size() as u32 {
            let mut piece = tokenizer.piece(id, show_special).expect("an id of the vocabulary");
            // llama.cpp takes tokens of these names for control tokens whatever the file says.
            if !show_special && is_named_only(tokenizer, id) {
                piece = b"";
            }
            hash.update((piece.len() as u32).to_le_bytes());
            hash.update(piece);
        }
        let hash: String = hash.finalize().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hash, data["vocab_sha256"][key].as_str().expect("a hash"), "{name}: {key}");
    }
}

fn check_vocab(name: &str, cases: usize, second: usize) {
    let path = fixtures::fixture(&format!("reference/{name}.gguf"));
    let tokenizer = Tokenizer::from_gguf(&header(&path)).unwrap();
    assert_eq!(check_fixture(name, &tokenizer), (cases, second), "{name}");
}

fn check_model(file: &str, name: &str, second: usize) {
    let Some(path) = fixtures::model(file) else { return };
    let meta = header(&path);
    let start = std::time::Instant::now();
    let tokenizer = Tokenizer::from_gguf(&meta).unwrap();
    eprintln!("{name}: tokenizer built in {:?}", start.elapsed());
    assert_eq!(check_fixture(name, &tokenizer), (410, second));
}

#[test]
fn every_pre_tokenizer_gives_the_reference_ids() {
    for (name, second) in [
        ("vocab-llama-bpe", 3),
        ("vocab-qwen2", 8),
        ("vocab-qwen35", 8),
        ("vocab-smollm", 3),
        ("vocab-gpt-2", 3),
        ("vocab-default", 0),
    ] {
        check_vocab(name, 410, second);
    }
}

#[test]
fn sentencepiece_vocabularies_give_the_reference_ids() {
    check_vocab("vocab-spm", 410, 0);
    check_vocab("vocab-spm-prefix", 410, 16);
}

#[test]
fn smollm2_reads_and_writes_text_as_the_reference_does() {
    check_model("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m", 0);
}

#[test]
fn qwen_coder_reads_and_writes_text_as_the_reference_does() {
    check_model("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "qwen2.5-coder-0.5b", 6);
}

#[test]
fn gemma_reads_and_writes_text_as_the_reference_does() {
    check_model("gemma-3-270m-q4_k_m.gguf", "gemma-3-270m", 4);
}

#[test]
fn the_tiny_models_read_text_as_the_reference_does() {
    let mut total = 0;
    for name in [
        "gemma",
        "gemma2",
        "gemma3",
        "llama",
        "llama32",
        "qwen2",
        "qwen2moe",
        "qwen3",
        "qwen35",
        "qwen35_mtp",
        "qwen35moe",
        "qwen35vl",
        "qwen3_tied",
        "qwen3moe",
        "qwen3vl",
    ] {
        let path = fixtures::fixture(&format!("golden/{name}.gguf"));
        let data = fixtures::json(&format!("golden/{name}.json"));
        let tokenizer = Tokenizer::from_gguf(&header(&path)).unwrap_or_else(|e| panic!("{name}: {e}"));
        for case in data["tokenizer_cases"].as_array().into_iter().flatten() {
            let text = case["text"].as_str().expect("text");
            assert_eq!(tokenizer.encode(text, PARSE).unwrap(), ids(&case["ids"]), "{name}: {text:?}");
            assert_eq!(tokenizer.encode(text, ADD_PARSE).unwrap(), ids(&case["ids_with_special"]), "{name}: {text:?}");
            total += 1;
        }
    }
    eprintln!("tokenizer cases of the tiny models: {total}");
}

fn vocabulary(name: &str) -> Tokenizer {
    let path = fixtures::fixture(&format!("reference/vocab-{name}.gguf"));
    Tokenizer::from_gguf(&header(&path)).unwrap()
}

/// The published patterns of three families, with what makes regular expressions go back step by step.
const PATTERNS: [(&str, &str); 3] = [
    (
        "llama-bpe",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    (
        "qwen2",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    ("gpt-2", r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"),
];

#[test]
fn words_are_cut_as_the_published_patterns_cut_them() {
    let mut rng = Rng::named("words");
    for (name, pattern) in PATTERNS {
        let tokenizer = vocabulary(name);
        let pattern = tokenizers::utils::SysRegex::new(pattern).unwrap();
        for _ in 0..4000 {
            let alphabet = [" ", " ", " ", "\n", "\r", "\t", "\u{3000}", "a", "1", ".", "'", "s"];
            let text: String = (0..rng.below(14)).map(|_| alphabet[rng.below(alphabet.len())]).collect();
            let words = pattern.find_iter(&text).map(|(start, end)| &text[start..end]);
            let want: Vec<u32> = words.flat_map(|word| tokenizer.encode(word, PLAIN).unwrap()).collect();
            assert_eq!(tokenizer.encode(&text, PLAIN).unwrap(), want, "{name}: {text:?}");
        }
    }
}

#[test]
fn words_after_a_million_spaces_are_cut_as_ever() {
    for name in ["default", "gpt-2", "llama-bpe", "qwen2", "qwen35", "smollm", "spm", "spm-prefix"] {
        let tokenizer = vocabulary(name);
        let tail = " don't stop 1234 now";
        for space in [" ", "\t", "\u{a0}", "\u{3000}", "\n", "\r", " \n"] {
            let encode = |n: usize| tokenizer.encode(&format!("a{}{tail}", space.repeat(n)), PLAIN).unwrap();
            // As the same text with fewer of them ends.
            let (short, long) = (encode(1 << 10), encode(1 << 20));
            let same = short.iter().rev().zip(long.iter().rev()).take_while(|(a, b)| a == b).count();
            let end = &long[long.len() - same..];
            let text = String::from_utf8_lossy(&tokenizer.decode(end, false)).into_owned();
            assert!(text.ends_with(tail), "{name}, {space:?}: {text:?}");
            assert!(tokenizer.decode(&long, false).ends_with(tail.as_bytes()), "{name}, {space:?}");
        }
    }
}

#[test]
fn names_end_a_generation_only_where_they_are_control_tokens() {
    for (file, names) in
        [("gemma-3-270m-q4_k_m.gguf", &["</s>"][..]), ("qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", &["</s>"])]
    {
        let Some(path) = fixtures::model(file) else { continue };
        let tokenizer = Tokenizer::from_gguf(&header(&path)).unwrap();
        for name in names {
            let id = (0..tokenizer.vocab_size() as u32).find(|&id| tokenizer.piece(id, false) == Some(name.as_bytes()));
            let id = id.unwrap_or_else(|| panic!("{file} has no text token {name}"));
            assert!(!tokenizer.is_end_of_generation(id), "{file}: {name}");
        }
        let eos = tokenizer.eos().unwrap();
        assert!(tokenizer.is_end_of_generation(eos), "{file}");
    }
}

#[test]
fn keys_end_a_generation_whatever_the_type() {
    use pagelm::gguf::{Array, Strings, Value as Key};
    let mut tokens = Strings::default();
    ["a", "<|im_end|>", "<|eot_id|>", "<|end|>", "</s>", "<eos>", "b"].iter().for_each(|t| tokens.push(t.as_bytes()));
    let mut meta = Meta::default();
    for (name, value) in [
        ("model", Key::String("gpt2".into())),
        ("pre", Key::String("gpt-2".into())),
        ("tokens", Key::Array(Array::Strings(tokens))),
        ("token_type", Key::Array(Array::Int(vec![1, 1, 4, 3, 4, 1, 1]))),
        ("merges", Key::Array(Array::Strings(Strings::default()))),
        ("eos_token_id", Key::Uint(1)),
        ("eot_token_id", Key::Uint(2)),
        ("eom_token_id", Key::Uint(6)),
    ] {
        meta.insert(format!("tokenizer.ggml.{name}"), value);
    }
    assert_eq!(Tokenizer::from_gguf(&meta).unwrap().end_of_generation(), [1, 2, 3, 6]);
}
