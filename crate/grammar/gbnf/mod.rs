//! Grammars in llama.cpp's notation (GBNF), in that of Lark.
//!
//! A rule that leads to itself stays a rule. All else is regular, and what is regular side by side becomes one terminal,
//! which takes the longest text that it can; white space at its end stays apart, for it is what follows that may start with
//! some. So a grammar without recursion means exactly what it says, and in one with recursion, all that is let through is in
//! the grammar.

mod parse;
mod write;

use crate::error::Result;

/// A part of a rule.
#[derive(Debug)]
enum Node {
    Text(String),
    /// One of these characters, or with `true` one of all others.
    Class(bool, Vec<(char, char)>),
    /// A token, as Lark writes it.
    Token(String),
    Rule(usize),
    Row(Vec<Node>),
    Either(Vec<Node>),
    /// With the least and the most times.
    Times(Box<Node>, u32, Option<u32>),
}

/// The same grammar in Lark's notation.
pub(super) fn to_lark(text: &str) -> Result<String> {
    let (rules, root) = parse::rules(text)?;
    write::lark(&rules, root)
}
