//! Matmuls by matrices whose rows are not a multiple of 32 values, which no quantised type allows.

use super::super::libs::value;
use super::super::matrix::{Matrix, THREADS, fold};
use super::face::Experts;
use crate::backend::webgpu::dispatch::Access::{Read, Write};
use crate::backend::webgpu::dispatch::{Each, Kernel};
use crate::backend::webgpu::shader::text::Const::{B, U};
use crate::backend::webgpu::shader::text::assemble;

/// A product for rows that are not a multiple of a run.
pub(super) fn matmul_unaligned(m: Matrix) -> Kernel {
    let (grid, grid_x) = fold(m.rows.div_ceil(THREADS));
    let consts = [m.consts(), vec![("GRID_X", U(grid_x))]].concat();
    let source = assemble("matmul_unaligned", &value(m.dtype), &consts);
    Kernel { name: "matmul_unaligned", source, bind: vec![Read, Read, Write], grid, each: Each::Rows(1), z: 1 }
}
/// The same by experts: `m` holds the rows of all experts, or some of them.
pub(super) fn moe_matmul_unaligned(m: Matrix, e: Experts) -> Kernel {
    let rows = m.total_rows / e.n_expert;
    let mut consts = m.consts();
    consts.extend([("EXPERTS", U(e.n_expert)), ("USED", U(e.n_used)), ("Y_ROWS", U(rows)), ("SHARED", B(e.shared_x))]);
    let grid = [rows.div_ceil(THREADS) as u32, e.n_used as u32];
    let source = assemble("moe_matmul_unaligned", &value(m.dtype), &consts);
    Kernel {
        name: "moe_matmul_unaligned",
        source,
        bind: vec![Read, Read, Read, Write],
        grid,
        each: Each::Rows(1),
        z: 1,
    }
}
