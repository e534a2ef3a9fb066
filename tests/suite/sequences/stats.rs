//! What an engine says of itself from outside.

use pagelm::backend::Counters;
use pagelm::engine::{Done, PoolUse};

use super::*;

#[test]
fn an_engine_says_what_it_holds_and_what_its_steps_did_on_every_backend() {
    for name in ["llama", "gemma3", "qwen35_mtp"] {
        for c in backends::all() {
            let what = format!("{name} on {}", c.name);
            let options = Options { n_ctx: Some(128), cache: Some(256), max_tokens: 32, mtp: true, ..Options::DEFAULT };
            let mut engine = open(name, (c.make)(), options);
            assert_eq!(engine.stats().done, Done::default(), "{what}: nothing ran");
            let ids: Vec<u32> = (0..70).collect();
            let mut s = engine.sequence();
            block_on(engine.prefill(&mut s, &ids)).unwrap();
            let stats = engine.stats();
            let (windows, recurrent) = (name == "gemma3", name == "qwen35_mtp");
            assert_eq!(stats.context_blocks, PoolUse { held: 2, total: 4 }, "{what}");
            assert_eq!(stats.window_blocks.held, if windows { 2 } else { 0 }, "{what}");
            assert_eq!(stats.slots.held, usize::from(recurrent), "{what}");
            assert_eq!((stats.window_blocks.total > 0, stats.slots.total > 0), (windows, recurrent), "{what}");
            assert_eq!((stats.idle_sequences, stats.cached_positions), (0, 0), "{what}");
            assert_eq!((stats.done.steps, stats.done.tokens, stats.done.rows), (3, 70, 1), "{what}");
            let Counters { steps, .. } = engine.backend().counters();
            assert_eq!(stats.done.steps, steps, "{what}: the backend counts the same steps");
            // Without rows of logits a step does not read the head, and the second token reads its embedding again.
            let read = |engine: &mut Engine, s: &mut _, n: usize, logits: bool| {
                let before = engine.stats().done.weight_bytes;
                let ids = &[1, 2, 3][..n];
                let ran = if logits {
                    block_on(engine.prefill(s, ids)).map(drop)
                } else {
                    block_on(engine.prefill_part(s, ids))
                };
                ran.unwrap();
                engine.stats().done.weight_bytes - before
            };
            let [one, two, silent] = [(1, true), (2, true), (1, false)].map(|(n, l)| read(&mut engine, &mut s, n, l));
            assert!(one < two && two < one + one / 100 && silent < one, "{what}: {one}, {two}, {silent}");
            if engine.has_mtp() {
                let before = engine.stats().done;
                block_on(engine.mtp_chain(&mut s, 1, 2, &mut Vec::new())).unwrap();
                let done = engine.stats().done;
                // 74 rows of the block in three steps, and one that goes on.
                assert_eq!((done.steps - before.steps, done.tokens - before.tokens), (4, 75), "{what}");
                assert!(done.weight_bytes - before.weight_bytes < 4 * one, "{what}: a block is less than a trunk");
            }
            engine.leave(s);
            assert_eq!((engine.stats().idle_sequences, engine.stats().cached_positions), (1, 74), "{what}");
            engine.forget_idle();
            let after = engine.stats();
            assert_eq!([after.context_blocks.held, after.window_blocks.held, after.slots.held], [0; 3], "{what}");
        }
    }
}

#[test]
fn speculation_of_all_generations_adds_up_and_has_names_that_pages_know() {
    let tokenizer = tokenizer("llama");
    let options = Options { n_ctx: Some(128), drafts: 4, ..Options::DEFAULT };
    let mut session = golden::open(&golden::load("llama").1, Box::new(Cpu::new(1)), options).unwrap();
    let mut sums = pagelm::engine::Speculated::default();
    // Two tokens that are far ahead of all others soon repeat themselves.
    let sampler = SamplerParams { logit_bias: vec![(5, 1000.0), (6, 1000.0)], ..SamplerParams::greedy() };
    for prompt in [[5, 6, 7], [9, 8, 5]] {
        let speculate = Some(SpeculateParams { proposer: ProposerName::Lookup, max_draft: None });
        let params = GenerateParams { speculate, sampler: sampler.clone(), ..greedy(60) };
        let mut g = pagelm::engine::Generation::new(&mut session, &tokenizer, &prompt, params, 0.0).unwrap();
        while block_on(g.next(&mut session, &tokenizer, &|| 0.0)).unwrap().is_some() {}
        let one = g.usage().speculated;
        sums.drafted += one.drafted;
        sums.accepted += one.accepted;
        sums.steps += one.steps;
    }
    let stats = session.engine().stats();
    assert!(sums.drafted > 0 && stats.done.speculated == sums, "{stats:?}");
    let json = serde_json::to_value(stats).unwrap();
    assert_eq!(json["weightBytes"], stats.done.weight_bytes);
    assert_eq!(json["contextBlocks"]["total"], stats.context_blocks.total);
    assert_eq!(json["speculated"]["drafted"], sums.drafted);
}
