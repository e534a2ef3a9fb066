//! Tools that an answer may call.

use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::fields::{At, Fields, Result};
use crate::grammar::GrammarSource;
use crate::text::ToolSpec;

/// A tool.
pub(super) struct Tool {
    pub spec: ToolSpec,
    /// Where the request has it.
    pub path: String,
    /// Its arguments follow its schema.
    strict: bool,
}

impl Tool {
    /// A grammar of what a schema of its parameters describes: all that it says where it is strict.
    pub(super) fn source(&self, schema: &Value) -> GrammarSource {
        let text = schema.to_string();
        if self.strict { GrammarSource::JsonSchema(text) } else { GrammarSource::JsonLike(text) }
    }
}

/// The tools of a request.
#[derive(Default)]
pub(super) struct Tools {
    /// All of them; none where none shall be called.
    tools: Vec<Tool>,
    /// Those that may be called, where not all.
    only: Option<Vec<String>>,
    /// As chat templates take them; none where the model does not hear of them.
    pub list: Option<Value>,
    /// At most one call.
    pub single: bool,
    /// At least one call.
    pub required: bool,
}

impl Tools {
    /// What is read as a call of one.
    pub(super) fn specs(&self) -> Vec<ToolSpec> {
        self.tools.iter().map(|tool| tool.spec.clone()).collect()
    }

    pub(super) fn callable(&self) -> impl Iterator<Item = &Tool> {
        let may = |tool: &&Tool| self.only.as_ref().is_none_or(|names| names.contains(&tool.spec.name));
        self.tools.iter().filter(may)
    }

    /// Whether a grammar says what a call is.
    pub(super) fn is_enforced(&self) -> bool {
        self.required || self.only.is_some() || self.callable().any(|tool| tool.strict)
    }
}

/// What `tool_choice` says.
#[derive(Default)]
struct Choice {
    none: bool,
    required: bool,
    /// One call of one tool.
    named: bool,
    only: Option<Vec<String>>,
}

const MODES: [&str; 3] = ["none", "auto", "required"];

fn choice(at: &At<'_>) -> Result<Choice> {
    if !at.value.is_object() {
        let mode = at.one_of(&MODES)?;
        return Ok(Choice { none: mode == "none", required: mode == "required", ..Choice::default() });
    }
    // In chat completions what is meant is in an object of its own.
    let mut f = at.object()?;
    match f.need("type")?.one_of(&["function", "allowed_tools"])? {
        "function" => {
            let mut function = f.get("function", At::object)?.unwrap_or(f);
            let name = function.need("name")?.string()?.to_owned();
            Ok(Choice { required: true, named: true, only: Some(vec![name]), ..Choice::default() })
        }
        _ => {
            let mut allowed = f.get("allowed_tools", At::object)?.unwrap_or(f);
            let required = allowed.need("mode")?.one_of(&["auto", "required"])? == "required";
            let name = |at: &At<'_>| {
                let mut f = at.object()?;
                let mut function = f.get("function", At::object)?.unwrap_or(f);
                Ok(function.need("name")?.string()?.to_owned())
            };
            let names = allowed.need("tools")?.list("tools")?.iter().map(name).collect::<Result<_>>()?;
            Ok(Choice { required, only: Some(names), ..Choice::default() })
        }
    }
}

/// Reads `tools`, `tool_choice` and `parallel_tool_calls`. The shapes of chat completions and of responses differ: in the
/// latter, a tool is flat.
pub(super) fn read(f: &mut Fields<'_>) -> Result<Tools> {
    let single = f.get("parallel_tool_calls", At::boolean)? == Some(false);
    let given = f.take("tools");
    let at = f.take("tool_choice");
    let Choice { none, required, named, only } = at.as_ref().map(choice).transpose()?.unwrap_or_default();
    let none_of = Tools { single, ..Tools::default() };
    let mut list = Vec::new();
    let mut tools = Vec::new();
    if let Some(given) = given {
        let place = |e: crate::Error| ApiError::invalid(e.place(), e.detail());
        let specs = ToolSpec::list(given.value).map_err(place)?;
        for (at, spec) in given.list("tools")?.iter().zip(specs) {
            let (tool, path, strict) = nested(at)?;
            list.push(tool);
            tools.push(Tool { spec, path, strict });
        }
    }
    if let (true, Some(at)) = (tools.is_empty() && (required || only.is_some()), &at) {
        return Err(at.refuse("needs `tools`, of which one is called"));
    }
    let unknown = only.iter().flatten().find(|name| !tools.iter().any(|tool| tool.spec.name == **name));
    if let (Some(name), Some(at)) = (unknown, &at) {
        return Err(at.refuse(format_args!("names the tool {name:?}, which is not in `tools`")));
    }
    if none || list.is_empty() {
        return Ok(none_of);
    }
    Ok(Tools { tools, only, list: Some(list.into()), single: single || named, required })
}

/// A tool as chat completions have it, where the request describes it, and whether that is enforced.
fn nested(at: &At<'_>) -> Result<(Value, String, bool)> {
    let mut tool = at.object()?;
    tool.take("type");
    let (path, mut f) = match tool.take("function") {
        Some(function) => (function.path.clone(), function.object()?),
        None => (at.path.clone(), at.object()?),
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
    let strict = f.get("strict", At::boolean)?.unwrap_or(false);
    Ok((json!({ "type": "function", "function": function }), path, strict))
}
