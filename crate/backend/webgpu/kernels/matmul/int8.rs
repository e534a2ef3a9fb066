//! Matmuls in int8.

use super::super::matrix::{THREADS, fold};
use super::face::MatMul;
use crate::backend::webgpu::dispatch::Access::{Read, Write};
use crate::backend::webgpu::dispatch::{Each, Kernel};
use crate::backend::webgpu::shader::text::Const::{B, U};
use crate::backend::webgpu::shader::text::{assemble, assemble_with};
use crate::dtype::DType;

/// A matmul of many rows of x, quantised by `quantize_q8`, with matrices that are all `in_ints`, in tiles of so many rows
/// of x. Small tiles have as many rows of the matrices, unless rows are sorted by expert.
pub(super) fn gemm_q8(p: &MatMul, tile: usize) -> Kernel {
    let (name, rows) = if p.experts.is_none() && tile < 64 { ("gemm_q8_small", tile) } else { ("gemm_q8", 64) };
    let (frame, all) = p.frame(rows / p.halves());
    let (grid, grid_x) = fold(all);
    let (lib, z) = p.tile_lib();
    let shared = [&["run", "ints", "int_products"][..], &p.act_libs(), &[lib]].concat();
    let copies = p.matrices(&shared, |_| vec![], None);
    let has = |dtypes: &[DType]| p.segments.iter().any(|s| dtypes.contains(&s.m.dtype));
    let halved = has(&[DType::Q2_K, DType::Q3_K, DType::Q6_K]);
    let consts =
        [&p.consts(grid_x)[..], &[("TILE", U(tile)), ("HALVED", B(halved)), ("MINIMA", B(p.has_minima()))]].concat();
    let bindings = p.bindings("vec4<u32>");
    let own = copies + &frame + &p.segments().load_w_ints(rows);
    let source = assemble_with(name, &bindings, &[], &consts, &own);
    Kernel { name, source, bind: bindings.access, grid, each: Each::Rows(tile), z }
}

/// Rows of `cols` values in int8. Binds x, y.
pub(super) fn quantize_q8(cols: usize) -> Kernel {
    let runs = cols / 32;
    let source = assemble("quantize_q8", &["run", "dot"], &[("RUNS", U(runs))]);
    let grid = [runs.div_ceil(THREADS) as u32, 1];
    Kernel { name: "quantize_q8", source, bind: vec![Read, Write], grid, each: Each::Rows(1), z: 1 }
}
