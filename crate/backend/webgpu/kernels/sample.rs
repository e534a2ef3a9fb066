//! The choice of a token from each row of logits: a first kernel looks at parts of a row, a second one chooses.
//!
//! Tests: `tests/suite/sample_gpu.rs`.

use crate::backend::MAX_SEGMENTS;
use crate::backend::webgpu::shader::text::Const::U;
use crate::backend::webgpu::shader::text::assemble;

/// The most of the likeliest tokens that are listed: the shaders' `MOST`.
pub(crate) const LISTED: usize = 64;

/// Bytes of the shaders' `Part`.
pub(crate) const PART: usize = 24 + LISTED * 8;

/// The sizes of both kernels.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub n_vocab: usize,
    /// Rows of logits at most.
    pub rows: usize,
    /// Parts of a row, each of which has a workgroup of the first kernel.
    pub parts: usize,
    /// Threads of these workgroups.
    pub part_threads: usize,
    /// Threads of the second kernel's workgroup for a row; no less than the parts.
    pub threads: usize,
}

/// The source of both kernels. `prepare::sampler` makes the pipelines.
pub(crate) fn sample(sizes: Sizes) -> [String; 2] {
    let Sizes { n_vocab, rows, parts, part_threads, threads } = sizes;
    assert!(parts <= threads, "a thread of the second kernel has the list of each part");
    [("sample_parts", part_threads), ("sample", threads)].map(|(name, threads)| {
        let consts = [("VOCAB", U(n_vocab)), ("PARTS", U(parts)), ("WG", U(threads)), ("ROWS", U(rows))];
        assemble(name, &["order", "gumbel", "choice"], &consts)
    })
}

/// The names and the sources of each variant.
pub(crate) fn variants() -> Vec<(String, String)> {
    let of = |rows, parts, part_threads, threads| {
        let sources = sample(Sizes { n_vocab: 1031, rows, parts, part_threads, threads });
        let name = |kernel: &str, threads| match rows {
            1 => format!("{kernel} {threads}"),
            rows => format!("{kernel} {threads} of {rows} rows"),
        };
        [name("sample_parts", part_threads), name("sample", threads)].into_iter().zip(sources).collect::<Vec<_>>()
    };
    [of(1, 8, 32, 32), of(1, 64, 256, 1024), of(MAX_SEGMENTS, 64, 256, 1024)].concat()
}
