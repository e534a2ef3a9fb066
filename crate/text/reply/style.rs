//! How a model writes calls, found from its template: what a grammar of calls is made of.

use super::head::{FUNCTION, Opener, tags};

/// How calls are written, so that [`ReplyParser`](super::ReplyParser) reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallStyle {
    /// The marker that starts calls; empty where the call itself does.
    pub marker: &'static str,
    /// What follows the marker.
    pub open: &'static str,
    /// What ends the calls: a text, and a marker after it.
    pub close: (&'static str, &'static str),
    /// What stands between calls: inside of the same markers, or else between those of two calls.
    pub between: &'static str,
    /// Whether one pair of markers is around all calls.
    pub shared: bool,
    pub shape: CallShape,
}

/// How one call is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallShape {
    /// `{"name": "f", "arguments": {…}}`, with this name of the arguments.
    Json(&'static str),
    /// `<function=f>`, and parameters in tags.
    Tags,
    /// `f(a=1)`.
    Python,
    /// `f{…}` with markers before the name, before the arguments and after them.
    Named([&'static str; 3]),
    /// `call:f{a:1}`, with this mark around strings.
    Keys(&'static str),
}

const fn style(
    marker: &'static str,
    open: &'static str,
    close: (&'static str, &'static str),
    shape: CallShape,
) -> CallStyle {
    CallStyle { marker, open, close, between: "", shared: false, shape }
}

/// The styles, with texts that a template has which writes so. The first that fits is taken.
const STYLES: [(&[&str], CallStyle); 13] = [
    (
        &["<tool_call>", "<function=", "<parameter="],
        CallStyle { between: "\n", ..style("<tool_call>", "\n", ("\n", "</tool_call>"), CallShape::Tags) },
    ),
    (&["<function=", "<parameter="], CallStyle { between: "\n", ..style("", "", ("", ""), CallShape::Tags) }),
    (
        &["<tool_call>"],
        CallStyle { between: "\n", ..style("<tool_call>", "\n", ("\n", "</tool_call>"), CallShape::Json("arguments")) },
    ),
    (
        &["<|tool_call_start|>"],
        CallStyle {
            between: ", ",
            shared: true,
            ..style("<|tool_call_start|>", "[", ("]", "<|tool_call_end|>"), CallShape::Python)
        },
    ),
    (&["<|tool_call>"], style("<|tool_call>", "", ("", "<tool_call|>"), CallShape::Keys("<|\"|>"))),
    (
        &["<start_function_call>"],
        style("<start_function_call>", "", ("", "<end_function_call>"), CallShape::Keys("<escape>")),
    ),
    (
        &["<|tool_call|>"],
        CallStyle {
            between: ", ",
            shared: true,
            ..style("<|tool_call|>", "[", ("]", ""), CallShape::Json("arguments"))
        },
    ),
    (
        &["<function_calls>"],
        CallStyle {
            between: "\n",
            shared: true,
            ..style("<function_calls>", "\n", ("\n", "</function_calls>"), CallShape::Python)
        },
    ),
    (
        &["<｜tool▁calls▁begin｜>"],
        CallStyle {
            shared: true,
            ..style(
                "<｜tool▁calls▁begin｜>",
                "",
                ("", "<｜tool▁calls▁end｜>"),
                CallShape::Named(["<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"]),
            )
        },
    ),
    (&["[TOOL_CALLS]", "[ARGS]"], style("[TOOL_CALLS]", "", ("", ""), CallShape::Named(["", "[ARGS]", ""]))),
    (
        &["[TOOL_CALLS]"],
        CallStyle {
            between: ", ",
            shared: true,
            ..style("[TOOL_CALLS]", "[", ("]", ""), CallShape::Json("arguments"))
        },
    ),
    (
        &["```tool_code"],
        CallStyle { between: "\n", shared: true, ..style("```tool_code", "\n", ("\n", "```"), CallShape::Python) },
    ),
    // Llama 3 writes JSON without a marker, as do models of which nothing else is known.
    (&[], CallStyle { between: "\n", ..style("", "", ("", ""), CallShape::Json("parameters")) }),
];

impl CallStyle {
    /// That of a template.
    pub(super) fn of(template: &str) -> Self {
        let fits = |texts: &[&str]| texts.iter().all(|text| template.contains(text));
        let found = STYLES.into_iter().find(|(texts, _)| fits(texts)).map(|(_, style)| style);
        let mut style = found.expect("the last one fits all");
        // Phi closes the list, Granite does not.
        if style.marker == "<|tool_call|>" && template.contains("<|/tool_call|>") {
            style.close.1 = "<|/tool_call|>";
        }
        if style.marker.is_empty() && template.contains("\"arguments\"") && !template.contains("\"parameters\"") {
            style.shape = match style.shape {
                CallShape::Json(_) => CallShape::Json("arguments"),
                shape => shape,
            };
        }
        style
    }

    /// How models write the same that leave the marker out.
    pub(crate) fn unmarked(self) -> Option<Self> {
        let has_names = matches!(self.shape, CallShape::Json(_) | CallShape::Tags);
        has_names.then(|| Self { between: "\n", ..style("", "", ("", ""), self.shape) })
    }

    /// The text that calls start with, where that is always the same.
    pub(super) fn opener(&self) -> Option<Opener> {
        match self.shape {
            _ if !self.marker.is_empty() => Some(tags(self.marker, self.close.1)),
            CallShape::Tags => Some(FUNCTION),
            _ => None,
        }
    }
}
