//! Projections: products of packed matrices with rows of x, with what happens to x before and to the result after.

mod q8;

use std::fmt::Write;

use super::super::tuning::Tuning;
use super::super::wgsl::Const::{B, F, U};
use super::super::wgsl::{Bindings, Const, Copies, assemble, assemble_with, file};
use super::{Kernel, Matrix, Read, THREADS, Write as Written, element, fold, in_ints, quant, value};
use crate::graph::{Act, Dim, View};
pub use q8::{gemm_q8, quantize_q8};

/// Rows of x up to which the kernel for few of them runs.
pub const FEW: usize = 16;

/// Rows of a matrix from which on it is wide.
pub const WIDE: usize = 4096;

/// Threads of a gemv.
const WG: usize = 64;

/// A projection as a kernel sees it.
#[derive(Clone, Debug)]
pub struct Projection {
    pub cols: usize,
    pub input: Input,
    /// One for each matrix; two where they are gate and up.
    pub segments: Vec<Segment>,
    pub output: Output,
    pub y_cols: usize,
    pub of: Dim,
    pub experts: Option<Experts>,
}

/// Some rows of a matrix, and where they go.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub m: Matrix,
    /// The column of y that row 0 of the whole matrix is for.
    pub column: usize,
    /// Where the bias of the matrix starts in the table.
    pub bias: Option<usize>,
}

/// What happens to x, as in `Pre`; the weights of norms are in a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Input {
    Plain,
    Norm {
        eps: f32,
    },
    /// The norm of a sum that the kernel makes, and writes.
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
pub enum Output {
    Plain,
    Glu(Act),
    Add {
        gate: Option<View>,
    },
    /// To what is in y already.
    AddToItself,
}

/// How a token's experts are laid out.
#[derive(Clone, Copy, Debug)]
pub struct Experts {
    pub n_expert: usize,
    pub n_used: usize,
    /// x is one row for all experts of a token, not one for each.
    pub shared_x: bool,
    /// Rows of a tile where they come sorted by expert, not token by token.
    pub tile: Option<usize>,
}

impl Projection {
    fn halves(&self) -> usize {
        if matches!(self.output, Output::Glu(_)) { 2 } else { 1 }
    }

    /// Whether the experts of a token are summed.
    fn sums(&self) -> bool {
        self.experts.is_some() && matches!(self.output, Output::Add { .. } | Output::AddToItself)
    }

    /// Whether all matrices are whole numbers for the kernels of 8 bits.
    pub fn in_ints(&self) -> bool {
        self.segments.iter().all(|s| in_ints(s.m.dtype))
    }

    fn needs_table(&self) -> bool {
        self.input != Input::Plain || self.segments.iter().any(|s| s.bias.is_some())
    }

    /// Rows of each matrix that make rows of y: with experts those of one.
    fn rows(&self, s: &Segment) -> usize {
        self.experts.map_or(s.m.rows, |e| s.m.total_rows / e.n_expert)
    }

    /// Bound after the step: the matrices, x of such elements, and what of the rest there is, in this order.
    fn bindings(&self, x: &str) -> Bindings {
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
            Input::GatedNorm { gate, .. } => b.viewed("gate", gate, 4),
            _ => {}
        }
        if let Output::Add { gate } = self.output {
            b.buffer(Read, "to", "f32");
            gate.into_iter().for_each(|v| b.viewed("to_gate", v, 1));
        }
        b.buffer(Written, "y", "f32");
        if let Input::SumNorm { .. } = self.input {
            b.buffer(Written, "sum", "vec4<f32>");
        }
        b
    }

    fn consts(&self, grid_x: usize) -> Vec<(&'static str, Const)> {
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

    /// Copies of what unpacks each matrix, and of `body`, which multiplies one of them; `pair` multiplies both halves.
    fn matrices(&self, shared: &[&str], body: Option<&'static str>, pair: Option<&'static str>) -> String {
        let mut copies = Copies::new(shared);
        let row = if self.experts.is_some() { "row_expert" } else { "row_plain" };
        for (i, s) in self.segments.iter().enumerate() {
            let body = if self.halves() == 1 { body } else { None };
            let libs = [quant(s.m.dtype), vec![row], body.into_iter().collect()].concat();
            let own = |key: &str| ["ROWS", "ROW0", "ROW_BYTES", "BLOCKS"].contains(&key);
            let consts: Vec<_> = s.m.consts().into_iter().filter(|(key, _)| own(key)).collect();
            copies.add(i, &libs, &consts);
        }
        let text = copies.finish();
        match pair.filter(|_| self.halves() == 2) {
            Some(pair) => text + file(&format!("lib/{pair}")),
            None => text,
        }
    }

    /// `segment`, `rows_in` and `store`; a workgroup makes `rows` rows of one segment, or of both halves.
    fn frame(&self, rows: usize) -> (String, usize) {
        let mut text = String::new();
        let mut all = 0;
        let shown = &self.segments[..self.segments.len() / self.halves()];
        let mut say = |line: String| {
            text.push_str(&line);
            text.push('\n');
        };
        say("fn segment(number: u32) -> vec2<u32> {".into());
        for (i, s) in shown.iter().enumerate() {
            let groups = self.rows(s).div_ceil(rows);
            let last = i + 1 == shown.len();
            let test = if last { String::new() } else { format!("if (number < {}u) ", all + groups) };
            say(format!("    {test}{{ return vec2<u32>({i}u, number - {all}u); }}"));
            all += groups;
        }
        say("}".into());
        let by_segment = |name: &str, ty: &str, args: &str, value: &dyn Fn(&Segment) -> String| {
            let mut f = format!("fn {name}(segment: u32{args}) -> {ty} {{\n");
            for (i, s) in self.segments.iter().enumerate() {
                let test = if i + 1 == self.segments.len() { String::new() } else { format!("if (segment == {i}u) ") };
                writeln!(f, "    {test}{{ return {}; }}", value(s)).expect("writing to a string does not fail");
            }
            f + "}"
        };
        say(by_segment("rows_in", "u32", "", &|s| format!("{}u", self.rows(s))));
        say(by_segment("column", "u32", "", &|s| {
            format!("{}u", s.column + if self.experts.is_some() { 0 } else { s.m.row0 })
        }));
        say(by_segment("bias", "f32", ", row: u32", &|s| match s.bias {
            Some(at) => format!("table[({at}u + row) >> 2u][({at}u + row) & 3u]"),
            None => "0.0".into(),
        }));
        if let Some(s) = self.segments.first().filter(|_| self.experts.is_some()) {
            let (begin, end) = (s.m.row0, s.m.row0 + s.m.rows);
            say(format!("fn here(row: u32) -> bool {{ return row >= {begin}u && row < {end}u; }}"));
            say(format!("fn any_here(row: u32) -> bool {{ return row + {rows}u > {begin}u && row < {end}u; }}"));
        }
        say("fn store(segment: u32, t: u32, row: u32, low: f32, high: f32) {".into());
        say("    let o = t * Y_COLS + column(segment) + row;".into());
        say("    let v = low + bias(segment, row);".into());
        say(match self.output {
            Output::Plain => "    y[o] = v;".into(),
            Output::Glu(_) => "    y[o] = act(v) * (high + bias(1u, row));".into(),
            Output::Add { gate: None } => "    y[o] = to[o] + v;".into(),
            // The clamp keeps exp finite.
            Output::Add { gate: Some(_) } => {
                "    y[o] = to[o] + v / (1.0 + exp(min(-to_gate_at(t, 0u), 80.0)));".into()
            }
            Output::AddToItself => "    y[o] += v;".into(),
        });
        say("}".into());
        (text, all)
    }

    /// `name(segment, args)`: that of the copy of the segment, or that of the pair.
    fn choice(&self, name: &str, args: &str, passed: &str, ty: &str) -> String {
        let mut f = format!("fn {name}_of(segment: u32, {args}) -> {ty} {{\n");
        if self.halves() == 2 {
            return f + &format!("    return {name}_pair({passed});\n}}\n");
        }
        for i in 1..self.segments.len() {
            writeln!(f, "    if (segment == {i}u) {{ return {name}_{i}({passed}); }}")
                .expect("writing to a string does not fail");
        }
        f + &format!("    return {name}_0({passed});\n}}\n")
    }

    /// `load_w(segment, row0, i, run)`: the run of row i of a tile of 64, by the copy of `load` that is the segment's.
    fn load_w(&self, load: &str, ty: &str) -> String {
        let mut f = format!("fn load_w(segment: u32, row0: u32, i: u32, run: u32) -> {ty} {{\n");
        let copy = |i: usize, row: &str| format!("return {load}_{i}(row_base_{i}(row_at_{i}(row0 + {row})), run);");
        let mut say = |test: &str, line: String| {
            writeln!(f, "    {test}{{ {line} }}").expect("writing to a string does not fail");
        };
        if self.halves() == 2 {
            say("if (i >= 32u) ", copy(1, "i - 32u"));
        } else {
            (1..self.segments.len()).for_each(|i| say(&format!("if (segment == {i}u) "), copy(i, "i")));
        }
        say("", copy(0, "i"));
        f + "}\n"
    }

    /// Rows of x of a tile, the lib that says which, and how many each token has.
    fn tile(&self) -> (usize, &'static str, usize) {
        let of_experts = |e: Experts| (e.tile.unwrap_or(1), "tile_expert", e.n_used);
        self.experts.map_or((64, "tile_tokens", 1), of_experts)
    }

    fn act_libs(&self) -> Vec<&'static str> {
        match (self.input, self.output) {
            (Input::GatedNorm { act, .. }, _) => vec!["v4", act_lib(act)],
            (_, Output::Glu(act)) => vec!["v1", act_lib(act)],
            _ => Vec::new(),
        }
    }
}

pub fn act_lib(act: Act) -> &'static str {
    match act {
        Act::Silu => "act_silu",
        Act::GeluTanh => "act_gelu_tanh",
    }
}

/// Threads that share the runs of a row: the most that leave at most a quarter of them idle, else those that leave the
/// fewest.
fn lanes(runs: usize, most: usize) -> usize {
    let busy = |lanes: usize| runs as f32 / (runs.div_ceil(lanes) * lanes) as f32;
    [32, 16, 8].into_iter().find(|&l| l <= most && busy(l) >= 0.75).unwrap_or(8)
}

/// A projection of up to `columns` rows of x a workgroup, or of one with its experts.
pub fn gemv(p: &Projection, columns: usize, tuning: Tuning) -> Kernel {
    let rows: usize = p.segments.iter().map(|s| p.rows(s)).max().unwrap_or(0);
    let of = if rows >= WIDE { tuning.wide } else { tuning.narrow };
    let (lanes, per_thread) = match (tuning.software, columns) {
        (true, _) => (1, 4),
        (false, 1) => (lanes(p.cols / 32, of.lanes), of.rows),
        (false, _) => (lanes(p.cols / 32, 32), 2),
    };
    let groups = if tuning.software { 16 } else { WG / lanes };
    let threads = lanes * groups;
    let out = per_thread / p.halves();
    let squares = usize::from(matches!(p.input, Input::Norm { .. } | Input::SumNorm { .. }));
    let sums = (per_thread * columns + squares * columns) * groups;
    let share = (threads / sums).max(1).next_power_of_two().min(lanes);
    let share = if share > 1 && share * sums > threads { share / 2 } else { share };
    let (frame, all) = p.frame(groups * out);
    let (grid, grid_x) = fold(all);
    let own = [
        ("NR", U(per_thread)),
        ("T", U(columns)),
        ("LANES", U(lanes)),
        ("GROUPS", U(groups)),
        ("WG", U(threads)),
        ("SHARE", U(share)),
        ("SQUARES", U(squares)),
    ];
    let tokens = if p.experts.is_some() { "tokens_expert" } else { "tokens" };
    let input: &[&str] = match p.input {
        Input::Plain => &["x_run", "pre_none"],
        Input::Norm { .. } => &["x_run", "table_run", "pre_norm", "squares"],
        Input::SumNorm { .. } => &["x_run", "table_run", "pre_sum_norm", "squares"],
        Input::GatedNorm { .. } => &["x_run", "pre_gated_norm"],
    };
    let shared = [&["run", "dot"][..], &p.act_libs(), &[tokens], input].concat();
    let copies = p.matrices(&shared, Some("rows_one"), Some("rows_pair"));
    let ty = "array<f32, NR * T>";
    let choice = p.choice("rows", "first: u32, lane: u32", "first, lane", ty);
    let consts = [&p.consts(grid_x)[..], &own].concat();
    let bindings = p.bindings("vec4<f32>");
    let source = assemble_with("gemv", &bindings, &[], &consts, &(copies + &frame + &choice));
    let z = match p.experts {
        Some(e) if !p.sums() => e.n_used,
        _ => 1,
    };
    Kernel { name: "gemv", source, bind: bindings.access, grid, rows: columns, z }
}

/// A projection of many rows of x as they are.
pub fn gemm(p: &Projection) -> Kernel {
    let (tile, lib, z) = p.tile();
    let (frame, all) = p.frame(64 / p.halves());
    let (grid, grid_x) = fold(all);
    let copies = p.matrices(&[&["run"][..], &p.act_libs(), &[lib]].concat(), None, None);
    let consts = [&p.consts(grid_x)[..], &[("TILE", U(tile))]].concat();
    let bindings = p.bindings("vec4<f32>");
    let source = assemble_with("gemm", &bindings, &[], &consts, &(copies + &frame + &p.load_w("load_run", "Run")));
    Kernel { name: "gemm", source, bind: bindings.access, grid, rows: tile, z }
}

/// The gemm, and with one row the gemv, of software adapters.
pub fn gemm_flat(p: &Projection, columns: usize) -> Kernel {
    // Narrow workgroups, so that matrices with few rows still occupy all cores.
    let threads = 16;
    let (frame, all) = p.frame(threads * 4 / p.halves());
    let (grid, grid_x) = fold(all);
    let shared = [&["run", "dot"][..], &p.act_libs()].concat();
    let copies = p.matrices(&shared, Some("flat_one"), Some("flat_pair"));
    let choice = p.choice("flat", "row: u32, t0: u32, n: u32", "row, t0, n", "array<vec4<f32>, T>");
    let consts = [&p.consts(grid_x)[..], &[("WG", U(threads)), ("T", U(columns))]].concat();
    let bindings = p.bindings("vec4<f32>");
    let own = copies + &frame + &choice;
    let source = assemble_with("gemm_flat", &bindings, &[], &consts, &own);
    Kernel { name: "gemm_flat", source, bind: bindings.access, grid, rows: columns, z: 1 }
}

/// A product for rows that are no whole number of runs.
pub fn matmul_any(m: Matrix) -> Kernel {
    let (grid, grid_x) = fold(m.rows.div_ceil(THREADS));
    let consts = [m.consts(), vec![("GRID_X", U(grid_x))]].concat();
    let source = assemble("matmul_any", &value(m.dtype), &consts);
    Kernel { name: "matmul_any", source, bind: vec![Read, Read, Written], grid, rows: 1, z: 1 }
}
