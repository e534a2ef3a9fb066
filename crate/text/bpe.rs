//! Byte-level BPE: a text is cut by the family's rules, its bytes are spelled in printable characters, and the
//! `tokenizers` crate merges them.

use tokenizers::models::bpe::{BPE, Merges, Vocab as BpeVocab};
use tokenizers::utils::SysRegex;
use tokenizers::{Model, NormalizedString};

use super::vocab::{self, Kind};
use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::Meta;

/// How often the words of a text repeat makes a cache worth its memory; more entries gain nothing on prose.
const CACHED_WORDS: usize = 4096;

/// The rules of a family, applied one after the other to what the one before left.
struct Rules {
    split: &'static [&'static str],
    /// Text is brought into NFC first.
    nfc: bool,
    /// A word that is a token as a whole is never merged.
    whole_words: bool,
    /// Whether BOS is put in front where the file does not say.
    add_bos: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The rules for a value of `tokenizer.ggml.pre`.
fn rules(pre: &str) -> Option<Rules> {
    let plain = Rules { split: &[], nfc: false, whole_words: false, add_bos: false };
    Some(match pre {
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" => Rules {
            split: &[concat!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
                r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            )],
            whole_words: true,
            add_bos: true,
            ..plain
        },
        "qwen2" | "deepseek-r1-qwen" | "megrez" => Rules {
            split: &[concat!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
                r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            )],
            nfc: true,
            ..plain
        },
        "qwen35" => Rules {
            split: &[concat!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
                r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            )],
            nfc: true,
            ..plain
        },
        "smollm" | "starcoder" | "refact" | "command-r" => Rules { split: &[r"\p{N}", GPT2], ..plain },
        "gpt-2" | "phi-2" => Rules { split: &[GPT2], ..plain },
        "default" => Rules { split: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"], ..plain },
        _ => return None,
    })
}

/// The name of the family that cuts by this one pattern.
pub fn pre_of(pattern: &str, nfc: bool) -> Option<&'static str> {
    let names = ["llama-bpe", "qwen2", "qwen35"];
    names.into_iter().find(|name| rules(name).is_some_and(|r| r.split == [pattern] && r.nfc == nfc))
}

pub struct Bpe {
    model: BPE,
    split: Vec<SysRegex>,
    nfc: bool,
    spelling: [char; 256],
    pub add_bos: bool,
}

impl Bpe {
    pub fn new(meta: &Meta) -> Result<Bpe> {
        let pre = meta.opt_string("tokenizer.ggml.pre")?.unwrap_or("default");
        let Some(rules) = rules(pre) else {
            bail!(BadTokenizer, "the pre-tokenizer `{pre}` is not one that this engine knows");
        };
        let vocab = bpe_vocab(meta)?;
        let model = BPE::builder()
            .vocab_and_merges(vocab, merges(meta)?)
            .ignore_merges(rules.whole_words)
            .cache_capacity(CACHED_WORDS)
            .build()
            .map_err(|e| Error::new(ErrorKind::BadTokenizer, e.to_string()).at("key `tokenizer.ggml.merges`"))?;
        let split = rules.split.iter().map(|r| SysRegex::new(r).expect("our own patterns are well formed")).collect();
        Ok(Bpe { model, split, nfc: rules.nfc, spelling: spelling(), add_bos: rules.add_bos })
    }

    /// Appends the ids of `text`.
    pub fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        if self.nfc && !text.is_ascii() {
            let mut normal = NormalizedString::from(text);
            normal.nfc();
            return self.encode_words(normal.get(), 0, out);
        }
        self.encode_words(text, 0, out)
    }

    /// Cuts by rule `level` and hands the pieces, and what lies between them, to the next.
    fn encode_words(&self, text: &str, level: usize, out: &mut Vec<u32>) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let Some(rule) = self.split.get(level) else { return self.encode_word(text, out) };
        let mut done = 0;
        for (start, end) in rule.find_iter(text) {
            self.encode_words(&text[done..start], level + 1, out)?;
            self.encode_words(&text[start..end], level + 1, out)?;
            done = end;
        }
        self.encode_words(&text[done..], level + 1, out)
    }

    fn encode_word(&self, word: &str, out: &mut Vec<u32>) -> Result<()> {
        let spelled: String = word.bytes().map(|b| self.spelling[usize::from(b)]).collect();
        let tokens = self.model.tokenize(&spelled).map_err(|e| Error::new(ErrorKind::BadTokenizer, e.to_string()))?;
        out.extend(tokens.iter().map(|t| t.id));
        Ok(())
    }
}

/// Appends what a token of the file stands for.
pub fn decode(kind: Kind, token: &[u8], out: &mut Vec<u8>) -> Result<()> {
    match kind {
        Kind::Normal => {}
        Kind::Unused => return Ok(()),
        _ => {
            out.extend_from_slice(token);
            return Ok(());
        }
    }
    let mut utf8 = [0; 4];
    for c in text(token)?.chars() {
        match byte_of(c) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes()),
        }
    }
    Ok(())
}

fn bpe_vocab(meta: &Meta) -> Result<BpeVocab> {
    let raw = vocab::raw_tokens(meta)?;
    let mut out = BpeVocab::with_capacity(raw.len());
    for (id, token) in raw.iter().enumerate() {
        if let Some(other) = out.insert(text(token)?.to_owned(), id as u32) {
            bail!(BadTokenizer, "tokens {other} and {id} are the same");
        }
    }
    Ok(out)
}

fn merges(meta: &Meta) -> Result<Merges> {
    let key = "tokenizer.ggml.merges";
    let Some(raw) = meta.opt_strings(key)? else {
        bail!(BadTokenizer, "a byte-level BPE vocabulary needs `{key}`, an array of strings");
    };
    let mut out = Merges::with_capacity(raw.len());
    for (i, merge) in raw.iter().enumerate() {
        match text(merge)?.split_once(' ') {
            Some((a, b)) if !a.is_empty() && !b.is_empty() => out.push((a.to_owned(), b.to_owned())),
            _ => bail!(BadTokenizer, "merge {i} is no pair of tokens with a space between them"),
        }
    }
    Ok(out)
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|_| Error::new(ErrorKind::BadTokenizer, "a byte-level BPE vocabulary must be UTF-8"))
}

/// Bytes that stand for themselves in the spelling of byte-level BPE.
fn is_printable(byte: u8) -> bool {
    matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The character that spells each byte: itself, or the next one from U+0100 on.
fn spelling() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|b| {
        if is_printable(b as u8) {
            return char::from(b as u8);
        }
        next += 1;
        char::from_u32(next - 1).expect("below the surrogates")
    })
}

fn byte_of(c: char) -> Option<u8> {
    let code = u32::from(c);
    match code {
        0..=0xFF => Some(code as u8).filter(|&b| is_printable(b)),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 0x7F) as u8),
        0x143 => Some(0xAD),
        _ => None,
    }
}
