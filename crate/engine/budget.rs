//! How long an answer may reason before it goes on with what it says.

use serde::Deserialize;

use crate::error::Result;
use crate::text::{EncodeOptions, Tokenizer};

/// The most tokens of the block of reasoning that an answer starts with. When they are used up, the end of the block is
/// written in the model's place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ReasoningBudget {
    /// What the block starts with; empty where the prompt has started it.
    pub open: String,
    /// What ends it.
    pub close: String,
    /// Tokens between both.
    pub tokens: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Before,
    Inside,
    After,
}

/// Where one answer is in its block.
pub(super) struct Budget {
    tokenizer: Tokenizer,
    open: Vec<u8>,
    close: Vec<u8>,
    /// The tokens of the end.
    end: Vec<u32>,
    left: usize,
    place: Place,
    /// The text since the last marker, as far as one may be in it.
    text: Vec<u8>,
}

impl Budget {
    pub(super) fn new(params: ReasoningBudget, tokenizer: &Tokenizer) -> Result<Self> {
        let ReasoningBudget { open, close, tokens } = params;
        if close.is_empty() {
            crate::bail!(InvalidArgument, "a block of reasoning whose tokens are counted needs a text that ends it");
        }
        let end = match tokenizer.marker(&close) {
            Some(id) => vec![id],
            None => tokenizer.encode(&close, EncodeOptions::default())?,
        };
        let place = if open.is_empty() { Place::Inside } else { Place::Before };
        let (open, close, tokenizer) = (open.into_bytes(), close.into_bytes(), tokenizer.clone());
        Ok(Self { tokenizer, open, close, end, left: tokens, place, text: Vec::new() })
    }

    /// Tokens that can be chosen before the end has to be written.
    pub(super) fn left(&self) -> usize {
        match self.place {
            Place::After => usize::MAX,
            _ => self.left.max(1),
        }
    }

    /// The tokens to write now, if the budget is used up and no character is incomplete.
    pub(super) fn end(&self) -> Option<&[u32]> {
        let is_due = self.place == Place::Inside && self.left == 0;
        let is_whole = || str::from_utf8(&self.text).err().is_none_or(|e| e.error_len().is_some());
        (is_due && is_whole()).then_some(&self.end)
    }

    /// Takes a token of the answer.
    pub(super) fn take(&mut self, id: u32) {
        let piece = self.tokenizer.piece(id, true).unwrap_or_default();
        match self.place {
            Place::Before => {
                self.text.extend_from_slice(piece);
                let text = self.text.trim_ascii_start();
                if let Some(rest) = text.strip_prefix(&self.open[..]) {
                    (self.place, self.text) = (Place::Inside, rest.to_vec());
                } else if !self.open.starts_with(text) {
                    self.place = Place::After;
                }
            }
            Place::Inside => {
                self.left = self.left.saturating_sub(1);
                self.text.extend_from_slice(piece);
                if self.text.windows(self.close.len()).any(|part| part == self.close) {
                    self.place = Place::After;
                }
                let kept = self.close.len().max(4);
                self.text.drain(..self.text.len().saturating_sub(kept));
            }
            Place::After => {}
        }
    }
}
