//! Calls after text that is free: with the marker of their template, and as models write them that leave it out.

use super::*;

#[test]
fn text_is_free_until_a_call_starts_and_then_the_schema_holds() {
    for (i, format) in FORMATS.iter().enumerate() {
        let mut rng = Rng::named(&format!("auto {i}"));
        let mut host = Host::new(format, &[], "");
        let tools = [tool("get_weather", &parameters(&mut rng)), tool("add", &parameters(&mut rng))];
        let body = body(&tools, json!({}));
        let grammar = host.grammar(&body);
        let free = "Hello. I need no tool for that: 1 < 2, `a`.\n```json\n{\"name\": \"Ann\", \"arguments\": 5}\n```\n[1] {\"name\": \"add\", 5}";
        let mut m = grammar.matcher();
        for id in host.tokenizer.encode(free, Default::default()).unwrap() {
            m.accept(id).unwrap();
        }
        assert!(m.may_stop().unwrap());
        assert_eq!(host.message(&body, free, 4), json!({ "role": "assistant", "content": free, "refusal": null }));
        let mut calls = 0;
        // The answers after a text that ends in the marker.
        let forced = host.forced(&body);
        for _ in 0..6 {
            let call = host.drawn(&mut rng, &forced);
            // Without a marker a call starts a line.
            let free = if format.markers == ["\"parameters\""] { "Let me see:\n" } else { "Let me see: " };
            let mut m = grammar.matcher();
            let text = format!("{free}{call}");
            let ids = host
                .tokenizer
                .encode(&text, pagelm::text::EncodeOptions { add_special: false, parse_special: true })
                .unwrap();
            ids.iter().for_each(|id| m.accept(*id).unwrap_or_else(|e| panic!("{e}: {text}")));
            assert!(m.may_stop().unwrap(), "{text}");
            let message = host.message(&body, &text, 5);
            let n = check(&message, &tools, &text);
            assert!(n > 0, "{text}");
            calls += n;
            let text = host.drawn(&mut rng, &grammar);
            calls += check(&host.message(&body, &text, 5), &tools, &text);
        }
        assert!(calls > 6);
    }
}

/// How models write calls in JSON that leave the marker of their template out: what stands before the braces, and after.
const UNMARKED: [(&str, &str); 6] = [
    ("", ""),
    ("\n ", "\n"),
    ("```json\n", "\n```"),
    ("I look.\n\n```\n", "\n```\n"),
    ("I look: 1 < 2 {a} [1].\n", ""),
    ("{\"name\": \"Ann\"}\n```json\n", ""),
];

#[test]
fn a_call_without_the_marker_is_held_to_its_schema_too() {
    let with_json = FORMATS.iter().filter(|format| {
        ["<tool_call>", "<|tool_call|>", "[TOOL_CALLS]", "\"parameters\""].contains(&format.markers[0])
            && !format.markers.iter().any(|marker| ["<function=", "[ARGS]"].contains(marker))
    });
    let mut formats = 0;
    for (i, format) in with_json.enumerate() {
        formats += 1;
        let mut rng = Rng::named(&format!("unmarked {i}"));
        let mut host = Host::new(format, &[], "");
        let tools = [tool("get_weather", &parameters(&mut rng)), tool("add", &parameters(&mut rng))];
        let key = if format.markers == ["\"parameters\""] { "parameters" } else { "arguments" };
        for single in [true, false] {
            let body = body(&tools, json!({ "parallel_tool_calls": !single }));
            let grammar = host.grammar(&body);
            for (before, after) in UNMARKED {
                for open in ["{\"name\": \"add\"", "{\n  \"name\":\"get_weather\" "] {
                    let mut m = grammar.matcher();
                    for id in host.tokenizer.encode(&format!("{before}{open}"), Default::default()).unwrap() {
                        m.accept(id).unwrap_or_else(|e| panic!("{e}: {before}{open}"));
                    }
                    assert!(!m.may_stop().unwrap(), "{before}{open}");
                    for text in [",\n  \"", key, "\": {"] {
                        for id in host.tokenizer.encode(text, Default::default()).unwrap() {
                            m.accept(id).unwrap_or_else(|e| panic!("{e}: {text} after {before}{open}"));
                        }
                    }
                    let start = format!("{before}{open},\n  \"{key}\": {{");
                    let text = start.clone() + &draw(&mut rng, &mut m, &host.tokenizer, &host.out, &mut Vec::new());
                    let message = host.message(&body, &text, 1 + rng.below(7));
                    let calls = check(&message, &tools, &text);
                    assert!(calls > 0 && (!single || calls == 1), "{text}: {message}");
                    let said = before.trim_end().trim_end_matches("json").trim_end_matches("```").trim_end();
                    assert_eq!(message["content"].as_str().unwrap_or_default(), said, "{text}");
                }
                // The braces that close a call and what may follow them.
                let forced = host.forced(&body);
                let call = host.drawn(&mut rng, &forced);
                let (Some(at), Some(end)) = (call.find('{'), call.rfind('}')) else { panic!("no JSON in {call}") };
                if single {
                    let text = format!("{before}{}{after}", &call[at..=end]);
                    let mut m = grammar.matcher();
                    for id in host.tokenizer.encode(&text, Default::default()).unwrap() {
                        m.accept(id).unwrap_or_else(|e| panic!("{e}: {text}"));
                    }
                    assert!(m.may_stop().unwrap(), "{text}");
                    assert_eq!(check(&host.message(&body, &text, 3), &tools, &text), 1, "{text}");
                }
            }
        }
    }
    assert_eq!(formats, 6);
}

#[test]
fn what_only_looks_like_a_call_is_text() {
    let pieces = [
        "{",
        "{",
        "\n",
        "\n",
        " ",
        "\t",
        "```",
        "json",
        "`",
        "\"name\"",
        "\"name\"",
        ":",
        ":",
        "\"add\"",
        "\"ad",
        "\"Ann\"",
        ",",
        "\u{a0}",
        "\r\n",
        "x",
        "é",
        "}",
        "[",
        "\"arguments\"",
        "<tool",
        "_call>",
        "<",
    ];
    let mut rng = Rng::named("looks like");
    let mut host = Host::new(&FORMATS[0], &["<think></think>"], "");
    let schema = json!({ "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"], "additionalProperties": false });
    let tools = [tool("add", &schema)];
    let body = body(&tools, json!({}));
    let grammar = host.grammar(&body);
    let (mut texts, mut held, mut calls) = (0, 0, 0);
    for round in 0..20_000 {
        // Some come close to a call.
        let mut text: String = (0..rng.below(8)).map(|_| one_of(&mut rng, &pieces)).collect();
        if round % 2 == 0 {
            text +=
                ["\n{\"name\": \"add\"", "```\n{\n\"name\":\"add\"", "{\"name\" :\n\"add\"", "{\n{\"name\": \"add\""]
                    [rng.below(4)];
            text += [", \"arguments\": {\"a\": 5}}", ", \"arguments\": {\"a\": 5}}\n```", ", 5", "x", ""][rng.below(5)];
        }
        let mut m = grammar.matcher();
        let taken = text.bytes().take_while(|byte| m.accept(u32::from(*byte)).is_ok()).count();
        if taken < text.len() {
            // Only inside of a call is anything forbidden.
            let before = &text.as_bytes()[..taken];
            let before = String::from_utf8_lossy(before);
            assert!(before.contains("\"add\"") || before.contains("<tool_call>"), "{text:?} ends after {before:?}");
            held += 1;
            continue;
        }
        if m.may_stop().unwrap() {
            let message = host.message(&body, &text, 1 + rng.below(5));
            match check(&message, &tools, &text) {
                0 => texts += 1,
                n => calls += n,
            }
        } else {
            assert!(text.contains("\"add\"") || text.contains("<tool_call>"), "{text:?} must go on");
        }
    }
    assert!(texts > 5_000 && held > 500 && calls > 500, "{texts} {held} {calls}");
}

#[test]
fn many_tools_with_names_that_start_alike_fit_in_one_grammar() {
    let mut host = Host::new(&FORMATS[0], &[], "");
    let schema = json!({ "type": "object", "properties": { "a": { "type": "string" }, "b": { "type": "number" } }, "required": ["a"], "additionalProperties": false });
    let tools: Vec<_> = (0..128).map(|i| tool(&format!("a_tool_with_a_long_name_{i}"), &schema)).collect();
    let body = body(&tools, json!({ "parallel_tool_calls": false }));
    let grammar = host.grammar(&body);
    for text in [
        "<tool_call>\n{\"name\": \"a_tool_with_a_long_name_12\", \"arguments\": {\"a\": \"\", \"b\": 1}}\n</tool_call>",
        "Let me see.\n```json\n{\n \"name\": \"a_tool_with_a_long_name_1\", \"arguments\": {\"a\": \"x\"}\n}\n```",
        "<tool_call>\n{\"name\": \"a_tool_with_a_long_name_12\", \"arguments\": {\"a\": \"\", \"b\": 1}}\n</tool_call>",
    ] {
        let mut m = grammar.matcher();
        for id in host.tokenizer.encode(text, Default::default()).unwrap() {
            m.accept(id).unwrap_or_else(|e| panic!("{e}: {text}"));
        }
        assert!(m.may_stop().unwrap());
        assert_eq!(check(&host.message(&body, text, 3), &tools, text), 1);
    }
}

#[test]
fn parameters_in_tags_are_held_to_their_schema_without_the_marker_around_them() {
    let format = &FORMATS[2];
    let mut rng = Rng::named("tags");
    let mut host = Host::new(format, &[], "");
    let tools = [tool("get_weather", &parameters(&mut rng)), tool("add", &parameters(&mut rng))];
    let body = body(&tools, json!({}));
    let grammar = host.grammar(&body);
    for _ in 0..20 {
        let mut m = grammar.matcher();
        let start = "I look.\n<function=add>\n";
        for id in host.tokenizer.encode(start, Default::default()).unwrap() {
            m.accept(id).unwrap();
        }
        assert!(!m.may_stop().unwrap());
        let text = start.to_owned() + &draw(&mut rng, &mut m, &host.tokenizer, &host.out, &mut Vec::new());
        let message = host.message(&body, &text, 1 + rng.below(7));
        assert!(check(&message, &tools, &text) > 0, "{text}: {message}");
        assert_eq!(message["content"], "I look.", "{text}");
    }
}
