//! The CPU backend beyond parity.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use pagelm::backend::cpu::Cpu;
use pagelm::backend::reference::Reference;
use pagelm::backend::{Activations, Backend, KvType, Segment, Step};
use pagelm::engine::Options;
use pagelm::graph::{Act, Attention, Rope, RopeAxes, RopePairs, WeightId};
use pagelm::{DType, ErrorKind};

use crate::common::alloc;
use crate::common::backends::{load, run, step};
use crate::common::cases::Case;
use crate::common::tol;
use crate::common::{fixtures, golden};

const WIDTH: usize = 256;

/// A small transformer layer with every kind of op, to logits over 97 tokens.
fn layer(steps: &[usize]) -> Case {
    let total: usize = steps.iter().sum();
    // The name seeds the numbers, so cuts of the same prompt must share it.
    Case::new(format!("layer of {total} tokens"), steps, |p| {
        let (heads, d_head) = (4, WIDTH / 4);
        let x = p.input(WIDTH);
        let norm = p.weight(DType::F32, 1, WIDTH);
        let h = p.g.rms_norm(x, norm, 1e-5);
        let wq = p.weight(DType::Q4_K, WIDTH, WIDTH);
        let [wk, wv] = [DType::Q8_0, DType::Q6_K].map(|d| p.weight(d, WIDTH / 2, WIDTH));
        let rope = Rope {
            d_head,
            n_rot: d_head,
            pairs: RopePairs::Halves,
            axes: RopeAxes::Time,
            base: 1e4,
            scale: 1.0,
            freqs: None,
        };
        let (q, k, v) = (p.g.matmul(wq, h), p.g.matmul(wk, h), p.g.matmul(wv, h));
        let (q, k) = (p.g.rope(q, rope), p.g.rope(k, rope));
        let (k, v) = (p.stored(k, WIDTH / 2), p.stored(v, WIDTH / 2));
        let scale = 1.0 / (d_head as f32).sqrt();
        let attn = Attention {
            n_head: heads,
            n_kv_head: 2,
            d_head,
            scale,
            causal: true,
            window: Some(20),
            softcap: Some(50.0),
        };
        let a = p.g.attention(q, k, v, attn);
        let x = p.g.add(x, a);
        let [gate, up] = [DType::Q4_1, DType::Q5_0].map(|d| p.weight(d, 3 * WIDTH, WIDTH));
        let (gate, up) = (p.g.matmul(gate, x), p.g.matmul(up, x));
        let f = p.g.glu(gate, up, Act::Silu);
        let down = p.weight(DType::Q4_0, WIDTH, 3 * WIDTH);
        let f = p.g.matmul(down, f);
        let x = p.g.add(x, f);
        let x = p.g.rms_norm(x, norm, 1e-5);
        let head = p.weight(DType::F16, 97, WIDTH);
        p.g.matmul(head, x)
    })
}

fn rows(backend: &mut dyn Backend, case: &Case) -> Vec<f32> {
    run(backend, case).unwrap_or_else(|e| panic!("{}: {e}", case.name))
}

#[test]
fn a_layer_agrees_with_the_reference() {
    let case = layer(&[21, 1, 9, 1]);
    let want = rows(&mut Reference::new(), &case);
    tol::LAYER.check(&case.name, &rows(&mut Cpu::new(2), &case), &want, case.cols());
    for level in 0..3 {
        let got = rows(&mut Cpu::with_level(1, level), &case);
        tol::LAYER.check(&format!("{} at level {level}", case.name), &got, &want, case.cols());
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let case = layer(&[21, 1, 9, 1]);
    let one = rows(&mut Cpu::new(1), &case);
    for threads in [2, 3, 7] {
        assert_eq!(one, rows(&mut Cpu::new(threads), &case), "{threads} threads");
    }
}

#[test]
fn threads_of_the_host_may_come_late_or_never() {
    let case = layer(&[21, 1, 9, 1]);
    let want = rows(&mut Cpu::new(1), &case);
    let mut workers = Vec::new();
    let mut cpu = Cpu::with_lent(4, |worker| {
        workers.push(worker);
        workers.len() < 3
    });
    assert_eq!((cpu.threads(), cpu.running()), (3, 1), "the third worker was refused");
    assert_eq!(want, rows(&mut cpu, &case), "nobody came");
    let late: Vec<_> = workers.drain(..2).map(|worker| std::thread::spawn(move || worker.run())).collect();
    while cpu.running() < 3 {
        std::thread::yield_now();
    }
    assert_eq!(want, rows(&mut cpu, &case), "both came");
    drop(cpu);
    late.into_iter().for_each(|thread| thread.join().expect("a worker ends with its pool"));
}

#[test]
fn a_host_that_stops_the_engine_ends_its_step() {
    /// Looks at the flag that are left until it is raised.
    static LEFT: AtomicUsize = AtomicUsize::new(usize::MAX);
    let stopped = || LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_err();
    let case = layer(&[21]);
    let mut cpu = Cpu::new(1).until(stopped);
    let whole = rows(&mut cpu, &case);
    let looks = usize::MAX - LEFT.load(Ordering::Relaxed);
    for before in [0, 1, looks / 2, looks - 1] {
        LEFT.store(before, Ordering::Relaxed);
        assert_ne!(whole, rows(&mut cpu, &case), "what came after look {before} of {looks} was computed");
    }
}

#[test]
fn a_prompt_gives_the_same_bits_wherever_it_is_cut() {
    let whole = layer(&[12]);
    let want = rows(&mut Cpu::new(2), &whole);
    for at in 1..12 {
        assert_eq!(want, rows(&mut Cpu::new(2), &layer(&[12]).cut(&[at, 12 - at])), "cut at {at}");
    }
    assert_eq!(want, rows(&mut Cpu::new(2), &layer(&[12]).cut(&[1; 12])), "one by one");
}

/// Attention over a past of several chunks. Keys and values are numbers that q8_0 and f16 can hold.
fn long_past(d_head: usize, window: Option<usize>, kv: KvType) -> Case {
    let mut case = Case::new(format!("heads of {d_head}, window {window:?}"), &[300], |p| {
        let scale = 1.0 / (d_head as f32).sqrt();
        let attn = Attention { n_head: 6, n_kv_head: 2, d_head, scale, causal: true, window, softcap: None };
        let q = p.input(6 * d_head);
        let [k, v] = [0, 1].map(|_| {
            let cols = 2 * d_head;
            let mut table = p.rng.values(p.vocab * cols);
            for head in table.chunks_exact_mut(d_head) {
                for part in head.chunks_mut(32) {
                    // The largest is 127 steps of a power of two.
                    part.iter_mut().for_each(|x| *x = (x.clamp(-2.0, 2.0) * 63.0).round() / 64.0);
                    part[0] = 127.0 / 64.0;
                }
            }
            let rows = p.input_of(&table);
            p.stored(rows, cols)
        });
        p.g.attention(q, k, v, attn)
    });
    case.limits.kv = kv;
    case
}

const PASTS: [(usize, Option<usize>); 5] = [(20, None), (33, Some(90)), (64, None), (96, Some(200)), (256, None)];

#[test]
fn a_long_past_agrees_with_the_reference() {
    for (d_head, window) in PASTS {
        let case = long_past(d_head, window, KvType::F32);
        let want = rows(&mut Reference::new(), &case);
        for level in 0..4 {
            let got = rows(&mut Cpu::with_level(2, level), &case);
            tol::ATTENTION.check(&format!("{} at level {level}", case.name), &got, &want, 6 * d_head);
        }
    }
}

#[test]
fn a_long_past_gives_the_same_bits_at_any_cut_and_thread_count() {
    for (d_head, window) in PASTS {
        let case = long_past(d_head, window, KvType::F32);
        let want = rows(&mut Cpu::new(2), &case);
        for cut in [&[127, 1, 1, 171][..], &[1, 255, 44], &[290, 1, 1, 1, 7]] {
            for threads in [1, 3] {
                let got = rows(&mut Cpu::new(threads), &long_past(d_head, window, KvType::F32).cut(cut));
                assert_eq!(want, got, "{} in {cut:?} on {threads} threads", case.name);
            }
        }
    }
}

#[test]
fn keys_and_values_that_fewer_bits_can_hold_give_the_same_bits() {
    for (d_head, window) in PASTS {
        for level in 0..4 {
            let want = rows(&mut Cpu::with_level(2, level), &long_past(d_head, window, KvType::F32));
            for kv in [KvType::F16, KvType::Q8_0] {
                // Steps of many tokens decode a block first, those of one read it as it is.
                for cut in [&[300][..], &[260, 1, 38, 1]] {
                    let case = long_past(d_head, window, kv).cut(cut);
                    let got = rows(&mut Cpu::with_level(2, level), &case);
                    assert_eq!(want, got, "{} in {kv:?} in {cut:?} at level {level}", case.name);
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_into_f16_stays_finite_and_what_is_not_a_number_stays_none() {
    for kv in [KvType::F16, KvType::Q8_0] {
        for (value, finite) in [(1e9, true), (-1e9, true), (f32::NAN, false), (f32::INFINITY, false), (0.0, true)] {
            let mut case = Case::new(format!("values of {value} in {kv:?}"), &[1], |p| {
                let attn = Attention {
                    n_head: 1,
                    n_kv_head: 1,
                    d_head: 32,
                    scale: 0.1,
                    causal: true,
                    window: None,
                    softcap: None,
                };
                let x = p.input(32);
                let b = p.weight(DType::F32, 1, 32);
                let v = p.g.add_bias(x, b);
                let (k, v) = (p.stored(x, 32), p.stored(v, 32));
                p.g.attention(x, k, v, attn)
            });
            case.limits.kv = kv;
            let bias = case.weights.iter_mut().find(|w| w.len() == 4 * 32).expect("the bias");
            bias.copy_from_slice(&f32::to_le_bytes(value).repeat(32));
            let got = rows(&mut Cpu::new(1), &case);
            assert_eq!(got.iter().all(|v| v.is_finite()), finite, "{}: {got:?}", case.name);
        }
    }
}

#[test]
fn bytes_past_the_end_of_a_weight_are_refused() {
    let case = layer(&[1]);
    let mut cpu = Cpu::new(1);
    cpu.prepare(case.plan.clone(), case.limits).expect("prepares");
    let len = case.weights[2].len();
    for (offset, n) in [(len - 3, 4), (len, 1), (usize::MAX, 2), (0, len + 1)] {
        let e = cpu.write_weight(WeightId(2), offset, &vec![0; n]).expect_err("does not fit");
        assert_eq!((e.kind(), e.place()), (ErrorKind::InvalidArgument, "w2"), "{e}");
    }
    cpu.write_weight(WeightId(2), len, &[]).expect("nothing fits anywhere");
    let e = cpu.write_weight(WeightId(99), 0, &[1]).expect_err("no such weight");
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn steps_outside_of_the_limits_and_calls_out_of_order_are_refused() {
    let case = layer(&[4]);
    let mut cpu = Cpu::new(2);
    let tokens = [0, 1, 2, 3, 4];
    let kind = |cpu: &mut Cpu, n: usize, pos, outputs| {
        cpu.submit(&Step::trunk(&[Segment::alone(&tokens[..n], pos, outputs)])).expect_err("must be refused").kind()
    };
    assert_eq!(kind(&mut cpu, 1, 0, 1), ErrorKind::InvalidState);
    load(&mut cpu, &case).expect("loads");
    assert_eq!(kind(&mut cpu, 5, 0, 1), ErrorKind::InvalidArgument);
    assert_eq!(kind(&mut cpu, 2, 0, 3), ErrorKind::InvalidArgument);
    assert_eq!(kind(&mut cpu, 2, 3, 1), ErrorKind::ContextOverflow);
    let e = cpu.submit(&Step::trunk(&[Segment::alone(&[1000], 0, 1)])).expect_err("not in the embedding");
    assert_eq!(e.kind(), ErrorKind::TokenOutOfRange);
    assert_eq!(
        step(&mut cpu, &Step::trunk(&[Segment::alone(&tokens[..2], 2, 1)]), case.cols()).expect("runs").len(),
        97
    );
}

#[test]
fn memory_and_steps_are_counted() {
    let case = layer(&[8]);
    let mut cpu = Cpu::new(2);
    rows(&mut cpu, &case);
    let memory = cpu.memory();
    let packed: usize = case.weights.iter().map(Vec::len).sum();
    assert_eq!(memory.weights, packed as u64 + 4 * WIDTH as u64, "packed, and one norm decoded");
    // Keys and values of half the width, in blocks of 64 positions.
    assert_eq!(memory.kv, 2 * 4 * 64 * WIDTH as u64 / 2);
    assert_eq!(cpu.counters().steps, 1);
    step(&mut cpu, &Step::trunk(&[Segment::alone(&[1], 3, 1)]), case.cols()).expect("runs");
    assert_eq!(cpu.counters().steps, 2);
    assert_eq!(cpu.memory(), memory, "a step allocates nothing after the first");
}

/// What a future gives that is never pending, without an executor's own allocations.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the CPU never makes wait"),
    }
}

#[test]
fn decoding_a_token_allocates_nothing_after_the_first() {
    let models = ["llama", "gemma3", "qwen3moe", "qwen35", "quants/qwen3_q4_k", "quants/qwen3_q8_0"];
    for (model, activations) in models.into_iter().flat_map(|m| [(m, Activations::F32), (m, Activations::Q8)]) {
        let file = fixtures::bytes(&format!("golden/{model}.gguf"));
        for threads in [1, 2] {
            let cpu = Box::new(Cpu::new(threads).activations(activations));
            let mut session = golden::open(&file, cpu, Options { n_ctx: Some(64), ..Options::DEFAULT }).expect(model);
            ready(session.prefill(&[1, 2, 3])).expect(model);
            ready(session.decode(4)).expect(model);
            for id in 5..20 {
                let (logits, made) = alloc::made(|| ready(session.decode(id)).map(|l| l[0]));
                assert!(logits.is_ok_and(f32::is_finite));
                assert_eq!(made, 0, "{model} with {activations:?} on {threads} threads, token {id}");
            }
        }
    }
}
