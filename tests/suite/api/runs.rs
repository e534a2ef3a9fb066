//! Requests and generations beside each other, as a page runs them.

use std::collections::BTreeMap;

use pagelm::api::{Host, News, Piece, Response, Runs};
use pagelm::backend::cpu::Cpu;
use pagelm::engine::{Event, GenerateParams, SamplerParams};
use pollster::block_on;
use serde_json::{Value as Json, json};

use super::{Model, OPTIONS, given, open, open_with};
use crate::common::faulty::Faulty;
use crate::common::{fixtures, golden};

const CHAT: &str = "/v1/chat/completions";

fn greedy(more: &Json) -> Json {
    let mut body = json!({
        "messages": [{ "role": "user", "content": "a b" }], "temperature": 0, "max_tokens": 4, "ignore_eos": true,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// A model and what runs on it, and what each run has said.
struct Page {
    model: Model,
    runs: Runs,
    said: BTreeMap<u32, Vec<Piece>>,
    over: Vec<u32>,
}

fn page(model: Model) -> Page {
    Page { model, runs: Runs::new(4), said: BTreeMap::new(), over: Vec::new() }
}

impl Page {
    fn ask(&mut self, path: &str, body: &str) -> (Option<u32>, Vec<Piece>) {
        let Model { api, tokenizer, engine } = &mut self.model;
        let host = Host { engine, encoder: None, tokenizer, now: &|| 0.0, sequences: &[] };
        let asked = self.runs.request(host, api, ("POST", path, body.as_bytes()), &given(), &[]).unwrap();
        (asked.run, asked.pieces)
    }

    /// Starts a request that runs.
    fn start(&mut self, path: &str, body: &Json) -> u32 {
        let (run, pieces) = self.ask(path, &body.to_string());
        let run = run.unwrap_or_else(|| panic!("{body}: {pieces:?}"));
        self.said.insert(run, pieces);
        run
    }

    fn generate(&mut self, ids: &[u32], max_tokens: usize) -> u32 {
        let Model { tokenizer, engine, .. } = &mut self.model;
        let host = Host { engine, encoder: None, tokenizer, now: &|| 0.0, sequences: &[] };
        let sampler = SamplerParams { temperature: 0.0, ..SamplerParams::default() };
        let params =
            GenerateParams { max_tokens: Some(max_tokens), ignore_eos: true, sampler, ..GenerateParams::default() };
        self.runs.generate(host, ids, params, &[]).unwrap().unwrap()
    }

    /// One step of these runs.
    fn step(&mut self, wanted: &[u32]) -> Vec<News> {
        let Model { tokenizer, engine, .. } = &mut self.model;
        let news =
            block_on(self.runs.next(Host { engine, encoder: None, tokenizer, now: &|| 0.0, sequences: &[] }, wanted))
                .unwrap();
        for n in &news {
            assert!(wanted.contains(&n.run) && !self.over.contains(&n.run), "run {} says something", n.run);
            self.said.entry(n.run).or_default().extend(n.pieces.clone());
            if n.done {
                self.over.push(n.run);
            }
        }
        news
    }

    /// Runs these to their end.
    fn finish(&mut self, wanted: &[u32]) {
        while !wanted.iter().all(|run| self.over.contains(run)) {
            assert!(!self.step(wanted).is_empty(), "something runs");
        }
    }

    /// Status, whether it streams, names that are not known, and the texts of a response.
    fn response(&self, run: u32) -> (u16, bool, String, Vec<String>) {
        response(&self.said[&run])
    }
}

fn response(pieces: &[Piece]) -> (u16, bool, String, Vec<String>) {
    let mut parts = pieces.iter().filter_map(|piece| match piece {
        Piece::Event(Event::Prefill { .. }) | Piece::Seen(_) => None,
        Piece::Event(event) => panic!("a request has no event {event:?}"),
        Piece::Response(part) => Some(part.clone()),
    });
    let Some(Response::Head { status, stream, unknown }) = parts.next() else { panic!("a head comes first") };
    let body = parts.map(|part| match part {
        Response::Body { text } => text,
        head @ Response::Head { .. } => panic!("another {head:?}"),
    });
    (status, stream, unknown, body.collect())
}

#[test]
fn requests_and_generations_share_steps_and_say_what_each_says_alone() {
    let mut page = page(open());
    let alone = page.start(CHAT, &greedy(&json!({ "mood": 1 })));
    page.finish(&[alone]);
    let (status, stream, unknown, body) = page.response(alone);
    assert_eq!((status, stream, unknown.as_str(), body.len()), (200, false, "mood", 1));
    let body: Json = serde_json::from_str(&body[0]).unwrap();
    let text = body["choices"][0]["message"]["content"].as_str().unwrap();

    let whole = page.start(CHAT, &greedy(&json!({ "n": 2 })));
    let streamed = page.start(CHAT, &greedy(&json!({ "stream": true })));
    let generation = page.generate(&[5, 6, 7], 4);
    let before = page.model.engine.stats().done.steps;
    page.finish(&[whole, streamed, generation]);
    let steps = page.model.engine.stats().done.steps - before;
    assert!(steps < 12, "{steps} steps for four answers of four tokens");
    assert!(page.runs.is_empty());

    let (_, _, _, body) = page.response(whole);
    let body: Json = serde_json::from_str(&body[0]).unwrap();
    assert_eq!(body["choices"].as_array().unwrap().len(), 2);
    for choice in body["choices"].as_array().unwrap() {
        assert_eq!(choice["message"]["content"], text);
    }
    let (_, stream, _, events) = page.response(streamed);
    assert!(stream);
    let (last, events) = events.split_last().unwrap();
    assert_eq!(last, "data: [DONE]\n\n");
    let delta = |event: &String| {
        let data: Json = serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
        data["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_string()
    };
    assert_eq!(events.iter().map(delta).collect::<String>(), text);
    let tokens = page.said[&generation].iter().filter(|p| matches!(p, Piece::Event(Event::Token { .. })));
    assert_eq!(tokens.count(), 4);
    assert!(matches!(page.said[&generation].last(), Some(Piece::Event(Event::Done { .. }))));
}

#[test]
fn what_nobody_wants_now_waits_and_what_is_stopped_says_nothing_more() {
    let mut page = page(open());
    let (one, two) = (page.start(CHAT, &greedy(&json!({}))), page.start(CHAT, &greedy(&json!({ "n": 3 }))));
    page.finish(&[one]);
    assert!(page.said[&two].is_empty());
    page.step(&[two]);
    page.runs.stop(&mut page.model.engine, two);
    assert!(page.runs.is_empty());
    assert!(page.step(&[two]).is_empty());
    let three = page.generate(&[5, 6], 2);
    page.finish(&[three]);
}

#[test]
fn what_is_refused_or_known_at_once_does_not_run() {
    let mut page = page(open());
    let long = greedy(&json!({ "messages": [{ "role": "user", "content": "a ".repeat(300) }] })).to_string();
    for (path, body, status) in [(CHAT, "{", 400), ("/v1/other", "{}", 404), (CHAT, &*long, 400)] {
        let (run, pieces) = page.ask(path, body);
        assert_eq!(run, None);
        let (got, stream, _, body) = response(&pieces);
        assert_eq!((got, stream), (status, false));
        assert!(serde_json::from_str::<Json>(&body[0]).unwrap()["error"]["message"].is_string());
    }
    // None of its answers is left.
    assert!(page.runs.is_empty());
}

#[test]
fn an_error_of_a_step_is_the_answer_of_all_that_ran() {
    let file = fixtures::bytes("golden/qwen2.gguf");
    let engine =
        golden::open(&file, Box::new(Faulty::new(Cpu::new(1)).fail_in(Some(2))), OPTIONS).unwrap().into_engine();
    let mut page = page(Model { engine, ..open() });
    let streamed = page.start(CHAT, &greedy(&json!({ "stream": true, "max_tokens": 100 })));
    let whole = page.start(CHAT, &greedy(&json!({ "max_tokens": 100 })));
    let generation = page.generate(&[5, 6], 100);
    let all = [streamed, whole, generation];
    while page.over.is_empty() {
        let news = page.step(&all);
        assert!(!news.is_empty());
        assert!(news.iter().all(|n| n.error.is_some() == (n.done && n.run == generation)));
    }
    assert!(page.runs.is_empty());
    let (status, stream, _, events) = page.response(streamed);
    assert_eq!((status, stream), (200, true));
    assert!(events.last().unwrap().contains("\"error\""));
    let (status, _, _, body) = page.response(whole);
    assert_eq!((status, body.len()), (500, 1));
}

#[test]
fn texts_are_embedded_some_at_a_time() {
    let mut page = page(open_with("gemma-embedding", None, |_| {}, OPTIONS));
    let texts: Vec<_> = (0..20).map(|i| format!("text {i}")).collect();
    let run = page.start("/v1/embeddings", &json!({ "input": texts }));
    assert!(!page.step(&[run])[0].done);
    page.finish(&[run]);
    let (status, _, _, body) = page.response(run);
    let body: Json = serde_json::from_str(&body[0]).unwrap();
    assert_eq!((status, body["data"].as_array().unwrap().len()), (200, 20));
    // A model that generates makes none.
    let mut page = super::runs::page(open());
    let run = page.start("/v1/embeddings", &json!({ "input": "a" }));
    page.finish(&[run]);
    assert_eq!(page.response(run).0, 400);
}
