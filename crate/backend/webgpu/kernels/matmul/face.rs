//! Products of packed matrices with rows of x, with what is fused before and after them.

use super::super::libs::{act_lib, element, in_ints, quant};
use super::super::matrix::Matrix;
use crate::backend::webgpu::dispatch::Access::{Read, Write};
use crate::backend::webgpu::shader::bindings::Bindings;
use crate::backend::webgpu::shader::files::file;
use crate::backend::webgpu::shader::interfaces::{self, PerMatrixCode, Segments};
use crate::backend::webgpu::shader::text::Const::{self, B, F, U};
use crate::dtype::DType;
use crate::graph::{Act, Dim, View};

/// A fused matmul as a kernel sees it: matrices with one input, what happens to x before, and to the result after.
#[derive(Clone, Debug)]
pub(super) struct MatMul {
    pub cols: usize,
    pub input: Input,
    /// One per matrix; two if they are gate and up.
    pub segments: Vec<Segment>,
    pub output: Output,
    pub y_cols: usize,
    pub of: Dim,
    pub experts: Option<Experts>,
}

/// Some rows of a matrix, and where their results go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub m: Matrix,
    /// The column of y for row 0 of the whole matrix.
    pub column: usize,
    /// Where the bias of the matrix starts in the table.
    pub bias: Option<usize>,
}

/// What happens to x, as in `Pre`; the weights of norms are in a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Input {
    Plain,
    Norm {
        eps: f32,
    },
    /// The norm of a sum, which the kernel computes and also writes.
    SumNorm {
        eps: f32,
        added_eps: f32,
    },
    GatedNorm {
        eps: f32,
        head: usize,
        gate: View,
        act: Act,
    },
}

/// What happens to the result, as in `Post`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Output {
    Plain,
    Glu(Act),
    Add {
        gate: Option<View>,
    },
    /// Added to the previous content of y.
    AddToItself,
}

/// How a token's experts are laid out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Experts {
    pub n_expert: usize,
    pub n_used: usize,
    /// x has one row for all experts of a token, not one for each.
    pub shared_x: bool,
    /// Rows of a tile if the rows come sorted by expert; `None` if token by token.
    pub tile: Option<usize>,
}

impl MatMul {
    pub(super) fn halves(&self) -> usize {
        if matches!(self.output, Output::Glu(_)) { 2 } else { 1 }
    }

    /// Whether the experts of a token are summed.
    pub(super) fn sums(&self) -> bool {
        self.experts.is_some() && matches!(self.output, Output::Add { .. } | Output::AddToItself)
    }

    /// Whether all matrices are of types for the int8 kernels.
    pub(super) fn in_ints(&self) -> bool {
        self.segments.iter().all(|s| in_ints(s.m.dtype))
    }

    /// Whether values of some matrix are an integer times a scale plus a minimum.
    pub(super) fn has_minima(&self) -> bool {
        self.segments.iter().any(|s| quant(s.m.dtype).contains(&"run_of_unsigned"))
    }

    pub(super) fn needs_table(&self) -> bool {
        self.input != Input::Plain || self.segments.iter().any(|s| s.bias.is_some())
    }

    /// Rows of each matrix that produce rows of y: with experts, those of one.
    pub(super) fn rows(&self, s: &Segment) -> usize {
        self.experts.map_or(s.m.rows, |e| s.m.total_rows / e.n_expert)
    }

    /// The bindings after the step: the matrices, x with this element type, and whatever of the rest is used, in this
    /// order.
    pub(super) fn bindings(&self, x: &str) -> Bindings {
        let mut b = Bindings::default();
        for (i, s) in self.segments.iter().enumerate() {
            b.buffer(Read, &format!("w_{i}"), element(s.m.dtype));
        }
        b.buffer(Read, "x", x);
        match self.experts {
            Some(Experts { tile: Some(_), .. }) => b.buffer(Read, "groups", "u32"),
            Some(_) => b.buffer(Read, "route", "f32"),
            None => {}
        }
        if self.needs_table() {
            b.buffer(Read, "table", "vec4<f32>");
        }
        match self.input {
            Input::SumNorm { .. } => b.buffer(Read, "added", "vec4<f32>"),
            Input::GatedNorm { gate, .. } => b.viewed("gate", "gate_at", gate, 4),
            _ => {}
        }
        if let Output::Add { gate } = self.output {
            b.buffer(Read, "to", "f32");
            gate.into_iter().for_each(|v| b.viewed("to_gate", "to_gate_at", v, 1));
        }
        b.buffer(Write, "y", "f32");
        if let Input::SumNorm { .. } = self.input {
            b.buffer(Write, "sum", "vec4<f32>");
        }
        b
    }

    pub(super) fn consts(&self, grid_x: usize) -> Vec<(&'static str, Const)> {
        let mut all = vec![
            ("RUNS", U(self.cols / 32)),
            ("Y_COLS", U(self.y_cols)),
            ("OF_OUTPUTS", B(self.of == Dim::Outputs)),
            ("HALVES", U(self.halves())),
            ("GRID_X", U(grid_x)),
        ];
        if let (Some(e), Some(s)) = (self.experts, self.segments.first()) {
            let rows = s.m.total_rows / e.n_expert;
            all.extend([("EXPERTS", U(e.n_expert)), ("USED", U(e.n_used)), ("Y_ROWS", U(rows))]);
            all.extend([("SHARED", B(e.shared_x)), ("SUM", B(self.sums()))]);
        }
        match self.input {
            Input::Plain => {}
            Input::Norm { eps } => all.push(("EPS", F(eps))),
            Input::SumNorm { eps, added_eps } => all.extend([("EPS", F(eps)), ("ADDED_EPS", F(added_eps))]),
            Input::GatedNorm { eps, head, .. } => all.extend([("EPS", F(eps)), ("HEAD", U(head / 4))]),
        }
        all
    }

    /// Copies of what unpacks each matrix, and of the part that `body` names for its type, which multiplies one of
    /// them; `pair` multiplies both halves.
    pub(super) fn matrices(
        &self,
        shared: &[&str],
        body: impl Fn(DType) -> Vec<&'static str>,
        pair: Option<&'static str>,
    ) -> String {
        let mut copies = PerMatrixCode::new(shared);
        let row = if self.experts.is_some() { "row_expert" } else { "row_plain" };
        for (i, s) in self.segments.iter().enumerate() {
            let libs = [quant(s.m.dtype), vec![row], body(s.m.dtype)].concat();
            let own = |key: &str| ["ROWS", "HELD", "ROW0", "ROW_BYTES", "BLOCKS"].contains(&key);
            let consts: Vec<_> = s.m.consts().into_iter().filter(|(key, _)| own(key)).collect();
            copies.add(i, &libs, &consts);
        }
        let text = copies.finish();
        match pair.filter(|_| self.halves() == 2) {
            Some(pair) => text + file(pair),
            None => text,
        }
    }

    /// What the generated functions know of the matrices.
    pub(super) fn segments(&self) -> Segments {
        let of = |s: &Segment| {
            let column = s.column + if self.experts.is_some() { 0 } else { s.m.row0 };
            interfaces::Segment { rows: self.rows(s), column, bias: s.bias }
        };
        let first = self.segments.first().filter(|_| self.experts.is_some());
        Segments {
            all: self.segments.iter().map(of).collect(),
            gate_and_up: self.halves() == 2,
            experts: first.map(|s| s.m.row0..s.m.row0 + s.m.rows),
        }
    }

    /// The generated functions that all kernels call, for workgroups of `rows` rows, and the number of workgroups.
    pub(super) fn frame(&self, rows: usize) -> (String, usize) {
        let store = match self.output {
            Output::Plain => "y[o] = v;",
            Output::Glu(_) => "y[o] = act(v) * (high + bias(1u, row));",
            Output::Add { gate: None } => "y[o] = to[o] + v;",
            // The clamp keeps exp finite.
            Output::Add { gate: Some(_) } => "y[o] = to[o] + v / (1.0 + exp(min(-to_gate_at(t, 0u), 80.0)));",
            Output::AddToItself => "y[o] += v;",
        };
        self.segments().frame(rows, store)
    }

    /// The part that selects the rows of x of a tile, and how many each token has.
    pub(super) fn tile_lib(&self) -> (&'static str, usize) {
        self.experts.map_or(("tile_tokens", 1), |e| ("tile_expert", e.n_used))
    }

    pub(super) fn act_libs(&self) -> Vec<&'static str> {
        match (self.input, self.output) {
            (Input::GatedNorm { act, .. }, _) => vec!["v4", act_lib(act)],
            (_, Output::Glu(act)) => vec!["v1", act_lib(act)],
            _ => Vec::new(),
        }
    }
}
