//! Every variant of every matmul.

use super::super::libs::{VALUE_TYPES, quant_types};
use super::super::matrix::Matrix;
use super::face::{Experts, Input, MatMul, Output, Segment};
use super::gemm::gemm;
use super::gemv::gemv;
use super::int8::{gemm_q8, quantize_q8};
use super::software::gemm_flat;
use super::tiles::TILES;
use super::unaligned::{matmul_unaligned, moe_matmul_unaligned};
use crate::backend::webgpu::dispatch::Kernel;
use crate::backend::webgpu::tuning::{Tuning, WIDE_MATRIX_ROWS};
use crate::dtype::DType;
use crate::graph::{Act, Dim, View};

pub(crate) fn variants(tuning: Tuning) -> Vec<(String, Kernel)> {
    let quantize = [64, 2048].map(|n| (n.to_string(), quantize_q8(n)));
    matrices(tuning).into_iter().chain(fused(tuning)).chain(quantize).collect()
}

/// The variants that tuning chooses from.
pub(crate) fn tuned_variants(tuning: Tuning) -> Vec<Kernel> {
    let shapes =
        [(768, 100, Output::Plain), (256, WIDE_MATRIX_ROWS + 1, Output::Plain), (768, 100, Output::Glu(Act::Silu))];
    let kernel = |(cols, rows, output)| {
        let m = Matrix { dtype: DType::Q4_K, cols, row0: 0, rows, total_rows: rows, held: rows };
        let segments = vec![Segment { m, column: 0, bias: None }; if output == Output::Plain { 1 } else { 2 }];
        let input = Input::Norm { eps: 1e-5 };
        let p = MatMul { cols, input, segments, output, y_cols: rows, of: Dim::Tokens, experts: None };
        gemv(&p, 1, tuning)
    };
    shapes.map(kernel).to_vec()
}

fn matrix(dtype: DType, cols: usize) -> Matrix {
    Matrix { dtype, cols, row0: 7, rows: 100, total_rows: 107, held: 100 }
}

fn of_kind(p: &MatMul, tuning: Tuning) -> Vec<Kernel> {
    let few = || p.gemv_tiles().iter().map(|(columns, _)| gemv(p, *columns, tuning));
    match (p.experts, tuning.software, p.input) {
        (Some(e), software, input) => {
            let mut all = vec![gemv(p, 1, tuning)];
            // In tiles the sum over experts is a kernel of its own.
            if !software && input == Input::Plain && matches!(p.output, Output::Plain | Output::Glu(_)) {
                let tiled = MatMul { experts: Some(Experts { tile: Some(16), ..e }), ..p.clone() };
                all.push(gemm(&tiled, 16));
                all.extend(p.in_ints().then(|| gemm_q8(&tiled, 16)));
            }
            all
        }
        (None, true, Input::Plain) => [1, 8].map(|n| gemm_flat(p, n)).to_vec(),
        (None, true, _) => Vec::new(),
        (None, false, Input::Plain) => {
            let tiles = || TILES.into_iter().rev();
            let ints = p.in_ints().then(|| tiles().map(|tile| gemm_q8(p, tile)));
            few().chain(tiles().map(|tile| gemm(p, tile))).chain(ints.into_iter().flatten()).collect()
        }
        (None, false, _) => few().collect(),
    }
}

fn matrices(tuning: Tuning) -> Vec<(String, Kernel)> {
    let mut all = Vec::new();
    for dtype in quant_types() {
        let m = matrix(dtype, 768);
        let segments = vec![Segment { m, column: 0, bias: None }];
        let (input, output, y_cols) = (Input::Plain, Output::Plain, 107);
        let experts = Experts { n_expert: 107, n_used: 3, shared_x: false, tile: None };
        for (of, experts) in [(Dim::Tokens, None), (Dim::Outputs, None), (Dim::Tokens, Some(experts))] {
            let p = MatMul { cols: 768, input, segments: segments.clone(), output, y_cols, of, experts };
            all.extend(of_kind(&p, tuning).into_iter().map(|k| (format!("{dtype} of {of}"), k)));
        }
    }
    for dtype in VALUE_TYPES {
        let (m, experts) = (matrix(dtype, 33), Experts { n_expert: 107, n_used: 3, shared_x: true, tile: None });
        all.push((dtype.to_string(), matmul_unaligned(m)));
        all.push((dtype.to_string(), moe_matmul_unaligned(m, experts)));
    }
    all
}

/// What passes make: several types in one dispatch, with everything fused before and after.
fn fused(tuning: Tuning) -> Vec<(String, Kernel)> {
    let mut all = Vec::new();
    let gate = View { stride: 3 * 768, at: 768, group: 768, len: 768 };
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
            let p =
                MatMul { cols: 768, input, segments: segments.clone(), output, y_cols: 428, of: Dim::Tokens, experts };
            all.extend(of_kind(&p, tuning).into_iter().map(|k| (format!("{input:?} {output:?}"), k)));
        }
    }
    all
}
