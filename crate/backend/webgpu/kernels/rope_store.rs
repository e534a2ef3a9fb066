//! Rotary embedding, alone or fused with norms of heads before and the cache write after.
//!
//! Tests: `tests/suite/kernels.rs`, `tests/suite/fusion.rs`.

use super::kv::{kv_consts, kv_of, kv_parts};
use super::launch::{Launches, Operand};
use super::matrix::THREADS;
use crate::backend::KvType;
use crate::backend::webgpu::dispatch::Access::{Read, Write};
use crate::backend::webgpu::dispatch::{Each, Kernel, When};
use crate::backend::webgpu::shader::bindings::Bindings;
use crate::backend::webgpu::shader::text::Const::{B, F, U};
use crate::backend::webgpu::shader::text::{Const, assemble, assemble_with};
use crate::backend::webgpu::tuning::Tuning;
use crate::graph::{self, CacheKind, Rope, RopeAxes, RopePairs, View};

pub(crate) fn lower_rope(l: &mut Launches<'_>, r: &Rope) {
    let [table]: [_; 1] = l.tables().try_into().expect("a rotation has a table");
    l.one_kernel(rope(l.cols(), r), &[Operand::Table(table), Operand::Rows]);
}

pub(crate) fn lower(l: &mut Launches<'_>, p: &graph::RopeStore) {
    let (d, g, tuning) = (p.rope.d_head, l.g, l.tuning);
    let tables = l.tables();
    let table = |i: usize| Operand::Table(tables[i].clone());
    let sizes = RopeStore {
        n_head: l.cols() / d,
        n_kv_head: g.state(p.keys).cols / d,
        rope: p.rope,
        views: [p.q, p.k, p.v].map(|v| l.view(v)),
        eps: p.norms.map(|_| p.eps),
        kv: kv_of(g, p.keys, l.limits.kv),
        kind: g.cache_kind(p.keys),
    };
    assert_eq!(g.cache_kind(p.values), sizes.kind, "what reads keys reads their values");
    let norms = table(usize::from(p.norms.is_some()));
    let [keys, values] = [p.keys, p.values].map(Operand::State);
    let operands = [Operand::Value(p.q), table(0), norms, keys, values, Operand::Rows, l.out()];
    l.push(|| rope_store(&sizes, tuning), When::ALWAYS, &operands);
}

/// Sizes and views of the inputs of `rope_store`.
#[derive(Clone, Copy, Debug)]
struct RopeStore {
    n_head: usize,
    n_kv_head: usize,
    rope: Rope,
    /// Of q, k and v in one value.
    views: [View; 3],
    /// The epsilon of the norms, if there are any.
    eps: Option<f32>,
    kv: KvType,
    kind: CacheKind,
}

fn rope_store(p: &RopeStore, tuning: Tuning) -> Kernel {
    let [q, k, v] = p.views;
    let d = p.rope.d_head;
    let threads = if tuning.software { 8 } else { 32 };
    let sizes = [
        ("D", U(d)),
        ("N", U(d / 4)),
        ("WG", U(threads)),
        ("HEADS", U(p.n_head)),
        ("KV_HEADS", U(p.n_kv_head)),
        ("PAIRS", U(p.rope.n_rot / 2)),
        ("ADJACENT", B(p.rope.pairs == RopePairs::Adjacent)),
        ("STRIDE", U(q.stride)),
        ("Q_AT", U(q.at)),
        // Heads lie side by side, or each is followed by its gate.
        ("Q_GROUP", U(if q.group == q.len { d } else { q.group })),
        ("K_AT", U(k.at)),
        ("V_AT", U(v.at)),
        ("NORMED", B(p.eps.is_some())),
        ("EPS", F(p.eps.unwrap_or(0.0))),
    ];
    let (coordinate, axes) = coordinates(&p.rope);
    let consts = [&sizes[..], &axes, &kv_consts(p.kind)].concat();
    let (element, _, store) = kv_parts(p.kv, "vec4<f32>");
    let mut b = Bindings::default();
    b.buffer(Read, "x", "f32");
    b.buffer(Read, "turns", "vec2<u32>");
    b.buffer(Read, "table", "f32");
    b.buffer(Write, "keys", element);
    b.buffer(Write, "values", element);
    b.buffer(Read, "rows", "u32");
    b.buffer(Write, "y", "vec4<f32>");
    let source = assemble_with("rope_store", &b, &["v4", "turn", "rows", coordinate, "kv", store], &consts, "");
    let grid = [(p.n_head + 2 * p.n_kv_head) as u32, 1];
    Kernel { name: "rope_store", source, bind: b.access, grid, each: Each::Rows(1), z: 1 }
}

/// The part that says what an angle turns by, and its constants.
fn coordinates(r: &Rope) -> (&'static str, Vec<(&'static str, Const)>) {
    let (grid, rows, columns) = match r.axes {
        RopeAxes::Time => return ("coordinate_time", Vec::new()),
        RopeAxes::Interleaved { rows, columns } => (false, rows, columns),
        RopeAxes::Grid { .. } => (true, 0, 0),
    };
    let consts = [("GRID", B(grid)), ("SQUARE", U(r.square())), ("AXIS_ROWS", U(rows)), ("AXIS_COLUMNS", U(columns))];
    ("coordinate_axes", consts.to_vec())
}

fn rope(cols: usize, r: &Rope) -> Kernel {
    let heads = cols / r.d_head;
    let sizes = [
        ("HEADS", U(heads)),
        ("PAIRS", U(r.n_rot / 2)),
        ("REST", U(r.d_head - r.n_rot)),
        ("ADJACENT", B(r.pairs == RopePairs::Adjacent)),
    ];
    let (coordinate, axes) = coordinates(r);
    let consts = [&sizes[..], &axes].concat();
    let threads = heads * (r.d_head - r.n_rot / 2);
    let grid = [threads.div_ceil(THREADS) as u32, 1];
    Kernel {
        name: "rope",
        source: assemble("rope", &["turn", "rows", coordinate], &consts),
        bind: vec![Read, Read, Read, Write],
        grid,
        each: Each::Rows(1),
        z: 1,
    }
}

pub(crate) fn variants(tuning: Tuning) -> Vec<(String, Kernel)> {
    let mut all = Vec::new();
    for axes in [RopeAxes::Interleaved { rows: 11, columns: 10 }, RopeAxes::Grid { square: 2 }] {
        let r = Rope { d_head: 64, n_rot: 64, pairs: RopePairs::Halves, axes, base: 1e4, scale: 1.0, freqs: None };
        let view = View { stride: 192, at: 64, group: 64, len: 64 };
        let (kv, kind) = (KvType::F32, CacheKind::Context);
        let sizes = RopeStore { n_head: 1, n_kv_head: 1, rope: r, views: [view; 3], eps: Some(1e-5), kv, kind };
        all.push((format!("{axes:?}"), rope(192, &r)));
        all.push((format!("{axes:?}"), rope_store(&sizes, tuning)));
    }
    for (d_head, pairs) in [6, 64, 80, 96, 256, 512].into_iter().flat_map(|d| PAIRS.map(|p| (d, p))) {
        let r = Rope { d_head, n_rot: 4, pairs, axes: RopeAxes::Time, base: 1e4, scale: 1.0, freqs: None };
        all.push((format!("{d_head} {pairs:?}"), rope(d_head * 3, &r)));
        let kinds = [KvType::F32, KvType::F16, KvType::Q8_0].into_iter().filter(|_| d_head % 4 == 0);
        for (kv, eps) in kinds.flat_map(|k| [(k, None), (k, Some(1e-5))]) {
            // Heads with gaps between them, and whole columns of wider rows.
            let q = View { stride: 2 * d_head, at: 8, group: 16, len: 8 };
            let k = View { stride: 3 * d_head, at: d_head, group: d_head, len: d_head };
            let sizes =
                RopeStore { n_head: 12, n_kv_head: 2, rope: r, views: [q, k, k], eps, kv, kind: CacheKind::Context };
            all.push((format!("{d_head} {pairs:?} {eps:?} {kv:?}"), rope_store(&sizes, tuning)));
        }
    }
    all
}

const PAIRS: [RopePairs; 2] = [RopePairs::Adjacent, RopePairs::Halves];
