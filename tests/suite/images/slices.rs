//! Encoders that run in parts.

use pagelm::engine::Seeing;

use super::*;

/// Encodes an image in parts of one op, and says how many there were.
fn in_parts(e: &mut Encoder, image: &pagelm::engine::Processed) -> (ImageRows, usize) {
    let (mut parts, mut last) = (1, 0);
    loop {
        match block_on(e.encode_part(image)).unwrap() {
            Seeing::Part { done, total } => {
                assert!(last < done && done < total, "{last}, then {done} of {total}");
                (parts, last) = (parts + 1, done);
            }
            Seeing::Whole(rows) => return (rows, parts),
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
            let (rows, parts) = in_parts(&mut e, &first);
            assert_eq!(rows, a.0, "{name} on {}", c.name);
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
