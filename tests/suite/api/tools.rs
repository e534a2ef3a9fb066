//! Reasoning and calls of tools: in prompts, and read out of answers.

use pagelm::api::{Answer, Chunk};
use pagelm::engine::{Event, StopReason, Usage};
use serde_json::{Value, json};

use super::{Model, OPTIONS, joined, open, open_with, with};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";

/// Messages as JSON, and the markers of Qwen 3.
const TEMPLATE: &str = "{% if tools %}tools: {{ tools | tojson }}\n{% endif %}\
    {% for m in messages %}{{ m | tojson }}\n{% endfor %}<|im_start|>assistant\n\
    {% if false %}<think></think><tool_call></tool_call>{% endif %}";

fn model() -> Model {
    open_with("qwen2", Some(TEMPLATE), |_| {}, OPTIONS)
}

fn tool(name: &str) -> Value {
    json!({ "type": "function", "function": { "name": name, "parameters": { "type": "object", "properties": {} } } })
}

fn hello() -> Value {
    json!({ "messages": [{ "role": "user", "content": "Hi" }], "tools": [tool("add"), tool("sub")] })
}

/// The same for `/v1/responses`, where tools are flat.
fn hello_response() -> Value {
    let flat = |name: &str| json!({ "type": "function", "name": name, "parameters": { "type": "object" } });
    json!({ "input": "Hi", "tools": [flat("add"), flat("sub")] })
}

/// An answer that says a text in pieces of some bytes, and what it sends of it.
fn say(mut answer: Answer, text: &str, piece: usize, reason: StopReason) -> (Vec<Chunk>, Value) {
    let mut chunks = answer.start();
    for part in text.as_bytes().chunks(piece) {
        let text = String::from_utf8(part.to_vec()).expect("the text is ASCII");
        chunks.extend(answer.push(0, Event::Token { id: 1, text, logprobs: None }));
    }
    let usage = Usage { prompt_tokens: 3, completion_tokens: 5, ..Usage::default() };
    chunks.extend(answer.push(0, Event::Done { text: String::new(), reason, usage }));
    (chunks, serde_json::from_str(&answer.whole()).unwrap())
}

const REPLY: &str = "<think>\nA sum.\n</think>\n\nI add.\n<tool_call>\n{\"name\": \"add\", \"arguments\": {\"a\": 1}}\n\
    </tool_call>\n<tool_call>\n{\"name\": \"sub\", \"arguments\": {\"b\": [2]}}\n</tool_call>";

#[test]
fn a_chat_says_what_was_thought_and_which_tools_are_called() {
    let model = model();
    let call = |i: usize, name: &str, arguments: &str| {
        let function = json!({ "name": name, "arguments": arguments });
        json!({ "id": format!("call_0a1b_0_{i}"), "type": "function", "function": function })
    };
    let calls = [call(0, "add", "{\"a\":1}"), call(1, "sub", "{\"b\":[2]}")];
    for piece in [1, 7, REPLY.len()] {
        let answer = model.generate(CHAT, &hello()).answer;
        let (_, whole) = say(answer, REPLY, piece, StopReason::EndOfSequence);
        let want = json!({
            "role": "assistant",
            "content": "I add.",
            "refusal": null,
            "reasoning_content": "A sum.",
            "tool_calls": calls,
        });
        assert_eq!(whole["choices"][0]["message"], want);
        assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
        let reasoning = REPLY.find("</think>").unwrap() + "</think>".len();
        let counted = &whole["usage"]["completion_tokens_details"]["reasoning_tokens"];
        if piece == 1 {
            // The markers are of it; the first one is known when it is whole.
            assert_eq!(*counted, reasoning - "<think>".len() + 1);
        }
        let answer = model.generate(CHAT, &with(&hello(), json!({ "stream": true }))).answer;
        let (chunks, _) = say(answer, REPLY, piece, StopReason::EndOfSequence);
        let (done, chunks) = chunks.split_last().unwrap();
        assert_eq!(done.data, "[DONE]");
        let events: Vec<Value> = chunks.iter().map(|c| serde_json::from_str(&c.data).unwrap()).collect();
        assert_eq!(joined(&events, "/choices/0/delta/reasoning_content"), "A sum.");
        assert_eq!(joined(&events, "/choices/0/delta/content"), "I add.");
        assert_eq!(events.last().unwrap()["choices"][0]["finish_reason"], "tool_calls");
        // As clients do: the first delta of a call has its id and name, all add to its arguments.
        let mut built: Vec<Value> = Vec::new();
        let deltas = events.iter().filter_map(|e| e["choices"][0]["delta"]["tool_calls"].as_array()).flatten();
        for delta in deltas {
            let index = delta["index"].as_u64().unwrap() as usize;
            if index == built.len() {
                let mut first = delta.clone();
                first.as_object_mut().unwrap().remove("index");
                built.push(first);
                continue;
            }
            assert!(delta.get("id").is_none());
            let more = delta["function"]["arguments"].as_str().unwrap();
            let arguments = built[index]["function"]["arguments"].as_str().unwrap().to_string();
            built[index]["function"]["arguments"] = (arguments + more).into();
        }
        assert_eq!(built, calls);
    }
    // An answer that was cut is not one that calls.
    let cut = say(model.generate(CHAT, &hello()).answer, &REPLY[..90], 5, StopReason::MaxTokens).1;
    assert_eq!(cut["choices"][0]["finish_reason"], "length");
    let alone = "<tool_call>\n{\"name\": \"add\", \"arguments\": {}}\n</tool_call>";
    let alone = say(model.generate(CHAT, &hello()).answer, alone, 5, StopReason::EndOfSequence).1;
    assert_eq!(alone["choices"][0]["message"]["content"], Value::Null);
    assert_eq!(alone["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], "{}");
}

#[test]
fn calls_are_as_many_as_the_request_allows() {
    let model = model();
    let one = with(&hello(), json!({ "parallel_tool_calls": false }));
    let one = say(model.generate(CHAT, &one).answer, REPLY, 4, StopReason::EndOfSequence).1;
    assert_eq!(one["choices"][0]["message"]["tool_calls"].as_array().unwrap().len(), 1);
    // With no tools, or where none shall be called, nothing is a call, and the model hears of none.
    for more in [json!({ "tool_choice": "none" }), json!({ "tools": [] }), json!({ "tools": null })] {
        let generate = model.generate(CHAT, &with(&hello(), more));
        let prompt = model.tokenizer.decode(&generate.prompts[0].ids, true);
        assert!(!String::from_utf8(prompt).unwrap().contains("tools:"));
        let (_, whole) = say(generate.answer, REPLY, 4, StopReason::EndOfSequence);
        let message = &whole["choices"][0]["message"];
        assert!(message["content"].as_str().unwrap().contains("<tool_call>") && message.get("tool_calls").is_none());
        assert_eq!(whole["choices"][0]["finish_reason"], "stop");
    }
    for (more, param) in [
        (json!({ "tool_choice": { "type": "function", "function": { "name": "mul" } } }), "tool_choice"),
        (json!({ "tool_choice": "some" }), "tool_choice"),
        (json!({ "parallel_tool_calls": 1 }), "parallel_tool_calls"),
        (json!({ "tools": {} }), "tools"),
        (json!({ "tools": [{ "type": "function", "function": {} }] }), "tools[0].function.name"),
        (json!({ "tools": [tool("a"), { "type": "custom", "name": "b" }] }), "tools[1].type"),
    ] {
        let error = model.refused(CHAT, &with(&hello(), more));
        assert_eq!((error.status, error.param.as_deref()), (400, Some(param)), "{}", error.message);
    }
    // A model whose template leaves tools out would never hear of them.
    let error = open().refused(CHAT, &hello());
    assert_eq!(error.param.as_deref(), Some("tools"));
}

#[test]
fn a_prompt_has_tools_and_the_calls_and_results_of_earlier_turns() {
    let model = model();
    let call = |id: &str, name: &str| json!({ "id": id, "type": "function", "function": { "name": name, "arguments": "{\"a\": 1}" } });
    let messages = json!([
        { "role": "user", "content": "Hi" },
        { "role": "assistant", "content": null, "tool_calls": [call("x", "add"), call("y", "sub")] },
        { "role": "tool", "tool_call_id": "y", "content": "2" },
        { "role": "tool", "tool_call_id": "x", "content": [{ "type": "text", "text": "1" }] },
    ]);
    let ids = model.generate(CHAT, &with(&hello(), json!({ "messages": messages }))).prompts[0].ids.clone();
    let prompt = String::from_utf8(model.tokenizer.decode(&ids, true)).unwrap();
    let lines: Vec<&str> = prompt.lines().collect();
    let tools: Value = serde_json::from_str(lines[0].strip_prefix("tools: ").unwrap()).unwrap();
    assert_eq!(tools, hello()["tools"]);
    let assistant: Value = serde_json::from_str(lines[2]).unwrap();
    assert_eq!(assistant["tool_calls"][0]["function"]["arguments"], json!({ "a": 1 }));
    for (line, id, name, content) in [(3, "x", "add", "1"), (4, "y", "sub", "2")] {
        let result: Value = serde_json::from_str(lines[line]).unwrap();
        assert_eq!(result, json!({ "role": "tool", "tool_call_id": id, "name": name, "content": content }));
    }
    // The same as items.
    let item = |id: &str, name: &str| json!({ "type": "function_call", "call_id": id, "name": name, "arguments": "{\"a\": 1}", "id": "fc_1", "status": "completed" });
    let input = json!([
        { "role": "user", "content": "Hi" },
        item("x", "add"),
        item("y", "sub"),
        { "type": "function_call_output", "call_id": "y", "output": "2" },
        { "type": "function_call_output", "call_id": "x", "output": [{ "type": "input_text", "text": "1" }] },
    ]);
    let nested = json!({ "input": input, "tools": [
        { "type": "function", "name": "add", "parameters": { "type": "object", "properties": {} } },
        { "type": "function", "name": "sub", "parameters": { "type": "object", "properties": {} } },
    ] });
    let items = model.tokenizer.decode(&model.generate(RESPONSES, &nested).prompts[0].ids, true);
    let json = |line: &str| -> Option<Value> { serde_json::from_str(line.trim_start_matches("tools: ")).ok() };
    let items = String::from_utf8(items).unwrap();
    assert_eq!(items.lines().map(json).collect::<Vec<_>>(), lines.into_iter().map(json).collect::<Vec<_>>());
}

#[test]
fn a_response_has_an_item_for_each_part() {
    let model = model();
    let body = with(&hello_response(), json!({ "parallel_tool_calls": true }));
    for piece in [1, 9, REPLY.len()] {
        let (_, whole) = say(model.generate(RESPONSES, &body).answer, REPLY, piece, StopReason::EndOfSequence);
        let call = |i: usize, name: &str, arguments: &str| {
            json!({
                "id": format!("fc_0a1b{i}"),
                "type": "function_call",
                "status": "completed",
                "call_id": format!("call_fc_0a1b{i}"),
                "name": name,
                "arguments": arguments,
            })
        };
        let thought = json!({ "type": "reasoning_text", "text": "A sum." });
        let said = json!({ "type": "output_text", "text": "I add.", "annotations": [], "logprobs": [] });
        let want = json!([
            { "id": "rs_0a1b0", "type": "reasoning", "status": "completed", "summary": [], "content": [thought] },
            { "id": "msg_0a1b1", "type": "message", "status": "completed", "role": "assistant", "content": [said] },
            call(2, "add", "{\"a\":1}"),
            call(3, "sub", "{\"b\":[2]}"),
        ]);
        assert_eq!((&whole["output"], &whole["status"]), (&want, &"completed".into()));
        assert_eq!(whole["tools"], body["tools"]);
        let answer = model.generate(RESPONSES, &with(&body, json!({ "stream": true }))).answer;
        let (chunks, _) = say(answer, REPLY, piece, StopReason::EndOfSequence);
        let events: Vec<Value> = chunks.iter().map(|c| serde_json::from_str(&c.data).unwrap()).collect();
        let (last, _) = events.split_last().unwrap();
        assert_eq!((&last["type"], &last["response"]["output"]), (&"response.completed".into(), &want));
        for (index, item) in want.as_array().unwrap().iter().enumerate() {
            let own: Vec<Value> = events.iter().filter(|e| e["output_index"] == index).cloned().collect();
            assert_eq!(own[0]["type"], "response.output_item.added");
            assert_eq!(own[0]["item"]["status"], "in_progress");
            let end = own.last().unwrap();
            assert_eq!((&end["type"], &end["item"]), (&"response.output_item.done".into(), item));
            let text = item.get("arguments").unwrap_or(&item["content"][0]["text"]);
            assert_eq!(joined(&own, "/delta"), text.as_str().unwrap());
            assert!(own[1..own.len() - 1].iter().all(|e| e["item_id"] == item["id"]));
        }
        // It can be sent back.
        let mut input = vec![json!({ "role": "user", "content": "Hi" })];
        input.extend(want.as_array().unwrap().iter().cloned());
        input.push(json!({ "type": "function_call_output", "call_id": "call_fc_0a1b2", "output": "1" }));
        let next = with(&body, json!({ "input": input }));
        assert_eq!(model.accept(RESPONSES, &next).unwrap().warnings, Vec::<String>::new());
    }
}

#[test]
fn an_answer_is_json_where_the_request_wants_it() {
    let mut model = open_with("qwen2", Some(&TEMPLATE.replace("<think></think>", "")), |_| {}, OPTIONS);
    let schema = json!({ "type": "object", "properties": { "a": { "enum": ["x", "yy"] } }, "required": ["a"],
        "additionalProperties": false });
    let fits = |text: &str| {
        let value: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e} in {text}"));
        assert!(value == json!({ "a": "x" }) || value == json!({ "a": "yy" }), "{value}");
    };
    for seed in 0..5 {
        let format = json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": schema, "strict": true } });
        let body =
            json!({ "messages": hello()["messages"], "response_format": format, "seed": seed, "max_tokens": 200 });
        fits(model.whole(CHAT, &body)["choices"][0]["message"]["content"].as_str().unwrap());
        let format = json!({ "type": "json_schema", "name": "n", "schema": schema });
        let body = json!({ "input": "Hi", "text": { "format": format }, "seed": seed, "max_output_tokens": 200 });
        let response = model.whole(RESPONSES, &body);
        assert_eq!(response["text"]["format"], format);
        fits(response["output"][0]["content"][0]["text"].as_str().unwrap());
    }
}

#[test]
fn an_answer_that_only_thinks_has_no_content() {
    let model = model();
    let (_, chat) = say(model.generate(CHAT, &hello()).answer, "<think>\nHm", 3, StopReason::MaxTokens);
    let message = &chat["choices"][0]["message"];
    assert_eq!((&message["content"], &message["reasoning_content"]), (&"".into(), &"Hm".into()));
    let (_, response) =
        say(model.generate(RESPONSES, &hello_response()).answer, "<think>\nHm", 3, StopReason::MaxTokens);
    let items = response["output"].as_array().unwrap();
    assert_eq!((items.len(), &items[0]["type"], &items[0]["status"]), (1, &"reasoning".into(), &"incomplete".into()));
    let (_, empty) = say(model.generate(RESPONSES, &hello_response()).answer, "", 1, StopReason::EndOfSequence);
    assert_eq!(
        (&empty["output"][0]["type"], &empty["output"][0]["content"][0]["text"]),
        (&"message".into(), &"".into())
    );
}
