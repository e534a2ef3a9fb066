//! Reads the notation.

use std::collections::HashMap;

use super::node::Node;
use crate::error::{Error, ErrorKind, Result};

/// Groups inside each other.
const MAX_DEPTH: usize = 64;

/// Counters after each other.
const MAX_COUNTERS: usize = 4;

/// Rules of one grammar.
const MAX_RULES: usize = 5000;

struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    names: HashMap<&'t str, usize>,
    /// The name of each rule and where it was met first; what it is, once it is defined.
    rules: Vec<(&'t str, usize, Option<Node>)>,
}

/// The rules, and which of them is the root.
pub(super) fn rules(text: &str) -> Result<(Vec<Node>, usize)> {
    let mut reader = Reader { text, at: 0, depth: 0, names: HashMap::new(), rules: Vec::new() };
    reader.spaces(true);
    while reader.peek().is_some() {
        reader.rule()?;
        reader.spaces(true);
    }
    let root = reader.names.get("root").copied();
    let root =
        root.ok_or_else(|| Error::new(ErrorKind::BadGrammar, "it has no rule `root`, where an answer starts"))?;
    let all = std::mem::take(&mut reader.rules).into_iter();
    let defined = |(name, at, node): (&str, usize, Option<Node>)| {
        node.ok_or_else(|| reader.fail_at(at, format_args!("the rule `{name}` is not defined")))
    };
    Ok((all.map(defined).collect::<Result<_>>()?, root))
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

impl<'t> Reader<'t> {
    fn fail_at(&self, at: usize, detail: impl std::fmt::Display) -> Error {
        let line = 1 + self.text[..at].matches('\n').count();
        Error::new(ErrorKind::BadGrammar, format!("{detail}, in line {line}"))
    }

    fn fail(&self, detail: impl std::fmt::Display) -> Error {
        self.fail_at(self.at, detail)
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        self.at += if found { text.len() } else { 0 };
        found
    }

    fn need(&mut self, text: &str) -> Result<()> {
        if self.eat(text) {
            return Ok(());
        }
        let found = self.peek().map_or("the end".to_owned(), |c| format!("{c:?}"));
        Err(self.fail(format_args!("`{text}` is expected and {found} is found")))
    }

    /// Skips white space and comments, over line breaks too if they mean nothing here.
    fn spaces(&mut self, lines: bool) {
        loop {
            let rest = self.rest();
            let white = |c: char| matches!(c, ' ' | '\t') || (lines && matches!(c, '\n' | '\r'));
            let mut skipped = rest.len() - rest.trim_start_matches(white).len();
            if rest[skipped..].starts_with('#') {
                skipped += rest[skipped..].find(['\n', '\r']).unwrap_or(rest.len() - skipped);
            }
            if skipped == 0 {
                return;
            }
            self.at += skipped;
        }
    }

    fn name(&mut self) -> &'t str {
        let rest = self.rest();
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn number_of(&mut self, name: &'t str, at: usize) -> Result<usize> {
        if let Some(known) = self.names.get(name) {
            return Ok(*known);
        }
        if self.rules.len() == MAX_RULES {
            return Err(self.fail(format_args!("there are more than {MAX_RULES} rules")));
        }
        self.names.insert(name, self.rules.len());
        self.rules.push((name, at, None));
        Ok(self.rules.len() - 1)
    }

    fn rule(&mut self) -> Result<()> {
        let at = self.at;
        let name = self.name();
        if name.is_empty() {
            return Err(self.fail("the name of a rule is expected"));
        }
        let i = self.number_of(name, at)?;
        if self.rules[i].2.is_some() {
            return Err(self.fail_at(at, format_args!("the rule `{name}` is defined twice")));
        }
        self.spaces(false);
        self.need("::=")?;
        self.spaces(true);
        let node = self.either(false)?;
        self.rules[i].2 = Some(node);
        match self.peek() {
            None | Some('\n' | '\r') => Ok(()),
            Some(c) => Err(self.fail(format_args!("{c:?} does not go on with a rule"))),
        }
    }

    /// Alternatives; inside of parentheses, line breaks mean nothing.
    fn either(&mut self, nested: bool) -> Result<Node> {
        let mut options = vec![self.row(nested)?];
        loop {
            let before = self.at;
            self.spaces(true);
            if !self.eat("|") {
                self.at = if nested { self.at } else { before };
                break;
            }
            self.spaces(true);
            options.push(self.row(nested)?);
        }
        Ok(if options.len() == 1 { options.remove(0) } else { Node::Either(options) })
    }

    fn row(&mut self, nested: bool) -> Result<Node> {
        let mut row = Vec::new();
        loop {
            self.spaces(nested);
            let Some(node) = self.atom()? else { break };
            let node = self.repeated(node, nested)?;
            row.push(node);
        }
        Ok(if row.len() == 1 { row.remove(0) } else { Node::Row(row) })
    }

    fn atom(&mut self) -> Result<Option<Node>> {
        let at = self.at;
        let Some(c) = self.peek() else { return Ok(None) };
        Ok(Some(match c {
            '"' => {
                self.at += 1;
                let mut text = String::new();
                while !self.eat("\"") {
                    text.push(self.char("a text in quotation marks")?);
                }
                Node::Text(text)
            }
            '[' => self.class()?,
            '.' => {
                self.at += 1;
                Node::Class(true, Vec::new())
            }
            '(' => {
                self.at += 1;
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(
                        self.fail(format_args!("there are more than {MAX_DEPTH} parentheses inside each other"))
                    );
                }
                let inner = self.either(true)?;
                self.need(")")?;
                self.depth -= 1;
                inner
            }
            '<' | '!' => self.token()?,
            c if is_name(c) => {
                let name = self.name();
                Node::Rule(self.number_of(name, at)?)
            }
            _ => return Ok(None),
        }))
    }

    /// `<name>` or `<[number]>`, and all but that with `!` before it.
    fn token(&mut self) -> Result<Node> {
        let negated = self.eat("!");
        let rest = self.rest();
        let end = rest.find('>').filter(|_| rest.starts_with('<')).map(|end| end + 1);
        let name = end.map(|end| &rest[..end]).filter(|name| !name.contains(char::is_whitespace));
        let name = name.ok_or_else(|| self.fail("a token is expected, `<name>` or `<[number]>`"))?;
        let id = name.strip_prefix("<[").and_then(|id| id.strip_suffix("]>"));
        if id.is_some_and(|id| id.parse::<u32>().is_err()) || (id.is_none() && name[1..].contains('<')) {
            return Err(self.fail(format_args!("`{name}` is no token: `<name>` or `<[number]>` is expected")));
        }
        let written = match (negated, id) {
            (false, _) => name.to_owned(),
            (true, Some(id)) => format!("<[^{id}]>"),
            (true, None) => {
                return Err(
                    self.fail(format_args!("`!{name}` is not supported: name the token by its number, `!<[number]>`"))
                );
            }
        };
        self.at += name.len();
        Ok(Node::Token(written))
    }

    /// The next character of a text or a class, which may be escaped.
    fn char(&mut self, of: &str) -> Result<char> {
        let Some(c) = self.peek() else { return Err(self.fail(format_args!("{of} does not end"))) };
        self.at += c.len_utf8();
        if c != '\\' {
            return Ok(c);
        }
        let Some(kind) = self.peek() else { return Err(self.fail(format_args!("{of} does not end"))) };
        self.at += kind.len_utf8();
        let digits = match kind {
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            '\\' | '"' | '[' | ']' | '-' => return Ok(kind),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return Err(self.fail(format_args!("`\\{kind}` is not supported in {of}"))),
        };
        let hex = self.rest().get(..digits).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
        let code =
            code.ok_or_else(|| self.fail(format_args!("`\\{kind}` needs {digits} hexadecimal digits of a character")))?;
        self.at += digits;
        Ok(code)
    }

    fn class(&mut self) -> Result<Node> {
        const OF: &str = "a class of characters";
        self.at += 1;
        let negated = self.eat("^");
        let mut ranges = Vec::new();
        while !self.eat("]") {
            let first = self.char(OF)?;
            let is_range = self.rest().starts_with('-') && !self.rest().starts_with("-]");
            let last = if is_range && self.eat("-") { self.char(OF)? } else { first };
            if first > last {
                return Err(self.fail(format_args!("the range {first:?}-{last:?} is empty")));
            }
            ranges.push((first, last));
        }
        if ranges.is_empty() && !negated {
            return Err(self.fail("a class without characters matches nothing"));
        }
        Ok(Node::Class(negated, ranges))
    }

    /// A node with the counters that follow it.
    fn repeated(&mut self, mut node: Node, nested: bool) -> Result<Node> {
        let mut counters = 0;
        loop {
            let before = self.at;
            self.spaces(nested);
            let (least, most) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => self.counter()?,
                _ => {
                    self.at = before;
                    return Ok(node);
                }
            };
            self.at += 1;
            counters += 1;
            if counters > MAX_COUNTERS {
                return Err(self.fail(format_args!("there are more than {MAX_COUNTERS} counters after each other")));
            }
            node = Node::Times(Box::new(node), least, most);
        }
    }

    /// `{m}`, `{m,}` or `{m,n}`, up to its last sign.
    fn counter(&mut self) -> Result<(u32, Option<u32>)> {
        self.at += 1;
        let end = self.rest().find('}').ok_or_else(|| self.fail("`{` is not closed"))?;
        let text = &self.rest()[..end];
        let number = |text: &str| {
            let text = text.trim();
            text.parse::<u32>().map_err(|_| self.fail(format_args!("`{text}` in braces is no number of times")))
        };
        let times = match text.split_once(',') {
            None => number(text).map(|n| (n, Some(n)))?,
            Some((least, most)) if most.trim().is_empty() => (number(least)?, None),
            Some((least, most)) => (number(least)?, Some(number(most)?)),
        };
        if times.1.is_some_and(|most| most < times.0) {
            return Err(self.fail(format_args!("`{{{text}}}` has more times at least than at most")));
        }
        self.at += end;
        Ok(times)
    }
}
