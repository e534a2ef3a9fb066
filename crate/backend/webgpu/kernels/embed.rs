//! Rows of an embedding by token ids.
//!
//! Tests: `tests/suite/kernels.rs`.

use super::elementwise::by_vector;
use super::launch::{Launches, Operand};
use super::libs::{VALUE_TYPES, element, quant, quant_types, value, value_libs};
use super::matrix::{Matrix, THREADS};
use crate::backend::webgpu::dispatch::Access::{Read, Write};
use crate::backend::webgpu::dispatch::{Each, Kernel};
use crate::backend::webgpu::shader::bindings::Bindings;
use crate::backend::webgpu::shader::text::Const::{F, U};
use crate::backend::webgpu::shader::text::{assemble, assemble_with};
use crate::dtype::DType;
use crate::graph::{ValueId, WeightId};

pub(crate) fn lower(l: &mut Launches<'_>, w: WeightId, scale: f32) {
    for (m, part) in l.matrices(w) {
        l.one_kernel(embed(m, scale), &[Operand::Rows, part]);
    }
}

/// Rows of a table that were chosen by another op, or all of them. The table is one part.
pub(crate) fn lower_blend(l: &mut Launches<'_>, w: WeightId, x: ValueId, all: bool) {
    let weight = l.g.weight(w);
    let parts = if all { None } else { Some(l.g.shape(x).cols / 2) };
    let k = if value_libs(weight.dtype).is_some() {
        blend(l.cols(), weight.rows, parts, weight.dtype)
    } else {
        blend_runs(l.matrices(w)[0].0)
    };
    l.one_kernel(k, &[Operand::Weight(w, 0)]);
}

/// The sum of all rows of a quantised matrix.
fn blend_runs(m: Matrix) -> Kernel {
    let mut bindings = Bindings::default();
    bindings.buffer(Read, "x", "f32");
    bindings.buffer(Read, "w", element(m.dtype));
    bindings.buffer(Write, "y", "vec4<f32>");
    let source = assemble_with("blend_runs", &bindings, &quant(m.dtype), &m.consts(), "");
    let grid = [(m.cols / 32).div_ceil(THREADS) as u32, 1];
    Kernel { name: "blend_runs", source, bind: bindings.access, grid, each: Each::Rows(1), z: 1 }
}

/// The sum of `parts` of `rows` rows, or of all.
fn blend(cols: usize, rows: usize, parts: Option<usize>, dtype: DType) -> Kernel {
    let mut libs = value(dtype);
    libs.push(if cols.is_multiple_of(4) { "vector4" } else { "vector1" });
    let consts = [("ROWS", U(rows)), ("NUMBERS", U(parts.unwrap_or(0))), ("PARTS", U(parts.unwrap_or(rows)))];
    by_vector("blend", cols, &libs, &consts, &[Read, Read, Write])
}

fn embed(m: Matrix, scale: f32) -> Kernel {
    let consts = [m.consts(), vec![("SCALE", F(scale))]].concat();
    if !m.in_runs() {
        let source = assemble("embed_unaligned", &[value(m.dtype), vec!["rows"]].concat(), &consts);
        let grid = [m.cols.div_ceil(THREADS) as u32, 1];
        return Kernel {
            name: "embed_unaligned",
            source,
            bind: vec![Read, Read, Write],
            grid,
            each: Each::Rows(1),
            z: 1,
        };
    }
    let mut bindings = Bindings::default();
    bindings.buffer(Read, "rows", "u32");
    bindings.buffer(Read, "w", element(m.dtype));
    bindings.buffer(Write, "y", "vec4<f32>");
    let source = assemble_with("embed", &bindings, &[quant(m.dtype), vec!["rows"]].concat(), &consts, "");
    let grid = [(m.cols / 32).div_ceil(THREADS) as u32, 1];
    Kernel { name: "embed", source, bind: bindings.access, grid, each: Each::Rows(1), z: 1 }
}

pub(crate) fn variants() -> Vec<(String, Kernel)> {
    let of = |dtype: DType, cols| Matrix { dtype, cols, row0: 7, rows: 100, total_rows: 107, held: 100 };
    let whole = quant_types().map(|d| of(d, 768));
    let embeds = whole.chain(VALUE_TYPES.map(|d| of(d, 33))).map(|m| (m.dtype.to_string(), embed(m, 2.0)));
    let blends = VALUE_TYPES.into_iter().flat_map(|d| [33, 64].map(|n| (format!("{n} {d}"), blend(n, 36, Some(4), d))));
    let all = VALUE_TYPES.into_iter().map(|d| (format!("all {d}"), blend(64, 36, None, d)));
    let packed = quant_types().filter(|d| value_libs(*d).is_none());
    let runs = packed.map(|d| (d.to_string(), blend_runs(Matrix { row0: 0, total_rows: 100, ..of(d, 768) })));
    embeds.chain(blends).chain(all).chain(runs).collect()
}
