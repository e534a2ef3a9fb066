//! Many sequences on one engine: whatever they share, each gives what it gives alone.

use std::collections::{BTreeMap, HashMap};

use pagelm::ErrorKind;
use pagelm::backend::cpu::Cpu;
use pagelm::backend::{Backend, KvType};
use pagelm::engine::{Batch, Engine, Event, GenerateParams, Model, Options, Row, SamplerParams, Sequence};
use pagelm::gguf::Gguf;
use pagelm::text::Tokenizer;
use pollster::block_on;

use crate::common::backends;
use crate::common::golden::{self, argmax, max_diff};
use crate::common::rng::Rng;

fn open(name: &str, backend: Box<dyn Backend>, options: Options) -> Engine {
    let (_, file) = golden::load(name);
    let gguf = Gguf::parse(&file).unwrap();
    let model = Model::new(&gguf, &|d| backend.supports(d), &options).unwrap();
    model.load(&gguf, &file, backend).unwrap().into_engine()
}

/// Full attention, windows, recurrent states, experts, and a block for multi-token prediction.
const MODELS: [&str; 6] = ["llama", "gemma3", "qwen35", "qwen3moe", "qwen35moe", "qwen35_mtp"];

/// What a fresh sequence says after some tokens. The CPU computes a row alike in every step, to the last bit.
struct Fresh {
    engine: Engine,
    known: HashMap<Vec<u32>, Vec<f32>>,
}

impl Fresh {
    fn after(&mut self, tokens: &[u32]) -> &[f32] {
        self.known.entry(tokens.to_vec()).or_insert_with(|| {
            let mut s = self.engine.sequence();
            block_on(self.engine.prefill(&mut s, tokens)).unwrap().to_vec()
        })
    }
}

/// Few different tokens, so that sequences share beginnings, some of which have been seen before.
fn some(rng: &mut Rng, most: usize) -> Vec<u32> {
    let n = 1 + rng.below(most);
    (0..n).map(|_| 40 + rng.below(2) as u32).collect()
}

/// A sequence under test.
struct Live {
    sequence: Sequence,
    tokens: Vec<u32>,
}

/// The bytes of a sequence.
fn saved(engine: &mut Engine, s: &mut Sequence) -> pagelm::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut write = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    block_on(engine.save(s, &mut write))?;
    Ok(bytes)
}

/// Reads bytes one after another.
fn reader(mut bytes: &[u8]) -> impl FnMut(&mut [u8]) -> pagelm::Result<()> {
    move |out| {
        let Some((now, later)) = bytes.split_at_checked(out.len()) else {
            return Err(pagelm::Error::new(ErrorKind::BadSnapshot, "the bytes end early"));
        };
        out.copy_from_slice(now);
        bytes = later;
        Ok(())
    }
}

/// Whether a step ran; one that found no room changed nothing.
fn ran<T>(result: pagelm::Result<T>) -> Option<T> {
    result.map_err(|e| assert_eq!(e.kind(), ErrorKind::CacheFull, "{e}")).ok()
}

#[test]
fn random_operations_give_what_a_fresh_run_gives_and_leak_nothing() {
    // Of 320 positions a sequence may have 200: some find no room.
    let options = Options {
        n_ctx: Some(200),
        cache: Some(320),
        sequences: 3,
        max_tokens: 48,
        mtp: true,
        kv_type: KvType::F16,
        ..Options::DEFAULT
    };
    for name in MODELS {
        let mut rng = Rng::named(name);
        let mut fresh = Fresh { engine: open(name, Box::new(Cpu::new(1)), options), known: HashMap::new() };
        let mut engine = open(name, Box::new(Cpu::new(1)), options);
        let mut live: Vec<Live> = Vec::new();
        let mut refused = 0;
        for op in 0..1700 {
            let i = rng.below(live.len());
            let what = format!("{name}, operation {op}");
            match if live.is_empty() { 0 } else { rng.below(11) } {
                0 if live.len() < 5 => {
                    let sequence = engine.sequence();
                    live.push(Live { sequence, tokens: Vec::new() });
                }
                1..=3 => {
                    let l = &mut live[i];
                    let mut new = some(&mut rng, if op % 5 == 0 { 70 } else { 3 });
                    new.truncate(200 - l.tokens.len());
                    if new.is_empty() {
                        continue;
                    }
                    match ran(block_on(engine.prefill(&mut l.sequence, &new)).map(|row| row.to_vec())) {
                        Some(got) => {
                            l.tokens.extend(&new);
                            assert!(got == fresh.after(&l.tokens), "{what}");
                        }
                        // Whole steps may have run before the one that found no room.
                        None => {
                            refused += 1;
                            let have = l.sequence.tokens().len();
                            l.tokens.extend(&new[..have - l.tokens.len()]);
                        }
                    }
                }
                4 => {
                    let n = rng.below(live[i].tokens.len() + 1);
                    let sequence = engine.fork(&live[i].sequence, n).unwrap();
                    let tokens = live[i].tokens[..n].to_vec();
                    live.push(Live { sequence, tokens });
                }
                5 => {
                    let n = rng.below(live[i].tokens.len() + 1);
                    engine.rollback(&mut live[i].sequence, n).unwrap();
                    live[i].tokens.truncate(n);
                }
                6 => {
                    let gone = live.swap_remove(i);
                    if op % 2 == 0 {
                        engine.leave(gone.sequence);
                    }
                }
                7 => {
                    let mut prompt = live[i].tokens.clone();
                    prompt.truncate(rng.below(prompt.len()));
                    prompt.push(41);
                    let sequence = engine.resume(&prompt).unwrap();
                    let n = sequence.tokens().len();
                    assert_eq!(sequence.tokens(), &prompt[..n], "{what}");
                    live.push(Live { sequence, tokens: prompt[..n].to_vec() });
                }
                8 => engine.checkpoint(&mut live[i].sequence),
                9 => {
                    let l = &mut live[i];
                    if l.tokens.is_empty() {
                        continue;
                    }
                    let Some(bytes) = ran(saved(&mut engine, &mut l.sequence)) else { continue };
                    let tokens = l.tokens.clone();
                    if op % 3 == 0 {
                        live.swap_remove(i);
                    }
                    if let Some(sequence) = ran(engine.restore(&mut reader(&bytes))) {
                        live.push(Live { sequence, tokens });
                    }
                }
                _ => {
                    // A step of all that have room, some with a row and some with several.
                    let lens: Vec<usize> = live.iter().map(|l| rng.below(3).min(200 - l.tokens.len())).collect();
                    let new: Vec<Vec<u32>> = lens.iter().map(|n| vec![40; *n]).collect();
                    let with = live.iter_mut().zip(&new).filter(|(_, n)| !n.is_empty());
                    let mut rows: Vec<_> =
                        with.map(|(l, n)| Row { sequence: &mut l.sequence, tokens: n, outputs: 1 }).collect();
                    rows.truncate(3);
                    let n = rows.len();
                    if n == 0 {
                        continue;
                    }
                    let Some(got) = ran(block_on(engine.run(&mut rows)).map(|row| row.to_vec())) else {
                        refused += 1;
                        continue;
                    };
                    let with = live.iter_mut().zip(&new).filter(|(_, n)| !n.is_empty()).take(n);
                    for ((l, n), got) in with.zip(got.chunks_exact(engine.n_vocab())) {
                        l.tokens.extend(n);
                        assert!(*got == *fresh.after(&l.tokens), "{what}");
                    }
                }
            }
            for l in &live {
                assert_eq!(l.sequence.tokens(), l.tokens, "{what}");
            }
            if engine.has_mtp() && op % 7 == 0 && !live.is_empty() {
                let n = live.len();
                let l = &mut live[rng.below(n)];
                if l.tokens.is_empty() {
                    continue;
                }
                if let Some(got) = ran(block_on(engine.mtp(&mut l.sequence, 40)).map(|row| row.to_vec())) {
                    let mut s = fresh.engine.sequence();
                    block_on(fresh.engine.prefill(&mut s, &l.tokens)).unwrap();
                    let want = block_on(fresh.engine.mtp(&mut s, 40)).unwrap();
                    assert!(got == want, "{what}: multi-token prediction");
                }
            }
        }
        assert!(refused > 0, "{name}: the cache was never full");
        drop(live);
        engine.forget_idle();
        assert_eq!(engine.held(), ([0, 0], 0), "{name}: blocks and states are left");
    }
}

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
    let names = [
        "llama",
        "llama32",
        "qwen2",
        "qwen2moe",
        "qwen3",
        "qwen3_tied",
        "qwen3moe",
        "gemma",
        "gemma2",
        "gemma3",
        "qwen35",
        "qwen35moe",
    ];
    for name in names {
        let (numbers, _) = golden::load(name);
        let tokenizer = tokenizer(name);
        for c in backends::all() {
            let options =
                Options { n_ctx: Some(96), cache: Some(400), sequences: 3, max_tokens: 20, ..Options::DEFAULT };
            let mut engine = open(name, (c.make)(), options);
            let mut batch = Batch::new();
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
    for name in MODELS {
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
        let mut batch = Batch::new();
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
    let mut batch = Batch::new();
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
    let mut batch = Batch::new();
    let ids: Vec<u64> =
        (0..3).map(|i| batch.add(&mut engine, &tokenizer, &[40 + i, 50], greedy(8), 0.0).unwrap()).collect();
    block_on(batch.next(&mut engine, &tokenizer, &|| 0.0)).unwrap();
    batch.stop(&mut engine, ids[1]);
    let got = drive(&mut batch, &mut engine, &tokenizer);
    assert_eq!((got[&ids[0]].len(), got.get(&ids[1]), got[&ids[2]].len()), (8, None, 8));
}

#[test]
fn a_saved_sequence_goes_on_on_another_engine_of_the_same_kind() {
    for name in MODELS {
        let (numbers, _) = golden::load(name);
        let ids = &numbers.prompts[1].ids;
        for c in backends::all() {
            let options = Options { n_ctx: Some(96), mtp: true, ..Options::DEFAULT };
            let mut engine = open(name, (c.make)(), options);
            let mut s = engine.sequence();
            block_on(engine.prefill(&mut s, &ids[..ids.len() - 1])).unwrap();
            let bytes = saved(&mut engine, &mut s).unwrap();
            let want = block_on(engine.prefill(&mut s, &ids[ids.len() - 1..])).unwrap().to_vec();
            let mut other = open(name, (c.make)(), options);
            let mut restored = other.restore(&mut reader(&bytes)).unwrap();
            let before = other.backend().counters().steps;
            let got = block_on(other.prefill(&mut restored, &ids[ids.len() - 1..])).unwrap().to_vec();
            assert_eq!(got, want, "{name} on {}", c.name);
            assert_eq!(other.backend().counters().steps - before, 1, "nothing ran again");
        }
    }
}

#[test]
fn bytes_that_are_no_sequence_of_this_engine_are_refused_and_hold_nothing() {
    let options = Options { n_ctx: Some(200), cache: Some(512), ..Options::DEFAULT };
    let mut engine = open("qwen35", Box::new(Cpu::new(1)), options);
    let mut s = engine.sequence();
    let ids: Vec<u32> = (0..70).map(|i| 40 + i % 9).collect();
    block_on(engine.prefill(&mut s, &ids)).unwrap();
    let bytes = saved(&mut engine, &mut s).unwrap();
    let held = engine.held();
    let refused = |engine: &mut Engine, bytes: &[u8], what: &str| {
        let e = engine.restore(&mut reader(bytes)).err().unwrap_or_else(|| panic!("{what} was taken"));
        assert_eq!(e.kind(), ErrorKind::BadSnapshot, "{what}: {e}");
        assert_eq!(engine.held(), held, "{what}");
    };
    let mut rng = Rng::named("snapshots");
    for _ in 0..300 {
        let mut bad = bytes.clone();
        let at = if rng.below(2) == 0 { rng.below(400) } else { rng.below(bad.len()) };
        bad[at] ^= 1 << rng.below(8);
        refused(&mut engine, &bad, &format!("a flipped bit in byte {at}"));
        let end = rng.below(bytes.len());
        refused(&mut engine, &bytes[..end], &format!("the first {end} bytes"));
    }
    // Another model, and another cache type.
    for (name, kv_type) in [("qwen35moe", KvType::F32), ("qwen35", KvType::F16)] {
        let mut other = open(name, Box::new(Cpu::new(1)), Options { kv_type, ..options });
        let e = other.restore(&mut reader(&bytes)).err().expect("of another");
        assert!(e.detail().contains("another model, backend or cache type"), "{e}");
    }
}
