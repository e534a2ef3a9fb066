//! A matmul of few rows of x, which is memory-bound: neighbouring threads read each row of a matrix once.

use super::super::libs::in_ints;
use super::super::matrix::fold;
use super::face::{Input, MatMul};
use crate::backend::webgpu::dispatch::{Each, Kernel};
use crate::backend::webgpu::shader::text::Const::{B, U};
use crate::backend::webgpu::shader::text::assemble_with;
use crate::backend::webgpu::tuning::{GEMV_MAX_ROWS, Tuning, WIDE_MATRIX_ROWS};
use crate::dtype::DType;

/// Threads of a workgroup with several rows of x.
const WG: usize = 64;

/// The most runs of x in workgroup memory at a time, over all rows.
const STAGED: usize = 64;

/// Threads that share the parts of a row: the most that leave at most a quarter of them idle, else those that leave the
/// fewest.
fn lanes(parts: usize, most: usize) -> usize {
    let busy = |lanes: usize| parts as f32 / (parts.div_ceil(lanes) * lanes) as f32;
    [32, 16, 8, 4].into_iter().find(|&l| l <= most && busy(l) >= 0.75).unwrap_or(8)
}

impl MatMul {
    /// Rows of x that a gemv takes at once, and the most rows of a step that it runs for.
    pub(super) fn gemv_tiles(&self) -> &'static [(usize, usize)] {
        match self.input {
            // The sums of squares of all heads take the workgroup memory that more rows would need.
            Input::GatedNorm { .. } => &[(1, 1), (4, GEMV_MAX_ROWS)],
            _ => &[(1, 1), (4, 4), (8, GEMV_MAX_ROWS)],
        }
    }
}

/// How a thread iterates over a matrix of this type, and how many runs it takes at once.
fn body(dtype: DType) -> (usize, Vec<&'static str>) {
    match dtype {
        DType::Q4_K => (2, vec!["scales_pair", "part_q4_k", "staged_run", "rows_ints"]),
        DType::Q5_K => (2, vec!["scales_pair", "part_q5_k", "staged_run", "rows_ints"]),
        DType::Q6_K => (2, vec!["part_q6_k", "staged_run", "rows_ints"]),
        _ if in_ints(dtype) => (1, vec!["part_ints", "staged_run", "rows_ints"]),
        _ => (1, vec!["staged_run", "rows_run"]),
    }
}

/// A matmul of up to `columns` rows of x per workgroup, or of one row with its experts.
pub(super) fn gemv(p: &MatMul, columns: usize, tuning: Tuning) -> Kernel {
    let rows: usize = p.segments.iter().map(|s| p.rows(s)).max().unwrap_or(0);
    let of = if rows >= WIDE_MATRIX_ROWS { tuning.wide } else { tuning.narrow };
    let runs = p.cols / 32;
    let staged = (STAGED / columns).min(runs.next_multiple_of(16));
    let span = p.segments.iter().map(|s| body(s.m.dtype).0).min().unwrap_or(1);
    let parts = runs.min(staged) / span;
    let (lanes, per_thread, groups) = match (tuning.software, columns) {
        (true, _) => (1, 4, 16),
        (false, 1) => {
            let lanes = lanes(parts, of.lanes);
            (lanes, of.rows.max(p.halves()), of.threads / lanes)
        }
        (false, _) => {
            let lanes = lanes(parts, 32);
            (lanes, 2, WG / lanes)
        }
    };
    let threads = lanes * groups;
    let out = per_thread / p.halves();
    let squares = usize::from(matches!(p.input, Input::Norm { .. } | Input::SumNorm { .. }));
    let sums = (per_thread * columns + squares * columns) * groups;
    let share = (threads / sums).max(1).next_power_of_two().min(lanes);
    let share = if share > 1 && share * sums > threads { share / 2 } else { share };
    let (frame, all) = p.frame(groups * out);
    let (grid, grid_x) = fold(all);
    let own = [
        ("NR", U(per_thread)),
        ("T", U(columns)),
        ("LANES", U(lanes)),
        ("GROUPS", U(groups)),
        ("WG", U(threads)),
        ("SHARE", U(share)),
        ("SQUARES", U(squares)),
        ("STAGED", U(staged)),
        ("AHEAD", U((staged * 8 / threads).clamp(1, 4))),
        ("MINIMA", B(p.has_minima())),
    ];
    let tokens = if p.experts.is_some() { "tokens_expert" } else { "tokens" };
    let input: &[&str] = match p.input {
        Input::Plain => &["pre_none"],
        Input::Norm { .. } => &["pre_norm", "squares"],
        Input::SumNorm { .. } => &["pre_sum_norm", "squares"],
        Input::GatedNorm { .. } => &["pre_gated_norm"],
    };
    let shared = [&["run", "dot", "x_index"][..], &p.act_libs(), &[tokens], input].concat();
    let copies = p.matrices(&shared, |dtype| body(dtype).1, Some("rows_pair"));
    let consts = [&p.consts(grid_x)[..], &own].concat();
    let bindings = p.bindings("vec4<f32>");
    let source = assemble_with("gemv", &bindings, &[], &consts, &(copies + &frame + &p.segments().rows_of()));
    let z = match p.experts {
        Some(e) if !p.sums() => e.n_used,
        _ => 1,
    };
    Kernel { name: "gemv", source, bind: bindings.access, grid, each: Each::Rows(columns), z }
}
