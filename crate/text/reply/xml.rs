//! Parameters in tags, as Qwen3-Coder and Qwen3.5 write them.

use super::cursor::{Cursor, Scan, Stop};
use super::quote::{escape, json_string};
use super::tools::{Kinds, Tools};

/// The name of a parameter.
const MAX_KEY: usize = 256;

/// A value that is no text is held until it is whole; a longer one is text.
const MAX_HELD: usize = 1 << 18;

/// White space that is looked through for what follows the end of a value.
const MAX_SPACE: usize = 256;

const CLOSE: &str = "</parameter>";
const END: &str = "</function>";

/// What follows a value. A value can hold its own end as text, so it only ends where one of these comes next.
const AFTER: [&str; 4] = ["<parameter=", CLOSE, END, "</tool_call>"];

#[derive(Debug)]
enum State {
    Between,
    Value { kinds: Kinds, held: String, fresh: bool },
    Done,
}

/// The parameters of a call, after its name.
#[derive(Debug)]
pub(super) struct Parameters {
    tool: String,
    state: State,
    count: usize,
}

impl Parameters {
    pub(super) fn new(tool: &str) -> Self {
        Self { tool: tool.to_owned(), state: State::Between, count: 0 }
    }

    /// Reads up to the end of the call.
    pub(super) fn read(&mut self, c: &mut Cursor, tools: &Tools, out: &mut String) -> Scan<()> {
        loop {
            match &mut self.state {
                State::Done => return Ok(()),
                State::Between => {
                    c.spaces();
                    let mut at = *c;
                    if at.eat("<parameter=")? {
                        let key =
                            at.until(MAX_KEY, |ch| matches!(ch, '>' | '<' | '\n'))?.trim().trim_matches(['"', '\'']);
                        at.need(">")?;
                        out.push_str(if self.count > 0 { "," } else { "" });
                        out.push_str(&json_string(key));
                        out.push(':');
                        let kinds = tools.kinds(&self.tool, key);
                        out.push_str(if kinds.is_text() { "\"" } else { "" });
                        self.count += 1;
                        self.state = State::Value { kinds, held: String::new(), fresh: true };
                    } else if at.eat(END)? || at.starts("</tool_call>")? {
                        self.shut(out);
                    } else if !at.eat(CLOSE)? {
                        at.char()?;
                        return Err(Stop::No);
                    }
                    *c = at;
                }
                State::Value { kinds, held, fresh } => {
                    if *fresh {
                        let _ = c.eat("\r\n")? || c.eat("\n")?;
                        *fresh = false;
                    }
                    let rest = c.rest();
                    let plain = rest.find(['<', '\n', '\r']).unwrap_or(rest.len());
                    let end = match plain {
                        0 => end_of_value(c)?,
                        _ => None,
                    };
                    let len = if plain > 0 { plain } else { c.char()?.len_utf8() };
                    if end.is_none() {
                        match kinds.is_text() {
                            true => escape(out, &rest[..len]),
                            false => held.push_str(&rest[..len]),
                        }
                        c.skip(len);
                    }
                    if held.len() > MAX_HELD {
                        *kinds = Kinds::text();
                        out.push('"');
                        escape(out, &std::mem::take(held));
                    }
                    if let Some(after) = end {
                        out.push_str(&if kinds.is_text() { "\"".to_owned() } else { kinds.json(held) });
                        c.skip(after);
                        self.state = State::Between;
                    }
                }
            }
        }
    }

    /// Whether the text may end here, so that only tags are missing.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.state, State::Between | State::Done)
    }

    /// Ends the call, so that what was written is JSON.
    pub(super) fn shut(&mut self, out: &mut String) {
        if let State::Value { kinds, held, .. } = &self.state {
            out.push_str(&if kinds.is_text() { "\"".to_owned() } else { kinds.json(held) });
        }
        out.push('}');
        self.state = State::Done;
    }
}

/// How many bytes the end of a value has, if it is here: with the line break before it, and the tag after it.
fn end_of_value(c: &Cursor) -> Scan<Option<usize>> {
    let mut at = *c;
    let line = at.eat("\r\n")? || at.eat("\n")?;
    let mut after = at;
    if after.eat(CLOSE)? {
        let mut next = after;
        next.spaces();
        let far = after.rest().len() - next.rest().len() > MAX_SPACE;
        if far || next.peek()?.is_none() || starts_any(&next, &AFTER)? {
            return Ok(Some(after.at() - c.at()));
        }
        return Ok(None);
    }
    // The end of the value is missing, which only a new line tells.
    Ok((line && starts_any(&at, &AFTER)?).then(|| at.at() - c.at()))
}

fn starts_any(c: &Cursor, texts: &[&str]) -> Scan<bool> {
    for text in texts {
        if c.starts(text)? {
            return Ok(true);
        }
    }
    Ok(false)
}
