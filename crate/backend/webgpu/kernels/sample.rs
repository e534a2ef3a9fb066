//! The choice of a token from each row of logits.
//!
//! Tests: `tests/suite/sample_gpu.rs`.

use crate::backend::MAX_SEGMENTS;
use crate::backend::webgpu::shader::text::Const::U;
use crate::backend::webgpu::shader::text::assemble;

/// With a workgroup of `threads` for each row of `n_vocab` logits, of which there are `rows` at most. `prepare::sampler` makes
/// the pipeline.
pub(crate) fn sample(n_vocab: usize, threads: usize, rows: usize) -> String {
    let consts = [("VOCAB", U(n_vocab)), ("WG", U(threads)), ("ROWS", U(rows))];
    assemble("sample", &["order", "gumbel"], &consts)
}

/// The name and the source of each variant.
pub(crate) fn variants() -> Vec<(String, String)> {
    let one = [32, 256, 1024].map(|threads| (format!("sample {threads}"), sample(1031, threads, 1)));
    let rows = (format!("sample 1024 of {MAX_SEGMENTS} rows"), sample(1031, 1024, MAX_SEGMENTS));
    one.into_iter().chain([rows]).collect()
}
