//! How the GPU keeps keys and values: in fewer bits, and in buffers that grow.

use pagelm::DType;
use pagelm::backend::reference::Reference;
use pagelm::backend::webgpu::Options as GpuOptions;
use pagelm::backend::{BLOCK, Backend, KvType};
use pagelm::engine::Options;
use pollster::block_on;

use super::{Layer, OPTIONS, attention_layer};
use crate::common::backends::{gpu, gpu_wanted, run, steps};
use crate::common::cases::Case;
use crate::common::{golden, tol};

/// Rounding to f16 moves a value by up to 2^-11 of it; to q8_0 by up to 1/254 of the largest of its 32, which is some
/// twenty times as much for a usual one. What attention makes of values moves by as much, and its weights by the error
/// of a score: scores of these heads reach some ten, so by ten times that.
const NARROW: [(KvType, tol::Tol); 3] = [
    (KvType::F32, tol::Tol { abs: 0.0, rel: 2e-4 }),
    (KvType::F16, tol::Tol { abs: 0.0, rel: 5e-3 }),
    (KvType::Q8_0, tol::Tol { abs: 0.0, rel: 1e-1 }),
];

#[test]
fn narrow_caches_differ_by_their_rounding_and_take_less_memory() {
    if !gpu_wanted() {
        return;
    }
    for (d_head, heads) in [(32, (3, 1)), (64, (8, 1)), (96, (2, 2))] {
        let types = [DType::Q8_0; 3];
        let l = Layer { types, d_head, heads, norms: true, biases: false, gated: false, post_norm: true };
        let mut case = Case::new(format!("a layer with heads of {d_head}"), &[1, 13, 260, 1, 4], |p| {
            let x = p.input(96);
            attention_layer(p, x, &l)
        });
        let want = run(&mut Reference::new(), &case).unwrap();
        for software in [false, true] {
            let mut bytes = Vec::new();
            for (kind, tol) in NARROW {
                case.limits.kv = kind;
                let mut b = gpu(GpuOptions { software: Some(software), ..GpuOptions::default() });
                tol.check(&format!("{} in {kind:?}", case.name), &run(&mut b, &case).unwrap(), &want, 96);
                bytes.push(b.memory().kv);
            }
            assert_eq!(bytes[1] * 2, bytes[0]);
            // A byte for each value, and for each 64 of a head a word of two scales.
            let positions = case.limits.blocks[0] * BLOCK;
            let of_head = |bytes: u64| bytes / (2 * positions * heads.1) as u64;
            assert_eq!(of_head(bytes[2]), (d_head + 4 * d_head.div_ceil(64)) as u64);
        }
    }
}

#[test]
fn the_logits_of_models_stay_near_with_narrow_keys_and_values() {
    if !gpu_wanted() {
        return;
    }
    // Logits of the fixtures are a few units large; 2e-3 is what f32 on a GPU is allowed, and the rest is the rounding
    // (2^-11 and 1/254 of each value) through a few layers.
    for (kv_type, most) in [(KvType::F16, 1e-2), (KvType::Q8_0, 1e-1)] {
        for name in ["llama", "qwen3", "gemma3", "qwen35"] {
            let (numbers, file) = golden::load(name);
            let options = Options { kv_type, ..OPTIONS };
            let mut session = golden::open(&file, Box::new(gpu(GpuOptions::default())), options).unwrap();
            let prompt = &numbers.prompts[0];
            let logits = block_on(session.prefill(&prompt.ids)).unwrap();
            let diff = golden::max_diff(logits, &prompt.logits_last.data);
            assert!(diff <= most, "{name} in {kv_type:?}: off by {diff:e}");
        }
    }
}

#[test]
fn the_cache_grows_by_chunks_and_keeps_what_is_in_it() {
    if !gpu_wanted() {
        return;
    }
    let types = [DType::Q8_0; 3];
    let l = Layer { types, d_head: 32, heads: (4, 2), norms: true, biases: false, gated: false, post_norm: false };
    let mut case = Case::new("a layer with a long past", &[500, 12, 1, 700, 1, 300], |p| {
        let x = p.input(96);
        attention_layer(p, x, &l)
    });
    case.limits.n_ctx = 1600;
    for (kind, row) in [(KvType::F32, 2 * 2 * 32 * 4), (KvType::F16, 2 * 2 * 32 * 2), (KvType::Q8_0, 2 * 2 * (32 + 4))]
    {
        case.limits.kv = kind;
        // Fast enough for no step to be cut.
        let mut b = gpu(GpuOptions { rate: Some(u64::MAX), ..GpuOptions::default() });
        b.prepare(case.plan.clone(), case.limits).unwrap();
        let made = b.counters();
        assert_eq!(b.memory().kv, 512 * row, "a chunk at first");
        let rows = run(&mut b, &case).unwrap();
        // Position 512 came with the third step and 1212 with the fourth; 1513 is the last.
        assert_eq!(b.memory().kv, 1536 * row);
        let c = b.counters();
        assert_eq!(c.steps, case.steps.len() as u64);
        // Keys and values moved twice, together.
        assert_eq!((c.buffers - made.buffers, c.submits - c.steps), (4, 2));
        assert_eq!(c.pipelines, made.pipelines);
        // Now that there is room for all, nothing moves.
        assert_eq!(steps(&mut b, &case).unwrap(), rows, "{kind:?}");
        assert_eq!(b.counters().buffers, c.buffers);
    }
}
