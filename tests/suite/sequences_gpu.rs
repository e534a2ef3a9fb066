//! Steps with tokens of several sequences, whose blocks and slots lie anywhere: each sequence gets what it gets alone.

mod copies;

use std::future::poll_fn;

use pagelm::backend::reference::Reference;
use pagelm::backend::webgpu::{Options, WebGpu};
use pagelm::backend::{Backend, CachePart, KvType, Limits, MAX_SEGMENTS, Place, Segment, Step};
use pagelm::graph::{Attention, CacheKind, Delta, Op, Rope, RopeAxes, RopePairs, ValueId};
use pagelm::{DType, ErrorKind};
use pollster::block_on;

use crate::common::backends::{self, gpu, gpu_wanted};
use crate::common::cases::{Case, Parts};
use crate::common::tol::{self, Tol};

/// For each sequence its blocks of both kinds, with gaps and in no order. Some are beyond those that there are at first.
const BLOCKS: [[&[u32]; 2]; 3] = [[&[5], &[2]], [&[1, 11], &[9, 0]], [&[7, 3, 14], &[13, 6, 4]]];

/// For each sequence the slots that take turns.
const SLOTS: [[u32; 2]; 3] = [[4, 4], [0, 3], [6, 1]];

const WINDOW: usize = 40;

/// For each step its segments: a sequence, how many of its tokens, and how many rows of logits. The first two sequences
/// begin together, and the last one when they are long.
type Script = &'static [&'static [(usize, usize, usize)]];
const SCRIPT: Script = &[
    &[(1, 70, 70), (2, 100, 100)],
    &[(2, 30, 30)],
    &[(1, 1, 1), (0, 20, 20), (2, 1, 1)],
    &[(0, 1, 1), (2, 1, 1), (1, 1, 1)],
    &[(2, 2, 2), (0, 2, 2), (1, 17, 17)],
    &[(0, 1, 1), (1, 1, 1)],
];

/// Rows of logits in the middle of a step, none, and fewer than tokens.
const SOME_ROWS: Script = &[
    &[(1, 70, 0), (2, 100, 3)],
    &[(2, 30, 30)],
    &[(1, 1, 1), (0, 20, 0), (2, 1, 1)],
    &[(0, 1, 0), (2, 1, 0), (1, 1, 0)],
    &[(2, 2, 1), (0, 2, 0), (1, 17, 2)],
];

/// A graph with room for the scripts.
fn case(name: &str, build: impl FnOnce(&mut Parts) -> ValueId) -> Case {
    let mut case = Case::new(name, &[170], build);
    case.limits = Limits { n_ctx: 192, blocks: [16, 14], slots: 7, ..case.limits };
    case
}

fn token(case: &Case, sequence: usize, pos: usize) -> u32 {
    case.tokens[(sequence * 57 + pos * 3) % case.tokens.len()]
}

/// The tables of a sequence when it runs the token at `pos`. What no window shows any more has no block.
fn tables(sequence: usize, pos: usize) -> [Vec<u32>; 2] {
    let [context, window] = BLOCKS[sequence].map(<[u32]>::to_vec);
    let gone = (pos + 1).saturating_sub(WINDOW) / 64;
    [context, window.into_iter().enumerate().map(|(i, b)| if i < gone { u32::MAX } else { b }).collect()]
}

/// The rows of logits of a script, and those of each sequence alone on the reference, in the same order.
fn run(b: &mut dyn Backend, case: &Case, script: Script) -> (Vec<f32>, Vec<f32>) {
    backends::load(b, case).expect("loads");
    let cols = case.cols();
    let alone: Vec<Vec<f32>> = (0..BLOCKS.len())
        .map(|s| {
            let n: usize = script.iter().flat_map(|step| step.iter()).filter(|p| p.0 == s).map(|p| p.1).sum();
            let tokens: Vec<u32> = (0..n).map(|pos| token(case, s, pos)).collect();
            let limits = Limits::one(192, n, KvType::F32);
            let mut reference = Reference::new();
            backends::load(&mut reference, &Case { limits, ..copy(case) }).expect("loads");
            backends::step(&mut reference, &Step::trunk(&[Segment::alone(&tokens, 0, n)]), cols).expect("runs")
        })
        .collect();
    let (mut got, mut want) = (Vec::new(), Vec::new());
    let (mut seen, mut turns) = ([0; 3], [0; 3]);
    for parts in script {
        let held: Vec<_> = parts
            .iter()
            .map(|&(s, n, _)| ((seen[s]..seen[s] + n).map(|pos| token(case, s, pos)).collect(), tables(s, seen[s])))
            .collect();
        let segments: Vec<_> = (parts.iter().zip(&held))
            .map(|(&(s, _, outputs), (tokens, tables)): (_, &(Vec<u32>, [Vec<u32>; 2]))| Segment {
                tokens,
                pos: seen[s],
                outputs,
                blocks: [&tables[0], &tables[1]],
                from: (seen[s] > 0).then(|| SLOTS[s][turns[s] % 2]),
                to: std::slice::from_ref(&SLOTS[s][(turns[s] + 1) % 2]),
                place: Place::default(),
            })
            .collect();
        got.extend(backends::step(b, &Step::trunk(&segments), cols).expect("runs"));
        for &(s, n, outputs) in *parts {
            seen[s] += n;
            turns[s] += 1;
            want.extend_from_slice(&alone[s][(seen[s] - outputs) * cols..seen[s] * cols]);
        }
    }
    (got, want)
}

fn copy(c: &Case) -> Case {
    Case {
        name: c.name.clone(),
        plan: c.plan.clone(),
        limits: c.limits,
        weights: c.weights.clone(),
        tokens: c.tokens.clone(),
        steps: c.steps.clone(),
        start: c.start,
    }
}

/// Both sets of kernels.
fn on_both(f: impl Fn(&str, Options)) {
    if !gpu_wanted() {
        return;
    }
    for software in [true, false] {
        let what = if software { "software" } else { "hardware" };
        f(what, Options { software: Some(software), ..Options::default() });
    }
}

fn check(case: &Case, script: Script, tol: Tol) {
    on_both(|what, options| {
        let (got, want) = run(&mut gpu(options), case, script);
        tol.check(&format!("{}, {what}", case.name), &got, &want, case.cols());
    });
}

const PLAIN: Attention =
    Attention { n_head: 4, n_kv_head: 2, d_head: 32, scale: 0.05, causal: true, window: None, softcap: None };

fn attention(p: &mut Parts, attn: Attention) -> ValueId {
    let q = p.input(attn.n_head * attn.d_head);
    let [k, v] = [0; 2].map(|_| p.input(attn.n_kv_head * attn.d_head));
    let [k, v] = [k, v].map(|x| p.stored(x, attn.n_kv_head * attn.d_head));
    p.g.attention(q, k, v, attn)
}

#[test]
fn a_token_attends_to_its_own_sequence_wherever_the_blocks_are() {
    for attn in [PLAIN, Attention { window: Some(WINDOW), ..PLAIN }, Attention { d_head: 6, ..PLAIN }] {
        let case = case(&format!("{attn:?}"), |p| attention(p, attn));
        check(&case, SCRIPT, tol::ATTENTION);
    }
}

#[test]
fn rows_of_logits_come_from_the_ends_of_all_segments() {
    let case = case("some rows", |p| attention(p, PLAIN));
    check(&case, SOME_ROWS, tol::ATTENTION);
}

/// Heads that are rotated and stored in one kernel, and others by their window.
fn rotated(p: &mut Parts) -> ValueId {
    let x = p.input(64);
    let norm = p.weight(DType::F32, 1, 64);
    let h = p.g.rms_norm(x, norm, 1e-5);
    let mut sum = None;
    for window in [None, Some(WINDOW)] {
        let [q, k, v] = [128, 64, 64].map(|rows| {
            let w = p.weight(DType::Q8_0, rows, 64);
            p.g.matmul(w, h)
        });
        // Scores of some size, as in a model.
        let [q, k] = [q, k].map(|x| {
            let w = p.weight(DType::F32, 1, 32);
            p.g.rms_norm(x, w, 1e-6)
        });
        let rope = Rope {
            d_head: 32,
            n_rot: 16,
            pairs: RopePairs::Halves,
            axes: RopeAxes::Time,
            base: 1e4,
            scale: 1.0,
            freqs: None,
        };
        let (q, k) = (p.g.rope(q, rope), p.g.rope(k, rope));
        let (keys, values) = (p.stored(k, 64), p.stored(v, 64));
        let y = p.g.attention(q, keys, values, Attention { scale: 0.2, causal: true, window, ..PLAIN });
        sum = Some(sum.map_or(y, |x| p.g.add(x, y)));
    }
    sum.expect("both")
}

#[test]
fn rotated_heads_of_every_type_go_to_the_blocks_of_their_sequence() {
    // What rounding does to attention: as in `fusion/cache.rs`.
    for (kv, rel) in [(KvType::F32, 2e-4), (KvType::F16, 5e-3), (KvType::Q8_0, 1e-1)] {
        let mut case = case(&format!("rotated {kv:?}"), rotated);
        case.limits.kv = kv;
        check(&case, SCRIPT, Tol { abs: 0.0, rel });
    }
}

#[test]
fn rows_by_position_and_angles_are_those_of_the_sequence() {
    let stored = case("kv_load", |p| {
        let x = p.input(33);
        let state = p.g.state("s", 33);
        p.g.kv_store(x, state);
        p.g.kv_load(state)
    });
    check(&stored, SCRIPT, tol::COPY);
    let turned = case("rope", |p| {
        let x = p.input(66);
        p.g.rope(
            x,
            Rope {
                d_head: 33,
                n_rot: 32,
                pairs: RopePairs::Halves,
                axes: RopeAxes::Time,
                base: 1e4,
                scale: 1.0,
                freqs: None,
            },
        )
    });
    check(&turned, SCRIPT, tol::ANGLE);
}

fn conv(p: &mut Parts, x: ValueId, cols: usize) -> ValueId {
    let w = p.weight(DType::F32, cols, 4);
    let state = p.g.recurrent_state("conv", 3, cols);
    p.g.ssm_conv(x, w, state)
}

fn rule(p: &mut Parts) -> ValueId {
    let delta = Delta { n_k_head: 2, n_v_head: 4, d_head: 16 };
    let [q, k] = [0; 2].map(|_| p.input(32));
    let (q, k) = (p.g.l2_norm(q, 16, 1e-6, 0.25), p.g.l2_norm(k, 16, 1e-6, 1.0));
    let v = p.input(64);
    let v = conv(p, v, 64);
    let [alpha, beta] = [0; 2].map(|_| p.input(4));
    let (a, dt) = (p.weight_f32(1, &[-0.3, -1.5, -0.01, -0.9]), p.weight_f32(1, &[0.4, -0.7, 0.1, 1.1]));
    let state = p.g.recurrent_state("delta", 64, 16);
    p.g.op(Op::DeltaRule { q, k, v, alpha, beta, a, dt, state, delta, norm: None })
}

#[test]
fn recurrent_states_go_from_slot_to_slot() {
    let only_conv = case("conv", |p| {
        let x = p.input(33);
        conv(p, x, 33)
    });
    check(&only_conv, SCRIPT, tol::CURVE.times(3.0));
    check(&case("rule", rule), SCRIPT, tol::RECURRENT);
}

/// Rows of both kinds of cache and recurrent states.
fn all_states(p: &mut Parts) -> ValueId {
    let whole = attention(p, Attention { d_head: 16, ..PLAIN });
    let windowed = attention(p, Attention { d_head: 16, causal: true, window: Some(WINDOW), ..PLAIN });
    let rule = rule(p);
    let sum = p.g.add(whole, windowed);
    p.g.add(sum, rule)
}

#[test]
fn a_step_of_several_sequences_is_cut_where_the_gpu_is_slow() {
    let case = case("slow", all_states);
    on_both(|what, options| {
        let mut b = gpu(Options { rate: Some(20), ..options });
        let (got, want) = run(&mut b, &case, SOME_ROWS);
        tol::ATTENTION.times(2.0).check(what, &got, &want, case.cols());
        let c = b.counters();
        assert!(c.passes > c.steps + 20, "the long step ran in parts: {c:?}");
    });
}

#[test]
fn the_cache_grows_when_a_step_names_more_and_a_step_within_it_makes_nothing() {
    let case = case("growth", all_states);
    on_both(|what, options| {
        let mut b = gpu(options);
        let (got, want) = run(&mut b, &case, SCRIPT);
        tol::ATTENTION.times(2.0).check(what, &got, &want, case.cols());
        let before = b.counters();
        let tables = tables(1, 91);
        let [c, w] = &tables;
        let s = Segment { blocks: [c, w], from: Some(0), to: &[3], ..Segment::alone(&[1], 91, 1) };
        backends::step(&mut b, &Step::trunk(&[s; 1]), case.cols()).expect("runs");
        let c = b.counters();
        assert_eq!((c.buffers, c.bind_groups, c.pipelines), (before.buffers, before.bind_groups, before.pipelines));
        assert_eq!((c.submits, c.passes), (before.submits + 1, before.passes + 1));
        b.check().expect("nothing went wrong outside");
    });
}

fn read(b: &mut WebGpu, parts: &[CachePart]) -> Vec<Vec<u8>> {
    parts.iter().for_each(|p| b.submit_read(*p).expect("is taken"));
    let one = |p: &CachePart| {
        let mut bytes = vec![0; b.part_bytes(*p)];
        block_on(poll_fn(|cx| b.poll_read(cx, &mut bytes))).expect("is read");
        bytes
    };
    parts.iter().map(one).collect()
}

#[test]
fn the_states_after_each_of_the_last_tokens_are_those_of_single_steps() {
    let case = case("kept", rule);
    on_both(|what, options| {
        let mut b = gpu(options);
        backends::load(&mut b, &case).expect("loads");
        let tokens: Vec<u32> = (0..13).map(|pos| token(&case, 0, pos)).collect();
        let mut step = |pos: usize, n: usize, from: Option<u32>, to: &[u32]| {
            let s = Segment { from, to, ..Segment::alone(&tokens[pos..pos + n], pos, n) };
            // Another sequence comes first, and its slot is its own.
            let other = Segment { from: None, to: &[0], ..Segment::alone(&tokens[..2], 0, 0) };
            backends::step(&mut b, &Step::trunk(&[other, s]), case.cols()).expect("runs")
        };
        step(0, 8, None, &[1]);
        let want: Vec<f32> =
            [2, 3, 4, 5, 6].iter().enumerate().flat_map(|(i, to)| step(8 + i, 1, Some(to - 1), &[*to])).collect();
        let slots = [4, 5, 6].map(CachePart::Slot);
        let kept = read(&mut b, &slots);
        let mut step = |from: u32, to: &[u32]| {
            let s = Segment { from: Some(from), to, ..Segment::alone(&tokens[8..], 8, 5) };
            backends::step(&mut b, &Step::trunk(&[s]), case.cols()).expect("runs")
        };
        let got = step(1, &[4, 1, 0]);
        assert_eq!(got, want, "{what}");
        assert_eq!(read(&mut b, &[4, 1, 0].map(CachePart::Slot)), kept, "{what}");
    });
}

#[test]
fn a_step_that_names_what_there_is_not_is_refused() {
    if !gpu_wanted() {
        return;
    }
    let case = case("refused", all_states);
    let mut b = gpu(Options::default());
    backends::load(&mut b, &case).expect("loads");
    let tokens = [1; 12];
    let fine = Segment { blocks: [&[1, 2], &[u32::MAX, 3]], from: Some(1), ..Segment::alone(&tokens[..1], 110, 1) };
    let bad = [
        Segment { tokens: &[], outputs: 0, ..fine },
        Segment { outputs: 2, ..fine },
        Segment { blocks: [&[1], &[3, 4]], ..fine },
        Segment { blocks: [&[1, 16], &[3, 4]], ..fine },
        Segment { blocks: [&[1, 2], &[3, 14]], ..fine },
        Segment { blocks: [&[u32::MAX, 2], &[3, 4]], ..fine },
        Segment { from: Some(7), ..fine },
        Segment { to: &[7], ..fine },
        Segment { to: &[], ..fine },
        Segment { to: &[1, 2], ..fine },
        Segment { tokens: &tokens, to: &[1, 2], ..fine },
    ];
    for s in bad {
        let e = b.submit(&Step::trunk(&[s])).expect_err("does not fit");
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{s:?}: {e}");
    }
    for n in [0, 8, MAX_SEGMENTS + 1] {
        let e = b.submit(&Step::trunk(&vec![fine; n])).expect_err("too few or too many");
        assert_eq!(e.kind(), ErrorKind::InvalidArgument, "{n}: {e}");
    }
    assert_eq!(b.counters().submits, 0, "nothing ran");
    b.submit(&Step::trunk(&[fine])).expect("fits");
    b.check().expect("nothing went wrong outside");
}
