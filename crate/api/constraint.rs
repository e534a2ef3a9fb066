//! What an answer may be: reasoning first, then calls of tools, a format or text.

use super::calls::calls;
use super::fields::{At, Result};
use super::model::Api;
use super::reply::Parts;
use super::tools::{Tool, Tools};
use super::unmarked::unmarked;
use crate::engine::{GenerateParams, ReasoningBudget};
use crate::grammar::{Free, GrammarSource, Lark};
use crate::text::{CallShape, CallStyle, ReasoningBlock, ReplyFormat, ReplyParser};

/// Where an answer starts.
pub(super) struct Begin<'a> {
    api: &'a Api,
    tools: &'a Tools,
    /// The text of the prompt.
    prompt: String,
    /// In a block of reasoning.
    inside: bool,
    /// It may start with one.
    may: bool,
}

impl<'a> Begin<'a> {
    /// After a prompt.
    pub(super) fn after(prompt: &[u32], api: &'a Api, tools: &'a Tools) -> Self {
        let prompt = String::from_utf8_lossy(&api.tokenizer.decode(prompt, true)).into_owned();
        let thinks = api.format.as_ref().map(|format| format.thinks(&prompt));
        let (inside, may) = thinks.unwrap_or_default();
        Self { api, tools, prompt, inside, may }
    }

    /// Sets what the answer is held to by `reasoning_budget`, tools and formats, and returns what reads each of `n` answers.
    pub(super) fn hold(
        &self,
        params: &mut GenerateParams,
        format: Option<GrammarSource>,
        budget: Option<&At<'_>>,
        n: usize,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Parts>> {
        params.reasoning = self.budget(budget, warnings)?;
        let mut calls = None;
        if let Some(constraint) = self.grammar(format)? {
            params.grammar = Some(constraint.source);
            calls = constraint.calls;
        }
        let Some(format) = &self.api.format else { return Ok((0..n).map(|_| Parts::Plain).collect()) };
        let parser = || match calls {
            None => ReplyParser::new(format, &self.tools.specs(), &self.prompt),
            Some(after_text) => {
                let callable: Vec<_> = self.tools.callable().map(|tool| tool.spec.clone()).collect();
                ReplyParser::new(format, &callable, &self.prompt).by_grammar(format, after_text)
            }
        };
        Ok((0..n).map(|_| Parts::Parsed { parser: Box::new(parser()), single: self.tools.single }).collect())
    }

    /// `reasoning_budget`, where the answer can start with reasoning.
    fn budget(&self, at: Option<&At<'_>>, warnings: &mut Vec<String>) -> Result<Option<ReasoningBudget>> {
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
    fn grammar(&self, format: Option<GrammarSource>) -> Result<Option<Constraint>> {
        let tools = self.tools;
        let callable: Vec<&Tool> = tools.callable().collect();
        let style = self.api.format.as_ref().map(ReplyFormat::style).filter(|_| !callable.is_empty());
        // Without a marker, JSON that is a call and JSON that is the answer start alike.
        let style = style.filter(|style| tools.required || format.is_none() || !style.marker.is_empty());
        let mut lark = Lark::new(&self.api.tokenizer);
        let (body, calls) = match (style, format) {
            (_, None) if !tools.is_enforced() => return Ok(None),
            (None, None) => return Ok(None),
            (None, Some(format)) if !self.inside && !self.may => {
                return Ok(Some(Constraint { source: format, calls: None }));
            }
            (None, Some(format)) => (lark.part("the format of the answer", format), None),
            (Some(style), format) => {
                let format = format.filter(|_| !tools.required);
                let after_text = format.is_none() && !tools.required;
                let body = if after_text {
                    self.lazily(&mut lark, style, &callable)?
                } else {
                    let calls = calls(&mut lark, style, &callable, tools.single)?;
                    let format = format.map(|format| lark.part("the format of the answer", format));
                    let format = format.map_or(String::new(), |format| format!(" | {format}"));
                    format!("{} {}{format}", lark.marker(calls.marker), calls.rest)
                };
                (body, Some(after_text))
            }
        };
        let body = lark.rule(&body);
        let start = format!("{} {body}", self.reasoning(&mut lark));
        Ok(Some(Constraint { source: lark.build(&start), calls }))
    }

    /// Text that may end in calls, with the marker of the template or, as many models write them, without.
    fn lazily(&self, lark: &mut Lark<'_>, style: CallStyle, callable: &[&Tool]) -> Result<String> {
        let single = self.tools.single;
        let start = self.block().filter(|_| self.may).map_or("", |block| block.open);
        let mut marked = Vec::new();
        let is_marked = |style: &CallStyle| !style.marker.is_empty() || style.shape == CallShape::Tags;
        for style in [Some(style), style.unmarked()].into_iter().flatten().filter(is_marked) {
            marked.push(calls(lark, style, callable, single)?);
        }
        if let CallShape::Json(arguments) = style.shape {
            let unmarked = unmarked(lark, arguments, callable, single)?;
            return Ok(unmarked.after_text(lark, &marked, start));
        }
        let markers: Vec<_> = marked.iter().map(|calls| calls.marker).collect();
        let free = Free { without: &markers, start, ..Free::ANY };
        let text = lark.text(free);
        let ends = marked.iter().map(|calls| format!(" | {} {}", lark.until(calls.marker, free), calls.rest));
        Ok(text + &ends.collect::<String>())
    }

    /// The block of reasoning, with the white space after it.
    fn reasoning(&self, lark: &mut Lark<'_>) -> String {
        let Some(block) = self.block().filter(|_| self.inside || self.may) else { return String::new() };
        let inside = format!("{} {}", lark.until(block.close, Free::ANY), lark.spaces());
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
struct Constraint {
    source: GrammarSource,
    /// Whether calls may stand after text, where it says what a call is.
    calls: Option<bool>,
}
