//! The generation loop on small models.

mod control;

use std::cell::Cell;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use pagelm::ErrorKind;
use pagelm::Result;
use pagelm::backend::Backend;
use pagelm::backend::reference::Reference;
use pagelm::engine::{Event, GenerateParams, Generation, Model, Options, SamplerParams, Session, StopReason, Usage};
use pagelm::gguf::{Array, Gguf, Value};
use pagelm::graph::Plan;
use pagelm::text::{EncodeOptions, Tokenizer};
use pollster::block_on;

use crate::common::backends;
use crate::common::faulty::Faulty;
use crate::common::golden::{self, Golden};

const OPTIONS: Options = Options { n_ctx: Some(64), max_tokens: 16, max_outputs: 1, ..Options::DEFAULT };

/// A model, its tokenizer and a clock that advances 10 ms per look.
struct Bench {
    session: Session,
    tokenizer: Tokenizer,
    clock: Cell<f64>,
    numbers: Golden,
}

/// What came of a generation.
#[derive(Debug, PartialEq)]
struct Outcome {
    prefill: Vec<(usize, usize)>,
    tokens: Vec<u32>,
    text: String,
    reason: StopReason,
    usage: Usage,
}

impl Bench {
    fn new(backend: Box<dyn Backend>) -> Self {
        let (numbers, file) = golden::load("llama");
        let tokenizer = Tokenizer::from_gguf(&Gguf::parse(&file).unwrap().meta).unwrap();
        let session = golden::open(&file, backend, OPTIONS).unwrap();
        Self { session, tokenizer, clock: Cell::new(0.0), numbers }
    }

    fn start(&mut self, prompt: &[u32], params: GenerateParams) -> Result<Generation> {
        let now = self.clock.get();
        Generation::new(&mut self.session, &self.tokenizer, prompt, params, now)
    }

    fn next(&mut self, g: &mut Generation) -> Result<Option<Event>> {
        let clock = &self.clock;
        let now = || {
            clock.set(clock.get() + 10.0);
            clock.get()
        };
        block_on(g.next(&mut self.session, &self.tokenizer, &now))
    }

    fn run(&mut self, prompt: &[u32], params: GenerateParams) -> Outcome {
        let mut g = self.start(prompt, params).unwrap();
        let (mut prefill, mut tokens, mut all) = (Vec::new(), Vec::new(), String::new());
        loop {
            let before = self.session.backend().counters().steps;
            let event = self.next(&mut g).unwrap().expect("no end before `Done`");
            assert!(self.session.backend().counters().steps <= before + 1, "more than one step in a call");
            match event {
                Event::Prefill { done, total } => prefill.push((done, total)),
                Event::Token { id, text, .. } => {
                    tokens.push(id);
                    all += &text;
                }
                Event::Done { text, reason, usage } => {
                    assert_eq!(self.next(&mut g).unwrap(), None);
                    return Outcome { prefill, tokens, text: all + &text, reason, usage };
                }
            }
        }
    }

    /// The prompt of 24 tokens and the 16 that follow it.
    fn reference(&self) -> (Vec<u32>, Vec<u32>) {
        let p = &self.numbers.prompts[1];
        (p.ids.clone(), p.greedy.as_ref().expect("the second prompt has greedy tokens").tokens.clone())
    }

    fn text(&self, ids: &[u32]) -> String {
        String::from_utf8_lossy(&self.tokenizer.decode(ids, false)).into_owned()
    }
}

fn greedy(max_tokens: usize) -> GenerateParams {
    GenerateParams {
        max_tokens: Some(max_tokens),
        sampler: SamplerParams::greedy(),
        ignore_eos: true,
        ..GenerateParams::default()
    }
}

fn bench() -> Bench {
    Bench::new(Box::new(Reference::new()))
}

#[test]
fn greedy_tokens_are_those_of_the_reference() {
    let mut b = bench();
    let (prompt, want) = b.reference();
    let got = b.run(&prompt, greedy(16));
    assert_eq!(got.tokens, want);
    assert_eq!(got.reason, StopReason::MaxTokens);
    assert_eq!(got.text, b.text(&want));
    assert_eq!(got.prefill, [(16, 24), (24, 24)]);
}

#[test]
fn usage_counts_tokens_and_times() {
    let mut b = bench();
    let (prompt, _) = b.reference();
    let usage = b.run(&prompt, greedy(5)).usage;
    // The clock is looked at once per chosen token.
    let want = Usage {
        prompt_tokens: 24,
        cached_tokens: 0,
        completion_tokens: 5,
        time_to_first_token_ms: 10.0,
        prefill_tokens_per_s: 2400.0,
        decode_tokens_per_s: 100.0,
        speculated: Default::default(),
    };
    assert_eq!(usage, want);
    let one = b.run(&prompt, greedy(1)).usage;
    assert_eq!((one.cached_tokens, one.prefill_tokens_per_s, one.decode_tokens_per_s), (23, 100.0, 0.0));
}

#[test]
fn no_token_is_made_where_none_is_wanted() {
    let mut b = bench();
    let got = b.run(&[1, 2, 3], greedy(0));
    assert_eq!((got.tokens, got.reason), (vec![], StopReason::MaxTokens));
    assert_eq!((got.prefill, b.session.tokens().len()), (vec![(3, 3)], 3));
}

#[test]
fn a_full_context_ends_the_generation_without_an_error() {
    let mut b = bench();
    let (prompt, want) = b.reference();
    let got = b.run(&prompt, GenerateParams { max_tokens: None, ..greedy(0) });
    // The token after the last row of the cache is still made.
    assert_eq!((got.reason, got.tokens.len()), (StopReason::ContextFull, 64 - 24 + 1));
    assert_eq!(got.tokens[..16], want);
    let full: Vec<u32> = (0..64).collect();
    assert_eq!(b.run(&full, greedy(9)).tokens.len(), 1);
}

#[test]
fn prompts_that_cannot_run_leave_the_cache_alone() {
    let mut b = bench();
    b.run(&[1, 2, 3], greedy(2));
    let before = b.session.tokens().to_vec();
    let mut refused = |prompt: &[u32], params: GenerateParams| b.start(prompt, params).err().expect("refused").kind();
    assert_eq!(refused(&[], greedy(1)), ErrorKind::EmptyPrompt);
    assert_eq!(refused(&[9, 100_000], greedy(1)), ErrorKind::TokenOutOfRange);
    assert_eq!(refused(&[9; 65], greedy(1)), ErrorKind::ContextOverflow);
    let empty = GenerateParams { stop: vec![String::new()], ..greedy(1) };
    assert_eq!(refused(&[9], empty), ErrorKind::InvalidArgument);
    let hot = SamplerParams { temperature: f32::NAN, ..SamplerParams::default() };
    assert_eq!(refused(&[9], GenerateParams { sampler: hot, ..greedy(1) }), ErrorKind::InvalidArgument);
    assert_eq!(b.session.tokens(), before);
}

#[test]
fn a_shared_prefix_is_not_run_again_and_changes_no_token() {
    let mut b = bench();
    let (mut prompt, _) = b.reference();
    let first = b.run(&prompt, greedy(8));
    prompt.extend(&first.tokens);
    prompt.extend([7, 8, 9]);
    let again = b.run(&prompt, greedy(8));
    // All but the last token of the first answer, which was never run.
    assert_eq!(again.usage.cached_tokens, 24 + 7);
    assert_eq!(again.prefill, [(35, 35)]);
    b.session.rollback(0).unwrap();
    let cold = b.run(&prompt, greedy(8));
    assert_eq!(cold.usage.cached_tokens, 0);
    assert_eq!(again.tokens, cold.tokens);
}

#[test]
fn a_stop_string_ends_the_text_before_it_wherever_tokens_are_cut() {
    let mut b = bench();
    let (prompt, want) = b.reference();
    let text = b.text(&want);
    let ends: Vec<usize> = text.char_indices().map(|(i, _)| i).collect();
    for window in ends.windows(4) {
        let stop = text[window[0]..window[3]].to_string();
        let cut = text.find(&stop).expect("it was cut out of the text");
        let got = b.run(&prompt, GenerateParams { stop: vec!["not there".into(), stop.clone()], ..greedy(16) });
        assert_eq!((got.reason, got.text.as_str()), (StopReason::StopString, &text[..cut]), "stop at {stop:?}");
        assert!(want.starts_with(&got.tokens));
    }
}

#[test]
fn text_held_back_for_a_stop_string_comes_at_the_end() {
    let mut b = bench();
    let (prompt, want) = b.reference();
    let text = b.text(&want);
    let tail: String = text.chars().rev().take(2).collect::<Vec<_>>().into_iter().rev().collect();
    let got = b.run(&prompt, GenerateParams { stop: vec![format!("{tail} and more")], ..greedy(16) });
    assert_eq!((got.reason, got.text), (StopReason::MaxTokens, text));
}

#[test]
fn an_end_of_sequence_token_ends_it_and_is_not_part_of_it() {
    let mut b = bench();
    let eos = b.tokenizer.end_of_generation()[0];
    let sampler = SamplerParams { logit_bias: vec![(eos, 1000.0)], ..SamplerParams::greedy() };
    let params = GenerateParams { sampler, ignore_eos: false, ..greedy(4) };
    let got = b.run(&[1, 2, 3], params.clone());
    assert_eq!((got.reason, got.tokens, got.text.as_str()), (StopReason::EndOfSequence, vec![], ""));
    let got = b.run(&[1, 2, 3], GenerateParams { ignore_eos: true, ..params });
    assert_eq!((got.reason, got.tokens), (StopReason::MaxTokens, vec![eos; 4]));
}

#[test]
fn the_same_seed_gives_the_same_text_and_another_seed_another() {
    let mut b = bench();
    let (prompt, _) = b.reference();
    let mut run = |seed| {
        b.run(&prompt, GenerateParams { sampler: SamplerParams { seed, ..Default::default() }, ..greedy(16) }).tokens
    };
    let first = run(1);
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
}

#[test]
fn a_generation_dropped_at_any_event_leaves_the_session_usable() {
    let mut b = bench();
    let (prompt, want) = b.reference();
    for events in 0..8 {
        b.session.rollback(0).unwrap();
        let mut g = b.start(&prompt, greedy(16)).unwrap();
        for _ in 0..events {
            b.next(&mut g).unwrap();
        }
        drop(g);
        assert_eq!(b.run(&prompt, greedy(16)).tokens, want, "dropped after {events} events");
    }
}

#[test]
fn a_session_used_by_something_else_is_noticed() {
    let mut b = bench();
    let mut g = b.start(&[1, 2, 3], greedy(16)).unwrap();
    b.next(&mut g).unwrap();
    b.next(&mut g).unwrap();
    b.session.rollback(1).unwrap();
    assert_eq!(b.next(&mut g).unwrap_err().kind(), ErrorKind::InvalidState);
    assert_eq!(b.next(&mut g).unwrap(), None);
}

/// The reference with logits put in its place in some steps, each read in two polls.
fn poked(poke: fn(u64, &mut [f32])) -> Bench {
    let poke = move |_: &Plan, step, logits: &mut [f32]| poke(step, logits);
    Bench::new(Box::new(Faulty::new(Reference::new()).slow().poke(poke)))
}

#[test]
fn degenerate_logits_are_an_error_and_no_token_and_the_session_goes_on() {
    let pokes: [fn(u64, &mut [f32]); 4] = [
        |n, row| {
            if n == 3 {
                row.fill(0.5)
            }
        },
        |n, row| {
            if n == 3 {
                row.fill(f32::NEG_INFINITY)
            }
        },
        |n, row| {
            if n == 3 {
                row[7] = f32::NAN
            }
        },
        |n, row| {
            if n == 3 {
                row[7] = f32::INFINITY
            }
        },
    ];
    for poke in pokes {
        let mut b = poked(poke);
        let prompt = [1, 2, 3];
        let mut g = b.start(&prompt, greedy(8)).unwrap();
        let failed = loop {
            match b.next(&mut g) {
                Ok(event) => assert!(event.is_some(), "no error came"),
                Err(e) => break e,
            }
        };
        assert_eq!(failed.kind(), ErrorKind::DegenerateLogits);
        assert_eq!(g.generated().len(), 2);
        assert_eq!(b.next(&mut g).unwrap(), None);
        assert_eq!(b.run(&prompt, greedy(8)).tokens.len(), 8);
    }
}

#[test]
fn a_dropped_future_of_next_loses_no_token() {
    let mut b = poked(|_, _| ());
    let (prompt, want) = b.reference();
    let mut g = b.start(&prompt, greedy(16)).unwrap();
    let mut tokens = Vec::new();
    loop {
        {
            let now = || 0.0;
            let mut future = pin!(g.next(&mut b.session, &b.tokenizer, &now));
            if let Poll::Ready(event) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                match event.unwrap() {
                    Some(Event::Token { id, .. }) => tokens.push(id),
                    Some(Event::Done { .. }) => break,
                    other => panic!("{other:?} without a step"),
                }
            }
        }
        match b.next(&mut g).unwrap() {
            Some(Event::Token { id, .. }) => tokens.push(id),
            Some(Event::Done { .. }) => break,
            other => assert!(matches!(other, Some(Event::Prefill { .. }))),
        }
    }
    assert_eq!(tokens, want);
}

#[test]
fn a_prompt_from_the_tokenizer_streams_text_that_adds_up() {
    let mut b = bench();
    let options = EncodeOptions { add_special: true, parse_special: false };
    let prompt = b.tokenizer.encode("Hello, world", options).unwrap();
    let got = b.run(&prompt, greedy(20));
    assert_eq!(got.text, b.text(&got.tokens));
}
