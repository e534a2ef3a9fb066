//! Grammars in Lark's notation, put together from texts, tokens and other grammars.

use std::fmt::Write;

use super::literal::literal;
use super::source::{GrammarSource, Parts};
use crate::text::Tokenizer;

/// Any text.
pub(crate) const ANY: &str = "/(?s:.*)/";

/// Texts, but for what is ruled out.
#[derive(Clone, Copy)]
pub(crate) struct Free<'a> {
    /// They hold none of these,
    pub without: &'a [&'a str],
    /// do not start with this,
    pub start: &'a str,
    /// and have so many characters, as an expression counts them.
    pub length: &'a str,
}

impl Free<'_> {
    pub(crate) const ANY: Self = Self { without: &[], start: "", length: "*" };
}

/// A grammar that is being made. What its functions return stands for what they describe, in the body of a rule.
pub(crate) struct Lark<'t> {
    tokenizer: &'t Tokenizer,
    rules: String,
    count: usize,
    parts: Vec<(String, GrammarSource)>,
}

impl<'t> Lark<'t> {
    pub(crate) fn new(tokenizer: &'t Tokenizer) -> Self {
        Self { tokenizer, rules: String::new(), count: 0, parts: Vec::new() }
    }

    fn define(&mut self, letter: char, body: &str) -> String {
        self.count += 1;
        let name = format!("{letter}{}", self.count);
        writeln!(self.rules, "{name}: {body}").expect("writing to a string");
        name
    }

    /// What is read without a look at the rules around it.
    pub(crate) fn terminal(&mut self, body: &str) -> String {
        self.define('T', body)
    }

    /// A rule.
    pub(crate) fn rule(&mut self, body: &str) -> String {
        self.define('r', body)
    }

    /// A text; an empty one is nothing.
    pub(crate) fn literal(text: &str) -> String {
        if text.is_empty() { String::new() } else { literal(text) }
    }

    /// One of some texts, and a text after it.
    pub(crate) fn one_of(&mut self, texts: &[&str], after: &str) -> String {
        let texts: Vec<_> = texts.iter().map(|text| literal(text)).collect();
        self.define('T', &format!("({}) {}", texts.join(" | "), Self::literal(after)))
    }

    /// The control token of a name.
    fn control(&self, name: &str) -> Option<u32> {
        let special = |id: &u32| self.tokenizer.is_control(*id) || self.tokenizer.is_end_of_generation(*id);
        self.tokenizer.marker(name).filter(special)
    }

    /// A marker: a control token, or else a text.
    pub(crate) fn marker(&self, name: &str) -> String {
        self.control(name).map_or_else(|| Self::literal(name), |id| format!("<[{id}]>"))
    }

    /// A text.
    pub(crate) fn text(&mut self, free: Free<'_>) -> String {
        self.text_in(&format!("/(?s:.{})/", free.length), free)
    }

    /// A text that a terminal matches.
    pub(crate) fn text_in(&mut self, terminal: &str, free: Free<'_>) -> String {
        let mut text = terminal.to_owned();
        let without: Vec<_> = free.without.iter().map(|text| literal(text)).collect();
        if !without.is_empty() {
            text += &format!(" & ~({ANY} ({}) {ANY})", without.join(" | "));
        }
        if !free.start.is_empty() {
            text += &format!(" & ~({} {ANY})", literal(free.start));
        }
        self.define('T', &text)
    }

    /// A text up to a marker, which it does not hold, and the marker.
    pub(crate) fn until(&mut self, marker: &str, free: Free<'_>) -> String {
        let text = self.text(Free { without: &[free.without, &[marker]].concat(), ..free });
        self.marked(&text, marker)
    }

    /// A text and a marker, which it does not hold.
    pub(crate) fn marked(&mut self, text: &str, marker: &str) -> String {
        match self.control(marker) {
            Some(id) => format!("{text} <[{id}]>"),
            None => self.define('T', &format!("{text} {}", literal(marker))),
        }
    }

    /// White space, or none.
    pub(crate) fn spaces(&mut self) -> String {
        self.define('T', "/[ \\n\\r\\t]{1,16}/") + "?"
    }

    /// Another grammar, with what messages call it.
    pub(crate) fn part(&mut self, name: &str, source: GrammarSource) -> String {
        self.parts.push((name.to_owned(), source));
        format!("@part{}", self.parts.len() - 1)
    }

    /// Some that come one after another with a sign between them, of which only those that are required must be there.
    pub(crate) fn row(&mut self, items: &[(String, bool)], between: &str) -> String {
        let (mut first, mut more) = (String::new(), String::new());
        for (item, required) in items.iter().rev() {
            let optional = |rule: &str| if *required { String::new() } else { format!(" | {}", some(rule)) };
            let body = format!("{item} {more}{}", optional(&first));
            let next = format!("{} {item} {more}{}", Self::literal(between), optional(&more));
            first = self.rule(&body);
            more = self.rule(&next);
        }
        first
    }

    pub(crate) fn build(mut self, start: &str) -> GrammarSource {
        writeln!(self.rules, "start: {start}").expect("writing to a string");
        GrammarSource::Parts(Box::new(Parts { start: self.rules, parts: self.parts }))
    }
}

/// A rule, or nothing.
fn some(rule: &str) -> &str {
    if rule.is_empty() { "\"\"" } else { rule }
}
