//! Norms of rows and of heads.
//!
//! Tests: `tests/suite/kernels.rs`, `tests/suite/kernels/delta.rs`.

use super::launch::{Launches, Operand};
use super::libs::{VALUE_TYPES, act_lib, value, vectors};
use crate::backend::webgpu::dispatch::Access::{Read, Write};
use crate::backend::webgpu::dispatch::{Each, Kernel, When};
use crate::backend::webgpu::shader::bindings::Bindings;
use crate::backend::webgpu::shader::text::Const::{F, U};
use crate::backend::webgpu::shader::text::{assemble, assemble_with};
use crate::backend::webgpu::tuning::{GEMV_MAX_ROWS, Tuning};
use crate::dtype::DType;
use crate::graph::{Act, ValueId, View, WeightId, norm_add_before};

pub(crate) fn lower(l: &mut Launches<'_>, w: WeightId, eps: f32) {
    let weight = l.g.weight(w);
    let k = rms_norm(l.cols(), weight.cols, weight.dtype, eps, Finish::None, l.tuning);
    l.one_kernel(k, &[Operand::Weight(w, 0)]);
}

/// `x + rms_norm(y)`. If possible the next node's gemv computes it instead.
pub(crate) fn lower_add(l: &mut Launches<'_>, (x, y): (ValueId, ValueId), w: WeightId, eps: f32) {
    let (cols, dtype, tuning) = (l.cols(), l.g.weight(w).dtype, l.tuning);
    let operands = [Operand::Value(y), Operand::Weight(w, 0), Operand::Value(x), l.out()];
    let next = norm_add_before(l.g, l.node + 1).filter(|_| !tuning.software);
    let when = if next.is_some() { When::rows(GEMV_MAX_ROWS + 1, usize::MAX) } else { When::ALWAYS };
    l.push(|| rms_norm(cols, cols, dtype, eps, Finish::Add, tuning), when, &operands);
}

pub(crate) fn lower_l2(l: &mut Launches<'_>, d_head: usize, eps: f32, scale: f32) {
    l.one_kernel(l2_norm(l.cols(), d_head, (eps, scale), l.tuning), &[]);
}

pub(crate) fn lower_layer(l: &mut Launches<'_>, eps: f32) {
    let [table]: [_; 1] = l.tables().try_into().expect("a layer norm has a table");
    l.one_kernel(layer_norm(l.cols(), eps, l.tuning), &[Operand::Table(table)]);
}

/// What happens to the result of a norm.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Finish {
    None,
    /// Added to another value.
    Add,
    /// Multiplied by the activation of a gate.
    Gate(View, Act),
}

/// `cols` values in runs of `len`; binds x, w, the other value, y.
pub(crate) fn rms_norm(cols: usize, len: usize, dtype: DType, eps: f32, finish: Finish, tuning: Tuning) -> Kernel {
    let (v, n) = vectors(len);
    let (width, element) = if v == "v4" { (4, "vec4<f32>") } else { (1, "f32") };
    let mut bindings = Bindings::default();
    bindings.buffer(Read, "x", element);
    bindings.buffer(Read, "w", "u32");
    let mut libs = vec![v];
    libs.extend(value(dtype));
    libs.push(if v == "v4" { "vector4" } else { "vector1" });
    match finish {
        Finish::None => libs.push("finish_none"),
        Finish::Add => {
            bindings.buffer(Read, "to", element);
            libs.push("finish_add");
        }
        Finish::Gate(view, act) => {
            bindings.viewed("gate", "gate_at", view, width);
            libs.extend([act_lib(act), "finish_gate"]);
        }
    }
    bindings.buffer(Write, "y", element);
    let threads = if tuning.software || n <= 256 { 32.min(n.next_power_of_two().max(8)) } else { 128 };
    let threads = if tuning.software { threads } else { threads.max(64) };
    let consts = [("N", U(n)), ("RUNS", U(cols / len)), ("WG", U(threads)), ("EPS", F(eps))];
    let source = assemble_with("rms_norm", &bindings, &libs, &consts, "");
    let grid = [(cols / len) as u32, 1];
    Kernel { name: "rms_norm", source, bind: bindings.access, grid, each: Each::Rows(1), z: 1 }
}

fn l2_norm(cols: usize, d_head: usize, (eps, scale): (f32, f32), tuning: Tuning) -> Kernel {
    let (v, n) = vectors(d_head);
    let threads = n.next_power_of_two().clamp(8, if tuning.software { 8 } else { 64 });
    let heads = cols / d_head;
    let consts = [("N", U(n)), ("HEADS", U(heads)), ("WG", U(threads)), ("EPS", F(eps)), ("SCALE", F(scale))];
    let source = assemble("l2_norm", &[v], &consts);
    Kernel { name: "l2_norm", source, bind: vec![Read, Write], grid: [heads as u32, 1], each: Each::Rows(1), z: 1 }
}

fn layer_norm(cols: usize, eps: f32, tuning: Tuning) -> Kernel {
    let (v, n) = vectors(cols);
    let threads = n.next_power_of_two().clamp(8, if tuning.software { 8 } else { 64 });
    // Tables have each weight aligned to four values.
    let bias = if v == "v4" { n } else { n.next_multiple_of(4) };
    let consts = [("N", U(n)), ("WG", U(threads)), ("BIAS", U(bias)), ("EPS", F(eps))];
    let source = assemble("layer_norm", &[v], &consts);
    Kernel { name: "layer_norm", source, bind: vec![Read, Read, Write], grid: [1, 1], each: Each::Rows(1), z: 1 }
}

pub(crate) fn variants(tuning: Tuning) -> Vec<(String, Kernel)> {
    let mut all = Vec::new();
    for cols in [33, 64, 2048] {
        all.push((cols.to_string(), layer_norm(cols, 1e-6, tuning)));
        all.push((cols.to_string(), l2_norm(cols * 3, cols, (1e-6, 0.5), tuning)));
        let gate = View { stride: 6 * cols, at: 2 * cols, group: 2 * cols, len: 2 * cols };
        for dtype in VALUE_TYPES {
            for finish in [Finish::None, Finish::Add, Finish::Gate(gate, Act::Silu)] {
                let k = rms_norm(cols * 2, cols, dtype, 1e-6, finish, tuning);
                all.push((format!("{cols} {dtype} {finish:?}"), k));
            }
        }
    }
    all
}
