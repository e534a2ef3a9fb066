//! `/v1/responses`.

use serde_json::{Value, json};

use super::{Model, joined, open, with};

const PATH: &str = "/v1/responses";

fn hello() -> Value {
    json!({ "model": "tiny", "input": "Hello", "max_output_tokens": 10, "temperature": 0, "instructions": "Be brief" })
}

/// The events of a stream, whose names are their types.
fn events(model: &mut Model, body: &Value) -> Vec<Value> {
    let (chunks, _) = model.run(PATH, &with(body, json!({ "stream": true })));
    let event = |(i, chunk): (usize, &pagelm::api::Chunk)| {
        let data: Value = serde_json::from_str(&chunk.data).unwrap();
        assert_eq!((data["type"].as_str(), &data["sequence_number"]), (chunk.event, &i.into()));
        assert!(chunk.to_sse().starts_with(&format!("event: {}\ndata: {{", chunk.event.unwrap())));
        data
    };
    chunks.iter().enumerate().map(event).collect()
}

#[test]
fn a_response_has_its_parameters_and_one_message() {
    let mut model = open();
    let body = model.whole(PATH, &hello());
    assert_eq!((&body["id"], &body["object"]), (&"resp_0a1b".into(), &"response".into()));
    assert_eq!((&body["instructions"], &body["max_output_tokens"]), (&"Be brief".into(), &10.into()));
    assert_eq!((&body["temperature"], &body["created_at"]), (&0.0.into(), &1_700_000_000.into()));
    let message = &body["output"][0];
    assert_eq!(
        (&message["type"], &message["role"], &message["id"]),
        (&"message".into(), &"assistant".into(), &"msg_0a1b0".into())
    );
    assert_eq!((&message["content"][0]["type"], body["output"].as_array().unwrap().len()), (&"output_text".into(), 1));
    // It is the answer to the same conversation as a chat.
    let chat = json!({
        "messages": [{ "role": "system", "content": "Be brief" }, { "role": "user", "content": "Hello" }],
        "max_tokens": 10,
        "temperature": 0,
    });
    let chat = model.whole("/v1/chat/completions", &chat);
    assert_eq!(message["content"][0]["text"], chat["choices"][0]["message"]["content"]);
    assert_eq!(body["usage"]["input_tokens"], chat["usage"]["prompt_tokens"]);
    assert_eq!(body["usage"]["output_tokens"], chat["usage"]["completion_tokens"]);
    let cut = chat["choices"][0]["finish_reason"] == "length";
    assert_eq!(body["status"], if cut { "incomplete" } else { "completed" });
}

#[test]
fn a_stream_builds_up_the_response() {
    for more in [json!({}), json!({ "include": ["message.output_text.logprobs"], "top_logprobs": 1 })] {
        let body = with(&hello(), more);
        let whole = open().whole(PATH, &body);
        let events = events(&mut open(), &body);
        let types: Vec<_> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
        assert_eq!(
            types[..4],
            ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
        );
        let (deltas, last) = types[4..].split_at(types.len() - 8);
        assert!(!deltas.is_empty() && deltas.iter().all(|t| *t == "response.output_text.delta"), "{deltas:?}");
        let end = if whole["status"] == "incomplete" { "response.incomplete" } else { "response.completed" };
        assert_eq!(last, ["response.output_text.done", "response.content_part.done", "response.output_item.done", end]);
        assert_eq!(events.last().unwrap()["response"], whole);
        assert_eq!(events[0]["response"]["status"], "in_progress");
        let part = &whole["output"][0]["content"][0];
        assert_eq!(joined(&events, "/delta"), part["text"].as_str().unwrap());
        let entries = events[4..types.len() - 4].iter().filter_map(|e| e["logprobs"].as_array()).flatten();
        assert_eq!(&Value::from(entries.cloned().collect::<Vec<_>>()), &part["logprobs"]);
        assert_eq!(part["logprobs"].as_array().unwrap().is_empty(), body.get("include").is_none());
        for event in &events[3..types.len() - 2] {
            assert_eq!((&event["item_id"], &event["output_index"]), (&"msg_0a1b0".into(), &0.into()));
        }
    }
}

#[test]
fn items_are_messages_and_earlier_answers_among_them() {
    let mut model = open();
    let answer = model.whole(PATH, &hello())["output"][0].clone();
    let body = json!({ "input": [
        { "role": "user", "content": [{ "type": "input_text", "text": "Hello" }] },
        { "type": "reasoning", "id": "rs_1", "summary": [] },
        answer,
        { "type": "message", "role": "developer", "content": "And now?" },
    ] });
    let ids = model.generate(PATH, &body).prompts[0].ids.clone();
    let text = answer["content"][0]["text"].as_str().unwrap();
    let want = format!(
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n{text}<|im_end|>\n<|im_start|>system\nAnd now?\
         <|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(String::from_utf8(model.tokenizer.decode(&ids, true)).unwrap(), want);
}

#[test]
fn what_is_not_served_is_refused_by_name() {
    let model = open();
    for (more, param) in [
        (json!({ "previous_response_id": "resp_1" }), "previous_response_id"),
        (json!({ "store": true }), "store"),
        (json!({ "background": true }), "background"),
        (json!({ "input": [] }), "input"),
        (json!({ "input": [{ "role": "tool", "content": "a" }] }), "input[0].role"),
        (json!({ "input": [{ "role": "user", "content": [{ "type": "input_image" }] }] }), "input[0].content[0]"),
        (json!({ "include": ["file_search_call.results"] }), "include[0]"),
        (json!({ "text": { "format": { "type": "xml" } } }), "text.format.type"),
        (json!({ "reasoning": { "summary": "auto" } }), "reasoning.summary"),
        (json!({ "top_logprobs": 2 }), "top_logprobs"),
        (json!({ "truncation": "auto" }), "truncation"),
    ] {
        let error = model.refused(PATH, &with(&hello(), more));
        assert_eq!((error.status, error.param.as_deref()), (400, Some(param)), "{}", error.message);
    }
}
