//! From the text of an answer to its parts. A parser of reasoning and tool calls has its place here.

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// What is meant for the reader.
    Content(String),
}

/// Takes the text of one generation as it comes.
#[derive(Default)]
pub(super) struct Parts;

impl Parts {
    /// All of the text is content.
    pub(super) fn plain() -> Self {
        Self
    }

    /// The parts that a piece of text brings.
    pub(super) fn push(&mut self, text: &str) -> Vec<Part> {
        if text.is_empty() { Vec::new() } else { vec![Part::Content(text.to_string())] }
    }

    /// What was held back, when no more text follows.
    pub(super) fn finish(&mut self) -> Vec<Part> {
        Vec::new()
    }
}
