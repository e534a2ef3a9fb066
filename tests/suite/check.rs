//! The op-by-op comparison finds what is wrong, and where.

use pagelm::ErrorKind;
use pagelm::backend::Backend;
use pagelm::backend::cpu::Cpu;
use pagelm::backend::webgpu::Options;
use pagelm::engine::check::{Checked, Checker};
use pagelm::gguf::Gguf;
use pollster::block_on;

use crate::common::backends::{gpu, gpu_wanted};
use crate::common::faulty::Faulty;
use crate::common::fixtures;

/// The CPU, but what one op makes is a little too large, or no number.
fn broken(op: &'static str, factor: f32) -> impl Backend {
    Faulty::new(Cpu::new(1)).poke(move |plan, _, logits| {
        if plan.graph.nodes.iter().any(|n| n.op.name() == op) {
            logits.iter_mut().for_each(|v| *v *= factor);
        }
    })
}

const TOKENS: &[u32] = &[5, 9, 77, 3, 200, 17];

/// All that there is to check of a fixture, and what comes of it on a candidate.
fn check(name: &str, candidate: &mut dyn Backend) -> Vec<Checked> {
    let file = fixtures::bytes(&format!("golden/{name}.gguf"));
    let gguf = Gguf::parse(&file).unwrap();
    let checker = Checker::new(&gguf, &file, TOKENS, false).unwrap();
    assert!(checker.layers().all(|s| s.non_finite == 0 && s.min < s.max && s.min <= s.mean && s.mean <= s.max));
    let parts = [checker.ops(), checker.blocks(candidate)].concat();
    parts.iter().map(|part| block_on(checker.check(part, candidate)).unwrap()).collect()
}

#[test]
fn every_op_and_layer_of_a_right_backend_is_within_its_tolerance() {
    for name in ["llama", "gemma2", "qwen35moe", "qwen35_mtp"] {
        for c in check(name, &mut Cpu::new(1)) {
            assert!(c.ok(), "{name}: {c:?}");
        }
    }
}

#[test]
fn every_op_and_layer_on_a_gpu_is_within_its_tolerance_with_every_cache() {
    if !gpu_wanted() {
        return;
    }
    for (name, software) in [("llama", None), ("llama", Some(false)), ("gemma2", None), ("qwen35_mtp", None)] {
        let mut gpu = gpu(Options { software, ..Options::default() });
        let all = check(name, &mut gpu);
        for c in &all {
            assert!(c.ok(), "{name}: {c:?}");
        }
        // Rounded keys and values are seen, so they were rounded.
        let largest = |op| all.iter().filter(|c| c.op == op).map(|c| c.diff).fold(0.0, f64::max);
        let [f32, f16, q8_0] = ["f32 cache", "f16 cache", "q8_0 cache"].map(largest);
        assert!(f32 < f16 && f16 < q8_0, "{name}: {f32:e}, {f16:e}, {q8_0:e}");
    }
}

#[test]
fn only_the_ops_that_are_wrong_are_over_their_tolerance() {
    for (op, factor) in [("rope", 1.001), ("attention", 1.001), ("glu", f32::NAN)] {
        for c in check("llama", &mut broken(op, factor)).iter().filter(|c| !c.op.contains("cache") && c.op != "layer") {
            assert_eq!(c.ok(), c.op != op, "{c:?}");
        }
    }
}

#[test]
fn what_is_wrong_in_a_second_step_is_seen_in_layers_and_caches() {
    // Of the steps after a load only the second is off.
    let mut late = Faulty::new(Cpu::new(1)).poke(|_, steps, logits| {
        if steps == 2 {
            logits.iter_mut().for_each(|v| *v *= 1.1);
        }
    });
    for c in check("llama", &mut late) {
        assert_eq!(c.ok(), c.op != "layer" && c.op != "f32 cache", "{c:?}");
    }
}

#[test]
fn tokens_that_cannot_be_meant_are_refused() {
    let file = fixtures::bytes("golden/llama.gguf");
    let gguf = Gguf::parse(&file).unwrap();
    for tokens in [&[][..], &[1 << 30]] {
        let e = Checker::new(&gguf, &file, tokens, false).err().expect("must be refused");
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    }
}
