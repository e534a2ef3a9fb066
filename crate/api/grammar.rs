//! From `response_format` to a grammar.

use super::fields::{At, Fields, Result};
use super::model::Api;
use super::reply::Parts;
use crate::grammar::GrammarSource;

/// What an answer must be.
pub(super) struct Format<'a> {
    pub grammar: GrammarSource,
    /// Where the request says so.
    pub at: At<'a>,
}

impl Format<'_> {
    /// The grammar of an answer to this prompt, whose first token it says already.
    pub(super) fn after(self, prompt: &[u32], api: &Api) -> Result<GrammarSource> {
        if Parts::start_inside(prompt, api) {
            let detail =
                "cannot be met while the model thinks first: turn that off, such as by `reasoning_effort`: \"none\"";
            return Err(self.at.refuse(detail));
        }
        Ok(self.grammar)
    }
}

/// Reads a format of the answer. In chat completions a schema is an object inside of it; in responses it is flat.
pub(super) fn format<'a>(f: &mut Fields<'a>, name: &'static str) -> Result<Option<Format<'a>>> {
    let Some(at) = f.take(name) else { return Ok(None) };
    let mut format = at.object()?;
    let grammar = match format.need("type")?.one_of(&["text", "json_object", "json_schema"])? {
        "text" => return Ok(None),
        "json_object" => GrammarSource::JsonObject,
        _ => {
            let mut inner = match format.take("json_schema") {
                Some(inner) => inner.object()?,
                None => format,
            };
            let schema = inner.need("schema")?;
            schema.object()?;
            GrammarSource::JsonSchema(schema.value.to_string())
        }
    };
    Ok(Some(Format { grammar, at }))
}
