//! The op-by-op comparison finds what is wrong, and where.

use pagelm::ErrorKind;
use pagelm::backend::Backend;
use pagelm::backend::cpu::Cpu;
use pagelm::engine::check::Checker;
use pagelm::gguf::Gguf;
use pollster::block_on;

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

#[test]
fn every_op_of_a_right_backend_is_within_its_tolerance() {
    for name in ["llama", "gemma2", "qwen35moe", "qwen35_mtp"] {
        let file = fixtures::bytes(&format!("golden/{name}.gguf"));
        let gguf = Gguf::parse(&file).unwrap();
        let checker = Checker::new(&gguf, &file, TOKENS, false).unwrap();
        let mut cpu = Cpu::new(1);
        for v in checker.nodes() {
            let c = block_on(checker.check(v, &mut cpu)).unwrap();
            assert!(c.ok(), "{name} {v}: {c:?}");
        }
        assert!(checker.layers().all(|s| s.non_finite == 0 && s.min < s.max && s.min <= s.mean && s.mean <= s.max));
    }
}

#[test]
fn only_the_ops_that_are_wrong_are_over_their_tolerance() {
    let file = fixtures::bytes("golden/llama.gguf");
    let gguf = Gguf::parse(&file).unwrap();
    let checker = Checker::new(&gguf, &file, TOKENS, false).unwrap();
    for (op, factor) in [("rope", 1.001), ("attention", 1.001), ("glu", f32::NAN)] {
        let mut broken = broken(op, factor);
        for v in checker.nodes() {
            let c = block_on(checker.check(v, &mut broken)).unwrap();
            assert_eq!(c.ok(), c.op != op, "{v}: {c:?}");
        }
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
