//! The rows of the cache: their type, and the kernels that only store or load them.
//!
//! Tests: `tests/suite/kernels.rs`, `tests/suite/fusion/cache.rs`.

use super::elementwise::by_vector;
use super::launch::{Launches, Operand};
use crate::backend::webgpu::dispatch::Access::{Read, Write};
use crate::backend::webgpu::dispatch::{Kernel, When};
use crate::backend::webgpu::shader::text::Const::{self, U};
use crate::backend::{BLOCK, KvType};
use crate::graph::{CacheKind, Dim, Graph, Op, StateId, StateRows, ValueId};

/// The type of a state's rows: as wanted if `rope_store` writes them and only attention reads them.
pub(crate) fn kv_of(g: &Graph, s: StateId, wanted: KvType) -> KvType {
    let users = g.nodes.iter().filter(|n| {
        let mut uses = false;
        n.op.clone().map_states(|x| uses |= *x == s);
        uses
    });
    let narrow = g.state(s).rows == StateRows::Ctx
        && users.into_iter().all(|n| matches!(n.op, Op::RopeStore(_) | Op::Attention { .. }));
    if narrow { wanted } else { KvType::F32 }
}

/// The constants of `kv.wgsl` for a state of this kind.
pub(crate) fn kv_consts(kind: CacheKind) -> [(&'static str, Const); 2] {
    [("KIND", U(kind as usize)), ("BLOCK", U(BLOCK))]
}

/// The element type of a state's buffer, and the shader parts that read and write it.
pub(crate) fn kv_parts(kind: KvType, vector: &'static str) -> (&'static str, &'static str, &'static str) {
    match kind {
        KvType::F32 => (vector, "kv_f32", "store_f32"),
        KvType::F16 => ("vec2<u32>", "kv_f16", "store_f16"),
        KvType::Q8_0 => ("u32", "kv_q8_0", "store_q8_0"),
    }
}

pub(crate) fn store(l: &mut Launches<'_>, state: StateId) {
    let k = kv_store(l.g.state(state).cols, l.g.cache_kind(state));
    l.one_kernel(k, &[Operand::State(state), Operand::Rows]);
}

pub(crate) fn store_next(l: &mut Launches<'_>, x: ValueId, state: StateId) {
    let k = kv_store_next(l.g.state(state).cols, l.g.cache_kind(state));
    let rows_of_logits = l.push(|| k, When::ALWAYS, &[Operand::Value(x), Operand::State(state), Operand::Rows]);
    rows_of_logits.into_iter().for_each(|s| s.rows = Dim::Outputs);
}

pub(crate) fn load(l: &mut Launches<'_>, state: StateId) {
    let k = kv_load(l.cols(), l.g.cache_kind(state));
    l.one_kernel(k, &[Operand::State(state), Operand::Rows]);
}

fn kv_load(cols: usize, kind: CacheKind) -> Kernel {
    by_vector("kv_load", cols, &["rows", "kv"], &kv_consts(kind), &[Read, Read, Write])
}

fn kv_store(cols: usize, kind: CacheKind) -> Kernel {
    by_vector("kv_store", cols, &["rows", "kv"], &kv_consts(kind), &[Read, Write, Read])
}

fn kv_store_next(cols: usize, kind: CacheKind) -> Kernel {
    by_vector("kv_store_next", cols, &["rows", "kv", "outputs"], &kv_consts(kind), &[Read, Write, Read])
}

pub(crate) fn variants() -> Vec<(String, Kernel)> {
    let of = |n: usize| {
        let context = CacheKind::Context;
        let kernels = [kv_store(n, CacheKind::Window), kv_store_next(n, context), kv_load(n, context)];
        kernels.map(|k| (n.to_string(), k))
    };
    [33, 64, 2048].into_iter().flat_map(of).collect()
}
