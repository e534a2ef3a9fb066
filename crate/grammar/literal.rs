//! Texts in Lark's notation.

/// A text as Lark writes it: like a string of JSON.
pub(super) fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
