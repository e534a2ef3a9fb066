//! What an answer may be: a grammar, compiled for a vocabulary, says of every token whether it can come next.
//!
//! [`Vocabulary::grammar`] compiles a [`GrammarSource`] and refuses what cannot be met; a [`Matcher`] follows one answer.

mod depth;
mod forced;
mod gbnf;
mod lark;
mod literal;
mod matcher;
mod repeats;
mod schema;
mod source;
mod vocabulary;

pub(crate) use lark::{ANY, Free, Lark};
pub use matcher::Matcher;
pub use source::{GrammarSource, Parts};
pub use vocabulary::{Grammar, Vocabulary};
