//! Grammars of calls, in the format in which the model writes them.

use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::fields::Result;
use super::tools::Tool;
use crate::grammar::{Free, Lark};
use crate::text::{CallShape, CallStyle};

/// Calls of one answer: a model that only ever calls ends.
pub(super) const MOST_CALLS: usize = 16;

/// The longest name that is read in an answer.
const MOST_NAME: usize = 256;

/// What ends a parameter in tags, and what would end it early.
const END: &str = "\n</parameter>\n";
const INSIDE: [&str; 4] = ["</parameter>", "\n</function>", "\n</tool_call>", "\n<parameter="];

/// Calls, as a grammar.
pub(super) struct Calls {
    /// What they start with; empty where nothing is always there.
    pub marker: &'static str,
    /// All after that.
    pub rest: String,
}

/// Calls of these tools: one or several, or at most one.
pub(super) fn calls(lark: &mut Lark<'_>, style: CallStyle, tools: &[&Tool], single: bool) -> Result<Calls> {
    let mut options = Vec::with_capacity(tools.len());
    for tool in tools {
        options.push(call(lark, style, tool)?);
    }
    let call = lark.rule(&options.join(" | "));
    let marker = match style.shape {
        CallShape::Tags if style.marker.is_empty() => "<function=",
        _ => style.marker,
    };
    let (open, between) = (Lark::literal(style.open), Lark::literal(style.between));
    let close = format!("{} {}", Lark::literal(style.close.0), lark.marker(style.close.1));
    let more = |again: &str| if single { String::new() } else { format!("({between} {again})~0..{}", MOST_CALLS - 1) };
    let rest = match style.shared {
        true => format!("{open} {call} {} {close}", more(&call)),
        false => {
            let one = lark.rule(&format!("{open} {call} {close}"));
            let marked = format!("{} {one}", lark.marker(marker));
            format!("{one} {}", more(&marked))
        }
    };
    Ok(Calls { marker, rest: lark.rule(&rest) })
}

/// One call, without the marker before it.
fn call(lark: &mut Lark<'_>, style: CallStyle, tool: &Tool) -> Result<String> {
    let name = &tool.spec.name;
    let apart = |c: char| c.is_whitespace() || "()[]{},<>\"'".contains(c);
    let is_word = !matches!(style.shape, CallShape::Json(_));
    if name.len() > MOST_NAME || (is_word && (name.contains(apart) || name.starts_with("call:"))) {
        let detail = format!("{name:?} cannot be written as the model writes calls: take letters, digits, _ and -");
        return Err(ApiError::invalid(&format!("{}.name", tool.path), detail));
    }
    let text = |text: String| Lark::literal(&text);
    Ok(match style.shape {
        CallShape::Json(arguments) => {
            let start = text(format!("{{\"name\": {}, \"{arguments}\": ", Value::from(name.as_str())));
            format!("{start} {} \"}}\"", all(lark, tool)?)
        }
        CallShape::Named([before, between, after]) => {
            let [before, between, after] = [before, between, after].map(|marker| lark.marker(marker));
            format!("{before} {} {between} {} {after}", Lark::literal(name), all(lark, tool)?)
        }
        CallShape::Tags => {
            let tag = if style.marker.is_empty() { "" } else { "<function=" };
            let start = text(format!("{tag}{name}>\n"));
            let inside = match each(lark, tool, is_tag_name, in_tags) {
                Some(items) => format!("{} \"</function>\"", lark.row(&items, "")),
                None => format!("{} \"\\n</function>\"", all(lark, tool)?),
            };
            format!("{start} {inside}")
        }
        CallShape::Keys(mark) => match each(lark, tool, is_key, |lark, one| in_keys(lark, one, mark)) {
            Some(items) => format!("{} {} \"}}\"", text(format!("call:{name}{{")), lark.row(&items, ",")),
            None => format!("{} {}", text(format!("call:{name}")), all(lark, tool)?),
        },
        CallShape::Python => {
            let items = each(lark, tool, is_key, |lark, one| {
                let value = one.json(lark);
                Some(format!("{} {value}", Lark::literal(&format!("{}=", one.name))))
            });
            let Some(items) = items else {
                let detail = "cannot be enforced as the model writes calls, in Python: it must be an object with `properties` \
                     whose names are words";
                return Err(ApiError::invalid(&format!("{}.parameters", tool.path), detail));
            };
            format!("{} {} \")\"", text(format!("{name}(")), lark.row(&items, ", "))
        }
    })
}

/// The schema of all arguments: an object, with nothing that it does not name.
fn object(tool: &Tool) -> Result<Map<String, Value>> {
    let mut schema = match &tool.spec.parameters {
        Value::Object(schema) => schema.clone(),
        _ => Map::from_iter([("properties".to_owned(), json!({}))]),
    };
    if schema.get("type").is_some_and(|kind| kind != "object") {
        return Err(ApiError::invalid(&format!("{}.parameters.type", tool.path), "must be \"object\""));
    }
    schema.insert("type".to_owned(), "object".into());
    if schema.contains_key("properties") && !KEYWORDS_OF_MORE.iter().any(|word| schema.contains_key(*word)) {
        schema.insert("additionalProperties".to_owned(), false.into());
    }
    Ok(schema)
}

/// Keywords beside `properties` by which an object may have more of them.
const KEYWORDS_OF_MORE: [&str; 7] =
    ["additionalProperties", "patternProperties", "allOf", "anyOf", "oneOf", "$ref", "unevaluatedProperties"];

/// All arguments, as JSON.
pub(super) fn all(lark: &mut Lark<'_>, tool: &Tool) -> Result<String> {
    let schema = Value::Object(object(tool)?);
    Ok(lark.part(&format!("{}.parameters", tool.path), tool.source(&schema)))
}

/// A parameter that is written for itself.
struct One<'t> {
    tool: &'t Tool,
    name: &'t str,
    schema: &'t Value,
    /// What the schema may refer to.
    shared: Vec<(&'static str, &'t Value)>,
}

/// What an object may have that is written parameter by parameter.
const PLAIN: [&str; 10] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "title",
    "description",
    "$schema",
    "$defs",
    "definitions",
    "strict",
];

/// The parameters one by one, with whether they must be there; none where the schema says more than that, or where the
/// format has no way to write one.
fn each(
    lark: &mut Lark<'_>,
    tool: &Tool,
    is_name: fn(&str) -> bool,
    mut write: impl FnMut(&mut Lark<'_>, &One<'_>) -> Option<String>,
) -> Option<Vec<(String, bool)>> {
    let empty = Map::new();
    let schema = tool.spec.parameters.as_object().unwrap_or(&empty);
    let properties = match schema.get("properties") {
        Some(properties) => properties.as_object()?,
        None if tool.spec.parameters.is_null() => &empty,
        None => return None,
    };
    let required: Vec<&str> = match schema.get("required") {
        Some(list) => list.as_array()?.iter().map(Value::as_str).collect::<Option<_>>()?,
        None => Vec::new(),
    };
    let known = schema.keys().all(|key| PLAIN.contains(&key.as_str()));
    let typed = schema.get("type").is_none_or(|kind| kind == "object");
    let named = required.iter().all(|name| properties.contains_key(*name));
    if !known || !typed || !named || !properties.iter().all(|(name, schema)| is_name(name) && is_alone(schema)) {
        return None;
    }
    let shared: Vec<_> = ["$defs", "definitions"].into_iter().filter_map(|key| Some((key, schema.get(key)?))).collect();
    let items = properties.iter().filter(|(_, schema)| **schema != false).map(|(name, schema)| {
        let one = One { tool, name, schema, shared: shared.clone() };
        Some((write(lark, &one)?, required.contains(&name.as_str())))
    });
    items.collect()
}

/// Whether a schema only refers to shared definitions.
fn is_alone(schema: &Value) -> bool {
    match schema {
        Value::Object(keys) => keys.iter().all(|(key, value)| match (key.as_str(), value) {
            ("$ref", Value::String(to)) => to.starts_with("#/$defs/") || to.starts_with("#/definitions/"),
            ("$id" | "$anchor" | "$defs" | "definitions", _) => false,
            ("const" | "enum" | "default" | "examples", _) => true,
            _ => is_alone(value),
        }),
        Value::Array(list) => list.iter().all(is_alone),
        _ => true,
    }
}

fn is_key(name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$' | '@');
    !name.is_empty() && name.len() <= MOST_NAME && name.chars().all(is_word)
}

fn is_tag_name(name: &str) -> bool {
    let trimmed = name.trim().trim_matches(['"', '\'']);
    !name.is_empty() && name.len() <= MOST_NAME && trimmed == name && !name.contains(['<', '>', '\n'])
}

impl One<'_> {
    /// Its value as JSON.
    fn json(&self, lark: &mut Lark<'_>) -> String {
        let mut schema = match self.schema {
            Value::Object(schema) => schema.clone(),
            _ => Map::new(),
        };
        schema.extend(self.shared.iter().map(|(key, value)| ((*key).to_owned(), (*value).clone())));
        let path = format!("{}.parameters.properties.{}", self.tool.path, self.name);
        lark.part(&path, self.tool.source(&Value::Object(schema)))
    }

    fn has_only(&self, keys: &[&str]) -> bool {
        let plain = ["type", "title", "description", "default", "examples", "deprecated"];
        self.schema.as_object().is_some_and(|s| s.keys().all(|key| plain.iter().chain(keys).any(|k| k == key)))
    }

    /// How long its text may be, as an expression counts it, where it is a text of which nothing more is said.
    fn length(&self) -> Option<String> {
        if self.schema.get("type")? != "string" || !self.has_only(&["minLength", "maxLength"]) {
            return None;
        }
        let count = |key| match self.schema.get(key) {
            None => Some(None),
            Some(n) => n.as_u64().filter(|n| *n <= 10_000).map(Some),
        };
        Some(match (count("minLength")?, count("maxLength")?) {
            (None | Some(0), None) => "*".to_owned(),
            (least, Some(most)) if least.unwrap_or(0) <= most => format!("{{{},{most}}}", least.unwrap_or(0)),
            (Some(least), None) => format!("{{{least},}}"),
            _ => return None,
        })
    }

    /// The texts that it can be, where it is one of some, none of which holds what would end it.
    fn options(&self, ends: &[&str]) -> Option<Vec<&str>> {
        if self.schema.get("type").is_some_and(|kind| kind != "string") || !self.has_only(&["enum", "const"]) {
            return None;
        }
        let list: Vec<&Value> = match (self.schema.get("const"), self.schema.get("enum")) {
            (Some(one), None) => vec![one],
            (None, Some(list)) => list.as_array()?.iter().collect(),
            _ => return None,
        };
        let plain = |text: &&str| {
            let trimmed = text.trim();
            !text.is_empty() && trimmed == *text && !text.contains('\n') && !ends.iter().any(|end| text.contains(end))
        };
        let texts: Option<Vec<_>> = list.into_iter().map(|value| value.as_str().filter(plain)).collect();
        texts.filter(|texts| !texts.is_empty())
    }
}

/// A text of which more is said than its length cannot be written as it stands.
fn in_tags(lark: &mut Lark<'_>, one: &One<'_>) -> Option<String> {
    let value = match (one.length(), one.options(&INSIDE)) {
        (Some(length), _) => lark.until(END, Free { without: &INSIDE, length: &length, ..Free::ANY }),
        (_, Some(options)) => lark.one_of(&options, END),
        _ if one.tool.spec.takes_text(one.name) => return None,
        _ => format!("{} {}", one.json(lark), Lark::literal(END)),
    };
    Some(format!("{} {value}", Lark::literal(&format!("<parameter={}>\n", one.name))))
}

fn in_keys(lark: &mut Lark<'_>, one: &One<'_>, mark: &str) -> Option<String> {
    let value = match (one.length(), one.options(&[mark])) {
        (Some(length), _) => {
            format!("{} {}", lark.marker(mark), lark.until(mark, Free { length: &length, ..Free::ANY }))
        }
        (_, Some(options)) => format!("{} {} {}", lark.marker(mark), lark.one_of(&options, ""), lark.marker(mark)),
        _ => one.json(lark),
    };
    Some(format!("{} {value}", Lark::literal(&format!("{}:", one.name))))
}
