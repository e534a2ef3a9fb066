//! Many sequences on one engine: whatever they share, each gives what it gives alone.

mod generate_batch;
mod random;
pub(crate) mod snapshot;
mod stats;

use std::collections::BTreeMap;

use pagelm::ErrorKind;
use pagelm::backend::Backend;
use pagelm::backend::cpu::Cpu;
use pagelm::engine::{
    Batch, Engine, Event, GenerateParams, Model, Options, ProposerName, SamplerParams, SpeculateParams,
};
use pagelm::gguf::Gguf;
use pagelm::text::Tokenizer;
use pollster::block_on;

use super::golden::FIXTURES;
use crate::common::backends;
use crate::common::golden::{self, argmax, max_diff};

fn open(name: &str, backend: Box<dyn Backend>, options: Options) -> Engine {
    let (_, file) = golden::load(name);
    let gguf = Gguf::parse(&file).unwrap();
    let model = Model::new(&gguf, &|d| backend.supports(d), &options).unwrap();
    model.load(&gguf, &file, backend).unwrap().into_engine()
}

/// Full attention, windows, recurrent states, experts, and a block for multi-token prediction.
const MODELS: [&str; 6] = ["llama", "gemma3", "qwen35", "qwen3moe", "qwen35moe", "qwen35_mtp"];

/// Greedy generation of `n` tokens after a prompt.
fn greedy(n: usize) -> GenerateParams {
    GenerateParams {
        max_tokens: Some(n),
        sampler: SamplerParams::greedy(),
        ignore_eos: true,
        ..GenerateParams::default()
    }
}

fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::from_gguf(&Gguf::parse(&golden::load(name).1).unwrap().meta).unwrap()
}

/// Runs a batch to its end: the tokens of each generation, by number.
fn drive(batch: &mut Batch, engine: &mut Engine, tokenizer: &Tokenizer) -> BTreeMap<u64, Vec<u32>> {
    let mut all: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    loop {
        let events = block_on(batch.next(engine, tokenizer, &|| 0.0)).unwrap();
        if events.is_empty() {
            assert!(batch.is_empty());
            return all;
        }
        for (id, event) in events {
            if let Event::Token { id: token, .. } = event.unwrap() {
                all.entry(id).or_default().push(token);
            }
        }
    }
}

#[test]
fn every_golden_prompt_says_the_same_beside_two_others() {
    for name in FIXTURES {
        let (numbers, _) = golden::load(name);
        let tokenizer = tokenizer(name);
        for c in backends::all() {
            let options =
                Options { n_ctx: Some(96), cache: Some(400), sequences: 3, max_tokens: 20, ..Options::DEFAULT };
            let mut engine = open(name, (c.make)(), options);
            let mut batch = Batch::default();
            let mut want = BTreeMap::new();
            for p in &numbers.prompts {
                let Some(greedy_ids) = &p.greedy else { continue };
                let id = batch.add(&mut engine, &tokenizer, &p.ids, greedy(greedy_ids.tokens.len()), 0.0).unwrap();
                want.insert(id, greedy_ids.tokens.clone());
            }
            // And one that starts like another, but goes on for longer.
            let other: Vec<u32> = numbers.prompts[0].ids.iter().rev().copied().collect();
            batch.add(&mut engine, &tokenizer, &other, greedy(20), 0.0).unwrap();
            let got = drive(&mut batch, &mut engine, &tokenizer);
            for (id, want) in want {
                assert_eq!(got[&id], want, "{name} on {}", c.name);
            }
        }
    }
}

#[test]
fn a_prompt_forked_at_each_split_goes_on_like_the_whole() {
    for name in FIXTURES {
        let (numbers, _) = golden::load(name);
        let ids = &numbers.prompts[1].ids;
        for c in backends::all() {
            let options =
                Options { n_ctx: Some(64), cache: Some(256), sequences: 2, max_tokens: 16, ..Options::DEFAULT };
            let mut engine = open(name, (c.make)(), options);
            let mut whole = engine.sequence();
            let want = block_on(engine.prefill(&mut whole, ids)).unwrap().to_vec();
            for n in 0..ids.len() {
                let mut fork = engine.fork(&whole, n).unwrap();
                let got = block_on(engine.prefill(&mut fork, &ids[n..])).unwrap().to_vec();
                // On a GPU other kernels run for steps of other lengths; curves of its tanh and exp are loose.
                let (diff, most) = (max_diff(&got, &want), if c.name.starts_with("webgpu") { 2e-3 } else { 0.0 });
                assert!(diff <= most, "{name} on {}, forked after {n}: off by {diff:e}", c.name);
                assert_eq!(argmax(&got), argmax(&want));
            }
            // The one that was forked has kept what it had.
            let more = block_on(engine.prefill(&mut whole, &[7])).unwrap().to_vec();
            let mut alone = engine.sequence();
            block_on(engine.prefill(&mut alone, ids)).unwrap();
            let want = block_on(engine.prefill(&mut alone, &[7])).unwrap();
            assert!(max_diff(&more, want) <= 2e-3, "{name} on {}", c.name);
        }
    }
}

#[test]
fn a_conversation_is_gone_on_with_after_others_without_running_it_again() {
    let tokenizer = tokenizer("llama");
    let options = Options { n_ctx: Some(256), cache: Some(1024), max_tokens: 32, ..Options::DEFAULT };
    let mut engine = open("llama", Box::new(Cpu::new(1)), options);
    let system: Vec<u32> = (0..100).map(|i| 50 + i % 30).collect();
    let ask = |engine: &mut Engine, prompt: &[u32]| {
        let mut batch = Batch::default();
        batch.add(engine, &tokenizer, prompt, greedy(3), 0.0).unwrap();
        let mut answer = Vec::new();
        loop {
            for (_, event) in block_on(batch.next(engine, &tokenizer, &|| 0.0)).unwrap() {
                match event.unwrap() {
                    Event::Token { id, .. } => answer.push(id),
                    Event::Done { usage, .. } => return (answer, usage.cached_tokens),
                    Event::Prefill { .. } => {}
                }
            }
        }
    };
    let first = [&system[..], &[101, 102]].concat();
    let second = [&system[..], &[103]].concat();
    let (answer, cached) = ask(&mut engine, &first);
    assert_eq!(cached, 0);
    // Another conversation shares the beginning.
    assert_eq!(ask(&mut engine, &second).1, 100);
    // The first goes on: its prompt and its answer but for the last token, which never ran.
    let again = [&first[..], &answer, &[104]].concat();
    assert_eq!(ask(&mut engine, &again).1, first.len() + 2);
    engine.forget_idle();
    assert_eq!(engine.held(), ([0, 0], 0));
    assert_eq!(ask(&mut engine, &first), (answer, 0));
}

#[test]
fn a_sequence_without_room_is_refused_and_harms_no_other() {
    let options = Options { n_ctx: Some(128), cache: Some(192), ..Options::DEFAULT };
    let mut engine = open("llama", Box::new(Cpu::new(1)), options);
    let (mut a, mut b) = (engine.sequence(), engine.sequence());
    let ids: Vec<u32> = (0..120).map(|i| 40 + i % 50).collect();
    block_on(engine.prefill(&mut a, &ids)).unwrap();
    let e = block_on(engine.prefill(&mut b, &ids)).expect_err("three blocks of four");
    assert_eq!(e.kind(), ErrorKind::CacheFull);
    let got = block_on(engine.prefill(&mut a, &[7])).unwrap().to_vec();
    let mut alone = open("llama", Box::new(Cpu::new(1)), options);
    let mut s = alone.sequence();
    block_on(alone.prefill(&mut s, &ids)).unwrap();
    assert_eq!(got, block_on(alone.prefill(&mut s, &[7])).unwrap());
    // Once the first is gone there is room.
    engine.leave(a);
    block_on(engine.prefill(&mut b, &ids)).unwrap();
}

#[test]
fn a_token_of_four_sequences_is_one_step_and_reads_the_weights_once() {
    let tokenizer = tokenizer("llama");
    let options = Options { n_ctx: Some(64), cache: Some(512), sequences: 4, ..Options::DEFAULT };
    let mut engine = open("llama", Box::new(Cpu::new(1)), options);
    let mut batch = Batch::default();
    for i in 0..4 {
        batch.add(&mut engine, &tokenizer, &[40 + i, 50], greedy(10), 0.0).unwrap();
    }
    let got = drive(&mut batch, &mut engine, &tokenizer);
    assert!(got.values().all(|t| t.len() == 10));
    // One step for all prompts, which gives the first token, and one for each of the others.
    assert_eq!(engine.backend().counters().steps, 10);
}

#[test]
fn one_of_several_generations_can_be_stopped() {
    let tokenizer = tokenizer("llama");
    let options = Options { n_ctx: Some(64), cache: Some(512), sequences: 3, ..Options::DEFAULT };
    let mut engine = open("llama", Box::new(Cpu::new(1)), options);
    let mut batch = Batch::default();
    let ids: Vec<u64> =
        (0..3).map(|i| batch.add(&mut engine, &tokenizer, &[40 + i, 50], greedy(8), 0.0).unwrap()).collect();
    block_on(batch.next(&mut engine, &tokenizer, &|| 0.0)).unwrap();
    batch.stop(&mut engine, ids[1]);
    let got = drive(&mut batch, &mut engine, &tokenizer);
    assert_eq!((got[&ids[0]].len(), got.get(&ids[1]), got[&ids[2]].len()), (8, None, 8));
}

#[test]
fn generations_for_which_there_is_no_room_give_way_and_say_the_same_later() {
    // Recurrent states for one sequence; and blocks for less than two.
    let cases: [(_, usize, Options, Vec<u32>); 2] = [
        ("qwen35", 6, Options { n_ctx: Some(64), cache: Some(640), ..Options::DEFAULT }, vec![50, 60]),
        ("llama", 90, Options { n_ctx: Some(128), cache: Some(128), sequences: 2, ..Options::DEFAULT }, vec![50, 60]),
    ];
    for (name, n, options, rest) in cases {
        let tokenizer = tokenizer(name);
        let mut engine = open(name, Box::new(Cpu::new(1)), options);
        let prompts: Vec<_> = (0..8).map(|i| [&[40 + i], &rest[..]].concat()).collect();
        let mut alone = Vec::new();
        for prompt in &prompts {
            let mut batch = Batch::default();
            batch.add(&mut engine, &tokenizer, prompt, greedy(n), 0.0).unwrap();
            alone.extend(drive(&mut batch, &mut engine, &tokenizer).into_values());
            engine.forget_idle();
        }
        let mut batch = Batch::default();
        for prompt in &prompts {
            batch.add(&mut engine, &tokenizer, prompt, greedy(n), 0.0).unwrap();
        }
        let got = drive(&mut batch, &mut engine, &tokenizer);
        assert_eq!(got.into_values().collect::<Vec<_>>(), alone, "{name}");
        engine.forget_idle();
        assert_eq!(engine.held(), ([0, 0], 0));
    }
}

#[test]
fn a_generation_alone_without_room_is_refused() {
    let options = Options { n_ctx: Some(128), cache: Some(128), ..Options::DEFAULT };
    let mut engine = open("llama", Box::new(Cpu::new(1)), options);
    let mut other = engine.sequence();
    block_on(engine.prefill(&mut other, &[7; 60])).unwrap();
    let mut batch = Batch::default();
    let id = batch.add(&mut engine, &tokenizer("llama"), &[9; 100], greedy(4), 0.0).unwrap();
    let events = block_on(batch.next(&mut engine, &tokenizer("llama"), &|| 0.0)).unwrap();
    assert!(matches!(&events[..], [(i, Err(e))] if *i == id && e.kind() == ErrorKind::CacheFull), "{events:?}");
    assert!(batch.is_empty());
}

#[test]
fn a_prompt_that_is_being_read_is_read_once_for_all() {
    for (name, others) in [("llama", 3), ("qwen35", 2)] {
        let tokenizer = tokenizer(name);
        let options = Options { n_ctx: Some(64), cache: Some(512), sequences: 4, max_tokens: 16, ..Options::DEFAULT };
        let mut engine = open(name, Box::new(Cpu::new(1)), options);
        let prompt: Vec<u32> = (0..40).map(|i| 40 + i).collect();
        let mut batch = Batch::default();
        for _ in 0..=others {
            batch.add(&mut engine, &tokenizer, &prompt, greedy(8), 0.0).unwrap();
        }
        let (mut said, mut cached) = (BTreeMap::<u64, Vec<u32>>::new(), Vec::new());
        while !batch.is_empty() {
            for (id, event) in block_on(batch.next(&mut engine, &tokenizer, &|| 0.0)).unwrap() {
                match event.unwrap() {
                    Event::Token { id: token, .. } => said.entry(id).or_default().push(token),
                    Event::Done { usage, .. } => cached.push((id, usage.cached_tokens)),
                    Event::Prefill { .. } => {}
                }
            }
        }
        let first = said[&1].clone();
        assert!(first.len() == 8 && said.values().all(|s| *s == first), "{name}: {said:?}");
        cached.sort_unstable();
        let want: Vec<_> = (1..=others + 1).map(|id| (id, if id == 1 { 0 } else { 39 })).collect();
        assert_eq!(cached, want, "{name}");
    }
}

#[test]
fn a_generation_goes_on_from_a_sequence_that_others_hold() {
    let tokenizer = tokenizer("llama");
    let options = Options { n_ctx: Some(64), cache: Some(256), sequences: 2, ..Options::DEFAULT };
    let mut engine = open("llama", Box::new(Cpu::new(1)), options);
    let prompt: Vec<u32> = (0..30).map(|i| 40 + i).collect();
    let mut held = engine.sequence();
    block_on(engine.prefill(&mut held, &prompt[..20])).unwrap();
    let mut batch = Batch::default();
    batch.add_beside([&held].into_iter(), &mut engine, &tokenizer, &prompt, greedy(6), 0.0).unwrap();
    let (mut said, mut cached) = (Vec::new(), 0);
    while !batch.is_empty() {
        for (_, event) in block_on(batch.next(&mut engine, &tokenizer, &|| 0.0)).unwrap() {
            match event.unwrap() {
                Event::Token { id, .. } => said.push(id),
                Event::Done { usage, .. } => cached = usage.cached_tokens,
                Event::Prefill { .. } => {}
            }
        }
    }
    assert_eq!((cached, held.tokens()), (20, &prompt[..20]));
    engine.forget_idle();
    batch.add(&mut engine, &tokenizer, &prompt, greedy(6), 0.0).unwrap();
    assert_eq!(drive(&mut batch, &mut engine, &tokenizer)[&2], said);
}

#[test]
fn no_more_run_at_once_than_may_and_the_others_follow_in_their_order() {
    let tokenizer = tokenizer("llama");
    let options = Options { n_ctx: Some(64), cache: Some(512), sequences: 2, ..Options::DEFAULT };
    let mut engine = open("llama", Box::new(Cpu::new(1)), options);
    let mut batch = Batch::new(2);
    for i in 0..5 {
        batch.add(&mut engine, &tokenizer, &[40 + i, 50], greedy(5), 0.0).unwrap();
    }
    let mut done = Vec::new();
    while !batch.is_empty() {
        let events = block_on(batch.next(&mut engine, &tokenizer, &|| 0.0)).unwrap();
        assert!(events.len() <= 2);
        done.extend(events.iter().filter(|(_, e)| matches!(e, Ok(Event::Done { .. }))).map(|(id, _)| *id));
    }
    assert_eq!(done, [1, 2, 3, 4, 5]);
    assert_eq!(engine.backend().counters().steps, 15, "in pairs, and the last alone");
}

#[test]
fn a_generation_that_is_paused_waits_and_others_go_on() {
    let tokenizer = tokenizer("llama");
    let options = Options { n_ctx: Some(64), cache: Some(512), sequences: 2, ..Options::DEFAULT };
    let mut engine = open("llama", Box::new(Cpu::new(1)), options);
    let mut batch = Batch::default();
    let ids: Vec<u64> =
        (0..2).map(|i| batch.add(&mut engine, &tokenizer, &[40 + i, 50], greedy(6), 0.0).unwrap()).collect();
    batch.pause(|id| id == ids[0]);
    let mut all = Vec::new();
    loop {
        let events = block_on(batch.next(&mut engine, &tokenizer, &|| 0.0)).unwrap();
        if events.is_empty() {
            break;
        }
        all.extend(events);
    }
    assert!(all.iter().all(|(id, _)| *id == ids[1]));
    assert_eq!((batch.len(), all.len()), (1, 8), "a part of a prompt, six tokens and the end");
    batch.pause(|_| false);
    assert_eq!(drive(&mut batch, &mut engine, &tokenizer)[&ids[0]].len(), 6);
}

#[test]
fn a_generation_speculates_while_it_is_alone() {
    let tokenizer = tokenizer("llama");
    let options = Options { n_ctx: Some(256), cache: Some(512), sequences: 2, drafts: 4, ..Options::DEFAULT };
    let mut engine = open("llama", Box::new(Cpu::new(1)), options);
    let speculate = Some(SpeculateParams { proposer: ProposerName::Lookup, max_draft: None });
    let prompt: Vec<u32> = (0..60).map(|i| 40 + i % 6).collect();
    let mut batch = Batch::default();
    batch.add(&mut engine, &tokenizer, &prompt, greedy(40), 0.0).unwrap();
    let want = drive(&mut batch, &mut engine, &tokenizer).remove(&1).unwrap();
    engine.forget_idle();
    // The other one ends first.
    let one = batch.add(&mut engine, &tokenizer, &prompt, GenerateParams { speculate, ..greedy(40) }, 0.0).unwrap();
    let two = batch.add(&mut engine, &tokenizer, &[7, 8], greedy(10), 0.0).unwrap();
    let (mut got, mut ended, mut steps) = (Vec::new(), Vec::new(), 0);
    while !batch.is_empty() {
        for (id, event) in block_on(batch.next(&mut engine, &tokenizer, &|| 0.0)).unwrap() {
            match event.unwrap() {
                Event::Token { id: token, .. } if id == one => got.push(token),
                Event::Done { usage, .. } => {
                    ended.push(id);
                    steps = usage.speculated.steps;
                }
                _ => {}
            }
        }
    }
    assert_eq!((got, ended), (want, vec![two, one]));
    assert!((1..=30).contains(&steps), "{steps} steps alone after ten beside another");
}

#[test]
fn a_cache_that_is_smaller_than_the_context_is_refused() {
    let (_, file) = golden::load("llama");
    let gguf = Gguf::parse(&file).unwrap();
    let options = Options { n_ctx: Some(128), cache: Some(100), ..Options::DEFAULT };
    let e = Model::new(&gguf, &|_| true, &options).expect_err("is refused");
    assert!(e.detail().contains("100 positions does not hold a context of 128"), "{e}");
}

#[test]
fn a_sequence_of_another_engine_is_refused_and_harms_neither() {
    let options = Options { n_ctx: Some(64), sequences: 2, ..Options::DEFAULT };
    let [mut a, mut b] = [(); 2].map(|()| open("llama", Box::new(Cpu::new(1)), options));
    let (mut of_a, mut of_b) = (a.sequence(), b.sequence());
    let want = block_on(a.prefill(&mut of_a, &[1, 2, 3])).unwrap().to_vec();
    block_on(b.prefill(&mut of_b, &[9])).unwrap();
    let refused = |e: pagelm::Error| assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{e}");
    refused(block_on(b.prefill(&mut of_a, &[4])).unwrap_err());
    refused(b.rollback(&mut of_a, 1).unwrap_err());
    refused(b.fork(&of_a, 1).err().expect("it is another's"));
    refused(block_on(b.save(&mut of_a, &mut |_| Ok(()))).unwrap_err());
    b.leave(of_a);
    assert_eq!(a.held(), ([0, 0], 0), "what was left to the wrong engine is free");
    let mut again = a.sequence();
    assert_eq!(block_on(a.prefill(&mut again, &[1, 2, 3])).unwrap(), want);
}
