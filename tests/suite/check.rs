//! The op-by-op comparison finds what is wrong, and where.

use std::task::{Context, Poll};

use pagelm::backend::cpu::Cpu;
use pagelm::backend::{Backend, Counters, Limits, Memory, Step};
use pagelm::engine::check::Checker;
use pagelm::gguf::Gguf;
use pagelm::graph::{Plan, WeightId};
use pagelm::{DType, ErrorKind, Result};
use pollster::block_on;

use crate::common::fixtures;

/// The CPU, but what one op makes is a thousandth too large, or no number.
struct Broken {
    cpu: Cpu,
    op: &'static str,
    factor: f32,
    has_op: bool,
}

impl Backend for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn supports(&self, dtype: DType) -> bool {
        self.cpu.supports(dtype)
    }

    fn prepare(&mut self, plan: Plan, limits: Limits) -> Result<()> {
        self.has_op = plan.graph.nodes.iter().any(|n| n.op.name() == self.op);
        self.cpu.prepare(plan, limits)
    }

    fn write_weight(&mut self, w: WeightId, offset: usize, bytes: &[u8]) -> Result<()> {
        self.cpu.write_weight(w, offset, bytes)
    }

    fn finish_weights(&mut self) -> Result<()> {
        self.cpu.finish_weights()
    }

    fn submit(&mut self, step: &Step<'_>) -> Result<()> {
        self.cpu.submit(step)
    }

    fn poll_logits(&mut self, cx: &mut Context<'_>, logits: &mut [f32]) -> Poll<Result<()>> {
        let ready = self.cpu.poll_logits(cx, logits);
        if self.has_op {
            logits.iter_mut().for_each(|v| *v *= self.factor);
        }
        ready
    }

    fn save_recurrent(&mut self) -> Result<()> {
        self.cpu.save_recurrent()
    }

    fn restore_recurrent(&mut self) -> Result<()> {
        self.cpu.restore_recurrent()
    }

    fn counters(&self) -> Counters {
        self.cpu.counters()
    }

    fn memory(&self) -> Memory {
        self.cpu.memory()
    }
}

const TOKENS: &[u32] = &[5, 9, 77, 3, 200, 17];

#[test]
fn every_op_of_a_right_backend_is_within_its_tolerance() {
    for name in ["llama", "gemma2", "qwen35moe"] {
        let Some(file) = fixtures::bytes(&format!("golden/{name}.gguf")) else { continue };
        let gguf = Gguf::parse(&file).unwrap();
        let checker = Checker::new(&gguf, &file, TOKENS).unwrap();
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
    let Some(file) = fixtures::bytes("golden/llama.gguf") else { return };
    let gguf = Gguf::parse(&file).unwrap();
    let checker = Checker::new(&gguf, &file, TOKENS).unwrap();
    for (op, factor) in [("rope", 1.001), ("attention", 1.001), ("glu", f32::NAN)] {
        let mut broken = Broken { cpu: Cpu::new(1), op, factor, has_op: false };
        for v in checker.nodes() {
            let c = block_on(checker.check(v, &mut broken)).unwrap();
            assert_eq!(c.ok(), c.op != op, "{v}: {c:?}");
        }
    }
}

#[test]
fn tokens_that_cannot_be_meant_are_refused() {
    let Some(file) = fixtures::bytes("golden/llama.gguf") else { return };
    let gguf = Gguf::parse(&file).unwrap();
    for tokens in [&[][..], &[1 << 30]] {
        let e = Checker::new(&gguf, &file, tokens).err().expect("must be refused");
        assert_eq!(e.kind(), ErrorKind::InvalidArgument);
    }
}
