//! Matmuls, with what passes fuse into them: `face` is shared, then a file for each kernel.
//!
//! Tests: `tests/suite/kernels.rs`, `tests/suite/kernels/moe.rs`, `tests/suite/fusion.rs`, `tests/suite/gpu_q8.rs`.

mod face;
mod gemm;
mod gemv;
mod int8;
mod lower;
mod software;
mod tiles;
mod unaligned;
mod variants;

pub(crate) use lower::{lower, quantized_bytes, scratch_bytes};
pub(crate) use variants::{tuned_variants, variants};
