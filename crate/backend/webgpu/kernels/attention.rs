//! Attention: by tiles for many tokens, split over the past for few.
//!
//! Tests: `tests/suite/kernels/attention.rs`, `tests/suite/tuning.rs`.

use super::kv::{kv_of, kv_parts};
use super::launch::{Launches, Operand};
use super::libs::vectors;
use crate::backend::webgpu::dispatch::Access::{Read, Write};
use crate::backend::webgpu::dispatch::{Chunks, Kernel, When};
use crate::backend::webgpu::shader::bindings::Bindings;
use crate::backend::webgpu::shader::text::Const::{F, U};
use crate::backend::webgpu::shader::text::{Const, assemble_with};
use crate::backend::webgpu::tuning::Tuning;
use crate::backend::{KvType, Limits};
use crate::graph::{Attention, Op, View};

/// Tokens of a step up to which attention is split over the past (on software adapters: takes them one by one). More of
/// them share the keys that a tile reads.
const SPLIT_ATTENTION_MAX_TOKENS: usize = 8;

/// Bytes of partial results of split attention, at most: with long contexts fewer tokens share them.
const MAX_PARTIAL: usize = 32 << 20;

/// # Panics
/// Where the op is another one.
pub fn lower(l: &mut Launches<'_>, op: &Op) {
    let Op::Attention { q, k, v, gate, attn } = op else { unreachable!("{} is not attention", op.name()) };
    let (out, tuning, kv) = (l.out(), l.tuning, kv_of(l.g, *k, l.limits.kv));
    let read = [Operand::Value(*q), Operand::State(*k), Operand::State(*v)];
    let view = gate.map(|v| l.view(v));
    let gate_and_out: Vec<_> = gate.map(Operand::Value).into_iter().chain([out]).collect();
    let all = [&read[..], &gate_and_out].concat();
    let split = Split::of(attn, l.limits, tuning);
    let most = split.as_ref().map_or(SPLIT_ATTENTION_MAX_TOKENS, |s| s.tokens);
    let few = When::rows(1, most);
    l.push(|| attention_tile(attn, view, kv), When::rows(most + 1, usize::MAX), &all);
    let Some(split) = split else {
        l.push(|| attention(attn, view, kv, tuning), few, &all);
        return;
    };
    // Within a window the past never gets longer than that.
    let short = if split.chunks == 1 { usize::MAX } else { split.keys };
    l.push(|| attention_split(attn, view, kv, 1, tuning), few.and_keys(0, short), &all);
    if split.chunks > 1 {
        let long = few.and_keys(short + 1, usize::MAX);
        let parts = [&read[..], &[Operand::Scratch]].concat();
        if let Some(s) = l.push(|| attention_split(attn, view, kv, split.chunks, tuning), long, &parts) {
            s.chunks = Some(Chunks { keys: split.keys, window: attn.window });
        }
        let joined = [&[Operand::Scratch], &gate_and_out[..]].concat();
        l.push(|| attention_join(attn, view, split.chunks, tuning), long, &joined);
    }
}

/// Bytes of partial results that the kernels of a node pass to each other.
pub fn scratch_bytes(attn: &Attention, limits: Limits, tuning: Tuning) -> usize {
    Split::of(attn, limits, tuning).filter(|s| s.chunks > 1).map_or(0, |s| s.tokens * s.partial)
}

/// How attention of few tokens is split over the past.
struct Split {
    /// Tokens of a step, at most.
    tokens: usize,
    /// Keys of a chunk, and chunks of the whole context.
    keys: usize,
    chunks: usize,
    /// Bytes of partial results of a token.
    partial: usize,
}

impl Split {
    fn of(a: &Attention, limits: Limits, tuning: Tuning) -> Option<Self> {
        let (_, keys) = split_of(a, tuning.attn_chunk).filter(|_| !tuning.software)?;
        let chunks = limits.n_ctx.min(a.window.unwrap_or(limits.n_ctx)).div_ceil(keys);
        let partial = a.n_head * chunks * (a.d_head + 4) * 4;
        let tokens = SPLIT_ATTENTION_MAX_TOKENS.min(MAX_PARTIAL / partial).max(1);
        Some(Self { tokens, keys, chunks, partial })
    }
}

/// Bytes of workgroup memory that every device has.
const WORKGROUP_MEMORY: usize = 16384;

/// Threads of a workgroup of the split attention, and how many of them share a key.
const THREADS: usize = 128;
const LANES: usize = 8;

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
    gate.into_iter().for_each(|v| bindings.viewed("gate", "gate_at", v, width));
    libs.push(if gate.is_some() { "gate_sigmoid" } else { "gate_none" });
    bindings.buffer(Write, "y", element);
    (consts, bindings, libs)
}

/// Binds q, k, v, the gate, y.
fn attention(a: &Attention, gate: Option<View>, kv: KvType, tuning: Tuning) -> Kernel {
    let (mut consts, bindings, libs) = common(a, gate, Some(kv));
    let n = vectors(a.d_head).1;
    let threads = if tuning.software { n.next_multiple_of(16) } else { n.next_multiple_of(64) };
    consts.extend([("WG", U(threads)), ("PER", U(4))]);
    let source = assemble_with("attention", &bindings, &libs, &consts, "");
    Kernel { name: "attention", source, bind: bindings.access, grid: [a.n_head as u32, 1], rows: 1, z: 1 }
}

/// Attention of many tokens: those of some heads of one kv head in one workgroup. Binds q, k, v, the gate, y.
fn attention_tile(a: &Attention, gate: Option<View>, kv: KvType) -> Kernel {
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

/// Query heads that a workgroup of the split attention takes, and its keys, at most so many. `None` where heads are not
/// multiples of a vector.
fn split_of(a: &Attention, most: usize) -> Option<(usize, usize)> {
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
fn attention_split(a: &Attention, gate: Option<View>, kv: KvType, chunks: usize, tuning: Tuning) -> Kernel {
    let (heads, keys) = split_of(a, tuning.attn_chunk).expect("the caller asked");
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
fn attention_join(a: &Attention, gate: Option<View>, chunks: usize, tuning: Tuning) -> Kernel {
    let (mut consts, bindings, libs) = common(a, gate, None);
    let keys = split_of(a, tuning.attn_chunk).expect("the caller asked").1;
    let threads = (a.d_head / 4).next_multiple_of(32);
    consts.extend([("WG", U(threads)), ("CHUNK", U(keys)), ("CHUNKS", U(chunks))]);
    let source = assemble_with("attention_join", &bindings, &libs, &consts, "");
    Kernel { name: "attention_join", source, bind: bindings.access, grid: [a.n_head as u32, 1], rows: 1, z: 1 }
}

pub fn variants(tuning: Tuning) -> Vec<(String, Kernel)> {
    let mut all = Vec::new();
    for d_head in [6, 64, 80, 96, 256, 512] {
        for (window, softcap) in [(None, None), (Some(16), None), (None, Some(50.0)), (Some(4), Some(50.0))] {
            let a = Attention { n_head: 12, n_kv_head: 2, d_head, scale: 0.125, window, softcap };
            // Heads of eight values with as many between them.
            let gates = [None, Some(View { stride: 24 * d_head, at: 8, group: 16, len: 8 })];
            let kinds =
                [KvType::F32, KvType::F16, KvType::Q8_0].into_iter().filter(|k| *k == KvType::F32 || d_head % 4 == 0);
            for (gate, kind) in kinds.flat_map(|k| gates.map(|g| (g, k))) {
                let mut kernels = vec![attention(&a, gate, kind, tuning), attention_tile(&a, gate, kind)];
                if split_of(&a, tuning.attn_chunk).is_some() {
                    kernels.extend([1, 7].map(|chunks| attention_split(&a, gate, kind, chunks, tuning)));
                    kernels.push(attention_join(&a, gate, 7, tuning));
                }
                let name = format!("{d_head} {window:?} {softcap:?} {gate:?} {kind:?}");
                all.extend(kernels.into_iter().map(|k| (name.clone(), k)));
            }
        }
    }
    all
}

/// What tuning chooses from.
pub fn tuned_variants(tuning: Tuning) -> Vec<Kernel> {
    let of = |d_head| Attention { n_head: 12, n_kv_head: 2, d_head, scale: 0.125, window: None, softcap: None };
    let kernels =
        |a: Attention| [attention_split(&a, None, KvType::F16, 7, tuning), attention_join(&a, None, 7, tuning)];
    [64, 256].into_iter().flat_map(|d| kernels(of(d))).collect()
}
