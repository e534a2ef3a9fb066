//! What a grammar is made of.

/// A part of a rule.
#[derive(Debug)]
pub(super) enum Node {
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
