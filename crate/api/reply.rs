//! From the text of an answer to its parts.

use crate::text::{ReplyParser, ReplyPart};

/// Takes the text of one generation as it comes.
pub(super) enum Parts {
    /// All of it is content.
    Plain,
    /// Reasoning and calls of tools are told apart.
    Parsed {
        /// Reads the text.
        parser: Box<ReplyParser>,
        /// Calls after the first are left out.
        single: bool,
    },
}

impl Parts {
    /// Whether what was read ends in a block of reasoning.
    pub(super) fn is_reasoning(&self) -> bool {
        match self {
            Self::Plain => false,
            Self::Parsed { parser, .. } => parser.is_reasoning(),
        }
    }

    /// The parts that a piece of text brings.
    pub(super) fn push(&mut self, text: &str) -> Vec<ReplyPart> {
        match self {
            Self::Plain if text.is_empty() => Vec::new(),
            Self::Plain => vec![ReplyPart::Content(text.to_string())],
            Self::Parsed { parser, single } => kept(parser.push(text), *single),
        }
    }

    /// What was held back, when no more text follows.
    pub(super) fn finish(&mut self) -> Vec<ReplyPart> {
        match self {
            Self::Plain => Vec::new(),
            Self::Parsed { parser, single } => kept(parser.finish(), *single),
        }
    }
}

fn kept(mut parts: Vec<ReplyPart>, single: bool) -> Vec<ReplyPart> {
    let later = |part: &ReplyPart| matches!(part, ReplyPart::ToolCall { index, .. } | ReplyPart::ToolArguments { index, .. } if *index > 0);
    parts.retain(|part| !(single && later(part)));
    parts
}
