//! `/v1/completions` and `/v1/embeddings`.

use pagelm::api::Job;
use pagelm::backend::cpu::Cpu;
use pagelm::engine::Options;
use pagelm::gguf::Value as Meta;
use pollster::block_on;
use serde_json::{Value, json};

use super::{joined, open, open_with, with};
use crate::common::golden;

const PATH: &str = "/v1/completions";

fn hello() -> Value {
    json!({ "model": "tiny", "prompt": "Hello", "max_tokens": 8, "ignore_eos": true, "temperature": 0 })
}

#[test]
fn prompts_are_texts_or_ids_or_lists_of_them() {
    let mut model = open();
    let ids = model.encode("Hello");
    let other = model.encode("World");
    let prompts = |value: Value| -> Vec<Vec<u32>> {
        let body = with(&hello(), json!({ "prompt": value }));
        open().generate(PATH, &body).prompts.iter().map(|p| p.ids.to_vec()).collect()
    };
    assert_eq!(prompts(json!("Hello")), std::slice::from_ref(&ids));
    assert_eq!(prompts(json!(ids)), std::slice::from_ref(&ids));
    assert_eq!(prompts(json!(["Hello", "World"])), [ids.clone(), other.clone()]);
    assert_eq!(prompts(json!([ids, other])), [ids.clone(), other.clone()]);
    let body = with(&hello(), json!({ "prompt": ["Hello", "World"], "n": 2 }));
    let whole = model.whole(PATH, &body);
    let choices = whole["choices"].as_array().unwrap();
    assert_eq!(choices.iter().map(|c| &c["index"]).collect::<Vec<_>>(), [0, 1, 2, 3]);
    // Greedily all answers to a prompt are alike.
    assert_eq!((&choices[0]["text"], &choices[2]["text"]), (&choices[1]["text"], &choices[3]["text"]));
    for (prompt, choice) in [("Hello", &choices[0]), ("World", &choices[2])] {
        let alone = model.whole(PATH, &with(&hello(), json!({ "prompt": prompt })));
        assert_eq!(alone["choices"][0]["text"], choice["text"]);
    }
    // Each prompt counts once.
    assert_eq!(whole["usage"]["prompt_tokens"], ids.len() + other.len());
    assert_eq!(whole["usage"]["completion_tokens"], 32);
    let default = json!({ "prompt": "Hello", "ignore_eos": true });
    assert_eq!(model.whole(PATH, &default)["usage"]["completion_tokens"], 16, "OpenAI's default");
}

#[test]
fn a_stream_says_what_the_whole_says() {
    for more in [json!({}), json!({ "logprobs": 2 }), json!({ "echo": true }), json!({ "prompt": ["a", "b"] })] {
        let body = with(&hello(), more);
        let whole = open().whole(PATH, &body);
        assert_eq!((&whole["object"], &whole["id"]), (&"text_completion".into(), &"cmpl-0a1b".into()));
        let events = open().stream(PATH, &with(&body, json!({ "stream_options": { "include_usage": true } })));
        let (usage, chunks) = events.split_last().unwrap();
        assert_eq!((&usage["choices"], &usage["usage"]), (&json!([]), &whole["usage"]));
        for (index, choice) in whole["choices"].as_array().unwrap().iter().enumerate() {
            let own: Vec<Value> = chunks.iter().filter(|c| c["choices"][0]["index"] == index).cloned().collect();
            assert_eq!(joined(&own, "/choices/0/text"), choice["text"].as_str().unwrap());
            assert_eq!(own.last().unwrap()["choices"][0]["finish_reason"], choice["finish_reason"]);
            for list in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
                let parts = own.iter().filter_map(|c| c["choices"][0]["logprobs"][list].as_array()).flatten();
                let want = choice["logprobs"][list].as_array().cloned().unwrap_or_default();
                assert_eq!(parts.cloned().collect::<Vec<_>>(), want, "{list}");
            }
        }
    }
}

#[test]
fn log_probabilities_come_in_lists_with_the_place_of_each_token() {
    let mut model = open();
    let whole = model.whole(PATH, &with(&hello(), json!({ "logprobs": 3 })));
    let choice = &whole["choices"][0];
    let list = |name: &str| choice["logprobs"][name].as_array().unwrap().clone();
    assert_eq!((list("tokens").len(), list("token_logprobs").len(), list("top_logprobs").len()), (8, 8, 8));
    let (tokens, offsets) = (list("tokens"), list("text_offset"));
    assert_eq!(offsets[0], 0);
    for (i, token) in tokens.iter().enumerate() {
        let token = token.as_str().unwrap();
        let logprob = list("token_logprobs")[i].as_f64().unwrap();
        // Two tokens that are parts of characters may have the same name.
        assert!(list("top_logprobs")[i][token].as_f64().unwrap() >= logprob, "the likeliest was taken");
        let Some(next) = offsets.get(i + 1) else { continue };
        let (most, own) = (token.chars().count() as u64, next.as_u64().unwrap() - offsets[i].as_u64().unwrap());
        assert!(own == most || own < most && token.contains('\u{FFFD}'), "{token} has {own} characters");
    }
}

#[test]
fn a_prompt_is_echoed_where_asked() {
    let mut model = open();
    let ids = model.encode("Hello");
    let text = model.whole(PATH, &hello())["choices"][0]["text"].as_str().unwrap().to_string();
    for prompt in [json!("Hello"), json!(ids), json!(["Hello"]), json!([ids])] {
        let echoed = model.whole(PATH, &with(&hello(), json!({ "prompt": prompt, "echo": true })));
        assert_eq!(echoed["choices"][0]["text"], format!("Hello{text}"), "{prompt}");
    }
    let only = model.whole(PATH, &with(&hello(), json!({ "echo": true, "max_tokens": 0 })));
    assert_eq!((&only["choices"][0]["text"], &only["usage"]["completion_tokens"]), (&"Hello".into(), &0.into()));
}

#[test]
fn a_suffix_is_filled_up_to_with_the_tokens_of_the_file() {
    let body = with(&hello(), json!({ "prompt": "def f(", "suffix": "return x" }));
    let refused = open().refused(PATH, &body);
    assert_eq!(refused.param.as_deref(), Some("suffix"));
    assert!(refused.message.contains("no tokens to fill in the middle"), "{}", refused.message);
    let change = |meta: &mut pagelm::gguf::Meta| {
        for (name, id) in [("pre", 3), ("suf", 4), ("mid", 5)] {
            meta.insert(format!("tokenizer.ggml.fim_{name}_token_id"), Meta::Uint(id));
        }
    };
    let model = open_with("qwen2", None, change, super::OPTIONS);
    let want = [vec![3], model.encode("def f("), vec![4], model.encode("return x"), vec![5]].concat();
    assert_eq!(*model.generate(PATH, &body).prompts[0].ids, want);
    let list = model.refused(PATH, &with(&body, json!({ "prompt": ["a"] })));
    assert_eq!(list.param.as_deref(), Some("prompt"));
}

#[test]
fn embeddings_come_as_numbers_or_as_their_bytes() {
    const OPTIONS: Options = Options { n_ctx: Some(64), embeddings: Some(true), sequences: 2, ..Options::DEFAULT };
    let mut model = open_with("gemma-embedding", None, |_| {}, OPTIONS);
    let mut run = |body: &Value| -> (Value, usize) {
        let Job::Embed(embed) = model.accept("/v1/embeddings", body).unwrap().job else { panic!("it embeds") };
        let texts: Vec<_> = embed.texts.iter().map(Vec::as_slice).collect();
        let vectors = block_on(model.engine.embed(&texts, &embed.params)).unwrap();
        (serde_json::from_str(&embed.body(&vectors)).unwrap(), embed.tokens())
    };
    let (both, tokens) = run(&json!({ "model": "tiny", "input": ["Hello", "a"] }));
    assert_eq!((&both["object"], &both["model"]), (&"list".into(), &"tiny".into()));
    assert_eq!(both["usage"], json!({ "prompt_tokens": tokens, "total_tokens": tokens }));
    for (index, text) in ["Hello", "a"].iter().enumerate() {
        let datum = &both["data"][index];
        assert_eq!((&datum["index"], &datum["object"]), (&index.into(), &"embedding".into()));
        let (alone, _) = run(&json!({ "input": text, "encoding_format": "base64" }));
        let floats: Vec<f32> = serde_json::from_value(datum["embedding"].clone()).unwrap();
        assert_eq!(floats.len(), 64);
        let digits = alone["data"][0]["embedding"].as_str().unwrap();
        assert_eq!(floats_of(digits), floats);
    }
    let (cut, _) = run(&json!({ "input": "Hello", "dimensions": 8 }));
    assert_eq!(cut["data"][0]["embedding"].as_array().unwrap().len(), 8);
    let (_, ids) = run(&json!({ "input": [[5, 6, 7], [8]] }));
    assert_eq!(ids, 4);
    let refused = model.refused("/v1/embeddings", &json!({ "input": ["a", 3] }));
    assert_eq!(refused.param.as_deref(), Some("input[1]"));
    // A model that generates says so.
    let (_, file) = golden::load("qwen2");
    let mut session = golden::open(&file, Box::new(Cpu::new(1)), super::OPTIONS).unwrap();
    let error = block_on(session.engine().embed(&[&[1]], &Default::default())).unwrap_err();
    assert_eq!(pagelm::api::ApiError::from(error).status, 400);
}

/// The numbers of a text in base64, by the letter of the standard.
fn floats_of(digits: &str) -> Vec<f32> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("{c} is no digit"),
    };
    let bits = digits.trim_end_matches('=').bytes().flat_map(|c| (0..6).rev().map(move |i| value(c) >> i & 1));
    let bits: Vec<u8> = bits.collect();
    let bytes: Vec<u8> = bits.as_chunks::<8>().0.iter().map(|b| b.iter().fold(0, |n, bit| n << 1 | bit)).collect();
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
