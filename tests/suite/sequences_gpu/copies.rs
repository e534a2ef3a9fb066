//! Copies of the cache of a sequence.

use super::*;

/// The token at 110 of a sequence whose states up to it are in these blocks, and in slot `from`.
fn next(b: &mut WebGpu, case: &Case, context: &[u32], window: &[u32], from: u32) -> Vec<u32> {
    let tokens = [token(case, 0, 110)];
    let s = Segment { blocks: [context, window], from: Some(from), to: &[5], ..Segment::alone(&tokens, 110, 1) };
    backends::step(b, &Step::trunk(&[s]), case.cols()).expect("runs").into_iter().map(f32::to_bits).collect()
}

#[test]
fn a_copy_of_a_sequence_continues_as_it_does() {
    let case = case("copies", all_states);
    on_both(|what, options| {
        let mut b = gpu(options);
        backends::load(&mut b, &case).expect("loads");
        let tokens: Vec<u32> = (0..110).map(|pos| token(&case, 0, pos)).collect();
        let s = Segment { blocks: [&[3, 6], &[4, 1]], to: &[2], ..Segment::alone(&tokens, 0, 1) };
        backends::step(&mut b, &Step::trunk(&[s]), case.cols()).expect("runs");
        for (kind, from, to) in [(0, 3, 12), (0, 6, 15), (1, 1, 10)] {
            b.copy_block(CacheKind::ALL[kind], from, to).expect("is copied");
        }
        let [context, window] = CacheKind::ALL;
        let parts = [
            CachePart::Block(context, 3),
            CachePart::Slot(2),
            CachePart::Block(context, 6),
            CachePart::Block(window, 1),
        ];
        let bytes = read(&mut b, &parts);
        assert!(bytes.iter().all(|part| part.iter().any(|v| *v != 0)), "{what}: what is read is what was computed");
        let want = next(&mut b, &case, &[3, 6], &[u32::MAX, 1], 2);
        assert_eq!(next(&mut b, &case, &[12, 15], &[u32::MAX, 10], 2), want, "{what}: of the copied blocks");
        let mut other = gpu(options);
        backends::load(&mut other, &case).expect("loads");
        let places = [
            CachePart::Block(context, 9),
            CachePart::Slot(6),
            CachePart::Block(context, 0),
            CachePart::Block(window, 11),
        ];
        for (place, bytes) in places.iter().zip(&bytes) {
            other.write_part(*place, bytes).expect("is written");
        }
        assert_eq!(next(&mut other, &case, &[9, 0], &[u32::MAX, 11], 6), want, "{what}: of what was written");
        let e = other.write_part(places[0], &bytes[1]).expect_err("another length");
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        let e = other.submit_read(CachePart::Slot(7)).expect_err("no such slot");
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
        assert_eq!(other.copy_block(window, 0, 14).expect_err("no such block").kind(), ErrorKind::InvalidArgument);
        other.check().expect("nothing went wrong outside");
    });
}
