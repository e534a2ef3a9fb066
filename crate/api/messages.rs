//! Messages of a conversation, as they are sent.

use serde_json::{Map, Value};

use super::fields::{At, Fields, Result, is_empty_list};

const TEXT_ONLY: &str = "is not supported: models read text only";

/// Reads `messages`: what a template may want of them. The template decides on their content.
pub(super) fn read(at: &At<'_>, warnings: &mut Vec<String>) -> Result<Vec<Value>> {
    let list = at.list("messages")?;
    if list.is_empty() {
        return Err(at.refuse("is empty; there must be at least one message"));
    }
    list.iter().map(|message| one(message, warnings)).collect()
}

fn one(at: &At<'_>, warnings: &mut Vec<String>) -> Result<Value> {
    let mut f = at.object()?;
    let mut message = Map::new();
    for name in ["role", "content", "tool_calls"] {
        if let Some(field) = f.take(name) {
            message.insert(name.to_string(), field.value.clone());
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

/// A string, or the texts of a list of parts of these types.
pub(super) fn text(at: &At<'_>, types: &[&str]) -> Result<String> {
    if let Value::String(text) = at.value {
        return Ok(text.clone());
    }
    if !at.value.is_array() {
        return Err(at.must("a string or a list of parts"));
    }
    let mut all = String::new();
    for part in at.list("parts")? {
        let mut f = part.object()?;
        f.need("type")?.one_of(types)?;
        all.push_str(f.need("text")?.string()?);
    }
    Ok(all)
}
