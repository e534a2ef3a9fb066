//! Encoders that run in parts.

use std::future::poll_fn;

use pagelm::engine::Seeing;

use super::*;
use crate::common::cases::Case;
use pagelm::backend::{Segment, Step};
use pagelm::graph::Attention;

/// Encodes an image in parts, and says how many there were.
fn in_parts(e: &mut Encoder, image: &pagelm::engine::Processed) -> (ImageRows, usize) {
    let (rows, parts, _) = in_counted_parts(e, image);
    (rows, parts)
}

/// The same, with how many parts ended inside of an op.
fn in_counted_parts(e: &mut Encoder, image: &pagelm::engine::Processed) -> (ImageRows, usize, usize) {
    let patches = (image.rows() * e.vision().merge * e.vision().merge) as u64;
    let (mut parts, mut inside, mut last) = (1, 0, 0);
    loop {
        match block_on(e.encode_part(image)).unwrap() {
            Seeing::Part { done, total } => {
                assert!(last < done && done < total, "{last}, then {done} of {total}");
                (parts, last) = (parts + 1, done);
                inside += usize::from(!done.is_multiple_of(patches));
            }
            Seeing::Whole(rows) => return (rows, parts, inside),
        }
    }
}

#[test]
fn an_image_that_is_encoded_in_parts_has_the_same_rows() {
    for name in FIXTURES {
        for c in backends::all() {
            let [first, second] = [0, 1].map(|i| load(name).cases.remove(i).pixels());
            let mut e = encoder(name, (c.make)());
            let [first, second] = [first, second].map(|image| e.processor().process(&image, None).unwrap());
            e.set_slice(Some(u64::MAX));
            let [a, b] = [&first, &second].map(|image| in_parts(&mut e, image));
            assert_eq!((a.1, b.1), (1, 1), "{name} on {}", c.name);
            e.set_slice(Some(1));
            let (rows, parts, inside) = in_counted_parts(&mut e, &first);
            assert_eq!(rows, a.0, "{name} on {}", c.name);
            // At least in the attention of each layer.
            assert!(inside >= 2, "{name} on {}: {inside} parts end inside of an op", c.name);
            // Two layers of more than ten ops, but some take no part of their own where kernels do several.
            assert!(parts > 20, "{name} on {}: {parts} parts", c.name);
            // One that is given up leaves nothing behind.
            for _ in 0..7 {
                assert!(matches!(block_on(e.encode_part(&first)).unwrap(), Seeing::Part { .. }));
            }
            assert_eq!(in_parts(&mut e, &second).0, b.0, "{name} on {}", c.name);
            assert_eq!(in_parts(&mut e, &first), (a.0, parts), "{name} on {}", c.name);
            assert_eq!(e.backend().counters().steps, 5, "whole images, {name} on {}", c.name);
        }
    }
}

#[test]
fn work_bounds_how_many_parts_there_are() {
    let mut e = encoder("qwen3vl", Box::new(Cpu::new(1)));
    let image = e.processor().process(&load("qwen3vl").cases[0].pixels(), None).unwrap();
    let parts = [1, 100_000, 1_000_000, u64::MAX].map(|work| {
        e.set_slice(Some(work));
        in_parts(&mut e, &image).1
    });
    assert!(parts.is_sorted_by(|a, b| a > b) && parts[3] == 1, "{parts:?}");
    // By itself it takes what a thread does in a twentieth of a second, which is all of a small one.
    e.set_slice(None);
    assert_eq!(in_parts(&mut e, &image).1, 1);
}

#[test]
fn an_image_goes_on_after_a_part_of_it_was_dropped() {
    let mut e = encoder("qwen3vl", Box::new(Faulty::new(Cpu::new(1)).slow()));
    let image = e.processor().process(&load("qwen3vl").cases[0].pixels(), None).unwrap();
    let want = block_on(e.encode(&image)).unwrap();
    assert!(polled(1, e.encode(&image)).is_none());
    assert_eq!(block_on(e.encode(&image)).unwrap(), want);
}

/// A matrix and attention in which tokens see those after them.
fn seen_by_all(tokens: usize) -> Case {
    Case::new(format!("attention of {tokens}"), &[tokens], |p| {
        let (x, w) = (p.input(64), p.weight(DType::F16, 32, 64));
        let q = p.g.matmul(w, x);
        let states = ["k", "v"].map(|name| p.g.state(name, 32));
        for state in states {
            p.g.kv_store(q, state);
        }
        let (n_head, d_head) = (2, 16);
        let attn = Attention { n_head, n_kv_head: 2, d_head, scale: 0.25, causal: false, window: None, softcap: None };
        let y = p.g.attention(q, states[0], states[1], attn);
        let w = p.weight(DType::Q8_0, 96, 32);
        p.g.matmul(w, y)
    })
}

#[test]
fn parts_that_end_inside_of_matrices_and_attention_change_nothing() {
    let case = seen_by_all(201);
    let segments = [Segment::alone(&case.tokens, 0, 201)];
    let step = Step::trunk(&segments);
    for c in backends::all() {
        let mut b = (c.make)();
        backends::load(&mut *b, &case).unwrap();
        let want = backends::step(&mut *b, &step, 96).unwrap();
        for work in [1, 300_000, 1_000_000] {
            let (mut from, mut inside) = (0, 0);
            let got = loop {
                let slice = b.submit_slice(&step, from, Some(work)).unwrap();
                let mut values = vec![0.0; if slice.is_last() { want.len() } else { 0 }];
                block_on(poll_fn(|cx| b.poll_logits(cx, &mut values))).unwrap();
                if slice.is_last() {
                    break values;
                }
                inside += usize::from(!slice.next.is_multiple_of(201));
                from = slice.next;
            };
            assert_eq!(got, want, "{}, {work}", c.name);
            assert!(work > 1 || inside >= 6, "{}: {inside} parts end inside of an op", c.name);
        }
    }
}

#[test]
fn places_where_no_part_begins_are_refused() {
    let case = seen_by_all(40);
    for c in backends::all() {
        let mut b = (c.make)();
        backends::load(&mut *b, &case).unwrap();
        let segments = [Segment::alone(&case.tokens, 0, 40)];
        let step = Step::trunk(&segments);
        let first = b.submit_slice(&step, 0, Some(1)).unwrap();
        // Past the end, and inside of an op that does not run in parts.
        for from in [first.of, first.of + 1, u64::MAX, 39] {
            let e = b.submit_slice(&step, from, Some(1)).expect_err(c.name);
            assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{} from {from}: {e}", c.name);
        }
    }
}
