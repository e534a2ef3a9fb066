//! JSON schemas: how the JSON may be written.

use llguidance::JsonCompileOptions;
use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};

use super::repeats;
use crate::bail;
use crate::error::{Error, ErrorKind, Result};

/// White space where JSON has it: enough to indent, and not so much that a model that goes on with it never ends.
const WHITE_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,20}";

/// What it is that cannot be compiled, for those who wrote the schema.
pub(super) fn said(text: &str) -> String {
    if let Some(names) = text.strip_prefix("Unimplemented keys: ") {
        return format!(
            "these keywords are not supported: {names}; leave them out, and check the answer for what they say"
        );
    }
    if let Some((_, to)) = text.split_once("without 'referencing' feature; ref ") {
        return format!("`$ref` must lead into the schema itself (#/...), is {to}");
    }
    if text.starts_with("oneOf constraints") {
        return "`oneOf` is supported where no two options overlap: by type, or by the values of a required property; use \
                `anyOf` else"
            .to_owned();
    }
    text.to_owned()
}

/// Dates of which February has 29 days only in leap years.
const DAYS: &str = "^.{5}(0[13-9]|1|02-([01]|2[0-8]))\
    |^([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)-02-29";

/// Refuses what would take too long to follow, and narrows formats that let through more than they should. The depth is that
/// which `serde_json` reads.
fn prepare(schema: &mut Value) -> Result<()> {
    if let Value::Array(items) = schema {
        return items.iter_mut().try_for_each(prepare);
    }
    let Value::Object(keys) = schema else { return Ok(()) };
    let mut patterns = Vec::new();
    for (key, value) in &mut *keys {
        match (key.as_str(), &*value) {
            ("const" | "enum" | "default" | "examples", _) => continue,
            ("pattern", Value::String(pattern)) => repeats::check(pattern)?,
            ("patternProperties", Value::Object(patterns)) => patterns.keys().try_for_each(|p| repeats::check(p))?,
            ("minLength", Value::Number(n)) if n.as_f64().is_some_and(|n| n > repeats::MOST as f64) => {
                bail!(BadGrammar, "`minLength` is {n}, at most {} is supported", repeats::MOST)
            }
            ("format", Value::String(format)) => patterns.extend_from_slice(match format.as_str() {
                "date" => &[DAYS],
                // Few minutes have a leap second.
                "time" => &["^.{6}[0-5]"],
                "date-time" => &[DAYS, "^.{17}[0-5]"],
                _ => &[],
            }),
            _ => {}
        }
        prepare(value)?;
    }
    if !patterns.is_empty() {
        let all = keys.entry("allOf").or_insert_with(|| json!([]));
        all.as_array_mut().into_iter().for_each(|all| all.extend(patterns.iter().map(|p| json!({"pattern": p}))));
    }
    Ok(())
}

/// `lenient`: what is not supported is ignored.
pub(super) fn parse(text: &str, lenient: bool) -> Result<TopLevelGrammar> {
    let bad = |e: serde_json::Error| Error::new(ErrorKind::BadGrammar, format!("it is not JSON: {e}"));
    let mut schema = match serde_json::from_str(text).map_err(bad)? {
        Value::Bool(true) => json!({}),
        schema @ Value::Object(_) => schema,
        _ => bail!(BadGrammar, "a schema is a JSON object, or `true` for any JSON; nothing matches `false`"),
    };
    prepare(&mut schema)?;
    // In the place of options that the schema might bring along: those could loosen it.
    let options = JsonCompileOptions {
        whitespace_pattern: Some(WHITE_SPACE.to_owned()),
        json_allow_general_unicode_escapes: true,
        lenient,
        coerce_one_of: lenient,
        ..JsonCompileOptions::default()
    };
    options.apply_to(&mut schema);
    Ok(TopLevelGrammar::from_json_schema(schema))
}
