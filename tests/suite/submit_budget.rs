//! Long steps on a GPU that is slow, or is said to be: several submits, and the same numbers.

use pagelm::backend::webgpu::{Options as GpuOptions, WebGpu};
use pagelm::backend::{Backend, Counters, Segment, Step};
use pagelm::engine::{GenerateParams, Generation, Options, SamplerParams};
use pagelm::gguf::Gguf;
use pagelm::graph::{Act, Attention};
use pagelm::text::Tokenizer;
use pagelm::{DType, ErrorKind};
use pollster::block_on;

use crate::common::backends::{self, gpu, gpu_wanted, run};
use crate::common::cases::Case;
use crate::common::{golden, tol};

/// Work of a second, a twentieth of which a submit holds: more than any of these steps, some dispatches of them, and
/// less than any dispatch.
const FAST: u64 = 1 << 50;
const SLOW: u64 = 150_000_000;
const SLOWEST: u64 = 20;

/// Attention and a matrix, three times.
fn layers(steps: &[usize]) -> Case {
    Case::new("layers", steps, |p| {
        let mut x = p.input(128);
        for _ in 0..3 {
            let (k, v) = (p.stored(x, 128), p.stored(x, 128));
            let attn = Attention {
                n_head: 4,
                n_kv_head: 4,
                d_head: 32,
                scale: 0.05,
                causal: true,
                window: None,
                softcap: None,
            };
            let y = p.g.attention(x, k, v, attn);
            let (gate, up) = (p.weight(DType::Q8_0, 128, 128), p.weight(DType::Q4_0, 128, 128));
            let (gate, up) = (p.g.matmul(gate, y), p.g.matmul(up, y));
            let y = p.g.glu(gate, up, Act::Silu);
            x = p.g.l2_norm(y, 128, 1e-6, 1.0);
        }
        x
    })
}

fn gpu_at(rate: u64, software: bool) -> WebGpu {
    gpu(GpuOptions { rate: Some(rate), software: Some(software), ..GpuOptions::default() })
}

fn since(before: Counters, after: Counters) -> (u64, u64, u64) {
    (after.steps - before.steps, after.passes - before.passes, after.submits - before.submits)
}

#[test]
fn a_long_step_is_as_many_submits_as_it_needs_and_its_logits_stay_the_same() {
    if !gpu_wanted() {
        return;
    }
    for software in [true, false] {
        let case = layers(&[90]);
        let mut fast = gpu_at(FAST, software);
        let want = run(&mut fast, &case).expect("runs at once");
        assert_eq!((fast.counters().passes, fast.counters().submits), (1, 1));
        let mut slow = gpu_at(SLOW, software);
        let got = run(&mut slow, &case).expect("runs in slices");
        let c = slow.counters();
        assert!(c.submits >= 2 && c.submits == c.passes && c.submits < c.dispatches, "{c:?}");
        assert_eq!(c.dispatches, fast.counters().dispatches, "cut between dispatches only");
        assert_eq!((c.steps, c.bytes_read, c.in_flight), (1, fast.counters().bytes_read, 1));
        assert!(got.iter().zip(&want).all(|(a, b)| a.to_bits() == b.to_bits()));
    }
}

#[test]
fn a_step_takes_fewer_tokens_at_once_where_one_dispatch_of_all_would_take_long() {
    if !gpu_wanted() {
        return;
    }
    for software in [true, false] {
        let case = layers(&[90, 70]);
        let want = run(&mut gpu_at(FAST, software), &case).expect("runs at once");
        let mut b = gpu_at(SLOWEST, software);
        backends::load(&mut b, &case).expect("loads");
        let made = b.counters();
        let mut pos = 0;
        for (outputs, n) in [(3, 90), (70, 70)] {
            let before = b.counters();
            let s = Step { segments: &[Segment::alone(&case.tokens[pos..pos + n], pos, outputs)], ..Step::trunk(&[]) };
            let got = backends::step(&mut b, &s, case.cols()).expect("runs in parts");
            pos += n;
            let want = &want[(pos - outputs) * case.cols()..pos * case.cols()];
            tol::ATTENTION.times(3.0).check("the last rows, through three layers", &got, want, case.cols());
            let (steps, passes, submits) = since(before, b.counters());
            assert_eq!((steps, passes), (1, submits), "one step for the caller");
            assert_eq!(submits, b.counters().dispatches - before.dispatches, "each dispatch by itself");
            assert_eq!(b.counters().bytes_read - before.bytes_read, (4 * outputs * case.cols()) as u64);
        }
        assert_eq!((b.counters().pipelines, b.counters().buffers), (made.pipelines, made.buffers));
        // A token alone is one submit however slow the GPU is said to be, and a full ring starts nothing.
        let before = b.counters();
        let s = Step { segments: &[Segment::alone(&case.tokens[..1], pos - 1, 0)], ..Step::trunk(&[]) };
        while let Ok(()) = b.submit(&s) {}
        let (steps, passes, submits) = since(before, b.counters());
        assert_eq!((steps, steps), (passes, submits));
        let e = b.submit(&Step::trunk(&[Segment::alone(&case.tokens[..90], 0, 1)])).expect_err("no room");
        assert_eq!(e.kind(), ErrorKind::InvalidState);
        assert_eq!(since(before, b.counters()), (steps, passes, submits));
        b.check().expect("nothing went wrong outside");
    }
}

#[test]
fn a_prompt_in_slices_is_answered_with_the_same_tokens() {
    if !gpu_wanted() {
        return;
    }
    // Attention and recurrent states.
    for name in ["llama", "qwen35"] {
        let answer = |rate| {
            let (_, llama) = golden::load("llama");
            let tokenizer = Tokenizer::from_gguf(&Gguf::parse(&llama).unwrap().meta).unwrap();
            let options = Options { n_ctx: Some(96), max_tokens: 60, max_outputs: 1, ..Options::DEFAULT };
            let mut s = golden::open(&golden::load(name).1, Box::new(gpu_at(rate, true)), options).unwrap();
            let prompt: Vec<u32> = (0..70).map(|i| i * 7 % 90).collect();
            let sampler = SamplerParams { seed: 5, ..SamplerParams::default() };
            let params = GenerateParams { max_tokens: Some(9), sampler, ignore_eos: true, ..GenerateParams::default() };
            let mut g = Generation::new(&mut s, &tokenizer, &prompt, params, 0.0).unwrap();
            while block_on(g.next(&mut s, &tokenizer, &|| 0.0)).unwrap().is_some() {}
            (g.generated().to_vec(), s.backend().counters())
        };
        let (want, _) = answer(FAST);
        let (got, c) = answer(SLOWEST);
        assert_eq!(got, want, "{name}");
        assert!(c.submits > c.steps + 10, "the prompt was cut: {c:?}");
    }
}
