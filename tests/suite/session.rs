//! Step-level work on a small model: what a session accepts, and that it survives what it refuses.

use std::pin::pin;
use std::task::{Context, Waker};

use pagelm::backend::Backend;
use pagelm::backend::reference::Reference;
use pagelm::engine::{Options, Session};
use pagelm::graph::Plan;
use pagelm::{Error, ErrorKind, Result};
use pollster::block_on;

use crate::common::faulty::Faulty;
use crate::common::golden;

const OPTIONS: Options = Options { n_ctx: Some(12), max_tokens: 4, max_outputs: 3, ..Options::DEFAULT };

fn session(backend: Box<dyn Backend>) -> Session {
    let (_, file) = golden::load("llama");
    golden::open(&file, backend, OPTIONS).unwrap()
}

/// The logits after a prompt on a fresh cache.
fn fresh(s: &mut Session, ids: &[u32]) -> Vec<f32> {
    s.rollback(0).unwrap();
    block_on(s.prefill(ids)).unwrap().to_vec()
}

#[test]
fn a_full_context_is_an_error_that_changes_nothing() {
    let mut s = session(Box::new(Reference::new()));
    let ids: Vec<u32> = (0..12).collect();
    let want = fresh(&mut s, &ids);
    let full = |r: Result<&mut [f32]>| assert_eq!(r.unwrap_err().kind(), ErrorKind::ContextOverflow);
    full(block_on(s.decode(1)));
    full(block_on(s.prefill(&[1, 2])));
    assert_eq!(s.tokens(), ids);
    s.rollback(8).unwrap();
    full(block_on(s.prefill(&[1, 2, 3, 4, 5])));
    assert_eq!(s.tokens().len(), 8);
    assert_eq!(block_on(s.prefill(&ids[8..])).unwrap(), want);
}

#[test]
fn prompts_that_cannot_be_meant_are_refused_before_anything_runs() {
    let mut s = session(Box::new(Reference::new()));
    block_on(s.prefill(&[5, 6])).unwrap();
    let steps = s.backend().counters().steps;
    assert_eq!(block_on(s.prefill(&[])).unwrap_err().kind(), ErrorKind::EmptyPrompt);
    assert_eq!(block_on(s.prefill_all(&[], |_| ())).unwrap_err().kind(), ErrorKind::EmptyPrompt);
    let past = s.n_vocab() as u32;
    assert_eq!(block_on(s.decode(past)).unwrap_err().kind(), ErrorKind::TokenOutOfRange);
    let e = block_on(s.prefill(&[1, 2, u32::MAX])).unwrap_err();
    assert_eq!((e.kind(), e.place()), (ErrorKind::TokenOutOfRange, "token 4294967295 at index 2"));
    assert_eq!(s.rollback(3).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!((s.tokens(), s.backend().counters().steps), (&[5, 6][..], steps));
}

#[test]
fn rollback_and_decode_again_give_the_same_logits() {
    let mut s = session(Box::new(Reference::new()));
    let ids = [9, 8, 7, 6, 5, 4, 3];
    let want = fresh(&mut s, &ids);
    for n in 0..ids.len() {
        // Other tokens write the rows in between.
        block_on(s.prefill(&[100, 101, 102])).unwrap();
        s.rollback(n).unwrap();
        let got = ids[n..].iter().fold(Vec::new(), |_, id| block_on(s.decode(*id)).unwrap().to_vec());
        assert!(golden::max_diff(&got, &want) < 1e-5, "rolled back to {n}");
    }
}

#[test]
fn every_row_of_a_long_prefill_is_shown_once_and_in_order() {
    let mut s = session(Box::new(Reference::new()));
    let ids = [1, 2, 3, 4, 5, 6, 7, 8];
    let mut rows = Vec::new();
    block_on(s.prefill_all(&ids, |row| rows.push(row.to_vec()))).unwrap();
    assert_eq!(rows.len(), ids.len());
    for (n, row) in (1..).zip(&rows) {
        assert!(golden::max_diff(row, &fresh(&mut s, &ids[..n])) < 1e-5, "row {n}");
    }
}

#[test]
fn a_new_prompt_keeps_what_it_shares_with_the_cache() {
    let mut s = session(Box::new(Reference::new()));
    assert_eq!(s.reuse(&[1, 2, 3]).unwrap(), 0);
    block_on(s.prefill(&[1, 2, 3, 4])).unwrap();
    assert_eq!(s.reuse(&[1, 2, 9, 4]).unwrap(), 2);
    assert_eq!(s.tokens(), [1, 2]);
    // The last token runs again, because its logits are wanted.
    assert_eq!(s.reuse(&[1, 2]).unwrap(), 1);
    // What cannot run leaves the cache alone.
    assert_eq!(s.reuse(&[]).unwrap_err().kind(), ErrorKind::EmptyPrompt);
    assert_eq!(s.reuse(&[7, u32::MAX]).unwrap_err().kind(), ErrorKind::TokenOutOfRange);
    assert_eq!(s.reuse(&[7; 13]).unwrap_err().kind(), ErrorKind::ContextOverflow);
    assert_eq!(s.tokens(), [1]);
}

/// The reference, but a step takes two polls, and one may fail.
fn slow(fail_in: Option<u32>) -> Box<dyn Backend> {
    Box::new(Faulty::new(Reference::new()).slow().fail_in(fail_in))
}

#[test]
fn a_dropped_future_leaves_the_session_usable() {
    let mut s = session(slow(None));
    let ids = [1, 2, 3, 4, 5, 6];
    let want = fresh(&mut s, &ids);
    for polls in 1..=2 {
        s.rollback(0).unwrap();
        {
            let mut future = pin!(s.prefill(&ids));
            for _ in 0..polls {
                assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
        }
        let have = s.tokens().len();
        assert_eq!(have, 4 * (polls - 1), "whole steps only");
        assert_eq!(block_on(s.prefill(&ids[have..])).unwrap(), want);
    }
}

#[test]
fn rows_without_a_meaning_are_an_error_and_the_session_goes_on() {
    for bad in [f32::NAN, f32::INFINITY] {
        let poke = move |_: &Plan, step: u64, rows: &mut [f32]| {
            if step == 2 {
                rows[5] = bad;
            }
        };
        let open = || session(Box::new(Faulty::new(Reference::new()).poke(poke)));
        let degenerate = |e: Error| assert_eq!(e.kind(), ErrorKind::DegenerateLogits);
        let mut s = open();
        let want = fresh(&mut s, &[1, 2, 3]);
        degenerate(block_on(s.prefill(&[4])).expect_err("of the second step"));
        assert_eq!(s.tokens(), [1, 2, 3]);
        assert_eq!(fresh(&mut s, &[1, 2, 3]), want);
        let mut s = open();
        block_on(s.decode(1)).unwrap();
        degenerate(block_on(s.decode(4)).expect_err("of the second step"));
        let mut s = open();
        block_on(s.decode(1)).unwrap();
        degenerate(block_on(s.prefill_all(&[4, 5], |_| ())).expect_err("of the second step"));
    }
}

#[test]
fn a_step_that_the_backend_refuses_leaves_the_session_usable() {
    // The second step fails: the prompt is longer than one.
    let mut s = session(slow(Some(1)));
    let ids = [1, 2, 3, 4, 5, 6];
    assert_eq!(block_on(s.prefill(&ids)).unwrap_err().kind(), ErrorKind::GpuError);
    assert_eq!(s.tokens(), &ids[..4]);
    let got = block_on(s.prefill(&ids[4..])).unwrap().to_vec();
    assert_eq!(got, fresh(&mut s, &ids));
}
