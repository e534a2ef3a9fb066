//! The kernels of gated delta nets. Those that carry a state go through the tokens of a step in one dispatch.

use super::super::tuning::Tuning;
use super::super::wgsl::Const::{B, F, U};
use super::super::wgsl::{Bindings, Const, assemble, assemble_with};
use super::{Kernel, Matrix, Read, THREADS, Write, value, vectors};
use crate::graph::{Delta, QkNorm, View};

/// One workgroup along z, however many rows the step has.
const WHOLE_STEP: usize = usize::MAX;

pub fn l2_norm(cols: usize, d_head: usize, (eps, scale): (f32, f32), tuning: Tuning) -> Kernel {
    let (v, n) = vectors(d_head);
    let threads = n.next_power_of_two().clamp(8, if tuning.software { 8 } else { 64 });
    let heads = cols / d_head;
    let consts = [("N", U(n)), ("HEADS", U(heads)), ("WG", U(threads)), ("EPS", F(eps)), ("SCALE", F(scale))];
    let source = assemble("l2_norm", &[v], &consts);
    Kernel { name: "l2_norm", source, bind: vec![Read, Write], grid: [heads as u32, 1], rows: 1, z: 1 }
}

/// `taps` has a row for each column of x, and the columns are those of its part. x is a view of whole columns.
pub fn ssm_conv(taps: Matrix, x: View) -> Kernel {
    let libs = [value(taps.dtype), vec!["v1", "act_silu"]].concat();
    let consts = [taps.consts(), vec![("X_STRIDE", U(x.stride)), ("X_AT", U(x.at))]].concat();
    let source = assemble("ssm_conv", &libs, &consts);
    let grid = [taps.rows.div_ceil(THREADS) as u32, 1];
    Kernel { name: "ssm_conv", source, bind: vec![Read, Read, Write, Write], grid, rows: WHOLE_STEP, z: 1 }
}

/// Sizes and views of what the delta rule reads.
#[derive(Clone, Debug)]
pub struct DeltaRule {
    pub delta: Delta,
    pub norm: Option<QkNorm>,
    /// Of q, k, v, alpha and beta; the number says which of the buffers each is in.
    pub views: [(usize, View); 5],
}

/// Tokens that the kernels for many of them take together.
pub const CHUNK: usize = 32;

impl DeltaRule {
    fn consts(&self) -> Vec<(&'static str, Const)> {
        let Delta { n_k_head, n_v_head, d_head } = self.delta;
        let norm = self.norm.unwrap_or(QkNorm { eps: 0.0, q_scale: 1.0, k_scale: 1.0 });
        vec![
            ("D", U(d_head)),
            ("K_HEADS", U(n_k_head)),
            ("V_HEADS", U(n_v_head)),
            ("DT_AT", U(n_v_head.next_multiple_of(4))),
            ("NORMED", B(self.norm.is_some())),
            ("EPS", F(norm.eps)),
            ("Q_SCALE", F(norm.q_scale)),
            ("K_SCALE", F(norm.k_scale)),
        ]
    }

    /// The buffers of the views, then the gates: the a of each value head, then the dt of each.
    fn bindings(&self) -> Bindings {
        let mut b = Bindings::default();
        let buffers = self.views.iter().map(|(i, _)| i + 1).max().unwrap_or(0);
        (0..buffers).for_each(|i| b.buffer(Read, &format!("from_{i}"), "f32"));
        for (name, (i, view)) in ["q", "k", "v", "alpha", "beta"].iter().zip(self.views) {
            b.view(name, &format!("from_{i}"), view, 1, true);
        }
        b.buffer(Read, "gates", "f32");
        b
    }
}

/// Binds the buffers of the views, the gates, the state, y.
pub fn delta_rule(r: &DeltaRule, tuning: Tuning) -> Kernel {
    let d_head = r.delta.d_head;
    let columns = 16;
    // One thread a column needs no barrier.
    let splits: &[usize] = if tuning.software { &[1] } else { &[8, 4, 2, 1] };
    let split = splits.iter().copied().find(|s| d_head.is_multiple_of(*s)).unwrap_or(1);
    let consts = [r.consts(), vec![("COLUMNS", U(columns)), ("SPLIT", U(split))]].concat();
    let mut b = r.bindings();
    b.buffer(Write, "state", "f32");
    b.buffer(Write, "y", "f32");
    let grid = [d_head.div_ceil(columns) as u32, r.delta.n_v_head as u32];
    let source = assemble_with("delta_rule", &b, &["delta_gates"], &consts, "");
    Kernel { name: "delta_rule", source, bind: b.access, grid, rows: WHOLE_STEP, z: 1 }
}

/// How the kernels for many tokens lay out what one of them hands to the other; lengths in vectors.
#[derive(Clone, Copy, Debug)]
pub struct DeltaChunks {
    delta: Delta,
    /// Columns of a head's state that a workgroup keeps.
    columns: usize,
}

impl DeltaChunks {
    /// `None` where a workgroup cannot keep a few columns of the state.
    pub fn of(delta: Delta) -> Option<Self> {
        // A vector of four keys is 16 bytes: half of the 16 KiB are for the state.
        let fits = |c: &usize| delta.d_head.div_ceil(4) * c * 16 <= 8192;
        [16, 8, 4].into_iter().find(fits).map(|columns| Self { delta, columns })
    }

    /// The rows of k and of q of a head.
    fn keys(&self) -> usize {
        self.delta.d_head.div_ceil(4) * 2 * CHUNK
    }

    /// Two squares, and two vectors with a value for each token.
    fn head(&self) -> usize {
        (2 * CHUNK * CHUNK + 2 * CHUNK) / 4
    }

    fn chunk(&self) -> usize {
        self.delta.n_k_head * self.keys() + self.delta.n_v_head * self.head()
    }

    /// Bytes for a step of so many tokens.
    pub fn bytes(&self, tokens: usize) -> usize {
        tokens.div_ceil(CHUNK) * self.chunk() * 16
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
pub fn delta_prepare(r: &DeltaRule, c: DeltaChunks) -> Kernel {
    let mut b = r.bindings();
    b.buffer(Write, "chunks", "vec4<f32>");
    let consts = [r.consts(), c.consts()].concat();
    let source = assemble_with("delta_prepare", &b, &["delta_gates"], &consts, "");
    let grid = [r.delta.n_v_head as u32, 1];
    Kernel { name: "delta_prepare", source, bind: b.access, grid, rows: CHUNK, z: 1 }
}

/// Binds the buffer of v, the chunks, the state, y.
pub fn delta_scan(r: &DeltaRule, c: DeltaChunks) -> Kernel {
    let mut b = Bindings::default();
    b.buffer(Read, "values", "f32");
    b.view("v", "values", r.views[2].1, 1, true);
    b.buffer(Read, "chunks", "vec4<f32>");
    b.buffer(Write, "state", "f32");
    b.buffer(Write, "y", "f32");
    let consts = [r.consts(), c.consts()].concat();
    let source = assemble_with("delta_scan", &b, &[], &consts, "");
    let grid = [r.delta.d_head.div_ceil(c.columns) as u32, r.delta.n_v_head as u32];
    Kernel { name: "delta_scan", source, bind: b.access, grid, rows: WHOLE_STEP, z: 1 }
}
