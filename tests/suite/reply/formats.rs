//! Which markers a model uses, by its template and its vocabulary.

use pagelm::text::Tokenizer;

use super::*;
use crate::common::fixtures;

fn found(template: &str, tokenizer: &Tokenizer) -> ReplyFormat {
    ReplyFormat::new(&ChatTemplate::new(template).unwrap(), tokenizer)
}

/// What each published template writes around an answer.
const TEMPLATES: [(&str, &str, &str); 7] = [
    ("qwen2.5-7b-instruct", "<|im_start|>assistant\n", "<|im_end|>\n"),
    ("qwen3-0.6b", "<|im_start|>assistant\n", "<|im_end|>\n"),
    ("qwen3.5-4b", "<|im_start|>assistant\n", "<|im_end|>\n"),
    ("qwen3-coder", "<|im_start|>assistant\n", "<|im_end|>\n"),
    ("qwq-32b", "<|im_start|>assistant\n", "<|im_end|>\n"),
    ("mistral-nemo-instruct", "[/INST]", "</s>"),
    ("llama3.2-format", "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"),
];

/// What a template writes of an answer in a history is what the model learns to write: it is read back as the same calls.
#[test]
fn the_answers_in_histories_are_read_back() {
    let data = fixtures::json("reference/templates.json");
    let tokenizer = bytes_and(&["<|im_end|>"], &[], vec![]);
    let mut calls = 0;
    for (name, start, end) in TEMPLATES {
        let template = &data["templates"][name];
        let format = found(template["template"].as_str().unwrap(), &tokenizer);
        for case in ["tool call", "two tool calls", "tool call with text"] {
            // Some take one call only.
            let Some(rendered) = template["cases"][case]["rendered"].as_str() else {
                assert_eq!((name, case), ("llama3.2-format", "two tool calls"));
                continue;
            };
            let chat = &data["conversations"][case];
            let tools = ToolSpec::list(&chat["options"]["tools"]).unwrap();
            let message = &chat["messages"].as_array().unwrap().last().unwrap();
            let at = rendered.rfind(start).unwrap() + start.len();
            let answer = rendered[at..].strip_suffix(end).unwrap();
            let got = read(&format, &tools, &rendered[..at], answer);
            let place = format!("{name}, {case}: {answer}");
            // Neither of these templates writes the text of a message with calls.
            let shown = !["mistral-nemo-instruct", "llama3.2-format"].contains(&name);
            assert_eq!(got.content, if shown { message["content"].as_str().unwrap() } else { "" }, "{place}");
            assert_eq!(got.reasoning, "", "{place}");
            let want = message["tool_calls"].as_array().unwrap();
            assert_eq!(got.calls.len(), want.len(), "{place}");
            for ((name, arguments), want) in got.calls.iter().zip(want) {
                let arguments: Json = serde_json::from_str(arguments).unwrap();
                assert_eq!(
                    (json!(name), arguments),
                    (want["function"]["name"].clone(), want["function"]["arguments"].clone()),
                    "{place}"
                );
                calls += 1;
            }
        }
    }
    assert_eq!(calls, 7 * 4 - 2);
}

#[test]
fn prompts_of_published_templates_say_where_an_answer_starts() {
    let data = fixtures::json("reference/templates.json");
    let tokenizer = bytes_and(&["<|im_end|>"], &[], vec![]);
    for (name, case, inside) in [
        ("qwen2.5-7b-instruct", "user", false),
        ("qwen3-0.6b", "user", false),
        ("qwen3-0.6b", "thinking off", false),
        ("qwen3.5-4b", "thinking on", true),
        ("qwen3.5-4b", "thinking off", false),
        ("qwq-32b", "user", false),
        ("qwq-32b", "thinking on", true),
        ("qwq-32b", "think in content", false),
        ("deepseek-r1-distill-qwen-32b", "user", false),
        ("deepseek-r1-distill-qwen-32b", "thinking on", true),
        ("qwen3-0.6b", "think in last content", false),
    ] {
        let template = &data["templates"][name];
        let format = found(template["template"].as_str().unwrap(), &tokenizer);
        let prompt = template["cases"][case]["rendered"].as_str().unwrap_or_else(|| panic!("{name}, {case}"));
        let got = read(&format, &[], prompt, "Hello");
        let want = if inside { ("Hello", "") } else { ("", "Hello") };
        assert_eq!((got.reasoning.as_str(), got.content.as_str()), want, "{name}, {case}");
    }
}

#[test]
fn a_vocabulary_tells_what_a_template_leaves_out() {
    let call = "<|tool_call_start|>[get_time()]<|tool_call_end|>";
    let tokenizer = bytes_and(&["<|im_end|>", "<|tool_call_start|>", "<|tool_call_end|>"], &[], vec![]);
    assert_eq!(read(&found("{{ tools }}", &tokenizer), &some_tools(), "", call), of("", &[("get_time", "{}")]));
    // Without the token, the same is text but for the call in the line.
    assert_eq!(read(&found("{{ tools }}", &bytes_and(&[], &[], vec![])), &some_tools(), "", call).calls.len(), 0);
    let thinks = bytes_and(&[], &["<think>", "</think>"], vec![]);
    let format = found("{{ messages }}", &thinks);
    assert!(format.has_reasoning());
    let got = read(&format, &[], "", "<think>a</think>b </think> c");
    assert_eq!((got.reasoning.as_str(), got.content.as_str()), ("a", "b </think> c"));
    assert!(!found("{{ messages }}", &bytes_and(&[], &[], vec![])).has_reasoning());
}

#[test]
fn markers_are_named_for_those_who_hide_them() {
    let markers = format(GEMMA4).markers();
    for name in ["<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|\"|>"] {
        assert!(markers.iter().any(|m| m == name), "{name} of {markers:?}");
    }
    assert!(!markers.iter().any(|m| m == "[TOOL_CALLS]" || m.is_empty()));
}

#[test]
fn lists_of_tools_are_checked() {
    let tool = |function: Json| json!([{ "type": "function", "function": function }]);
    let parameters = json!({ "type": "object" });
    let want = [ToolSpec { name: "f".into(), parameters: parameters.clone() }];
    assert_eq!(ToolSpec::list(&tool(json!({ "name": "f", "parameters": parameters }))).unwrap(), want);
    assert_eq!(ToolSpec::list(&json!([{ "type": "function", "name": "f", "parameters": parameters }])).unwrap(), want);
    assert_eq!(ToolSpec::list(&json!(null)).unwrap(), []);
    for (tools, place) in [
        (json!({}), "tools"),
        (json!([{ "type": "web_search" }]), "tools[0].type"),
        (json!([5]), "tools[0].name"),
        (tool(json!({ "parameters": {} })), "tools[0].function.name"),
        (tool(json!({ "name": "" })), "tools[0].function.name"),
        (tool(json!({ "name": "f", "parameters": [] })), "tools[0].function.parameters"),
    ] {
        let error = ToolSpec::list(&tools).unwrap_err();
        assert_eq!((error.place(), error.code()), (place, "invalid-argument"), "{tools}");
    }
}
