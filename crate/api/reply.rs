//! From the text of an answer to its parts.

use super::model::Api;
use super::tools::Tools;
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
    /// For an answer after this prompt, with these tools.
    pub(super) fn after(prompt: &[u32], api: &Api, tools: &Tools) -> Self {
        let Some(format) = &api.format else { return Self::Plain };
        let text = api.tokenizer.decode(prompt, true);
        let parser = ReplyParser::new(format, &tools.specs, &String::from_utf8_lossy(&text));
        Self::Parsed { parser: Box::new(parser), single: tools.single }
    }

    /// Whether the prompt has opened a block of reasoning, which the answer goes on with.
    pub(super) fn start_inside(prompt: &[u32], api: &Api) -> bool {
        let mut parts = Self::after(prompt, api, &Tools::default());
        let first = [parts.push("x"), parts.finish()].concat();
        first.iter().any(|part| matches!(part, ReplyPart::Reasoning(_)))
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
