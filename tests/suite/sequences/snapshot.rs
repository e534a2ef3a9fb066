//! Sequences as bytes.

use pagelm::ErrorKind;
use pagelm::backend::KvType;
use pagelm::backend::cpu::Cpu;
use pagelm::engine::{Engine, Options, Sequence};
use pollster::block_on;

use super::{FIXTURES, open};
use crate::common::backends;
use crate::common::golden;
use crate::common::rng::Rng;

/// The bytes of a sequence.
pub(crate) fn saved(engine: &mut Engine, s: &mut Sequence) -> pagelm::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut write = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    block_on(engine.save(s, &mut write))?;
    Ok(bytes)
}

/// Reads bytes one after another.
pub(crate) fn reader(mut bytes: &[u8]) -> impl FnMut(&mut [u8]) -> pagelm::Result<()> {
    move |out| {
        let Some((now, later)) = bytes.split_at_checked(out.len()) else {
            return Err(pagelm::Error::new(ErrorKind::BadSnapshot, "the bytes end early"));
        };
        out.copy_from_slice(now);
        bytes = later;
        Ok(())
    }
}

#[test]
fn a_saved_sequence_goes_on_on_another_engine_of_the_same_kind() {
    for name in FIXTURES {
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
fn what_was_left_last_is_saved_and_stays_for_others() {
    for name in FIXTURES {
        let (numbers, _) = golden::load(name);
        let ids = &numbers.prompts[1].ids;
        let options = Options { n_ctx: Some(96), cache: Some(192), ..Options::DEFAULT };
        let mut engine = open(name, Box::new(Cpu::new(1)), options);
        assert!(engine.newest().unwrap().tokens().is_empty(), "{name}: nothing was left yet");
        for tokens in [&[7, 8, 9], &ids[..12]] {
            let mut s = engine.sequence();
            block_on(engine.prefill(&mut s, tokens)).unwrap();
            engine.leave(s);
        }
        let mut newest = engine.newest().unwrap();
        assert_eq!(newest.tokens(), &ids[..12], "{name}");
        let bytes = saved(&mut engine, &mut newest).unwrap();
        drop(newest);
        assert_eq!(engine.resume(&ids[..13]).unwrap().tokens(), &ids[..12], "{name}: it is still idle");
        let mut other = open(name, Box::new(Cpu::new(1)), options);
        assert_eq!(other.restore(&mut reader(&bytes)).unwrap().tokens(), &ids[..12], "{name}");
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

#[test]
fn a_long_past_behind_a_window_is_restored_and_gone_back_into() {
    // Longer than what is kept behind the window.
    let options = Options { n_ctx: Some(3000), ..Options::DEFAULT };
    let open = || open("gemma3", Box::new(Cpu::new(2)), options);
    let ids: Vec<u32> = (0..2600).map(|i| 40 + i * 7 % 300).collect();
    let mut fresh = open();
    let mut after = |n: usize, next: u32| {
        let mut s = fresh.sequence();
        block_on(fresh.prefill(&mut s, &[&ids[..n], &[next]].concat())).unwrap().to_vec()
    };
    let mut engine = open();
    let mut s = engine.sequence();
    block_on(engine.prefill(&mut s, &ids)).unwrap();
    let bytes = saved(&mut engine, &mut s).unwrap();
    let mut other = open();
    let mut restored = other.restore(&mut reader(&bytes)).unwrap();
    for (engine, s) in [(&mut engine, &mut s), (&mut other, &mut restored)] {
        for n in [2600, 2500, 2000, 700] {
            engine.rollback(s, n).unwrap();
            assert!(*block_on(engine.prefill(s, &[7])).unwrap() == *after(n, 7), "back to {n}");
        }
    }
}
