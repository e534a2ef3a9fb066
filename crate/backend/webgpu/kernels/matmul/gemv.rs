//! A matmul of few rows of x, which memory decides: each row of a matrix is read once by threads next to each other.

use super::super::matrix::fold;
use super::face::{Input, MatMul};
use crate::backend::webgpu::dispatch::Kernel;
use crate::backend::webgpu::shader::text::Const::U;
use crate::backend::webgpu::shader::text::assemble_with;
use crate::backend::webgpu::tuning::{Tuning, WIDE_MATRIX_ROWS};

/// Threads of a workgroup.
const WG: usize = 64;

/// Threads that share the runs of a row: the most that leave at most a quarter of them idle, else those that leave the
/// fewest.
fn lanes(runs: usize, most: usize) -> usize {
    let busy = |lanes: usize| runs as f32 / (runs.div_ceil(lanes) * lanes) as f32;
    [32, 16, 8].into_iter().find(|&l| l <= most && busy(l) >= 0.75).unwrap_or(8)
}

/// A matmul of up to `columns` rows of x a workgroup, or of one with its experts.
pub fn gemv(p: &MatMul, columns: usize, tuning: Tuning) -> Kernel {
    let rows: usize = p.segments.iter().map(|s| p.rows(s)).max().unwrap_or(0);
    let of = if rows >= WIDE_MATRIX_ROWS { tuning.wide } else { tuning.narrow };
    let (lanes, per_thread) = match (tuning.software, columns) {
        (true, _) => (1, 4),
        (false, 1) => (lanes(p.cols / 32, of.lanes), of.rows),
        (false, _) => (lanes(p.cols / 32, 32), 2),
    };
    let groups = if tuning.software { 16 } else { WG / lanes };
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
    ];
    let tokens = if p.experts.is_some() { "tokens_expert" } else { "tokens" };
    let input: &[&str] = match p.input {
        Input::Plain => &["x_run", "pre_none"],
        Input::Norm { .. } => &["x_run", "table_run", "pre_norm", "squares"],
        Input::SumNorm { .. } => &["x_run", "table_run", "pre_sum_norm", "squares"],
        Input::GatedNorm { .. } => &["x_run", "pre_gated_norm"],
    };
    let shared = [&["run", "dot"][..], &p.act_libs(), &[tokens], input].concat();
    let copies = p.matrices(&shared, Some("rows_one"), Some("rows_pair"));
    let consts = [&p.consts(grid_x)[..], &own].concat();
    let bindings = p.bindings("vec4<f32>");
    let source = assemble_with("gemv", &bindings, &[], &consts, &(copies + &frame + &p.segments().rows_of()));
    let z = match p.experts {
        Some(e) if !p.sums() => e.n_used,
        _ => 1,
    };
    Kernel { name: "gemv", source, bind: bindings.access, grid, rows: columns, z }
}
