//! Long steps on the CPU in slices: the same logits, and a step that was given up leaves no trace.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use pagelm::backend::cpu::Cpu;
use pagelm::backend::{Activations, Backend};
use pagelm::engine::{Options, Session};
use pollster::block_on;

use crate::common::golden;

/// Full and windowed attention, experts, and recurrent states with a block for multi-token prediction.
const MODELS: [&str; 5] = ["llama", "gemma3", "qwen3moe", "qwen35", "qwen35_mtp"];

/// With slices of so many multiply-adds.
fn open(file: &[u8], threads: usize, slices: Option<u64>) -> Session {
    open_with(file, threads, 16, slices)
}

/// With steps of so many tokens.
fn open_with(file: &[u8], threads: usize, max_tokens: usize, slices: Option<u64>) -> Session {
    let backend: Box<dyn Backend> = Box::new(Cpu::new(threads).activations(Activations::Q8));
    let options = Options { n_ctx: Some(64), max_tokens, ..Options::default() };
    let mut session = golden::open(file, backend, options).unwrap();
    if slices.is_some() {
        session.parts().0.run_in_slices(slices);
    }
    session
}

/// Polls to the end, and says how often the step was not done.
fn polled<T>(future: impl Future<Output = T>) -> (T, usize) {
    let mut future = pin!(future);
    for pending in 0.. {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return (value, pending);
        }
    }
    unreachable!("the loop has no end")
}

#[test]
fn steps_in_slices_give_the_same_logits() {
    for name in MODELS {
        let (g, file) = golden::load(name);
        let ids: Vec<u32> = g.prompts[0].ids.iter().copied().cycle().take(40).collect();
        // Parts of a step of 40 tokens begin and end inside of ops.
        for (max_tokens, work) in [16, 40].into_iter().flat_map(|n| [1, 20_000, u64::MAX].map(|work| (n, work))) {
            let mut whole = open_with(&file, 2, max_tokens, None);
            let want = block_on(whole.prefill(&ids)).unwrap().to_vec();
            let mut s = open_with(&file, 2, max_tokens, Some(work));
            let (got, pending) = polled(async { s.prefill(&ids).await.unwrap().to_vec() });
            assert_eq!(got, want, "{name}, {max_tokens}, {work}");
            assert_eq!(pending > 3, work < u64::MAX, "{name}, {max_tokens}, {work}: {pending}");
            assert_eq!(s.backend().counters().steps, whole.backend().counters().steps, "{name}");
        }
    }
}

#[test]
fn short_steps_have_no_slices() {
    let (g, file) = golden::load("llama");
    let mut s = open(&file, 1, Some(1));
    let (done, pending) = polled(s.prefill(&g.prompts[0].ids[..1]));
    assert!(done.is_ok());
    assert_eq!(pending, 0);
}

#[test]
fn a_step_that_was_given_up_leaves_no_trace() {
    for name in MODELS {
        let (g, file) = golden::load(name);
        let ids: Vec<u32> = g.prompts[0].ids.iter().copied().cycle().take(40).collect();
        let other: Vec<u32> = ids.iter().rev().copied().collect();
        let mut whole = open(&file, 1, None);
        let want = block_on(whole.prefill(&ids)).unwrap().to_vec();
        whole.rollback(0).unwrap();
        let want_other = block_on(whole.prefill(&other)).unwrap().to_vec();
        let mut s = open(&file, 1, Some(1));
        for polls in [1, 2, 5, 9] {
            s.rollback(0).unwrap();
            {
                let mut future = pin!(s.prefill(&ids));
                for _ in 0..polls {
                    assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "{name}");
                }
            }
            let (have, steps) = (s.tokens().len(), s.backend().counters().steps);
            assert_eq!(have % 16, 0, "{name}: whole steps only");
            // Another prompt in its place, and then the rest of the first.
            s.rollback(0).unwrap();
            assert_eq!(block_on(s.prefill(&other)).unwrap(), want_other, "{name}, {polls}");
            assert_eq!(s.backend().counters().steps, steps + 3, "{name}: none of them was run to its end first");
            s.rollback(0).unwrap();
            assert_eq!(block_on(s.prefill(&ids)).unwrap(), want, "{name}, {polls}");
        }
    }
}
