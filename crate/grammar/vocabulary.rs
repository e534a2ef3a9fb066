//! The tokens that grammars are compiled for.

use std::sync::Arc;

use llguidance::api::{GrammarInit, ParserLimits};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{INVALID_TOKEN, InferenceCapabilities, TokRxInfo, TokTrie, TokenizerEnv};
use llguidance::{Logger, ParserFactory};

use super::matcher::{Matcher, bad};
use super::{GrammarSource, forced};
use crate::bail;
use crate::error::{Error, Result};
use crate::text::Tokenizer;

/// Longer tokens are never let through: the trie has no room for more than 1024 bytes.
const MAX_TOKEN: usize = 512;

/// Bytes of all tokens together: more than the trie of any model has, and as many nodes as it can have.
const MAX_TRIE: usize = (1 << 22) - 1;

/// States of a grammar's lexer, of 1 to 2 KB each, that all its answers share.
const MAX_STATES: usize = 50_000;

/// Compiled grammars that are kept.
const KEPT: usize = 16;

/// The caps of one grammar. Times are on one core of a laptop, some times that in a page.
fn limits() -> ParserLimits {
    ParserLimits {
        // Ambiguity.
        max_items_in_row: 2_000,
        // Some 50 ms.
        initial_lexer_fuel: 2_000_000,
        // Some 20 ms for a mask.
        step_lexer_fuel: 200_000,
        step_max_items: forced::MOST_ITEMS,
        max_lexer_states: MAX_STATES,
        // Some megabytes.
        max_grammar_size: 500_000,
        precompute_large_lexemes: false,
        verbose_errors: false,
    }
}

struct Tokens {
    trie: TokTrie,
    tokenizer: Tokenizer,
    /// Whether there is a token for each byte.
    complete: bool,
}

impl TokenizerEnv for Tokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// As the model reads it; what cannot be read as text, byte by byte.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<u32> {
        let spelled = |ids: &Vec<u32>| self.tokenizer.decode(ids, false) == bytes;
        let ids = str::from_utf8(bytes).ok().and_then(|text| self.tokenizer.encode_more(text).ok());
        ids.filter(spelled).unwrap_or_else(|| self.trie.greedy_tokenize(bytes))
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.complete
    }
}

/// A vocabulary in the form in which grammars go through it, and the grammars that were compiled for it.
pub struct Vocabulary {
    tokenizer: Tokenizer,
    factory: ParserFactory,
    /// The last one that was asked for is the last.
    compiled: Vec<(GrammarSource, Grammar)>,
}

/// A compiled grammar. All its matchers share what they find out about it.
#[derive(Clone)]
pub struct Grammar {
    start: Matcher,
}

impl Grammar {
    /// A matcher at the start of an answer.
    pub fn matcher(&self) -> Matcher {
        self.start.clone()
    }
}

impl Vocabulary {
    /// Takes the tokens of a tokenizer. Control tokens, and all at which a generation stops, are no text. Fails where there
    /// are more than the trie has room for (`bad-tokenizer`).
    pub fn new(tokenizer: &Tokenizer) -> Result<Self> {
        let ends = tokenizer.end_of_generation();
        let n = tokenizer.vocab_size() as u32;
        let word = |id: u32| {
            let special = tokenizer.is_control(id) || tokenizer.is_end_of_generation(id);
            let piece = tokenizer.piece(id, true).filter(|p| !p.is_empty() && p.len() <= MAX_TOKEN).unwrap_or_default();
            let marker = (special && !piece.is_empty()).then_some(TokTrie::SPECIAL_TOKEN_MARKER);
            // A token that starts like a special one would be taken for it; no UTF-8 has that byte.
            let piece = if !special && piece.first() == Some(&TokTrie::SPECIAL_TOKEN_MARKER) { &[] } else { piece };
            marker.into_iter().chain(piece.iter().copied()).collect()
        };
        let words: Vec<Vec<u8>> = (0..n).map(word).collect();
        let bytes: usize = words.iter().map(Vec::len).sum();
        if bytes > MAX_TRIE {
            bail!(BadTokenizer, "grammars take vocabularies of at most {MAX_TRIE} bytes, this one has {bytes}");
        }
        // All bytes that are in UTF-8.
        let mut missing: Vec<u8> = (0..=0xf4).filter(|b| ![0xc0, 0xc1].contains(b)).collect();
        missing.retain(|b| !words.iter().any(|w| w[..] == [*b]));
        let mut trie = TokTrie::from(&TokRxInfo::new(n, ends.first().copied().unwrap_or(INVALID_TOKEN)), &words);
        if !ends.is_empty() {
            trie = trie.with_eos_tokens(ends);
        }
        let tokens = Tokens { trie, tokenizer: tokenizer.clone(), complete: missing.is_empty() };
        let slices = SlicedBiasComputer::json_slices();
        let factory = ParserFactory::new(&(Arc::new(tokens) as _), InferenceCapabilities::default(), &slices);
        Ok(Self { tokenizer: tokenizer.clone(), factory: factory.map_err(bad)?, compiled: Vec::new() })
    }

    /// Whether it has the tokens of this tokenizer.
    pub fn is_of(&self, tokenizer: &Tokenizer) -> bool {
        self.tokenizer.is_clone_of(tokenizer)
    }

    /// Compiles a grammar, unless it was compiled lately. One that cannot be compiled within the caps, that nothing meets,
    /// or that this vocabulary cannot begin to write is refused (`bad-grammar`).
    pub fn grammar(&mut self, source: &GrammarSource) -> Result<Grammar> {
        let known = self.compiled.iter().position(|(s, _)| s == source).map(|i| self.compiled.remove(i).1);
        // One that has grown is compiled anew before it meets the cap.
        let known = known.filter(|g| g.start.states() < MAX_STATES / 2);
        let grammar = known.map_or_else(|| self.compile(source).map_err(|e| self.blamed(source, e)), Ok)?;
        if self.compiled.len() == KEPT {
            self.compiled.remove(0);
        }
        self.compiled.push((source.clone(), grammar.clone()));
        Ok(grammar)
    }

    /// An error with its place: that part of the grammar which cannot be compiled alone, or all of it.
    fn blamed(&self, source: &GrammarSource, e: Error) -> Error {
        let part = |(name, part): &(String, GrammarSource)| self.compile(part).err().map(|e| e.at(name));
        source.parts().iter().find_map(part).unwrap_or_else(|| e.at(source.name()))
    }

    fn compile(&self, source: &GrammarSource) -> Result<Grammar> {
        let init = GrammarInit::Serialized(source.parse()?);
        let caps = InferenceCapabilities::default();
        let parser = self.factory.create_parser_from_init_ext(init, Logger::new(0, 0), caps, limits()).map_err(bad)?;
        let mut start = Matcher::new(parser, self.tokenizer.end_of_generation());
        start.mask()?;
        Ok(Grammar { start })
    }
}
