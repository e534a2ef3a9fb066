//! The kernels of mixtures of experts. The choice of experts stays on the GPU: grids do not depend on it.
//!
//! Tests: `tests/suite/kernels/moe.rs`.

use super::launch::{Launches, Operand};
use super::libs::vectors;
use super::matrix::THREADS;
use crate::backend::webgpu::dispatch::Access::{Read, Write};
use crate::backend::webgpu::dispatch::{Each, Kernel, When};
use crate::backend::webgpu::shader::bindings::Bindings;
use crate::backend::webgpu::shader::text::Const::{B, U};
use crate::backend::webgpu::shader::text::{assemble, assemble_with};
use crate::backend::webgpu::tuning::{GEMV_MAX_ROWS, Tuning};
use crate::graph::{ValueId, View};

pub(crate) fn lower_route(l: &mut Launches<'_>, x: ValueId, n_used: usize, renormalise: bool) {
    let n_expert = l.g.shape(x).cols;
    l.one_kernel(moe_route(n_expert, n_used, renormalise, l.view(x), l.tuning), &[]);
    let route = ValueId(l.node as u32);
    for (tile, when) in moe_tiles(n_expert, n_used, l.tuning) {
        l.push(|| moe_group(n_expert, n_used, tile), when, &[Operand::Value(route), Operand::Groups(route)]);
    }
}

pub(crate) fn lower_sum(l: &mut Launches<'_>, route: ValueId) {
    l.one_kernel(moe_sum(l.cols(), l.g.shape(route).cols / 2, false), &[]);
}

/// x is a view of whole columns.
fn moe_route(n_expert: usize, n_used: usize, renormalise: bool, x: View, tuning: Tuning) -> Kernel {
    let threads = if tuning.software { 8 } else { 64 };
    let consts = [
        ("EXPERTS", U(n_expert)),
        ("USED", U(n_used)),
        ("RENORMALISE", B(renormalise)),
        ("WG", U(threads)),
        ("X_STRIDE", U(x.stride)),
        ("X_AT", U(x.at)),
    ];
    let source = assemble("moe_route", &[], &consts);
    Kernel { name: "moe_route", source, bind: vec![Read, Write], grid: [1, 1], each: Each::Rows(1), z: 1 }
}

/// (tile rows, minimum average rows per expert). A tile costs the same for one row as for a full tile: below half full,
/// reading the matrix again for each token is cheaper.
const TILES: [(usize, usize); 2] = [(16, 8), (32, 16)];

/// Experts whose rows one workgroup can count.
const MAX_EXPERTS: usize = 1024;

/// The tiles of rows sorted by expert, each with the range of step rows that it is for. With fewer rows than the first
/// range the kernels run token by token.
pub(crate) fn moe_tiles(n_expert: usize, n_used: usize, tuning: Tuning) -> Vec<(usize, When)> {
    if tuning.software || n_expert > MAX_EXPERTS {
        return Vec::new();
    }
    let least = TILES.map(|(_, average)| (average * n_expert).div_ceil(n_used).max(GEMV_MAX_ROWS + 1));
    let most = [least[1] - 1, usize::MAX];
    let all = (TILES.iter().zip(least).zip(most)).map(|(((tile, _), least), most)| (*tile, When::rows(least, most)));
    all.filter(|(_, when)| !when.is_never()).collect()
}

/// Bytes of the rows of a step by expert, for the smallest tiles.
pub(crate) fn group_bytes(n_expert: usize, n_used: usize, tokens: usize) -> usize {
    let pairs = tokens * n_used;
    (pairs + (pairs.div_ceil(TILES[0].0) + n_expert) * 3) * 4
}

/// Sorts the rows of a step by expert. Binds the route and the groups.
fn moe_group(n_expert: usize, n_used: usize, tile: usize) -> Kernel {
    let consts = [("EXPERTS", U(n_expert)), ("USED", U(n_used)), ("TILE", U(tile))];
    let source = assemble("moe_group", &[], &consts);
    Kernel { name: "moe_group", source, bind: vec![Read, Write], grid: [1, 1], each: Each::Step, z: 1 }
}

/// Binds x, the route, with `adds` the value that the sum is added to, y.
pub(crate) fn moe_sum(cols: usize, n_used: usize, adds: bool) -> Kernel {
    let (v, n) = vectors(cols);
    let mut b = Bindings::default();
    b.buffer(Read, "x", "V");
    b.buffer(Read, "route", "f32");
    if adds {
        b.buffer(Read, "to", "V");
    }
    b.buffer(Write, "y", "V");
    let libs = [v, if adds { "finish_add" } else { "finish_none" }];
    let consts = [("N", U(n)), ("RUNS", U(1)), ("USED", U(n_used))];
    let source = assemble_with("moe_sum", &b, &libs, &consts, "");
    Kernel { name: "moe_sum", source, bind: b.access, grid: [n.div_ceil(THREADS) as u32, 1], each: Each::Rows(1), z: 1 }
}

pub(crate) fn variants(tuning: Tuning) -> Vec<(String, Kernel)> {
    let of = |n: usize| {
        let x = View { stride: 3 * n, at: n, group: n, len: n };
        let routes = [true, false].map(|renormalise| moe_route(n, 8, renormalise, x, tuning));
        let rest = [moe_sum(n, 8, false), moe_sum(n, 8, true), moe_group(n, 8, 16)];
        routes.into_iter().chain(rest).map(move |k| (n.to_string(), k))
    };
    [33, 64, 2048].into_iter().flat_map(of).collect()
}
