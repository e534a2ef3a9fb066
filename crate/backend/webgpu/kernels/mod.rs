//! The kernels, one file per family: the face of each kernel (its shader with constants, its bindings, its grid), which
//! of them run for a node, and every variant for the tests that compile them all.
//!
//! A face lists what a kernel binds after the step uniform. Lowering uses `launch`, which names buffers and does not
//! use a device.

pub(super) mod attention;
pub(super) mod delta;
pub(super) mod elementwise;
pub(super) mod embed;
pub(super) mod kv;
pub(super) mod launch;
pub(super) mod libs;
pub(super) mod matmul;
mod matrix;
pub(super) mod moe;
pub(super) mod norm;
pub(super) mod repack;
pub(super) mod rope_store;
pub(super) mod sample;
pub(super) mod table;

use super::shader::files::file;
use super::tuning::{Gemm, Tuning, candidates};
use crate::backend::Limits;
use crate::graph::{FuseRules, Graph, Op};

/// What the kernels of this backend fuse.
pub const FUSE_RULES: FuseRules = FuseRules {
    run: 32,
    // With the other operands this is the number of buffers that every device can bind.
    max_parts: 4,
    vector: 4,
    // Each of the many workgroups of the head would repeat it.
    head_norm: false,
    norm_add_with_next: true,
};

/// Bytes of the scratch buffer that the kernels of a node share.
pub(super) fn scratch_bytes(g: &Graph, limits: Limits, tuning: Tuning) -> u64 {
    let of = |op: &Op| match op {
        Op::FusedMatMul(p) => matmul::scratch_bytes(g, p, limits, tuning),
        Op::Attention { attn, .. } => attention::scratch_bytes(attn, limits, tuning),
        Op::DeltaRule { delta, .. } => delta::scratch_bytes(*delta, limits, tuning),
        _ => 0,
    };
    g.nodes.iter().map(|n| of(&n.op)).max().unwrap_or(0).max(16) as u64
}

/// Bytes of the buffer of rows of x in int8.
pub(super) fn quantized_bytes(g: &Graph, limits: Limits, tuning: Tuning) -> u64 {
    let of = |op: &Op| matmul::quantized_bytes(g, op, limits, tuning);
    g.nodes.iter().map(|n| of(&n.op)).max().unwrap_or(0).max(16) as u64
}

/// The kernel that only reads, as a baseline for others.
pub(super) fn read() -> &'static str {
    file("read")
}

/// The name and the source of each variant of each kernel.
pub fn shader_sources() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for software in [false, true] {
        let tuning = Tuning::new(software, Gemm::F32);
        let kind = if software { "software" } else { "hardware" };
        let kernels = (matmul::variants(tuning).into_iter())
            .chain(embed::variants())
            .chain(elementwise::variants())
            .chain(kv::variants())
            .chain(norm::variants(tuning))
            .chain(rope_store::variants(tuning))
            .chain(attention::variants(tuning))
            .chain(delta::variants(tuning))
            .chain(moe::variants(tuning));
        all.extend(kernels.map(|(what, k)| (format!("{} {what} {kind}", k.name), k.source)));
    }
    let default = Tuning::new(false, Gemm::Q8);
    for knob in candidates(default).into_iter().map(|c| c.knob) {
        let tuning = default.with(knob);
        let kernels = matmul::tuned_variants(tuning).into_iter().chain(attention::tuned_variants(tuning));
        all.extend(kernels.map(|k| (format!("{} {knob:?}", k.name), k.source)));
    }
    all.extend(sample::variants());
    all.extend(repack::variants());
    all.push(("read".to_string(), read().to_string()));
    all
}
