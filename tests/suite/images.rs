//! Images in sequences: rollback, forks, snapshots, batches, and what is refused.

mod encoders;
mod gemma;
mod slices;

use pagelm::backend::Backend;
use pagelm::backend::cpu::Cpu;
use pagelm::backend::reference::Reference;
use pagelm::engine::{
    Batch, Encoder, Engine, Event, GenerateParams, Image, ImageRows, Model, Options, ProposerName, SamplerParams,
    Sequence, SpeculateParams, VisionModel, VisionOptions,
};
use pagelm::gguf::{Gguf, Value};
use pagelm::image::Pixels;
use pagelm::text::Tokenizer;
use pagelm::{DType, ErrorKind, quant};
use pollster::block_on;
use std::task::{Context, Poll, Waker};

use super::golden::images::{Case, FIXTURES, encoder, engine, given_rows, load};
use super::sequences::snapshot::{reader, saved};
use crate::common::backends;
use crate::common::faulty::Faulty;
use crate::common::fixtures;
use crate::common::golden::{argmax, max_diff};
use crate::common::rng::Rng;
use crate::common::tol;

/// An engine, and the prompts of the cases of a fixture with their images.
fn prompts(name: &str, engine: &mut Engine) -> Vec<(Vec<u32>, Image, Case)> {
    let numbers = load(name);
    let placeholder = numbers.image_token_id;
    let mut of = |case: Case| {
        let image = engine.add_image(given_rows(&case)).unwrap();
        (case.prompt(placeholder, image.tokens()), image, case)
    };
    numbers.cases.into_iter().map(&mut of).collect()
}

fn last(engine: &mut Engine, s: &mut Sequence, ids: &[u32]) -> Vec<f32> {
    block_on(engine.prefill(s, ids)).unwrap().to_vec()
}

#[test]
fn a_sequence_that_goes_back_into_an_image_or_past_it_goes_on_as_before() {
    for name in FIXTURES {
        for c in backends::all() {
            let mut engine = engine(name, (c.make)());
            let (prompt, _image, _) = prompts(name, &mut engine).swap_remove(0);
            let mut s = engine.sequence();
            let want = last(&mut engine, &mut s, &prompt);
            for n in [prompt.len() - 1, 14, 9, 6, 5, 2, 0] {
                engine.rollback(&mut s, n).unwrap();
                let got = last(&mut engine, &mut s, &prompt[n..]);
                assert!(max_diff(&got, &want) <= 2e-4, "{name} on {}: back to {n}", c.name);
                let mut fork = engine.fork(&s, n).unwrap();
                let got = last(&mut engine, &mut fork, &prompt[n..]);
                assert!(max_diff(&got, &want) <= 2e-4, "{name} on {}: a fork after {n}", c.name);
            }
        }
    }
}

#[test]
fn prompts_share_what_they_have_in_common_but_not_another_image() {
    for name in FIXTURES {
        let mut engine = engine(name, Box::new(Cpu::new(1)));
        let all = prompts(name, &mut engine);
        let (first, image, case) = &all[0];
        let mut s = engine.sequence();
        last(&mut engine, &mut s, first);
        engine.checkpoint(&mut s);
        engine.leave(s);
        let longer = [&first[..], &[1, 2, 3]].concat();
        assert_eq!(engine.resume(&longer).unwrap().tokens(), first, "{name}");
        engine.forget_idle();
        let mut s = engine.sequence();
        last(&mut engine, &mut s, first);
        engine.leave(s);
        // The same text with another image of that size.
        let mut rows = given_rows(case);
        rows.digest ^= 1;
        rows.values.iter_mut().for_each(|v| *v = -*v);
        let other = engine.add_image(rows).unwrap();
        assert_ne!(other.tokens(), image.tokens());
        let prompt = case.prompt(load(name).image_token_id, other.tokens());
        let s = engine.resume(&prompt).unwrap();
        let before = prompt.iter().take_while(|id| **id < 1 << 31).count();
        assert!(s.tokens().len() <= before, "{name}: only the text before the image");
    }
}

#[test]
fn a_saved_sequence_with_images_goes_on_elsewhere_and_can_go_back_into_them() {
    for name in FIXTURES {
        for c in backends::all() {
            let mut one = engine(name, (c.make)());
            let (prompt, image, _) = prompts(name, &mut one).swap_remove(1);
            let mut s = one.sequence();
            let want = last(&mut one, &mut s, &prompt);
            let bytes = saved(&mut one, &mut s).unwrap();
            let next = last(&mut one, &mut s, &[7]);
            let mut other = engine(name, (c.make)());
            let mut restored = other.restore(&mut reader(&bytes)).unwrap();
            let got = last(&mut other, &mut restored, &[7]);
            assert_eq!(got, next, "{name} on {}", c.name);
            other.rollback(&mut restored, 8).unwrap();
            let got = last(&mut other, &mut restored, &prompt[8..]);
            assert!(max_diff(&got, &want) <= 2e-4, "{name} on {}", c.name);
            assert_eq!(other.image(image.rows().digest).unwrap().unwrap().tokens(), image.tokens());
        }
    }
}

#[test]
fn snapshots_of_images_that_are_cut_or_changed_are_refused() {
    let mut one = engine("qwen3vl", Box::new(Cpu::new(1)));
    let (prompt, _image, _) = prompts("qwen3vl", &mut one).swap_remove(0);
    let mut s = one.sequence();
    last(&mut one, &mut s, &prompt);
    let bytes = saved(&mut one, &mut s).unwrap();
    for at in (0..400).chain((400..bytes.len()).step_by(997)) {
        let mut broken = bytes.clone();
        broken[at] ^= 0x41;
        for bytes in [&broken[..], &bytes[..at]] {
            let mut other = engine("qwen3vl", Box::new(Cpu::new(1)));
            let Err(e) = other.restore(&mut reader(bytes)) else { panic!("byte {at}: restored") };
            assert!(matches!(e.kind(), ErrorKind::BadSnapshot | ErrorKind::ContextOverflow), "byte {at}: {e}");
        }
    }
}

fn tokenizer(name: &str) -> Tokenizer {
    let file = fixtures::bytes(&format!("golden/{name}.gguf"));
    Tokenizer::from_gguf(&Gguf::parse(&file).unwrap().meta).unwrap()
}

fn greedy(max_tokens: usize) -> GenerateParams {
    let sampler = SamplerParams { repeat_penalty: 1.1, ..SamplerParams::greedy() };
    GenerateParams { max_tokens: Some(max_tokens), ignore_eos: true, sampler, ..GenerateParams::default() }
}

#[test]
fn generations_with_images_give_the_same_tokens_alone_and_in_a_batch() {
    for name in FIXTURES {
        let tokenizer = tokenizer(name);
        let file = fixtures::bytes(&format!("golden/{name}.gguf"));
        let gguf = Gguf::parse(&file).unwrap();
        for max_tokens in [4, 70] {
            let backend = Cpu::new(1);
            // Prompts are cut anywhere, images too.
            let options = Options { images: true, n_ctx: Some(96), max_tokens, sequences: 3, ..Options::DEFAULT };
            let model = Model::new(&gguf, &|d| backend.supports(d), &options).unwrap();
            let mut engine = model.load(&gguf, &file, Box::new(backend)).unwrap().into_engine();
            let all = prompts(name, &mut engine);
            let text = [5, 6, 7, 8, 9, 10, 11, 12, 13];
            let given: Vec<&[u32]> = vec![&all[0].0, &text, &all[1].0];
            let mut run = |given: &[&[u32]]| {
                let mut tokens = vec![Vec::new(); given.len()];
                let prompts = given.iter().map(|p| (*p, greedy(8)));
                let each = |i: usize, event: pagelm::Result<Event>| {
                    if let Event::Token { id, .. } = event.unwrap() {
                        tokens[i].push(id);
                    }
                    true
                };
                block_on(engine.generate_batch(&tokenizer, prompts, &|| 0.0, each)).unwrap();
                engine.forget_idle();
                tokens
            };
            let alone: Vec<_> = given.iter().map(|p| run(&[*p]).remove(0)).collect();
            assert_eq!(run(&given), alone, "{name} in steps of {max_tokens}");
        }
    }
}

#[test]
fn a_gpu_that_samples_goes_on_from_an_image() {
    if !backends::gpu_wanted() {
        return;
    }
    for name in FIXTURES {
        let mut engine = engine(name, Box::new(backends::gpu(Default::default())));
        let all = prompts(name, &mut engine);
        for (prompt, _, case) in &all {
            let params = GenerateParams { sampler: SamplerParams::greedy(), ..greedy(8) };
            let mut tokens = Vec::new();
            let each = |_: usize, event: pagelm::Result<Event>| {
                if let Event::Token { id, .. } = event.unwrap() {
                    tokens.push(id);
                }
                true
            };
            block_on(engine.generate_batch(&tokenizer(name), [(&prompt[..], params)], &|| 0.0, each)).unwrap();
            assert_eq!(tokens, case.greedy.tokens, "{name}");
        }
    }
}

#[test]
fn text_costs_what_it_costs_without_images() {
    if !backends::gpu_wanted() {
        return;
    }
    let file = fixtures::bytes("golden/qwen3vl.gguf");
    let gguf = Gguf::parse(&file).unwrap();
    let counters = |images| {
        let backend = backends::gpu(Default::default());
        let options = Options { images, n_ctx: Some(96), ..Options::DEFAULT };
        let model = Model::new(&gguf, &|d| backend.supports(d), &options).unwrap();
        let mut engine = model.load(&gguf, &file, Box::new(backend)).unwrap().into_engine();
        let mut s = engine.sequence();
        let before = engine.backend().counters();
        last(&mut engine, &mut s, &[1, 2, 3, 4, 5]);
        last(&mut engine, &mut s, &[6]);
        let after = engine.backend().counters();
        [
            after.dispatches - before.dispatches,
            after.bytes_written - before.bytes_written,
            after.bytes_read - before.bytes_read,
            after.submits - before.submits,
            after.passes - before.passes,
        ]
    };
    assert_eq!(counters(true), counters(false));
}

fn refused<T>(what: &str, result: pagelm::Result<T>, kind: ErrorKind) {
    let Err(e) = result else { panic!("{what}: is not refused") };
    assert_eq!(e.kind(), kind, "{what}: {e}");
}

#[test]
fn images_that_cannot_run_are_refused_and_change_nothing() {
    let mut engine = engine("qwen3vl", Box::new(Cpu::new(1)));
    let (prompt, image, case) = prompts("qwen3vl", &mut engine).swap_remove(0);
    let mut s = engine.sequence();
    let ids = image.tokens().to_vec();
    let mut try_with = |what: &str, tokens: &[u32], kind| {
        let result = block_on(engine.prefill(&mut s, tokens)).map(drop);
        refused(what, result, kind);
        assert!(s.tokens().is_empty(), "{what}: nothing ran");
    };
    try_with("the second row first", &[&[1][..], &ids[1..]].concat(), ErrorKind::InvalidArgument);
    try_with("rows in another order", &[ids[0], ids[2], ids[1]], ErrorKind::InvalidArgument);
    try_with("a part of an image before text", &[ids[0], ids[1], 5], ErrorKind::InvalidArgument);
    try_with("no image", &[1, ids[0] ^ 1, 5], ErrorKind::TokenOutOfRange);
    try_with("no token", &[1, 384, 5], ErrorKind::TokenOutOfRange);
    block_on(engine.prefill_part(&mut s, &prompt[..8])).unwrap();
    refused("text inside of an image", block_on(engine.prefill(&mut s, &[5])).map(drop), ErrorKind::InvalidArgument);
    refused("its start again", block_on(engine.prefill(&mut s, &ids)).map(drop), ErrorKind::InvalidArgument);
    assert_eq!(s.tokens().len(), 8);
    let row = last(&mut engine, &mut s, &prompt[8..]);
    assert_eq!(argmax(&row), case.greedy.tokens[0]);
    let mut rows = given_rows(&case);
    rows.digest = 5;
    rows.values.pop();
    refused("a value too few", engine.add_image(rows).map(drop), ErrorKind::InvalidArgument);
    let mut rows = given_rows(&case);
    (rows.digest, rows.height) = (6, 0);
    refused("no rows", engine.add_image(rows).map(drop), ErrorKind::ContextOverflow);
    // Nobody keeps it any more but the sequence.
    drop((s, image));
    let mut s = engine.sequence();
    refused("forgotten", block_on(engine.prefill(&mut s, &prompt)).map(drop), ErrorKind::TokenOutOfRange);
}

#[test]
fn models_that_read_text_only_refuse_images() {
    let file = fixtures::bytes("golden/qwen3.gguf");
    let gguf = Gguf::parse(&file).unwrap();
    let open = |file: &[u8], images, embeddings| {
        let gguf = Gguf::parse(file).unwrap();
        Model::new(&gguf, &|_| true, &Options { images, embeddings, ..Options::DEFAULT }).map(drop)
    };
    refused("a model of text", open(&file, true, None), ErrorKind::NoImages);
    refused("embeddings", open(&fixtures::bytes("golden/qwen3vl.gguf"), true, Some(true)), ErrorKind::InvalidArgument);
    let backend = Cpu::new(1);
    let model = Model::new(&gguf, &|d| backend.supports(d), &Options::DEFAULT).unwrap();
    let mut engine = model.load(&gguf, &file, Box::new(backend)).unwrap().into_engine();
    let case = load("qwen3vl").cases.remove(0);
    refused("rows", engine.add_image(given_rows(&case)).map(drop), ErrorKind::NoImages);
    let mut encoder = encoder("qwen3vl", Box::new(Cpu::new(1)));
    let image = encoder.processor().process(&case.pixels(), None).unwrap();
    refused("pixels", block_on(encoder.see(&mut engine, &image)).map(drop), ErrorKind::NoImages);
}

#[test]
fn images_of_any_size_become_few_rows_or_are_refused() {
    let mut e: Encoder = encoder("qwen35vl", Box::new(Cpu::new(1)));
    let refuse = |what, e: &Encoder, image| {
        refused(what, e.processor().process(&image, None).map(drop), ErrorKind::BadImage);
    };
    for (width, height) in [(1, 1), (300, 20), (16, 16), (500, 400), (1, 16)] {
        let image = Pixels::new(width, height, vec![90; 4 * width * height]).unwrap();
        let image = e.processor().process(&image, None).unwrap();
        let rows = block_on(e.encode(&image)).unwrap();
        assert_eq!(image.rows(), rows.width * rows.height);
        assert!(
            (8..=16).contains(&(rows.width * rows.height)),
            "{width} x {height} gives {} x {}",
            rows.width,
            rows.height
        );
        assert_eq!(rows.values.len(), rows.width * rows.height * 64);
    }
    let long = Pixels::new(2000, 12, vec![90; 4 * 24_000]).unwrap();
    refuse("too long for few rows", &e, long);
    let longer = Pixels::new(2010, 10, vec![90; 4 * 20_100]).unwrap();
    refuse("too long", &e, longer);
}

#[test]
fn proposals_after_an_image_change_no_token() {
    let file = fixtures::bytes("golden/qwen35_mtp.gguf");
    let gguf = Gguf::parse(&file).unwrap();
    let tokenizer = tokenizer("qwen35_mtp");
    for c in backends::all() {
        let backend = (c.make)();
        let options = Options { images: true, mtp: true, drafts: 3, n_ctx: Some(96), ..Options::DEFAULT };
        let model = Model::new(&gguf, &|d| backend.supports(d), &options).unwrap();
        let mut engine = model.load(&gguf, &file, backend).unwrap().into_engine();
        let values = Rng::named("rows").values(6 * 64);
        let image = engine.add_image(ImageRows { digest: 1, width: 3, height: 2, values }).unwrap();
        let prompt = [&[5, 6, 7][..], image.tokens(), &[8, 9], image.tokens(), &[10]].concat();
        let mut tokens = |proposer: Option<ProposerName>| {
            let speculate = proposer.map(|proposer| SpeculateParams { proposer, max_draft: Some(3) });
            let mut tokens = Vec::new();
            let each = |_: usize, event: pagelm::Result<Event>| {
                if let Event::Token { id, .. } = event.unwrap() {
                    tokens.push(id);
                }
                true
            };
            let params = GenerateParams { speculate, ..greedy(24) };
            block_on(engine.generate_batch(&tokenizer, [(&prompt[..], params)], &|| 0.0, each)).unwrap();
            engine.forget_idle();
            tokens
        };
        let plain = tokens(None);
        assert_eq!(plain.len(), 24);
        for proposer in [ProposerName::Mtp, ProposerName::Lookup] {
            assert_eq!(tokens(Some(proposer)), plain, "{proposer:?} on {}", c.name);
        }
    }
}

/// Polls a future so many times, and drops it if it is not ready then.
fn polled<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    (0..times).find_map(|_| match future.as_mut().poll(&mut cx) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    })
}

#[test]
fn a_prompt_with_an_image_goes_on_after_a_step_of_it_was_dropped() {
    for name in FIXTURES {
        let tokenizer = tokenizer(name);
        let mut engine = engine(name, Box::new(Faulty::new(Cpu::new(1)).slow()));
        let all = prompts(name, &mut engine);
        let run = |engine: &mut Engine, times: usize| {
            let mut batch = Batch::default();
            for (prompt, ..) in &all {
                batch.add(engine, &tokenizer, prompt, greedy(4), 0.0).unwrap();
            }
            let mut tokens = vec![Vec::new(); all.len()];
            let mut dropped = 0;
            while !batch.is_empty() {
                let times = if dropped == 0 { times } else { usize::MAX };
                let Some(events) = polled(times, batch.next(engine, &tokenizer, &|| 0.0)) else {
                    dropped += 1;
                    continue;
                };
                for (id, event) in events.unwrap() {
                    if let Event::Token { id: token, .. } = event.unwrap() {
                        tokens[id as usize - 1].push(token);
                    }
                }
            }
            engine.forget_idle();
            (tokens, dropped)
        };
        let (want, dropped) = run(&mut engine, usize::MAX);
        assert_eq!(dropped, 0);
        for times in 1..=5 {
            let (got, dropped) = run(&mut engine, times);
            assert!(dropped > 0, "{name}: {times} polls do not suffice for a prompt");
            assert_eq!(got, want, "{name}: dropped after {times} polls");
        }
    }
}
