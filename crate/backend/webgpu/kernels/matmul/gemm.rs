//! A matmul of many rows of x, in tiles.

use super::super::matrix::fold;
use super::face::MatMul;
use crate::backend::webgpu::dispatch::{Each, Kernel};
use crate::backend::webgpu::shader::text::Const::U;
use crate::backend::webgpu::shader::text::assemble_with;

/// A matmul of many rows of x in f32, in tiles of so many of them.
pub(super) fn gemm(p: &MatMul, tile: usize) -> Kernel {
    let (lib, z) = p.tile_lib();
    let (frame, all) = p.frame(64 / p.halves());
    let (grid, grid_x) = fold(all);
    let copies = p.matrices(&[&["run"][..], &p.act_libs(), &[lib]].concat(), |_| vec![], None);
    let consts = [&p.consts(grid_x)[..], &[("TILE", U(tile))]].concat();
    let bindings = p.bindings("vec4<f32>");
    let source = assemble_with("gemm", &bindings, &[], &consts, &(copies + &frame + &p.segments().load_w_run(64)));
    Kernel { name: "gemm", source, bind: bindings.access, grid, each: Each::Rows(tile), z }
}
