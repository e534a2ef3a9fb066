//! Runs whose engine is lost and that go on on another one: their callers get what one engine would have given them, once.

use pagelm::ErrorKind;
use pagelm::api::{Host, Piece, Runs};
use pagelm::backend::Backend;
use pagelm::backend::cpu::Cpu;
use pagelm::engine::{Event, GenerateParams, Model as Plan, Options, ReasoningBudget, SamplerParams};
use pagelm::engine::{ProposerName, SpeculateParams};
use pagelm::gguf::Gguf;
use pagelm::grammar::GrammarSource;
use pagelm::text::Tokenizer;
use pollster::block_on;
use serde_json::{Value as Json, json};

use super::{Model, given, open_on};
use crate::common::faulty::Faulty;
use crate::common::rng::Rng;
use crate::common::{backends, golden};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const COMPLETIONS: &str = "/v1/completions";

/// Messages as JSON, and the markers of Qwen 3.
const TEMPLATE: &str = "{% for m in messages %}{{ m | tojson }}\n{% endfor %}<|im_start|>assistant\n\
    {% if false %}<think></think><tool_call></tool_call>{% endif %}";

const OPTIONS: Options = Options { n_ctx: Some(300), cache: Some(900), sequences: 3, ..Options::DEFAULT };

fn model(lose_in: Option<u32>) -> Model {
    open_on("qwen2", Some(TEMPLATE), |_| {}, OPTIONS, Box::new(Faulty::new(Cpu::new(1)).lose_in(lose_in)))
}

/// What a caller has got: the pieces but for how much of a prompt is read.
fn keep(said: &mut Vec<String>, pieces: &[Piece]) {
    let kept = pieces.iter().filter(|p| !matches!(p, Piece::Event(Event::Prefill { .. })));
    said.extend(kept.map(|p| serde_json::to_string(p).unwrap()));
}

/// Events of several answers, those of each together: answers that run side by side come in any order.
fn in_order(mut said: Vec<String>) -> Vec<String> {
    said.sort_by_key(|piece| {
        let piece: Json = serde_json::from_str(piece).unwrap();
        let event = piece["text"].as_str().and_then(|text| text.strip_prefix("data: ")).unwrap_or_default();
        let event: Option<Json> = serde_json::from_str(event).ok();
        match event.and_then(|event| event["choices"][0]["index"].as_i64()) {
            Some(index) => index,
            None if piece["kind"] == "head" => -1,
            None => i64::MAX,
        }
    });
    said
}

/// A request on one engine after another: each is given up after so many news, or when its device is lost. Returns what the
/// caller gets, and how many steps the last engine took.
fn play(path: &str, body: &Json, lives: &[(usize, Option<u32>)]) -> (Vec<String>, u64) {
    let (mut said, mut journal) = (Vec::new(), Vec::new());
    let body = body.to_string();
    for &(news, lose_in) in lives.iter().chain(&[(usize::MAX, None)]) {
        let Model { api, tokenizer, mut engine } = model(lose_in);
        let mut runs = Runs::new(3);
        let host = Host { engine: &mut engine, encoder: None, tokenizer: &tokenizer, now: &|| 0.0, sequences: &[] };
        let request = ("POST", path, body.as_bytes());
        let asked = runs.request(host, &api, request, &given(), &journal).unwrap();
        keep(&mut said, &asked.pieces);
        journal.extend(asked.journal);
        let Some(run) = asked.run else { return (in_order(said), engine.stats().done.steps) };
        let (mut left, mut over) = (news, false);
        while left > 0 && !over {
            let host = Host { engine: &mut engine, encoder: None, tokenizer: &tokenizer, now: &|| 0.0, sequences: &[] };
            let news = match block_on(runs.next(host, &[run])) {
                Ok(news) => news,
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::DeviceLost);
                    break;
                }
            };
            assert!(!news.is_empty(), "something runs");
            for news in news {
                keep(&mut said, &news.pieces);
                journal.extend(news.journal);
                left -= usize::from(left > 0);
                over = news.done;
            }
        }
        if over && news == usize::MAX {
            return (in_order(said), engine.stats().done.steps);
        }
    }
    panic!("the last engine goes on to the end");
}

fn requests() -> Vec<(&'static str, Json)> {
    let messages = json!([{ "role": "user", "content": "Hi" }]);
    let schema = json!({
        "type": "object",
        "properties": { "a": { "enum": ["xxx", "yyy"] }, "b": { "type": "boolean" } },
        "required": ["a", "b"],
        "additionalProperties": false,
    });
    let chat = |more: Json| {
        let mut body = json!({ "messages": messages, "max_tokens": 9, "seed": 5, "temperature": 0.8 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        (CHAT, body)
    };
    let tool = json!({ "type": "function", "function": { "name": "add", "parameters": schema } });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "n", "schema": schema, "strict": true } });
    vec![
        chat(
            json!({ "temperature": 0, "ignore_eos": true, "stream": true, "stream_options": { "include_usage": true } }),
        ),
        chat(json!({ "n": 3, "stream": true, "ignore_eos": true, "presence_penalty": 0.7, "repeat_penalty": 1.1 })),
        chat(json!({ "n": 2, "logprobs": true, "top_logprobs": 3, "seed": null })),
        chat(json!({ "tools": [tool], "tool_choice": "required", "stream": true, "max_tokens": 60 })),
        chat(json!({ "response_format": format, "max_tokens": 60, "logprobs": true, "n": 2 })),
        chat(json!({ "response_format": format, "max_tokens": 60, "stream": true })),
        chat(json!({ "reasoning_budget": 3, "stream": true, "max_tokens": 12, "ignore_eos": true })),
        (
            COMPLETIONS,
            json!({ "prompt": ["a b", "c"], "max_tokens": 6, "n": 2, "logprobs": 2, "echo": true, "seed": 1 }),
        ),
        (COMPLETIONS, json!({ "prompt": "a b", "max_tokens": 30, "stream": true, "stop": ["e", "a"], "seed": 3 })),
        (RESPONSES, json!({ "input": "Hi", "max_output_tokens": 9, "stream": true, "temperature": 1.5 })),
        (
            RESPONSES,
            json!({ "input": "Hi", "max_output_tokens": 9, "temperature": 0, "include": ["message.output_text.logprobs"] }),
        ),
    ]
}

#[test]
fn a_request_says_the_same_wherever_its_engine_is_lost() {
    for (path, body) in requests() {
        let (want, steps) = play(path, &body, &[]);
        assert!(want.len() >= 2 && !want[0].contains("\"error\""), "{body}: {want:?}");
        let news = 40;
        for at in 0..=news {
            let (got, after) = play(path, &body, &[(at, None)]);
            assert_eq!(got, want, "{body} given up after {at} news");
            assert!(after <= steps + 4, "{body} given up after {at} news: {after} steps, {steps} without");
        }
        for at in 1..=steps as u32 {
            assert_eq!(play(path, &body, &[(usize::MAX, Some(at))]).0, want, "{body}, lost in step {at}");
        }
        let mut rng = Rng::new(steps);
        for _ in 0..5 {
            let lives: Vec<_> = (0..6).map(|_| (rng.below(8), Some(1 + rng.below(12) as u32))).collect();
            assert_eq!(play(path, &body, &lives).0, want, "{body}, {lives:?}");
        }
    }
}

#[test]
fn what_was_said_is_not_run_token_by_token_again() {
    let body = json!({ "prompt": "a b", "max_tokens": 100, "temperature": 0, "ignore_eos": true });
    let (want, steps) = play(COMPLETIONS, &body, &[]);
    assert!(steps >= 100, "{steps} steps");
    let (got, after) = play(COMPLETIONS, &body, &[(90, None)]);
    assert_eq!(got, want);
    // The prompt, 88 tokens or so in steps of 16, and the rest.
    assert!(after < 24, "{after} steps");
}

/// Tokens of a generation and its usage, on an engine after another; each but the last gives so many tokens.
fn generate(
    name: &str,
    make: &dyn Fn() -> Box<dyn Backend>,
    prompt: &[u32],
    params: &GenerateParams,
    lives: &[usize],
) -> (Vec<u32>, String) {
    let file = golden::load(name).1;
    let gguf = Gguf::parse(&file).unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf.meta).unwrap();
    let (mut ids, mut end, mut journal) = (Vec::new(), String::new(), Vec::new());
    for most in lives.iter().copied().chain([usize::MAX]) {
        let backend = make();
        let options = Options { n_ctx: Some(128), max_tokens: 24, drafts: 3, mtp: true, ..Options::DEFAULT };
        let plan = Plan::new(&gguf, &|d| backend.supports(d), &options).unwrap();
        let mut engine = plan.load(&gguf, &file, backend).unwrap().into_engine();
        let mut runs = Runs::new(2);
        let host = Host { engine: &mut engine, encoder: None, tokenizer: &tokenizer, now: &|| 0.0, sequences: &[] };
        let run = runs.generate(host, prompt, params.clone(), &journal).unwrap();
        let Some(run) = run else { return (ids, end) };
        let mut left = most;
        while left > 0 && !runs.is_empty() {
            let host = Host { engine: &mut engine, encoder: None, tokenizer: &tokenizer, now: &|| 0.0, sequences: &[] };
            for news in block_on(runs.next(host, &[run])).unwrap() {
                assert!(news.error.is_none(), "{name}: {:?}", news.error);
                journal.extend(news.journal);
                for piece in news.pieces {
                    match piece {
                        Piece::Event(Event::Token { id, .. }) => {
                            ids.push(id);
                            left -= usize::from(left > 0);
                        }
                        Piece::Event(Event::Done { reason, usage, .. }) => {
                            let (prompt, cached) = (usage.prompt_tokens, usage.cached_tokens);
                            end = format!("{reason:?} {prompt} {cached} {}", usage.completion_tokens);
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    (ids, end)
}

/// Full attention, windows, recurrent states, experts, and a block for multi-token prediction.
const MODELS: [&str; 6] = ["llama", "gemma3", "qwen35", "qwen3moe", "qwen35moe", "qwen35_mtp"];

#[test]
fn every_kind_of_model_goes_on_with_the_same_tokens_on_every_backend() {
    let sampled = SamplerParams { temperature: 0.7, top_p: 0.9, seed: 11, repeat_penalty: 1.1, ..Default::default() };
    let plain = GenerateParams {
        max_tokens: Some(30),
        sampler: SamplerParams::greedy(),
        ignore_eos: true,
        ..GenerateParams::default()
    };
    let mut all = vec![
        plain.clone(),
        GenerateParams { sampler: sampled.clone(), logprobs: Some(2), ..plain.clone() },
        GenerateParams {
            sampler: sampled,
            ignore_eos: false,
            grammar: Some(GrammarSource::Regex("[a-z ]{3,5}:[0-9]{8}[a-e]+".to_string())),
            ..plain.clone()
        },
        GenerateParams {
            reasoning: Some(ReasoningBudget { open: String::new(), close: "xy".to_string(), tokens: 4 }),
            ..plain.clone()
        },
    ];
    let speculate = SpeculateParams { proposer: ProposerName::Lookup, max_draft: None };
    all.push(GenerateParams { speculate: Some(speculate), ..plain });
    for name in MODELS {
        let prompt = &golden::load(name).0.prompts[1].ids;
        for c in backends::all() {
            // Each engine compiles its kernels: some of each.
            let on_gpu = c.name.starts_with("webgpu");
            if on_gpu && (c.name != "webgpu" || !["llama", "qwen35moe"].contains(&name)) {
                continue;
            }
            for (i, params) in all.iter().enumerate().take(if on_gpu { 2 } else { all.len() }) {
                let want = generate(name, &|| (c.make)(), prompt, params, &[]);
                assert!(want.0.len() >= 12 && !want.1.is_empty(), "{name} on {}: {want:?}", c.name);
                let lives = [vec![9, 12], vec![1], vec![20], vec![want.0.len()], vec![3, 0, 9, 2]];
                for lives in lives.into_iter().take(if on_gpu { 1 } else { 5 }) {
                    let got = generate(name, &|| (c.make)(), prompt, params, &lives);
                    assert_eq!(got, want, "{name} on {} with parameters {i}, lost after {lives:?}", c.name);
                }
            }
        }
    }
}

#[test]
fn what_is_no_journal_of_the_request_is_refused() {
    let body = json!({ "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 5, "ignore_eos": true });
    let refused = |journal: &[u32]| {
        let Model { api, tokenizer, mut engine } = model(None);
        let mut runs = Runs::new(3);
        let host = Host { engine: &mut engine, encoder: None, tokenizer: &tokenizer, now: &|| 0.0, sequences: &[] };
        let body = body.to_string();
        let asked = runs.request(host, &api, ("POST", CHAT, body.as_bytes()), &given(), journal).unwrap();
        assert!(asked.run.is_none() && runs.is_empty(), "{journal:?} is taken");
        assert_eq!(engine.held(), ([0, 0], 0));
        let text = serde_json::to_string(&asked.pieces).unwrap();
        assert!(text.contains("\"status\":4"), "{text}");
        text
    };
    // A kind that there is not, an entry that is cut, another answer, no such token, more than were asked for, and one after
    // the end.
    assert!(refused(&[7]).contains("number 0"));
    assert!(refused(&[0, 3]).contains("number 1"));
    assert!(refused(&[0, 3 | 4 << 3, 9]).contains("answer 4"));
    assert!(refused(&[0, 3, 1 << 30]).contains("no such token"));
    assert!(refused(&[0, 3, 9, 3, 9, 3, 9, 3, 9, 3, 9, 3, 9]).contains("max-tokens"));
    assert!(refused(&[0, 5, 2, 3, 9]).contains("no generation"));
}

#[test]
fn a_generation_that_broke_its_grammar_is_refused() {
    let (numbers, _) = golden::load("llama");
    let file = golden::load("llama").1;
    let tokenizer = Tokenizer::from_gguf(&Gguf::parse(&file).unwrap().meta).unwrap();
    let mut engine = golden::open(&file, Box::new(Cpu::new(1)), OPTIONS).unwrap().into_engine();
    let grammar = Some(GrammarSource::Regex("[0-9]{8}".to_string()));
    let params = GenerateParams { grammar, ..GenerateParams::default() };
    let x = tokenizer.encode("x", Default::default()).unwrap();
    let mut runs = Runs::new(1);
    let host = Host { engine: &mut engine, encoder: None, tokenizer: &tokenizer, now: &|| 0.0, sequences: &[] };
    let journal = [3, *x.last().unwrap()];
    let prompt = &numbers.prompts[1].ids;
    runs.generate(host, prompt, params, &journal).expect_err("x is no digit");
    assert!(runs.is_empty());
}
