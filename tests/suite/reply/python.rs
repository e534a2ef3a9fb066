//! Calls in Python.

use super::*;

/// The only call in a list, in the markers of LFM2 and without any.
fn call(text: &str) -> (String, Json) {
    let tools = tools(&[
        ("search", json!({ "query": {}, "limit": {} })),
        ("f", json!({})),
        ("g", json!({})),
        ("ask", json!({})),
    ]);
    let tagged = format!("<|tool_call_start|>{text}<|tool_call_end|>");
    let tagged = read(&format(LFM), &tools, "", &tagged);
    assert_eq!(read(&format(LLAMA), &tools, "", text), tagged, "{text}");
    assert_eq!(read(&format(LLAMA), &tools, "", &format!("<|python_tag|>{text}")), tagged, "{text}");
    assert_eq!((tagged.content.as_str(), tagged.calls.len()), ("", 1), "{text}");
    let (name, arguments) = tagged.calls.into_iter().next().unwrap();
    (name, serde_json::from_str(&arguments).unwrap_or_else(|e| panic!("{e}: {arguments}")))
}

fn arguments(text: &str) -> Json {
    call(&format!("[f({text})]")).1
}

#[test]
fn row_27_lfm_writes_calls_in_markers() {
    let tools = tools(&[("web_search_exa", json!({}))]);
    let text = "<|tool_call_start|>[web_search_exa(query='current temperature in Mexico City', numResults=5)]<|tool_call_end|>";
    let want = "{\"query\":\"current temperature in Mexico City\",\"numResults\":5}";
    assert_eq!(read(&format(LFM), &tools, "", text), of("", &[("web_search_exa", want)]));
    let around = format!("I search.\n{text}\nWait.");
    assert_eq!(read(&format(LFM), &tools, "", &around), of("I search.Wait.", &[("web_search_exa", want)]));
}

#[test]
fn row_29_values_of_python_become_json() {
    assert_eq!(
        call(r#"[search(query="Doe, Jane", limit="5")]"#),
        ("search".into(), json!({ "query": "Doe, Jane", "limit": "5" }))
    );
    assert_eq!(
        arguments("n=5, ratio=1.5, ok=True, off=False, x=None"),
        json!({ "n": 5, "ratio": 1.5, "ok": true, "off": false, "x": null })
    );
    assert_eq!(
        arguments("questions=[{'question': 'How many?', 'choices': ['2-4','5+']}]"),
        json!({ "questions": [{ "question": "How many?", "choices": ["2-4", "5+"] }] })
    );
    assert_eq!(arguments(r#"q="What's your budget (roughly)?""#), json!({ "q": "What's your budget (roughly)?" }));
    assert_eq!(arguments("q='What's the budget?'"), json!({ "q": "What's the budget?" }));
    assert_eq!(arguments("q='What's the budget?', n=1"), json!({ "q": "What's the budget?", "n": 1 }));
    assert_eq!(arguments("q=['What's new?', 'It's', True]"), json!({ "q": ["What's new?", "It's", true] }));
    assert_eq!(arguments(r#"q="say "hi", please", r=2"#), json!({ "q": "say \"hi\", please", "r": 2 }));
}

#[test]
fn row_29_several_calls_are_numbered() {
    let want = of("", &[("search", "{\"query\":\"1\"}"), ("get_time", "{}")]);
    for text in [
        "[search(query=\"1\"), get_time()]",
        "[search(query='1'),get_time()]",
        "[ search( query = '1' ), get_time( ) ]",
    ] {
        assert_eq!(reply(LLAMA, text), want, "{text}");
        assert_eq!(reply(LFM, &format!("<|tool_call_start|>{text}<|tool_call_end|>")), want, "{text}");
    }
    assert_eq!(reply(LFM, "<|tool_call_start|>search(query='1')\nget_time()<|tool_call_end|>"), want);
}

#[test]
fn strings_of_python_are_read() {
    assert_eq!(
        arguments(
            r"a='it\'s \x41\u00e9\n', b='''two
'lines' ''', c=''"
        ),
        json!({ "a": "it's Aé\n", "b": "two\n'lines' ", "c": "" })
    );
    assert_eq!(
        arguments("a=(1, 'x'), b=(), c={}, d=[[], [1,],]"),
        json!({ "a": [1, "x"], "b": [], "c": {}, "d": [[], [1]] })
    );
    assert_eq!(
        arguments("a=New York, b=+5, c=.5, d=1_000, e=007"),
        json!({ "a": "New York", "b": 5, "c": 0.5, "d": 1000, "e": "007" })
    );
}

#[test]
fn arguments_without_names_get_those_of_the_schema() {
    assert_eq!(call("[search('a', 5)]").1, json!({ "query": "a", "limit": 5 }));
    assert_eq!(call("[search('a', limit=5)]").1, json!({ "query": "a", "limit": 5 }));
    assert_eq!(arguments("True, x=1"), json!({ "arg0": true, "x": 1 }));
}

#[test]
fn other_lists_are_content() {
    for text in ["[1, 2, 3]", "[a(b)", "[x](y)", "[other(a=1)]", "[search]", "[", "[search", "- [ ] search(a)"] {
        assert_eq!(reply(LLAMA, text), of(text, &[]), "{text}");
    }
}
