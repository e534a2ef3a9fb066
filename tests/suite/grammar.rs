//! Grammars: what they let through, and what they refuse.

mod official;

use pagelm::grammar::{GrammarSource, Matcher, Vocabulary};
use pagelm::{ErrorKind, Result};
use serde_json::Value;

use crate::common::byte_vocabulary;

/// Grammars for the vocabulary of bytes.
struct Bytes(Vocabulary);

impl Bytes {
    fn new() -> Self {
        Self(Vocabulary::new(&byte_vocabulary::with(&[])).unwrap())
    }

    fn matcher(&mut self, source: &GrammarSource) -> Result<Matcher> {
        Ok(self.0.grammar(source)?.matcher())
    }

    fn schema(&mut self, text: &str) -> Result<Matcher> {
        self.matcher(&GrammarSource::JsonSchema(text.to_owned()))
    }
}

/// Whether a text is an answer, from its start to its end.
fn accepts(matcher: &Matcher, text: &str) -> bool {
    let mut m = matcher.clone();
    text.bytes().all(|b| m.accept(b.into()).is_ok()) && m.may_stop().unwrap()
}
