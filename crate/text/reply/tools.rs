//! The tools of a request, and what their schemas say about a value that comes as plain text.

use serde_json::Value as Json;

use super::quote::json_string;
use super::value::whole;
use crate::error::{Error, ErrorKind, Result};

/// Schemas that are looked at for one parameter: references may lead in a circle.
const MAX_SCHEMAS: usize = 200;

/// A tool that the model may call.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    /// Its name, which can be any text.
    pub name: String,
    /// The JSON schema of its arguments; `null` where it has none.
    pub parameters: Json,
}

impl ToolSpec {
    /// The tools of a request as OpenAI writes them: `[{"type": "function", "function": {"name": …, "parameters": …}}]`,
    /// or without the outer object.
    pub fn list(tools: &Json) -> Result<Vec<ToolSpec>> {
        let fail = |place: String, detail: &str| Error::new(ErrorKind::InvalidArgument, detail).at(place);
        let list = match tools {
            Json::Null => return Ok(Vec::new()),
            Json::Array(list) => list,
            _ => return Err(fail("tools".into(), "must be a list of tools")),
        };
        let one = |(i, tool): (usize, &Json)| {
            let (place, function) = match tool.get("function") {
                Some(function) => (format!("tools[{i}].function"), function),
                None => (format!("tools[{i}]"), tool),
            };
            let kind = tool.get("type").unwrap_or(&Json::Null);
            if !kind.is_null() && kind != "function" {
                return Err(fail(format!("tools[{i}].type"), "only tools of the type \"function\" can be called"));
            }
            let name = function.get("name").and_then(Json::as_str).filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| fail(format!("{place}.name"), "must be the name of the tool, a string"))?;
            let parameters = function.get("parameters").cloned().unwrap_or_default();
            if !parameters.is_object() && !parameters.is_null() {
                return Err(fail(format!("{place}.parameters"), "must be a JSON schema, an object"));
            }
            Ok(ToolSpec { name: name.to_owned(), parameters })
        };
        list.iter().enumerate().map(one).collect()
    }

    /// Whether a parameter in tags is text that is taken as it stands.
    pub(crate) fn takes_text(&self, parameter: &str) -> bool {
        self.kinds(parameter).is_text()
    }

    /// The names of its parameters, in their order.
    pub(super) fn names(&self) -> Vec<String> {
        let properties = self.parameters.get("properties").and_then(Json::as_object);
        properties.map_or_else(Vec::new, |map| map.keys().cloned().collect())
    }

    /// What a parameter can be. One that the schema does not know is text.
    pub(super) fn kinds(&self, parameter: &str) -> Kinds {
        let mut kinds = Kinds::default();
        let schema = self.parameters.get("properties").and_then(|map| map.get(parameter));
        match schema {
            Some(schema) => kinds.add(schema, &self.parameters, &mut MAX_SCHEMAS.clone()),
            None => kinds = Kinds::text(),
        }
        kinds
    }
}

/// What a value can be by its schema.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Kinds {
    /// A string and nothing else, so that it is taken as it stands.
    is_text: bool,
    string: bool,
    number: bool,
    boolean: bool,
    null: bool,
    array: bool,
    object: bool,
    /// The strings of `enum` and `const`.
    constants: Vec<String>,
}

impl Kinds {
    pub(super) fn text() -> Self {
        Self { is_text: true, string: true, ..Self::default() }
    }

    pub(super) fn is_text(&self) -> bool {
        self.is_text
    }

    fn any(&mut self) {
        let constants = std::mem::take(&mut self.constants);
        let all = Self { string: true, number: true, boolean: true, null: true, ..Self::default() };
        *self = Self { array: true, object: true, constants, ..all };
    }

    fn add(&mut self, schema: &Json, root: &Json, left: &mut usize) {
        let is_whole = *left == MAX_SCHEMAS;
        if *left == 0 {
            return self.any();
        }
        *left -= 1;
        let types: Vec<&str> = match schema.get("type") {
            Some(Json::String(one)) => vec![one],
            Some(Json::Array(several)) => several.iter().filter_map(Json::as_str).collect(),
            _ => vec![],
        };
        let values = schema.get("enum").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
        let values: Vec<&Json> = values.iter().chain(schema.get("const")).collect();
        let choices = ["anyOf", "oneOf", "allOf"].into_iter().filter_map(|key| schema.get(key)?.as_array()).flatten();
        let target = schema.get("$ref").and_then(Json::as_str).and_then(|path| root.pointer(path.strip_prefix('#')?));
        let choices: Vec<&Json> = choices.chain(target).collect();
        self.is_text = is_whole && types == ["string"] && values.is_empty() && choices.is_empty();
        for kind in &types {
            self.allow(kind);
        }
        for value in &values {
            match value {
                Json::String(text) => self.constants.push(text.clone()),
                Json::Number(_) => self.number = true,
                Json::Bool(_) => self.boolean = true,
                Json::Null => self.null = true,
                Json::Array(_) => self.array = true,
                Json::Object(_) => self.object = true,
            }
        }
        self.string |= !self.constants.is_empty();
        for choice in &choices {
            self.add(choice, root, left);
        }
        if types.is_empty() && values.is_empty() && choices.is_empty() {
            match schema.get("properties").is_some() {
                true => self.object = true,
                false => self.any(),
            }
        }
    }

    fn allow(&mut self, kind: &str) {
        match kind {
            "string" => self.string = true,
            "number" | "integer" => self.number = true,
            "boolean" => self.boolean = true,
            "null" => self.null = true,
            "array" => self.array = true,
            "object" => self.object = true,
            _ => self.any(),
        }
    }

    /// The JSON of a value that was written as text. What is nothing of what it can be stays a string.
    pub(super) fn json(&self, text: &str) -> String {
        let constant = |text: &str| self.constants.iter().any(|c| c == text);
        if self.is_text || constant(text) {
            return json_string(text);
        }
        if constant(text.trim()) {
            return json_string(text.trim());
        }
        let trimmed = text.trim();
        // Words that are no constants would come back as strings, without what is around them.
        let quoted = trimmed.starts_with(['"', '\'']);
        let value = whole(trimmed, false).filter(|json| quoted || !json.starts_with('"'));
        let fits = value.as_ref().is_some_and(|json| match json.as_bytes()[0] {
            b'"' => trimmed.starts_with('"') || serde_json::from_str(json).is_ok_and(|text: String| constant(&text)),
            b'{' => self.object,
            b'[' => self.array,
            b't' | b'f' => self.boolean,
            b'n' => self.null,
            _ => self.number,
        });
        match value {
            Some(value) if fits || !self.string => value,
            _ => json_string(text),
        }
    }
}

/// The tools of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Tools(pub(super) Vec<ToolSpec>);

impl Tools {
    /// The tool that a model means by a name: some put a name space before it, as in `functions.get_time`.
    pub(super) fn find(&self, name: &str) -> Option<&ToolSpec> {
        let exact = |name: &str| self.0.iter().find(|tool| tool.name == name);
        exact(name).or_else(|| {
            let (space, rest) = name.split_once(['.', ':'])?;
            ["functions", "function", "tools", "tool", "default_api", "api"].contains(&space).then(|| exact(rest))?
        })
    }

    /// What a parameter of a tool can be.
    pub(super) fn kinds(&self, name: &str, parameter: &str) -> Kinds {
        self.find(name).map_or_else(Kinds::text, |tool| tool.kinds(parameter))
    }
}
