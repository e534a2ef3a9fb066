//! Projections: those of passes, and `matmul` and `moe_matmul` as projections of one matrix.

use super::super::dispatch::When;
use super::super::kernels::{self, Experts, FEW, Finish, Input, Kernel, Output, Projection, Segment};
use super::super::tables::{Table, taken_in};
use super::super::tuning::{Gemm, Tuning};
use super::Lower;
use crate::backend::Limits;
use crate::dtype::DType;
use crate::graph::{self, Graph, Op, Post, Pre, Project, Term, ValueId};

/// Rows of x that a gemv takes at once, and the most rows of a step that it runs for.
const COLUMNS: [(usize, usize); 3] = [(1, 1), (4, 4), (8, FEW)];

/// The tiles of many rows sorted by expert, which is done where a route is made. The rows of a sum go to the scratch
/// buffer, where normed ones would be.
fn tiles(g: &Graph, p: &Project, tuning: Tuning) -> Vec<(usize, When)> {
    let Some(e) = p.experts.filter(|e| matches!(g.node(e.route).op, Op::MoeRoute { .. })) else { return Vec::new() };
    match p.post {
        Post::Add { gate, .. } if gate.is_some() || p.pre != Pre::None => Vec::new(),
        _ => kernels::moe_tiles(e.n, g.shape(e.route).cols / 2, tuning),
    }
}

/// Columns that a token's experts fill before their sum.
pub fn summed_cols(g: &Graph, p: &Project, limits: Limits, tuning: Tuning) -> usize {
    let many = tiles(g, p, tuning).first().is_some_and(|(_, when)| !when.is_beyond(limits.max_tokens));
    match (p.experts, p.post) {
        (Some(e), Post::Add { to, .. }) if many => g.shape(e.route).cols / 2 * g.shape(to).cols,
        _ => 0,
    }
}

/// Whether all matrices of a projection are whole numbers for the kernels of 8 bits.
pub fn in_ints(g: &Graph, p: &Project) -> bool {
    p.parts.iter().all(|part| kernels::in_ints(g.weight(part.w).dtype))
}

impl<'a> Lower<'a, '_, '_> {
    pub(super) fn project(&mut self) {
        let node = &self.g.nodes[self.i];
        let plain = |x, w, experts| {
            let parts = vec![Term { w, bias: None }];
            Project { x, pre: Pre::None, parts, post: Post::None, experts }
        };
        let p = match &node.op {
            Op::Project(p) => (**p).clone(),
            Op::MatMul { w, x } => plain(*x, *w, None),
            Op::MoeMatMul { w, x, route, n_expert } => {
                plain(*x, *w, Some(graph::Experts { route: *route, n: *n_expert }))
            }
            _ => unreachable!("the caller matched"),
        };
        let parts: Vec<_> = p.parts.iter().map(|part| self.matrices(part.w)).collect();
        if !parts[0][0].0.in_runs() {
            self.any(&p);
            return;
        }
        let tables = Table::of(self.g, self.i);
        let mut column = 0;
        let mut segments = Vec::new();
        for (part, matrices) in p.parts.iter().zip(&parts) {
            let bias = part.bias.and_then(|b| tables[0].at(self.g, b));
            segments.push(matrices.iter().map(|(m, b)| (Segment { m: *m, column, bias }, *b)).collect::<Vec<_>>());
            if p.experts.is_none() && !matches!(p.post, Post::Glu(_)) {
                column += self.g.weight(part.w).rows;
            }
        }
        // Matrices of one buffer each are one dispatch, and so are the same rows of gate and up.
        if segments.iter().all(|s| s.len() == 1) {
            let one = segments.concat();
            self.launch(&p, &tables, &one, 0);
        } else if let (Post::Glu(_), [gate, up]) = (p.post, &segments[..]) {
            for (i, (gate, up)) in gate.iter().zip(up).enumerate() {
                self.launch(&p, &tables, &[*gate, *up], i);
            }
        } else {
            for (i, segment) in segments.concat().into_iter().enumerate() {
                self.launch(&p, &tables, &[segment], i);
            }
        }
        self.sum_tiles(&p);
    }

    /// The dispatches over some of the rows; `number` counts those calls of one node.
    fn launch(&mut self, p: &Project, tables: &[Table], bound: &[(Segment, &'a wgpu::Buffer)], number: usize) {
        let (g, program, tuning) = (self.g, self.program, self.tuning);
        let out = self.out();
        let sum = taken_in(g, self.i).filter(|_| !tuning.software);
        let input = match p.pre {
            Pre::None => Input::Plain,
            Pre::Norm { eps, .. } => match sum {
                Some(sum) => Input::SumNorm { eps, added_eps: sum.eps },
                None => Input::Norm { eps },
            },
            Pre::GatedNorm { w, eps, gate, act } => {
                Input::GatedNorm { eps, head: g.weight(w).cols, gate: self.view(gate), act }
            }
        };
        let output = match p.post {
            Post::None => Output::Plain,
            Post::Glu(act) => Output::Glu(act),
            // Each part of the experts has some of the summands.
            Post::Add { .. } if p.experts.is_some() && number > 0 => Output::AddToItself,
            Post::Add { gate, .. } => Output::Add { gate: gate.map(|v| self.view(v)) },
        };
        let experts = p.experts.map(|e| self.experts(p.x, p.parts[0].w, e.route, e.n));
        let cols = bound[0].0.m.cols;
        let bytes: usize = bound.iter().map(|(s, _)| s.m.rows * s.m.dtype.row_bytes(cols).unwrap_or(0)).sum();
        self.weight_bytes = experts.map_or(bytes, |e| bytes / e.n_expert * e.n_used) as u64;
        let y_cols = match experts {
            Some(e) if !matches!(p.post, Post::Add { .. }) => g.shape(ValueId(self.i as u32)).cols / e.n_used,
            _ => g.shape(ValueId(self.i as u32)).cols,
        };
        let segments = bound.iter().map(|(s, _)| *s).collect();
        let fused = Projection { cols, input, segments, output, y_cols, of: self.rows, experts };
        let apart = Projection { input: Input::Plain, ..fused.clone() };

        let matrices = || bound.iter().map(|(_, b)| *b);
        let route = p.experts.map(|e| program.slot(e.route));
        let has_bias = bound.iter().any(|(s, _)| s.bias.is_some());
        let table = tables.first().map(|t| program.table(t));
        let mut added = Vec::new();
        if let (Post::Add { to, gate }, false) = (p.post, output == Output::AddToItself) {
            added.extend([program.slot(to)].into_iter().chain(gate.map(|v| program.slot(v))));
        }
        let x = program.slot(p.x);
        let scratch = &program.scratch;
        // The operands of the sum that it takes in, and the other one of a gated norm.
        let (of_x, of_pre, of_sum) = match (input, p.pre, sum.map(|s| &g.nodes[s.node].op)) {
            (Input::SumNorm { .. }, _, Some(Op::NormAdd { x: to, y, .. })) => {
                (program.slot(*to), Some(program.slot(*y)), Some(x))
            }
            (_, Pre::GatedNorm { gate, .. }, _) => (x, Some(program.slot(gate)), None),
            _ => (x, None, None),
        };
        let whole: Vec<_> =
            (matrices().chain([of_x]).chain(route).chain(table.filter(|_| input != Input::Plain || has_bias)))
                .chain(of_pre)
                .chain(added.iter().copied())
                .chain([out])
                .chain(of_sum)
                .collect();
        let simple = |from| -> Vec<_> {
            (matrices().chain([from]).chain(route).chain(table.filter(|_| has_bias)))
                .chain(added.iter().copied())
                .chain([out])
                .collect()
        };
        let plain = if input == Input::Plain { x } else { scratch };

        if let (Some(e), Some(of)) = (experts, p.experts) {
            let tiles = tiles(g, p, tuning);
            if tuning.software {
                self.prepare(p, number, When::ALWAYS, table);
                self.push(|| kernels::gemv(&apart, 1, tuning), When::ALWAYS, &simple(plain));
            } else {
                let few = tiles.first().map_or(When::ALWAYS, |(_, many)| many.before());
                self.push(|| kernels::gemv(&fused, 1, tuning), few, &whole);
            }
            let Some((_, first)) = tiles.first() else { return };
            let (many, groups) = (first.and_more(), program.groups(of.route));
            let sums = matches!(p.post, Post::Add { .. });
            let out = if sums { scratch } else { out };
            let q8 = tuning.gemm == Gemm::Q8 && in_ints(g, p);
            let from = if q8 { &program.quantized } else { plain };
            let buffers: Vec<_> =
                matrices().chain([from, groups]).chain(table.filter(|_| has_bias)).chain([out]).collect();
            self.prepare(p, number, many, table);
            if q8 && number == 0 {
                // The rows for a token's experts lie side by side.
                let cols = g.shape(p.x).cols;
                self.unweighed(|| kernels::quantize_q8(cols), many, &[plain, from]);
            }
            for (tile, when) in tiles {
                let output = if sums { Output::Plain } else { output };
                let tiled = Projection { output, experts: Some(Experts { tile: Some(tile), ..e }), ..apart.clone() };
                let kernel = if q8 { kernels::gemm_q8 } else { kernels::gemm };
                if let Some(d) = self.push(|| kernel(&tiled), when, &buffers) {
                    d.more = e.n_expert;
                }
            }
        } else if tuning.software {
            self.prepare(p, number, When::ALWAYS, table);
            self.push(|| kernels::gemm_flat(&apart, 1), When::rows(1, 1), &simple(plain));
            self.push(|| kernels::gemm_flat(&apart, 8), When::rows(2, usize::MAX), &simple(plain));
        } else {
            let mut least = 1;
            for (columns, most) in COLUMNS {
                self.push(|| kernels::gemv(&fused, columns, tuning), When::rows(least, most), &whole);
                least = most + 1;
            }
            let many = When::rows(least, usize::MAX);
            self.prepare(p, number, many, table);
            if tuning.gemm == Gemm::Q8 && in_ints(g, p) {
                let q8 = &program.quantized;
                if number == 0 {
                    self.unweighed(|| kernels::quantize_q8(cols), many, &[plain, q8]);
                }
                self.push(|| kernels::gemm_q8(&apart), many, &simple(q8));
            } else {
                self.push(|| kernels::gemm(&apart), many, &simple(plain));
            }
        }
    }

    /// Adds up the rows of the experts, where they were multiplied in tiles.
    fn sum_tiles(&mut self, p: &Project) {
        let tiles = tiles(self.g, p, self.tuning);
        let (Some(e), Post::Add { to, .. }, Some((_, first))) = (p.experts, p.post, tiles.first()) else { return };
        let (cols, n_used) = (self.g.shape(to).cols, self.g.shape(e.route).cols / 2);
        let buffers = [&self.program.scratch, self.program.slot(e.route), self.program.slot(to), self.out()];
        self.weight_bytes = 0;
        self.push(|| kernels::moe_sum(cols, n_used, true), first.and_more(), &buffers);
    }

    /// Norms all rows of x into the scratch buffer, once for a node.
    fn prepare(&mut self, p: &Project, number: usize, when: When, table: Option<&'a wgpu::Buffer>) {
        let (w, eps, gate) = match p.pre {
            Pre::None => return,
            Pre::Norm { w, eps } => (w, eps, None),
            Pre::GatedNorm { w, eps, gate, act } => (w, eps, Some((gate, act))),
        };
        let (Some(table), 0) = (table, number) else { return };
        let (program, tuning) = (self.program, self.tuning);
        let (cols, len) = (self.g.shape(p.x).cols, self.g.weight(w).cols);
        let finish = gate.map_or(Finish::None, |(v, act)| Finish::Gate(self.view(v), act));
        let gate = gate.map(|(v, _)| program.slot(v));
        let buffers: Vec<_> = [program.slot(p.x), table].into_iter().chain(gate).chain([&program.scratch]).collect();
        // The table starts with the weight of the norm.
        self.unweighed(|| kernels::rms_norm(cols, len, DType::F32, eps, finish, tuning), when, &buffers);
    }

    /// A dispatch that reads no packed weights, before those that do.
    fn unweighed(&mut self, k: impl FnOnce() -> Kernel, when: When, buffers: &[&wgpu::Buffer]) {
        let weight_bytes = std::mem::take(&mut self.weight_bytes);
        self.push(k, when, buffers);
        self.weight_bytes = weight_bytes;
    }

    /// Rows that are no whole number of runs: no pass makes a projection of these.
    fn any(&mut self, p: &Project) {
        let w = p.parts[0].w;
        for (m, buffer) in self.matrices(w) {
            let x = self.program.slot(p.x);
            let out = self.out();
            match p.experts {
                Some(e) => {
                    let experts = self.experts(p.x, w, e.route, e.n);
                    let buffers = [buffer, x, self.program.slot(e.route), out];
                    self.push(|| kernels::moe_matmul_any(m, experts), When::ALWAYS, &buffers);
                }
                None => {
                    self.push(|| kernels::matmul_any(m), When::ALWAYS, &[buffer, x, out]);
                }
            }
        }
    }
}
