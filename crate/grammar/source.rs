//! A grammar as it is given.

use llguidance::api::TopLevelGrammar;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{repeats, schema};
use crate::bail;
use crate::error::Result;

/// The longest text of a grammar. What it compiles to is some hundred times as large.
const MAX_BYTES: usize = 1 << 20;

/// What an answer must be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum GrammarSource {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema allows: its text, or in JSON the schema itself. Draft 2020-12 unless `$schema` names another. A
    /// keyword of JSON Schema that is not supported is refused, not ignored.
    #[serde(deserialize_with = "text_of")]
    JsonSchema(String),
    /// Text that a regular expression matches from its start to its end.
    Regex(String),
    /// Text that a grammar in Lark's notation derives from its rule `start`.
    Lark(String),
}

/// A string, or any other JSON value as text.
fn text_of<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(d)? {
        Value::String(text) => text,
        value => value.to_string(),
    })
}

impl GrammarSource {
    /// What error messages call it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::JsonObject | Self::JsonSchema(_) => "the JSON schema",
            Self::Regex(_) => "the regular expression",
            Self::Lark(_) => "the grammar",
        }
    }

    pub(super) fn parse(&self) -> Result<TopLevelGrammar> {
        let (Self::JsonSchema(text) | Self::Regex(text) | Self::Lark(text)) = self else {
            return schema::parse(r#"{"type":"object"}"#);
        };
        if text.len() > MAX_BYTES {
            bail!(BadGrammar, "it has {} bytes, at most {MAX_BYTES} are allowed; make it shorter", text.len());
        }
        match self {
            Self::JsonSchema(text) => schema::parse(text),
            Self::Regex(text) => repeats::check(text).map(|()| TopLevelGrammar::from_regex(text)),
            _ => repeats::check(text).map(|()| TopLevelGrammar::from_lark(text.clone())),
        }
    }
}
