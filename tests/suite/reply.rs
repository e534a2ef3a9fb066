//! Answers of models, read into their parts. Every case is also read in pieces of all kinds, which must not matter.

mod calls;
mod formats;

mod fuzz;
mod parameters;
mod python;
mod reasoning;

use pagelm::text::{ChatTemplate, ReplyFormat, ReplyParser, ReplyPart, ToolSpec};
use serde_json::{Value as Json, json};

use super::text_chat::bytes_and;
use crate::common::rng::Rng;

/// The parts of an answer, put together.
#[derive(Debug, Default, PartialEq)]
struct Reply {
    reasoning: String,
    content: String,
    /// Names, and arguments as JSON text.
    calls: Vec<(String, String)>,
}

/// The format of a model whose template has these markers.
fn format(markers: &str) -> ReplyFormat {
    let template = ChatTemplate::new(&format!("{{% raw %}}{markers}{{% endraw %}}")).unwrap();
    ReplyFormat::new(&template, &bytes_and(&["<|im_end|>"], &[], vec![]))
}

/// Tools with these names, whose schemas have these properties.
fn tools(list: &[(&str, Json)]) -> Vec<ToolSpec> {
    let tool = |(name, properties): &(&str, Json)| {
        let parameters = json!({ "type": "object", "properties": properties });
        ToolSpec { name: (*name).to_owned(), parameters }
    };
    list.iter().map(tool).collect()
}

/// The tools that most cases use.
fn some_tools() -> Vec<ToolSpec> {
    let text = json!({ "type": "string" });
    tools(&[
        ("get_weather", json!({ "city": text, "days": { "type": "integer" } })),
        ("search", json!({ "query": text, "limit": text })),
        ("get_time", json!({})),
    ])
}

/// Puts parts together. Parts of different kinds may come in any order, arguments only after their call's start.
fn join(parts: &[ReplyPart], reply: &mut Reply) {
    for part in parts {
        match part {
            ReplyPart::Reasoning(text) => reply.reasoning += text,
            ReplyPart::Content(text) => reply.content += text,
            ReplyPart::ToolCall { index, name } => {
                assert_eq!(*index, reply.calls.len());
                reply.calls.push((name.clone(), String::new()));
            }
            ReplyPart::ToolArguments { index, delta } => {
                assert_eq!(index + 1, reply.calls.len(), "arguments of another call than the last");
                assert!(!delta.is_empty());
                reply.calls[*index].1 += delta;
            }
        }
    }
}

/// Parts with those of a kind that follow each other joined.
fn merged(parts: Vec<ReplyPart>) -> Vec<ReplyPart> {
    let mut out: Vec<ReplyPart> = Vec::new();
    for part in parts {
        match (out.last_mut(), part) {
            (Some(ReplyPart::Reasoning(a)), ReplyPart::Reasoning(b)) => *a += &b,
            (Some(ReplyPart::Content(a)), ReplyPart::Content(b)) => *a += &b,
            (Some(ReplyPart::ToolArguments { delta: a, .. }), ReplyPart::ToolArguments { delta: b, .. }) => *a += &b,
            (_, part) => out.push(part),
        }
    }
    out
}

/// The parts of a text that comes in pieces of these lengths in characters, over and over.
fn parts(format: &ReplyFormat, tools: &[ToolSpec], prompt_end: &str, text: &str, lengths: &[usize]) -> Vec<ReplyPart> {
    let mut parser = ReplyParser::new(format, tools, prompt_end);
    let mut out = Vec::new();
    let mut rest = text;
    for length in lengths.iter().cycle() {
        let end = rest.char_indices().nth(*length).map_or(rest.len(), |(at, _)| at);
        out.extend(parser.push(&rest[..end]));
        rest = &rest[end..];
        if rest.is_empty() {
            break;
        }
    }
    out.extend(parser.finish());
    merged(out)
}

/// Reads an answer in one piece and in others, which must give the same parts.
fn read(format: &ReplyFormat, tools: &[ToolSpec], prompt_end: &str, text: &str) -> Reply {
    let whole = parts(format, tools, prompt_end, text, &[usize::MAX]);
    let mut rng = Rng::named(text);
    for try_ in 0..12 {
        let lengths: Vec<usize> = (0..5).map(|_| 1 + rng.below(1 + try_)).collect();
        let cut = parts(format, tools, prompt_end, text, &lengths);
        assert_eq!(cut, whole, "in pieces of {lengths:?}: {text}");
    }
    let mut reply = Reply::default();
    join(&whole, &mut reply);
    reply
}

/// Reads an answer of a model with these markers to a request with some tools.
fn reply(markers: &str, text: &str) -> Reply {
    read(&format(markers), &some_tools(), "<|im_start|>assistant\n", text)
}

fn of(content: &str, calls: &[(&str, &str)]) -> Reply {
    let calls = calls.iter().map(|(name, arguments)| ((*name).to_owned(), (*arguments).to_owned())).collect();
    Reply { reasoning: String::new(), content: content.to_owned(), calls }
}

const HERMES: &str = "<think></think><tool_call></tool_call>";
const CODER: &str = "<think></think><tool_call><function=";
const LFM: &str = "<|tool_call_start|>";
const LLAMA: &str = "<|python_tag|>";
const MISTRAL: &str = "[TOOL_CALLS]";
const GEMMA4: &str = "<|channel>thought<|tool_call>";
const DEEPSEEK: &str = "<think></think><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>";
