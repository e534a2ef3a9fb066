//! Items of a conversation, as `/v1/responses` has them, as messages of a chat.

use serde_json::{Value, json};

use super::fields::{At, Result};
use super::pictures::Pictures;

/// Reads `input`: a text of the user, or items.
pub(super) fn read(at: &At<'_>, pictures: &mut Pictures, warnings: &mut Vec<String>) -> Result<Vec<Value>> {
    if let Some(text) = at.value.as_str() {
        return Ok(vec![json!({ "role": "user", "content": text })]);
    }
    if !at.value.is_array() {
        return Err(at.must("a string or a list of items"));
    }
    let items = at.list("items")?;
    if items.is_empty() {
        return Err(at.refuse("is empty; there must be at least one item"));
    }
    let mut all = Vec::with_capacity(items.len());
    for item in &items {
        one(item, &mut all, pictures, warnings)?;
    }
    Ok(all)
}

fn one(at: &At<'_>, all: &mut Vec<Value>, pictures: &mut Pictures, warnings: &mut Vec<String>) -> Result<()> {
    let mut f = at.object()?;
    // Those that an item of an answer has.
    f.get("id", |v| v.string().map(|_| ()))?;
    f.get("status", |v| v.string().map(|_| ()))?;
    let kinds = ["message", "reasoning", "function_call", "function_call_output"];
    match f.get("type", |v| v.one_of(&kinds))?.unwrap_or("message") {
        // Templates leave the reasoning of earlier turns out.
        "reasoning" => return Ok(()),
        "function_call" => {
            let id = f.need("call_id")?.string()?;
            let function = json!({ "name": f.need("name")?.string()?, "arguments": f.need("arguments")?.string()? });
            let call = json!({ "id": id, "type": "function", "function": function });
            // The calls of a turn are those of one message, with the text before them.
            if all.last().is_none_or(|last| last["role"] != "assistant") {
                all.push(json!({ "role": "assistant", "content": "" }));
            }
            if let Some(last) = all.last_mut() {
                match &mut last["tool_calls"] {
                    Value::Array(calls) => calls.push(call),
                    none => *none = json!([call]),
                }
            }
        }
        "function_call_output" => {
            let id = f.need("call_id")?.string()?;
            let content = content(&f.need("output")?, pictures, warnings)?;
            all.push(json!({ "role": "tool", "tool_call_id": id, "content": content }));
        }
        _ => {
            let role = f.need("role")?.one_of(&["system", "developer", "user", "assistant"])?;
            let content = content(&f.need("content")?, pictures, warnings)?;
            all.push(json!({ "role": role, "content": content }));
        }
    }
    f.rest(warnings);
    Ok(())
}

/// A string, or a list of parts, each of which is a text or an image.
fn content(at: &At<'_>, pictures: &mut Pictures, warnings: &mut Vec<String>) -> Result<Value> {
    if at.value.is_string() {
        return Ok(at.value.clone());
    }
    if !at.value.is_array() {
        return Err(at.must("a string or a list of parts"));
    }
    let part = |part: &At<'_>| {
        let mut f = part.object()?;
        match f.need("type")?.one_of(&["input_text", "output_text", "input_image"])? {
            "input_image" => pictures.add(part, warnings),
            _ => Ok(json!({ "type": "text", "text": f.need("text")?.string()? })),
        }
    };
    at.list("parts")?.iter().map(part).collect()
}
