//! Messages of a conversation, as they are sent.

use serde_json::{Map, Value};

use super::fields::{At, Fields, Result, is_empty_list};
use super::pictures::Pictures;

const TEXT_ONLY: &str = "is not supported: models read text and images only";

/// Reads `messages`: what a template may want of them. The template decides on their content.
pub(super) fn read(at: &At<'_>, pictures: &mut Pictures, warnings: &mut Vec<String>) -> Result<Vec<Value>> {
    let list = at.list("messages")?;
    if list.is_empty() {
        return Err(at.refuse("is empty; there must be at least one message"));
    }
    list.iter().map(|message| one(message, pictures, warnings)).collect()
}

fn one(at: &At<'_>, pictures: &mut Pictures, warnings: &mut Vec<String>) -> Result<Value> {
    let mut f = at.object()?;
    let mut message = Map::new();
    for name in ["role", "content", "tool_calls"] {
        if let Some(field) = f.take(name) {
            let value = if name == "content" { pictures.content(&field, warnings)? } else { field.value.clone() };
            message.insert(name.to_string(), value);
        }
    }
    // Null is an empty text.
    if at.value["content"].is_null() && at.value.get("content").is_some() {
        message.insert("content".to_string(), "".into());
    }
    for name in ["name", "tool_call_id", "reasoning_content", "reasoning"] {
        if let Some(text) = f.get(name, At::string)? {
            message.insert(name.to_string(), text.into());
        }
    }
    empty_fields(&mut f)?;
    f.rest(warnings);
    Ok(message.into())
}

/// Fields that an answer of OpenAI's API has and that are empty here: it can be sent back unchanged.
fn empty_fields(f: &mut Fields<'_>) -> Result<()> {
    f.only("function_call", |_| false, "is not supported; send `tool_calls`")?;
    f.only("annotations", is_empty_list, TEXT_ONLY)?;
    f.only("refusal", |_| false, TEXT_ONLY)?;
    f.only("audio", |_| false, TEXT_ONLY)
}
