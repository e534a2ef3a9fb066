//! The WebGPU backend: shaders that compile everywhere, weights that arrive in any way, steps that make nothing.

use naga::back::msl;
use naga::valid::{Capabilities, ValidationFlags, Validator};
use pagelm::backend::webgpu::{Options, Target, WebGpu, shader_sources};
use pagelm::backend::{Backend, Limits, Segment, Step};
use pagelm::graph::{Act, Attention, Rope, RopeAxes, RopePairs, WeightId};
use pagelm::{DType, ErrorKind};

use crate::common::backends::{self, gpu, gpu_wanted, run, step};
use crate::common::cases::{Case, Parts};
use crate::common::tol;

#[test]
fn every_shader_variant_is_valid_and_translates_to_msl() {
    let sources = shader_sources();
    for (name, wgsl) in &sources {
        let module =
            naga::front::wgsl::parse_str(wgsl).unwrap_or_else(|e| panic!("{name}: {}\n{wgsl}", e.emit_to_string(wgsl)));
        let info = Validator::new(ValidationFlags::all(), Capabilities::SHADER_FLOAT16_IN_FLOAT32)
            .validate(&module)
            .unwrap_or_else(|e| panic!("{name}: {}\n{wgsl}", e.emit_to_string(wgsl)));
        let options = msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() };
        msl::write_string(&module, &info, &options, &Default::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    assert!(sources.len() > 200, "only {} variants: does the list still hold them all?", sources.len());
}

/// One layer of a small model, with weights of several types.
fn layer(steps: &[usize]) -> Case {
    Case::new("a layer", steps, |p| {
        let embed = p.weight(DType::Q8_0, p.vocab, 64);
        let x = p.g.embed(embed, 1.0);
        let norm = p.weight(DType::F32, 1, 64);
        let h = p.g.rms_norm(x, norm, 1e-5);
        let project = |p: &mut Parts, dtype, rows| {
            let w = p.weight(dtype, rows, 64);
            p.g.matmul(w, h)
        };
        let (q, k, v) = (project(p, DType::Q4_0, 64), project(p, DType::Q5_0, 32), project(p, DType::Q4_1, 32));
        let rope = |d_head| Rope {
            d_head,
            n_rot: 16,
            pairs: RopePairs::Halves,
            axes: RopeAxes::Time,
            base: 1e4,
            scale: 1.0,
            freqs: None,
        };
        let (q, k) = (p.g.rope(q, rope(16)), p.g.rope(k, rope(16)));
        let (k, v) = (p.stored(k, 32), p.stored(v, 32));
        let attn =
            Attention { n_head: 4, n_kv_head: 2, d_head: 16, scale: 0.25, causal: true, window: None, softcap: None };
        let a = p.g.attention(q, k, v, attn);
        let x = p.g.add(x, a);
        let (gate, up) = (project(p, DType::F16, 96), project(p, DType::BF16, 96));
        let y = p.g.glu(gate, up, Act::Silu);
        let down = p.weight(DType::Q8_0, 64, 96);
        let y = p.g.matmul(down, y);
        p.g.add(x, y)
    })
}

fn same(got: &[f32], want: &[f32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let first = got.iter().zip(want).position(|(a, b)| a.to_bits() != b.to_bits());
    assert_eq!(first, None, "{what}: index of the first value that differs");
}

#[test]
fn a_weight_that_is_split_by_rows_gives_the_same_result() {
    if !gpu_wanted() {
        return;
    }
    for software in [true, false] {
        let options = Options { software: Some(software), ..Options::default() };
        let case = layer(&[3, 1, 20]);
        let want = run(&mut gpu(options), &case).expect("runs whole");
        // Slots and states of this case stay below this; the weights do not.
        let mut split = gpu(Options { max_binding: Some(10_400), ..options });
        let got = run(&mut split, &case).expect("runs split");
        same(&got, &want, "split");
    }
    // Parts of whole tiles, and parts that end in the midst of a word with the grid of their type behind each of them.
    for (dtype, parts) in [(DType::Q6_K, 5), (DType::IQ3_S, 3)] {
        let case = Case::new(format!("embedding of {dtype} in parts"), &[1; 60], |p| {
            let w = p.weight(dtype, p.vocab, 256);
            p.g.embed(w, 1.0)
        });
        let mut whole = gpu(Options::default());
        let mut split = gpu(Options { max_binding: Some(4100), ..Options::default() });
        let want = run(&mut whole, &case).expect("runs whole");
        same(&run(&mut split, &case).expect("runs split"), &want, &case.name);
        assert_eq!(split.counters().buffers - whole.counters().buffers, parts - 1, "{}", case.name);
    }
}

#[test]
fn pieces_of_any_size_in_any_order_make_the_same_weights() {
    if !gpu_wanted() {
        return;
    }
    let case = layer(&[5]);
    let want = run(&mut gpu(Options::default()), &case).expect("runs");
    for (piece, reverse) in [(1, true), (3, false), (6, true)] {
        let mut b = gpu(Options { max_binding: Some(8200), ..Options::default() });
        b.prepare(case.plan.clone(), case.limits).expect("prepares");
        for (i, bytes) in case.weights.iter().enumerate() {
            // Tiny pieces at first, then larger ones: each costs some memory until the queue runs.
            let tiny = (0..bytes.len().min(90)).step_by(piece).map(|at| (at, piece.min(90 - at)));
            let mut pieces: Vec<_> = tiny.chain((90..bytes.len()).step_by(1021).map(|at| (at, 1021))).collect();
            if reverse {
                pieces.reverse();
            }
            for (at, len) in pieces {
                let bytes = &bytes[at..bytes.len().min(at + len)];
                b.write_weight(WeightId(i as u32), at, bytes).expect("takes the piece");
            }
        }
        b.finish_weights().expect("is whole");
        let s = Step { segments: &[Segment::alone(&case.tokens, 0, 5)], ..Step::trunk(&[]) };
        same(&step(&mut b, &s, case.cols()).expect("runs"), &want, &format!("pieces of {piece}"));
    }
}

#[test]
fn a_host_can_hand_pieces_to_the_queue_itself() {
    if !gpu_wanted() {
        return;
    }
    let case = layer(&[5]);
    let want = run(&mut gpu(Options::default()), &case).expect("runs");
    let mut b = gpu(Options { max_binding: Some(8200), ..Options::default() });
    b.prepare(case.plan.clone(), case.limits).expect("prepares");
    let mut raw = 0;
    for (i, bytes) in case.weights.iter().enumerate() {
        let w = WeightId(i as u32);
        for start in (0..bytes.len()).step_by(777) {
            let end = bytes.len().min(start + 777);
            let mut at = start;
            while at < end {
                let edge = match b.weight_target(w, at, end - at).expect("has a place") {
                    Target::Raw { buffer, offset, len } => {
                        b.queue().write_buffer(buffer, offset, &bytes[at..at + len]);
                        raw += len;
                        at += len;
                        continue;
                    }
                    Target::Write { len } => len,
                };
                b.write_weight(w, at, &bytes[at..at + edge]).expect("takes the edge");
                at += edge;
            }
        }
    }
    b.finish_weights().expect("is whole");
    let total: usize = case.weights.iter().map(Vec::len).sum();
    assert!(raw > total * 9 / 10, "only {raw} of {total} bytes went straight to the GPU");
    let s = Step { segments: &[Segment::alone(&case.tokens, 0, 5)], ..Step::trunk(&[]) };
    same(&step(&mut b, &s, case.cols()).expect("runs"), &want, "handed over");
}

#[test]
fn a_weight_with_a_hole_is_refused_by_name() {
    if !gpu_wanted() {
        return;
    }
    let case = layer(&[1]);
    let mut b = gpu(Options::default());
    b.prepare(case.plan.clone(), case.limits).expect("prepares");
    b.write_weight(WeightId(0), 0, &case.weights[0][..7]).expect("takes a piece");
    let e = b.finish_weights().expect_err("a word is half there");
    assert_eq!(e.kind(), ErrorKind::InvalidState);
    assert!(e.to_string().contains("`w0`"), "{e}");
    let e = b.write_weight(WeightId(1), 0, &[0; 100_000]).expect_err("too long");
    assert_eq!(e.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_step_is_one_pass_and_one_submit_and_makes_no_pipeline_and_no_buffer() {
    if !gpu_wanted() {
        return;
    }
    let case = layer(&[20, 1, 1, 1]);
    let mut b = gpu(Options::default());
    backends::load(&mut b, &case).expect("loads");
    let made = b.counters();
    assert!(made.pipelines > 0 && made.buffers > 0 && made.steps == 0, "{made:?}");
    let mut before = made;
    let mut pos = 0;
    for &n in &case.steps {
        let s = Step { segments: &[Segment::alone(&case.tokens[pos..pos + n], pos, 1)], ..Step::trunk(&[]) };
        step(&mut b, &s, case.cols()).expect("runs");
        pos += n;
        let c = b.counters();
        assert_eq!((c.steps, c.passes, c.submits), (before.steps + 1, before.passes + 1, before.submits + 1));
        assert_eq!((c.pipelines, c.buffers), (made.pipelines, made.buffers), "made at step {}", c.steps);
        assert!(c.dispatches - before.dispatches <= case.plan.graph.nodes.len() as u64, "at most one dispatch a node");
        assert!(c.bytes_written - before.bytes_written < 2000, "{c:?}");
        assert_eq!(c.bytes_read - before.bytes_read, 4 * case.cols() as u64);
        before = c;
    }
    b.submit(&Step::trunk(&[Segment::alone(&case.tokens[..1], 1, 0)])).expect("runs");
    pollster::block_on(std::future::poll_fn(|cx| b.poll_logits(cx, &mut []))).expect("is over");
    assert_eq!(b.counters().bytes_read, before.bytes_read, "a step without outputs reads nothing");
    b.check().expect("no dispatch binds a buffer both ways, and nothing else went wrong");
}

#[test]
fn several_steps_may_be_on_their_way_and_are_read_in_order() {
    if !gpu_wanted() {
        return;
    }
    let case = layer(&[1, 1, 1, 1]);
    let mut b = gpu(Options::default());
    let want = run(&mut b, &case).expect("runs one by one");
    let segment = |pos: usize| [Segment::alone(&case.tokens[pos..=pos], pos, 1)];
    (0..4).for_each(|pos| b.submit(&Step::trunk(&segment(pos))).expect("is taken"));
    assert_eq!(b.submit(&Step::trunk(&segment(0))).expect_err("full").kind(), ErrorKind::InvalidState);
    for want in want.chunks(case.cols()) {
        let mut got = vec![0.0; case.cols()];
        pollster::block_on(std::future::poll_fn(|cx| b.poll_logits(cx, &mut got))).expect("is read");
        same(&got, want, "in order");
    }
}

#[test]
fn a_prompt_in_pieces_gives_what_it_gives_at_once() {
    if !gpu_wanted() {
        return;
    }
    for software in [true, false] {
        let mut b = gpu(Options { software: Some(software), ..Options::default() });
        let want = run(&mut b, &layer(&[90])).expect("runs at once");
        for steps in [&[17, 2, 1, 70][..], &[1; 90], &[40, 50]] {
            let got = run(&mut b, &layer(&[90]).cut(steps)).expect("runs in pieces");
            tol::ATTENTION.check(&format!("steps {steps:?}"), &got, &want, 64);
        }
    }
}

#[test]
fn weights_take_hardly_more_bytes_on_the_gpu_than_in_the_file() {
    if !gpu_wanted() {
        return;
    }
    let mut b = gpu(Options::default());
    let types: Vec<_> = DType::ALL.iter().copied().filter(|d| b.supports(*d)).collect();
    assert!(types.len() > 20);
    for dtype in types {
        // Rows that are no whole number of tiles, as of vocabularies.
        let case = Case::new(format!("{dtype}"), &[1], |p| {
            let x = p.input(2048);
            let w = p.g.weight("a", dtype, 2051, 2048);
            p.g.matmul(w, x)
        });
        b.prepare(case.plan.clone(), case.limits).unwrap();
        let packed: usize = case.plan.graph.weights.iter().map(|w| w.bytes()).sum();
        let held = b.memory().weights;
        assert!(held as f64 <= 1.02 * packed as f64, "{dtype}: {held} bytes for {packed}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_remedy() {
    if !gpu_wanted() {
        return;
    }
    let case = layer(&[2]);
    let mut b = gpu(Options { spec_limits: true, ..Options::default() });
    let huge = Limits::one(1 << 24, case.limits.max_tokens, case.limits.kv);
    let e = b.prepare(case.plan.clone(), huge).expect_err("a state of 2 GiB");
    assert_eq!(e.kind(), ErrorKind::OutOfMemory);
    assert!(e.to_string().contains("context length"), "{e}");
    backends::load(&mut b, &case).expect("is usable afterwards");
    let refused = |b: &mut WebGpu, s: Segment<'_>| b.submit(&Step::trunk(&[s])).expect_err("does not fit").kind();
    assert_eq!(refused(&mut b, Segment::alone(&case.tokens, 1, 1)), ErrorKind::ContextOverflow);
    assert_eq!(refused(&mut b, Segment::alone(&case.tokens, 0, 3)), ErrorKind::InvalidArgument);
}

#[test]
fn after_the_device_is_lost_every_call_says_so() {
    if !gpu_wanted() {
        return;
    }
    let case = layer(&[1]);
    let mut b = gpu(Options::default());
    backends::load(&mut b, &case).expect("loads");
    b.device().destroy();
    let s = Step { segments: &[Segment::alone(&case.tokens, 0, 1)], ..Step::trunk(&[]) };
    // The first call may only find out.
    let _ = step(&mut b, &s, case.cols());
    let e = step(&mut b, &s, case.cols()).expect_err("the device is gone");
    assert_eq!(e.kind(), ErrorKind::DeviceLost, "{e}");
}
