//! The kernels of gated delta nets. Those that carry a state go through the tokens of a step in one dispatch.

use super::super::wgsl::Const::{F, U};
use super::super::wgsl::assemble;
use super::{Kernel, Matrix, Read, THREADS, Tuning, Write, value, vectors};
use crate::graph::Delta;

/// One workgroup along z, however many rows the step has.
const WHOLE_STEP: usize = usize::MAX;

pub fn l2_norm(cols: usize, d_head: usize, (eps, scale): (f32, f32), tuning: Tuning) -> Kernel {
    let (v, n) = vectors(d_head);
    let threads = n.next_power_of_two().clamp(8, if tuning.software { 8 } else { 64 });
    let heads = cols / d_head;
    let consts = [("N", U(n)), ("HEADS", U(heads)), ("WG", U(threads)), ("EPS", F(eps)), ("SCALE", F(scale))];
    let source = assemble("l2_norm", &[v], &consts);
    Kernel { name: "l2_norm", source, bind: &[Read, Write], grid: [heads as u32, 1], rows: 1 }
}

/// `taps` has a row for each column of x, and the columns are those of its part.
pub fn ssm_conv(taps: Matrix) -> Kernel {
    let libs = [value(taps.dtype), vec!["v1", "act_silu"]].concat();
    let source = assemble("ssm_conv", &libs, &taps.consts());
    let grid = [taps.rows.div_ceil(THREADS) as u32, 1];
    Kernel { name: "ssm_conv", source, bind: &[Read, Read, Write, Write], grid, rows: WHOLE_STEP }
}

pub fn delta_rule(delta: Delta, tuning: Tuning) -> Kernel {
    let Delta { n_k_head, n_v_head, d_head } = delta;
    let columns = 16;
    // One thread a column needs no barrier.
    let splits: &[usize] = if tuning.software { &[1] } else { &[8, 4, 2, 1] };
    let split = splits.iter().copied().find(|s| d_head.is_multiple_of(*s)).unwrap_or(1);
    let consts = [
        ("D", U(d_head)),
        ("K_HEADS", U(n_k_head)),
        ("V_HEADS", U(n_v_head)),
        ("COLUMNS", U(columns)),
        ("SPLIT", U(split)),
    ];
    let grid = [d_head.div_ceil(columns) as u32, n_v_head as u32];
    let bind = &[Read, Read, Read, Read, Read, Read, Write, Write];
    Kernel { name: "delta_rule", source: assemble("delta_rule", &[], &consts), bind, grid, rows: WHOLE_STEP }
}
