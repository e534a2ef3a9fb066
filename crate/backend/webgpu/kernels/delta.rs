//! The kernels of gated delta nets. Those with a state process the tokens of a segment in one workgroup or more.
//!
//! Tests: `tests/suite/kernels/delta.rs`.

use super::launch::{Launches, Operand};
use super::libs::{VALUE_TYPES, value};
use super::matrix::{Matrix, THREADS};
use crate::backend::webgpu::dispatch::Access::{Read, Write};
use crate::backend::webgpu::dispatch::{Each, Kernel, When};
use crate::backend::webgpu::shader::bindings::Bindings;
use crate::backend::webgpu::shader::text::Const::{B, F, U};
use crate::backend::webgpu::shader::text::{Const, assemble, assemble_with};
use crate::backend::webgpu::tuning::{GEMV_MAX_ROWS, Tuning};
use crate::backend::{Limits, MAX_SEGMENTS};
use crate::graph::{Delta, Op, QkNorm, StateId, ValueId, View, WeightId};

pub(crate) fn lower_conv(l: &mut Launches<'_>, x: ValueId, w: WeightId, state: StateId) {
    let x = l.view(x);
    for (taps, part) in l.matrices(w) {
        l.one_kernel(ssm_conv(taps, x), &[part, Operand::State(state)]);
    }
}

/// # Panics
/// If the op is not one of these.
pub(crate) fn lower_rule(l: &mut Launches<'_>, op: &Op) {
    let Op::DeltaRule { q, k, v, alpha, beta, state, delta, norm, .. } = op else {
        unreachable!("{} is not the delta rule", op.name());
    };
    let (mut slots, mut from) = (Vec::new(), Vec::new());
    let views = [q, k, v, alpha, beta].map(|x| {
        let slot = l.plan.slot(*x);
        let at = slots.iter().position(|s| *s == slot).unwrap_or_else(|| {
            slots.push(slot);
            from.push(Operand::Value(*x));
            slots.len() - 1
        });
        (at, l.view(*x))
    });
    let rule = DeltaRule { delta: *delta, norm: *norm, views };
    let [table]: [_; 1] = l.tables().try_into().expect("the delta rule has a table");
    let (table, state, out, tuning) = (Operand::Table(table), Operand::State(*state), l.out(), l.tuning);
    let chunks = chunks_of(*delta, tuning);
    let few = if chunks.is_some() { When::rows(1, GEMV_MAX_ROWS) } else { When::ALWAYS };
    let whole = [&from[..], &[table.clone(), state.clone(), out.clone()]].concat();
    l.push(|| delta_rule(&rule, tuning), few, &whole);
    if let Some(c) = chunks {
        let many = When::rows(GEMV_MAX_ROWS + 1, usize::MAX);
        l.push(|| delta_prepare(&rule, c), many, &[&from[..], &[table, Operand::Scratch]].concat());
        l.push(|| delta_scan(&rule, c), many, &[Operand::Value(*v), Operand::Scratch, state, out]);
    }
}

/// Bytes of the chunks that the kernels of a node pass to each other.
pub(crate) fn scratch_bytes(delta: Delta, limits: Limits, tuning: Tuning) -> usize {
    let chunks = chunks_of(delta, tuning).filter(|_| limits.max_tokens > GEMV_MAX_ROWS);
    chunks.map_or(0, |c| c.bytes(limits))
}

/// The delta rule in chunks. Software adapters are faster token by token.
fn chunks_of(delta: Delta, tuning: Tuning) -> Option<DeltaChunks> {
    DeltaChunks::of(delta).filter(|_| !tuning.software)
}

/// `taps` has a row per column of x, and the columns are those of its part. x is a view of whole columns.
fn ssm_conv(taps: Matrix, x: View) -> Kernel {
    let libs = [value(taps.dtype), vec!["v1", "act_silu", "slots"]].concat();
    let slot = (taps.cols - 1) * taps.total_rows;
    let consts = [taps.consts(), vec![("X_STRIDE", U(x.stride)), ("X_AT", U(x.at)), ("SLOT", U(slot))]].concat();
    let source = assemble("ssm_conv", &libs, &consts);
    let grid = [taps.rows.div_ceil(THREADS) as u32, 1];
    Kernel { name: "ssm_conv", source, bind: vec![Read, Read, Write, Write], grid, each: Each::Segment, z: 1 }
}

/// Sizes and views of the delta rule's inputs.
#[derive(Clone, Debug)]
struct DeltaRule {
    delta: Delta,
    norm: Option<QkNorm>,
    /// Of q, k, v, alpha and beta; the number is the index of the buffer of each.
    views: [(usize, View); 5],
}

/// Tokens per chunk of the kernels for many tokens.
const CHUNK: usize = 32;

impl DeltaRule {
    fn consts(&self) -> Vec<(&'static str, Const)> {
        let Delta { n_k_head, n_v_head, d_head } = self.delta;
        let norm = self.norm.unwrap_or(QkNorm { eps: 0.0, q_scale: 1.0, k_scale: 1.0 });
        vec![
            ("D", U(d_head)),
            ("SLOT", U(n_v_head * d_head * d_head)),
            ("K_HEADS", U(n_k_head)),
            ("V_HEADS", U(n_v_head)),
            ("DT_AT", U(n_v_head.next_multiple_of(4))),
            ("NORMED", B(self.norm.is_some())),
            ("EPS", F(norm.eps)),
            ("Q_SCALE", F(norm.q_scale)),
            ("K_SCALE", F(norm.k_scale)),
        ]
    }

    /// The buffers of the views, then the gates: a of each value head, then dt of each.
    fn bindings(&self) -> Bindings {
        let mut b = Bindings::default();
        let buffers = self.views.iter().map(|(i, _)| i + 1).max().unwrap_or(0);
        (0..buffers).for_each(|i| b.buffer(Read, &format!("from_{i}"), "f32"));
        for (function, (i, view)) in ["q_at", "k_at", "v_at", "alpha_at", "beta_at"].iter().zip(self.views) {
            b.view(function, &format!("from_{i}"), view, 1, true);
        }
        b.buffer(Read, "gates", "f32");
        b
    }
}

/// Binds the buffers of the views, the gates, the state, y.
fn delta_rule(r: &DeltaRule, tuning: Tuning) -> Kernel {
    let d_head = r.delta.d_head;
    let columns = 16;
    // One thread per column needs no barrier.
    let splits: &[usize] = if tuning.software { &[1] } else { &[8, 4, 2, 1] };
    let split = splits.iter().copied().find(|s| d_head.is_multiple_of(*s)).unwrap_or(1);
    let consts = [r.consts(), vec![("COLUMNS", U(columns)), ("SPLIT", U(split))]].concat();
    let mut b = r.bindings();
    b.buffer(Write, "state", "f32");
    b.buffer(Write, "y", "f32");
    let grid = [d_head.div_ceil(columns) as u32, r.delta.n_v_head as u32];
    let source = assemble_with("delta_rule", &b, &["delta_gates", "slots"], &consts, "");
    Kernel { name: "delta_rule", source, bind: b.access, grid, each: Each::Segment, z: 1 }
}

/// The layout of what one kernel for many tokens passes to the other; lengths in vectors.
#[derive(Clone, Copy, Debug)]
struct DeltaChunks {
    delta: Delta,
    /// Columns of a head's state per workgroup.
    columns: usize,
}

impl DeltaChunks {
    /// `None` if workgroup memory does not hold a few columns of the state.
    fn of(delta: Delta) -> Option<Self> {
        // A vector of four keys is 16 bytes: half of the 16 KiB is for the state.
        let fits = |c: &usize| delta.d_head.div_ceil(4) * c * 16 <= 8192;
        [16, 8, 4].into_iter().find(fits).map(|columns| Self { delta, columns })
    }

    /// The rows of k and of q of a head.
    fn keys(&self) -> usize {
        self.delta.d_head.div_ceil(4) * 2 * CHUNK
    }

    /// Two square matrices, and two vectors with a value per token.
    fn head(&self) -> usize {
        (2 * CHUNK * CHUNK + 2 * CHUNK) / 4
    }

    fn chunk(&self) -> usize {
        self.delta.n_k_head * self.keys() + self.delta.n_v_head * self.head()
    }

    /// Bytes for any step: each segment, which has a slot of its own, may end in a chunk that is not full.
    fn bytes(&self, limits: Limits) -> usize {
        let segments = MAX_SEGMENTS.min(limits.slots).max(1);
        (limits.max_tokens.div_ceil(CHUNK) + segments - 1) * self.chunk() * 16
    }

    fn consts(&self) -> Vec<(&'static str, Const)> {
        let square = CHUNK * CHUNK / 4;
        vec![
            ("C", U(CHUNK)),
            ("COLUMNS", U(self.columns)),
            ("KEYS", U(self.delta.d_head.div_ceil(4))),
            ("KEYS_LEN", U(self.delta.n_k_head * self.keys())),
            ("HEAD_LEN", U(self.head())),
            ("CHUNK_LEN", U(self.chunk())),
            ("A_AT", U(square)),
            ("P_AT", U(2 * square)),
            ("D_AT", U(2 * square + CHUNK / 4)),
        ]
    }
}

/// Binds the buffers of the views, the gates, the chunks.
fn delta_prepare(r: &DeltaRule, c: DeltaChunks) -> Kernel {
    let mut b = r.bindings();
    b.buffer(Write, "chunks", "vec4<f32>");
    let consts = [r.consts(), c.consts()].concat();
    let source = assemble_with("delta_prepare", &b, &["delta_gates", "tile"], &consts, "");
    let grid = [r.delta.n_v_head as u32, 1];
    Kernel { name: "delta_prepare", source, bind: b.access, grid, each: Each::Tile(CHUNK), z: 1 }
}

/// Binds the buffer of v, the chunks, the state, y.
fn delta_scan(r: &DeltaRule, c: DeltaChunks) -> Kernel {
    let mut b = Bindings::default();
    b.buffer(Read, "values", "f32");
    b.view("v_at", "values", r.views[2].1, 1, true);
    b.buffer(Read, "chunks", "vec4<f32>");
    b.buffer(Write, "state", "f32");
    b.buffer(Write, "y", "f32");
    let consts = [r.consts(), c.consts()].concat();
    let source = assemble_with("delta_scan", &b, &["slots"], &consts, "");
    let grid = [r.delta.d_head.div_ceil(c.columns) as u32, r.delta.n_v_head as u32];
    Kernel { name: "delta_scan", source, bind: b.access, grid, each: Each::Segment, z: 1 }
}

pub(crate) fn variants(tuning: Tuning) -> Vec<(String, Kernel)> {
    let mut all = Vec::new();
    for d_head in [1, 6, 31, 128, 256] {
        let delta = Delta { n_k_head: 2, n_v_head: 4, d_head };
        let whole = |n: usize| View { stride: 3 * n, at: n, group: n, len: n };
        let apart = [0, 1, 2, 3, 4].map(|i| (i, View { stride: 4, at: 0, group: 4, len: 4 }));
        let together = [0, 0, 0, 1, 1].map(|i| (i, whole(4 * d_head)));
        for (norm, views) in [(None, apart), (Some(QkNorm { eps: 1e-6, q_scale: 0.5, k_scale: 1.0 }), together)] {
            let rule = DeltaRule { delta, norm, views };
            let mut kernels = vec![delta_rule(&rule, tuning)];
            if let Some(c) = chunks_of(delta, tuning) {
                kernels.extend([delta_prepare(&rule, c), delta_scan(&rule, c)]);
            }
            all.extend(kernels.into_iter().map(|k| (format!("{d_head} {norm:?}"), k)));
        }
    }
    for (dtype, cols) in VALUE_TYPES.into_iter().flat_map(|d| [2, 4].map(|n| (d, n))) {
        let taps = Matrix { dtype, cols, row0: 7, rows: 100, total_rows: 107, held: 100 };
        let x = View { stride: 321, at: 107, group: 107, len: 107 };
        all.push((format!("{cols} {dtype}"), ssm_conv(taps, x)));
    }
    all
}
