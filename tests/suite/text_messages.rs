//! Messages of requests, in the shape that templates read.

use pagelm::text::{ChatTemplate, RenderOptions, chat_messages};
use pagelm::{Error, ErrorKind};
use serde_json::{Value as Json, json};

use crate::common::conversation::{options, value};
use crate::common::{fixtures, rng::Rng};

/// The messages as JSON.
fn shaped(template: &str, messages: &Json) -> Result<Json, Error> {
    let messages = chat_messages(&ChatTemplate::new(template).unwrap(), &value(messages))?;
    Ok(serde_json::to_value(&messages).unwrap())
}

const PLAIN: &str = "{% for m in messages %}{{ m.role + m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}\
                     {{ c.function.arguments | tojson }}{% endfor %}{% endfor %}";

fn call(id: &str, arguments: Json) -> Json {
    json!({ "id": id, "type": "function", "function": { "name": format!("tool_{id}"), "arguments": arguments } })
}

#[test]
fn plain_messages_stay() {
    let messages = json!([
        { "role": "system", "content": "a" },
        { "role": "user", "content": "b", "name": "Ann" },
        { "role": "assistant", "content": "c", "reasoning_content": "d" },
    ]);
    assert_eq!(shaped(PLAIN, &messages).unwrap(), messages);
}

#[test]
fn row_17_no_content_beside_calls_is_empty() {
    for content in [json!(null), json!("")] {
        let message = json!({ "role": "assistant", "content": content, "tool_calls": [call("a", json!({}))] });
        assert_eq!(shaped(PLAIN, &json!([message])).unwrap()[0]["content"], json!(""));
    }
    let without = json!([{ "role": "assistant", "tool_calls": [call("a", json!({}))] }]);
    assert_eq!(shaped(PLAIN, &without).unwrap()[0]["content"], json!(""));
    assert_eq!(
        shaped(PLAIN, &json!([{ "role": "assistant", "content": "x", "tool_calls": null }])).unwrap()[0],
        json!({ "role": "assistant", "content": "x" })
    );
}

#[test]
fn row_18_arguments_reach_the_template_as_an_object() {
    let arguments = |given: Json| {
        let messages = json!([{ "role": "assistant", "content": "", "tool_calls": [call("a", given)] }]);
        shaped(PLAIN, &messages).map(|shaped| shaped[0]["tool_calls"][0]["function"]["arguments"].clone())
    };
    assert_eq!(arguments(json!("{\"x\":5,\"y\":10}")).unwrap(), json!({ "x": 5, "y": 10 }));
    assert_eq!(arguments(json!({ "x": 5 })).unwrap(), json!({ "x": 5 }));
    for none in [json!(""), json!(" "), json!(null), json!("{}")] {
        assert_eq!(arguments(none).unwrap(), json!({}));
    }
    // An answer that broke off comes back.
    assert_eq!(arguments(json!("{\"x\":\"ab")).unwrap(), json!({ "x": "ab" }));
    for wrong in [json!("5"), json!("[]"), json!("x"), json!([1]), json!(5)] {
        let error = arguments(wrong).unwrap_err();
        assert_eq!(error.place(), "messages[0].tool_calls[0].function.arguments");
        assert!(error.detail().contains("JSON object"), "{error}");
    }
}

#[test]
fn row_18_a_template_that_joins_text_gets_text() {
    let joins = PLAIN.replace("c.function.arguments | tojson", "'```' + c.function.arguments");
    let messages = |given: Json| json!([{ "role": "assistant", "content": "", "tool_calls": [call("a", given)] }]);
    for given in [json!("{\"x\":5}"), json!({ "x": 5 })] {
        let shaped = shaped(&joins, &messages(given)).unwrap();
        assert_eq!(shaped[0]["tool_calls"][0]["function"]["arguments"], json!("{\"x\":5}"));
    }
    // Printed as it is, an object would come out as Python.
    let prints = PLAIN.replace(" | tojson", "");
    let shaped = shaped(&prints, &messages(json!("{\"x\": 5}"))).unwrap();
    assert_eq!(shaped[0]["tool_calls"][0]["function"]["arguments"], json!("{\"x\": 5}"));
}

#[test]
fn parts_of_text_are_joined_or_kept_as_the_template_reads_them() {
    let parts = json!([{ "type": "text", "text": "a " }, { "type": "text", "text": "b" }]);
    let messages = json!([{ "role": "user", "content": parts }, { "role": "user", "content": "c" }]);
    let content = |template: &str| {
        let shaped = shaped(template, &messages).unwrap();
        (shaped[0]["content"].clone(), shaped[1]["content"].clone())
    };
    assert_eq!(content(PLAIN), (json!("a b"), json!("c")));
    let lists = "{% for m in messages %}{% for p in m.content %}{{ p['text'] }}{% endfor %}{% endfor %}";
    let part = |text: &str| json!([{ "type": "text", "text": text }]);
    assert_eq!(content(lists), (part("a b"), part("c")));
    let either = "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{{ m.content[0].text }}\
                  {% endif %}{% endfor %}";
    assert_eq!(content(either), (json!("a b"), json!("c")));
}

#[test]
fn row_15_what_a_template_refuses_is_its_own_error() {
    let source = "{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('The system \
                  prompt comes first') }}{% elif (m.role == 'user') != (loop.index0 % 2 == 0) %}\
                  {{ raise_exception('Roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}";
    let template = ChatTemplate::new(source).unwrap();
    let says = |roles: &[&str]| {
        let messages: Vec<_> = roles.iter().map(|role| json!({ "role": role, "content": role })).collect();
        let shaped = chat_messages(&template, &value(&json!(messages))).unwrap();
        let rendered = template.render(&shaped, &RenderOptions::default());
        rendered.map_err(|error| (error.kind(), error.detail().to_owned()))
    };
    assert_eq!(says(&["user", "assistant", "user"]).unwrap(), "userassistantuser");
    let raised = |says: &str| Err((ErrorKind::TemplateRaised, says.to_owned()));
    assert_eq!(says(&["user", "user"]), raised("Roles must alternate"));
    assert_eq!(says(&["user", "assistant", "system"]), raised("The system prompt comes first"));
}

#[test]
fn row_16_a_template_that_reads_neither_gives_its_own_error() {
    let template = "{{ raise_exception('give source_lang_code') }}";
    let messages = json!([{ "role": "user", "content": "a" }]);
    assert_eq!(shaped(template, &messages).unwrap(), messages);
    let template = ChatTemplate::new(template).unwrap();
    let shaped = chat_messages(&template, &value(&messages)).unwrap();
    let error = template.render(&shaped, &RenderOptions::default()).unwrap_err();
    assert_eq!((error.kind(), error.detail()), (ErrorKind::TemplateRaised, "give source_lang_code"));
}

#[test]
fn roles_are_those_of_the_template() {
    let developer = json!([{ "role": "developer", "content": "a" }]);
    assert_eq!(shaped(PLAIN, &developer).unwrap()[0]["role"], json!("system"));
    let knows = format!("{{% if messages[0].role == 'developer' %}}x{{% endif %}}{PLAIN}");
    assert_eq!(shaped(&knows, &developer).unwrap()[0]["role"], json!("developer"));
    let function = json!([{ "role": "function", "name": "f", "content": "1" }]);
    assert_eq!(shaped(PLAIN, &function).unwrap()[0], json!({ "role": "tool", "name": "f", "content": "1" }));
}

#[test]
fn reasoning_is_passed_on() {
    let of = |message: Json| shaped(PLAIN, &json!([message])).unwrap()[0]["reasoning_content"].clone();
    assert_eq!(of(json!({ "role": "assistant", "content": "", "reasoning_content": "a" })), json!("a"));
    assert_eq!(of(json!({ "role": "assistant", "content": "", "reasoning": "a" })), json!("a"));
    assert_eq!(
        of(json!({ "role": "assistant", "content": "", "reasoning": "a", "reasoning_content": "b" })),
        json!("b")
    );
}

#[test]
fn results_come_in_the_order_of_their_calls_with_names() {
    let result = |id: &str| json!({ "role": "tool", "tool_call_id": id, "content": id });
    let messages = json!([
        { "role": "user", "content": "x" },
        { "role": "assistant", "content": null, "tool_calls": [call("a", json!({})), call("b", json!({})), call("c", json!({}))] },
        result("c"),
        result("a"),
        result("other"),
        result("b"),
        { "role": "user", "content": "y" },
    ]);
    let shaped = shaped(PLAIN, &messages).unwrap();
    let order: Vec<&str> = shaped.as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect();
    assert_eq!(order, ["x", "", "a", "b", "c", "other", "y"]);
    assert_eq!(shaped[2]["name"], json!("tool_a"));
    assert_eq!(shaped[4]["name"], json!("tool_c"));
    assert_eq!(shaped[5].get("name"), None);
}

#[test]
fn other_shapes_are_errors_with_their_path() {
    for (messages, place) in [
        (json!({}), "messages"),
        (json!("x"), "messages"),
        (json!(["x"]), "messages[0]"),
        (json!([{ "content": "x" }]), "messages[0].role"),
        (json!([{ "role": "bot", "content": "x" }]), "messages[0].role"),
        (json!([{ "role": 5, "content": "x" }]), "messages[0].role"),
        (json!([{ "role": "user" }]), "messages[0].content"),
        (json!([{ "role": "user", "content": "x" }, { "role": "user", "content": null }]), "messages[1].content"),
        (json!([{ "role": "user", "content": 5 }]), "messages[0].content"),
        (json!([{ "role": "user", "content": { "text": "x" } }]), "messages[0].content"),
        (json!([{ "role": "user", "content": ["x"] }]), "messages[0].content[0].type"),
        (json!([{ "role": "user", "content": [{ "type": "image_url" }] }]), "messages[0].content[0].type"),
        (json!([{ "role": "user", "content": [{ "type": "text" }] }]), "messages[0].content[0].text"),
        (json!([{ "role": "assistant", "tool_calls": 5 }]), "messages[0].tool_calls"),
        (json!([{ "role": "assistant", "tool_calls": [5] }]), "messages[0].tool_calls[0]"),
        (json!([{ "role": "assistant", "tool_calls": [{}] }]), "messages[0].tool_calls[0].function"),
        (
            json!([{ "role": "assistant", "tool_calls": [{ "function": {} }] }]),
            "messages[0].tool_calls[0].function.name",
        ),
    ] {
        let error = shaped(PLAIN, &messages).unwrap_err();
        assert_eq!((error.place(), error.kind()), (place, ErrorKind::InvalidArgument), "{messages}: {error}");
    }
}

/// Histories as OpenAI's API has them, with text for arguments and no content, render as the histories that templates
/// were made for.
#[test]
fn published_templates_render_what_a_client_sends() {
    let data = fixtures::json("reference/templates.json");
    let mut same = 0;
    for (name, template) in data["templates"].as_object().unwrap() {
        let compiled = ChatTemplate::new(template["template"].as_str().unwrap()).unwrap();
        for case in ["user", "turns with system", "two tool results", "tool call", "tool result", "two rounds of tools"]
        {
            let chat = &data["conversations"][case];
            let Some(rendered) = template["cases"][case]["rendered"].as_str() else { continue };
            let mut messages = chat["messages"].clone();
            for message in messages.as_array_mut().unwrap() {
                for call in message.get_mut("tool_calls").and_then(Json::as_array_mut).into_iter().flatten() {
                    let arguments = call["function"]["arguments"].to_string();
                    call["function"]["arguments"] = json!(arguments);
                }
                if message["tool_calls"].is_array() && message["content"] == "" {
                    message["content"] = json!(null);
                }
                if message["role"] == "tool" {
                    message.as_object_mut().unwrap().remove("name");
                }
                if message["role"] == "user" {
                    message["content"] = json!([{ "type": "text", "text": message["content"] }]);
                }
            }
            let shaped = chat_messages(&compiled, &value(&messages)).unwrap();
            let got = compiled.render(&shaped, &options(chat, template)).unwrap();
            assert_eq!(got, rendered, "{name}, {case}");
            same += 1;
        }
    }
    assert!(same > 60, "only {same} were compared");
}

/// Whatever a client sends is rendered or refused with its path.
#[test]
fn any_messages_are_shaped_or_refused() {
    let base = json!([
        { "role": "developer", "content": [{ "type": "text", "text": "a" }] },
        { "role": "assistant", "content": null, "tool_calls": [call("a", json!("{\"x\": 1}")), call("b", json!({ "x": 1 }))] },
        { "role": "tool", "tool_call_id": "b", "content": "1" },
    ]);
    let others =
        [json!(null), json!(5), json!(""), json!("tool"), json!([]), json!({}), json!([null]), json!("{"), json!(true)];
    let mut rng = Rng::named("messages");
    let (mut shaped_, mut refused) = (0, 0);
    for _ in 0..3000 {
        let mut messages = base.clone();
        for _ in 0..1 + rng.below(3) {
            let mut at = &mut messages;
            for _ in 0..1 + rng.below(6) {
                let next = match &*at {
                    Json::Array(list) if !list.is_empty() => json!(rng.below(list.len())),
                    Json::Object(map) if !map.is_empty() => json!(map.keys().nth(rng.below(map.len()))),
                    _ => break,
                };
                at = match next.as_u64() {
                    Some(i) => &mut at[i as usize],
                    None => &mut at[next.as_str().unwrap()],
                };
            }
            *at = others[rng.below(others.len())].clone();
        }
        match shaped(PLAIN, &messages) {
            Ok(_) => shaped_ += 1,
            Err(error) => {
                assert!(error.place().starts_with("messages"), "{messages}: {error}");
                refused += 1;
            }
        }
    }
    assert!(shaped_ > 300 && refused > 300, "{shaped_} and {refused}");
}
