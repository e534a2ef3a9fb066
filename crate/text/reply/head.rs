//! Where calls start, and what stands around their arguments.

use super::cursor::{Cursor, Scan, Stop};
use super::quote::string;
use super::tools::{ToolSpec, Tools};
use super::value::{Value, whole};
use super::xml::Parameters;

/// The name of a tool, or of a field of a call.
const MAX_NAME: usize = 256;

/// How long a text may be of which it is not known yet whether it is a call.
const MAX_HEAD: usize = 1 << 18;

/// A cursor over as much of a text as may be a head, and whether that is all that it can get.
pub(super) fn window(text: &str, last: bool) -> (Cursor<'_>, bool) {
    let mut end = text.len().min(MAX_HEAD);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    (Cursor::new(&text[..end], last && end == text.len()), text.len() >= MAX_HEAD)
}

/// What a text can start with that is a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opener {
    pub(super) open: &'static str,
    /// What ends the calls; empty where only the end of the text does.
    pub(super) close: &'static str,
    /// Whether the start is a part of the call.
    pub(super) is_part: bool,
    /// Whether it is no call where it names none of the tools, since other texts start alike.
    pub(super) is_strict: bool,
}

pub(super) const fn tags(open: &'static str, close: &'static str) -> Opener {
    Opener { open, close, is_part: false, is_strict: false }
}

/// The markers of calls, which models have by their template or vocabulary.
pub(super) const OPENERS: [Opener; 12] = [
    tags("<tool_call>", "</tool_call>"),
    tags("<|tool_call_start|>", "<|tool_call_end|>"),
    tags("<|tool_call>", "<tool_call|>"),
    tags("<|tool_call|>", "<|/tool_call|>"),
    tags("<start_function_call>", "<end_function_call>"),
    tags("<function_calls>", "</function_calls>"),
    tags("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
    tags("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"),
    tags("[TOOL_CALLS]", ""),
    Opener { is_strict: true, ..tags("<tools>", "</tools>") },
    Opener { is_strict: true, ..tags("<|python_tag|>", "") },
    FUNCTION,
];

/// The start of a call with parameters in tags, where no marker is around it.
pub(super) const FUNCTION: Opener = Opener { is_part: true, is_strict: true, ..tags("<function=", "") };

/// A fenced block at the start of a line.
pub(super) const FENCE: Opener = Opener { is_strict: true, ..tags("```", "```") };

/// A call without any marker, at the start of a line.
pub(super) const BARE: Opener = Opener { is_part: true, is_strict: true, ..tags("", "") };

/// The same, or a fenced block, where a grammar says what it is.
pub(super) const HELD: Opener = Opener { close: FENCE.close, ..BARE };

/// Tags that some models close twice, or in the wrong order.
const STRAY: [&str; 5] = ["</parameter>", "</function>", "</tool_call>", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"];

/// The arguments of a call, to be read.
#[derive(Debug)]
pub(super) enum Body {
    /// They are known already.
    Given(String),
    Value(Value),
    Parameters(Parameters),
}

/// A call up to its arguments.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) name: String,
    pub(super) body: Body,
    /// Objects that are open around the arguments.
    pub(super) objects: usize,
    /// Whether it is in a list.
    pub(super) in_list: bool,
}

impl Body {
    /// What is written before anything is read.
    pub(super) fn start(&mut self) -> String {
        match self {
            Body::Given(json) => std::mem::take(json),
            Body::Value(value) => value.start().to_owned(),
            Body::Parameters(_) => "{".to_owned(),
        }
    }

    pub(super) fn read(&mut self, c: &mut Cursor, tools: &Tools, out: &mut String) -> Scan<()> {
        match self {
            Body::Given(_) => Ok(()),
            Body::Value(value) => value.read(c, out),
            Body::Parameters(parameters) => parameters.read(c, tools, out),
        }
    }

    /// Ends what is open, so that what was written is JSON.
    pub(super) fn shut(&mut self, out: &mut String) {
        match self {
            Body::Given(_) => {}
            Body::Value(value) => value.shut(out),
            Body::Parameters(parameters) => parameters.shut(out),
        }
    }

    /// Whether the text may end here, so that only brackets or tags are missing.
    pub(super) fn is_between(&self) -> bool {
        match self {
            Body::Given(_) => true,
            Body::Value(value) => value.is_between(),
            Body::Parameters(parameters) => parameters.is_between(),
        }
    }
}

/// Reads a call up to its arguments.
pub(super) fn head(c: &mut Cursor, tools: &Tools, opener: Opener) -> Scan<Head> {
    c.spaces();
    if c.eat("```")? || opener == FENCE {
        c.until(MAX_NAME, |ch| !ch.is_alphanumeric() && ch != '_')?;
        c.spaces();
    }
    let _ = c.eat("<｜tool▁call▁begin｜>")?;
    let in_list = match c.char()? {
        '[' => {
            c.skip(1);
            c.spaces();
            true
        }
        _ => false,
    };
    let mut head = match c.char()? {
        '{' => object(c, tools, opener)?,
        '<' => function(c, tools, opener)?,
        _ => word(c, tools, opener)?,
    };
    head.in_list = in_list;
    Ok(head)
}

/// Whether this is a call that a grammar lets be without a marker: it starts with `{"name": "f"`, maybe in a fenced block,
/// and exactly so, since what starts otherwise was held to nothing.
pub(super) fn held(mut c: Cursor, tools: &Tools) -> Scan<()> {
    let spaces = |c: &mut Cursor| c.until(MAX_HEAD, |ch| !matches!(ch, ' ' | '\n' | '\r' | '\t')).map(|_| ());
    if c.eat(FENCE.open)? {
        c.until(MAX_HEAD, |ch| !ch.is_ascii_lowercase() && ch != '_')?;
        spaces(&mut c)?;
    }
    c.need("{")?;
    spaces(&mut c)?;
    c.need("\"name\"")?;
    spaces(&mut c)?;
    c.need(":")?;
    spaces(&mut c)?;
    for tool in &tools.0 {
        if c.starts(&serde_json::Value::from(&*tool.name).to_string())? {
            return Ok(());
        }
    }
    Err(Stop::No)
}

/// The name that is meant, if a call of it is one.
fn named(name: &str, tools: &Tools, opener: Opener) -> Scan<String> {
    match tools.find(name) {
        Some(tool) => Ok(tool.name.clone()),
        None if opener.is_strict || name.is_empty() => Err(Stop::No),
        None => Ok(name.to_owned()),
    }
}

/// `{"name": …, "arguments": …}`, in any order and with more fields.
fn object(c: &mut Cursor, tools: &Tools, opener: Opener) -> Scan<Head> {
    c.need("{")?;
    let (mut objects, mut name, mut arguments) = (1, None, None);
    loop {
        c.spaces();
        match c.char()? {
            ',' => {
                c.skip(1);
                continue;
            }
            '}' => {
                c.skip(1);
                objects -= 1;
                if objects > 0 {
                    continue;
                }
                let json = arguments.unwrap_or_else(|| "{}".to_owned());
                return Ok(Head { name: name.ok_or(Stop::No)?, body: Body::Given(json), objects, in_list: false });
            }
            _ => {}
        }
        let key = string(c, MAX_NAME)?;
        c.spaces();
        c.need(":")?;
        c.spaces();
        match (key.as_str(), c.char()?) {
            ("function" | "tool_call", '{') if name.is_none() && objects < 4 => {
                c.skip(1);
                objects += 1;
            }
            ("name" | "function" | "tool" | "tool_name", _) if name.is_none() => {
                name = Some(named(&string(c, MAX_NAME)?, tools, opener)?);
            }
            ("arguments" | "parameters" | "args" | "kwargs" | "input", next) => match (&name, next) {
                (Some(name), '{' | '[') => {
                    let body = Body::Value(Value::new(opener.close));
                    return Ok(Head { name: name.clone(), body, objects, in_list: false });
                }
                _ => arguments = Some(given(c)?),
            },
            ("type" | "id" | "index" | "call_id" | "tool_call_id", _) => _ = skip(c)?,
            _ if opener.is_strict => return Err(Stop::No),
            _ => _ = skip(c)?,
        }
    }
}

/// Arguments that are no object, or that come before the name. Some models write JSON into a string.
fn given(c: &mut Cursor) -> Scan<String> {
    let json = skip(c)?;
    let text = serde_json::from_str::<String>(&json).ok().filter(|text| text.trim_start().starts_with('{'));
    let inner = text.and_then(|text| whole(&text, true));
    Ok(inner.unwrap_or(if json == "null" || json == "\"\"" { "{}".to_owned() } else { json }))
}

/// Reads a value and gives it as JSON.
fn skip(c: &mut Cursor) -> Scan<String> {
    let (mut at, mut out) = (*c, String::new());
    Value::new("").read(&mut at, &mut out)?;
    *c = at;
    Ok(out)
}

/// Reads a field of an object that says nothing here.
fn field(c: &mut Cursor) -> Scan<()> {
    string(c, MAX_NAME)?;
    c.spaces();
    c.need(":")?;
    skip(c).map(|_| ())
}

/// `<function=NAME>`, and parameters in tags or JSON.
fn function(c: &mut Cursor, tools: &Tools, opener: Opener) -> Scan<Head> {
    c.need("<function=")?;
    let name = c.until(MAX_NAME, |ch| matches!(ch, '>' | '<' | '\n' | '{'))?.trim().trim_matches(['"', '\'']);
    c.need(">")?;
    let name = named(name, tools, opener)?;
    c.spaces();
    let body = match c.peek()? {
        Some('{') => Body::Value(Value::new("</function>")),
        _ => Body::Parameters(Parameters::new(&name)),
    };
    Ok(Head { name, body, objects: 0, in_list: false })
}

/// A name, and then its arguments in Python, in JSON or in what Gemma 4 writes.
fn word(c: &mut Cursor, tools: &Tools, opener: Opener) -> Scan<Head> {
    let mut word = c.until(MAX_NAME, ends_word)?;
    // Gemma 3 writes the call as a program that prints its result.
    if word == "print" && tools.find(word).is_none() && c.eat("(")? {
        word = c.until(MAX_NAME, ends_word)?;
    }
    if c.eat("<｜tool▁sep｜>")? && c.char()? != '{' {
        word = c.until(MAX_NAME, |ch| ch == '\n')?.trim();
        c.spaces();
        if c.eat("```")? {
            c.until(MAX_NAME, |ch| ch == '\n')?;
        }
    }
    let name = named(word.strip_prefix("call:").unwrap_or(word), tools, opener)?;
    if tools.find(&name).is_some() {
        c.spaces();
    }
    if c.eat("[CALL_ID]")? {
        c.until(MAX_NAME, |ch| ch == '[')?;
    }
    let _ = c.eat("[ARGS]")?;
    c.spaces();
    let body = match c.char()? {
        '(' => {
            c.skip(1);
            Value::arguments(opener.close, tools.find(&name).map_or_else(Vec::new, ToolSpec::names))
        }
        '{' => Value::new(opener.close),
        _ => return Err(Stop::No),
    };
    Ok(Head { name, body: Body::Value(body), objects: 0, in_list: false })
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, '(' | ')' | '[' | ']' | '{' | '}' | ',' | '<' | '"' | '\'')
}

/// What follows the arguments of a call.
#[derive(Debug)]
pub(super) enum Tail {
    Next(Head),
    /// The calls are over, with their closing marker or without.
    End {
        closed: bool,
    },
}

/// What is open around a call.
#[derive(Debug)]
pub(super) struct Around {
    pub(super) opener: Opener,
    pub(super) objects: usize,
    pub(super) in_list: bool,
}

impl Around {
    /// Reads what closes a call and the start of the next one, if there is one. Where more text is needed, what was read
    /// is done with.
    pub(super) fn tail(&mut self, c: &mut Cursor, tools: &Tools) -> Scan<Tail> {
        loop {
            c.spaces();
            if !self.opener.close.is_empty() && c.eat(self.opener.close)? {
                return Ok(Tail::End { closed: true });
            }
            if c.peek()?.is_none() {
                return Ok(Tail::End { closed: false });
            }
            let Some(len) = self.closer(c)? else { break };
            c.skip(len);
        }
        let (mut at, is_all) = window(c.rest(), c.is_last());
        // Calls without a marker stand one after another with a sign between them.
        if matches!(at.char()?, ',' | ';') {
            at.skip(1);
        }
        match head(&mut at, tools, self.opener) {
            Ok(mut head) => {
                c.skip(at.at());
                head.in_list |= self.in_list;
                head.objects += self.objects;
                Ok(Tail::Next(head))
            }
            Err(Stop::More) if !is_all && !c.is_last() => Err(Stop::More),
            Err(_) => Ok(Tail::End { closed: false }),
        }
    }

    /// How many bytes of what comes next only close something.
    fn closer(&mut self, c: &Cursor) -> Scan<Option<usize>> {
        for tag in STRAY {
            if c.starts(tag)? {
                return Ok(Some(tag.len()));
            }
        }
        let tagged = !self.opener.close.is_empty();
        if tagged && c.starts("```")? {
            return Ok(Some(3));
        }
        match c.char()? {
            '}' if self.objects > 0 => {
                self.objects -= 1;
                Ok(Some(1))
            }
            ']' if self.in_list => {
                self.in_list = false;
                Ok(Some(1))
            }
            // Some close more than they opened.
            '}' | ']' | ')' if tagged => Ok(Some(1)),
            ',' | ';' if tagged || self.objects > 0 => Ok(Some(1)),
            // A field after the arguments.
            '"' if self.objects > 0 => {
                let (mut at, is_all) = window(c.rest(), c.is_last());
                match field(&mut at) {
                    Ok(()) => Ok(Some(at.at())),
                    Err(Stop::More) if !is_all => Err(Stop::More),
                    Err(_) => Ok(None),
                }
            }
            _ => Ok(None),
        }
    }
}
