//! From `response_format` and `grammar` to a grammar.

use super::fields::{Fields, Result};
use crate::grammar::GrammarSource;

/// Reads what an answer must be: its format, under `name`, or a grammar, which OpenAI's API does not have.
pub(super) fn read(format: Option<GrammarSource>, f: &mut Fields<'_>) -> Result<Option<GrammarSource>> {
    let kind = f.take("grammar_type");
    let Some(at) = f.take("grammar") else {
        return match kind {
            Some(kind) => Err(kind.refuse("can only be given with `grammar`")),
            None => Ok(format),
        };
    };
    if format.is_some() {
        return Err(at.refuse("cannot be given with a format of the answer; leave one of them out"));
    }
    let text = at.string()?.to_owned();
    // Lark's notation can say a text without an end, so it is not for requests of strangers.
    let kind = kind.map_or(Ok("gbnf"), |kind| kind.one_of(&["gbnf", "regex", "json_schema"]))?;
    Ok(Some(match kind {
        "gbnf" => GrammarSource::Gbnf(text),
        "regex" => GrammarSource::Regex(text),
        _ => GrammarSource::JsonSchema(text),
    }))
}

/// Reads a format of the answer. In chat completions a schema is an object inside of it; in responses it is flat.
pub(super) fn format(f: &mut Fields<'_>, name: &'static str) -> Result<Option<GrammarSource>> {
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
    Ok(Some(grammar))
}
