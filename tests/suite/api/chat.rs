//! `/v1/chat/completions`.

use pagelm::api::Job;
use pagelm::text::EncodeOptions;
use serde_json::{Value, json};

use super::{Model, joined, open, with};

const PATH: &str = "/v1/chat/completions";

fn hello() -> Value {
    json!({
        "model": "tiny",
        "messages": [{ "role": "user", "content": "Hello" }],
        "max_tokens": 12,
        "ignore_eos": true,
        "seed": 3,
    })
}

/// The text of a prompt.
fn prompt(model: &Model, body: &Value) -> String {
    let ids = &model.generate(PATH, body).prompts[0].ids;
    String::from_utf8(model.tokenizer.decode(ids, true)).unwrap()
}

#[test]
fn an_answer_has_the_shape_of_a_chat_completion() {
    let mut model = open();
    let mut body = model.whole(PATH, &hello());
    let text = body["choices"][0]["message"]["content"].take();
    assert!(!text.as_str().unwrap().is_empty());
    let prompt = model.generate(PATH, &hello()).prompts[0].ids.len();
    assert_eq!(
        body,
        json!({
            "id": "chatcmpl-0a1b",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "tiny",
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": null, "refusal": null },
                "logprobs": null,
                "finish_reason": "length",
            }],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": 12,
                "total_tokens": prompt + 12,
                "prompt_tokens_details": { "cached_tokens": 0 },
                "completion_tokens_details": { "reasoning_tokens": 0 },
                "extra": {
                    "time_to_first_token_s": 0.0,
                    "prefill_tokens_per_s": 0.0,
                    "decode_tokens_per_s": 0.0,
                    "drafted_tokens": 0,
                    "accepted_tokens": 0,
                },
            },
        })
    );
    // The same again: all of the prompt but its last token is in the cache.
    assert_eq!(model.whole(PATH, &hello())["usage"]["prompt_tokens_details"]["cached_tokens"], prompt - 1);
}

#[test]
fn a_stream_says_what_the_whole_says() {
    for more in [json!({}), json!({ "n": 3 }), json!({ "logprobs": true, "top_logprobs": 2, "n": 2 })] {
        let body = with(&hello(), more);
        let whole = open().whole(PATH, &body);
        let events = open().stream(PATH, &with(&body, json!({ "stream_options": { "include_usage": true } })));
        let (usage, chunks) = events.split_last().unwrap();
        assert_eq!((&usage["choices"], &usage["usage"]), (&json!([]), &whole["usage"]));
        let choices = whole["choices"].as_array().unwrap();
        assert_eq!(choices.len() as u64, body["n"].as_u64().unwrap_or(1));
        for (index, choice) in choices.iter().enumerate() {
            let own: Vec<Value> = chunks.iter().filter(|c| c["choices"][0]["index"] == index).cloned().collect();
            assert_eq!(choice["index"], index);
            assert_eq!(own[0]["choices"][0]["delta"], json!({ "role": "assistant", "content": "" }));
            assert_eq!(joined(&own, "/choices/0/delta/content"), choice["message"]["content"].as_str().unwrap());
            let entries = own.iter().filter_map(|c| c["choices"][0]["logprobs"]["content"].as_array()).flatten();
            let entries: Vec<_> = entries.cloned().collect();
            let want = choice["logprobs"]["content"].as_array().cloned().unwrap_or_default();
            assert_eq!(entries, want);
            assert_eq!(want.len(), if body["logprobs"] == true { 12 } else { 0 });
            let last = &own.last().unwrap()["choices"][0];
            assert_eq!((&last["delta"], &last["finish_reason"]), (&json!({}), &"length".into()));
            for chunk in &own {
                assert_eq!(
                    (&chunk["id"], &chunk["object"], &chunk["usage"]),
                    (&whole["id"], &"chat.completion.chunk".into(), &Value::Null)
                );
                assert_eq!((&chunk["created"], &chunk["model"]), (&whole["created"], &whole["model"]));
            }
        }
    }
    // Nothing is said of usage where nobody asks.
    let events = open().stream(PATH, &hello());
    assert!(events.iter().all(|e| e.get("usage").is_none() && e["choices"][0].is_object()));
}

#[test]
fn answers_have_seeds_of_their_own_and_their_prompt_counts_once() {
    let (mut model, body) = (open(), hello());
    let three = model.whole(PATH, &with(&body, json!({ "n": 3 })));
    let prompt = model.generate(PATH, &body).prompts[0].ids.len();
    assert_eq!((&three["usage"]["prompt_tokens"], &three["usage"]["completion_tokens"]), (&prompt.into(), &36.into()));
    for i in 0..3 {
        let alone = model.whole(PATH, &with(&body, json!({ "seed": 3 + i })));
        assert_eq!(alone["choices"][0]["message"], three["choices"][i]["message"]);
    }
    assert_ne!(three["choices"][0]["message"], three["choices"][1]["message"]);
    // Without a seed the host's is taken; it may be any integer.
    let seeds = |body: &Value| -> Vec<u64> {
        open().generate(PATH, body).prompts.iter().map(|p| p.params.sampler.seed).collect()
    };
    assert_eq!(seeds(&with(&body, json!({ "seed": null, "n": 2 }))), [7, 8]);
    assert_eq!(seeds(&with(&body, json!({ "seed": -1, "n": 2 }))), [u64::MAX, 0]);
}

#[test]
fn log_probabilities_are_of_the_tokens_that_came() {
    let mut model = open();
    let body = with(&hello(), json!({ "logprobs": true, "top_logprobs": 20, "temperature": 0 }));
    let whole = model.whole(PATH, &body);
    let entries = whole["choices"][0]["logprobs"]["content"].as_array().unwrap();
    let mut bytes = Vec::new();
    for entry in entries {
        let own: Vec<u8> = serde_json::from_value(entry["bytes"].clone()).unwrap();
        assert_eq!(entry["token"], *String::from_utf8_lossy(&own));
        assert_eq!(entry["top_logprobs"].as_array().unwrap().len(), 20);
        // The likeliest was taken.
        let top = &entry["top_logprobs"][0];
        assert_eq!((&top["bytes"], &top["logprob"]), (&entry["bytes"], &entry["logprob"]));
        assert!(entry["logprob"].as_f64().unwrap() <= 0.0);
        bytes.extend(own);
    }
    assert_eq!(whole["choices"][0]["message"]["content"], *String::from_utf8_lossy(&bytes));
    let none = model.whole(PATH, &with(&hello(), json!({ "logprobs": true })));
    assert_eq!(none["choices"][0]["logprobs"]["content"][0]["top_logprobs"], json!([]));
}

#[test]
fn a_stop_string_ends_an_answer_before_it() {
    let mut model = open();
    let body = with(&hello(), json!({ "temperature": 0 }));
    let whole = model.whole(PATH, &body);
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    let stop: String = text.chars().skip(3).take(2).collect();
    let before = &text[..text.find(&stop).unwrap()];
    for given in [json!(stop), json!(["never there", stop])] {
        let stopped = model.whole(PATH, &with(&body, json!({ "stop": given })));
        assert_eq!(stopped["choices"][0]["message"]["content"], before);
        assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
        let events = model.stream(PATH, &with(&body, json!({ "stop": given })));
        assert_eq!(joined(&events, "/choices/0/delta/content"), before);
    }
}

#[test]
fn messages_are_text_whatever_their_parts_and_roles() {
    let model = open();
    let body = json!({ "messages": [
        { "role": "developer", "content": "Be " , "name": "x" },
        { "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] },
        { "role": "assistant", "content": null, "refusal": null, "tool_calls": [], "annotations": [] },
        { "role": "user", "content": "<|im_end|>" },
    ] });
    let want = "<|im_start|>system\nBe <|im_end|>\n<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n\
                <|im_start|>user\n<|im_end|><|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(prompt(&model, &body), want);
    // What a user wrote is no control token.
    let end = model.tokenizer.encode("<|im_end|>", EncodeOptions { add_special: false, parse_special: true }).unwrap();
    let ids = model.generate(PATH, &body).prompts[0].ids.clone();
    assert_eq!((end.len(), ids.iter().filter(|id| **id == end[0]).count()), (1, 4));
}

#[test]
fn reasoning_effort_sets_the_switch_that_the_template_has() {
    let model = open();
    let effort = |value: &str| with(&hello(), json!({ "reasoning_effort": value }));
    assert!(prompt(&model, &effort("none")).ends_with("assistant\nNO"));
    assert!(prompt(&model, &effort("minimal")).ends_with("assistant\nNO"));
    assert!(prompt(&model, &effort("high")).ends_with("assistant\n"));
    let by_kwargs = with(&hello(), json!({ "chat_template_kwargs": { "enable_thinking": false } }));
    assert!(prompt(&model, &by_kwargs).ends_with("assistant\nNO"));
    let both = with(&by_kwargs, json!({ "reasoning_effort": "high" }));
    assert_eq!(model.refused(PATH, &both).param.as_deref(), Some("reasoning_effort"));
    let plain = super::open_with("qwen2", Some("{{ messages[0].content }}"), |_| {}, super::OPTIONS);
    // Clients send it to any model.
    for value in ["none", "low"] {
        let warnings = plain.accept(PATH, &effort(value)).unwrap().warnings;
        assert_eq!(warnings, ["reasoning_effort"]);
    }
    let named = super::open_with("qwen2", Some("{{ reasoning_effort }}!"), |_| {}, super::OPTIONS);
    assert_eq!(prompt(&named, &effort("low")), "low!");
}

#[test]
fn switches_of_reasoning_that_a_template_lacks_are_named_and_other_variables_refused() {
    let plain = super::open_with("qwen2", Some("{{ messages[0].content }} {{ depth }}"), |_| {}, super::OPTIONS);
    let of = |kwargs: Value| with(&hello(), json!({ "chat_template_kwargs": kwargs }));
    let switches = json!({ "enable_thinking": false, "thinking": true, "clear_thinking": true, "depth": 3 });
    let warnings = plain.accept(PATH, &of(switches.clone())).unwrap().warnings;
    let names = ["enable_thinking", "thinking", "clear_thinking"];
    assert_eq!(warnings, names.map(|name| format!("chat_template_kwargs.{name}")));
    let ids = |kwargs| match plain.accept(PATH, &of(kwargs)).unwrap().job {
        Job::Generate(generate) => generate.prompts[0].ids.clone(),
        _ => panic!("it generates"),
    };
    assert_eq!(ids(switches), ids(json!({ "depth": 3 })));
    for (wrong, says) in [("enable_thinkin", "`enable_thinkin`"), ("messages", "reserved")] {
        let error = plain.refused(PATH, &of(json!({ wrong: false, "enable_thinking": false })));
        assert!(error.message.contains(says), "{}", error.message);
    }
    // Where it has the switch, nothing is named.
    let body = of(json!({ "enable_thinking": false }));
    assert_eq!(open().accept(PATH, &body).unwrap().warnings, [""; 0]);
    assert_eq!(open().refused(PATH, &of(json!(["enable_thinking"]))).status, 400);
    let body = json!({ "input": "Hi", "chat_template_kwargs": { "thinking": false } });
    assert_eq!(plain.accept("/v1/responses", &body).unwrap().warnings, ["chat_template_kwargs.thinking"]);
}

#[test]
fn the_last_message_is_gone_on_with_where_asked() {
    let model = open();
    let body = json!({
        "messages": [{ "role": "user", "content": "Count" }, { "role": "assistant", "content": "One, two" }],
        "continue_final_message": true,
        "add_generation_prompt": false,
    });
    assert!(prompt(&model, &body).ends_with("<|im_start|>assistant\nOne, two"));
    let wrong = with(&body, json!({ "messages": [{ "role": "user", "content": "Count" }] }));
    assert_eq!(model.refused(PATH, &wrong).param.as_deref(), Some("continue_final_message"));
    let both = with(&body, json!({ "add_generation_prompt": true }));
    assert_eq!(model.refused(PATH, &both).param.as_deref(), Some("add_generation_prompt"));
}

#[test]
fn sampling_is_what_the_request_says_then_the_file_then_the_default() {
    use pagelm::gguf::Value as Meta;
    let change = |meta: &mut pagelm::gguf::Meta| {
        meta.insert("general.sampling.temp".to_string(), Meta::Float(0.25));
        meta.insert("general.sampling.top_k".to_string(), Meta::Int(9));
    };
    let model = super::open_with("qwen2", Some(super::TEMPLATE), change, super::OPTIONS);
    let of = |more: Value| model.generate(PATH, &with(&hello(), more)).prompts[0].params.clone();
    let file = of(json!({})).sampler;
    assert_eq!((file.temperature, file.top_k, file.top_p), (0.25, 9, 1.0));
    let own = of(json!({
        "temperature": 0.5, "top_k": 4, "top_p": 0.5, "min_p": 0.25, "frequency_penalty": -1.5, "presence_penalty": 1,
        "repeat_penalty": 1.5, "penalty_last_n": 3, "max_tokens": null, "max_completion_tokens": 5,
        "logit_bias": { "5": -100, "6": 1.5 }, "suppress_tokens": [6, 7],
    }));
    let s = own.sampler;
    assert_eq!((s.temperature, s.top_k, s.top_p, s.min_p), (0.5, 4, 0.5, 0.25));
    assert_eq!((s.frequency_penalty, s.presence_penalty, s.repeat_penalty, s.penalty_last_n), (-1.5, 1.0, 1.5, 3));
    assert_eq!(s.logit_bias, [(5, -100.0), (6, f32::NEG_INFINITY), (7, f32::NEG_INFINITY)]);
    assert_eq!(own.max_tokens, Some(5));
}

#[test]
fn notes_to_servers_are_taken_and_what_is_not_known_is_named() {
    let model = open();
    let body = with(
        &hello(),
        json!({
            "user": "me", "metadata": { "a": "b" }, "store": false, "service_tier": "auto", "tools": [],
            "tool_choice": "auto", "response_format": { "type": "text" }, "modalities": ["text"], "verbosity": "medium",
            "surprise": 1, "nothing": null, "stream": true, "stream_options": { "odd": 1 },
            "messages": [{ "role": "user", "content": "a", "mood": "good" }],
        }),
    );
    let warnings = model.accept(PATH, &body).unwrap().warnings;
    assert_eq!(warnings, ["messages[0].mood", "stream_options.odd", "surprise"]);
}
