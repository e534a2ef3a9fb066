//! From `response_format` to a grammar. Grammars have their place here.

use super::fields::{At, Result};

/// Reads a format of the answer, in the shape of chat completions or of responses.
pub(super) fn format(at: &At<'_>) -> Result<()> {
    let mut fields = at.object()?;
    let kind = fields.need("type")?;
    match kind.one_of(&["text", "json_object", "json_schema"])? {
        "text" => Ok(()),
        _ => Err(kind.refuse("must be \"text\": structured output is not supported yet")),
    }
}
