//! The kernels of mixtures of experts. Which experts a token takes stays on the GPU: grids do not depend on it.

use super::super::dispatch::When;
use super::super::tuning::Tuning;
use super::super::wgsl::Const::{B, U};
use super::super::wgsl::{Bindings, assemble, assemble_with};
use super::{Experts, FEW, Kernel, Matrix, Read, THREADS, Write, value, vectors};
use crate::graph::View;

/// x is a view of whole columns.
pub fn moe_route(n_expert: usize, n_used: usize, x: View, tuning: Tuning) -> Kernel {
    let threads = if tuning.software { 8 } else { 64 };
    let consts = [
        ("EXPERTS", U(n_expert)),
        ("USED", U(n_used)),
        ("WG", U(threads)),
        ("X_STRIDE", U(x.stride)),
        ("X_AT", U(x.at)),
    ];
    let source = assemble("moe_route", &[], &consts);
    Kernel { name: "moe_route", source, bind: vec![Read, Write], grid: [1, 1], rows: 1, z: 1 }
}

/// Rows of x of an expert that a workgroup takes at once, and how many an expert must have on average for that. A tile
/// multiplies as long for one row as for all: while it does, a memory delivers the matrix token by token about half as
/// often as the tile has rows.
const TILES: [(usize, usize); 2] = [(16, 8), (32, 16)];

/// Experts whose rows one workgroup can count.
const MAX_EXPERTS: usize = 1024;

/// The tiles of rows sorted by expert, each with the rows of a step that it is for. For fewer rows than the first of
/// them the kernels go token by token.
pub fn moe_tiles(n_expert: usize, n_used: usize, tuning: Tuning) -> Vec<(usize, When)> {
    if tuning.software || n_expert > MAX_EXPERTS {
        return Vec::new();
    }
    let least = TILES.map(|(_, average)| (average * n_expert).div_ceil(n_used).max(FEW + 1));
    let most = [least[1] - 1, usize::MAX];
    let all = (TILES.iter().zip(least).zip(most)).map(|(((tile, _), least), most)| (*tile, When::rows(least, most)));
    all.filter(|(_, when)| !when.is_never()).collect()
}

/// Bytes of the rows of a step by expert, for the smallest tiles.
pub fn group_bytes(n_expert: usize, n_used: usize, tokens: usize) -> usize {
    let pairs = tokens * n_used;
    (pairs + (pairs.div_ceil(TILES[0].0) + n_expert) * 3) * 4
}

/// Sorts the rows of a step by expert. Binds the route and the groups.
pub fn moe_group(n_expert: usize, n_used: usize, tile: usize) -> Kernel {
    let consts = [("EXPERTS", U(n_expert)), ("USED", U(n_used)), ("TILE", U(tile))];
    let source = assemble("moe_group", &[], &consts);
    Kernel { name: "moe_group", source, bind: vec![Read, Write], grid: [1, 1], rows: usize::MAX, z: 1 }
}

/// Binds x, the route, where `adds` what the sum is added to, y.
pub fn moe_sum(cols: usize, n_used: usize, adds: bool) -> Kernel {
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
    Kernel { name: "moe_sum", source, bind: b.access, grid: [n.div_ceil(THREADS) as u32, 1], rows: 1, z: 1 }
}

/// A product by experts for rows that are no whole number of runs: `m` holds the rows of all experts, or some.
pub fn moe_matmul_any(m: Matrix, e: Experts) -> Kernel {
    let rows = m.total_rows / e.n_expert;
    let mut consts = m.consts();
    consts.extend([("EXPERTS", U(e.n_expert)), ("USED", U(e.n_used)), ("Y_ROWS", U(rows)), ("SHARED", B(e.shared_x))]);
    let grid = [rows.div_ceil(THREADS) as u32, e.n_used as u32];
    let source = assemble("moe_matmul_any", &value(m.dtype), &consts);
    Kernel { name: "moe_matmul_any", source, bind: vec![Read, Read, Read, Write], grid, rows: 1, z: 1 }
}
