//! Messages of a request in the shape that chat templates read.

use minijinja::value::ValueKind;

use super::reply::repaired;
use super::template::{ChatTemplate, DateTime, MessageShape, RenderOptions, TemplateValue, parse_json};
use crate::error::{Error, ErrorKind, Result};

/// The fields of a message, in their order.
struct Fields(Vec<(String, TemplateValue)>);

/// A call of a tool: its id, and the name of the tool.
type Call = (String, String);

/// Brings the messages of a request, as OpenAI's API has them, into the shape that a template reads:
///
/// * text content in one string, or in parts where the template wants these or there are images; none is `""` beside calls
///   of tools;
/// * arguments of calls as objects, though they come as JSON text; what breaks off in them is completed;
/// * the role `developer` as `system`, where the template does not know it; `reasoning` as `reasoning_content`;
/// * results of tools in the order of their calls, with the `name` of the tool.
///
/// Other fields stay. What has another shape is an error with its path, such as `messages[2].content`.
pub fn chat_messages(template: &ChatTemplate, messages: &TemplateValue) -> Result<TemplateValue> {
    let shape = template.shape(|| probe(template));
    let mut out: Vec<Fields> = Vec::new();
    let mut calls: Vec<Call> = Vec::new();
    // Results since the last other message, with the place of their call.
    let mut results: Vec<(usize, Fields)> = Vec::new();
    let list = items(messages).ok_or_else(|| fail("messages", "must be a list of messages"))?;
    for (i, message) in list.iter().enumerate() {
        let place = format!("messages[{i}]");
        let mut fields =
            Fields::of(message).ok_or_else(|| fail(&place, "must be an object with a role and content"))?;
        let role = fields.role(template, &place)?;
        if role != "tool" {
            out.extend(ordered(&mut results));
        }
        fields.content(shape, &role, &place)?;
        match role.as_str() {
            "assistant" => {
                calls = fields.calls(shape, &place)?;
                let reasoning = fields.get("reasoning");
                if fields.get("reasoning_content").is_undefined() && reasoning.as_str().is_some() {
                    fields.set("reasoning_content", reasoning);
                }
            }
            "tool" => {
                let id = fields.get("tool_call_id");
                let call = calls.iter().position(|(known, _)| Some(known.as_str()) == id.as_str());
                if let Some(call) = call
                    && fields.get("name").as_str().is_none()
                {
                    fields.set("name", TemplateValue::from(calls[call].1.as_str()));
                }
                results.push((call.unwrap_or(usize::MAX), fields));
                continue;
            }
            _ => {}
        }
        out.push(fields);
    }
    out.extend(ordered(&mut results));
    Ok(out.into_iter().map(Fields::value).collect())
}

/// What fails to render tells nothing: then the messages are as most templates have them.
fn probe(template: &ChatTemplate) -> MessageShape {
    let shows = |json: &str, seen: &str| {
        let messages = parse_json(json).unwrap_or(TemplateValue::UNDEFINED);
        let now = Some(DateTime { year: 2026, month: 1, day: 1, hour: 0, minute: 0, second: 0 });
        let text = template.render(&messages, &RenderOptions { now, ..RenderOptions::default() });
        text.is_ok_and(|text| text.contains(seen) && !text.contains("'argument'"))
    };
    let content = |content: &str| shows(&format!(r#"[{{"role": "user", "content": {content}}}]"#), "a test");
    let arguments = |arguments: &str| {
        let function = format!(r#"{{"name": "tool", "arguments": {arguments}}}"#);
        let call = format!(r#"{{"id": "call00000", "type": "function", "function": {function}}}"#);
        let user = r#"{"role": "user", "content": "a test"}"#;
        let message = format!(r#"{{"role": "assistant", "content": "", "tool_calls": [{call}]}}"#);
        shows(&format!("[{user}, {message}]"), "a value")
    };
    MessageShape {
        wants_parts: !content(r#""a test""#) && content(r#"[{"type": "text", "text": "a test"}]"#),
        wants_argument_text: !arguments(r#"{"argument": "a value"}"#) && arguments(r#""{\"argument\": \"a value\"}""#),
    }
}

/// Results by the order of their calls. Those of no known call stay behind them.
fn ordered(results: &mut Vec<(usize, Fields)>) -> impl Iterator<Item = Fields> {
    results.sort_by_key(|(call, _)| *call);
    std::mem::take(results).into_iter().map(|(_, fields)| fields)
}

impl Fields {
    fn of(value: &TemplateValue) -> Option<Self> {
        if value.kind() != ValueKind::Map {
            return None;
        }
        let pairs = value.try_iter().ok()?.map(|key| (key.to_string(), value.get_item(&key).unwrap_or_default()));
        Some(Self(pairs.collect()))
    }

    fn value(self) -> TemplateValue {
        TemplateValue::from_pairs(self.0)
    }

    /// A field; undefined where there is none.
    fn get(&self, key: &str) -> TemplateValue {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone()).unwrap_or_default()
    }

    fn set(&mut self, key: &str, value: TemplateValue) {
        match self.0.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    fn role(&mut self, template: &ChatTemplate, place: &str) -> Result<String> {
        let given = self.get("role");
        let role = match given.as_str() {
            Some("developer") if !template.mentions("developer") => "system",
            Some("function") => "tool",
            Some(role @ ("system" | "developer" | "user" | "assistant" | "tool")) => role,
            _ => {
                let detail = "must be `system`, `developer`, `user`, `assistant` or `tool`";
                return Err(fail(&format!("{place}.role"), &found(detail, &given)));
            }
        };
        self.set("role", TemplateValue::from(role));
        Ok(role.to_owned())
    }

    fn content(&mut self, shape: MessageShape, role: &str, place: &str) -> Result<()> {
        let content = self.get("content");
        // Texts, and images between them.
        let mut parts = vec![Some(String::new())];
        match (content.as_str(), items(&content)) {
            (Some(text), _) => parts[0] = Some(text.to_owned()),
            (None, Some(list)) => {
                for (i, part) in list.iter().enumerate() {
                    let place = format!("{place}.content[{i}]");
                    let field = |key: &str| part.get_attr(key).unwrap_or_default();
                    let text = match field("type").as_str() {
                        Some("text" | "input_text" | "output_text") => field("text"),
                        Some("refusal") => field("refusal"),
                        Some("image") => {
                            parts.push(None);
                            continue;
                        }
                        _ => {
                            let detail = found("must be `text` or an image; other parts are not read", &field("type"));
                            return Err(fail(&format!("{place}.type"), &detail));
                        }
                    };
                    let missing = || fail(&format!("{place}.text"), &found("must be a string", &text));
                    let text = text.as_str().ok_or_else(missing)?;
                    match parts.last_mut() {
                        Some(Some(last)) => last.push_str(text),
                        _ => parts.push(Some(text.to_owned())),
                    }
                }
            }
            (None, None) if (content.is_none() || content.is_undefined()) && matches!(role, "assistant" | "tool") => {}
            _ => {
                let detail = found("must be a string or a list of parts", &content);
                return Err(fail(&format!("{place}.content"), &detail));
            }
        }
        let value = match &mut parts[..] {
            [Some(text)] if !shape.wants_parts => TemplateValue::from(std::mem::take(text)),
            parts => {
                let first = usize::from(parts.len() > 1 && parts[0].as_ref().is_some_and(String::is_empty));
                parts[first..].iter_mut().map(|part| part_value(part.take())).collect()
            }
        };
        self.set("content", value);
        Ok(())
    }

    /// The calls of an answer, with their arguments in shape.
    fn calls(&mut self, shape: MessageShape, place: &str) -> Result<Vec<Call>> {
        let given = self.get("tool_calls");
        let list = match items(&given) {
            Some(list) => list,
            None if given.is_none() || given.is_undefined() => vec![],
            None => return Err(fail(&format!("{place}.tool_calls"), &found("must be a list of calls", &given))),
        };
        // Templates ask whether there are calls in several ways.
        self.0.retain(|(name, _)| name != "tool_calls" || !list.is_empty());
        let (mut calls, mut out) = (Vec::new(), Vec::new());
        for (i, call) in list.iter().enumerate() {
            let place = format!("{place}.tool_calls[{i}]");
            let object =
                |value: &TemplateValue, place: &str| Fields::of(value).ok_or_else(|| fail(place, "must be an object"));
            let mut call = object(call, &place)?;
            let place = format!("{place}.function");
            let mut function = object(&call.get("function"), &place)?;
            let name = function.get("name");
            let Some(name) = name.as_str() else {
                return Err(fail(&format!("{place}.name"), &found("must be the name of a tool", &name)));
            };
            calls.push((call.get("id").as_str().unwrap_or_default().to_owned(), name.to_owned()));
            let arguments = arguments(&function.get("arguments"), shape, &format!("{place}.arguments"))?;
            function.set("arguments", arguments);
            call.set("function", function.value());
            call.set("type", TemplateValue::from("function"));
            out.push(call.value());
        }
        if !out.is_empty() {
            self.set("tool_calls", out.into_iter().collect());
        }
        Ok(calls)
    }
}

/// A text, or an image.
fn part_value(text: Option<String>) -> TemplateValue {
    match text {
        Some(text) => TemplateValue::from_pairs([("type", "text".to_owned()), ("text", text)]),
        None => TemplateValue::from_pairs([("type", "image".to_owned())]),
    }
}

/// The arguments of a call: JSON text or an object.
fn arguments(given: &TemplateValue, shape: MessageShape, place: &str) -> Result<TemplateValue> {
    let wrong = || fail(place, &found("must be a JSON object, as text", given));
    let text = given.as_str().map(str::trim).filter(|text| !text.is_empty());
    let object = match text {
        // An answer may have broken off in it.
        Some(text) => parse_json(text).or_else(|_| {
            let json = repaired(text).filter(|json| json.starts_with('{'));
            parse_json(&json.ok_or_else(wrong)?)
        })?,
        None if given.as_str().is_some() || given.is_none() || given.is_undefined() => {
            TemplateValue::from_pairs([("", ""); 0])
        }
        None => given.clone(),
    };
    if object.kind() != ValueKind::Map {
        return Err(wrong());
    }
    match (shape.wants_argument_text, text) {
        (false, _) => Ok(object),
        (true, Some(text)) if parse_json(text).is_ok() => Ok(TemplateValue::from(text)),
        (true, _) => serde_json::to_string(&object).map(TemplateValue::from).map_err(|_| wrong()),
    }
}

/// The items of a list; `None` for what is none.
fn items(value: &TemplateValue) -> Option<Vec<TemplateValue>> {
    let is_list = matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    is_list.then(|| value.try_iter().ok().map(Iterator::collect))?
}

fn fail(place: &str, detail: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, detail).at(place)
}

/// What was expected, and what is there.
fn found(expected: &str, value: &TemplateValue) -> String {
    match value.as_str() {
        Some(text) => format!("{expected}, is `{}`", text.chars().take(80).collect::<String>()),
        None => format!("{expected}, is {}", value.kind()),
    }
}
