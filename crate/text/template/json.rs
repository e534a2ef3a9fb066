//! JSON as Python's `json` module reads and writes it.

use std::fmt::Write;

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::limits::{Budget, MAX_VALUE};
use super::{python, shadowed};

/// The options of `json.dumps`.
struct Format {
    indent: Option<String>,
    item: String,
    key: String,
    ascii: bool,
    sort: bool,
}

/// The filter `tojson`: `json.dumps` with `ensure_ascii=False`, and without escaping for HTML.
pub(super) fn tojson(budget: &Budget, args: &[Value]) -> Result<Value, Error> {
    let (value, rest, kwargs): (&Value, Rest<Value>, Kwargs) = minijinja::value::from_args(args)?;
    let positional = |i: usize| rest.get(i).cloned().unwrap_or(Value::from(()));
    let option = |name: &str, i: usize| kwargs.get::<Option<Value>>(name).map(|v| v.unwrap_or_else(|| positional(i)));
    let ascii = option("ensure_ascii", 0)?.is_true();
    let indent = option("indent", 1)?;
    let separators = option("separators", 2)?;
    let sort = option("sort_keys", 3)?.is_true();
    kwargs.assert_all_used()?;
    let indent = match indent.as_str() {
        Some(text) => Some(text.to_owned()),
        None if indent.is_none() => None,
        None => {
            let width = indent.as_usize().unwrap_or(0);
            budget.reserve(Some(width))?;
            Some(" ".repeat(width))
        }
    };
    let part = |i: usize, default: &str| -> Result<String, Error> {
        match separators.is_none() {
            true => Ok(default.to_owned()),
            false => Ok(python::str(&separators.get_item(&Value::from(i))?)),
        }
    };
    let item = part(0, if indent.is_some() { "," } else { ", " })?;
    let format = Format { item, key: part(1, ": ")?, indent, ascii, sort };
    let mut out = String::new();
    format.write(&mut out, value, 0, budget)?;
    Ok(Value::from(out))
}

impl Format {
    fn write(&self, out: &mut String, value: &Value, depth: usize, budget: &Budget) -> Result<(), Error> {
        // The separators can be long, and are repeated.
        if out.len() > MAX_VALUE {
            return Err(budget.exceed("the template makes a value that is too big"));
        }
        if let Some(text) = value.as_str() {
            self.quote(out, text, budget);
            return Ok(());
        }
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => write!(out, "{value}").expect("writing to a string"),
            ValueKind::Number => match f64::try_from(value.clone()).unwrap_or(f64::NAN) {
                f if f.is_nan() => out.push_str("NaN"),
                f if f.is_infinite() => out.push_str(if f < 0.0 { "-Infinity" } else { "Infinity" }),
                f => python::write_float(out, f),
            },
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.nest(out, ['[', ']'], items.len(), depth, |out, i| self.write(out, &items[i], depth + 1, budget))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort {
                    keys.sort_by_cached_key(|key| shadowed::plain(&budget.shadows, key));
                }
                self.nest(out, ['{', '}'], keys.len(), depth, |out, i| {
                    match keys[i].as_str() {
                        Some(key) => self.quote(out, key, budget),
                        None => {
                            let mut key = String::new();
                            self.write(&mut key, &keys[i], depth + 1, budget)?;
                            self.quote(out, &key, budget);
                        }
                    }
                    out.push_str(&self.key);
                    self.write(out, &value.get_item(&keys[i])?, depth + 1, budget)
                })?;
            }
            _ => {
                let message = format!("Object of type {} is not JSON serializable", python::type_name(value));
                return Err(Error::new(ErrorKind::BadSerialization, message));
            }
        }
        Ok(())
    }

    fn nest(
        &self,
        out: &mut String,
        brackets: [char; 2],
        len: usize,
        depth: usize,
        mut item: impl FnMut(&mut String, usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(brackets[0]);
        for i in 0..len {
            out.push_str(if i > 0 { &self.item } else { "" });
            self.newline(out, depth + 1);
            item(out, i)?;
        }
        if len > 0 {
            self.newline(out, depth);
        }
        out.push(brackets[1]);
        Ok(())
    }

    fn newline(&self, out: &mut String, depth: usize) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    }

    fn quote(&self, out: &mut String, text: &str, budget: &Budget) {
        out.push('"');
        for shown in text.chars() {
            match budget.shadows.lift(shown) {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if c < ' ' || (self.ascii && !c.is_ascii()) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(out, "\\u{unit:04x}").expect("writing to a string");
                    }
                }
                _ => out.push(shown),
            }
        }
        out.push('"');
    }
}
