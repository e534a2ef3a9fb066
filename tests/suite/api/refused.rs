//! Errors: their status, their shape and the path that they name.

use pagelm::api::{Api, ApiError, Job};
use pagelm::engine::Batch;
use pagelm::{Error, ErrorKind};
use serde_json::{Value, json};

use super::{given, open, with};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

#[test]
fn a_wrong_value_is_named_with_its_path() {
    let model = open();
    let message = |content: Value| json!([{ "role": "user", "content": "a" }, { "role": "user", "content": content }]);
    let hello = json!({ "messages": message(json!("b")) });
    for (more, param) in [
        (json!({ "messages": null }), "messages"),
        (json!({ "messages": [] }), "messages"),
        (json!({ "messages": vec![0; 65_537] }), "messages"),
        (json!({ "messages": "Hello" }), "messages"),
        (json!({ "messages": [3] }), "messages[0]"),
        (json!({ "messages": [{ "content": "a" }] }), "messages[0].role"),
        (json!({ "messages": [{ "role": "robot", "content": "a" }] }), "messages[0].role"),
        (json!({ "messages": message(json!(3)) }), "messages[1].content"),
        (json!({ "messages": message(json!([{ "type": "image_url" }])) }), "messages[1].content[0]"),
        (json!({ "messages": message(json!([{ "type": "text" }])) }), "messages[1].content[0].text"),
        (json!({ "messages": message(json!([{ "type": "text", "text": 1 }])) }), "messages[1].content[0].text"),
        (json!({ "model": 3 }), "model"),
        (json!({ "temperature": "hot" }), "temperature"),
        (json!({ "temperature": -1 }), "temperature"),
        (json!({ "temperature": 1e300 }), "temperature"),
        (json!({ "top_p": 1.5 }), "top_p"),
        (json!({ "top_k": -1 }), "top_k"),
        (json!({ "repeat_penalty": 0 }), "repeat_penalty"),
        (json!({ "n": 0 }), "n"),
        (json!({ "n": 129 }), "n"),
        (json!({ "seed": 1.5 }), "seed"),
        (json!({ "stop": "" }), "stop"),
        (json!({ "stop": ["a", 1] }), "stop[1]"),
        (json!({ "stop": vec!["a"; 65] }), "stop"),
        (json!({ "max_tokens": 1.5 }), "max_tokens"),
        (json!({ "max_tokens": 3, "max_completion_tokens": 4 }), "max_completion_tokens"),
        (json!({ "logit_bias": [1] }), "logit_bias"),
        (json!({ "logit_bias": { "x": 1 } }), "logit_bias[x]"),
        (json!({ "logit_bias": { "99999999": 1 } }), "logit_bias[99999999]"),
        (json!({ "logit_bias": { "1": 101 } }), "logit_bias[1]"),
        (json!({ "suppress_tokens": [1, 99999999] }), "suppress_tokens[1]"),
        (json!({ "logprobs": 3 }), "logprobs"),
        (json!({ "top_logprobs": 3 }), "top_logprobs"),
        (json!({ "logprobs": true, "top_logprobs": 21 }), "top_logprobs"),
        (json!({ "stream": 1 }), "stream"),
        (json!({ "stream_options": {} }), "stream_options"),
        (json!({ "stream": true, "stream_options": { "include_usage": 1 } }), "stream_options.include_usage"),
        (json!({ "response_format": { "type": "xml" } }), "response_format.type"),
        (json!({ "response_format": { "type": "json_schema" } }), "response_format.schema"),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": {} } }),
            "response_format.json_schema.schema",
        ),
        (
            json!({ "response_format": { "type": "json_schema", "json_schema": { "schema": 3 } } }),
            "response_format.json_schema.schema",
        ),
        (json!({ "response_format": {} }), "response_format.type"),
        (json!({ "reasoning_effort": "some" }), "reasoning_effort"),
        (json!({ "store": true }), "store"),
        (json!({ "audio": {} }), "audio"),
        (json!({ "modalities": ["audio"] }), "modalities"),
        (json!({ "service_tier": "flex" }), "service_tier"),
        (json!({ "metadata": 3 }), "metadata"),
        (json!({ "chat_template_kwargs": { "thinking_budget": 3 } }), ""),
    ] {
        let error = model.refused(CHAT, &with(&hello, more.clone()));
        assert_eq!((error.status, error.param.as_deref().unwrap_or("")), (400, param), "{more}: {}", error.message);
        let body: Value = serde_json::from_str(&error.body()).unwrap();
        assert_eq!(
            (&body["error"]["type"], &body["error"]["message"]),
            (&"invalid_request_error".into(), &error.message.as_str().into())
        );
        assert!(error.message.contains(param), "{}", error.message);
    }
    let hello = json!({ "prompt": "Hello" });
    for (more, param) in [
        (json!({ "prompt": null }), "prompt"),
        (json!({ "prompt": [] }), "prompt"),
        (json!({ "prompt": ["a", 1] }), "prompt[1]"),
        (json!({ "prompt": [1, "a"] }), "prompt[1]"),
        (json!({ "prompt": [[1], [1, -1]] }), "prompt[1][1]"),
        (json!({ "prompt": vec!["a"; 129] }), "prompt"),
        (json!({ "prompt": ["a", "b"], "n": 65 }), "prompt"),
        (json!({ "logprobs": 21 }), "logprobs"),
        (json!({ "logprobs": true }), "logprobs"),
        (json!({ "echo": "yes" }), "echo"),
        (json!({ "echo": true, "logprobs": 1 }), "echo"),
        (json!({ "best_of": 2 }), "best_of"),
    ] {
        let error = model.refused(COMPLETIONS, &with(&hello, more.clone()));
        assert_eq!((error.status, error.param.as_deref().unwrap_or("")), (400, param), "{more}: {}", error.message);
    }
}

#[test]
fn long_values_are_cut_where_they_are_shown() {
    let error = open().refused(CHAT, &json!({ "messages": "ä".repeat(1000) }));
    assert!(error.message.len() < 150 && error.message.ends_with("..."), "{}", error.message);
}

#[test]
fn bodies_that_are_no_objects_are_refused() {
    let model = open();
    let deep = "[".repeat(100_000);
    for body in ["", "{", "3", "[]", "null", "{\"messages\": }", "\u{0}", &deep] {
        let error = model.api.request("POST", CHAT, body.as_bytes(), &given()).err().expect("it is no request");
        assert_eq!((error.status, error.param), (400, None), "{}", error.message);
    }
    let error = model.api.request("POST", CHAT, b"\xFF\xFE", &given()).err().expect("it is no UTF-8");
    assert_eq!(error.status, 400);
}

#[test]
fn paths_methods_and_models_are_known_or_not() {
    let model = open();
    let status = |method: &str, path: &str| model.api.request(method, path, b"{}", &given()).err().map(|e| e.status);
    assert_eq!(status("POST", "/v1/nothing"), Some(404));
    assert_eq!(status("GET", "/v1"), Some(404));
    assert_eq!(status("GET", CHAT), Some(405));
    assert_eq!(status("POST", "/v1/models"), Some(405));
    assert_eq!(status("GET", "/v1/models/other"), Some(404));
    assert_eq!((Api::method(CHAT), Api::method("/v1/models/x"), Api::method("/")), (Some("POST"), Some("GET"), None));
    let body = |path: &str| match model.api.request("GET", path, b"", &given()).unwrap().job {
        Job::Body(body) => serde_json::from_str::<Value>(&body).unwrap(),
        _ => panic!("{path} is known at once"),
    };
    let entry = json!({ "id": "tiny", "object": "model", "created": 1_600_000_000, "owned_by": "pagelm" });
    assert_eq!(body("/v1/models"), json!({ "object": "list", "data": [entry] }));
    assert_eq!(body("/v1/models/also"), entry);
    let error = model.refused(CHAT, &json!({ "model": "gpt-9", "messages": [{ "role": "user", "content": "a" }] }));
    assert_eq!((error.status, error.code, error.param.as_deref()), (404, Some("model_not_found"), Some("model")));
}

#[test]
fn a_prompt_that_is_too_long_has_openais_code() {
    let mut model = open();
    let text = "word ".repeat(300);
    let generate = model.generate(COMPLETIONS, &json!({ "prompt": text }));
    let prompt = generate.prompts[0].clone();
    let error = Batch::new(1)
        .add(&mut model.engine, &model.tokenizer, &prompt.ids, prompt.params, 0.0)
        .expect_err("the context holds 200 tokens");
    let error = ApiError::from(error);
    assert_eq!((error.status, error.code), (400, Some("context_length_exceeded")));
}

#[test]
fn errors_of_the_engine_have_a_status() {
    let of = |kind| ApiError::from(Error::new(kind, "x").at("here"));
    assert_eq!((of(ErrorKind::CacheFull).status, of(ErrorKind::CacheFull).kind()), (503, "server_error"));
    assert_eq!((of(ErrorKind::DeviceLost).status, of(ErrorKind::DeviceLost).code), (500, Some("device-lost")));
    assert_eq!(
        (of(ErrorKind::TemplateRaised).status, of(ErrorKind::TemplateRaised).message.as_str()),
        (400, "here: x")
    );
}

#[test]
fn a_model_without_a_template_takes_no_chats() {
    let model = super::open_with("qwen2", None, |_| {}, super::OPTIONS);
    let hello = json!({ "messages": [{ "role": "user", "content": "a" }] });
    let error = model.refused(CHAT, &hello);
    assert_eq!((error.status, error.code), (400, Some("no-template")));
    // The host may have one.
    let api = model.api.with_template(pagelm::text::ChatTemplate::new("{{ messages[0].content }}").unwrap());
    assert!(api.request("POST", CHAT, hello.to_string().as_bytes(), &given()).is_ok());
}
