//! Attention: in tiles for many tokens, split over the keys for few.
//!
//! Tests: `tests/suite/kernels/attention.rs`, `tests/suite/tuning.rs`.

use super::kv::{kv_consts, kv_of, kv_parts};
use super::launch::{Launches, Operand};
use super::libs::vectors;
use crate::backend::webgpu::dispatch::Access::{Read, Write};
use crate::backend::webgpu::dispatch::{Chunks, Each, Kernel, When};
use crate::backend::webgpu::shader::bindings::Bindings;
use crate::backend::webgpu::shader::text::Const::{F, U};
use crate::backend::webgpu::shader::text::{Const, assemble_with};
use crate::backend::webgpu::tuning::Tuning;
use crate::backend::{KvType, Limits};
use crate::graph::{Attention, CACHE_KINDS, CacheKind, Op, View};

/// The most tokens of a step for which attention is split over the keys (on software adapters: runs token by token).
/// For more of them, a tile that reads each key once for all its tokens is faster.
const SPLIT_ATTENTION_MAX_TOKENS: usize = 8;

/// The most keys that one workgroup takes alone.
const WHOLE: usize = 64;

/// Workgroups of the split attention of one token that fill any GPU.
const WORKGROUPS: usize = 512;

/// The most keys of a chunk: the first if workgroup memory suffices, else the second.
const LONGEST: [usize; 2] = [256, 128];

/// The most bytes of partial results of split attention: with long contexts fewer tokens share them.
const MAX_PARTIAL: usize = 32 << 20;

/// # Panics
/// If the op is not attention.
pub(crate) fn lower(l: &mut Launches<'_>, op: &Op) {
    let Op::Attention { q, k, v, gate, attn } = op else { unreachable!("{} is not attention", op.name()) };
    let cache = Cache { rows: kv_of(l.g, *k, l.limits.kv), kind: l.g.cache_kind(*k) };
    assert_eq!(l.g.cache_kind(*v), cache.kind, "what reads keys reads their values");
    let (out, tuning) = (l.out(), l.tuning);
    let read = [Operand::Value(*q), Operand::State(*k), Operand::State(*v), Operand::Rows];
    let view = gate.map(|v| l.view(v));
    let gate_and_out: Vec<_> = gate.map(Operand::Value).into_iter().chain([out]).collect();
    let all = [&read[..], &gate_and_out].concat();
    if !attn.causal {
        // Whole texts run at once, so there are few steps of few tokens.
        l.push(|| attention_tile(attn, view, cache), When::rows(1, usize::MAX), &all);
        return;
    }
    let split = Split::of(attn, l.limits, tuning);
    let most = split.as_ref().map_or(SPLIT_ATTENTION_MAX_TOKENS, |s| s.tokens);
    let few = When::rows(1, most);
    l.push(|| attention_tile(attn, view, cache), When::rows(most + 1, usize::MAX), &all);
    let Some(split) = split else {
        l.push(|| attention(attn, view, cache, tuning), few, &all);
        return;
    };
    // With a window, a token never sees more keys than that.
    let short = if split.most == 1 { usize::MAX } else { WHOLE };
    l.push(|| attention_split(attn, view, cache, None), few.and_keys(0, short), &all);
    if split.most > 1 {
        let long = few.and_keys(short + 1, usize::MAX);
        let parts = [&read[..], &[Operand::Scratch]].concat();
        if let Some(s) = l.push(|| attention_split(attn, view, cache, Some(&split)), long, &parts) {
            s.chunks = Some(split.chunks);
        }
        let joined = [&[Operand::Scratch, Operand::Rows], &gate_and_out[..]].concat();
        l.push(|| attention_join(attn, view, &split), long, &joined);
    }
}

/// Bytes of partial results that the kernels of a node pass to each other.
pub(crate) fn scratch_bytes(attn: &Attention, limits: Limits, tuning: Tuning) -> usize {
    Split::of(attn, limits, tuning).filter(|s| attn.causal && s.most > 1).map_or(0, |s| s.tokens * s.partial)
}

/// How attention of few tokens is split over the keys.
struct Split {
    /// The most tokens of a step.
    tokens: usize,
    chunks: Chunks,
    /// The most chunks: a partial result has room for this many.
    most: usize,
    /// Bytes of partial results per token.
    partial: usize,
}

impl Split {
    fn of(a: &Attention, limits: Limits, tuning: Tuning) -> Option<Self> {
        let (heads, longest) = split_of(a).filter(|_| !tuning.software)?;
        let (wanted, shortest) = ((WORKGROUPS * heads / a.n_head).max(1), tuning.attn_chunk.min(longest));
        let chunks = Chunks { wanted, shortest, longest, window: a.window };
        let seen = limits.n_ctx.min(a.window.unwrap_or(limits.n_ctx));
        let most = if seen <= WHOLE { 1 } else { chunks.most(seen) };
        let partial = a.n_head * most * (a.d_head + 4) * 4;
        let tokens = SPLIT_ATTENTION_MAX_TOKENS.min(MAX_PARTIAL / partial).max(1);
        Some(Self { tokens, chunks, most, partial })
    }

    /// The constants of `attention_chunks.wgsl`, and how many chunks a partial result has room for.
    fn consts(&self) -> [(&'static str, Const); 3] {
        [("WANTED", U(self.chunks.wanted)), ("SHORTEST", U(self.chunks.shortest)), ("CHUNKS", U(self.most))]
    }
}

/// Bytes of workgroup memory that every device has.
const WORKGROUP_MEMORY: usize = 16384;

/// Threads of a workgroup of the split attention, and how many of them share a key.
const THREADS: usize = 128;
const LANES: usize = 8;

/// The states that a kernel reads: the type of their rows, and whose blocks they are in.
#[derive(Clone, Copy)]
struct Cache {
    rows: KvType,
    kind: CacheKind,
}

/// Constants, bindings and parts that all attention kernels share; `gate` is the gate of the result.
fn common(
    a: &Attention,
    gate: Option<View>,
    states: Option<Cache>,
) -> (Vec<(&'static str, Const)>, Bindings, Vec<&'static str>) {
    let (v, n) = vectors(a.d_head);
    let mut consts = vec![
        ("N", U(n)),
        ("HEADS", U(a.n_head)),
        ("KV_HEADS", U(a.n_kv_head)),
        ("SCALE", F(a.scale)),
        ("WINDOW", U(a.window.unwrap_or(0))),
        ("CAP", F(a.softcap.unwrap_or(0.0))),
    ];
    let (width, element) = if v == "v4" { (4, "vec4<f32>") } else { (1, "f32") };
    let mut bindings = Bindings::default();
    let mut libs = vec![v, "rows"];
    if let Some(cache) = states {
        let (row, read, _) = kv_parts(cache.rows, element);
        consts.extend(kv_consts(cache.kind));
        bindings.buffer(Read, "q", element);
        ["k", "v"].iter().for_each(|name| bindings.buffer(Read, name, row));
        libs.extend(["kv", read]);
        libs.extend(if a.softcap.is_some() { &["math", "cap_tanh"][..] } else { &["cap_none"] });
    } else {
        bindings.buffer(Read, "partial", element);
    }
    bindings.buffer(Read, "rows", "u32");
    gate.into_iter().for_each(|v| bindings.viewed("gate", "gate_at", v, width));
    libs.push(if gate.is_some() { "gate_sigmoid" } else { "gate_none" });
    bindings.buffer(Write, "y", element);
    (consts, bindings, libs)
}

/// Binds q, k, v, the rows of the step, the gate, y.
fn attention(a: &Attention, gate: Option<View>, cache: Cache, tuning: Tuning) -> Kernel {
    let (mut consts, bindings, libs) = common(a, gate, Some(cache));
    let n = vectors(a.d_head).1;
    let threads = if tuning.software { n.next_multiple_of(16) } else { n.next_multiple_of(64) };
    consts.extend([("WG", U(threads)), ("PER", U(4))]);
    let source = assemble_with("attention", &bindings, &libs, &consts, "");
    Kernel { name: "attention", source, bind: bindings.access, grid: [a.n_head as u32, 1], each: Each::Rows(1), z: 1 }
}

/// Attention of many tokens: a workgroup takes several tokens and some heads of one kv head. Binds q, k, v, the rows
/// of the step, the gate, y.
fn attention_tile(a: &Attention, gate: Option<View>, cache: Cache) -> Kernel {
    let (mut consts, bindings, mut libs) = common(a, gate, Some(cache));
    let (v, n) = vectors(a.d_head);
    // A thread keeps the sums of its rows, at most 64 values, so that they stay in registers.
    let width = if v == "v4" { 4 } else { 1 };
    let per_thread = [4, 2].into_iter().find(|rows| rows * n.div_ceil(8) * width <= 64).unwrap_or(1);
    // As many heads as leave few rows idle: short steps then fill tiles too, and fewer keys are masked for some row.
    let (rows, heads) = (8 * per_thread, a.n_head / a.n_kv_head);
    let fills = |group: &usize| heads.is_multiple_of(*group) && rows / group * group * 8 >= rows * 7;
    let group = (1..=rows).rev().find(fills).unwrap_or(1);
    let tokens = rows / group;
    consts.extend([
        ("R", U(per_thread)),
        ("GROUP", U(group)),
        ("TOKENS", U(tokens)),
        ("CAUSAL", U(usize::from(a.causal))),
    ]);
    libs.push("tile");
    let source = assemble_with("attention_tile", &bindings, &libs, &consts, "");
    let grid = [(a.n_head / group) as u32, 1];
    Kernel { name: "attention_tile", source, bind: bindings.access, grid, each: Each::Tile(tokens), z: 1 }
}

/// The most query heads and keys that a workgroup of the split attention takes. `None` if the head size is not a
/// multiple of a vector.
fn split_of(a: &Attention) -> Option<(usize, usize)> {
    if !a.d_head.is_multiple_of(4) || a.d_head / 4 > THREADS {
        return None;
    }
    let group = a.n_head / a.n_kv_head;
    // Queries, scores, sums of products, folded sums and a vector per thread: what the shader declares.
    let bytes = |heads: usize, keys: usize| 4 * heads * (a.d_head + keys + each(heads) * THREADS + 8) + 16 * THREADS;
    // With few kv heads, more workgroups gain more than reading each key once.
    let most = if a.n_kv_head < 4 { 2 } else { 8 };
    let heads = (1..=group.min(most)).rev().filter(|h| group.is_multiple_of(*h));
    let fits = |h: usize| LONGEST.into_iter().find(|keys| bytes(h, *keys) <= WORKGROUP_MEMORY).map(|keys| (h, keys));
    heads.into_iter().find_map(fits)
}

/// Keys per thread of the split attention between two barriers.
fn each(heads: usize) -> usize {
    (8 / heads).clamp(1, 4)
}

/// Attention of few tokens: one workgroup takes several query heads of a kv head. Binds q, k, v, the rows of the
/// step, the gate, y; or, if the keys are split, the partial results instead of the last two.
fn attention_split(a: &Attention, gate: Option<View>, cache: Cache, split: Option<&Split>) -> Kernel {
    let (heads, keys) = split_of(a).expect("the caller asked");
    let (mut consts, mut bindings, mut libs) = common(a, gate.filter(|_| split.is_none()), Some(cache));
    consts.extend([
        ("WG", U(THREADS)),
        ("LANES", U(LANES)),
        ("EACH", U(each(heads))),
        ("G", U(heads)),
        ("CHUNK", U(keys)),
    ]);
    let name = if let Some(split) = split {
        consts.extend(split.consts());
        libs.extend(["attention_chunks", "attention_partial"]);
        bindings.rename("y", "partial");
        "attention_split"
    } else {
        libs.push("attention_whole");
        "attention_whole"
    };
    let source = assemble_with("attention_split", &bindings, &libs, &consts, "");
    Kernel { name, source, bind: bindings.access, grid: [(a.n_head / heads) as u32, 1], each: Each::Rows(1), z: 1 }
}

/// Joins the partial results. Binds those, the rows of the step, the gate, y.
fn attention_join(a: &Attention, gate: Option<View>, split: &Split) -> Kernel {
    let (mut consts, bindings, mut libs) = common(a, gate, None);
    consts.extend([("WG", U(THREADS)), ("CHUNK", U(split.chunks.longest))]);
    consts.extend(split.consts());
    libs.push("attention_chunks");
    let source = assemble_with("attention_join", &bindings, &libs, &consts, "");
    Kernel {
        name: "attention_join",
        source,
        bind: bindings.access,
        grid: [a.n_head as u32, 1],
        each: Each::Rows(1),
        z: 1,
    }
}

/// The shapes whose variants tests compile.
const LIMITS: Limits =
    Limits { n_ctx: 4096, max_tokens: 64, max_outputs: 1, kv: KvType::F16, blocks: [64; CACHE_KINDS], slots: 1 };

pub(crate) fn variants(tuning: Tuning) -> Vec<(String, Kernel)> {
    let mut all = Vec::new();
    for d_head in [6, 64, 80, 96, 256, 512] {
        for (window, softcap) in [(None, None), (Some(16), None), (None, Some(50.0)), (Some(4), Some(50.0))] {
            let a = Attention { n_head: 12, n_kv_head: 2, d_head, scale: 0.125, causal: true, window, softcap };
            // Heads of eight values with gaps of eight between them.
            let gates = [None, Some(View { stride: 24 * d_head, at: 8, group: 16, len: 8 })];
            let kinds =
                [KvType::F32, KvType::F16, KvType::Q8_0].into_iter().filter(|k| *k == KvType::F32 || d_head % 4 == 0);
            for (gate, rows) in kinds.flat_map(|k| gates.map(|g| (g, k))) {
                let kind = if window.is_some() { CacheKind::Window } else { CacheKind::Context };
                let cache = Cache { rows, kind };
                let mut kernels = vec![attention(&a, gate, cache, tuning), attention_tile(&a, gate, cache)];
                if gate.is_none() && softcap.is_none() {
                    kernels.push(attention_tile(&Attention { causal: false, ..a }, gate, cache));
                }
                if split_of(&a).is_some() {
                    kernels.push(attention_split(&a, gate, cache, None));
                }
                if let Some(split) = Split::of(&a, LIMITS, tuning) {
                    kernels.push(attention_split(&a, gate, cache, Some(&split)));
                    kernels.push(attention_join(&a, gate, &split));
                }
                let name = format!("{d_head} {window:?} {softcap:?} {gate:?} {rows:?}");
                all.extend(kernels.into_iter().map(|k| (name.clone(), k)));
            }
        }
    }
    all
}

/// The variants that tuning chooses from.
pub(crate) fn tuned_variants(tuning: Tuning) -> Vec<Kernel> {
    let of = |d_head| Attention {
        n_head: 12,
        n_kv_head: 2,
        d_head,
        scale: 0.125,
        causal: true,
        window: None,
        softcap: None,
    };
    let cache = Cache { rows: KvType::F16, kind: CacheKind::Context };
    let split = |a: &Attention| Split::of(a, LIMITS, tuning);
    let kernels = |a: &Attention, s: &Split| [attention_split(a, None, cache, Some(s)), attention_join(a, None, s)];
    let all = [64, 256].map(of);
    all.iter().filter_map(|a| split(a).map(|s| kernels(a, &s))).flatten().collect()
}
