//! JSON schemas: how the JSON may be written.

use llguidance::JsonCompileOptions;
use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};

use crate::bail;
use crate::error::{Error, ErrorKind, Result};

/// White space where JSON has it: enough to indent, and not so much that a model that goes on with it never ends.
const WHITE_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,40}";

pub(super) fn parse(text: &str) -> Result<TopLevelGrammar> {
    let bad = |e: serde_json::Error| Error::new(ErrorKind::BadGrammar, format!("it is not JSON: {e}"));
    let mut schema = match serde_json::from_str(text).map_err(bad)? {
        Value::Bool(true) => json!({}),
        schema @ Value::Object(_) => schema,
        _ => bail!(BadGrammar, "a schema is a JSON object, or `true` for any JSON; nothing matches `false`"),
    };
    // In the place of options that the schema might bring along: those could loosen it.
    let options = JsonCompileOptions {
        whitespace_pattern: Some(WHITE_SPACE.to_owned()),
        json_allow_general_unicode_escapes: true,
        ..JsonCompileOptions::default()
    };
    options.apply_to(&mut schema);
    Ok(TopLevelGrammar::from_json_schema(schema))
}
