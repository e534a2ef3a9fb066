//! SentencePiece BPE: neighbours are joined as long as the joined text is a token, the best score first, and what is
//! left over is spelled in bytes.
//!
//! The merges are looked up by text and not derived as a list of pairs (which is what the `tokenizers` crate wants).
//! Such a list orders the pairs of one token among themselves, so `a|aa|a` would go by the list where SentencePiece
//! goes from left to right; and for 262,144 tokens it holds half a million pairs, beside two more copies of the tokens.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::index::Index;
use super::vocab::{self, Kind, Vocab};
use crate::bail;
use crate::error::Result;
use crate::gguf::{Array, Meta};

/// U+2581, which stands for a space in the file.
const SPACE_MARK: &str = "\u{2581}";

pub(super) struct Spm {
    index: Index,
    scores: Vec<f32>,
    longest: usize,
    /// The token of each byte, where the vocabulary has one.
    byte_tokens: [Option<u32>; 256],
    pub space_prefix: bool,
}

/// Appends what a token of the file stands for.
// A function of its own: a browser optimises what is called often, not a loop that runs once.
#[inline(never)]
pub(super) fn decode(kind: Kind, token: &[u8], out: &mut Vec<u8>) -> Result<()> {
    match kind {
        Kind::Byte => out.push(byte_value(token)?),
        Kind::Control | Kind::Unknown => out.extend_from_slice(token),
        Kind::Unused => {}
        Kind::Normal | Kind::UserDefined => {
            let mut rest = token;
            while let Some(at) = rest.windows(SPACE_MARK.len()).position(|w| w == SPACE_MARK.as_bytes()) {
                out.extend_from_slice(&rest[..at]);
                out.push(b' ');
                rest = &rest[at + SPACE_MARK.len()..];
            }
            out.extend_from_slice(rest);
        }
    }
    Ok(())
}

/// The value of a byte token, spelled `<0x0A>`.
fn byte_value(token: &[u8]) -> Result<u8> {
    let hex = token.strip_prefix(b"<0x").and_then(|t| t.strip_suffix(b">")).filter(|h| h.len() == 2);
    match hex.and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok()) {
        Some(byte) => Ok(byte),
        None => {
            bail!(BadTokenizer, "`{}` is not a byte token; expected the form <0x0A>", String::from_utf8_lossy(token))
        }
    }
}

impl Spm {
    pub(super) fn new(meta: &Meta, vocab: &Vocab) -> Result<Spm> {
        let key = "tokenizer.ggml.scores";
        let scores = match meta.opt_array(key)? {
            Some(Array::Float(scores)) => scores.clone(),
            _ => bail!(BadTokenizer, "a SentencePiece vocabulary needs `{key}`, an array of floats"),
        };
        vocab::same_len(key, scores.len(), vocab.len())?;
        if let Some(id) = scores.iter().position(|s| s.is_nan()) {
            bail!(BadTokenizer, "the score of token {id} is not a number");
        }
        let raw = vocab::raw_tokens(meta)?;
        let mut spm = Spm {
            index: Index::with_capacity(vocab.len()),
            scores,
            longest: 0,
            byte_tokens: [None; 256],
            space_prefix: meta.opt_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true),
        };
        Index::of(raw)?;
        for id in 0..vocab.len() as u32 {
            let bytes = vocab.bytes(id);
            match vocab.kind(id) {
                Some(Kind::Byte) => spm.byte_tokens[usize::from(bytes[0])] = Some(id),
                Some(Kind::Normal) if !bytes.is_empty() => {
                    // Two spellings of one text (a space and U+2581): the first one is used.
                    if spm.index.insert(vocab.strings(), id) == Err(id) {
                        vocab::too_many(id)?;
                    }
                    spm.longest = spm.longest.max(bytes.len());
                }
                _ => {}
            }
        }
        Ok(spm)
    }

    /// What SentencePiece sees: spaces and U+2581 are the same thing.
    pub(super) fn unmark(text: &str) -> String {
        text.replace(SPACE_MARK, " ")
    }

    /// Appends the ids of `text`, in which every U+2581 has become a space.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, out: &mut Vec<u32>) -> Result<()> {
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(i, (at, c))| Symbol { at, len: c.len_utf8(), prev: i.wrapping_sub(1), next: i + 1 })
            .collect();
        let count = symbols.len();
        let mut queue = BinaryHeap::new();
        for i in 1..count {
            self.propose(vocab, text, &symbols, i - 1, i, &mut queue);
        }
        while let Some(Pair { left, right, len, .. }) = queue.pop() {
            // One of the two was joined with another neighbour since.
            if symbols[left].len == 0 || symbols[right].len == 0 || symbols[left].len + symbols[right].len != len {
                continue;
            }
            symbols[left].len = len;
            symbols[right].len = 0;
            let next = symbols[right].next;
            symbols[left].next = next;
            if next < count {
                symbols[next].prev = left;
                self.propose(vocab, text, &symbols, left, next, &mut queue);
            }
            let prev = symbols[left].prev;
            if prev < count {
                self.propose(vocab, text, &symbols, prev, left, &mut queue);
            }
        }
        symbols.iter().filter(|s| s.len > 0).try_for_each(|s| self.emit(vocab, &text[s.at..s.at + s.len], out))
    }

    fn propose(
        &self,
        vocab: &Vocab,
        text: &str,
        symbols: &[Symbol],
        left: usize,
        right: usize,
        queue: &mut BinaryHeap<Pair>,
    ) {
        let (at, len) = (symbols[left].at, symbols[left].len + symbols[right].len);
        if len > self.longest {
            return;
        }
        if let Some(id) = self.index.get(vocab.strings(), &text.as_bytes()[at..at + len]) {
            queue.push(Pair { score: self.scores[id as usize], left, right, len });
        }
    }

    fn emit(&self, vocab: &Vocab, symbol: &str, out: &mut Vec<u32>) -> Result<()> {
        if let Some(id) = self.index.get(vocab.strings(), symbol.as_bytes()) {
            out.push(id);
            return Ok(());
        }
        let bytes: Option<Vec<u32>> = symbol.bytes().map(|b| self.byte_tokens[usize::from(b)]).collect();
        match (bytes, vocab.unknown) {
            (Some(ids), _) => out.extend(ids),
            (None, Some(unknown)) => out.push(unknown),
            (None, None) => {
                bail!(BadTokenizer, "the vocabulary has no token for {symbol:?}, neither whole nor in bytes")
            }
        }
        Ok(())
    }
}

/// A piece of the text; `len` is 0 once it was joined to the one before.
struct Symbol {
    at: usize,
    len: usize,
    prev: usize,
    next: usize,
}

/// Two neighbours that make a token of `len` bytes.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    len: usize,
}

impl Ord for Pair {
    /// The best score is the greatest, of equal ones the leftmost.
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}
