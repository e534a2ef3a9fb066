//! A grammar as it is given.

use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{depth, gbnf, repeats, schema};
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
    /// JSON as a schema describes it, as far as its keywords are supported: others are ignored.
    #[serde(deserialize_with = "text_of")]
    JsonLike(String),
    /// Text that a regular expression matches from its start to its end.
    Regex(String),
    /// Text that a grammar in Lark's notation derives from its rule `start`.
    Lark(String),
    /// Text that a grammar in the notation of llama.cpp derives from its rule `root`.
    Gbnf(String),
    /// Text that a grammar in Lark's notation derives in which `@part0`, `@part1` and so on stand for others.
    Parts(Box<Parts>),
}

/// A grammar that is made of others.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Parts {
    /// In Lark's notation.
    pub start: String,
    /// What messages call each part, and the part. None is made of parts.
    pub parts: Vec<(String, GrammarSource)>,
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
    pub(super) fn name(&self) -> &str {
        match self {
            Self::JsonObject | Self::JsonSchema(_) | Self::JsonLike(_) => "the JSON schema",
            Self::Regex(_) => "the regular expression",
            Self::Lark(_) | Self::Gbnf(_) | Self::Parts(_) => "the grammar",
        }
    }

    /// The grammars that this one is made of, with what messages call them.
    pub(super) fn parts(&self) -> &[(String, GrammarSource)] {
        match self {
            Self::Parts(made) => &made.parts,
            _ => &[],
        }
    }

    pub(super) fn parse(&self) -> Result<TopLevelGrammar> {
        let any = r#"{"type":"object"}"#.to_owned();
        let text = match self {
            Self::JsonObject => &any,
            Self::JsonSchema(text) | Self::JsonLike(text) | Self::Regex(text) | Self::Lark(text) | Self::Gbnf(text) => {
                text
            }
            Self::Parts(made) => &made.start,
        };
        if text.len() > MAX_BYTES {
            bail!(BadGrammar, "it has {} bytes, at most {MAX_BYTES} are allowed; make it shorter", text.len());
        }
        match self {
            Self::JsonObject | Self::JsonSchema(_) => schema::parse(text, false),
            Self::JsonLike(_) => schema::parse(text, true),
            Self::Regex(_) => repeats::check(text).map(|()| TopLevelGrammar::from_regex(text)),
            Self::Lark(_) => repeats::check(text).and_then(|()| lark(text.clone())),
            Self::Gbnf(_) => gbnf::to_lark(text).and_then(lark),
            Self::Parts(made) => made.parse(),
        }
    }
}

fn lark(text: String) -> Result<TopLevelGrammar> {
    depth::check(&text).map(|()| TopLevelGrammar::from_lark(text))
}

impl Parts {
    fn parse(&self) -> Result<TopLevelGrammar> {
        let mut whole = lark(self.start.clone())?;
        for (i, (name, part)) in self.parts.iter().enumerate() {
            if let GrammarSource::Parts(_) = part {
                bail!(BadGrammar, "{name} is made of parts itself; only a whole grammar is");
            }
            let grammars = part.parse()?.grammars;
            let named = |grammar| GrammarWithLexer { name: Some(format!("part{i}")), ..grammar };
            whole.grammars.extend(grammars.into_iter().map(named));
        }
        Ok(whole)
    }
}
