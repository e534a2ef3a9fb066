//! Methods of Python's strings that minijinja lacks or has with other rules.

use minijinja::value::{Kwargs, Tuple, from_args};
use minijinja::{Error, ErrorKind, Value};

use super::limits::{Budget, ELEMENT};

/// Calls a method of a string; `None` where it is not one of these.
pub(super) fn call(budget: &Budget, text: &str, method: &str, args: &[Value]) -> Option<Result<Value, Error>> {
    Some(match method {
        "split" | "rsplit" => split(budget, text, args, method == "rsplit"),
        "splitlines" => split_lines(budget, text, args),
        "partition" | "rpartition" => partition(text, args, method == "rpartition"),
        "removeprefix" => from_args(args).map(|(affix,)| Value::from(text.strip_prefix::<&str>(affix).unwrap_or(text))),
        "removesuffix" => from_args(args).map(|(affix,)| Value::from(text.strip_suffix::<&str>(affix).unwrap_or(text))),
        "find" | "rfind" | "index" | "rindex" => find(text, args, method),
        "title" => plain(args, || title(text)),
        "swapcase" => plain(args, || swap_case(text)),
        "ljust" | "rjust" | "center" | "zfill" => pad(budget, text, args, method),
        _ => return None,
    })
}

fn plain(args: &[Value], result: impl FnOnce() -> String) -> Result<Value, Error> {
    let () = from_args(args)?;
    Ok(Value::from(result()))
}

fn invalid(what: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

/// `split` and `rsplit`, which differ where `maxsplit` leaves a rest.
fn split(budget: &Budget, text: &str, args: &[Value], from_right: bool) -> Result<Value, Error> {
    let (separator, limit, kwargs): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = separator.or(kwargs.get("sep")?).filter(|value| !value.is_none());
    let limit = limit.or(kwargs.get("maxsplit")?).unwrap_or(-1);
    kwargs.assert_all_used()?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let separator =
        separator.as_ref().map(|value| value.as_str().ok_or_else(|| invalid("a separator must be a string")));
    let mut rest = text;
    let mut parts = Vec::new();
    let separator = separator.transpose()?;
    if separator == Some("") {
        return Err(invalid("empty separator"));
    }
    loop {
        if separator.is_none() {
            rest = if from_right { rest.trim_end() } else { rest.trim_start() };
            if rest.is_empty() {
                break;
            }
        }
        let cut = if parts.len() >= limit {
            None
        } else {
            match (separator, from_right) {
                (Some(separator), false) => rest.split_once(separator),
                (Some(separator), true) => rest.rsplit_once(separator).map(|(rest, part)| (part, rest)),
                (None, false) => rest.split_once(char::is_whitespace),
                (None, true) => rest.rsplit_once(char::is_whitespace).map(|(rest, part)| (part, rest)),
            }
        };
        budget.reserve(Some(ELEMENT))?;
        let Some((part, others)) = cut else {
            parts.push(rest);
            break;
        };
        parts.push(part);
        rest = others;
    }
    if from_right {
        parts.reverse();
    }
    budget.charge(text.len())?;
    Ok(Value::from(parts.into_iter().map(Value::from).collect::<Vec<_>>()))
}

fn split_lines(budget: &Budget, text: &str, args: &[Value]) -> Result<Value, Error> {
    let (keep, kwargs): (Option<bool>, Kwargs) = from_args(args)?;
    let keep = keep.or(kwargs.get("keepends")?).unwrap_or(false);
    kwargs.assert_all_used()?;
    let mut lines = Vec::new();
    let mut rest = text;
    let ends = |c: char| matches!(c, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    while !rest.is_empty() {
        let at = rest.find(ends).unwrap_or(rest.len());
        let end = if rest[at..].starts_with("\r\n") { 2 } else { rest[at..].chars().next().map_or(0, char::len_utf8) };
        budget.reserve(Some(ELEMENT))?;
        lines.push(Value::from(&rest[..if keep { at + end } else { at }]));
        rest = &rest[at + end..];
    }
    Ok(Value::from(lines))
}

fn partition(text: &str, args: &[Value], from_right: bool) -> Result<Value, Error> {
    let (separator,): (&str,) = from_args(args)?;
    if separator.is_empty() {
        return Err(invalid("empty separator"));
    }
    let cut = if from_right { text.rsplit_once(separator) } else { text.split_once(separator) };
    let parts = match cut {
        Some((before, after)) => [before, separator, after],
        None if from_right => ["", "", text],
        None => [text, "", ""],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from).to_vec())))
}

/// The position in characters, from `start` on and before `end`, which may count from the end.
fn find(text: &str, args: &[Value], method: &str) -> Result<Value, Error> {
    let (part, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
    let len = text.chars().count() as i64;
    let place = |i: i64| (if i < 0 { i.saturating_add(len).max(0) } else { i }) as usize;
    let byte = |i: usize| text.char_indices().nth(i).map_or(text.len(), |(at, _)| at);
    let (start, end) = (place(start.unwrap_or(0)), byte(place(end.unwrap_or(len))));
    let window = text.get(byte(start)..end).filter(|_| start <= len as usize);
    let from_right = method.starts_with('r');
    let found = window.and_then(|w| if from_right { w.rfind(part) } else { w.find(part) }.map(|at| &w[..at]));
    match found {
        Some(before) => Ok(Value::from(start + before.chars().count())),
        None if method.ends_with("index") => Err(invalid("substring not found")),
        None => Ok(Value::from(-1)),
    }
}

/// Every run of letters starts with a capital; `don't` becomes `Don'T`.
fn title(text: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if inside {
            out.extend(c.to_lowercase());
        } else {
            // What becomes two letters has one capital: `ß` becomes `Ss`.
            let mut upper = c.to_uppercase();
            out.extend(upper.next());
            out.extend(upper.flat_map(char::to_lowercase));
        }
        inside = c.is_lowercase() || c.is_uppercase();
    }
    out
}

fn swap_case(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() { out.extend(c.to_lowercase()) } else { out.extend(c.to_uppercase()) }
    }
    out
}

fn pad(budget: &Budget, text: &str, args: &[Value], method: &str) -> Result<Value, Error> {
    let (width, fill) = match method {
        "zfill" => (from_args::<(i64,)>(args)?.0, "0"),
        _ => from_args::<(i64, Option<&str>)>(args).map(|(width, fill)| (width, fill.unwrap_or(" ")))?,
    };
    if fill.chars().count() != 1 {
        return Err(invalid("the fill character must be exactly one character long"));
    }
    let width = usize::try_from(width).unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    budget.reserve(missing.checked_mul(fill.len()).and_then(|n| n.checked_add(text.len())))?;
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) if method == "zfill" => (&text[..1], digits),
        _ => ("", text),
    };
    let left = match method {
        "ljust" => 0,
        // As Python: an odd space goes to the left where the width is odd.
        "center" => missing / 2 + (missing & width & 1),
        _ => missing,
    };
    Ok(Value::from([sign, &fill.repeat(left), digits, &fill.repeat(missing - left)].concat()))
}
