//! Which markers a model uses, found from its template and its vocabulary.

use super::head::{OPENERS, Opener};
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

/// Tokens inside of calls that a reader needs, where the vocabulary has them.
const INSIDE: [&str; 7] = ["<|\"|>", "<escape>", "[ARGS]", "[CALL_ID]", "<｜tool▁sep｜>", "<think>", "</think>"];

/// The markers of a model: of its reasoning, and of its calls of tools.
#[derive(Clone, Debug, Default)]
pub struct ReplyFormat {
    pub(super) reasoning: Option<(&'static str, &'static str)>,
    /// Whether the template writes the markers of reasoning. A vocabulary alone may have them from its family.
    pub(super) is_written: bool,
    pub(super) openers: Vec<Opener>,
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

    /// The names of tokens that must come as text for an answer to be read, though some vocabularies hide them.
    pub fn markers(&self) -> Vec<String> {
        let blocks = BLOCKS.into_iter().filter(|&(start, end, _)| Some((start, end)) == self.reasoning);
        let blocks = blocks.flat_map(|(_, end, token)| [token, end]);
        let calls = self.openers.iter().flat_map(|opener| [opener.open, opener.close]);
        let mut all: Vec<String> = blocks.chain(calls).chain(INSIDE).map(str::to_owned).collect();
        all.retain(|name| !name.is_empty());
        all.sort();
        all.dedup();
        all
    }

    /// Whether the model reasons before it answers, as far as its template and vocabulary tell.
    pub fn has_reasoning(&self) -> bool {
        self.reasoning.is_some()
    }

    /// Whether an answer to a prompt with this end starts inside of a block of reasoning, and whether the prompt has
    /// closed one for it.
    pub(super) fn start(&self, prompt_end: &str) -> (bool, bool) {
        let Some((open, close)) = self.reasoning else { return (false, false) };
        let turn = self.turns.iter().filter_map(|name| Some(prompt_end.rfind(name.as_str())? + name.len())).max();
        let own = &prompt_end[turn.unwrap_or(0)..];
        match (own.rfind(open), own.rfind(close)) {
            (Some(open), Some(close)) => (open > close, close > open),
            (Some(_), None) => (true, false),
            (None, close) => (false, close.is_some()),
        }
    }
}
