//! Attention and what prepares it.

use super::super::tuning::Tuning;
use super::super::wgsl::Const::{B, F, U};
use super::super::wgsl::{Bindings, Const, assemble_with};
use super::{Kernel, Read, Write, vectors};
use crate::backend::KvType;
use crate::graph::{Attention, Rope, RopePairs, View};

/// Bytes of workgroup memory that every device has.
const WORKGROUP_MEMORY: usize = 16384;

/// Threads of a workgroup of the split attention, and how many of them share a key.
const THREADS: usize = 128;
const LANES: usize = 8;

/// Sizes and views of what `place` reads.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub n_head: usize,
    pub n_kv_head: usize,
    pub rope: Rope,
    /// Of q, k and v in one value.
    pub views: [View; 3],
    /// The epsilon of the norms, where there are any.
    pub eps: Option<f32>,
    pub kv: KvType,
}

/// The element of a state's buffer, and the parts of `lib` that read and write it.
fn kv_parts(kind: KvType, vector: &'static str) -> (&'static str, &'static str, &'static str) {
    match kind {
        KvType::F32 => (vector, "kv_f32", "store_f32"),
        KvType::F16 => ("vec2<u32>", "kv_f16", "store_f16"),
        KvType::Q8_0 => ("u32", "kv_q8_0", "store_q8_0"),
    }
}

pub fn place(p: &Place, tuning: Tuning) -> Kernel {
    let [q, k, v] = p.views;
    let d = p.rope.d_head;
    let threads = if tuning.software { 8 } else { 32 };
    let consts = [
        ("D", U(d)),
        ("N", U(d / 4)),
        ("WG", U(threads)),
        ("HEADS", U(p.n_head)),
        ("KV_HEADS", U(p.n_kv_head)),
        ("PAIRS", U(p.rope.n_rot / 2)),
        ("ADJACENT", B(p.rope.pairs == RopePairs::Adjacent)),
        ("STRIDE", U(q.stride)),
        ("Q_AT", U(q.at)),
        // Heads lie side by side, or each has its gate behind it.
        ("Q_GROUP", U(if q.group == q.len { d } else { q.group })),
        ("K_AT", U(k.at)),
        ("V_AT", U(v.at)),
        ("NORMED", B(p.eps.is_some())),
        ("EPS", F(p.eps.unwrap_or(0.0))),
    ];
    let (element, _, store) = kv_parts(p.kv, "vec4<f32>");
    let mut b = Bindings::default();
    b.buffer(Read, "x", "f32");
    b.buffer(Read, "turns", "vec2<u32>");
    b.buffer(Read, "table", "f32");
    b.buffer(Write, "keys", element);
    b.buffer(Write, "values", element);
    b.buffer(Write, "y", "vec4<f32>");
    let source = assemble_with("place", &b, &["v4", "turn", "kv", store], &consts, "");
    let grid = [(p.n_head + 2 * p.n_kv_head) as u32, 1];
    Kernel { name: "place", source, bind: b.access, grid, rows: 1, z: 1 }
}

/// Constants, bindings and parts that all kernels of attention share; `gate` is that of the result.
fn common(
    a: &Attention,
    gate: Option<View>,
    states: Option<KvType>,
) -> (Vec<(&'static str, Const)>, Bindings, Vec<&'static str>) {
    let (v, n) = vectors(a.d_head);
    let consts = vec![
        ("N", U(n)),
        ("HEADS", U(a.n_head)),
        ("KV_HEADS", U(a.n_kv_head)),
        ("SCALE", F(a.scale)),
        ("WINDOW", U(a.window.unwrap_or(0))),
        ("CAP", F(a.softcap.unwrap_or(0.0))),
    ];
    let (width, element) = if v == "v4" { (4, "vec4<f32>") } else { (1, "f32") };
    let mut bindings = Bindings::default();
    let mut libs = vec![v];
    if let Some(kv) = states {
        let (row, read, _) = kv_parts(kv, element);
        bindings.buffer(Read, "q", element);
        ["k", "v"].iter().for_each(|name| bindings.buffer(Read, name, row));
        libs.extend(["kv", read]);
        libs.extend(if a.softcap.is_some() { &["math", "cap_tanh"][..] } else { &["cap_none"] });
    } else {
        bindings.buffer(Read, "partial", element);
    }
    gate.into_iter().for_each(|v| bindings.viewed("gate", v, width));
    libs.push(if gate.is_some() { "gate_sigmoid" } else { "gate_none" });
    bindings.buffer(Write, "y", element);
    (consts, bindings, libs)
}

/// Binds q, k, v, the gate, y.
pub fn attention(a: &Attention, gate: Option<View>, kv: KvType, tuning: Tuning) -> Kernel {
    let (mut consts, bindings, libs) = common(a, gate, Some(kv));
    let n = vectors(a.d_head).1;
    let threads = if tuning.software { n.next_multiple_of(16) } else { n.next_multiple_of(64) };
    consts.extend([("WG", U(threads)), ("PER", U(4))]);
    let source = assemble_with("attention", &bindings, &libs, &consts, "");
    Kernel { name: "attention", source, bind: bindings.access, grid: [a.n_head as u32, 1], rows: 1, z: 1 }
}

/// Attention of many tokens: those of some heads of one kv head in one workgroup. Binds q, k, v, the gate, y.
pub fn attention_tile(a: &Attention, gate: Option<View>, kv: KvType) -> Kernel {
    let (mut consts, bindings, libs) = common(a, gate, Some(kv));
    let (v, n) = vectors(a.d_head);
    // A thread keeps the sums of its rows: 64 numbers at most, so that they stay in registers.
    let width = if v == "v4" { 4 } else { 1 };
    let per_thread = [4, 2].into_iter().find(|rows| rows * n.div_ceil(8) * width <= 64).unwrap_or(1);
    // As many heads as leave few rows idle: short steps then fill tiles too, and fewer keys are hidden from some row.
    let (rows, heads) = (8 * per_thread, a.n_head / a.n_kv_head);
    let fills = |group: &usize| heads.is_multiple_of(*group) && rows / group * group * 8 >= rows * 7;
    let group = (1..=rows).rev().find(fills).unwrap_or(1);
    let tokens = rows / group;
    consts.extend([("R", U(per_thread)), ("GROUP", U(group)), ("TOKENS", U(tokens))]);
    let source = assemble_with("attention_tile", &bindings, &libs, &consts, "");
    let grid = [(a.n_head / group) as u32, 1];
    Kernel { name: "attention_tile", source, bind: bindings.access, grid, rows: tokens, z: 1 }
}

/// Query heads that a workgroup of the split attention takes, and its keys, at most so many. `None` where heads are no whole
/// vectors.
pub fn split_of(a: &Attention, most: usize) -> Option<(usize, usize)> {
    if !a.d_head.is_multiple_of(4) || a.d_head / 4 > THREADS {
        return None;
    }
    let group = a.n_head / a.n_kv_head;
    // Queries, scores, sums of products, folded sums and a vector of each thread: what the shader declares.
    let bytes = |heads: usize, keys: usize| 4 * heads * (a.d_head + keys + THREADS + 8) + 16 * THREADS;
    let heads = (1..=group.min(8)).rev().filter(|h| group.is_multiple_of(*h));
    let fits = |h: usize| {
        [most, most.min(128)].into_iter().find(|keys| bytes(h, *keys) <= WORKGROUP_MEMORY).map(|keys| (h, keys))
    };
    heads.into_iter().find_map(fits)
}

/// Attention of few tokens: all query heads of a key in one workgroup. Binds q, k, v, the gate, y, or with more than one
/// of `chunks` (of the whole context) q, k, v, the partial results.
pub fn attention_split(a: &Attention, gate: Option<View>, kv: KvType, chunks: usize, tuning: Tuning) -> Kernel {
    let (heads, keys) = split_of(a, tuning.keys).expect("the caller asked");
    let whole = chunks == 1;
    let (mut consts, mut bindings, mut libs) = common(a, gate.filter(|_| whole), Some(kv));
    consts.extend([
        ("WG", U(THREADS)),
        ("LANES", U(LANES)),
        ("G", U(heads)),
        ("CHUNK", U(keys)),
        ("CHUNKS", U(chunks)),
    ]);
    libs.push(if whole { "attention_whole" } else { "attention_partial" });
    if !whole {
        bindings.rename("y", "partial");
    }
    let source = assemble_with("attention_split", &bindings, &libs, &consts, "");
    let name = if whole { "attention_whole" } else { "attention_split" };
    Kernel { name, source, bind: bindings.access, grid: [(a.n_head / heads) as u32, 1], rows: 1, z: 1 }
}

/// Joins the partial results. Binds those, the gate, y.
pub fn attention_join(a: &Attention, gate: Option<View>, chunks: usize, tuning: Tuning) -> Kernel {
    let (mut consts, bindings, libs) = common(a, gate, None);
    let keys = split_of(a, tuning.keys).expect("the caller asked").1;
    let threads = (a.d_head / 4).next_multiple_of(32);
    consts.extend([("WG", U(threads)), ("CHUNK", U(keys)), ("CHUNKS", U(chunks))]);
    let source = assemble_with("attention_join", &bindings, &libs, &consts, "");
    Kernel { name: "attention_join", source, bind: bindings.access, grid: [a.n_head as u32, 1], rows: 1, z: 1 }
}
