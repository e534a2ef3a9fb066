//! Which kernels run for a matmul: a fused one as the passes made it; `matmul` and `moe_matmul` as a fused one of a
//! single matrix.

use super::super::launch::{Launches, Operand};
use super::super::libs;
use super::super::moe::{moe_sum, moe_tiles};
use super::super::norm::{Finish, rms_norm};
use super::super::table::Table;
use super::face::{Experts, Input, MatMul, Output, Segment};
use super::gemm::gemm;
use super::gemv::gemv;
use super::int8::{gemm_q8, quantize_q8};
use super::software::gemm_flat;
use super::tiles::dense_tiles;
use super::unaligned::{matmul_unaligned, moe_matmul_unaligned};
use crate::backend::Limits;
use crate::backend::webgpu::dispatch::When;
use crate::backend::webgpu::tuning::{GEMV_MAX_ROWS, Gemm, Tuning};
use crate::dtype::DType;
use crate::graph::{self, FusedMatMul, Graph, Op, Post, Pre, Term, ValueId, norm_add_before};

/// Bytes of normed rows of x, or of the experts' rows before their sum.
pub(crate) fn scratch_bytes(g: &Graph, p: &FusedMatMul, limits: Limits, tuning: Tuning) -> usize {
    let normed = if p.pre == Pre::None { 0 } else { g.shape(p.x).cols };
    let tiled = tiles(g, p, tuning).first().is_some_and(|(_, when)| !when.is_beyond(limits.max_tokens));
    let summed = match (p.experts, p.post) {
        (Some(e), Post::Add { to, .. }) if tiled => g.shape(e.route).cols / 2 * g.shape(to).cols,
        _ => 0,
    };
    limits.max_tokens * normed.max(summed) * 4
}

/// Bytes of the rows of x in int8.
pub(crate) fn quantized_bytes(g: &Graph, op: &Op, limits: Limits, tuning: Tuning) -> usize {
    let cols = match op {
        Op::FusedMatMul(p) if in_ints(g, p) => g.shape(p.x).cols,
        Op::MatMul { w, x, .. } | Op::MoeMatMul { w, x, .. } if libs::in_ints(g.weight(*w).dtype) => g.shape(*x).cols,
        _ => 0,
    };
    let many = limits.max_tokens > GEMV_MAX_ROWS && tuning.gemm == Gemm::Q8;
    if many { limits.max_tokens * cols / 32 * 48 } else { 0 }
}

/// Whether all matrices are of types for the int8 kernels.
fn in_ints(g: &Graph, p: &FusedMatMul) -> bool {
    p.parts.iter().all(|part| libs::in_ints(g.weight(part.w).dtype))
}

/// The tiles of many rows sorted by expert; the sorting is done with the route. The rows of a sum go to the scratch
/// buffer, which otherwise holds normed rows.
fn tiles(g: &Graph, p: &FusedMatMul, tuning: Tuning) -> Vec<(usize, When)> {
    let Some(e) = p.experts.filter(|e| matches!(g.node(e.route).op, Op::MoeRoute { .. })) else { return Vec::new() };
    match p.post {
        Post::Add { gate, .. } if gate.is_some() || p.pre != Pre::None => Vec::new(),
        _ => moe_tiles(e.n, g.shape(e.route).cols / 2, tuning),
    }
}

/// # Panics
/// If the op is not a matmul.
pub(crate) fn lower(l: &mut Launches<'_>, op: &Op) {
    let plain = |x, w, experts| {
        let parts = vec![Term { w, bias: None }];
        FusedMatMul { x, pre: Pre::None, parts, post: Post::None, experts }
    };
    let p = match op {
        Op::FusedMatMul(p) => (**p).clone(),
        Op::MatMul { w, x, .. } => plain(*x, *w, None),
        Op::MoeMatMul { w, x, route, n_expert } => plain(*x, *w, Some(graph::Experts { route: *route, n: *n_expert })),
        op => unreachable!("{} is not a matmul", op.name()),
    };
    if !l.g.weight(p.parts[0].w).cols.is_multiple_of(32) {
        return lower_unaligned(l, &p);
    }
    let tables = l.tables();
    let segments = segments(l, &p, tables.first());
    // Matrices of one buffer each are one dispatch, and so are the same rows of gate and up.
    let pieces: Vec<Vec<_>> = if segments.iter().all(|s| s.len() == 1) {
        vec![segments.concat()]
    } else if let (Post::Glu(_), [gate, up]) = (p.post, &segments[..]) {
        gate.iter().zip(up).map(|(gate, up)| vec![gate.clone(), up.clone()]).collect()
    } else {
        segments.concat().into_iter().map(|s| vec![s]).collect()
    };
    for (i, matrices) in pieces.into_iter().enumerate() {
        Piece::new(l, &p, tables.first(), matrices, i == 0).lower(l);
    }
    sum_tiles(l, &p);
}

/// The parts of each matrix, with the columns of the result that they make.
fn segments(l: &Launches<'_>, p: &FusedMatMul, table: Option<&Table>) -> Vec<Vec<(Segment, Operand)>> {
    let mut column = 0;
    let mut all = Vec::new();
    for part in &p.parts {
        let bias = part.bias.zip(table).and_then(|(b, t)| t.at(l.g, b));
        let segment = |(m, buffer)| (Segment { m, column, bias }, buffer);
        all.push(l.matrices(part.w).into_iter().map(segment).collect());
        if p.experts.is_none() && !matches!(p.post, Post::Glu(_)) {
            column += l.g.weight(part.w).rows;
        }
    }
    all
}

/// Rows that are not a multiple of a run: no pass fuses these.
fn lower_unaligned(l: &mut Launches<'_>, p: &FusedMatMul) {
    let (w, x, out) = (p.parts[0].w, Operand::Value(p.x), l.out());
    for (m, part) in l.matrices(w) {
        match p.experts {
            Some(e) => {
                let experts = experts(l.g, p, e);
                let operands = [part, x.clone(), Operand::Value(e.route), out.clone()];
                l.push(|| moe_matmul_unaligned(m, experts), When::ALWAYS, &operands);
            }
            None => {
                l.push(|| matmul_unaligned(m), When::ALWAYS, &[part, x.clone(), out.clone()]);
            }
        }
    }
}

fn experts(g: &Graph, p: &FusedMatMul, e: graph::Experts) -> Experts {
    let shared_x = g.shape(p.x).cols == g.weight(p.parts[0].w).cols;
    Experts { n_expert: e.n, n_used: g.shape(e.route).cols / 2, shared_x, tile: None }
}

/// Adds up the rows of the experts after they were multiplied in tiles.
fn sum_tiles(l: &mut Launches<'_>, p: &FusedMatMul) {
    let tiles = tiles(l.g, p, l.tuning);
    let (Some(e), Post::Add { to, .. }, Some((_, first))) = (p.experts, p.post, tiles.first()) else { return };
    let (cols, n_used) = (l.g.shape(to).cols, l.g.shape(e.route).cols / 2);
    let operands = [Operand::Scratch, Operand::Value(e.route), Operand::Value(to), l.out()];
    l.weight_bytes = 0;
    l.push(|| moe_sum(cols, n_used, true), first.and_more(), &operands);
}

/// Some rows of the matrices of a fused matmul: one dispatch of each kernel.
struct Piece<'p> {
    p: &'p FusedMatMul,
    /// Whether it is the first of the node: what all pieces read is computed before it.
    first: bool,
    /// The fusion in kernels for few rows, which includes the work before the product.
    fused: MatMul,
    /// The fusion in kernels for many rows, whose work before the product is done separately.
    apart: MatMul,
    matrices: Vec<Operand>,
    x: Operand,
    table: Option<Operand>,
    /// The gate of a gated norm, or the normed operand of a sum.
    pre: Option<Operand>,
    /// What the result is added to, and the gate of the result.
    added: Vec<Operand>,
    out: Operand,
    /// Where a sum that is computed along with its norm is written.
    sum: Option<Operand>,
}

impl<'p> Piece<'p> {
    fn new(
        l: &mut Launches<'_>,
        p: &'p FusedMatMul,
        table: Option<&Table>,
        matrices: Vec<(Segment, Operand)>,
        first: bool,
    ) -> Self {
        let g = l.g;
        let experts = p.experts.map(|e| experts(g, p, e));
        let cols = matrices[0].0.m.cols;
        let bytes: usize = matrices.iter().map(|(s, _)| s.m.rows * s.m.dtype.row_bytes(cols).unwrap_or(0)).sum();
        l.weight_bytes = experts.map_or(bytes, |e| bytes / e.n_expert * e.n_used) as u64;
        let y_cols = match experts {
            Some(e) if !matches!(p.post, Post::Add { .. }) => l.cols() / e.n_used,
            _ => l.cols(),
        };
        let (input, [x, pre, sum]) = input(l, p);
        let output = match p.post {
            Post::None => Output::Plain,
            Post::Glu(act) => Output::Glu(act),
            // Each piece of the experts contributes some of the summands.
            Post::Add { .. } if p.experts.is_some() && !first => Output::AddToItself,
            Post::Add { gate, .. } => Output::Add { gate: gate.map(|v| l.view(v)) },
        };
        let added = match p.post {
            Post::Add { to, gate } => [to].into_iter().chain(gate).map(Operand::Value).collect(),
            _ => Vec::new(),
        };
        let (segments, matrices) = matrices.into_iter().unzip();
        let of = g.shape(ValueId(l.node as u32)).rows;
        let fused = MatMul { cols, input, segments, output, y_cols, of, experts };
        let apart = MatMul { input: Input::Plain, ..fused.clone() };
        let x = x.unwrap_or(Operand::Value(p.x));
        let table = table.cloned().map(Operand::Table);
        Self { p, first, fused, apart, matrices, x, table, pre, added, out: l.out(), sum }
    }

    /// The buffers of a kernel, in the order of [`MatMul::bindings`].
    fn operands(&self, m: &MatMul, x: &Operand) -> Vec<Operand> {
        let mut all = self.matrices.clone();
        all.push(x.clone());
        let tiled = m.experts.is_some_and(|e| e.tile.is_some());
        let route = self.p.experts.map(|e| e.route);
        all.extend(route.map(|v| if tiled { Operand::Groups(v) } else { Operand::Value(v) }));
        all.extend(self.table.clone().filter(|_| m.needs_table()));
        all.extend(self.pre.clone().filter(|_| m.input != Input::Plain));
        if let Output::Add { .. } = m.output {
            all.extend(self.added.iter().cloned());
        }
        let summed_later = tiled && matches!(self.p.post, Post::Add { .. });
        all.push(if summed_later { Operand::Scratch } else { self.out.clone() });
        all.extend(self.sum.clone().filter(|_| m.input != Input::Plain));
        all
    }

    fn lower(&self, l: &mut Launches<'_>) {
        match (self.fused.experts, l.tuning.software) {
            (Some(e), _) => self.lower_experts(l, e),
            (None, true) => self.lower_software(l),
            (None, false) => self.lower_hardware(l),
        }
    }

    fn lower_hardware(&self, l: &mut Launches<'_>) {
        let tuning = l.tuning;
        let fused = self.operands(&self.fused, &self.x);
        let mut least = 1;
        for &(columns, most) in self.fused.gemv_tiles() {
            l.push(|| gemv(&self.fused, columns, tuning), When::rows(least, most), &fused);
            least = most + 1;
        }
        for many in self.many_rows(l, When::rows(least, usize::MAX)) {
            let operands = self.operands(&self.apart, &many.x);
            let kernel = if many.int8 { gemm_q8 } else { gemm };
            for (tile, when) in many.tiles(dense_tiles(&self.apart, many.int8, least, tuning)) {
                l.push(|| kernel(&self.apart, tile), when, &operands);
            }
        }
    }

    fn lower_software(&self, l: &mut Launches<'_>) {
        self.norm_apart(l, When::ALWAYS);
        let operands = self.operands(&self.apart, &self.x_apart());
        l.push(|| gemm_flat(&self.apart, 1), When::rows(1, 1), &operands);
        l.push(|| gemm_flat(&self.apart, 8), When::rows(2, usize::MAX), &operands);
    }

    /// Token by token if they are few, else in tiles of the rows of each expert.
    fn lower_experts(&self, l: &mut Launches<'_>, e: Experts) {
        let tuning = l.tuning;
        let tiles = tiles(l.g, self.p, tuning);
        if tuning.software {
            self.norm_apart(l, When::ALWAYS);
            let operands = self.operands(&self.apart, &self.x_apart());
            l.push(|| gemv(&self.apart, 1, tuning), When::ALWAYS, &operands);
        } else {
            let few = tiles.first().map_or(When::ALWAYS, |(_, many)| many.before());
            l.push(|| gemv(&self.fused, 1, tuning), few, &self.operands(&self.fused, &self.x));
        }
        let Some((_, first)) = tiles.first() else { return };
        let output = if self.added.is_empty() { self.apart.output } else { Output::Plain };
        for many in self.many_rows(l, first.and_more()) {
            let kernel = if many.int8 { gemm_q8 } else { gemm };
            for (tile, when) in many.tiles(tiles.clone()) {
                let tiled = MatMul { output, experts: Some(Experts { tile: Some(tile), ..e }), ..self.apart.clone() };
                if let Some(schedule) = l.push(|| kernel(&tiled, tile), when, &self.operands(&tiled, &many.x)) {
                    schedule.more = e.n_expert;
                }
            }
        }
    }

    /// Where the rows of x are after the work before the product.
    fn x_apart(&self) -> Operand {
        if self.fused.input == Input::Plain { self.x.clone() } else { Operand::Scratch }
    }

    /// The rows of x for kernels of many rows, computed once per node: in int8 where `tuning` says so, but in f32 for the first
    /// positions.
    fn many_rows(&self, l: &mut Launches<'_>, when: When) -> Vec<ManyRows> {
        self.norm_apart(l, when);
        let x = self.x_apart();
        if l.tuning.gemm != Gemm::Q8 || !in_ints(l.g, self.p) {
            return vec![ManyRows { x, int8: false, when }];
        }
        let [fine, coarse] = [true, false].map(|is_fine| when.and_fine(l.tuning.fine, is_fine));
        if self.first {
            // With experts, the rows of a token's experts lie side by side.
            let cols = l.g.shape(self.p.x).cols;
            l.push_unweighed(|| quantize_q8(cols), coarse, &[x.clone(), Operand::Quantized]);
        }
        let all =
            [ManyRows { x, int8: false, when: fine }, ManyRows { x: Operand::Quantized, int8: true, when: coarse }];
        all.into_iter().filter(|many| !many.when.is_never()).collect()
    }

    /// Norms all rows of x into the scratch buffer, once per node.
    fn norm_apart(&self, l: &mut Launches<'_>, when: When) {
        let (w, eps, gate) = match self.p.pre {
            Pre::None => return,
            Pre::Norm { w, eps } => (w, eps, None),
            Pre::GatedNorm { w, eps, gate, act } => (w, eps, Some((gate, act))),
        };
        let (Some(table), true) = (self.table.clone(), self.first) else { return };
        let (cols, len, tuning) = (l.g.shape(self.p.x).cols, l.g.weight(w).cols, l.tuning);
        let finish = gate.map_or(Finish::None, |(v, act)| Finish::Gate(l.view(v), act));
        let x = [Operand::Value(self.p.x), table];
        let gate = gate.map(|(v, _)| Operand::Value(v));
        let operands: Vec<_> = x.into_iter().chain(gate).chain([Operand::Scratch]).collect();
        // The table starts with the weight of the norm.
        l.push_unweighed(|| rms_norm(cols, len, DType::F32, eps, finish, tuning), when, &operands);
    }
}

/// Rows of x for kernels of many rows, and the steps for which they are so.
struct ManyRows {
    x: Operand,
    int8: bool,
    when: When,
}

impl ManyRows {
    /// Which of these tiles run, and when. First positions are few in a step, so one size does for them.
    fn tiles(&self, all: Vec<(usize, When)>) -> Vec<(usize, When)> {
        let Some((positions, is_fine)) = self.when.fine() else { return all };
        let of = |(tile, when): (usize, When)| (tile, when.and_fine(positions, is_fine));
        if !is_fine {
            return all.into_iter().map(of).collect();
        }
        let usual = all.iter().find(|(_, when)| when.has_rows(positions)).or(all.first());
        usual.map(|(tile, _)| (*tile, self.when)).into_iter().collect()
    }
}

/// What happens to x before the product, and its buffers: x if it is another value, the second operand, and where a sum
/// goes.
fn input(l: &Launches<'_>, p: &FusedMatMul) -> (Input, [Option<Operand>; 3]) {
    match p.pre {
        Pre::None => (Input::Plain, [None, None, None]),
        Pre::Norm { eps, .. } => match norm_add_before(l.g, l.node).filter(|_| !l.tuning.software) {
            Some(add) => {
                let [x, y, sum] = [add.x, add.y, p.x].map(|v| Some(Operand::Value(v)));
                (Input::SumNorm { eps, added_eps: add.eps }, [x, y, sum])
            }
            None => (Input::Norm { eps }, [None, None, None]),
        },
        Pre::GatedNorm { w, eps, gate, act } => {
            let head = l.g.weight(w).cols;
            (Input::GatedNorm { eps, head, gate: l.view(gate), act }, [None, Some(Operand::Value(gate)), None])
        }
    }
}
