//! Compares a backend with the reference op by op: each op of a model alone, on the inputs that it had in the
//! reference. An error then shows where it arises, and not where it has grown. Blocks of ops cover what single ops
//! cannot show, such as fused kernels and a cache that is read in a later step.

use std::collections::HashMap;
use std::future::poll_fn;
use std::ops::Range;

use crate::arch::{self, Wanted};
use crate::backend::reference::Reference;
use crate::backend::{Backend, KvType, Limits, Segment, Step};
use crate::dtype::DType;
use crate::error::Result;
use crate::gguf::{Gguf, Source};
use crate::graph::{Builder, Entry, Graph, Op, Plan, StateId, StateRows, ValueId, WeightId};
use crate::quant;

/// The result of one op. Differences are relative to the largest value of their row, or to the root mean square of all
/// rows if that is larger.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The op, or the kind of block.
    pub op: &'static str,
    /// The node that computes the value.
    pub node: ValueId,
    /// The value's own name, or that of the op's first weight.
    pub name: String,
    /// The largest difference of all values.
    pub diff: f64,
    /// The largest allowed `diff`.
    pub tolerance: f64,
}

impl Checked {
    /// Also false if the difference is NaN.
    pub fn ok(&self) -> bool {
        self.diff <= self.tolerance
    }
}

/// Consecutive ops that a candidate runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    what: What,
    nodes: Range<usize>,
    kv: KvType,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// One op, in one step.
    Op,
    /// A layer, which a candidate may fuse.
    Layer,
    /// From the start of a layer to an attention, to measure the effect of the cache.
    Cache,
}

/// The values of a named node, for a dump of layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Stats {
    /// For example `blk.0.out`.
    pub name: String,
    /// Over the finite values, as are the next two.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The sum divided by the number of values.
    pub mean: f64,
    /// How many values are NaN or infinite.
    pub non_finite: usize,
}

/// A model after a run on the reference, and its file for the weights of single ops.
pub struct Checker<'a> {
    gguf: &'a Gguf,
    source: &'a dyn Source,
    tokens: Vec<u32>,
    /// The next token of each, and the first one again at the end: the input of a block for multi-token prediction.
    next: Vec<u32>,
    reference: Reference,
}

impl<'a> Checker<'a> {
    /// Runs `tokens` from position 0 on the reference, through all parts of the model. `allow_unknown` is that of
    /// [`Options`](super::Options).
    pub fn new(gguf: &'a Gguf, source: &'a dyn Source, tokens: &[u32], allow_unknown: bool) -> Result<Self> {
        let wanted = Wanted { mtp: true, allow_unknown, ..Wanted::default() };
        let plan = Plan::new(arch::build(gguf, &quant::decodable, wanted)?);
        let n_vocab = plan.graph.n_vocab();
        if tokens.is_empty() || tokens.iter().any(|t| *t as usize >= n_vocab) {
            crate::bail!(InvalidArgument, "give at least one token, each below {n_vocab}");
        }
        let mut reference = Reference::new();
        let n = tokens.len();
        reference.prepare(plan.clone(), Limits::one(n, n, KvType::F32))?;
        write_weights(&mut reference, gguf, source, &plan.graph)?;
        reference.submit(&Step::trunk(&[Segment::alone(tokens, 0, n)]))?;
        let next = [&tokens[1..], &tokens[..1]].concat();
        if plan.graph.mtp.is_some() {
            reference.submit(&Step { segments: &[Segment::alone(&next, 0, n)], entry: Entry::Mtp, given: &[] })?;
        }
        Ok(Self { gguf, source, tokens: tokens.to_vec(), next, reference })
    }

    /// The ops that compute a value, in order.
    pub fn ops(&self) -> Vec<Part> {
        self.nodes().map(|v| Part { what: What::Op, nodes: v.index()..v.index() + 1, kv: KvType::F32 }).collect()
    }

    /// The blocks that single ops do not cover: each layer, and the ops up to each attention with each cache type of
    /// the candidate.
    pub fn blocks(&self, candidate: &dyn Backend) -> Vec<Part> {
        let g = self.graph();
        let mut blocks = Vec::new();
        let mut start = 0;
        for (i, node) in g.nodes.iter().enumerate() {
            let nodes = start..i + 1;
            if matches!(node.op, Op::Attention { .. }) {
                let has = |kv: &KvType| candidate.kv_type(*kv) == *kv;
                let kvs = [KvType::F32, KvType::F16, KvType::Q8_0].into_iter().filter(has);
                blocks.extend(kvs.map(|kv| Part { what: What::Cache, nodes: nodes.clone(), kv }));
            }
            let output = g.parts().any(|p| p.output.index() == i);
            let ends = node.name.is_some() || output || i + 1 == g.nodes.len();
            if ends && nodes.len() > 1 {
                blocks.push(Part { what: What::Layer, nodes, kv: KvType::F32 });
            }
            if ends {
                start = i + 1;
            }
        }
        blocks
    }

    /// Runs a part on the candidate: an op in one step; a block in two, the last token after all others.
    pub async fn check(&self, part: &Part, candidate: &mut dyn Backend) -> Result<Checked> {
        let v = ValueId(part.nodes.end as u32 - 1);
        let node = self.graph().node(v);
        let weight = node.op.weights().next().map(|w| self.graph().weight(w).name.clone());
        let ops = self.graph().nodes[part.nodes.clone()].iter().filter(|n| n.shape.is_some());
        Ok(Checked {
            op: match (part.what, part.kv) {
                (What::Op, _) => node.op.name(),
                (What::Layer, _) => "layer",
                (What::Cache, KvType::F32) => "f32 cache",
                (What::Cache, KvType::F16) => "f16 cache",
                (What::Cache, KvType::Q8_0) => "q8_0 cache",
            },
            node: v,
            name: node.name.clone().or(weight).unwrap_or_else(|| v.to_string()),
            diff: self.run(part, v, candidate).await?,
            tolerance: ops.map(|n| tolerance(&n.op)).sum::<f64>() + cache_tolerance(part.kv),
        })
    }

    /// How far the candidate's value of `v`, the last of the part, is from the reference's.
    async fn run(&self, part: &Part, v: ValueId, candidate: &mut dyn Backend) -> Result<f64> {
        let embeds = matches!(self.graph().node(v).op, Op::Embed { .. });
        let alone = Alone::new(self, part.nodes.clone());
        let n = self.tokens.len();
        let plan = Plan::new(alone.graph);
        candidate.prepare(plan.clone(), Limits::one(n, n, part.kv))?;
        for (i, values) in alone.tables {
            let bytes: Vec<u8> = values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect();
            candidate.write_weight(i, 0, &bytes)?;
        }
        write_weights(candidate, self.gguf, self.source, &plan.graph)?;
        candidate.finish_weights()?;
        let rows: Vec<u32> = (0..n as u32).collect();
        let tokens = match embeds {
            true if v <= self.graph().output => &self.tokens,
            true => &self.next,
            false => &rows,
        };
        let want = self.reference.value(v);
        let cols = want.len() / n;
        let mut got = vec![0.0; want.len()];
        let (before, last) = tokens.split_at(if part.what == What::Op { 0 } else { n - 1 });
        for (tokens, pos) in [(before, 0), (last, before.len())].into_iter().filter(|(tokens, _)| !tokens.is_empty()) {
            candidate.submit(&Step::trunk(&[Segment::alone(tokens, pos, tokens.len())]))?;
            let rows = &mut got[pos * cols..(pos + tokens.len()) * cols];
            poll_fn(|cx| candidate.poll_logits(cx, rows)).await?;
        }
        Ok(difference(&got, want, cols))
    }

    /// Statistics of the reference's named values: the embedding, each layer, and the last norm.
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

    fn nodes(&self) -> impl Iterator<Item = ValueId> {
        let ids = (0..self.graph().nodes.len()).map(|i| ValueId(i as u32));
        ids.filter(|v| self.graph().node(*v).shape.is_some())
    }

    fn graph(&self) -> &Graph {
        self.reference.graph()
    }
}

/// A graph of some of the nodes, in which embeddings of known rows replace the values of the others.
struct Alone {
    graph: Graph,
    tables: Vec<(WeightId, Vec<f64>)>,
}

impl Alone {
    /// The last of the nodes computes the output.
    fn new(checker: &Checker<'_>, nodes: Range<usize>) -> Self {
        let (g, n) = (checker.graph(), checker.tokens.len());
        let mut b = Builder::new();
        let mut tables = Vec::new();
        let mut copy = |b: &mut Builder, x: ValueId| {
            let w = b.weight(&format!("operand {x}"), DType::F32, n, g.shape(x).cols);
            tables.push((w, checker.reference.value(x).to_vec()));
            b.embed(w, 1.0)
        };
        let (mut values, mut weights, mut states) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut y = None;
        for i in nodes.clone() {
            let mut op = g.nodes[i].op.clone();
            // Tokens are row numbers of the copies here, so embeddings of a model are copied too.
            if matches!(op, Op::Embed { .. }) && nodes.len() > 1 {
                continue;
            }
            op.map_operands(|x| *x = *values.entry(*x).or_insert_with(|| copy(&mut b, *x)));
            op.map_weights(|w| {
                let old = g.weight(*w);
                *w = *weights.entry(*w).or_insert_with(|| b.weight(&old.name, old.dtype, old.rows, old.cols));
            });
            op.map_states(|s| {
                *s = *states.entry(*s).or_insert_with(|| {
                    let old = g.state(*s);
                    match old.rows {
                        StateRows::Recurrent(rows) => b.recurrent_state(&old.name, rows, old.cols),
                        StateRows::Ctx => {
                            let state = b.state(&old.name, old.cols);
                            let (at, x) =
                                store(g, *s).expect("the verifier refuses attention over what nothing stores");
                            if !nodes.contains(&at) {
                                let rows = copy(&mut b, x);
                                b.kv_store(rows, state);
                            }
                            state
                        }
                    }
                });
            });
            let value = b.op(op);
            values.insert(ValueId(i as u32), value);
            y = Some(value);
        }
        let y = y.expect("some node is not an embedding, or it is the only one");
        let last = g.nodes[nodes].iter().any(|n| matches!(n.op, Op::LastRows { .. }));
        let y = if last { y } else { b.last_rows(y) };
        Self { graph: b.finish(y), tables }
    }
}

/// The node that stores the rows of a state, and the value that it stores.
fn store(g: &Graph, state: StateId) -> Option<(usize, ValueId)> {
    g.nodes.iter().enumerate().find_map(|(i, n)| match n.op {
        Op::KvStore { x, state: s } if s == state => Some((i, x)),
        _ => None,
    })
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

/// The larger one; NaN if either is.
fn nan_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// The error of f32 arithmetic in another order, relative to the size of a row.
fn tolerance(op: &Op) -> f64 {
    match op {
        // One or two roundings of f32, of 6e-8 each.
        Op::Embed { .. } | Op::AddBias { .. } | Op::Add { .. } => 1e-6,
        // Copies.
        Op::LastRows { .. }
        | Op::Group { .. }
        | Op::Given { .. }
        | Op::Slice { .. }
        | Op::Concat { .. }
        | Op::KvLoad { .. } => 1e-6,
        // Sums of squares, a root, a division.
        Op::RmsNorm { .. } | Op::LayerNorm { .. } | Op::L2Norm { .. } | Op::MoeSum { .. } | Op::Blend { .. } => 5e-6,
        // exp and tanh of devices are accurate to a few units in the last place.
        Op::Activate { .. } | Op::Glu { .. } | Op::Softcap { .. } | Op::SigmoidGate { .. } | Op::MoeRoute { .. } => {
            1e-5
        }
        // The sine of an angle of a few hundred radians.
        Op::Rope { .. } => 6e-5,
        // Dot products of some thousand terms that are larger than their sum.
        Op::MatMul { .. } | Op::MoeMatMul { .. } | Op::SsmConv { .. } => 5e-5,
        // Dot products, exp of them, and sums; the delta rule is a recurrence over tokens.
        Op::Attention { .. } | Op::DeltaRule { .. } => 1e-4,
        Op::KvStore { .. } | Op::KvStoreNext { .. } => unreachable!("it makes no value"),
        Op::FusedMatMul(_) | Op::RopeStore(_) | Op::NormAdd { .. } => unreachable!("the reference runs their parts"),
    }
}

/// The error that rounding keys and values may cause in the result of an attention, relative to the size of a row.
fn cache_tolerance(kv: KvType) -> f64 {
    match kv {
        KvType::F32 => 0.0,
        // The relative error of values is 2^-11; keys change scores by that part of |q| |k|, and shares with them.
        KvType::F16 => 1e-2,
        // The same with 1/254 of the largest of 32 values.
        KvType::Q8_0 => 1e-1,
    }
}
