//! Matmuls for software adapters, where shaders run on the CPU and the GPU backend is asked for explicitly: by tests,
//! and by pages that name the backend.
//!
//! Kept for the time that tests save. On lavapipe, with both families side by side and all shaders compiled before
//! (SmolLM2 135M Q4_1, CPU seconds): 64 tokens of a prompt take 2.3 instead of 3.7, and 16 decoded tokens 1.6 instead
//! of 3.4; a model needs 15 pipelines instead of 23, of which each costs 0.1 to 0.2 to compile. The price is this file,
//! `gemm_flat`, `flat_one` and `flat_pair`, and that the tests of ops run both families.

use super::super::matrix::fold;
use super::face::MatMul;
use crate::backend::webgpu::dispatch::{Each, Kernel};
use crate::backend::webgpu::shader::text::Const::U;
use crate::backend::webgpu::shader::text::assemble_with;

/// The gemm of software adapters, and with one row their gemv.
pub(super) fn gemm_flat(p: &MatMul, columns: usize) -> Kernel {
    // Narrow workgroups, so that matrices with few rows still occupy all cores.
    let threads = 16;
    let (frame, all) = p.frame(threads * 4 / p.halves());
    let (grid, grid_x) = fold(all);
    let shared = [&["run", "dot"][..], &p.act_libs()].concat();
    let body = if p.halves() == 1 { vec!["flat_one"] } else { vec![] };
    let copies = p.matrices(&shared, |_| body.clone(), Some("flat_pair"));
    let consts = [&p.consts(grid_x)[..], &[("WG", U(threads)), ("T", U(columns))]].concat();
    let bindings = p.bindings("vec4<f32>");
    let own = copies + &frame + &p.segments().flat_of();
    let source = assemble_with("gemm_flat", &bindings, &[], &consts, &own);
    Kernel { name: "gemm_flat", source, bind: bindings.access, grid, each: Each::Rows(columns), z: 1 }
}
