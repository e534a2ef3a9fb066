//! Random operations on many sequences.

use std::collections::HashMap;

use pagelm::ErrorKind;
use pagelm::backend::KvType;
use pagelm::backend::cpu::Cpu;
use pagelm::engine::{Engine, Options, Row, Sequence};
use pollster::block_on;

use super::snapshot::{reader, saved};
use super::{MODELS, open};
use crate::common::rng::Rng;

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
