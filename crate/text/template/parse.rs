//! Reads JSON for templates. Integers keep their digits up to 128 bits, as they do in Python, since a template prints
//! them again; the usual readers make floats of those above 64 bits.

use minijinja::Value;

use crate::bail;
use crate::error::{Error, ErrorKind, Result};

/// Lists and maps inside each other.
const MAX_DEPTH: usize = 64;

/// Reads a JSON text into a value for [`super::ChatTemplate::render`].
pub fn parse_json(text: &str) -> Result<Value> {
    let raw: serde_json::Value = serde_json::from_str(text)
        .map_err(|e| Error::new(ErrorKind::InvalidArgument, format!("not valid JSON: {e}")))?;
    // The reader above checked the whole; what follows only finds the numbers again.
    let mut numbers = Numbers { text, at: 0 };
    convert(&raw, &mut numbers, 0)
}

/// The numbers of a JSON text in the order in which they stand there.
struct Numbers<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Numbers<'t> {
    fn next(&mut self) -> Option<&'t str> {
        let bytes = self.text.as_bytes();
        let mut quoted = false;
        while let Some(&byte) = bytes.get(self.at) {
            match byte {
                b'\\' if quoted => self.at += 1,
                b'"' => quoted = !quoted,
                b'-' | b'0'..=b'9' if !quoted => {
                    let rest = &self.text[self.at..];
                    let number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
                    let len = rest.find(|c| !number(c)).unwrap_or(rest.len());
                    self.at += len;
                    return Some(&rest[..len]);
                }
                _ => {}
            }
            self.at += 1;
        }
        None
    }
}

fn convert(raw: &serde_json::Value, numbers: &mut Numbers, depth: usize) -> Result<Value> {
    if depth > MAX_DEPTH {
        bail!(InvalidArgument, "lists and maps are nested deeper than {MAX_DEPTH} levels");
    }
    Ok(match raw {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(b) => Value::from(*b),
        serde_json::Value::String(s) => Value::from(s.as_str()),
        serde_json::Value::Number(number) => {
            let written = numbers.next().unwrap_or_default();
            let float = number.as_f64().unwrap_or(f64::NAN);
            // A key that occurs twice drops numbers, so what was found may be another one.
            let same = written.parse() == Ok(float);
            match (written.parse::<i128>(), number.as_i64()) {
                (_, Some(int)) => Value::from(int),
                (Ok(int), None) if same => Value::from(int),
                _ => Value::from(float),
            }
        }
        serde_json::Value::Array(items) => {
            Value::from(items.iter().map(|v| convert(v, numbers, depth + 1)).collect::<Result<Vec<_>>>()?)
        }
        serde_json::Value::Object(map) => {
            let entry =
                |(k, v): (&String, &serde_json::Value), n: &mut Numbers| Ok((k.clone(), convert(v, n, depth + 1)?));
            Value::from_pairs(map.iter().map(|e| entry(e, numbers)).collect::<Result<Vec<_>>>()?)
        }
    })
}
