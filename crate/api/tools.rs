//! Tools that an answer may call.

use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::fields::{At, Fields, Result};
use crate::text::ToolSpec;

/// The tools of a request.
#[derive(Default)]
pub(super) struct Tools {
    /// What is read as a call of one.
    pub specs: Vec<ToolSpec>,
    /// As chat templates take them; none where the model does not hear of them.
    pub list: Option<Value>,
    /// At most one call.
    pub single: bool,
}

/// Reads `tools`, `tool_choice` and `parallel_tool_calls`. The shapes of chat completions and of responses differ: in the
/// latter, a tool is flat.
pub(super) fn read(f: &mut Fields<'_>, warnings: &mut Vec<String>) -> Result<Tools> {
    let single = f.get("parallel_tool_calls", At::boolean)? == Some(false);
    let given = f.take("tools");
    let choice = f.take("tool_choice");
    let wanted = match &choice {
        Some(at) if at.value == "required" || at.value.is_object() => {
            return Err(at.refuse("must be \"none\" or \"auto\": a call cannot be forced yet"));
        }
        Some(at) => at.one_of(&["none", "auto"])? == "auto",
        None => true,
    };
    let Some(given) = given else { return Ok(Tools { single, ..Tools::default() }) };
    let place = |e: crate::Error| ApiError::invalid(e.place(), e.detail());
    let specs = ToolSpec::list(given.value).map_err(place)?;
    let list = given.list("tools")?.iter().map(|tool| nested(tool, warnings)).collect::<Result<Vec<_>>>()?;
    if !wanted || list.is_empty() {
        return Ok(Tools { single, ..Tools::default() });
    }
    Ok(Tools { specs, list: Some(list.into()), single })
}

/// A tool as chat completions have it.
fn nested(at: &At<'_>, warnings: &mut Vec<String>) -> Result<Value> {
    let mut tool = at.object()?;
    tool.take("type");
    let mut f = match tool.take("function") {
        Some(function) => function.object()?,
        None => at.object()?,
    };
    let mut function = Map::new();
    for name in ["name", "description"] {
        if let Some(text) = f.get(name, At::string)? {
            function.insert(name.to_string(), text.into());
        }
    }
    if let Some(parameters) = f.take("parameters") {
        function.insert("parameters".to_string(), parameters.value.clone());
    }
    // Nothing forces arguments to follow their schema.
    if let Some(strict) = f.take("strict").filter(|strict| *strict.value == true) {
        warnings.push(strict.path);
    }
    Ok(json!({ "type": "function", "function": function }))
}
