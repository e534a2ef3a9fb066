//! Byte-level BPE: a text is cut by the family's rules, each byte is a token, and neighbours are merged.
//!
//! The `tokenizers` crate cuts and normalises. It could merge too, but its tables have every token as two strings and
//! every merge as two more: they would take most of the time of loading a small model in a page.

use tokenizers::NormalizedString;
use tokenizers::utils::SysRegex;

use super::index::Index;
use super::merges::{Merges, Word};
use super::vocab::{self, Kind, Vocab};
use crate::bail;
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::{Meta, Strings};

/// Ends the rules of every family: white space up to the last character before a word, which that character joins. The
/// regular expressions run without it (it makes them backtrack, with a limit of a million steps), and [`Split`] does
/// what it says.
const BEFORE_A_WORD: &str = r"\s+(?!\S)|";

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
    merges: Merges,
    /// The token of each byte, where words may have it.
    byte_tokens: [Option<u32>; 256],
    /// Where a word may be a token as a whole.
    whole_words: Option<WholeWords>,
    split: Vec<Split>,
    nfc: bool,
    pub add_bos: bool,
}

/// Finds the words that are tokens.
struct WholeWords {
    tokens: Strings,
    index: Index,
    spelling: [char; 256],
    /// Tokens that are no words, in order.
    markers: Vec<u32>,
}

impl WholeWords {
    fn find(&self, word: &str) -> Option<u32> {
        let spelled: String = word.bytes().map(|b| self.spelling[usize::from(b)]).collect();
        self.index.get(&self.tokens, spelled.as_bytes()).filter(|id| self.markers.binary_search(id).is_err())
    }
}

impl Bpe {
    pub(super) fn new(meta: &Meta, vocab: &Vocab) -> Result<Bpe> {
        let pre = meta.opt_string("tokenizer.ggml.pre")?.unwrap_or("default");
        let Some(rules) = rules(pre) else {
            bail!(BadTokenizer, "unknown pre-tokenizer `{pre}`");
        };
        let tokens = vocab::raw_tokens(meta)?;
        let index = Index::of(tokens)?;
        let merges = Merges::new(meta, tokens, &index)?;
        // Markers are found before words are cut. They are parts of words only where a merge says so.
        let mut markers: Vec<u32> = (0..tokens.len() as u32).filter(|&id| vocab.is_marker(id)).collect();
        merges.retain_unused(&mut markers);
        let spelling = spelling();
        let byte_tokens = spelling.map(|c| {
            let id = index.get(tokens, c.encode_utf8(&mut [0; 4]).as_bytes());
            id.filter(|id| markers.binary_search(id).is_err())
        });
        let whole_words = rules.whole_words.then(|| WholeWords { tokens: tokens.clone(), index, spelling, markers });
        let split = rules.split.iter().map(|r| Split::new(r)).collect();
        Ok(Bpe { merges, byte_tokens, whole_words, split, nfc: rules.nfc, add_bos: rules.add_bos })
    }

    /// Appends the ids of `text`.
    pub(super) fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<()> {
        let mut memory = Word::default();
        if self.nfc && !text.is_ascii() {
            let mut normal = NormalizedString::from(text);
            normal.nfc();
            return self.encode_words(normal.get(), 0, &mut memory, out);
        }
        self.encode_words(text, 0, &mut memory, out)
    }

    /// Cuts by rule `level` and hands the pieces, and what lies between them, to the next.
    fn encode_words(&self, text: &str, level: usize, memory: &mut Word, out: &mut Vec<u32>) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let Some(rule) = self.split.get(level) else { return self.encode_word(text, memory, out) };
        let mut rest = text;
        while let Some((start, end)) = rule.first(rest) {
            self.encode_words(&rest[..start], level + 1, memory, out)?;
            self.encode_words(&rest[start..end], level + 1, memory, out)?;
            rest = &rest[end..];
        }
        self.encode_words(rest, level + 1, memory, out)
    }

    fn encode_word(&self, word: &str, memory: &mut Word, out: &mut Vec<u32>) -> Result<()> {
        if let Some(id) = self.whole_words.as_ref().and_then(|words| words.find(word)) {
            out.push(id);
            return Ok(());
        }
        let token = |b: u8| self.byte_tokens[usize::from(b)];
        if word.bytes().any(|b| token(b).is_none()) {
            bail!(BadTokenizer, "the vocabulary has no tokens for {word:?}");
        }
        self.merges.apply(memory, word.bytes().filter_map(token), out);
        Ok(())
    }
}

/// Appends what a token of the file stands for.
// A function of its own: a browser optimises what is called often, not a loop that runs once.
#[inline(never)]
pub(super) fn decode(kind: Kind, token: &[u8], out: &mut Vec<u8>) -> Result<()> {
    let text = text(token)?;
    match kind {
        Kind::Normal => {}
        Kind::Unused => return Ok(()),
        _ => {
            out.extend_from_slice(token);
            return Ok(());
        }
    }
    let mut utf8 = [0; 4];
    for c in text.chars() {
        match byte_of(c) {
            Some(byte) => out.push(byte),
            None => out.extend_from_slice(c.encode_utf8(&mut utf8).as_bytes()),
        }
    }
    Ok(())
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
