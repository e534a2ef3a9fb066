//! Every variant of every shader, for tests that compile them all.

use super::kernels::{self, Experts, Finish, Input, Kernel, Matrix, Output, Projection, Segment};
use super::repack;
use super::tuning::{self, Gemm, Tuning};
use crate::backend::KvType;
use crate::dtype::DType;
use crate::graph::{Act, Attention, Delta, Dim, QkNorm, Rope, RopePairs, View};

/// A name and the text of each variant.
pub fn shader_sources() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for software in [false, true] {
        let tuning = Tuning::new(software, Gemm::F32);
        let kind = if tuning.software { "software" } else { "hardware" };
        let kernels = (matrices(tuning).into_iter())
            .chain(projections(tuning))
            .chain(vectors(tuning))
            .chain(attentions(tuning))
            .chain(deltas(tuning));
        all.extend(kernels.map(|(what, k)| (format!("{} {what} {kind}", k.name), k.source)));
    }
    for threads in [32, 256, 1024] {
        all.push((format!("sample {threads}"), kernels::sample(1031, threads)));
    }
    all.extend(tuned().into_iter().map(|(what, k)| (format!("{} {what}", k.name), k.source)));
    all.push(("read".to_string(), super::wgsl::file("read").to_string()));
    for (dtype, fields) in DType::ALL.iter().filter_map(|d| Some((*d, repack::fields(*d)?))) {
        let tile = repack::TILE * 3 * dtype.block_bytes();
        all.push((format!("repack {dtype}"), repack::source(dtype, 3 * dtype.block_elems(), tile, fields)));
    }
    all
}

/// What tuning chooses from.
fn tuned() -> Vec<(String, Kernel)> {
    let mut all = Vec::new();
    let default = Tuning::new(false, Gemm::Q8);
    for change in tuning::candidates(default).into_iter().map(|c| c.change) {
        let tuning = default.with(change);
        for (cols, rows, output) in
            [(768, 100, Output::Plain), (256, kernels::WIDE + 1, Output::Plain), (768, 100, Output::Glu(Act::Silu))]
        {
            let m = Matrix { dtype: DType::Q4_K, cols, row0: 0, rows, total_rows: rows };
            let segments = vec![Segment { m, column: 0, bias: None }; if output == Output::Plain { 1 } else { 2 }];
            let input = Input::Norm { eps: 1e-5 };
            let p = Projection { cols, input, segments, output, y_cols: rows, of: Dim::Tokens, experts: None };
            all.push((format!("{output:?} {change:?}"), kernels::gemv(&p, 1, tuning)));
        }
        for d_head in [64, 256] {
            let a = Attention { n_head: 12, n_kv_head: 2, d_head, scale: 0.125, window: None, softcap: None };
            all.push((format!("{change:?}"), kernels::attention_split(&a, None, KvType::F16, 7, tuning)));
            all.push((format!("{change:?}"), kernels::attention_join(&a, None, 7, tuning)));
        }
    }
    all
}

/// `cols` whole columns of wider rows.
fn view(cols: usize) -> View {
    View { stride: 3 * cols, at: cols, group: cols, len: cols }
}

/// Heads of eight values with as many between them.
fn gaps(cols: usize) -> View {
    View { stride: 2 * cols, at: 8, group: 16, len: 8 }
}

fn matrix(dtype: DType, cols: usize) -> Matrix {
    Matrix { dtype, cols, row0: 7, rows: 100, total_rows: 107 }
}

fn of_kind(p: &Projection, tuning: Tuning) -> Vec<Kernel> {
    match (p.experts, tuning.software, p.input) {
        (Some(e), software, input) => {
            let mut all = vec![kernels::gemv(p, 1, tuning)];
            // The sum over experts is a kernel of its own there.
            if !software && input == Input::Plain && matches!(p.output, Output::Plain | Output::Glu(_)) {
                let tiled = Projection { experts: Some(Experts { tile: Some(16), ..e }), ..p.clone() };
                all.push(kernels::gemm(&tiled));
                all.extend(p.in_ints().then(|| kernels::gemm_q8(&tiled)));
            }
            all
        }
        (None, true, Input::Plain) => [1, 8].map(|n| kernels::gemm_flat(p, n)).to_vec(),
        (None, true, _) => Vec::new(),
        (None, false, Input::Plain) => {
            let many = [kernels::gemm(p)].into_iter().chain(p.in_ints().then(|| kernels::gemm_q8(p)));
            [1, 4, 8].map(|n| kernels::gemv(p, n, tuning)).into_iter().chain(many).collect()
        }
        (None, false, _) => [1, 4, 8].map(|n| kernels::gemv(p, n, tuning)).to_vec(),
    }
}

fn matrices(tuning: Tuning) -> Vec<(String, Kernel)> {
    let mut all = Vec::new();
    for dtype in DType::ALL.iter().copied().filter(|d| kernels::quant_libs(*d).is_some()) {
        let m = matrix(dtype, 768);
        all.push((dtype.to_string(), kernels::embed(m, 2.0)));
        let segments = vec![Segment { m, column: 0, bias: None }];
        let (input, output, y_cols) = (Input::Plain, Output::Plain, 107);
        let experts = Experts { n_expert: 107, n_used: 3, shared_x: false, tile: None };
        for (of, experts) in [(Dim::Tokens, None), (Dim::Outputs, None), (Dim::Tokens, Some(experts))] {
            let p = Projection { cols: 768, input, segments: segments.clone(), output, y_cols, of, experts };
            all.extend(of_kind(&p, tuning).into_iter().map(|k| (format!("{dtype} of {of}"), k)));
        }
    }
    for dtype in DType::ALL.iter().copied().filter(|d| kernels::value_libs(*d).is_some()) {
        let (m, experts) = (matrix(dtype, 33), Experts { n_expert: 107, n_used: 3, shared_x: true, tile: None });
        all.push((dtype.to_string(), kernels::embed(m, 2.0)));
        all.push((dtype.to_string(), kernels::matmul_any(m)));
        all.push((dtype.to_string(), kernels::moe_matmul_any(m, experts)));
    }
    all
}

/// What passes make: several types in one dispatch, and everything before and after.
fn projections(tuning: Tuning) -> Vec<(String, Kernel)> {
    let mut all = Vec::new();
    let gate = view(768);
    let inputs = [
        Input::Plain,
        Input::Norm { eps: 1e-5 },
        Input::SumNorm { eps: 1e-5, added_eps: 1e-6 },
        Input::GatedNorm { eps: 1e-5, head: 16, gate, act: Act::Silu },
        Input::GatedNorm { eps: 1e-5, head: 128, gate: View { at: 766, ..gate }, act: Act::GeluTanh },
    ];
    let outputs = [
        Output::Plain,
        Output::Glu(Act::Silu),
        Output::Glu(Act::GeluTanh),
        Output::Add { gate: None },
        Output::Add { gate: Some(View { stride: 9, at: 8, group: 1, len: 1 }) },
        Output::AddToItself,
    ];
    let segment = |dtype, column, bias| Segment { m: matrix(dtype, 768), column, bias };
    for (input, output) in inputs.into_iter().flat_map(|i| outputs.map(|o| (i, o))) {
        let segments = match output {
            Output::Plain => vec![
                segment(DType::Q4_K, 0, Some(768)),
                segment(DType::Q4_K, 107, None),
                segment(DType::Q6_K, 214, Some(876)),
                segment(DType::F32, 321, None),
            ],
            Output::Glu(_) => vec![segment(DType::Q5_0, 0, Some(768)), segment(DType::Q8_0, 0, None)],
            _ => vec![segment(DType::Q4_K, 0, None)],
        };
        if matches!((input, output), (Input::GatedNorm { .. }, Output::Glu(_))) {
            continue; // No pass makes it.
        }
        let shared_x = !matches!(output, Output::Add { .. });
        let some = Experts { n_expert: 1, n_used: 3, shared_x, tile: None };
        let one = segments.len() == 1 || matches!(output, Output::Glu(_));
        let simple = matches!(input, Input::Plain | Input::Norm { .. });
        for experts in [None, Some(some)].into_iter().filter(|e| e.is_none() || one && simple) {
            let p = Projection {
                cols: 768,
                input,
                segments: segments.clone(),
                output,
                y_cols: 428,
                of: Dim::Tokens,
                experts,
            };
            all.extend(of_kind(&p, tuning).into_iter().map(|k| (format!("{input:?} {output:?}"), k)));
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
            kernels::moe_route(cols, 8, view(cols), tuning),
            kernels::moe_sum(cols, 8, false),
            kernels::moe_sum(cols, 8, true),
            kernels::moe_group(cols, 8, 16),
            kernels::quantize_q8(cols.next_multiple_of(32)),
        ];
        all.extend(kernels.map(|k| (cols.to_string(), k)));
        for dtype in DType::ALL.iter().copied().filter(|d| kernels::value_libs(*d).is_some()) {
            all.push((format!("{cols} {dtype}"), kernels::add_bias(cols, dtype)));
            for finish in [Finish::None, Finish::Add, Finish::Gate(view(2 * cols), Act::Silu)] {
                let k = kernels::rms_norm(cols * 2, cols, dtype, 1e-6, finish, tuning);
                all.push((format!("{cols} {dtype} {finish:?}"), k));
            }
        }
    }
    all
}

fn attentions(tuning: Tuning) -> Vec<(String, Kernel)> {
    let mut all = Vec::new();
    for d_head in [6, 64, 80, 96, 256, 512] {
        for (window, softcap) in [(None, None), (Some(16), None), (None, Some(50.0)), (Some(4), Some(50.0))] {
            let a = Attention { n_head: 12, n_kv_head: 2, d_head, scale: 0.125, window, softcap };
            let gates = [None, Some(gaps(12 * d_head))];
            let kinds =
                [KvType::F32, KvType::F16, KvType::Q8_0].into_iter().filter(|k| *k == KvType::F32 || d_head % 4 == 0);
            for (gate, kind) in kinds.flat_map(|k| gates.map(|g| (g, k))) {
                let mut kernels =
                    vec![kernels::attention(&a, gate, kind, tuning), kernels::attention_tile(&a, gate, kind)];
                if kernels::split_of(&a, tuning.keys).is_some() {
                    kernels.extend([1, 7].map(|chunks| kernels::attention_split(&a, gate, kind, chunks, tuning)));
                    kernels.push(kernels::attention_join(&a, gate, 7, tuning));
                }
                all.extend(
                    kernels.into_iter().map(|k| (format!("{d_head} {window:?} {softcap:?} {gate:?} {kind:?}"), k)),
                );
            }
        }
        for pairs in [RopePairs::Adjacent, RopePairs::Halves] {
            let rope = Rope { d_head, n_rot: 4, pairs, base: 1e4, scale: 1.0, freqs: None };
            all.push((format!("{d_head} {pairs:?}"), kernels::rope(d_head * 3, &rope)));
            let kinds = [KvType::F32, KvType::F16, KvType::Q8_0].into_iter().filter(|_| d_head % 4 == 0);
            for (kind, eps) in kinds.flat_map(|k| [(k, None), (k, Some(1e-5))]) {
                let views = [gaps(d_head), view(d_head), view(d_head)];
                let place = kernels::Place { n_head: 12, n_kv_head: 2, rope, views, eps, kv: kind };
                all.push((format!("{d_head} {pairs:?} {eps:?} {kind:?}"), kernels::place(&place, tuning)));
            }
        }
    }
    all
}

fn deltas(tuning: Tuning) -> Vec<(String, Kernel)> {
    let mut all = Vec::new();
    for d_head in [1, 6, 31, 128, 256] {
        let delta = Delta { n_k_head: 2, n_v_head: 4, d_head };
        let apart = [0, 1, 2, 3, 4].map(|i| (i, View { stride: 4, at: 0, group: 4, len: 4 }));
        let together = [0, 0, 0, 1, 1].map(|i| (i, view(4 * d_head)));
        for (norm, views) in [(None, apart), (Some(QkNorm { eps: 1e-6, q_scale: 0.5, k_scale: 1.0 }), together)] {
            let rule = kernels::DeltaRule { delta, norm, views };
            let mut kernels = vec![kernels::delta_rule(&rule, tuning)];
            if let Some(c) = kernels::DeltaChunks::of(delta).filter(|_| !tuning.software) {
                kernels.extend([kernels::delta_prepare(&rule, c), kernels::delta_scan(&rule, c)]);
            }
            all.extend(kernels.into_iter().map(|k| (format!("{d_head} {norm:?}"), k)));
        }
    }
    for dtype in DType::ALL.iter().copied().filter(|d| kernels::value_libs(*d).is_some()) {
        for cols in [2, 4] {
            all.push((format!("{cols} {dtype}"), kernels::ssm_conv(matrix(dtype, cols), view(107))));
        }
    }
    all
}
