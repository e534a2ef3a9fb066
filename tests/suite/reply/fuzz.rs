//! Texts of all kinds: nothing panics, cuts make no difference, no text of an answer without calls is lost.

use super::*;

const PIECES: [&str; 64] = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<function=",
    "<function=f>",
    "</function>",
    "<parameter=a>",
    "<parameter=",
    "</parameter>",
    "<|tool_call_start|>",
    "<|tool_call_end|>",
    "<|python_tag|>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "<|tool_call>",
    "<tool_call|>",
    "call:f{",
    "<|\"|>",
    "{\"name\": \"f\", \"arguments\": ",
    "{\"name\": \"f\"",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "f(",
    "a=",
    "\"",
    "'",
    "\\",
    "\\u",
    "d83d",
    ",",
    ":",
    "\n",
    " ",
    "5",
    "True",
    "null",
    "x",
    "é",
    "😀",
    "```json\n",
    "```",
    "<",
    ">",
    "|",
    "name",
    "arguments",
    "f",
    "\"a\": ",
    "'''",
    "[f(",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "-",
    ".",
    ";",
    "=",
    "\r\n",
    "\u{0}",
    "\u{a0}",
];

fn text(rng: &mut Rng, pieces: usize) -> String {
    (0..1 + rng.below(pieces)).map(|_| PIECES[rng.below(PIECES.len())]).collect()
}

fn all_formats() -> Vec<ReplyFormat> {
    let all = [HERMES, CODER, LFM, LLAMA, MISTRAL, GEMMA4, DEEPSEEK].concat();
    vec![format(HERMES), format(CODER), format(GEMMA4), format(DEEPSEEK), format(&all), format("")]
}

/// Reads so many random texts, each of them in one piece and cut.
fn fuzz(seed: u64, texts: usize) {
    let (formats, mut rng) = (all_formats(), Rng::new(seed));
    let f = tools(&[(
        "f",
        json!({ "a": { "type": "integer" }, "b": { "anyOf": [{ "const": "x" }, { "type": "array" }] } }),
    )]);
    let mut calls = 0;
    for _ in 0..texts {
        let text = text(&mut rng, 16);
        let format = &formats[rng.below(formats.len())];
        let prompt = ["", "<think>\n", "<think></think>"][rng.below(3)];
        let whole = parts(format, &f, prompt, &text, &[usize::MAX]);
        let lengths: Vec<usize> = (0..3).map(|_| 1 + rng.below(4)).collect();
        assert_eq!(parts(format, &f, prompt, &text, &lengths), whole, "{lengths:?} of {text:?}");
        let mut reply = Reply::default();
        join(&whole, &mut reply);
        if reply.calls.is_empty() {
            let said: String = whole
                .iter()
                .map(|part| match part {
                    ReplyPart::Reasoning(text) | ReplyPart::Content(text) => text.as_str(),
                    _ => "",
                })
                .collect();
            // Only the markers of reasoning and white space around them are left out.
            let strip = |text: &str| -> String {
                let text =
                    ["<think>", "</think>"].iter().fold(text.to_owned(), |text, marker| text.replace(marker, ""));
                text.chars().filter(|c| !c.is_whitespace()).collect()
            };
            let (got, want) = (strip(&said), strip(&text));
            assert_eq!(got, want, "{text:?}");
        }
        calls += reply.calls.len();
    }
    assert!(calls > texts / 100, "only {calls} calls in {texts} texts");
}

#[test]
fn random_texts_are_read() {
    fuzz(1, 100_000);
}

#[test]
#[ignore = "takes a minute"]
fn a_million_random_texts_are_read() {
    fuzz(2, 1_000_000);
}

/// What is not decided after 256 KiB is text, however it comes.
#[test]
fn what_may_be_a_call_is_held_up_to_a_limit() {
    let f = tools(&[("f", json!({}))]);
    let long = "é".repeat(200_000);
    for text in [
        format!("<tool_call>{{\"arguments\": \"{long}\", \"name\": \"f\"}}</tool_call>"),
        format!(
            "<tool_call>{{\"name\": \"f\", \"arguments\": {{}}}} {{\"arguments\": \"{long}\", \"name\": \"f\"}}</tool_call>"
        ),
        format!("<tool_call>{{\"name\": \"f\", \"arguments\": {{}}, \"id\": \"{long}\"}}</tool_call>"),
    ] {
        let whole = parts(&format(HERMES), &f, "", &text, &[usize::MAX]);
        for lengths in [[1000], [77_777], [200_011], [262_140]] {
            assert_eq!(parts(&format(HERMES), &f, "", &text, &lengths), whole, "{lengths:?}");
        }
        let mut reply = Reply::default();
        join(&whole, &mut reply);
        assert!(reply.content.len() > 400_000, "{} bytes", reply.content.len());
    }
}

/// The bytes that a parser holds and gives do not grow with what it has done with, and a long answer takes as long as
/// its pieces.
#[test]
fn long_texts_are_read_in_one_go() {
    let f = tools(&[("f", json!({ "a": { "type": "integer" } }))]);
    for piece in PIECES.into_iter().chain([
        "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>",
        "{\"a\": [\"",
        "[f('a', ",
    ]) {
        let text = piece.repeat(1 + 400_000 / piece.len());
        let mut parser = ReplyParser::new(&format(&[HERMES, CODER].concat()), &f, "");
        let mut given = 0;
        for at in (0..text.len()).step_by(1000) {
            let cut = |at: usize| (at..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
            given += parser.push(&text[cut(at)..cut((at + 1000).min(text.len()))]).len();
        }
        given += parser.finish().len();
        assert!(given > 0 || text.trim().is_empty() || piece.contains("think>"), "{piece}");
    }
}
