//! Every variant of every shader, for tests that compile them all.

use super::kernels::{self, Experts, Kernel, Matrix, Tuning};
use crate::dtype::DType;
use crate::graph::{Act, Attention, Delta, Dim, Rope, RopePairs};

/// A name and the text of each variant.
pub fn shader_sources() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for tuning in [Tuning { software: false }, Tuning { software: true }] {
        let kind = if tuning.software { "software" } else { "hardware" };
        let kernels =
            matrices(tuning).into_iter().chain(vectors(tuning)).chain(attentions(tuning)).chain(deltas(tuning));
        all.extend(kernels.map(|(what, k)| (format!("{} {what} {kind}", k.name), k.source)));
        all.push((format!("sample {kind}"), kernels::sample(1031, tuning)));
    }
    all
}

fn matrices(tuning: Tuning) -> Vec<(String, Kernel)> {
    let mut all = Vec::new();
    let runs = DType::ALL.iter().filter(|d| kernels::quant_libs(**d).is_some()).map(|d| (*d, 768));
    let odd = DType::ALL.iter().filter(|d| kernels::value_libs(**d).is_some()).map(|d| (*d, 33));
    for (dtype, cols) in runs.chain(odd) {
        let m = Matrix { dtype, cols, row0: 7, rows: 100, total_rows: 107 };
        all.push((dtype.to_string(), kernels::embed(m, 2.0)));
        for of in [Dim::Tokens, Dim::Outputs] {
            all.push((format!("{dtype} of {of}"), kernels::gemv(m, of, tuning)));
            all.push((format!("{dtype} of few {of}"), kernels::gemm(m, of, true, tuning)));
            all.push((format!("{dtype} of many {of}"), kernels::gemm(m, of, false, tuning)));
        }
        for shared_x in [false, true] {
            let experts = Experts { n_expert: 107, n_used: 3, shared_x };
            all.push((format!("{dtype}, shared x: {shared_x}"), kernels::moe_matmul(m, experts, tuning)));
        }
    }
    all
}

fn vectors(tuning: Tuning) -> Vec<(String, Kernel)> {
    let mut all = Vec::new();
    for cols in [33, 64, 2048] {
        let kernels = [
            kernels::add(cols),
            kernels::glu(cols, Act::Silu),
            kernels::glu(cols, Act::GeluTanh),
            kernels::softcap(cols, 30.0),
            kernels::last_rows(cols),
            kernels::kv_store(cols),
            kernels::sigmoid_gate(cols, cols),
            kernels::sigmoid_gate(cols, 1),
            kernels::kv_load(cols),
            kernels::concat(cols, cols + 4),
            kernels::slice(cols * 3, cols, 0, cols),
            kernels::l2_norm(cols * 3, cols, (1e-6, 0.5), tuning),
            kernels::moe_route(cols, 8, tuning),
            kernels::moe_sum(cols, 8),
        ];
        all.extend(kernels.map(|k| (cols.to_string(), k)));
        for dtype in DType::ALL.iter().copied().filter(|d| kernels::value_libs(*d).is_some()) {
            all.push((format!("{cols} {dtype}"), kernels::add_bias(cols, dtype)));
            all.push((format!("{cols} {dtype}"), kernels::rms_norm(cols * 2, cols, dtype, 1e-6, tuning)));
        }
    }
    all
}

fn attentions(tuning: Tuning) -> Vec<(String, Kernel)> {
    let mut all = Vec::new();
    for d_head in [6, 64, 96, 256, 512] {
        for (window, softcap) in [(None, None), (Some(16), None), (None, Some(50.0)), (Some(4), Some(50.0))] {
            let a = Attention { n_head: 4, n_kv_head: 2, d_head, scale: 0.125, window, softcap };
            all.push((format!("{d_head} {window:?} {softcap:?}"), kernels::attention(&a, tuning)));
        }
        for pairs in [RopePairs::Adjacent, RopePairs::Halves] {
            let r = Rope { d_head, n_rot: 4, pairs, base: 1e4, scale: 1.0, freqs: None };
            all.push((format!("{d_head} {pairs:?}"), kernels::rope(d_head * 3, &r)));
        }
    }
    all
}

fn deltas(tuning: Tuning) -> Vec<(String, Kernel)> {
    let mut all = Vec::new();
    for d_head in [1, 6, 31, 128, 256] {
        let delta = Delta { n_k_head: 2, n_v_head: 4, d_head };
        all.push((d_head.to_string(), kernels::delta_rule(delta, tuning)));
    }
    for dtype in DType::ALL.iter().copied().filter(|d| kernels::value_libs(*d).is_some()) {
        for cols in [2, 4] {
            let taps = Matrix { dtype, cols, row0: 7, rows: 100, total_rows: 107 };
            all.push((format!("{cols} {dtype}"), kernels::ssm_conv(taps)));
        }
    }
    all
}
