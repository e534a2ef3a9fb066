//! The execution of the nodes of a plan, each with some of its rows.

use std::ops::Range;

use super::Model;
use crate::backend::cpu::attention::{Attend, attention};
use crate::backend::cpu::delta::{self, Rule};
use crate::backend::cpu::lanes::Isa;
use crate::backend::cpu::matmul::{matmul, matmul_each};
use crate::backend::cpu::matmul_f32::{matmul_f32, matmul_f32_each};
use crate::backend::cpu::moe;
use crate::backend::cpu::pool::Pool;
use crate::backend::cpu::rows;
use crate::backend::cpu::slices::Piece;
use crate::backend::{Limits, Step};
use crate::bail;
use crate::error::Result;
use crate::graph::{Attention, Op, StateId, ValueId, WeightId};

impl Model {
    /// Runs some nodes of the step's entry, after those before them.
    pub(in crate::backend::cpu) fn run(&mut self, pool: &Pool, isa: Isa, step: &Step<'_>, piece: &Piece) -> Result<()> {
        let Limits { n_ctx, max_tokens, max_outputs, .. } = self.limits;
        let (tokens, outputs) = (step.len(), step.outputs());
        if tokens > max_tokens || outputs > max_outputs {
            bail!(InvalidArgument, "{tokens} tokens with {outputs} outputs are over the limits");
        }
        if step.segments.iter().any(|s| s.tokens.is_empty() || s.outputs > s.tokens.len()) {
            bail!(InvalidArgument, "each sequence of a step needs tokens, and no more outputs than those");
        }
        if step.keys() > n_ctx {
            bail!(ContextOverflow, "positions up to {}, n_ctx is {n_ctx}", step.keys());
        }
        if piece.is_start(step.part(&self.plan.graph)?.nodes.start) {
            self.states.reserve(step)?;
            self.ropes.iter_mut().for_each(|r| r.turn(step));
            (self.quantized.0, self.groups.0) = (None, None);
        }
        for i in piece.nodes.clone() {
            let v = ValueId(i as u32);
            let node = self.plan.graph.node(v);
            match (&node.op, node.shape) {
                (&Op::KvStore { x, state }, _) => {
                    let mut states = std::mem::take(&mut self.states);
                    states.store(isa, state, step, self.value(x, step));
                    self.states = states;
                }
                (&Op::KvStoreNext { x, state }, _) => {
                    let mut states = std::mem::take(&mut self.states);
                    states.store_next(state, step, self.value(x, step));
                    self.states = states;
                }
                (_, Some(shape)) => {
                    if let &Op::MatMul { w, x, .. } | &Op::MoeMatMul { w, x, .. } = &node.op
                        && self.weights[w.index()].packed.is_some()
                    {
                        self.quantize(pool, isa, x, step);
                    }
                    if let &Op::MoeMatMul { route, n_expert, .. } = &self.plan.graph.node(v).op {
                        self.sort(route, n_expert, step);
                    }
                    let node = self.plan.graph.node(v);
                    // The slot of a value is never that of an operand, so it can be taken out while those are read.
                    let slot = self.plan.slot(v).0 as usize;
                    let mut y = std::mem::take(&mut self.slots[slot]);
                    // So is what else the op writes: its state, or the sums of attention.
                    let recurrent = node.op.recurrent_state();
                    let mut aside = std::mem::take(recurrent.map_or(&mut self.sums, |s| self.states.slots(s)));
                    let rows = piece.rows(i, step.rows(shape));
                    let values = rows.start * shape.cols..rows.end * shape.cols;
                    let run = Run { m: self, pool, isa, step, rows };
                    let done = run.op(&node.op, shape.cols, &mut aside, &mut y[values]);
                    self.slots[slot] = y;
                    *recurrent.map_or(&mut self.sums, |s| self.states.slots(s)) = aside;
                    done?;
                }
                (op, None) => unreachable!("{} makes a value", op.name()),
            }
        }
        Ok(())
    }
}

/// The operands of an op.
struct Run<'a> {
    m: &'a Model,
    pool: &'a Pool,
    isa: Isa,
    step: &'a Step<'a>,
    /// The rows of the result that are computed: all, unless [`Op::is_by_row`].
    rows: Range<usize>,
}

impl Run<'_> {
    /// Computes `y` [rows, cols]. `aside` is the state of a recurrent op, or room for the sums of attention.
    fn op(&self, op: &Op, cols: usize, aside: &mut [f32], y: &mut [f32]) -> Result<()> {
        let Run { m, pool, isa, step, ref rows } = *self;
        let by_row = op.is_by_row();
        // Rows of operands of so many columns.
        let at = |cols: usize| rows.start * cols..rows.end * cols;
        let value = |v| {
            let all = m.value(v, step);
            if by_row { &all[at(m.cols(v))] } else { all }
        };
        let vector = |w: WeightId| &*m.vectors[w.index()];
        match *op {
            Op::Embed { w, scale } => self.embed(w, scale, cols, y)?,
            Op::Given { start, .. } => {
                let columns = m.graph().given_columns();
                rows::slice(&step.given[at(columns)], columns, start, cols, y);
            }
            Op::Blend { w, x, all } => {
                let numbers = if all { 0 } else { m.cols(x) / 2 };
                rows::blend(pool, isa, (value(x), m.cols(x), numbers), vector(w), y, cols);
            }
            Op::MatMul { w, x, .. } => match &m.weights[w.index()].packed {
                None => matmul_f32(pool, isa, m.matrix(w), value(x), y),
                Some(packed) => {
                    matmul(pool, isa, (packed, m.bytes(w)), m.quantized().slice(rows.clone()), y);
                }
            },
            Op::AddBias { x, b } => rows::add_bias(pool, isa, value(x), vector(b), y),
            Op::RmsNorm { x, w, eps } => rows::rms_norm(pool, isa, value(x), vector(w), eps, y),
            Op::LayerNorm { x, w, b, eps } => {
                rows::layer_norm(pool, isa, value(x), [w, b].map(vector), eps, y);
            }
            Op::Rope { x, ref rope } => {
                let table = m.table(rope).expect("`finish_weights` made a table for each rope");
                table.apply(pool, isa, value(x), rows.start, cols, y);
            }
            Op::KvStore { .. } | Op::KvStoreNext { .. } => unreachable!("`run` stores"),
            Op::KvLoad { state } => m.states.load(state, step, y),
            Op::Attention { q, k, v, attn, .. } => self.attention(attn, value(q), [k, v], cols, aside, y),
            Op::Add { a, b } => rows::add(pool, isa, value(a), value(b), y),
            Op::Concat { a, b } => rows::concat(value(a), value(b), m.cols(a), y),
            Op::Activate { x, act } => rows::activate(pool, isa, value(x), act, y),
            Op::Glu { gate, up, act } => rows::glu(pool, isa, value(gate), value(up), act, y),
            Op::Softcap { x, cap } => rows::softcap(pool, isa, value(x), cap, y),
            Op::SigmoidGate { x, gate } => rows::sigmoid_gate(pool, isa, value(x), value(gate), y),
            Op::Slice { x, group, start, len } => rows::slice(value(x), group, start, len, y),
            Op::L2Norm { x, d_head, eps, scale } => rows::l2_norm(pool, isa, value(x), d_head, (eps, scale), y),
            Op::SsmConv { x, w, state } => {
                let len = m.states.slot_len(state);
                for stretch in step.stretches() {
                    let at = stretch.rows.start * cols..stretch.rows.end * cols;
                    let state = stretch.state(aside, len);
                    delta::ssm_conv(pool, isa, &value(x)[at.clone()], vector(w), state, &mut y[at]);
                }
            }
            Op::DeltaRule { q, k, v, alpha, beta, a, dt, delta, state, .. } => {
                let (len, a, dt) = (m.states.slot_len(state), vector(a), vector(dt));
                for stretch in step.stretches() {
                    let of = |x: ValueId| {
                        let cols = m.cols(x);
                        &value(x)[stretch.rows.start * cols..stretch.rows.end * cols]
                    };
                    let [q, k, v, alpha, beta] = [q, k, v, alpha, beta].map(of);
                    let y = &mut y[stretch.rows.start * cols..stretch.rows.end * cols];
                    let rule = Rule { delta, q, k, v, alpha, beta, a, dt };
                    delta::delta_rule(pool, isa, &rule, stretch.state(aside, len), y);
                }
            }
            Op::MoeRoute { x, n_used, renormalise } => {
                moe::moe_route(pool, value(x), m.cols(x), n_used, renormalise, y);
            }
            Op::MoeMatMul { w, x, route, .. } => {
                let groups = &m.groups.1;
                // `x` has a row for each token, or for each expert of a token.
                let shared = if m.cols(x) == m.graph().weight(w).cols { m.cols(route) / 2 } else { 1 };
                match &m.weights[w.index()].packed {
                    None => matmul_f32_each(pool, isa, m.matrix(w), (value(x), shared), groups, y),
                    Some(packed) => {
                        matmul_each(
                            pool,
                            isa,
                            (packed, m.bytes(w)),
                            (m.quantized().of_cols(m.graph().weight(w).cols), shared),
                            groups,
                            y,
                        );
                    }
                }
            }
            Op::FusedMatMul(_) | Op::RopeStore(_) | Op::NormAdd { .. } => {
                unreachable!("`prepare` takes fused ops apart")
            }
            Op::MoeSum { x, route } => moe::moe_sum(pool, isa, value(x), (value(route), m.cols(route) / 2), y, cols),
            Op::LastRows { x } => {
                let x = value(x);
                for (row, y) in step.output_rows().zip(y.chunks_exact_mut(cols)) {
                    y.copy_from_slice(&x[row * cols..][..cols]);
                }
            }
            // Rows lie one after another.
            Op::Group { x, .. } => y.copy_from_slice(value(x)),
        }
        Ok(())
    }

    fn embed(&self, w: WeightId, scale: f32, cols: usize, y: &mut [f32]) -> Result<()> {
        let rows = self.m.graph().weight(w).rows;
        for (y, token) in y.chunks_exact_mut(cols).zip(self.step.tokens()) {
            if token as usize >= rows {
                bail!(TokenOutOfRange, "token {token}, the embedding has {rows} rows");
            }
            self.m.decode_row(self.isa, w, token as usize, y);
            y.iter_mut().for_each(|v| *v *= scale);
        }
        Ok(())
    }

    fn attention(
        &self,
        attn: Attention,
        q: &[f32],
        states: [StateId; 2],
        cols: usize,
        sums: &mut [f32],
        y: &mut [f32],
    ) {
        let Run { m, pool, isa, step, ref rows } = *self;
        for (of_segment, s) in step.by_rows() {
            let (first, end) = (rows.start.max(of_segment.start), rows.end.min(of_segment.end));
            if first >= end {
                continue;
            }
            let [k, v] = states.map(|state| m.states.paged(state, s));
            let at = (first - rows.start) * cols..(end - rows.start) * cols;
            let pos = s.pos + first - of_segment.start;
            let attend = Attend { attn, q: &q[at.clone()], k, v, pos, end: s.end() };
            attention(pool, isa, &attend, sums, &mut y[at]);
        }
    }
}
