//! The oracle: one plain loop per op, f64 throughout, no cleverness.
//!
//! Every kernel and every fusion is judged against it, so it is slow on purpose: a reader must see at a glance that a
//! loop is the formula of its op. Values of the last step can be looked at by node.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use super::{Backend, Counters, Limits, Memory, Step};
use crate::dtype::DType;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Act, Attention, Graph, Op, Plan, Rope, RopePairs, StateId, ValueId, WeightId};
use crate::quant;

#[derive(Default)]
pub struct Reference {
    plan: Option<Plan>,
    weights: Vec<Vec<u8>>,
    states: Vec<Vec<f64>>,
    /// The value of each node in the last step, `[rows, cols]`.
    values: Vec<Vec<f64>>,
    ready: VecDeque<Vec<f32>>,
    counters: Counters,
}

impl Reference {
    pub fn new() -> Self {
        Self::default()
    }

    /// A value of the last step, row-major.
    pub fn value(&self, v: ValueId) -> &[f64] {
        &self.values[v.index()]
    }

    /// The graph that runs.
    ///
    /// # Panics
    /// Before `prepare`.
    pub fn graph(&self) -> &Graph {
        &self.plan.as_ref().expect("prepare comes first").graph
    }
}

impl Backend for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn supports(&self, dtype: DType) -> bool {
        quant::decodable(dtype)
    }

    fn prepare(&mut self, plan: Plan, limits: Limits) -> Result<()> {
        let g = &plan.graph;
        self.weights = g.weights.iter().map(|w| vec![0; w.bytes()]).collect();
        self.states = g.states.iter().map(|s| vec![0.0; limits.n_ctx * s.cols]).collect();
        self.values = vec![Vec::new(); g.nodes.len()];
        self.plan = Some(plan);
        Ok(())
    }

    fn write_weight(&mut self, w: WeightId, offset: usize, bytes: &[u8]) -> Result<()> {
        let weight = &mut self.weights[w.index()];
        match offset.checked_add(bytes.len()).and_then(|end| weight.get_mut(offset..end)) {
            Some(place) => place.copy_from_slice(bytes),
            None => return Err(Error::new(ErrorKind::InvalidArgument, "weight bytes past the end").at(w)),
        }
        Ok(())
    }

    fn finish_weights(&mut self) -> Result<()> {
        Ok(())
    }

    fn submit(&mut self, step: &Step<'_>) -> Result<()> {
        let plan = self.plan.take().expect("prepare comes first");
        for (i, node) in plan.graph.nodes.iter().enumerate() {
            let run = Run { g: &plan.graph, weights: &self.weights, values: &self.values, step };
            if let Op::KvStore { x, state } = node.op {
                let cols = plan.graph.state(state).cols;
                let rows = &self.values[x.index()];
                self.states[state.index()][step.pos * cols..][..rows.len()].copy_from_slice(rows);
            } else {
                let value = run.op(&node.op, &self.states)?;
                self.values[i] = value;
            }
        }
        let logits = self.values[plan.graph.output.index()].iter().map(|&x| x as f32).collect();
        self.ready.push_back(logits);
        self.counters.steps += 1;
        self.plan = Some(plan);
        Ok(())
    }

    fn poll_logits(&mut self, _: &mut Context<'_>, logits: &mut [f32]) -> Poll<Result<()>> {
        let ready = self.ready.pop_front().expect("a step was submitted");
        logits.copy_from_slice(&ready);
        Poll::Ready(Ok(()))
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn memory(&self) -> Memory {
        Memory {
            weights: self.weights.iter().map(|w| w.len() as u64).sum(),
            kv: self.states.iter().map(|s| 8 * s.len() as u64).sum(),
            scratch: self.values.iter().map(|v| 8 * v.len() as u64).sum(),
        }
    }
}

/// What the ops of one step read.
struct Run<'a> {
    g: &'a Graph,
    weights: &'a [Vec<u8>],
    values: &'a [Vec<f64>],
    step: &'a Step<'a>,
}

impl Run<'_> {
    fn value(&self, v: ValueId) -> &[f64] {
        &self.values[v.index()]
    }

    fn cols(&self, v: ValueId) -> usize {
        self.g.shape(v).cols
    }

    /// Row `r` of a weight, decoded.
    fn row(&self, w: WeightId, r: usize) -> Result<Vec<f64>> {
        let weight = self.g.weight(w);
        let mut out = vec![0.0; weight.cols];
        let bytes = &self.weights[w.index()][r * weight.row_bytes()..][..weight.row_bytes()];
        quant::decode(weight.dtype, bytes, &mut out).map_err(|e| e.at(&weight.name))?;
        Ok(out.into_iter().map(f64::from).collect())
    }

    fn op(&self, op: &Op, states: &[Vec<f64>]) -> Result<Vec<f64>> {
        let zip = |a: ValueId, b: ValueId, f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
            self.value(a).iter().zip(self.value(b)).map(|(&a, &b)| f(a, b)).collect()
        };
        Ok(match *op {
            Op::Embed { w, scale } => self.embed(w, f64::from(scale))?,
            Op::MatMul { w, x } => self.matmul(w, x)?,
            Op::AddBias { x, b } => {
                let b = self.row(b, 0)?;
                self.value(x).iter().enumerate().map(|(i, x)| x + b[i % b.len()]).collect()
            }
            Op::RmsNorm { x, w, eps } => self.rms_norm(x, w, f64::from(eps))?,
            Op::Rope { x, ref rope } => self.rope(x, rope)?,
            Op::KvStore { .. } => unreachable!("submit stores"),
            Op::Attention { q, k, v, ref attn } => self.attention(q, states, k, v, attn),
            Op::Add { a, b } => zip(a, b, &|a, b| a + b),
            Op::Glu { gate, up, act } => zip(gate, up, &|g, u| activate(act, g) * u),
            Op::Softcap { x, cap } => self.value(x).iter().map(|&x| softcap(x, cap)).collect(),
            Op::LastRows { x } => {
                let x = self.value(x);
                let cols = x.len() / self.step.tokens.len();
                x[x.len() - self.step.outputs * cols..].to_vec()
            }
        })
    }

    fn embed(&self, w: WeightId, scale: f64) -> Result<Vec<f64>> {
        let mut y = Vec::new();
        for &token in self.step.tokens {
            y.extend(self.row(w, token as usize)?.iter().map(|v| v * scale));
        }
        Ok(y)
    }

    fn matmul(&self, w: WeightId, x: ValueId) -> Result<Vec<f64>> {
        let n = self.g.weight(w).rows;
        let x = self.value(x);
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

    fn rms_norm(&self, x: ValueId, w: WeightId, eps: f64) -> Result<Vec<f64>> {
        let w = self.row(w, 0)?;
        let mut y = Vec::new();
        for x in self.value(x).chunks_exact(w.len()) {
            let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
            y.extend(x.iter().zip(&w).map(|(v, w)| v / (mean + eps).sqrt() * w));
        }
        Ok(y)
    }

    fn rope(&self, x: ValueId, rope: &Rope) -> Result<Vec<f64>> {
        let freqs = rope.freqs.map(|f| self.row(f, 0)).transpose()?;
        let mut y = self.value(x).to_vec();
        let cols = self.cols(x);
        for (t, row) in y.chunks_exact_mut(cols).enumerate() {
            for head in row.chunks_exact_mut(rope.d_head) {
                for i in 0..rope.n_rot / 2 {
                    let pos = (self.step.pos + t) as f64 * f64::from(rope.scale);
                    let divisor = freqs.as_ref().map_or(1.0, |f| f[i]);
                    let angle = pos * f64::from(rope.base).powf(-2.0 * i as f64 / rope.n_rot as f64) / divisor;
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

    fn attention(&self, q: ValueId, states: &[Vec<f64>], k: StateId, v: StateId, a: &Attention) -> Vec<f64> {
        let (k, v) = (&states[k.index()], &states[v.index()]);
        let (d, group, kv_cols) = (a.d_head, a.n_head / a.n_kv_head, a.n_kv_head * a.d_head);
        let mut y = Vec::new();
        for (t, row) in self.value(q).chunks_exact(a.n_head * d).enumerate() {
            let pos = self.step.pos + t;
            let first = a.window.map_or(0, |w| (pos + 1).saturating_sub(w));
            for (h, q) in row.chunks_exact(d).enumerate() {
                let head = h / group * d..h / group * d + d;
                let key = |p: usize| &k[p * kv_cols..][head.clone()];
                let val = |p: usize| &v[p * kv_cols..][head.clone()];
                let score = |p: usize| {
                    let s = q.iter().zip(key(p)).map(|(q, k)| q * k).sum::<f64>() * f64::from(a.scale);
                    a.softcap.map_or(s, |cap| softcap(s, cap))
                };
                let scores: Vec<f64> = (first..=pos).map(score).collect();
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

fn activate(act: Act, x: f64) -> f64 {
    match act {
        Act::Silu => x / (1.0 + (-x).exp()),
        Act::GeluTanh => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh()),
    }
}

fn softcap(x: f64, cap: f32) -> f64 {
    let cap = f64::from(cap);
    cap * (x / cap).tanh()
}
