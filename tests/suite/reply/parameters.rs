//! Parameters in tags.

use super::*;

fn call(name: &str, parameters: &[(&str, &str)]) -> String {
    let one = |(key, value): &(&str, &str)| format!("<parameter={key}>\n{value}\n</parameter>\n");
    let parameters: String = parameters.iter().map(one).collect();
    format!("<tool_call>\n<function={name}>\n{parameters}</function>\n</tool_call>")
}

/// The value of the parameter `x` of this schema that was written like this.
fn value(schema: &Json, written: &str) -> Json {
    let tools = tools(&[("f", json!({ "x": schema }))]);
    let got = read(&format(CODER), &tools, "", &call("f", &[("x", written)]));
    assert_eq!((got.content.as_str(), got.calls.len()), ("", 1));
    let json: Json = serde_json::from_str(&got.calls[0].1).unwrap_or_else(|e| panic!("{e}: {}", got.calls[0].1));
    json["x"].clone()
}

#[test]
fn parameters_are_read_by_their_schema() {
    let text = call("get_weather", &[("city", "Paris"), ("days", "2")]);
    let want = of("", &[("get_weather", "{\"city\":\"Paris\",\"days\":2}")]);
    assert_eq!(reply(CODER, &text), want);
    assert_eq!(reply(CODER, &text.replace('\n', "")), want);
    // Without the outer tags, or with only the end of them.
    let inner = text.trim_start_matches("<tool_call>\n");
    assert_eq!(reply(CODER, inner), want);
    assert_eq!(reply(CODER, inner.trim_end_matches("\n</tool_call>")), want);
    assert_eq!(reply(CODER, &format!("{text}\n{text}")).calls.len(), 2);
    assert_eq!(reply(CODER, &call("get_time", &[])), of("", &[("get_time", "{}")]));
    assert_eq!(reply(CODER, "<tool_call><function=get_time></function></tool_call>"), of("", &[("get_time", "{}")]));
    let both = format!("Text.\n{text}\nMore.");
    assert_eq!(reply(CODER, &both).content, "Text.More.");
    // JSON in a tag of a function, as Llama 3.1 writes it.
    let json = "<function=get_weather>{\"city\": \"Paris\", \"days\": 2}</function>";
    assert_eq!(reply(CODER, json), want);
    assert_eq!(
        reply(
            CODER,
            "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\", \"days\": 2}}</tool_call>"
        ),
        want
    );
}

#[test]
fn values_have_the_type_of_their_schema() {
    let string = json!({ "type": "string" });
    for text in ["a", "5", "true", "null", "\"quoted\"", "{\"a\": 1}", "[1, 2]", "", " a ", "two\nlines\n", "<b>x</b>"]
    {
        assert_eq!(value(&string, text), json!(text), "{text}");
    }
    for (kind, text, want) in [
        ("integer", "5", json!(5)),
        ("integer", "-5", json!(-5)),
        ("number", "1.5", json!(1.5)),
        ("number", "1e3", json!(1000.0)),
        ("integer", "five", json!("five")),
        ("boolean", "true", json!(true)),
        ("boolean", "False", json!(false)),
        ("boolean", "yes", json!("yes")),
        ("null", "None", json!(null)),
        ("object", "{\"a\": [1, {\"b\": null}]}", json!({ "a": [1, { "b": null }] })),
        ("object", "{'a': True}", json!({ "a": true })),
        ("array", "[1, \"x\"]", json!([1, "x"])),
        ("array", "not a list", json!("not a list")),
    ] {
        assert_eq!(value(&json!({ "type": kind }), text), want, "{kind}: {text}");
    }
    assert_eq!(value(&json!({ "type": ["integer", "null"] }), "null"), json!(null));
    assert_eq!(value(&json!({ "type": ["string", "null"] }), "null"), json!(null));
    assert_eq!(value(&json!({ "type": ["string", "null"] }), "nullable"), json!("nullable"));
    assert_eq!(value(&json!({}), "[1]"), json!([1]));
    assert_eq!(value(&json!({}), "a [1]"), json!("a [1]"));
    // The schema does not know it.
    let got = reply(CODER, &call("get_weather", &[("unit", "5")]));
    assert_eq!(got.calls[0].1, "{\"unit\":\"5\"}");
}

#[test]
fn row_32_strings_of_unions_and_enums_keep_no_quotes() {
    let constant = json!({ "anyOf": [{ "const": "decision" }, { "const": "note" }] });
    let union = json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] });
    let one_of = json!({ "oneOf": [{ "type": "string", "enum": ["edit", "view"] }, { "type": "integer" }] });
    let list = json!({ "enum": ["edit", "view"] });
    let typed = json!({ "type": "string", "enum": ["edit", "view"] });
    let reference = json!({ "$ref": "#/properties/x/$defs/mode", "$defs": { "mode": { "enum": ["edit"] } } });
    for (schema, word) in [
        (&constant, "decision"),
        (&union, "edit"),
        (&one_of, "edit"),
        (&list, "edit"),
        (&typed, "edit"),
        (&reference, "edit"),
    ] {
        assert_eq!(value(schema, word), json!(word), "{schema}");
        assert_eq!(value(schema, &format!("\"{word}\"")), json!(word), "{schema}");
    }
    assert_eq!(value(&union, "null"), json!(null));
    assert_eq!(value(&one_of, "7"), json!(7));
    assert_eq!(value(&json!({ "enum": ["5", "6"] }), "5"), json!("5"));
    // Schemas that refer to themselves end.
    let circle =
        json!({ "anyOf": [{ "$ref": "#/properties/x" }, { "$ref": "#/properties/x" }, { "type": "integer" }] });
    assert_eq!(value(&circle, "7"), json!(7));
}

#[test]
fn row_31_doubled_and_missing_tags_are_understood() {
    let want = of("", &[("get_weather", "{\"city\":\"Paris\",\"days\":2}")]);
    let text = call("get_weather", &[("city", "Paris"), ("days", "2")]);
    for changed in [
        text.replace("</parameter>", "</parameter>\n</parameter>"),
        text.replace("</parameter>", "</parameter></parameter>"),
        text.replacen("\n</parameter>", "", 1),
        text.replace("\n</parameter>", ""),
        text.replace("\n</function>", ""),
        text.replace("\n</tool_call>", ""),
        text.replace("</function>\n</tool_call>", ""),
        text.replace("=city>", "=\"city\">"),
        text.replace("=get_weather>", "=\"get_weather\">"),
    ] {
        assert_eq!(reply(CODER, &changed), want, "{changed}");
    }
}

#[test]
fn row_31_a_call_without_a_required_parameter_is_returned() {
    let schema =
        json!({ "type": "object", "required": ["path", "content"], "properties": { "path": { "type": "string" } } });
    let write = [ToolSpec { name: "write".into(), parameters: schema }];
    let text = "<tool_call>\n<function=write>\n<parameter=path>\n/a.txt\n</parameter>\n</function>\n</tool_call>";
    assert_eq!(read(&format(CODER), &write, "", text), of("", &[("write", "{\"path\":\"/a.txt\"}")]));
}

#[test]
fn row_31_text_before_a_call_while_thinking_is_reasoning() {
    let text = format!("I check.\n\n{}", call("get_time", &[]));
    let got = read(&format(CODER), &some_tools(), "<think>\n", &text);
    assert_eq!(got, Reply { reasoning: "I check.".into(), ..of("", &[("get_time", "{}")]) });
    let got = read(&format(CODER), &some_tools(), "<think>\n", &format!("Hm.\n</think>\n\n{text}"));
    assert_eq!(got, Reply { reasoning: "Hm.".into(), ..of("I check.", &[("get_time", "{}")]) });
}

#[test]
fn values_hold_code_and_tags() {
    for text in [
        "fn main() {\n    println!(\"<a> {}\", 1 < 2);\n}\n",
        "a </parameter> b",
        "<parameter=x> is a tag, </function> too",
        "\n\nblank lines\n\n",
        "\\n stays, \"quotes\" too",
        "</tool_call> x",
        "\r\nx",
    ] {
        let got = reply(CODER, &call("search", &[("query", text), ("limit", "1")]));
        let json: Json = serde_json::from_str(&got.calls[0].1).unwrap();
        assert_eq!(json, json!({ "query": text, "limit": "1" }), "{text}");
    }
}

#[test]
fn a_long_value_that_is_no_text_becomes_one() {
    let long = format!("[{}1]", "1, ".repeat(200_000));
    assert_eq!(value(&json!({ "type": "array" }), &long), json!(long));
}
