//! The tokenizer of a Hugging Face checkpoint as the GGUF metadata that a converter would write.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::Value as Json;

use super::bpe;
use super::vocab::{Kind, MAX_TOKENS};
use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::{Array, Meta, Strings, Value};

/// The texts of a checkpoint's files; all but `config` may be missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenizerFiles<'a> {
    /// `tokenizer.json`
    pub tokenizer: Option<&'a str>,
    /// `tokenizer_config.json`
    pub settings: Option<&'a str>,
    /// `config.json`
    pub config: &'a str,
    /// `generation_config.json`
    pub generation: Option<&'a str>,
    /// `chat_template.jinja`
    pub template: Option<&'a str>,
}

/// The largest in use (vocabularies of 260 000 tokens) have 35 MB.
const MAX_TEXT: usize = 1 << 28;

#[derive(Deserialize)]
struct Tokenizer {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<Added>,
    #[serde(default)]
    normalizer: Json,
    #[serde(default)]
    pre_tokenizer: Json,
    #[serde(default)]
    post_processor: Json,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    r#type: Option<String>,
    vocab: BTreeMap<String, u32>,
    merges: Vec<Merge>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair(String, String),
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

/// Adds the tokenizer to the metadata of a model with `n_vocab` tokens. If it is not supported, the model gets a
/// vocabulary without texts, which runs on ids only, and the error says why.
pub fn tokenizer_from_hf(files: &TokenizerFiles<'_>, n_vocab: usize, meta: &mut Meta) -> Result<()> {
    let mut keys = Keys::default();
    let result = keys.tokenizer(files, n_vocab);
    if result.is_err() {
        keys = Keys::default();
        let mut tokens = Strings::default();
        (0..n_vocab.min(MAX_TOKENS)).for_each(|_| tokens.push(b""));
        keys.set("model", Value::String("none".to_string()));
        keys.set("tokens", Value::Array(Array::Strings(tokens)));
        keys.ends(&ends(files), None);
    }
    for (key, value) in keys.0 {
        meta.insert(key, value);
    }
    result
}

#[derive(Default)]
struct Keys(BTreeMap<String, Value>);

impl Keys {
    fn set(&mut self, name: &str, value: Value) {
        self.0.insert(format!("tokenizer.ggml.{name}"), value);
    }

    fn tokenizer(&mut self, files: &TokenizerFiles<'_>, n_vocab: usize) -> Result<()> {
        let Some(text) = files.tokenizer else { bail!(BadTokenizer, "the checkpoint has no `tokenizer.json`") };
        if text.len() > MAX_TEXT {
            bail!(BadTokenizer, "`tokenizer.json` has {} bytes, the limit is {MAX_TEXT}", text.len());
        }
        let t: Tokenizer = serde_json::from_str(text).map_err(|e| {
            let detail = format!("is not a valid BPE tokenizer: {e}");
            Error::new(ErrorKind::BadTokenizer, detail).at("tokenizer.json")
        })?;
        let settings: Json = serde_json::from_str(files.settings.unwrap_or("{}")).map_err(|e| {
            Error::new(ErrorKind::BadTokenizer, format!("is not valid JSON: {e}")).at("tokenizer_config.json")
        })?;
        let sentencepiece = t.model.byte_fallback;
        let named = |e: Error| e.at("tokenizer.json");
        let ids = self.tokens(&t, n_vocab, sentencepiece).map_err(named)?;
        if sentencepiece { self.spm(&t, &ids) } else { self.bpe(&t) }.map_err(named)?;
        let role = |name: &str| {
            let token = &settings[name];
            ids.get(token.as_str().or(token["content"].as_str())?).copied()
        };
        if let Some(bos) = role("bos_token") {
            self.set("bos_token_id", Value::Uint(bos.into()));
        }
        if let Some(id) = t.model.unk_token.as_deref().and_then(|u| ids.get(u)) {
            self.set("unknown_token_id", Value::Uint((*id).into()));
        }
        let around = |last: bool| {
            let single = find(&t.post_processor, "TemplateProcessing")?["single"].as_array()?;
            let end = if last { single.last() } else { single.first() };
            end.map(|piece| piece.get("SpecialToken").is_some())
        };
        for (key, last) in [("add_bos_token", false), ("add_eos_token", true)] {
            let add = settings[key].as_bool().or(around(last)).unwrap_or(false);
            self.set(key, Value::Bool(add));
        }
        self.ends(&ends(files), role("eos_token"));
        if let Some(template) = template(files, &settings) {
            self.0.insert("tokenizer.chat_template".to_string(), Value::String(template));
        }
        Ok(())
    }

    /// Tokens and their kinds, in the order of their ids. Returns the id of each.
    fn tokens<'t>(&mut self, t: &'t Tokenizer, n_vocab: usize, spm: bool) -> Result<HashMap<&'t str, u32>> {
        if t.model.r#type.as_deref().is_some_and(|t| t != "BPE") {
            bail!(
                BadTokenizer,
                "unsupported tokenizer model `{}`; expected `BPE`",
                t.model.r#type.as_deref().unwrap_or("")
            );
        }
        let mut all: BTreeMap<u32, (&str, Kind)> = BTreeMap::new();
        for (token, id) in &t.model.vocab {
            let byte = spm && token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
            let unknown = t.model.unk_token.as_deref() == Some(token);
            let kind = if byte { Kind::Byte } else { Kind::Normal };
            if let Some((other, _)) = all.insert(*id, (token, if unknown { Kind::Unknown } else { kind })) {
                bail!(BadTokenizer, "`{other}` and `{token}` have the same id {id}");
            }
        }
        for a in &t.added_tokens {
            let kind = match all.get(&a.id) {
                Some((_, Kind::Unknown)) => Kind::Unknown,
                _ if a.special => Kind::Control,
                _ => Kind::UserDefined,
            };
            all.insert(a.id, (&a.content, kind));
        }
        // A text model keeps the tokenizer of its family, with tokens for images that it cannot take.
        all.retain(|id, (_, kind)| (*id as usize) < n_vocab || !matches!(kind, Kind::Control | Kind::UserDefined));
        let last = all.last_key_value().map_or(0, |(id, _)| *id as usize);
        if last >= n_vocab || n_vocab > MAX_TOKENS {
            bail!(BadTokenizer, "token id {last} is outside the vocabulary of {n_vocab} tokens");
        }
        let len = n_vocab;
        let (mut tokens, mut kinds) = (Strings::default(), Vec::with_capacity(len));
        for id in 0..len as u32 {
            match all.get(&id) {
                Some((token, kind)) => {
                    tokens.push(token.as_bytes());
                    kinds.push(*kind as u64);
                }
                None => {
                    tokens.push(format!("[PAD{id}]").as_bytes());
                    kinds.push(Kind::Unused as u64);
                }
            }
        }
        self.set("tokens", Value::Array(Array::Strings(tokens)));
        self.set("token_type", Value::Array(Array::Uint(kinds)));
        Ok(all.iter().map(|(id, (token, _))| (*token, *id)).collect())
    }

    fn bpe(&mut self, t: &Tokenizer) -> Result<()> {
        let nfc = find(&t.normalizer, "NFC").is_some();
        let Some(pre) = pre_tokenizer(&t.pre_tokenizer, nfc).filter(|_| nfc || t.normalizer.is_null()) else {
            bail!(BadTokenizer, "unknown normalizer or pre-tokenizer");
        };
        let mut merges = Strings::default();
        for m in &t.model.merges {
            match m {
                Merge::Text(s) => merges.push(s.as_bytes()),
                Merge::Pair(a, b) => merges.push(format!("{a} {b}").as_bytes()),
            }
        }
        self.set("model", Value::String("gpt2".to_string()));
        self.set("pre", Value::String(pre.to_string()));
        self.set("merges", Value::Array(Array::Strings(merges)));
        Ok(())
    }

    /// SentencePiece joins what makes the token with the best score: here, the one whose merge comes first.
    fn spm(&mut self, t: &Tokenizer, ids: &HashMap<&str, u32>) -> Result<()> {
        let marks = find(&t.normalizer, "Replace").is_some_and(|r| r["content"] == "\u{2581}");
        let metaspace = find(&t.pre_tokenizer, "Metaspace");
        if !marks && metaspace.is_none() {
            bail!(BadTokenizer, "has byte fallback, but does not mark spaces by U+2581 as SentencePiece does");
        }
        let prefix = find(&t.normalizer, "Prepend").is_some()
            || metaspace.is_some_and(|m| m["prepend_scheme"].as_str().is_none_or(|s| s != "never"));
        let Some(Value::Array(Array::Strings(tokens))) = self.0.get("tokenizer.ggml.tokens") else {
            unreachable!("the tokens come first")
        };
        // Below every merge: what no merge makes is not made by joining.
        let mut scores = vec![-1e9f32; tokens.len()];
        let mut joined = String::new();
        for (rank, m) in t.model.merges.iter().enumerate() {
            joined.clear();
            match m {
                Merge::Pair(a, b) => joined.extend([a.as_str(), b]),
                Merge::Text(s) => joined.extend(s.split(' ')),
            }
            match ids.get(joined.as_str()) {
                Some(id) if scores[*id as usize] == -1e9 => scores[*id as usize] = -(rank as f32),
                Some(_) => {}
                None => bail!(BadTokenizer, "merge {rank} makes `{joined}`, which is not in the vocabulary"),
            }
        }
        self.set("model", Value::String("llama".to_string()));
        self.set("scores", Value::Array(Array::Float(scores)));
        self.set("add_space_prefix", Value::Bool(prefix));
        Ok(())
    }

    /// GGUF has room for three tokens that end a generation; others are known by their names.
    fn ends(&mut self, ends: &[u32], eos: Option<u32>) {
        let ids = eos.into_iter().chain(ends.iter().copied().filter(|id| Some(*id) != eos));
        for (name, id) in ["eos_token_id", "eot_token_id", "eom_token_id"].into_iter().zip(ids) {
            self.set(name, Value::Uint(id.into()));
        }
    }
}

/// `eos_token_id` of the first file that has it: a number or a list.
fn ends(files: &TokenizerFiles<'_>) -> Vec<u32> {
    let id = |v: &Json| v.as_u64().and_then(|id| u32::try_from(id).ok());
    for text in [files.generation, Some(files.config)].into_iter().flatten() {
        let json: Json = serde_json::from_str(text).unwrap_or_default();
        match &json["eos_token_id"] {
            Json::Array(list) => return list.iter().filter_map(id).collect(),
            one if one.is_u64() => return id(one).into_iter().collect(),
            _ => {}
        }
    }
    Vec::new()
}

/// The template of the file of its own, else that of the settings: one, or the default of several.
fn template(files: &TokenizerFiles<'_>, settings: &Json) -> Option<String> {
    let json = &settings["chat_template"];
    let named = |list: &Vec<Json>| {
        let default = list.iter().find(|t| t["name"] == "default")?;
        default["template"].as_str().map(str::to_string)
    };
    (files.template.or(json.as_str()).map(str::to_string)).or_else(|| json.as_array().and_then(named))
}

/// The parts of a normalizer or the like: itself, or those of a sequence.
fn parts(json: &Json) -> Vec<&Json> {
    let lists = ["normalizers", "pretokenizers", "processors"];
    match lists.iter().find_map(|l| json[l].as_array()) {
        Some(list) => list.iter().collect(),
        None if json.is_null() => Vec::new(),
        None => vec![json],
    }
}

fn find<'a>(json: &'a Json, kind: &str) -> Option<&'a Json> {
    parts(json).into_iter().find(|p| p["type"] == kind)
}

/// The GGUF name of the rules that cut a text into words.
fn pre_tokenizer(json: &Json, nfc: bool) -> Option<&'static str> {
    let parts = parts(json);
    let (bytes, rules) = parts.split_last()?;
    if bytes["type"] != "ByteLevel" || bytes["add_prefix_space"] == true {
        return None;
    }
    let own_rules = bytes["use_regex"].as_bool().unwrap_or(true);
    match rules {
        [] if own_rules && !nfc => Some("gpt-2"),
        [digits] if own_rules && !nfc && digits["type"] == "Digits" && digits["individual_digits"] == true => {
            Some("smollm")
        }
        [split] if !own_rules && split["type"] == "Split" && split["behavior"] == "Isolated" => {
            bpe::pre_of(split["pattern"]["Regex"].as_str()?, nfc)
        }
        _ => None,
    }
}
