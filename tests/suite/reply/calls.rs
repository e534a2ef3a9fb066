//! Calls in JSON, and calls with their name before the arguments.

use super::*;

const CALL: &str = r#"{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}"#;
const ARGUMENTS: &str = r#"{"city":"Paris","days":2}"#;

fn one(content: &str) -> Reply {
    of(content, &[("get_weather", ARGUMENTS)])
}

#[test]
fn a_call_in_tags_is_read() {
    for text in [
        format!("<tool_call>\n{CALL}\n</tool_call>"),
        format!("<tool_call>{CALL}</tool_call>"),
        format!("<tool_call>\n{CALL}\n</tool_call>\n"),
        // The end is missing, or there is too much of it.
        format!("<tool_call>\n{CALL}"),
        format!("<tool_call>\n{CALL}}}\n</tool_call>"),
        format!("<tool_call>\n{}\n</tool_call>", &CALL[..CALL.len() - 1]),
        format!("<tool_call>\n{}\n</tool_call>", &CALL[..CALL.len() - 2]),
        format!("<tool_call>\n```json\n{CALL}\n```\n</tool_call>"),
        format!("<tool_call>[{CALL}]</tool_call>"),
        CALL.replace("arguments", "parameters").replacen('{', "<tool_call>{\"type\": \"function\", ", 1) + "</tool_call>",
        r#"<tool_call>{"arguments": {"city": "Paris", "days": 2}, "name": "get_weather"}</tool_call>"#.to_owned(),
        r#"<tool_call>{"name": "get_weather", "arguments": "{\"city\": \"Paris\", \"days\": 2}"}</tool_call>"#.to_owned(),
        r#"<tool_call>{"function": {"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}, "id": "x"}</tool_call>"#
            .to_owned(),
        r#"<tool_call>{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}, "id": {"a": "}"}}</tool_call>"#
            .to_owned(),
        r#"<tool_call>{'name': 'get_weather', 'arguments': {'city': 'Paris', 'days': 2,}}</tool_call>"#.to_owned(),
    ] {
        assert_eq!(reply(HERMES, &text), one(""), "{text}");
    }
}

#[test]
fn text_around_calls_is_kept() {
    let text = format!("I look.\n\n<tool_call>\n{CALL}\n</tool_call>\nDone.");
    assert_eq!(reply(HERMES, &text), of("I look.Done.", &[("get_weather", ARGUMENTS)]));
    let whole = parts(&format(HERMES), &some_tools(), "", &text, &[usize::MAX]);
    assert_eq!(whole[0], ReplyPart::Content("I look.".into()));
    assert_eq!(whole[3], ReplyPart::Content("Done.".into()));
}

#[test]
fn several_calls_are_numbered() {
    let want = of("", &[("get_weather", ARGUMENTS), ("get_time", "{}"), ("get_weather", ARGUMENTS)]);
    let time = r#"{"name": "get_time", "arguments": {}}"#;
    for text in [
        format!("<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{time}\n</tool_call><tool_call>{CALL}</tool_call>"),
        format!("<tool_call>\n{CALL}\n{time}\n{CALL}</tool_call>"),
        format!("<tool_call>[{CALL}, {time}, {CALL}]</tool_call>"),
    ] {
        assert_eq!(reply(HERMES, &text), want, "{text}");
    }
}

#[test]
fn calls_without_arguments_have_an_empty_object() {
    for text in [
        r#"<tool_call>{"name": "get_time"}</tool_call>"#,
        r#"<tool_call>{"name": "get_time", "arguments": null}</tool_call>"#,
        r#"<tool_call>{"name": "get_time", "arguments": ""}</tool_call>"#,
        r#"<tool_call>{"name": "get_time", "arguments": {}}</tool_call>"#,
    ] {
        assert_eq!(reply(HERMES, text), of("", &[("get_time", "{}")]), "{text}");
    }
}

#[test]
fn without_tools_nothing_is_a_call() {
    let text = format!("<tool_call>\n{CALL}\n</tool_call>");
    assert_eq!(read(&format(HERMES), &[], "", &text), of(&text, &[]));
    assert_eq!(read(&format(LLAMA), &[], "", CALL), of(CALL, &[]));
}

#[test]
fn what_is_no_call_is_content() {
    for text in [
        "<tool_call>",
        "<tool_call>\n",
        "<tool_call>I cannot.</tool_call>",
        "<tool_call>{\"name\": 5}</tool_call> end",
        "<tool_call>{\"nam",
        "<tool_call>{\"arguments\": {\"a\": 1}}</tool_call>",
        "Use <tool_call> tags.",
        "a < b",
        "[1] a",
        "{\"name\": \"Bob\", \"age\": 3}",
        "{\"name\": \"Bob\", \"arguments\": {}}",
        "```json\n{\"a\": 1}\n```\n",
        "[link](https://x)",
        "```",
        "{",
    ] {
        assert_eq!(reply(HERMES, text), of(text, &[]), "{text}");
    }
    // A later call is found all the same.
    let text = format!("<tool_call>oops <tool_call>{CALL}</tool_call>");
    assert_eq!(reply(HERMES, &text), of("<tool_call>oops", &[("get_weather", ARGUMENTS)]));
}

#[test]
fn an_unknown_tool_in_a_marker_is_returned() {
    let text = r#"<tool_call>{"name": "get_wether", "arguments": {"city": "X"}}</tool_call>"#;
    assert_eq!(reply(HERMES, text), of("", &[("get_wether", "{\"city\":\"X\"}")]));
}

#[test]
fn a_call_that_breaks_off_is_returned_as_far_as_it_came() {
    let text = r#"<tool_call>{"name": "get_weather", "arguments": {"city": "Par"#;
    assert_eq!(reply(HERMES, text), of("", &[("get_weather", "{\"city\":\"Par")]));
    // Where only brackets are missing it is complete.
    assert_eq!(reply(HERMES, &text.replace("Par", "Paris\"")), of("", &[("get_weather", "{\"city\":\"Paris\"}")]));
}

#[test]
fn row_34_names_are_free_and_there_may_be_many() {
    let names: Vec<String> = ["a.b", "Get-Weather", "mcp__server__do.it", "UPPER", "x/y", "日本"]
        .into_iter()
        .map(str::to_owned)
        .chain((0..32).map(|i| format!("mcp__tool-{i}.Run")))
        .collect();
    let specs: Vec<(&str, Json)> = names.iter().map(|n| (n.as_str(), json!({ "a": { "type": "string" } }))).collect();
    let tools = tools(&specs);
    for name in &names {
        let want = of("", &[(name, "{\"a\":\"1\"}")]);
        for (markers, text) in [
            (HERMES, format!("<tool_call>{{\"name\": \"{name}\", \"arguments\": {{\"a\": \"1\"}}}}</tool_call>")),
            (HERMES, format!("{{\"name\": \"{name}\", \"arguments\": {{\"a\": \"1\"}}}}")),
            (CODER, format!("<tool_call><function={name}><parameter=a>1</parameter></function></tool_call>")),
            (LFM, format!("<|tool_call_start|>[{name}(a='1')]<|tool_call_end|>")),
            (MISTRAL, format!("[TOOL_CALLS]{name}[ARGS]{{\"a\": \"1\"}}")),
            (GEMMA4, format!("<|tool_call>call:{name}{{a:<|\"|>1<|\"|>}}<tool_call|>")),
        ] {
            assert_eq!(read(&format(markers), &tools, "", &text), want, "{text}");
        }
    }
}

#[test]
fn strings_keep_what_is_in_them() {
    for (written, value) in [
        (
            r#""say \"hi\" </tool_call> \\ \n\t\u00e9 \ud83d\ude00 {}[]""#,
            "say \"hi\" </tool_call> \\ \n\t\u{e9} 😀 {}[]",
        ),
        ("\"two\nlines\"", "two\nlines"),
        (r#""a "quoted" word""#, "a \"quoted\" word"),
        (r#""C:\dir \d+""#, "C:\\dir \\d+"),
        (r#""\ud83d alone""#, "\u{FFFD} alone"),
        (r#""""#, ""),
        (r#"'it''s'"#, "it''s"),
    ] {
        let text = format!("<tool_call>{{\"name\": \"search\", \"arguments\": {{\"query\": {written}}}}}</tool_call>");
        let got = reply(HERMES, &text);
        let json: Json = serde_json::from_str(&got.calls[0].1).unwrap();
        assert_eq!(json, json!({ "query": value }), "{text}");
    }
}

#[test]
fn valid_json_keeps_its_value() {
    let values = json!({
        "a": [1, -2.5, 1e10, true, false, null, [], {}, [[1], [2, [3]]], "x, \"y\": [1]", "}", "\\"],
        "b": { "c": { "d": ["e", { "f": "g" }] }, "": "" },
        "12": "'single' and, 'more': 'x'",
        "big": 12_345_678_901_234_567_890_u64,
    });
    for text in [values.to_string(), serde_json::to_string_pretty(&values).unwrap()] {
        let text = format!("<tool_call>{{\"name\": \"search\", \"arguments\": {text}}}</tool_call>");
        assert_eq!(reply(HERMES, &text), of("", &[("search", &values.to_string())]));
    }
}

#[test]
fn values_that_are_nested_too_deep_end_the_call() {
    let deep = "[".repeat(100_000);
    let got = reply(HERMES, &format!("<tool_call>{{\"name\": \"search\", \"arguments\": {{\"query\": {deep}"));
    let (opened, closed) = ("[".repeat(99), "]".repeat(99));
    assert_eq!(got.calls[0].1, format!("{{\"query\":{opened}{closed}}}"));
    assert_eq!(got.content.len(), 100_000 - 99);
}

#[test]
fn row_20260_a_call_is_found_in_reasoning_that_was_not_closed() {
    let prompt = "<|im_start|>assistant\n<think>\n";
    let text = format!("Let me look.\n<tool_call>\n{CALL}\n</tool_call>");
    let got = read(&format(HERMES), &some_tools(), prompt, &text);
    assert_eq!(got, Reply { reasoning: "Let me look.".into(), ..one("") });
    let text = "A <tool_call>{\"name\": \"other\"}</tool_call> is no call.</think>Hi";
    let got = read(&format(HERMES), &some_tools(), prompt, text);
    assert_eq!(got.reasoning, "A <tool_call>{\"name\": \"other\"}</tool_call> is no call.");
    assert_eq!((got.content.as_str(), got.calls.len()), ("Hi", 0));
}

#[test]
fn llama_3_writes_json_without_markers() {
    let parameters = CALL.replace("arguments", "parameters");
    for text in [
        parameters.clone(),
        format!("<|python_tag|>{parameters}"),
        parameters.replacen('{', "{\"type\": \"function\", ", 1),
        format!("\n{parameters}\n"),
        format!("```json\n{parameters}\n```"),
    ] {
        assert_eq!(reply(LLAMA, &text), one(""), "{text}");
    }
    let two = of("", &[("get_weather", ARGUMENTS), ("get_weather", ARGUMENTS)]);
    assert_eq!(reply(LLAMA, &format!("{parameters}; {parameters}")), two);
    assert_eq!(reply(LLAMA, &format!("{parameters}\n{parameters}")), two);
    assert_eq!(reply(LLAMA, &format!("[{parameters}, {parameters}]")), two);
    assert_eq!(reply(LLAMA, &format!("I call:\n{parameters}\nand wait")), one("I call:and wait"));
    let code = "<|python_tag|>import math\nprint(math.pi)";
    assert_eq!(reply(LLAMA, code), of(code, &[]));
}

#[test]
fn mistral_writes_a_list_or_names_and_arguments() {
    assert_eq!(reply(MISTRAL, &format!("[TOOL_CALLS][{CALL}]")), one(""));
    assert_eq!(reply(MISTRAL, &format!("[TOOL_CALLS] [{CALL}]")), one(""));
    let two = of("Sure.", &[("get_weather", ARGUMENTS), ("get_time", "{}")]);
    let list = format!("Sure.[TOOL_CALLS][{CALL}, {{\"name\": \"get_time\", \"arguments\": {{}}, \"id\": \"a1\"}}]");
    assert_eq!(reply(MISTRAL, &list), two);
    for (a, b) in [("[ARGS]", "[ARGS]"), ("[CALL_ID]k3[ARGS]", "[CALL_ID]k4[ARGS]"), ("", "")] {
        let text =
            format!("Sure.[TOOL_CALLS]get_weather{a}{{\"city\": \"Paris\", \"days\": 2}}[TOOL_CALLS]get_time{b}{{}}");
        assert_eq!(reply(MISTRAL, &text), two, "{text}");
    }
}

#[test]
fn gemma_writes_fenced_blocks_or_its_own_quotes() {
    for text in [
        format!("```json\n{CALL}\n```"),
        format!("```tool_call\n{CALL}\n```"),
        "```tool_code\nget_weather(city=\"Paris\", days=2)\n```".to_owned(),
        "```tool_code\nprint(get_weather(city='Paris', days=2))\n```\n".to_owned(),
        "```python\n[default_api.get_weather(city='Paris', days=2)]\n```".to_owned(),
    ] {
        assert_eq!(reply("", &text), one(""), "{text}");
    }
    assert_eq!(reply("", &format!("Ok:\n```json\n{CALL}\n```\nDone")), one("Ok:Done"));
    let quoted = "<|tool_call>call:get_weather{city:<|\"|>Paris<|\"|>,days:2}<tool_call|>";
    assert_eq!(reply(GEMMA4, quoted), one(""));
    let nested = "<|tool_call>call:search{limit:true,more:{a:[<|\"|>x \"y\", {z}<|\"|>,1,null]},query:<|\"|>a\\n<|\"|>}<tool_call|>";
    let want = r#"{"limit":true,"more":{"a":["x \"y\", {z}",1,null]},"query":"a\\n"}"#;
    assert_eq!(reply(GEMMA4, nested), of("", &[("search", want)]));
}

#[test]
fn deepseek_writes_a_fenced_block_after_a_name() {
    let arguments = "{\"city\": \"Paris\", \"days\": 2}";
    let call =
        format!("<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{arguments}\n```<｜tool▁call▁end｜>");
    let text = format!("Hm.</think>Ok<｜tool▁calls▁begin｜>{call}\n{call}<｜tool▁calls▁end｜>");
    let got = read(&format(DEEPSEEK), &some_tools(), "<｜Assistant｜><think>\n", &text);
    let want = of("Ok", &[("get_weather", ARGUMENTS), ("get_weather", ARGUMENTS)]);
    assert_eq!(got, Reply { reasoning: "Hm.".into(), ..want });
    let later = format!(
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    );
    assert_eq!(reply(DEEPSEEK, &later), one(""));
}
