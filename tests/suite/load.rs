//! Where the bytes of a file go, in any order and in pieces of any size.

use pagelm::ErrorKind;
use pagelm::arch;
use pagelm::engine::{Loader, Model, Options};
use pagelm::gguf::Gguf;
use proptest::prelude::*;

use crate::common::backends::{self, Candidate};
use crate::common::rng::Rng;
use crate::common::{fixtures, golden};

fn llama() -> (Vec<u8>, Gguf, Loader) {
    let file = fixtures::bytes("golden/llama.gguf");
    let gguf = Gguf::parse(&file).unwrap();
    let graph = arch::build(&gguf, &|_| true, Default::default()).unwrap();
    let loader = Loader::new(&gguf, &graph);
    (file, gguf, loader)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_in_any_order_with_repeats_fill_every_weight_with_its_own_bytes(
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        order in any::<u64>(),
    ) {
        let (file, gguf, mut loader) = llama();
        let graph = arch::build(&gguf, &|_| true, Default::default()).unwrap();
        let mut got: Vec<Vec<u8>> = graph.weights.iter().map(|w| vec![0; w.bytes()]).collect();
        let mut at: Vec<usize> = cuts.iter().map(|c| c.index(file.len())).chain([0, file.len()]).collect();
        at.sort_unstable();
        let mut pieces: Vec<_> = at.windows(2).map(|w| w[0]..w[1]).collect();
        pieces.extend(pieces.clone().into_iter().step_by(3)); // some come twice
        pieces.sort_by_key(|p| (p.start as u64).wrapping_mul(order | 1).rotate_left(17));
        for p in pieces {
            let bytes = &file[p.clone()];
            for piece in loader.place(p.start as u64, bytes.len()) {
                let to = &mut got[piece.weight.index()][piece.offset..][..piece.bytes.len()];
                prop_assert!(to.iter().all(|b| *b == 0), "bytes came twice");
                to.copy_from_slice(&bytes[piece.bytes]);
            }
        }
        loader.finish().unwrap();
        let (done, total) = loader.progress();
        prop_assert_eq!(done, total);
        for (w, got) in graph.weights.iter().zip(&got) {
            let t = gguf.tensor(&w.name).unwrap();
            prop_assert!(got == &file[t.offset as usize..(t.offset + t.len) as usize], "{} differs", w.name);
        }
    }
}

/// Both packed formats and f32 take pieces that end inside a value, and whatever comes first.
#[test]
fn an_engine_does_not_care_in_which_order_its_weights_came() {
    let (numbers, file) = golden::load("llama");
    let prompt = &numbers.prompts[0];
    let mut rng = Rng::new(11);
    for Candidate { name, make, .. } in backends::all() {
        let mut last: Option<Vec<f32>> = None;
        for _ in 0..3 {
            let gguf = Gguf::parse(&file).unwrap();
            let mut backend = make();
            let mut model = Model::new(&gguf, &|d| backend.supports(d), &Options::DEFAULT).unwrap();
            backend.prepare(model.plan.clone(), model.limits).unwrap();
            let mut pieces: Vec<_> = Vec::new();
            let mut at = 0;
            while at < file.len() {
                let len = (1 + rng.below(20_000)).min(file.len() - at);
                pieces.push((rng.below(1 << 30), at..at + len));
                at += len;
            }
            pieces.extend(pieces.clone().into_iter().step_by(4)); // some come twice
            pieces.sort_by_key(|p| p.0);
            for (_, range) in pieces {
                let bytes = &file[range.clone()];
                for p in model.loader.place(range.start as u64, bytes.len()) {
                    backend.write_weight(p.weight, p.offset, &bytes[p.bytes]).unwrap();
                }
            }
            let mut session = model.finish(backend).unwrap();
            let logits = pollster::block_on(session.prefill(&prompt.ids)).unwrap().to_vec();
            assert_eq!(*last.get_or_insert(logits.clone()), logits, "{name}");
        }
    }
}

#[test]
fn a_load_that_ended_early_says_how_much_is_missing_and_where() {
    let (file, gguf, mut loader) = llama();
    loader.place(0, file.len() - 10);
    let e = loader.finish().unwrap_err();
    assert_eq!(e.kind(), ErrorKind::GgufTruncated);
    let missing = gguf.end() - (file.len() as u64 - 10);
    assert!(e.to_string().contains(&format!("{missing} bytes")), "{e}");
}

#[test]
fn what_is_wanted_shrinks_to_what_has_not_come() {
    let (file, gguf, mut loader) = llama();
    let all = loader.wanted(u64::MAX);
    assert_eq!(all.len(), 1, "with every gap joined there is one range");
    let middle = gguf.data_offset + 1000;
    loader.place(middle, 500);
    let left = loader.wanted(0);
    assert!(left.iter().all(|r| r.end <= middle || r.start >= middle + 500), "{left:?}");
    loader.place(0, file.len());
    assert!(loader.wanted(0).is_empty());
}

#[test]
fn bytes_beyond_the_file_and_at_the_end_of_the_number_range_are_in_no_piece() {
    let (file, _, mut loader) = llama();
    assert!(loader.place(file.len() as u64, 100).is_empty());
    assert!(loader.place(u64::MAX - 5, 100).is_empty());
    assert!(loader.place(0, 0).is_empty());
}
