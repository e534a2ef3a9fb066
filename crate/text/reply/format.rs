//! Which markers a model uses, found from its template and its vocabulary.

use std::collections::BTreeSet;

use super::head::{OPENERS, Opener};
use super::style::CallStyle;
use crate::text::template::ChatTemplate;
use crate::text::tokenizer::Tokenizer;

/// How a block of reasoning starts and ends, and the token that it starts with.
type Block = (&'static str, &'static str, &'static str);

const BLOCKS: [Block; 5] = [
    ("<think>", "</think>", "<think>"),
    ("<|channel>thought", "<channel|>", "<|channel>"),
    ("[THINK]", "[/THINK]", "[THINK]"),
    ("<seed:think>", "</seed:think>", "<seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>", "<|START_THINKING|>"),
];

/// How a model writes a block of reasoning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReasoningBlock {
    pub open: &'static str,
    pub close: &'static str,
    /// The token that it starts with.
    pub token: &'static str,
}

/// Where an answer starts.
pub(super) struct Start {
    /// Inside of a block of reasoning.
    pub(super) is_inside: bool,
    /// After one that the prompt has closed.
    pub(super) is_closed: bool,
    /// Nothing of the answer is in the prompt, as far as its markers tell.
    pub(super) is_fresh: bool,
}

/// Tokens inside of calls that a reader needs, where the vocabulary has them.
const INSIDE: [&str; 5] = ["<|\"|>", "<escape>", "[ARGS]", "[CALL_ID]", "<｜tool▁sep｜>"];

/// The markers of a model: of its reasoning, and of its calls of tools.
#[derive(Clone, Debug)]
pub struct ReplyFormat {
    pub(super) reasoning: Option<(&'static str, &'static str)>,
    /// Whether the template writes the markers of reasoning. A vocabulary alone may have them from its family.
    pub(super) is_written: bool,
    pub(super) openers: Vec<Opener>,
    pub(super) style: CallStyle,
    /// Control tokens that the template writes, and those that end an answer: what stands before one is not of the
    /// answer.
    turns: Vec<String>,
}

impl ReplyFormat {
    /// Finds the markers that the template writes or that are tokens. What the model is called says nothing.
    pub fn new(template: &ChatTemplate, tokenizer: &Tokenizer) -> Self {
        let knows = |marker: &str| template.source().contains(marker) || tokenizer.marker(marker).is_some();
        let blocks = BLOCKS.into_iter().filter(|(_, end, token)| knows(token) || knows(end));
        let writes = |(_, end, token): &Block| template.source().contains(end) || template.source().contains(token);
        let written = blocks.clone().find(writes);
        let reasoning = written.or_else(|| blocks.clone().next()).map(|(start, end, _)| (start, end));
        let mut format = Self {
            reasoning,
            is_written: written.is_some(),
            openers: OPENERS.into_iter().filter(|opener| knows(opener.open)).collect(),
            style: CallStyle::of(template.source()),
            turns: Vec::new(),
        };
        let markers = format.markers();
        let ends = tokenizer.end_of_generation().iter().filter_map(|&id| tokenizer.piece(id, true));
        let ends = ends.filter_map(|name| std::str::from_utf8(name).ok());
        let written = tokenizer.control_names().filter(|name| template.source().contains(name));
        let turns = ends.chain(written).filter(|name| !name.is_empty() && !markers.iter().any(|m| m == name));
        format.turns = turns.map(str::to_owned).collect();
        format
    }

    /// The names of tokens that must come as text for an answer to be read, though a vocabulary may hide them.
    pub fn markers(&self) -> Vec<String> {
        let blocks = BLOCKS.into_iter().filter(|&(start, end, _)| Some((start, end)) == self.reasoning);
        let openers = self.openers.iter().flat_map(|opener| [opener.open, opener.close]).chain(INSIDE);
        let all = blocks.flat_map(|(_, end, token)| [token, end]).chain(openers);
        let all: BTreeSet<&str> = all.filter(|name| !name.is_empty()).collect();
        all.into_iter().map(str::to_owned).collect()
    }

    /// Whether the model reasons before it answers, as far as its template and vocabulary tell.
    pub fn has_reasoning(&self) -> bool {
        self.reasoning.is_some()
    }

    /// The block of reasoning, if the template writes such blocks.
    pub(crate) fn reasoning(&self) -> Option<ReasoningBlock> {
        let (open, close) = self.reasoning.filter(|_| self.is_written)?;
        let (.., token) = BLOCKS.into_iter().find(|block| block.0 == open)?;
        Some(ReasoningBlock { open, close, token })
    }

    /// How the model writes calls.
    pub(crate) fn style(&self) -> CallStyle {
        self.style
    }

    /// Whether an answer that goes on after this starts inside of a block of reasoning, and whether it may start one.
    pub(crate) fn thinks(&self, prompt_end: &str) -> (bool, bool) {
        let start = self.start(prompt_end);
        (start.is_inside, self.is_written && start.is_fresh && !start.is_closed && !start.is_inside)
    }

    /// Where an answer starts that goes on after this.
    pub(super) fn start(&self, prompt_end: &str) -> Start {
        let turn = self.turns.iter().filter_map(|name| Some(prompt_end.rfind(name.as_str())? + name.len())).max();
        let own = &prompt_end[turn.unwrap_or(0)..];
        let after = |marker: &str| Some(own.rfind(marker)? + marker.len());
        let (open, close) = self.reasoning.map_or((None, None), |(open, close)| (after(open), after(close)));
        let marker = open.max(close);
        Start {
            is_inside: open > close,
            is_closed: close > open,
            is_fresh: marker.is_none_or(|at| own[at..].trim().is_empty()),
        }
    }
}
