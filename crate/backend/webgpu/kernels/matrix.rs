//! What a kernel knows about a matrix, and how many workgroups cover its rows.

use crate::backend::webgpu::dispatch::MAX_GRID;
use crate::backend::webgpu::shader::text::Const::{self, U};
use crate::dtype::DType;

/// Threads of the element-wise kernels; their shaders use the same number.
pub(super) const THREADS: usize = 64;

/// Rows `row0` to `row0 + rows` of a matrix of which `total_rows` are used, in a buffer of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix {
    pub dtype: DType,
    pub cols: usize,
    pub row0: usize,
    pub rows: usize,
    pub total_rows: usize,
    /// Rows of the buffer, of which those may be the first.
    pub held: usize,
}

impl Matrix {
    /// Whether rows are whole runs of 32 values, which every quantised row is.
    pub(crate) fn in_runs(&self) -> bool {
        self.cols.is_multiple_of(32)
    }

    pub(crate) fn consts(&self) -> Vec<(&'static str, Const)> {
        let row_bytes = self.dtype.row_bytes(self.cols).expect("the reader refuses rows that are not whole blocks");
        vec![
            ("COLS", U(self.cols)),
            ("RUNS", U(self.cols / 32)),
            ("ROW_BYTES", U(row_bytes)),
            ("BLOCKS", U(self.cols / self.dtype.block_elems())),
            ("ROW0", U(self.row0)),
            ("ROWS", U(self.rows)),
            ("HELD", U(self.held)),
            ("Y_COLS", U(self.total_rows)),
        ]
    }
}

/// `n` workgroups, folded into two dimensions if one cannot hold them, and the length of the first.
pub(super) fn fold(n: usize) -> ([u32; 2], usize) {
    let y = n.div_ceil(MAX_GRID).max(1);
    let x = n.div_ceil(y).max(1);
    ([x as u32, y as u32], x)
}
