//! The kernels of gated delta nets. Those that carry a state go through the tokens of a step in one dispatch.

use super::super::tuning::Tuning;
use super::super::wgsl::Const::{B, F, U};
use super::super::wgsl::{Bindings, assemble, assemble_with};
use super::{Kernel, Matrix, Read, THREADS, Write, value, vectors};
use crate::graph::{Delta, QkNorm, View};

/// One workgroup along z, however many rows the step has.
const WHOLE_STEP: usize = usize::MAX;

pub fn l2_norm(cols: usize, d_head: usize, (eps, scale): (f32, f32), tuning: Tuning) -> Kernel {
    let (v, n) = vectors(d_head);
    let threads = n.next_power_of_two().clamp(8, if tuning.software { 8 } else { 64 });
    let heads = cols / d_head;
    let consts = [("N", U(n)), ("HEADS", U(heads)), ("WG", U(threads)), ("EPS", F(eps)), ("SCALE", F(scale))];
    let source = assemble("l2_norm", &[v], &consts);
    Kernel { name: "l2_norm", source, bind: vec![Read, Write], grid: [heads as u32, 1], rows: 1, z: 1 }
}

/// `taps` has a row for each column of x, and the columns are those of its part. x is a view of whole columns.
pub fn ssm_conv(taps: Matrix, x: View) -> Kernel {
    let libs = [value(taps.dtype), vec!["v1", "act_silu"]].concat();
    let consts = [taps.consts(), vec![("X_STRIDE", U(x.stride)), ("X_AT", U(x.at))]].concat();
    let source = assemble("ssm_conv", &libs, &consts);
    let grid = [taps.rows.div_ceil(THREADS) as u32, 1];
    Kernel { name: "ssm_conv", source, bind: vec![Read, Read, Write, Write], grid, rows: WHOLE_STEP, z: 1 }
}

/// Sizes and views of what the delta rule reads.
#[derive(Clone, Debug)]
pub struct DeltaRule {
    pub delta: Delta,
    pub norm: Option<QkNorm>,
    /// Of q, k, v, alpha and beta; the number says which of the buffers each is in.
    pub views: [(usize, View); 5],
}

/// Binds the buffers of the views, the gates, the state, y.
pub fn delta_rule(r: &DeltaRule, tuning: Tuning) -> Kernel {
    let Delta { n_k_head, n_v_head, d_head } = r.delta;
    let columns = 16;
    // One thread a column needs no barrier.
    let splits: &[usize] = if tuning.software { &[1] } else { &[8, 4, 2, 1] };
    let split = splits.iter().copied().find(|s| d_head.is_multiple_of(*s)).unwrap_or(1);
    let norm = r.norm.unwrap_or(QkNorm { eps: 0.0, q_scale: 1.0, k_scale: 1.0 });
    let consts = [
        ("D", U(d_head)),
        ("K_HEADS", U(n_k_head)),
        ("V_HEADS", U(n_v_head)),
        ("COLUMNS", U(columns)),
        ("SPLIT", U(split)),
        ("DT_AT", U(n_v_head.next_multiple_of(4))),
        ("NORMED", B(r.norm.is_some())),
        ("EPS", F(norm.eps)),
        ("Q_SCALE", F(norm.q_scale)),
        ("K_SCALE", F(norm.k_scale)),
    ];
    let mut b = Bindings::default();
    let buffers = r.views.iter().map(|(i, _)| i + 1).max().unwrap_or(0);
    (0..buffers).for_each(|i| b.buffer(Read, &format!("from_{i}"), "f32"));
    for (name, (i, view)) in ["q", "k", "v", "alpha", "beta"].iter().zip(r.views) {
        b.view(name, &format!("from_{i}"), view, 1, true);
    }
    // The a of each value head, then the dt of each.
    b.buffer(Read, "gates", "f32");
    b.buffer(Write, "state", "f32");
    b.buffer(Write, "y", "f32");
    let grid = [d_head.div_ceil(columns) as u32, n_v_head as u32];
    let source = assemble_with("delta_rule", &b, &[], &consts, "");
    Kernel { name: "delta_rule", source, bind: b.access, grid, rows: WHOLE_STEP, z: 1 }
}
