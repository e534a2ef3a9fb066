//! Grammars in llama.cpp's notation (GBNF), in that of Lark.
//!
//! A rule that leads to itself stays a rule. All else is regular, and what is regular side by side becomes one terminal,
//! which takes the longest text that it can; white space at its end stays apart, for it is what follows that may start with
//! some. So a grammar without recursion means exactly what it says, and in one with recursion, all that is let through is in
//! the grammar.

mod node;
mod parse;
mod write;

use crate::error::Result;

/// The same grammar in Lark's notation.
pub(super) fn to_lark(text: &str) -> Result<String> {
    let (rules, root) = parse::rules(text)?;
    write::lark(&rules, root)
}
