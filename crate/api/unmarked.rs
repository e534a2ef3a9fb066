//! A grammar of text that may end in calls in JSON, with the marker of the template or without it.
//!
//! Many models leave the marker out and start a line, or a fenced block, with `{"name": "f"`. So text is read line by line:
//! a line that starts so is a call, and all others are text. The lexer of a grammar never goes back. Hence a terminal of
//! plain lines goes on wherever the start of a call may turn out to be none.

use serde_json::Value;

use super::calls::{Calls, MOST_CALLS, all};
use super::fields::Result;
use super::tools::Tool;
use crate::grammar::{ANY, Free, Lark};

/// White space between the marks of JSON, as much as models write.
const SPACE: &str = "[ \\n\\r\\t]{0,16}";

/// The start of a call, up to the name.
const OPEN: &str = r#"[ \n\r\t]*(```[a-z_]*[ \n\r\t]*)?\{[ \n\r\t]*"name"[ \n\r\t]*:[ \n\r\t]*""#;

/// One line, or several where they start like a call. A line that starts like one again is another.
const LINE: &str = concat!(
    r#"[ \n\r\t]*([^\n]*|(```[a-z_]*[ \n\r\t]*)?(\{[ \n\r\t]*("name"[ \n\r\t]*(:[ \n\r\t]*)?)?)?"#,
    r#"([^ \n\r\t{`][^\n]*)?)"#
);

/// Calls in JSON that stand in a text without a marker.
pub(super) struct Unmarked {
    /// Texts that are none.
    plain: String,
    /// The first call and all after it.
    calls: String,
}

/// Calls of these tools: one or several, or at most one.
pub(super) fn unmarked(lark: &mut Lark<'_>, arguments: &str, tools: &[&Tool], single: bool) -> Result<Unmarked> {
    let between = lark.terminal(&format!("/{SPACE},{SPACE}\"{arguments}\"{SPACE}:{SPACE}/"));
    let close = lark.terminal(&format!("/{SPACE}\\}}/"));
    let (mut names, mut first, mut again) = (Vec::new(), Vec::new(), Vec::new());
    for tool in tools {
        let name = Lark::literal(&Value::from(&*tool.spec.name).to_string()[1..]);
        let rest = format!("{between} {} {close}", all(lark, tool)?);
        first.push(format!("{} {rest}", lark.terminal(&format!("/{OPEN}/ {name}"))));
        again.push(format!("{name} {rest}"));
        names.push(name);
    }
    let again = lark.rule(&again.join(" | "));
    let next = lark.terminal(&format!("/{SPACE},?{SPACE}\\{{{SPACE}\"name\"{SPACE}:{SPACE}\"/"));
    let more = if single { String::new() } else { format!("({next} {again})~0..{}", MOST_CALLS - 1) };
    let fence = lark.terminal(&format!("/{SPACE}```/"));
    let spaces = lark.spaces();
    let first = lark.rule(&first.join(" | "));
    let calls = lark.rule(&format!("{first} {more} {fence}? {spaces}"));
    Ok(Unmarked { plain: format!("~(/{OPEN}/ ({}) {ANY})", names.join(" | ")), calls })
}

impl Unmarked {
    /// Text that does not start with `start` and may end in calls, these or some with a marker.
    pub(super) fn after_text(&self, lark: &mut Lark<'_>, marked: &[Calls], start: &str) -> String {
        let (first, ends) = self.line(lark, marked, start);
        let (line, ends_later) = self.line(lark, marked, "");
        let later = lark.rule(&format!("{line}* ({ends_later})?"));
        format!("({ends})? | {first} {later}")
    }

    /// A line of text, and what may stand there instead.
    fn line(&self, lark: &mut Lark<'_>, marked: &[Calls], start: &str) -> (String, String) {
        let markers: Vec<_> = marked.iter().map(|calls| calls.marker).collect();
        let free = Free { without: &markers, start, ..Free::ANY };
        let line = lark.text_in(&format!("/({LINE})\\n?/ & /(?s:.+)/ & {}", self.plain), free);
        let begun = lark.text_in(&format!("/{LINE}/ & {}", self.plain), free);
        let mut ends = self.calls.clone();
        for calls in marked {
            ends += &format!(" | {} {}", lark.marked(&begun, calls.marker), calls.rest);
        }
        (line, ends)
    }
}
