//! The choice of a token from a row of logits.
//!
//! Tests: `tests/suite/sample_gpu.rs`.

use crate::backend::webgpu::shader::text::Const::U;
use crate::backend::webgpu::shader::text::assemble;

/// With one workgroup of `threads`, from `n_vocab` logits. `prepare::sampler` makes the pipeline.
pub(crate) fn sample(n_vocab: usize, threads: usize) -> String {
    assemble("sample", &["order", "gumbel"], &[("VOCAB", U(n_vocab)), ("WG", U(threads))])
}

/// The name and the source of each variant.
pub(crate) fn variants() -> Vec<(String, String)> {
    [32, 256, 1024].map(|threads| (format!("sample {threads}"), sample(1031, threads))).to_vec()
}
