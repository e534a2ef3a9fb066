//! What an answer may be: reasoning first, then calls of tools, a format or text.

use super::calls::{Calls, calls};
use super::fields::{At, Result};
use super::model::Api;
use super::tools::{Tool, Tools};
use crate::engine::ReasoningBudget;
use crate::grammar::{GrammarSource, Lark};
use crate::text::{ReasoningBlock, ReplyFormat};

/// White space after a block of reasoning.
const SPACE: &str = "[ \\n\\r\\t]{1,8}";

/// Where an answer starts.
pub(super) struct Begin<'a> {
    api: &'a Api,
    /// In a block of reasoning.
    inside: bool,
    /// It may start with one.
    may: bool,
}

impl<'a> Begin<'a> {
    /// After a prompt.
    pub(super) fn after(prompt: &[u32], api: &'a Api) -> Self {
        let text = api.tokenizer.decode(prompt, true);
        let thinks = api.format.as_ref().map(|format| format.thinks(&String::from_utf8_lossy(&text)));
        let (inside, may) = thinks.unwrap_or_default();
        Self { api, inside, may }
    }

    /// `reasoning_budget`, where the answer can start with reasoning.
    pub(super) fn budget(&self, at: Option<&At<'_>>, warnings: &mut Vec<String>) -> Result<Option<ReasoningBudget>> {
        let Some(at) = at else { return Ok(None) };
        let budget = self.budget_of(at.count(0..=usize::MAX)?);
        // A model that does not reason needs no tokens for it.
        if self.block().is_none() {
            warnings.push(at.path.clone());
        }
        Ok(budget)
    }

    fn budget_of(&self, tokens: usize) -> Option<ReasoningBudget> {
        let block = self.block().filter(|_| self.inside || self.may)?;
        let open = if self.inside { String::new() } else { block.open.to_owned() };
        Some(ReasoningBudget { open, close: block.close.to_owned(), tokens })
    }

    /// The grammar of an answer that must have a format or whose calls are enforced; none where it may be anything.
    pub(super) fn grammar(&self, tools: &Tools, format: Option<GrammarSource>) -> Result<Option<Constraint>> {
        let callable: Vec<&Tool> = tools.callable().collect();
        let style = self.api.format.as_ref().map(ReplyFormat::style).filter(|_| !callable.is_empty());
        // Without a marker, JSON that is a call and JSON that is the answer start alike.
        let style = style.filter(|style| tools.required || format.is_none() || !style.marker.is_empty());
        let mut lark = Lark::new(&self.api.tokenizer);
        let (body, calls) = match (style, format) {
            (_, None) if !tools.is_enforced() => return Ok(None),
            (None, None) => return Ok(None),
            (None, Some(format)) if !self.inside && !self.may => {
                return Ok(Some(Constraint { source: format, calls: false }));
            }
            (None, Some(format)) => (lark.part("the format of the answer", format), false),
            (Some(style), format) => {
                let calls = calls(&mut lark, style, &callable, tools.single)?;
                let body = match format.filter(|_| !tools.required) {
                    None if !tools.required => self.lazily(&mut lark, &calls),
                    format => {
                        let format = format.map(|format| lark.part("the format of the answer", format));
                        let format = format.map_or(String::new(), |format| format!(" | {format}"));
                        format!("{} {}{format}", lark.marker(calls.marker), calls.rest)
                    }
                };
                (body, true)
            }
        };
        let body = lark.rule(&body);
        let start = format!("{} {body}", self.reasoning(&mut lark));
        Ok(Some(Constraint { source: lark.build(&start), calls }))
    }

    /// Text that may end in calls.
    fn lazily(&self, lark: &mut Lark<'_>, calls: &Calls) -> String {
        let start = self.block().filter(|_| self.may).map_or("", |block| block.open);
        if calls.marker.is_empty() {
            // What starts with a bracket is a call.
            let text = lark.regex("\\s*([^\\s{\\[](?s:.*))?");
            return format!("{text} | {}", calls.rest);
        }
        let text = lark.text(&[calls.marker], start, "*");
        let until = lark.until(calls.marker, &[], start, "*");
        format!("{text} | {until} {}", calls.rest)
    }

    /// The block of reasoning, with the white space after it.
    fn reasoning(&self, lark: &mut Lark<'_>) -> String {
        let Some(block) = self.block().filter(|_| self.inside || self.may) else { return String::new() };
        let inside = format!("{} {}?", lark.until(block.close, &[], "", "*"), lark.regex(SPACE));
        if self.inside {
            return inside;
        }
        let rest = block.open.strip_prefix(block.token).unwrap_or_default();
        format!("({} {} {inside})?", lark.marker(block.token), Lark::literal(rest))
    }

    fn block(&self) -> Option<ReasoningBlock> {
        self.api.format.as_ref()?.reasoning()
    }
}

/// What an answer is held to.
pub(super) struct Constraint {
    pub source: GrammarSource,
    /// Whether it says what a call is.
    pub calls: bool,
}
