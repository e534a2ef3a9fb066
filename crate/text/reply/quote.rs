//! Strings as models write them, and as JSON writes them.

use std::fmt::Write;

use super::cursor::{Cursor, Scan, Stop};

/// What starts and ends a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quote {
    mark: &'static str,
    /// Whether backslashes have a meaning in it.
    escapes: bool,
    /// Whether the mark occurs in a string by mistake, as in `'What's new?'`.
    pub(super) is_loose: bool,
}

const QUOTES: [Quote; 6] = [
    Quote { mark: "<|\"|>", escapes: false, is_loose: false },
    Quote { mark: "<escape>", escapes: false, is_loose: false },
    Quote { mark: "\"\"\"", escapes: true, is_loose: false },
    Quote { mark: "'''", escapes: true, is_loose: false },
    Quote { mark: "\"", escapes: true, is_loose: true },
    Quote { mark: "'", escapes: true, is_loose: true },
];

impl Quote {
    /// Reads the start of a string, if one starts here.
    pub(super) fn open(c: &mut Cursor) -> Scan<Option<Quote>> {
        for quote in QUOTES {
            if c.eat(quote.mark)? {
                return Ok(Some(quote));
            }
        }
        Ok(None)
    }

    /// Reads on in a string, as far as it is certain. `closes` says whether a mark ends it, from what follows the mark.
    pub(super) fn read(self, c: &mut Cursor, out: &mut String, closes: impl Fn(Cursor) -> Scan<bool>) -> Scan<()> {
        let first = self.mark.chars().next().expect("a mark is a text");
        loop {
            let rest = c.rest();
            let plain = rest.find(|ch| ch == first || (self.escapes && ch == '\\')).unwrap_or(rest.len());
            out.push_str(&rest[..plain]);
            c.skip(plain);
            if self.escapes && c.char()? == '\\' {
                let (escaped, len) = unescape(c)?;
                out.push(escaped);
                c.skip(len);
                continue;
            }
            if c.starts(self.mark)? {
                let mut after = *c;
                after.skip(self.mark.len());
                if closes(after)? {
                    *c = after;
                    return Ok(());
                }
            }
            out.push(c.char()?);
            c.skip(first.len_utf8());
        }
    }
}

/// Reads a whole string of at most so many bytes, whose mark is nothing but its end.
pub(super) fn string(c: &mut Cursor, most: usize) -> Scan<String> {
    let quote = Quote::open(c)?.ok_or(Stop::No)?;
    let mut out = String::new();
    let mut at = *c;
    let done = quote.read(&mut at, &mut out, |_| Ok(true));
    if at.at() - c.at() > most {
        return Err(Stop::No);
    }
    *c = at;
    done.map(|()| out)
}

/// What a backslash and what follows it stand for, and how many bytes that are. An unknown escape is a backslash.
fn unescape(c: &Cursor) -> Scan<(char, usize)> {
    let mut after = *c;
    after.skip(1);
    let Some(kind) = after.peek()? else { return Ok(('\\', 1)) };
    let simple = match kind {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        'b' => '\u{8}',
        'f' => '\u{c}',
        '"' | '\'' | '\\' | '/' => kind,
        'x' => return Ok(hex(&after, 2)?.and_then(char::from_u32).map_or(('\\', 1), |ch| (ch, 4))),
        'U' => return Ok(hex(&after, 8)?.and_then(char::from_u32).map_or(('\\', 1), |ch| (ch, 10))),
        'u' => {
            let Some(unit) = hex(&after, 4)? else { return Ok(('\\', 1)) };
            if !(0xD800..0xDC00).contains(&unit) {
                return Ok((char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER), 6));
            }
            after.skip(5);
            let low = if after.eat("\\")? && after.starts("u")? { hex(&after, 4)? } else { None };
            let pair = low.filter(|low| (0xDC00..0xE000).contains(low));
            let code = pair.map(|low| 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00));
            return Ok(code.and_then(char::from_u32).map_or((char::REPLACEMENT_CHARACTER, 6), |ch| (ch, 12)));
        }
        _ => return Ok(('\\', 1)),
    };
    Ok((simple, 2))
}

/// The number of so many digits after the letter where the cursor is.
fn hex(c: &Cursor, digits: usize) -> Scan<Option<u32>> {
    let mut at = *c;
    at.skip(1);
    for _ in 0..digits {
        match at.peek()? {
            Some(digit) if digit.is_ascii_hexdigit() => at.skip(1),
            _ => return Ok(None),
        }
    }
    Ok(u32::from_str_radix(&c.rest()[1..=digits], 16).ok())
}

/// Appends a text as the inside of a JSON string.
pub(super) fn escape(out: &mut String, text: &str) {
    for ch in text.chars() {
        match ch {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ch if ch < ' ' => write!(out, "\\u{:04x}", u32::from(ch)).expect("writing to a string"),
            ch => out.push(ch),
        }
    }
}

/// A text as a JSON string.
pub(super) fn json_string(text: &str) -> String {
    let mut out = String::from("\"");
    escape(&mut out, text);
    out.push('"');
    out
}
