//! Values as models write them, be it JSON, Python or something between, turned into JSON while they come.

use super::cursor::{Cursor, Scan, Stop};
use super::quote::{Quote, escape};

/// Lists and maps inside each other. Readers of JSON commonly refuse more than 128.
const MAX_DEPTH: usize = 100;

/// A key or a value without quotes.
const MAX_WORD: usize = 1024;

/// White space that is looked through for what follows a quotation mark.
const MAX_SPACE: usize = 256;

/// What is open, and how many items it has.
#[derive(Debug)]
struct Frame {
    /// The sign that ends it.
    closer: char,
    /// Whether its items have keys.
    is_map: bool,
    items: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before a key, or the end of a map.
    Key,
    /// After a key.
    Colon,
    Value,
    /// After an item.
    Next,
    InKey(Quote),
    InValue(Quote),
    Done,
}

/// One value. It reads what it gets as the value that was most likely meant: quotes of any kind, quotes that should
/// be escaped, keys without quotes, `True` and `None`, tuples, missing and superfluous commas and brackets.
#[derive(Debug)]
pub(super) struct Value {
    stack: Vec<Frame>,
    state: State,
    /// What ends the value whatever is open; empty where nothing does.
    end: &'static str,
    /// What the arguments of a call are called that it gives by their position.
    positions: Vec<String>,
}

impl Value {
    pub(super) fn new(end: &'static str) -> Self {
        Self { stack: Vec::new(), state: State::Value, end, positions: Vec::new() }
    }

    /// The arguments of a call in Python, after the parenthesis: they become a map.
    pub(super) fn arguments(end: &'static str, positions: Vec<String>) -> Self {
        Self { stack: vec![Frame { closer: ')', is_map: true, items: 0 }], state: State::Key, end, positions }
    }

    /// What is written before anything is read.
    pub(super) fn start(&self) -> &'static str {
        if self.stack.is_empty() { "" } else { "{" }
    }

    /// Reads up to the end of the value. Where this is no value any more, [`Value::shut`] makes one of what was written.
    pub(super) fn read(&mut self, c: &mut Cursor, out: &mut String) -> Scan<()> {
        loop {
            match self.state {
                State::Done => return Ok(()),
                State::InKey(quote) => {
                    self.string(quote, c, out, |_, _| Ok(true))?;
                    out.push_str("\":");
                    self.state = State::Colon;
                }
                State::InValue(quote) => {
                    self.string(quote, c, out, Self::closes)?;
                    out.push('"');
                    self.state = State::Next;
                }
                _ => {
                    c.spaces();
                    let mut at = *c;
                    if !matches!(self.state, State::Next if self.stack.is_empty()) && self.ends(&at)? {
                        self.shut(out);
                        return Ok(());
                    }
                    match self.state {
                        State::Key => self.key(&mut at, out)?,
                        State::Value => self.value(&mut at, out)?,
                        State::Colon => match at.char()? {
                            ':' | '=' => {
                                at.skip(1);
                                self.state = State::Value;
                            }
                            _ => return Err(Stop::No),
                        },
                        _ => self.next(&mut at, out)?,
                    }
                    *c = at;
                }
            }
        }
    }

    /// Ends all that is open, so that what was written is JSON.
    pub(super) fn shut(&mut self, out: &mut String) {
        match self.state {
            State::InKey(_) => out.push_str("\":null"),
            State::InValue(_) => out.push('"'),
            State::Colon => out.push_str("null"),
            State::Value if self.stack.last().is_none_or(|frame| frame.is_map) => out.push_str("null"),
            _ => {}
        }
        while let Some(frame) = self.stack.pop() {
            out.push(frame.json_closer());
        }
        self.state = State::Done;
    }

    /// Whether the text may end here, so that only brackets are missing.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.state, State::Key | State::Next | State::Done)
    }

    fn string(
        &self,
        quote: Quote,
        c: &mut Cursor,
        out: &mut String,
        closes: fn(&Self, Cursor) -> Scan<bool>,
    ) -> Scan<()> {
        let mut text = String::new();
        let done = quote.read(c, &mut text, |after| if quote.is_loose { closes(self, after) } else { Ok(true) });
        escape(out, &text);
        done
    }

    fn ends(&self, c: &Cursor) -> Scan<bool> {
        if self.end.is_empty() { Ok(false) } else { c.starts(self.end) }
    }

    fn is_call(&self) -> bool {
        self.stack.len() == 1 && self.stack[0].closer == ')' && self.stack[0].is_map
    }

    fn key(&mut self, c: &mut Cursor, out: &mut String) -> Scan<()> {
        let next = c.char()?;
        match next {
            ',' | ';' => c.skip(1),
            '}' | ')' | ']' => return self.close(next, c, out),
            _ if is_word(next) => {
                let mut at = *c;
                let word = at.until(MAX_WORD, |ch| !is_word(ch))?;
                at.spaces();
                match at.peek()? {
                    Some(':' | '=') => {
                        *c = at;
                        self.begin(out);
                        escape_key(out, word);
                        self.state = State::Colon;
                    }
                    _ if self.is_call() => self.positional(out),
                    None => return Err(Stop::More),
                    _ => return Err(Stop::No),
                }
            }
            _ if self.is_call() => self.positional(out),
            _ => {
                let quote = Quote::open(c)?.ok_or(Stop::No)?;
                self.begin(out);
                out.push('"');
                self.state = State::InKey(quote);
            }
        }
        Ok(())
    }

    /// Gives an argument the name of its place.
    fn positional(&mut self, out: &mut String) {
        let place = self.stack[0].items;
        let name = self.positions.get(place).cloned().unwrap_or_else(|| format!("arg{place}"));
        self.begin(out);
        escape_key(out, &name);
        self.state = State::Value;
    }

    /// What stands before an item.
    fn begin(&mut self, out: &mut String) {
        if let Some(frame) = self.stack.last_mut() {
            out.push_str(if frame.items > 0 { "," } else { "" });
            frame.items += 1;
        }
    }

    fn value(&mut self, c: &mut Cursor, out: &mut String) -> Scan<()> {
        let in_list = self.stack.last().is_some_and(|frame| !frame.is_map);
        let next = c.char()?;
        match next {
            ',' if in_list => c.skip(1),
            '}' | ']' | ')' if in_list => return self.close(next, c, out),
            ',' | '}' | ']' | ')' => {
                out.push_str("null");
                self.state = State::Next;
            }
            '{' | '[' | '(' => {
                if self.stack.len() == MAX_DEPTH {
                    return Err(Stop::No);
                }
                if in_list {
                    self.begin(out);
                }
                c.skip(1);
                let frame = Frame::opened_by(next);
                out.push(if frame.is_map { '{' } else { '[' });
                self.state = if frame.is_map { State::Key } else { State::Value };
                self.stack.push(frame);
            }
            _ => match Quote::open(c)? {
                Some(quote) => {
                    if in_list {
                        self.begin(out);
                    }
                    out.push('"');
                    self.state = State::InValue(quote);
                }
                None => {
                    let mut parentheses = 0;
                    let word = c.until(MAX_WORD, |ch| match ch {
                        '(' => {
                            parentheses += 1;
                            false
                        }
                        ')' if parentheses > 0 => {
                            parentheses -= 1;
                            false
                        }
                        // A call in a value, as in `day=date(2026, 1, 2)`, is text.
                        ',' | '"' => parentheses == 0,
                        _ => matches!(ch, '}' | ']' | ')' | '<' | '\n'),
                    })?;
                    if word.is_empty() {
                        return Err(Stop::No);
                    }
                    if in_list {
                        self.begin(out);
                    }
                    write_word(out, word.trim_end());
                    self.state = State::Next;
                }
            },
        }
        Ok(())
    }

    fn next(&mut self, c: &mut Cursor, out: &mut String) -> Scan<()> {
        let Some(frame) = self.stack.last() else {
            self.state = State::Done;
            return Ok(());
        };
        let item = if frame.is_map { State::Key } else { State::Value };
        let next = c.char()?;
        match next {
            ',' | ';' => {
                c.skip(1);
                self.state = item;
            }
            '}' | ']' | ')' => return self.close(next, c, out),
            // A comma is missing.
            '"' | '\'' => self.state = item,
            _ if frame.is_map && is_word(next) => self.state = item,
            '{' | '[' if !frame.is_map => self.state = item,
            _ => return Err(Stop::No),
        }
        Ok(())
    }

    /// Ends the innermost that this sign ends, and what is open in it. Where it ends nothing it is superfluous.
    fn close(&mut self, sign: char, c: &mut Cursor, out: &mut String) -> Scan<()> {
        c.skip(sign.len_utf8());
        if let Some(depth) = self.stack.iter().rposition(|frame| frame.closer == sign) {
            for frame in self.stack.drain(depth..).rev() {
                out.push(frame.json_closer());
            }
            self.state = if self.stack.is_empty() { State::Done } else { State::Next };
        }
        Ok(())
    }

    /// Whether a quotation mark ends a value, from what follows it: a mark that should be escaped has text after it.
    fn closes(&self, mut c: Cursor) -> Scan<bool> {
        let Some(frame) = self.stack.last() else { return Ok(true) };
        let Some(next) = after_space(&mut c)? else { return Ok(true) };
        if self.ends(&c)? {
            return Ok(true);
        }
        match next.1 {
            '}' | ']' | ')' => Ok(self.stack.iter().any(|frame| frame.closer == next.1)),
            '"' | '\'' => Ok(next.0),
            ',' => {
                c.skip(1);
                let Some((_, item)) = after_space(&mut c)? else { return Ok(true) };
                match item {
                    '"' | '\'' => Ok(true),
                    '}' | ']' | ')' => Ok(item == frame.closer),
                    '<' => c.starts("<|\""),
                    '{' | '[' | '(' | '-' | '0'..='9' if !frame.is_map || self.is_call() => Ok(true),
                    _ if is_word(item) => {
                        let word = match c.until(MAX_WORD, |ch| !is_word(ch)) {
                            Err(Stop::No) => return Ok(false),
                            word => word?,
                        };
                        let is_key = frame.is_map && matches!(after_space(&mut c)?, None | Some((_, ':' | '=')));
                        Ok(is_key || ((!frame.is_map || self.is_call()) && constant(word).is_some()))
                    }
                    _ => Ok(false),
                }
            }
            _ => Ok(false),
        }
    }
}

impl Frame {
    fn opened_by(sign: char) -> Self {
        match sign {
            '{' => Self { closer: '}', is_map: true, items: 0 },
            '[' => Self { closer: ']', is_map: false, items: 0 },
            _ => Self { closer: ')', is_map: false, items: 0 },
        }
    }

    fn json_closer(&self) -> char {
        if self.is_map { '}' } else { ']' }
    }
}

/// The next character after white space that is not too long, and whether there is a line break before it. `None`
/// at the end of a finished text.
fn after_space(c: &mut Cursor) -> Scan<Option<(bool, char)>> {
    let rest = c.rest();
    c.spaces();
    let space = &rest[..rest.len() - c.rest().len()];
    if space.len() > MAX_SPACE {
        return Ok(None);
    }
    Ok(c.peek()?.map(|next| (space.contains('\n'), next)))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | '@')
}

fn escape_key(out: &mut String, key: &str) {
    out.push('"');
    escape(out, key);
    out.push_str("\":");
}

fn constant(word: &str) -> Option<&'static str> {
    match word {
        "true" | "True" => Some("true"),
        "false" | "False" => Some("false"),
        "null" | "None" => Some("null"),
        _ => None,
    }
}

/// What a word without quotes means in JSON or in Python: a constant, a number or else a string.
fn write_word(out: &mut String, word: &str) {
    let digits = word.trim_start_matches('+').replace('_', "");
    let is_padded = digits.starts_with('0') && digits[1..].starts_with(|c: char| c.is_ascii_digit());
    let is_number = !is_padded && digits.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '.'));
    match constant(word) {
        Some(constant) => out.push_str(constant),
        None if is_number && serde_json::from_str::<serde::de::IgnoredAny>(&digits).is_ok() => out.push_str(&digits),
        None => match digits.parse::<f64>() {
            Ok(number) if is_number && number.is_finite() => out.push_str(&serde_json::json!(number).to_string()),
            _ => {
                out.push('"');
                escape(out, word);
                out.push('"');
            }
        },
    }
}

/// A whole text as one value in JSON, or `None` where it is not one. What breaks off is completed with `complete`.
pub(super) fn whole(text: &str, complete: bool) -> Option<String> {
    let mut value = Value::new("");
    let (mut c, mut out) = (Cursor::new(text, true), String::new());
    match value.read(&mut c, &mut out) {
        Ok(()) => c.rest().trim().is_empty().then_some(out),
        Err(Stop::More) if complete => {
            value.shut(&mut out);
            Some(out)
        }
        Err(_) => None,
    }
}
