//! What a model thinks before it answers.

use super::*;

fn think(prompt_end: &str, text: &str) -> (String, String) {
    let reply = read(&format(HERMES), &[], prompt_end, text);
    assert_eq!(reply.calls, []);
    (reply.reasoning, reply.content)
}

fn both(reasoning: &str, content: &str) -> (String, String) {
    (reasoning.to_owned(), content.to_owned())
}

/// How prompts of Qwen 3 end.
const START: &str = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
const OPEN: &str = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n";
const CLOSED: &str = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n";

#[test]
fn a_block_is_reasoning_and_the_rest_is_content() {
    assert_eq!(think(START, "<think>\nHm.\n</think>\n\nHello"), both("Hm.", "Hello"));
    assert_eq!(think(START, "\n<think>Hm.</think>Hello\n"), both("Hm.", "Hello\n"));
    assert_eq!(think(START, "Hello"), both("", "Hello"));
}

#[test]
fn row_23_a_prompt_that_ends_in_an_open_block_starts_inside_of_it() {
    assert_eq!(think(OPEN, "Hm, a > b.\n</think>\n\nHello"), both("Hm, a > b.", "Hello"));
    // Some open it a second time.
    assert_eq!(think(OPEN, "<think>\nHm.</think>Hello"), both("Hm.", "Hello"));
    // A continued answer that was thinking.
    assert_eq!(think(&format!("{OPEN}So I"), " was.</think>Hi"), both(" was.", "Hi"));
}

#[test]
fn row_24_after_a_closed_block_in_the_prompt_all_is_content() {
    assert_eq!(think(CLOSED, "Hello"), both("", "Hello"));
    assert_eq!(think(CLOSED, "\n\nHello"), both("", "Hello"));
    let gemma = read(&format(GEMMA4), &[], "<|turn>model\n<|channel>thought\n<channel|>", "Hello <b>");
    assert_eq!((gemma.reasoning.as_str(), gemma.content.as_str()), ("", "Hello <b>"));
}

#[test]
fn a_continued_answer_keeps_its_first_space() {
    assert_eq!(think(&format!("{CLOSED}Hello"), " world"), both("", " world"));
    assert_eq!(think(&format!("{START}Hello"), " world"), both("", " world"));
}

#[test]
fn the_channels_of_gemma_4_are_reasoning() {
    let gemma = read(&format(GEMMA4), &[], "<|turn>model\n", "<|channel>thought\nHm.\n<channel|>Hello");
    assert_eq!((gemma.reasoning.as_str(), gemma.content.as_str()), ("Hm.", "Hello"));
}

#[test]
fn row_25_a_budget_that_is_used_up_by_reasoning_leaves_no_content() {
    assert_eq!(think(OPEN, "Let me think about "), both("Let me think about", ""));
    assert_eq!(think(START, "<think>\nLet me"), both("Let me", ""));
    assert_eq!(think(START, "<think>\nLet me</thi"), both("Let me</thi", ""));
    assert_eq!(think(START, "<think>\n"), both("", ""));
}

#[test]
fn an_empty_block_is_no_reasoning() {
    assert_eq!(think(START, "<think>\n\n</think>\n\nHello"), both("", "Hello"));
    assert_eq!(think(OPEN, "\n</think>\n\nHello"), both("", "Hello"));
}

#[test]
fn an_end_without_a_start_does_not_leak() {
    assert_eq!(think(CLOSED, "</think>\n\nHello"), both("", "Hello"));
    assert_eq!(think(START, "</think>\n\nHello"), both("", "Hello"));
    let (reasoning, content) = think(START, "I think.</think>\n\nHello");
    assert_eq!((reasoning.as_str(), content.as_str()), ("", "I think.Hello"));
}

#[test]
fn row_6_markers_in_the_middle_of_an_answer_are_text() {
    for prompt in [START, OPEN, CLOSED] {
        let thought = if prompt == OPEN { "Hm.</think>" } else { "<think>Hm.</think>" };
        let (_, content) = think(prompt, &format!("{thought}hello </think> world <think> so"));
        assert_eq!(content, "hello </think> world <think> so", "{prompt}");
    }
    assert_eq!(think(CLOSED, "hello </think> world"), both("", "hello </think> world"));
    assert_eq!(think(START, "Use <think> there"), both("", "Use <think> there"));
}

#[test]
fn a_user_who_names_a_marker_opens_no_block() {
    let asked = "<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(think(asked, "A tag."), both("", "A tag."));
}

#[test]
fn row_19_the_empty_block_of_a_template_is_in_no_part() {
    let history = format!("{CLOSED}One.<|im_end|>\n<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(think(&format!("{history}<think>\n\n</think>\n\n"), "Two."), both("", "Two."));
    assert_eq!(think(&history, "<think>\n\n</think>\n\nTwo."), both("", "Two."));
}

#[test]
fn a_model_without_markers_only_has_content() {
    let text = "<think>a</think>b <tool_call>{\"name\": \"x\"}</tool_call>";
    assert_eq!(reply("", text), of(text, &[]));
}

#[test]
fn white_space_is_kept_within_parts_and_dropped_between_them() {
    assert_eq!(think(START, "  Hello\n\n  world \n"), both("", "  Hello\n\n  world \n"));
    assert_eq!(think(START, "\n\n"), both("", "\n\n"));
    assert_eq!(think(OPEN, "\n a\n\n b \n</think>\n\n c\n\n d\n"), both("a\n\n b", "c\n\n d\n"));
    let long = "\n".repeat(10_000);
    assert_eq!(think(START, &format!("a{long}b")).1, format!("a{long}b"));
}

#[test]
fn a_part_comes_as_soon_as_it_is_certain() {
    let mut parser = ReplyParser::new(&format(HERMES), &some_tools(), OPEN);
    assert_eq!(parser.push("Hm, 1 <"), [ReplyPart::Reasoning("Hm, 1".into())]);
    assert_eq!(parser.push(" 2"), [ReplyPart::Reasoning(" < 2".into())]);
    assert_eq!(parser.push("</think"), []);
    assert_eq!(parser.push(">\n\nHello"), [ReplyPart::Content("Hello".into())]);
    assert_eq!(parser.push("<tool_call>{\"name\": \"sea"), []);
    assert_eq!(
        parser.push("rch\", \"arguments\": {\"query\": \"a"),
        [
            ReplyPart::ToolCall { index: 0, name: "search".into() },
            ReplyPart::ToolArguments { index: 0, delta: "{\"query\":\"a".into() },
        ]
    );
    assert_eq!(parser.push("b"), [ReplyPart::ToolArguments { index: 0, delta: "b".into() }]);
    assert_eq!(parser.push("\"}}</tool_call>"), [ReplyPart::ToolArguments { index: 0, delta: "\"}".into() }]);
    assert_eq!(parser.finish(), []);
}
