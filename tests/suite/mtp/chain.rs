//! Chains: the block goes on from its own results.

use super::*;
use crate::common::counting;

/// What the block predicts one after another, where each of its results is put by hand into the place of the trunk's.
fn chain_by_hand(case: &Mtp, most: usize) -> Vec<u32> {
    let (mut backend, plan) = reference();
    let n = case.ids.len();
    rows(&mut backend, &plan, Entry::Trunk, 0, &case.ids);
    let mut logits = rows(&mut backend, &plan, Entry::Mtp, 0, &case.next_ids);
    let by_position = plan.graph.states.iter().filter(|s| !s.rows.is_recurrent());
    let before: usize = by_position.take_while(|s| s.name != "mtp.hidden").map(|s| s.rows.count(64) * s.cols).sum();
    let mut out = Vec::new();
    for pos in n..n + most {
        out.push(argmax(&logits[logits.len() - plan.graph.n_vocab()..]));
        let result = backend.value(backend.graph().named("mtp.norm").unwrap());
        let d = plan.graph.states.iter().find(|s| s.name == "mtp.hidden").unwrap().cols;
        let result: Vec<u8> = result[result.len() - d..].iter().flat_map(|v| v.to_le_bytes()).collect();
        let part = CachePart::Block(CacheKind::Context, 0);
        let mut bytes = vec![0; backend.part_bytes(part)];
        backend.submit_read(part).unwrap();
        block_on(poll_fn(|cx| backend.poll_read(cx, &mut bytes))).unwrap();
        bytes[8 * (before + pos * d)..][..8 * d].copy_from_slice(&result);
        backend.write_part(part, &bytes).unwrap();
        logits = rows(&mut backend, &plan, Entry::Mtp, pos, &out[pos - n..]);
    }
    out
}

#[test]
fn a_chain_goes_on_from_the_block_s_own_results_and_leaves_none_of_them() {
    let (numbers, _) = golden::load("qwen35_mtp");
    let want: Vec<_> = numbers.mtp.iter().map(|case| chain_by_hand(case, 4)).collect();
    everywhere(|what, case, s| {
        let n = case.ids.len();
        let next = case.next_ids[n - 1];
        let want = want.iter().zip(&numbers.mtp).find(|(_, of)| of.ids == case.ids).unwrap().0;
        assert_eq!(want[0], case.argmax[n - 1]);
        // A prompt cut anywhere: what a chain wrote behind the first part is overwritten by the trunk.
        for cut in [1, n / 2, n] {
            block_on(s.prefill_part(&case.ids[s.tokens().len()..cut])).unwrap();
            for most in 0..=4 {
                let mut got = Vec::new();
                let (engine, sequence) = s.parts();
                block_on(engine.mtp_chain(sequence, case.next_ids[cut - 1], most, &mut got)).unwrap();
                assert_eq!(got.len(), most, "{what}");
                if cut == n {
                    assert_eq!(got, want[..most], "{what}: after {next}");
                }
            }
            agrees(&format!("{what}, after a chain at {cut}"), case, cut - 1, s);
        }
        s.rollback(n / 2).unwrap();
        agrees(&format!("{what}, back after chains"), case, n / 2 - 1, s);
        block_on(s.prefill(&case.ids[n / 2..])).unwrap();
        agrees(&format!("{what}, on after chains"), case, n - 1, s);
    });
}

#[test]
fn a_chain_ends_with_its_block_of_the_cache_and_with_the_context() {
    let options = Options { n_ctx: Some(130), ..OPTIONS };
    let tokens: Vec<u32> = std::iter::successors(Some(2), |t| Some(counting::next(*t))).take(130).collect();
    for c in backends::all() {
        let mut s = golden::open(&counting::file(), (c.make)(), options).unwrap();
        for n in (1..130).filter(|n| (58..68).contains(n) || (122..130).contains(n)) {
            block_on(s.prefill(&tokens[s.tokens().len()..n])).unwrap();
            let mut got = Vec::new();
            let (engine, sequence) = s.parts();
            block_on(engine.mtp_chain(sequence, tokens[n], 4, &mut got)).unwrap();
            // The result of the last position of a block, and of the context, is handed on to none.
            let room = 4.min((64 - n % 64) % 64 + 1).min(131 - n);
            let want: Vec<u32> = (1..).map(|i| counting::next(tokens[n - 1] + i)).take(room).collect();
            assert_eq!(got, want, "{} after {n} tokens", c.name);
        }
    }
}
