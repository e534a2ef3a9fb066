//! Byte-level BPE: a text is cut by the family's rules, its bytes are spelled in printable characters, and the
//! `tokenizers` crate merges them.

use std::collections::HashSet;

use tokenizers::models::bpe::{BPE, Merges, Vocab as BpeVocab};
use tokenizers::utils::SysRegex;
use tokenizers::{Model, NormalizedString};

use super::vocab::{self, Kind, Vocab};
use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::Meta;

/// Ends the rules of every family: white space up to the last character before a word, which that character joins. The
/// regular expressions run without it (it makes them backtrack, with a limit of a million steps), and [`Split`] does
/// what it says.
const BEFORE_A_WORD: &str = r"\s+(?!\S)|";

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
pub(super) fn pre_of(pattern: &str, nfc: bool) -> Option<&'static str> {
    let names = ["llama-bpe", "qwen2", "qwen35"];
    names.into_iter().find(|name| rules(name).is_some_and(|r| r.split == [pattern] && r.nfc == nfc))
}

/// One rule: where a text is cut.
struct Split {
    regex: SysRegex,
    /// White space that ends with a line break is a word of its own, whatever follows.
    lines: bool,
    trims: bool,
}

impl Split {
    fn new(pattern: &str) -> Split {
        let regex = SysRegex::new(&pattern.replace(BEFORE_A_WORD, "")).expect("our own patterns are well formed");
        Split { regex, lines: pattern.contains(r"\s*[\r\n]+"), trims: pattern.contains(BEFORE_A_WORD) }
    }

    /// The first word of the text. Nothing in the patterns looks back, so the next one is the first of what follows.
    fn first(&self, text: &str) -> Option<(usize, usize)> {
        let (start, end) = self.regex.find_iter(text).next()?;
        let word = &text[start..end];
        let whole = !self.trims || end == text.len() || !word.trim_start().is_empty();
        if whole || (self.lines && word.contains(['\r', '\n'])) {
            return Some((start, end));
        }
        // Of one character nothing is left for another word.
        let last = word.char_indices().next_back().map_or(0, |(at, _)| at);
        Some((start, if last == 0 { end } else { start + last }))
    }
}

pub(super) struct Bpe {
    model: BPE,
    split: Vec<Split>,
    nfc: bool,
    spelling: [char; 256],
    pub add_bos: bool,
}

impl Bpe {
    pub(super) fn new(meta: &Meta, vocab: &Vocab) -> Result<Bpe> {
        let pre = meta.opt_string("tokenizer.ggml.pre")?.unwrap_or("default");
        let Some(rules) = rules(pre) else {
            bail!(BadTokenizer, "unknown pre-tokenizer `{pre}`");
        };
        let merges = merges(meta)?;
        let model = BPE::builder()
            .vocab_and_merges(bpe_vocab(meta, vocab, &merges)?, merges)
            .ignore_merges(rules.whole_words)
            .cache_capacity(CACHED_WORDS)
            .build()
            .map_err(|e| Error::new(ErrorKind::BadTokenizer, e.to_string()).at("key `tokenizer.ggml.merges`"))?;
        let split = rules.split.iter().map(|r| Split::new(r)).collect();
        Ok(Bpe { model, split, nfc: rules.nfc, spelling: spelling(), add_bos: rules.add_bos })
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
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
        let mut rest = text;
        while let Some((start, end)) = rule.first(rest) {
            self.encode_words(&rest[..start], level + 1, out)?;
            self.encode_words(&rest[start..end], level + 1, out)?;
            rest = &rest[end..];
        }
        self.encode_words(rest, level + 1, out)
    }

    fn encode_word(&self, word: &str, out: &mut Vec<u32>) -> Result<()> {
        let spelled: String = word.bytes().map(|b| self.spelling[usize::from(b)]).collect();
        let tokens = self.model.tokenize(&spelled).map_err(|e| Error::new(ErrorKind::BadTokenizer, e.to_string()))?;
        // What is in no token is left out by the crate.
        if tokens.iter().map(|t| t.value.len()).sum::<usize>() != spelled.len() {
            bail!(BadTokenizer, "the vocabulary has no tokens for {word:?}");
        }
        out.extend(tokens.iter().map(|t| t.id));
        Ok(())
    }
}

/// Appends what a token of the file stands for.
pub(super) fn decode(kind: Kind, token: &[u8], out: &mut Vec<u8>) -> Result<()> {
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

/// The tokens that words are made of. Markers are none of them, unless a merge says so: they are found before.
fn bpe_vocab(meta: &Meta, vocab: &Vocab, merges: &Merges) -> Result<BpeVocab> {
    let raw = vocab::raw_tokens(meta)?;
    let mut out = BpeVocab::with_capacity(raw.len());
    for (id, token) in raw.iter().enumerate() {
        // An empty token stands for nothing, so several of them are no contradiction.
        if !token.is_empty()
            && let Some(other) = out.insert(text(token)?.to_owned(), id as u32)
        {
            bail!(BadTokenizer, "tokens {other} and {id} have the same text");
        }
    }
    let mut markers: HashSet<&str> = HashSet::new();
    for id in (0..raw.len() as u32).filter(|&id| vocab.is_marker(id)) {
        markers.insert(text(raw.get(id as usize).unwrap_or_default())?);
    }
    let mut joined = String::new();
    for (a, b) in merges {
        joined.clear();
        joined.extend([a.as_str(), b]);
        for part in [a, b, &joined] {
            markers.remove(part.as_str());
        }
    }
    out.retain(|token, _| !markers.contains(token.as_str()));
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
            _ => bail!(BadTokenizer, "merge {i} must be two tokens separated by a space"),
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
