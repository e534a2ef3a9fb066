//! What shape of messages a template reads, found by trying.

use std::sync::OnceLock;

use minijinja::Value;

use super::{ChatTemplate, RenderOptions, parse_json};

/// The shape of messages that a template reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::text) struct MessageShape {
    /// Content is a list of parts, and a string is not shown.
    pub(in crate::text) wants_parts: bool,
    /// The arguments of calls are JSON text, and an object fails or is shown as Python.
    pub(in crate::text) wants_argument_text: bool,
}

impl ChatTemplate {
    /// What fails to render tells nothing, and is left as the caller of a template has it.
    pub(in crate::text) fn message_shape(&self) -> MessageShape {
        *self.shape.get_or_init(|| {
            let shows = |json: &str, seen: &str| {
                let messages = parse_json(json).unwrap_or(Value::UNDEFINED);
                let text = self.render(&messages, &RenderOptions::default());
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
                wants_argument_text: !arguments(r#"{"argument": "a value"}"#)
                    && arguments(r#""{\"argument\": \"a value\"}""#),
            }
        })
    }
}

/// Where the shape is kept, which is asked for with each prompt.
pub(super) type Shape = OnceLock<MessageShape>;
