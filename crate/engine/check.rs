//! Compares a backend with the reference op by op: each op of a model alone, on the inputs that it had in the reference.
//! An error is then seen where it is made, and not where it has grown.

use std::collections::HashMap;
use std::future::poll_fn;

use crate::arch::{self, Wanted};
use crate::backend::reference::Reference;
use crate::backend::{Backend, KvType, Limits, Step};
use crate::dtype::DType;
use crate::error::Result;
use crate::gguf::{Gguf, Source};
use crate::graph::{Builder, Entry, Graph, Op, Plan, StateId, StateRows, ValueId, WeightId};
use crate::quant;

/// How one op did. Differences are relative to the largest value of their row, or to the root mean square of all rows
/// where that is larger.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    pub op: &'static str,
    /// The value's own name, or that of the op's first weight.
    pub name: String,
    pub diff: f64,
    pub tolerance: f64,
}

impl Checked {
    /// False also where the difference is no number.
    pub fn ok(&self) -> bool {
        self.diff <= self.tolerance
    }
}

/// The values of a named node: what a dump of layers shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    pub name: String,
    pub min: f64,
    pub max: f64,
    pub mean: f64,
    pub non_finite: usize,
}

/// A model that ran on the reference, and its file for the weights of single ops.
pub struct Checker<'a> {
    gguf: &'a Gguf,
    source: &'a dyn Source,
    tokens: Vec<u32>,
    /// The tokens after them, and the first one again: what a block for multi-token prediction is given.
    next: Vec<u32>,
    reference: Reference,
}

impl<'a> Checker<'a> {
    /// Runs `tokens` from position 0 on the reference, through all parts of the model. `allow_unknown` is that of
    /// [`Options`](super::Options).
    pub fn new(gguf: &'a Gguf, source: &'a dyn Source, tokens: &[u32], allow_unknown: bool) -> Result<Self> {
        let wanted = Wanted { mtp: true, allow_unknown };
        let plan = Plan::new(arch::build(gguf, &quant::decodable, wanted)?);
        let n_vocab = plan.graph.n_vocab();
        if tokens.is_empty() || tokens.iter().any(|t| *t as usize >= n_vocab) {
            crate::bail!(InvalidArgument, "give at least one token, each below {n_vocab}");
        }
        let mut reference = Reference::new();
        let n = tokens.len();
        reference.prepare(plan.clone(), Limits { n_ctx: n, max_tokens: n, max_outputs: n, kv: KvType::F32 })?;
        write_weights(&mut reference, gguf, source, &plan.graph)?;
        reference.submit(&Step { tokens, pos: 0, outputs: n, entry: Entry::Trunk })?;
        let next = [&tokens[1..], &tokens[..1]].concat();
        if plan.graph.mtp.is_some() {
            reference.submit(&Step { tokens: &next, pos: 0, outputs: n, entry: Entry::Mtp })?;
        }
        Ok(Self { gguf, source, tokens: tokens.to_vec(), next, reference })
    }

    /// The ops that make a value, in order.
    pub fn nodes(&self) -> impl Iterator<Item = ValueId> {
        let ids = (0..self.graph().nodes.len()).map(|i| ValueId(i as u32));
        ids.filter(|v| self.graph().node(*v).shape.is_some())
    }

    /// Runs one op on the candidate.
    pub async fn check(&self, v: ValueId, candidate: &mut dyn Backend) -> Result<Checked> {
        let node = self.graph().node(v);
        let alone = Alone::new(self, v);
        let n = self.tokens.len();
        let plan = Plan::new(alone.graph);
        candidate.prepare(plan.clone(), Limits { n_ctx: n, max_tokens: n, max_outputs: n, kv: KvType::F32 })?;
        for (i, values) in alone.tables {
            let bytes: Vec<u8> = values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect();
            candidate.write_weight(i, 0, &bytes)?;
        }
        write_weights(candidate, self.gguf, self.source, &plan.graph)?;
        candidate.finish_weights()?;
        let rows: Vec<u32> = (0..n as u32).collect();
        let tokens = match node.op {
            Op::Embed { .. } if v <= self.graph().output => &self.tokens,
            Op::Embed { .. } => &self.next,
            _ => &rows,
        };
        candidate.submit(&Step { tokens, pos: 0, outputs: n, entry: Entry::Trunk })?;
        let want = self.reference.value(v);
        let mut got = vec![0.0; want.len()];
        poll_fn(|cx| candidate.poll_logits(cx, &mut got)).await?;
        let weight = node.op.weights().next().map(|w| self.graph().weight(w).name.clone());
        let name = node.name.clone().or(weight).unwrap_or_else(|| v.to_string());
        let diff = difference(&got, want, want.len() / n);
        Ok(Checked { op: node.op.name(), name, diff, tolerance: tolerance(&node.op) })
    }

    /// What the reference's named values are like: the embedding, each layer, and the last norm.
    pub fn layers(&self) -> impl Iterator<Item = Stats> {
        let named = self.nodes().filter_map(|v| Some((v, self.graph().node(v).name.clone()?)));
        named.map(|(v, name)| {
            let all = self.reference.value(v);
            let finite = || all.iter().copied().filter(|x| x.is_finite());
            let count = finite().count();
            Stats {
                name,
                min: finite().fold(f64::INFINITY, f64::min),
                max: finite().fold(f64::NEG_INFINITY, f64::max),
                mean: finite().sum::<f64>() / count.max(1) as f64,
                non_finite: all.len() - count,
            }
        })
    }

    fn graph(&self) -> &Graph {
        self.reference.graph()
    }
}

/// A graph of one op, in which embeddings of known rows stand for its operands.
struct Alone {
    graph: Graph,
    tables: Vec<(WeightId, Vec<f64>)>,
}

impl Alone {
    fn new(checker: &Checker<'_>, v: ValueId) -> Self {
        let (g, n) = (checker.graph(), checker.tokens.len());
        let mut op = g.node(v).op.clone();
        let mut b = Builder::new();
        let mut tables = Vec::new();
        let mut copy = |b: &mut Builder, x: ValueId| {
            let w = b.weight(&format!("operand {x}"), DType::F32, n, g.shape(x).cols);
            tables.push((w, checker.reference.value(x).to_vec()));
            b.embed(w, 1.0)
        };
        let mut copies = HashMap::new();
        op.map_operands(|x| *x = *copies.entry(*x).or_insert_with(|| copy(&mut b, *x)));
        op.map_weights(|w| {
            let old = g.weight(*w);
            *w = b.weight(&old.name, old.dtype, old.rows, old.cols);
        });
        op.map_states(|s| {
            let (old, id) = (g.state(*s), *s);
            *s = match old.rows {
                StateRows::Recurrent(rows) => b.recurrent_state(&old.name, rows, old.cols),
                StateRows::Ctx => {
                    let state = b.state(&old.name, old.cols);
                    let rows = copy(&mut b, stored(g, id));
                    b.kv_store(rows, state);
                    state
                }
            };
        });
        let last = matches!(op, Op::LastRows { .. });
        let y = b.op(op);
        let y = if last { y } else { b.last_rows(y) };
        Self { graph: b.finish(y), tables }
    }
}

/// The value whose rows are in a state.
fn stored(g: &Graph, state: StateId) -> ValueId {
    let store = g.nodes.iter().find_map(|n| match n.op {
        Op::KvStore { x, state: s } if s == state => Some(x),
        _ => None,
    });
    store.expect("the verifier refuses attention over what nothing stores")
}

/// Writes those weights of the graph that are in the file.
fn write_weights(to: &mut dyn Backend, gguf: &Gguf, source: &dyn Source, g: &Graph) -> Result<()> {
    for (w, i) in g.weights.iter().zip(0..) {
        if let Some(t) = gguf.tensor(&w.name) {
            to.write_weight(WeightId(i), 0, &source.tensor(t)?)?;
        }
    }
    Ok(())
}

fn difference(got: &[f32], want: &[f64], cols: usize) -> f64 {
    let usual = (want.iter().map(|v| v * v).sum::<f64>() / want.len().max(1) as f64).sqrt();
    let rows = got.chunks_exact(cols).zip(want.chunks_exact(cols));
    let row = |(got, want): (&[f32], &[f64])| {
        let size = want.iter().fold(usual, |m, v| m.max(v.abs())).max(f64::MIN_POSITIVE);
        got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs() / size).fold(0.0, nan_max)
    };
    rows.map(row).fold(0.0, nan_max)
}

/// The larger one; NaN where either is.
fn nan_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// What f32 arithmetic in another order may lose, relative to the size of a row.
fn tolerance(op: &Op) -> f64 {
    match op {
        // One or two roundings of f32, of 6e-8 each.
        Op::Embed { .. } | Op::AddBias { .. } | Op::Add { .. } => 1e-6,
        // Copies.
        Op::LastRows { .. } | Op::Slice { .. } | Op::Concat { .. } | Op::KvLoad { .. } => 1e-6,
        // Sums of squares, a root, a division.
        Op::RmsNorm { .. } | Op::L2Norm { .. } | Op::MoeSum { .. } => 5e-6,
        // exp and tanh of devices are good to some units in the last place.
        Op::Glu { .. } | Op::Softcap { .. } | Op::SigmoidGate { .. } | Op::MoeRoute { .. } => 1e-5,
        // The sine of an angle of some hundred radians.
        Op::Rope { .. } => 6e-5,
        // Dot products of some thousand terms that are larger than their sum.
        Op::MatMul { .. } | Op::MoeMatMul { .. } | Op::SsmConv { .. } => 5e-5,
        // Dot products, exp of them, and sums; the delta rule goes round once for each token.
        Op::Attention { .. } | Op::DeltaRule { .. } => 1e-4,
        Op::KvStore { .. } => unreachable!("it makes no value"),
        Op::FusedMatMul(_) | Op::RopeStore(_) | Op::NormAdd { .. } => unreachable!("the reference runs their parts"),
    }
}
