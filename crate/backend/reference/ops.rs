//! The formula of each op over f64 rows.

use std::borrow::Cow;
use std::ops::Range;

use crate::backend::{Activations, Segment, Step, Stretch};
use crate::error::Result;
use crate::graph::{Act, Attention, Graph, Op, Rope, RopePairs, State, StateId, ValueId, WeightId};
use crate::quant;

/// What the ops of one step read.
pub(super) struct Run<'a> {
    pub g: &'a Graph,
    pub activations: Activations,
    pub fine: usize,
    pub weights: &'a [Vec<u8>],
    pub values: &'a [Vec<f64>],
    pub step: &'a Step<'a>,
}

impl Run<'_> {
    pub(super) fn value(&self, v: ValueId) -> &[f64] {
        &self.values[v.index()]
    }

    pub(super) fn cols(&self, v: ValueId) -> usize {
        self.g.shape(v).cols
    }

    /// Row `r` of a weight, decoded.
    pub(super) fn row(&self, w: WeightId, r: usize) -> Result<Vec<f64>> {
        let weight = self.g.weight(w);
        let mut out = vec![0.0; weight.cols];
        let bytes = &self.weights[w.index()][r * weight.row_bytes()..][..weight.row_bytes()];
        quant::decode(weight.dtype, bytes, &mut out).map_err(|e| e.at(&weight.name))?;
        Ok(out.into_iter().map(f64::from).collect())
    }

    /// The value of an op; an effect gives none.
    pub(super) fn op(&self, op: &Op, states: &mut [Vec<f64>]) -> Result<Vec<f64>> {
        let zip = |a: ValueId, b: ValueId, f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
            self.value(a).iter().zip(self.value(b)).map(|(&a, &b)| f(a, b)).collect()
        };
        Ok(match *op {
            Op::Embed { w, scale } => self.embed(w, f64::from(scale))?,
            Op::Given { start, len } => {
                let rows = self.step.given.chunks_exact(self.g.given_columns());
                rows.flat_map(|row| &row[start..start + len]).map(|&v| f64::from(v)).collect()
            }
            Op::Blend { w, x, all } => self.blend(w, x, all)?,
            Op::MatMul { w, x, rows } => self.matmul(w, x, rows)?,
            Op::AddBias { x, b } => {
                let b = self.row(b, 0)?;
                self.value(x).iter().enumerate().map(|(i, x)| x + b[i % b.len()]).collect()
            }
            Op::RmsNorm { x, w, eps } => self.rms_norm(x, w, f64::from(eps))?,
            Op::LayerNorm { x, w, b, eps } => self.layer_norm(x, [w, b], f64::from(eps))?,
            Op::Rope { x, ref rope } => self.rope(x, rope)?,
            Op::KvStore { x, state } => {
                let cols = self.cols(x);
                for (row, x) in self.cache_rows(state).zip(self.value(x).chunks_exact(cols)) {
                    states[state.index()][row * cols..][..cols].copy_from_slice(x);
                }
                Vec::new()
            }
            Op::KvStoreNext { x, state } => {
                let cols = self.cols(x);
                for (row, x) in self.step.next_rows(self.g.cache_kind(state)).zip(self.value(x).chunks_exact(cols)) {
                    states[state.index()][row * cols..][..cols].copy_from_slice(x);
                }
                Vec::new()
            }
            Op::KvLoad { state } => {
                let (cols, rows) = (self.g.state(state).cols, &states[state.index()]);
                self.cache_rows(state).flat_map(|row| &rows[row * cols..][..cols]).copied().collect()
            }
            Op::Attention { q, k, v, ref attn, .. } => {
                let per_row = attn.n_head * attn.d_head;
                let heads = |rows: Range<usize>| &self.value(q)[rows.start * per_row..rows.end * per_row];
                let segments = self.step.by_rows();
                segments.flat_map(|(rows, s)| self.attention(s, heads(rows), states, k, v, attn)).collect()
            }
            Op::Add { a, b } => zip(a, b, &|a, b| a + b),
            Op::Concat { a, b } => {
                let rows = self.value(a).chunks_exact(self.cols(a)).zip(self.value(b).chunks_exact(self.cols(b)));
                rows.flat_map(|(a, b)| [a, b].concat()).collect()
            }
            Op::Activate { x, act } => self.value(x).iter().map(|&x| activate(act, x)).collect(),
            Op::Glu { gate, up, act } => zip(gate, up, &|g, u| activate(act, g) * u),
            Op::Softcap { x, cap } => self.value(x).iter().map(|&x| softcap(x, cap)).collect(),
            Op::SigmoidGate { x, gate } => {
                let (gate, per_row) = (self.value(gate), self.cols(x) / self.cols(gate));
                self.value(x).iter().enumerate().map(|(i, x)| x * sigmoid(gate[i / per_row])).collect()
            }
            Op::Slice { x, group, start, len } => {
                self.value(x).chunks_exact(group).flat_map(|g| &g[start..start + len]).copied().collect()
            }
            Op::L2Norm { x, d_head, eps, scale } => {
                let norm = |h: &[f64]| (h.iter().map(|v| v * v).sum::<f64>() + f64::from(eps)).sqrt();
                let heads = self.value(x).chunks_exact(d_head);
                heads.flat_map(|h| h.iter().map(move |v| v / norm(h) * f64::from(scale))).collect()
            }
            Op::SsmConv { x, w, state } => {
                self.recurrence(state, states, |rows, state| self.ssm_conv(x, w, rows, state))?
            }
            Op::DeltaRule { state, .. } => {
                self.recurrence(state, states, |rows, state| self.delta_rule(op, rows, state))?
            }
            Op::MoeRoute { x, n_used, renormalise } => self.moe_route(x, n_used, renormalise),
            Op::MoeMatMul { w, x, route, n_expert } => self.moe_matmul(w, x, route, n_expert)?,
            Op::FusedMatMul(_) | Op::RopeStore(_) | Op::NormAdd { .. } => {
                unreachable!("`prepare` takes fused ops apart")
            }
            Op::MoeSum { x, route } => self.moe_sum(x, route),
            Op::LastRows { x } => {
                let (x, cols) = (self.value(x), self.cols(x));
                self.step.output_rows().flat_map(|row| &x[row * cols..][..cols]).copied().collect()
            }
            // Rows lie one after another.
            Op::Group { x, .. } => self.value(x).to_vec(),
        })
    }

    /// The rows of a state that belong to the rows of the step.
    fn cache_rows(&self, state: StateId) -> impl Iterator<Item = usize> {
        let kind = self.g.cache_kind(state);
        self.step.segments.iter().flat_map(move |s| (s.pos..s.end()).map(move |p| s.cache_row(kind, p)))
    }

    /// Gives `run` the rows of each stretch and a copy of the state before them, which it updates.
    fn recurrence(
        &self,
        state: StateId,
        states: &mut [Vec<f64>],
        run: impl Fn(Range<usize>, &mut Vec<f64>) -> Result<Vec<f64>>,
    ) -> Result<Vec<f64>> {
        let State { rows, cols, .. } = self.g.state(state);
        let (len, slots) = (rows.count(0) * cols, &mut states[state.index()]);
        let mut y = Vec::new();
        for Stretch { rows, from, to } in self.step.stretches() {
            let mut m = from.map_or(vec![0.0; len], |slot| slots[slot as usize * len..][..len].to_vec());
            y.extend(run(rows, &mut m)?);
            slots[to as usize * len..][..len].copy_from_slice(&m);
        }
        Ok(y)
    }

    fn embed(&self, w: WeightId, scale: f64) -> Result<Vec<f64>> {
        let mut y = Vec::new();
        for token in self.step.tokens() {
            y.extend(self.row(w, token as usize)?.iter().map(|v| v * scale));
        }
        Ok(y)
    }

    fn matmul(&self, w: WeightId, x: ValueId, n: usize) -> Result<Vec<f64>> {
        let x = self.activations(w, x);
        let k = self.g.weight(w).cols;
        let mut y = vec![0.0; x.len() / k * n];
        if x.is_empty() {
            return Ok(y);
        }
        for r in 0..n {
            let row = self.row(w, r)?;
            for (t, x) in x.chunks_exact(k).enumerate() {
                y[t * n + r] = row.iter().zip(x).map(|(w, x)| w * x).sum();
            }
        }
        Ok(y)
    }

    /// The rows that meet a matrix.
    pub(super) fn activations(&self, w: WeightId, v: ValueId) -> Cow<'_, [f64]> {
        let x = self.value(v);
        if self.activations == Activations::F32 || !quant::splits(self.g.weight(w).dtype) {
            return Cow::Borrowed(x);
        }
        let mut y = Vec::new();
        let positions = self.step.positions(self.g.shape(v).rows);
        for (x, pos) in x.chunks_exact(self.cols(v)).zip(positions) {
            for x in x.as_chunks::<{ quant::Q8_COLS }>().0 {
                let (x, mut q) = (x.map(|x| x as f32), [0; quant::Q8_COLS]);
                let d = quant::q8(&x, &mut q);
                let rest = quant::q8_rest(&x, &q, d);
                y.extend(q.map(|q| f64::from(d) * f64::from(q)));
                if pos < self.fine {
                    let d = f64::from(quant::q8(&rest, &mut q));
                    let from = y.len() - q.len();
                    y[from..].iter_mut().zip(q).for_each(|(y, q)| *y += d * f64::from(q));
                }
            }
        }
        Cow::Owned(y)
    }

    fn rms_norm(&self, x: ValueId, w: WeightId, eps: f64) -> Result<Vec<f64>> {
        let w = self.row(w, 0)?;
        let mut y = Vec::new();
        for x in self.value(x).chunks_exact(w.len()) {
            let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
            y.extend(x.iter().zip(&w).map(|(v, w)| v / (mean + eps).sqrt() * w));
        }
        Ok(y)
    }

    fn layer_norm(&self, x: ValueId, [w, b]: [WeightId; 2], eps: f64) -> Result<Vec<f64>> {
        let (w, b) = (self.row(w, 0)?, self.row(b, 0)?);
        let mut y = Vec::new();
        for x in self.value(x).chunks_exact(w.len()) {
            let mean = x.iter().sum::<f64>() / x.len() as f64;
            let variance = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / x.len() as f64;
            y.extend(x.iter().zip(w.iter().zip(&b)).map(|(v, (w, b))| (v - mean) / (variance + eps).sqrt() * w + b));
        }
        Ok(y)
    }

    fn blend(&self, w: WeightId, x: ValueId, all: bool) -> Result<Vec<f64>> {
        let cols = self.g.weight(w).cols;
        let mut y = Vec::new();
        for x in self.value(x).chunks_exact(self.cols(x)) {
            let (rows, shares) = x.split_at(if all { 0 } else { x.len() / 2 });
            let mut sum = vec![0.0; cols];
            for (i, share) in shares.iter().enumerate() {
                let row = rows.get(i).map_or(i, |row| *row as usize);
                sum.iter_mut().zip(self.row(w, row)?).for_each(|(s, v)| *s += share * v);
            }
            y.extend(sum);
        }
        Ok(y)
    }

    fn rope(&self, x: ValueId, rope: &Rope) -> Result<Vec<f64>> {
        let freqs = rope.freqs.map(|f| self.row(f, 0)).transpose()?;
        let mut y = self.value(x).to_vec();
        let cols = self.cols(x);
        for (place, row) in self.step.places(rope.square()).zip(y.chunks_exact_mut(cols)) {
            for head in row.chunks_exact_mut(rope.d_head) {
                for i in 0..rope.n_rot / 2 {
                    let at = place[rope.axis(i)] as f64 * f64::from(rope.scale);
                    let divisor = freqs.as_ref().map_or(1.0, |f| f[i]);
                    let angle = at * f64::from(rope.base).powf(rope.power(i)) / divisor;
                    let (a, b) = match rope.pairs {
                        RopePairs::Adjacent => (2 * i, 2 * i + 1),
                        RopePairs::Halves => (i, i + rope.n_rot / 2),
                    };
                    let (u, v) = (head[a], head[b]);
                    head[a] = u * angle.cos() - v * angle.sin();
                    head[b] = u * angle.sin() + v * angle.cos();
                }
            }
        }
        Ok(y)
    }

    /// `q`: the rows of a segment.
    fn attention(
        &self,
        s: &Segment<'_>,
        q: &[f64],
        states: &[Vec<f64>],
        k: StateId,
        v: StateId,
        a: &Attention,
    ) -> Vec<f64> {
        let (d, group, kv_cols) = (a.d_head, a.n_head / a.n_kv_head, a.n_kv_head * a.d_head);
        let row = |state: StateId, p| &states[state.index()][s.cache_row(self.g.cache_kind(state), p) * kv_cols..];
        let mut y = Vec::new();
        for (pos, q) in (s.pos..).zip(q.chunks_exact(a.n_head * d)) {
            let first = a.window.map_or(0, |w| (pos + 1).saturating_sub(w));
            let end = if a.causal { pos + 1 } else { s.pos + s.tokens.len() };
            let end = a.window.map_or(end, |w| end.min(pos + w));
            for (h, q) in q.chunks_exact(d).enumerate() {
                let head = h / group * d..h / group * d + d;
                let key = |p: usize| &row(k, p)[head.clone()];
                let val = |p: usize| &row(v, p)[head.clone()];
                let score = |p: usize| {
                    let s = q.iter().zip(key(p)).map(|(q, k)| q * k).sum::<f64>() * f64::from(a.scale);
                    a.softcap.map_or(s, |cap| softcap(s, cap))
                };
                let scores: Vec<f64> = (first..end).map(score).collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
                for c in 0..d {
                    let weighted = scores.iter().zip(first..).map(|(s, p)| (s - max).exp() * val(p)[c]);
                    y.push(weighted.sum::<f64>() / sum);
                }
            }
        }
        y
    }
}

pub(super) fn activate(act: Act, x: f64) -> f64 {
    match act {
        Act::Silu => x * sigmoid(x),
        Act::GeluTanh => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh()),
        Act::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
    }
}

/// `2 / sqrt(pi) * exp(-x^2) * sum of 2^n x^(2n+1) / (1 * 3 * ... * (2n + 1))`, whose terms have one sign.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum(); // 1 - erf(6) is 2e-17
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-17 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

fn softcap(x: f64, cap: f32) -> f64 {
    let cap = f64::from(cap);
    cap * (x / cap).tanh()
}

pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
