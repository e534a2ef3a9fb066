//! Element-wise kernels: sums, gates, and copies of columns and rows.
//!
//! Tests: `tests/suite/kernels.rs`.

use super::launch::{Launches, Operand};
use super::libs::{VALUE_TYPES, act_lib, value, vectors};
use super::matrix::THREADS;
use crate::backend::webgpu::dispatch::Access::{Read, Write};
use crate::backend::webgpu::dispatch::{Access, Each, Kernel};
use crate::backend::webgpu::shader::text::Const::{F, U};
use crate::backend::webgpu::shader::text::{Const, assemble};
use crate::dtype::DType;
use crate::graph::{Act, Op, ValueId};

/// A kernel with a thread per vector of a row.
pub(crate) fn by_vector(
    name: &'static str,
    cols: usize,
    libs: &[&str],
    consts: &[(&str, Const)],
    bind: &'static [Access],
) -> Kernel {
    let (v, n) = vectors(cols);
    let libs = [&[v], libs].concat();
    let consts = [&[("N", U(n))], consts].concat();
    let grid = [n.div_ceil(THREADS) as u32, 1];
    Kernel { name, source: assemble(name, &libs, &consts), bind: bind.to_vec(), grid, each: Each::Rows(1), z: 1 }
}

/// An op whose kernel reads its operands and writes its result.
pub(crate) fn lower(l: &mut Launches<'_>, op: &Op) {
    let (g, cols) = (l.g, l.cols());
    let of = |v: ValueId| g.shape(v).cols;
    match op {
        Op::AddBias { b, .. } => l.one_kernel(add_bias(cols, g.weight(*b).dtype), &[Operand::Weight(*b, 0)]),
        Op::Add { .. } => l.one_kernel(add(cols), &[]),
        Op::Concat { a, b } => l.one_kernel(concat(of(*a), of(*b)), &[]),
        Op::Given { start, .. } => l.one_kernel(given(g.given_columns(), *start, cols), &[Operand::Given]),
        Op::Activate { act, .. } => l.one_kernel(activate(cols, *act), &[]),
        Op::Group { .. } => l.one_kernel(group(cols), &[]),
        Op::Glu { act, .. } => l.one_kernel(glu(cols, *act), &[]),
        Op::Softcap { cap, .. } => l.one_kernel(softcap(cols, *cap), &[]),
        Op::LastRows { .. } => l.one_kernel(last_rows(cols), &[]),
        Op::SigmoidGate { gate, .. } => l.one_kernel(sigmoid_gate(cols, of(*gate)), &[]),
        Op::Slice { x, group, start, len } => l.one_kernel(slice(of(*x), *group, *start, *len), &[]),
        op => unreachable!("{} is not elementwise", op.name()),
    }
}

fn add_bias(cols: usize, dtype: DType) -> Kernel {
    let mut libs = value(dtype);
    libs.push(if cols.is_multiple_of(4) { "vector4" } else { "vector1" });
    by_vector("add_bias", cols, &libs, &[], &[Read, Read, Write])
}

fn add(cols: usize) -> Kernel {
    by_vector("add", cols, &[], &[], &[Read, Read, Write])
}

/// Columns from `start` on of rows of `from` columns.
fn given(from: usize, start: usize, cols: usize) -> Kernel {
    let (v, width) = if [from, start, cols].iter().all(|n| n.is_multiple_of(4)) { ("v4", 4) } else { ("v1", 1) };
    let n = cols / width;
    let consts = [("N", U(n)), ("FROM", U(from / width)), ("START", U(start / width))];
    let grid = [n.div_ceil(THREADS) as u32, 1];
    let source = assemble("given", &[v], &consts);
    Kernel { name: "given", source, bind: vec![Read, Write], grid, each: Each::Rows(1), z: 1 }
}

fn group(cols: usize) -> Kernel {
    by_vector("group", cols, &[], &[], &[Read, Write])
}

fn activate(cols: usize, act: Act) -> Kernel {
    by_vector("activate", cols, &[act_lib(act)], &[], &[Read, Write])
}

fn glu(cols: usize, act: Act) -> Kernel {
    by_vector("glu", cols, &["math", act_lib(act)], &[], &[Read, Read, Write])
}

fn softcap(cols: usize, cap: f32) -> Kernel {
    by_vector("softcap", cols, &["math"], &[("CAP", F(cap))], &[Read, Write])
}

/// A gate with as many columns as x, or with one.
fn sigmoid_gate(cols: usize, gate_cols: usize) -> Kernel {
    let (v, n) = if gate_cols == cols { vectors(cols) } else { ("v1", cols) };
    let gates = if gate_cols == cols { n } else { 1 };
    let source = assemble("sigmoid_gate", &[v], &[("N", U(n)), ("GATES", U(gates))]);
    let grid = [n.div_ceil(THREADS) as u32, 1];
    Kernel { name: "sigmoid_gate", source, bind: vec![Read, Read, Write], grid, each: Each::Rows(1), z: 1 }
}

/// Columns `start .. start + len` of each `group` of x, whose rows have `from` columns.
fn slice(from: usize, group: usize, start: usize, len: usize) -> Kernel {
    let whole = [from, group, start, len].iter().all(|n| n.is_multiple_of(4));
    let (v, width) = if whole { ("v4", 4) } else { ("v1", 1) };
    let n = from / group * len / width;
    let consts = [
        ("N", U(n)),
        ("FROM", U(from / width)),
        ("GROUP", U(group / width)),
        ("START", U(start / width)),
        ("LEN", U(len / width)),
    ];
    let grid = [n.div_ceil(THREADS) as u32, 1];
    Kernel {
        name: "slice",
        source: assemble("slice", &[v], &consts),
        bind: vec![Read, Write],
        grid,
        each: Each::Rows(1),
        z: 1,
    }
}

fn last_rows(cols: usize) -> Kernel {
    by_vector("last_rows", cols, &["outputs"], &[], &[Read, Write])
}

/// Rows of `left` columns, each followed by one of `right`.
fn concat(left: usize, right: usize) -> Kernel {
    let (v, width) = if (left | right).is_multiple_of(4) { ("v4", 4) } else { ("v1", 1) };
    let n = (left + right) / width;
    let source = assemble("concat", &[v], &[("N", U(n)), ("LEFT", U(left / width))]);
    Kernel {
        name: "concat",
        source,
        bind: vec![Read, Read, Write],
        grid: [n.div_ceil(THREADS) as u32, 1],
        each: Each::Rows(1),
        z: 1,
    }
}

pub(crate) fn variants() -> Vec<(String, Kernel)> {
    let mut all = Vec::new();
    for cols in [33, 64, 2048] {
        let kernels = [
            add(cols),
            glu(cols, Act::Silu),
            glu(cols, Act::GeluTanh),
            glu(cols, Act::Gelu),
            activate(cols, Act::Silu),
            activate(cols, Act::GeluTanh),
            activate(cols, Act::Gelu),
            given(cols * 3, cols, cols),
            group(cols * 4),
            softcap(cols, 30.0),
            last_rows(cols),
            sigmoid_gate(cols, cols),
            sigmoid_gate(cols, 1),
            concat(cols, cols + 4),
            slice(cols * 3, cols, 0, cols),
        ];
        all.extend(kernels.map(|k| (cols.to_string(), k)));
        all.extend(VALUE_TYPES.map(|d| (format!("{cols} {d}"), add_bias(cols, d))));
    }
    all
}
