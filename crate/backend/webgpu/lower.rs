//! From nodes to dispatches: which kernels run for a node, with how many rows, on which buffers.

mod project;

use super::dispatch::{Chunks, Compiler, Dispatch, When};
use super::kernels::{self, Experts, Finish, Kernel, Matrix};
use super::pace::Work;
use super::program::Program;
use super::tables::{Table, taken_in};
use super::tuning::{Gemm, Tuning};
use crate::backend::{KvType, Limits};
use crate::graph::{Attention, Delta, Dim, Graph, Op, Pre, QkNorm, StateId, StateRows, ValueId, View, WeightId};

/// Tokens of a step up to which attention is split over the past (on software adapters: takes them one by one). More of
/// them share the keys that a tile reads.
const FEW_QUERIES: usize = 8;

/// Bytes of partial results of split attention, at most: with long contexts fewer tokens share them.
const MAX_PARTIAL: usize = 32 << 20;

/// The dispatches of node `i`, after those of the nodes before it.
pub fn node(program: &Program, i: usize, compiler: &mut Compiler<'_>, all: &mut Vec<Dispatch>) {
    let g = &program.plan.graph;
    if g.nodes[i].shape.is_some() && program.plan.in_place(ValueId(i as u32)) {
        return;
    }
    let rows = g.nodes[i].shape.map_or(Dim::Tokens, |s| s.rows);
    let most = if rows == Dim::Tokens { program.limits.max_tokens } else { program.limits.max_outputs };
    let tuning = compiler.tuning;
    Lower { program, g, i, rows, most, weight_bytes: 0, tuning, compiler, all }.run();
}

/// Bytes of the buffer that kernels of one node share: normed rows of x, rows of experts before their sum,
/// partial results of attention, chunks of the delta rule.
pub fn scratch_bytes(g: &Graph, limits: Limits, tuning: Tuning) -> u64 {
    let of = |op: &Op| match op {
        Op::Project(p) => {
            let normed = if p.pre == Pre::None { 0 } else { g.shape(p.x).cols };
            limits.max_tokens * normed.max(project::summed_cols(g, p, limits, tuning)) * 4
        }
        Op::Attention { attn, .. } => {
            Split::of(attn, limits, tuning).map_or(0, |s| if s.chunks > 1 { s.tokens * s.partial } else { 0 })
        }
        Op::DeltaRule { delta, .. } if limits.max_tokens > kernels::FEW => {
            chunks_of(*delta, tuning).map_or(0, |c| c.bytes(limits.max_tokens))
        }
        _ => 0,
    };
    g.nodes.iter().map(|n| of(&n.op)).max().unwrap_or(0).max(16) as u64
}

/// Bytes of the rows of x in whole numbers.
pub fn quantized_bytes(g: &Graph, limits: Limits, tuning: Tuning) -> u64 {
    let rows = if limits.max_tokens > kernels::FEW { limits.max_tokens } else { 0 };
    let of = |op: &Op| match op {
        Op::Project(p) if project::in_ints(g, p) => g.shape(p.x).cols,
        Op::MatMul { w, x } | Op::MoeMatMul { w, x, .. } if kernels::in_ints(g.weight(*w).dtype) => g.shape(*x).cols,
        _ => 0,
    };
    let cols = if tuning.gemm == Gemm::Q8 { g.nodes.iter().map(|n| of(&n.op)).max().unwrap_or(0) } else { 0 };
    (rows * cols / 32 * 48).max(16) as u64
}

/// Bytes of a state with room for `rows` positions.
pub fn state_bytes(g: &Graph, s: StateId, kv: KvType, rows: usize) -> u64 {
    let state = g.state(s);
    let heads = g.nodes.iter().find_map(|n| match &n.op {
        Op::Place(p) if p.keys == s || p.values == s => Some(state.cols / p.rope.d_head),
        _ => None,
    });
    let row = heads.map_or(state.cols * 4, |n| n * kv_of(g, s, kv).bytes(state.cols / n));
    (state.rows.count(rows) * row) as u64
}

/// How the rows of a state are kept: as wanted where `place` writes them and only attention reads them.
fn kv_of(g: &Graph, s: StateId, wanted: KvType) -> KvType {
    let users = g.nodes.iter().filter(|n| {
        let mut uses = false;
        n.op.clone().map_states(|x| uses |= *x == s);
        uses
    });
    let narrow = g.state(s).rows == StateRows::Ctx
        && users.into_iter().all(|n| matches!(n.op, Op::Place(_) | Op::Attention { .. }));
    if narrow { wanted } else { KvType::F32 }
}

/// The delta rule in chunks. Software adapters are faster token by token.
fn chunks_of(delta: Delta, tuning: Tuning) -> Option<kernels::DeltaChunks> {
    kernels::DeltaChunks::of(delta).filter(|_| !tuning.software)
}

/// How attention of few tokens is split over the past.
struct Split {
    /// Tokens of a step, at most.
    tokens: usize,
    /// Keys of a chunk, and chunks of the whole context.
    keys: usize,
    chunks: usize,
    /// Bytes of partial results of a token.
    partial: usize,
}

impl Split {
    fn of(a: &Attention, limits: Limits, tuning: Tuning) -> Option<Self> {
        let (_, keys) = kernels::split_of(a, tuning.keys).filter(|_| !tuning.software)?;
        let chunks = limits.n_ctx.min(a.window.unwrap_or(limits.n_ctx)).div_ceil(keys);
        let partial = a.n_head * chunks * (a.d_head + 4) * 4;
        let tokens = FEW_QUERIES.min(MAX_PARTIAL / partial).max(1);
        Some(Self { tokens, keys, chunks, partial })
    }
}

struct Lower<'a, 'c, 'g> {
    program: &'a Program,
    g: &'a Graph,
    i: usize,
    rows: Dim,
    /// Rows of a step, at most.
    most: usize,
    /// What the next dispatches read of packed weights.
    weight_bytes: u64,
    tuning: Tuning,
    compiler: &'c mut Compiler<'g>,
    all: &'c mut Vec<Dispatch>,
}

impl<'a> Lower<'a, '_, '_> {
    fn push(&mut self, k: impl FnOnce() -> Kernel, when: When, buffers: &[&wgpu::Buffer]) -> Option<&mut Dispatch> {
        if when.is_beyond(self.most) {
            return None;
        }
        let mut d = self.compiler.dispatch(k(), self.rows, &self.program.step, buffers);
        (d.when, d.weight_bytes, d.other) = (when, self.weight_bytes, Work::of(self.g, self.i));
        self.all.push(d);
        self.all.last_mut()
    }

    fn out(&self) -> &'a wgpu::Buffer {
        self.program.slot(ValueId(self.i as u32))
    }

    fn view(&self, v: ValueId) -> View {
        self.program.plan.view(v)
    }

    fn matrices(&self, w: WeightId) -> Vec<(Matrix, &'a wgpu::Buffer)> {
        let weight = self.g.weight(w);
        let parts = self.program.weights.parts(w).iter();
        let (dtype, cols, total_rows) = (weight.dtype, weight.cols, weight.rows);
        parts.map(|p| (Matrix { dtype, cols, row0: p.row0, rows: p.rows, total_rows }, &p.buffer)).collect()
    }

    fn vector(&self, w: WeightId) -> &'a wgpu::Buffer {
        &self.program.weights.parts(w)[0].buffer
    }

    /// One kernel on the operands, then what is between, then the result.
    fn simple(&mut self, k: Kernel, between: &[&wgpu::Buffer]) {
        let node = &self.g.nodes[self.i];
        let operands = node.op.operands().map(|v| self.program.slot(v));
        let out = node.shape.map(|_| self.out());
        let buffers: Vec<_> = operands.chain(between.iter().copied()).chain(out).collect();
        self.push(|| k, When::ALWAYS, &buffers);
    }

    fn run(mut self) {
        let (g, program, tuning) = (self.g, self.program, self.tuning);
        let node = &g.nodes[self.i];
        let cols = node.shape.map_or(0, |s| s.cols);
        let tables = Table::of(g, self.i);
        let table = |i: usize| program.table(&tables[i]);
        match &node.op {
            Op::Embed { w, scale } => {
                for (m, buffer) in self.matrices(*w) {
                    self.simple(kernels::embed(m, *scale), &[&program.step, buffer]);
                }
            }
            Op::MatMul { .. } | Op::MoeMatMul { .. } | Op::Project(_) => self.project(),
            Op::AddBias { b, .. } => {
                self.simple(kernels::add_bias(cols, g.weight(*b).dtype), &[self.vector(*b)]);
            }
            Op::RmsNorm { w, eps, .. } => {
                let weight = g.weight(*w);
                let k = kernels::rms_norm(cols, weight.cols, weight.dtype, *eps, Finish::None, tuning);
                self.simple(k, &[self.vector(*w)]);
            }
            Op::NormAdd { x, y, w, eps } => {
                let buffers = [program.slot(*y), self.vector(*w), program.slot(*x), self.out()];
                let k = || kernels::rms_norm(cols, cols, g.weight(*w).dtype, *eps, Finish::Add, tuning);
                let next = taken_in(g, self.i + 1).filter(|_| !tuning.software);
                let when = if next.is_some() { When::rows(kernels::FEW + 1, usize::MAX) } else { When::ALWAYS };
                self.push(k, when, &buffers);
            }
            Op::Rope { rope, .. } => self.simple(kernels::rope(cols, rope), &[table(0)]),
            Op::Place(p) => {
                let d = p.rope.d_head;
                let place = kernels::Place {
                    n_head: cols / d,
                    n_kv_head: g.state(p.keys).cols / d,
                    rope: p.rope,
                    views: [p.q, p.k, p.v].map(|v| self.view(v)),
                    eps: p.norms.map(|_| p.eps),
                    kv: kv_of(g, p.keys, program.limits.kv),
                };
                let norms = table(usize::from(p.norms.is_some()));
                let states = [p.keys, p.values].map(|s| program.states.get(s));
                let buffers = [program.slot(p.q), table(0), norms, states[0], states[1], self.out()];
                self.push(|| kernels::place(&place, tuning), When::ALWAYS, &buffers);
            }
            Op::KvStore { state, .. } => {
                self.simple(kernels::kv_store(g.state(*state).cols), &[program.states.get(*state)]);
            }
            Op::Attention { q, k, v, gate, attn } => {
                let states = [program.slot(*q), program.states.get(*k), program.states.get(*v)];
                let gate = gate.map(|v| (program.slot(v), self.view(v)));
                self.attention(&states, gate, attn, kv_of(g, *k, program.limits.kv));
            }
            Op::KvLoad { state } => self.simple(kernels::kv_load(cols), &[program.states.get(*state)]),
            Op::Add { .. } => self.simple(kernels::add(cols), &[]),
            Op::Concat { a, b } => self.simple(kernels::concat(g.shape(*a).cols, g.shape(*b).cols), &[]),
            Op::Glu { act, .. } => self.simple(kernels::glu(cols, *act), &[]),
            Op::Softcap { cap, .. } => self.simple(kernels::softcap(cols, *cap), &[]),
            Op::LastRows { .. } => self.simple(kernels::last_rows(cols), &[]),
            Op::SigmoidGate { gate, .. } => self.simple(kernels::sigmoid_gate(cols, g.shape(*gate).cols), &[]),
            Op::Slice { x, group, start, len } => {
                self.simple(kernels::slice(g.shape(*x).cols, *group, *start, *len), &[]);
            }
            Op::L2Norm { d_head, eps, scale, .. } => {
                self.simple(kernels::l2_norm(cols, *d_head, (*eps, *scale), tuning), &[]);
            }
            Op::SsmConv { x, w, state } => {
                let x = self.view(*x);
                for (taps, buffer) in self.matrices(*w) {
                    self.simple(kernels::ssm_conv(taps, x), &[buffer, program.states.get(*state)]);
                }
            }
            Op::DeltaRule { q, k, v, alpha, beta, state, delta, norm, .. } => {
                self.delta_rule([*q, *k, *v, *alpha, *beta], *state, *delta, *norm);
            }
            Op::MoeRoute { x, n_used } => {
                let n_expert = g.shape(*x).cols;
                self.simple(kernels::moe_route(n_expert, *n_used, self.view(*x), tuning), &[]);
                for (tile, when) in kernels::moe_tiles(n_expert, *n_used, tuning) {
                    let buffers = [self.out(), program.groups(ValueId(self.i as u32))];
                    self.push(|| kernels::moe_group(n_expert, *n_used, tile), when, &buffers);
                }
            }
            Op::MoeSum { route, .. } => self.simple(kernels::moe_sum(cols, g.shape(*route).cols / 2, false), &[]),
        }
    }

    fn delta_rule(&mut self, read: [ValueId; 5], state: StateId, delta: Delta, norm: Option<QkNorm>) {
        let (program, tuning, out) = (self.program, self.tuning, self.out());
        let (mut slots, mut from) = (Vec::new(), Vec::new());
        let views = read.map(|v| {
            let slot = program.plan.slot(v);
            let at = slots.iter().position(|s| *s == slot).unwrap_or_else(|| {
                slots.push(slot);
                from.push(program.slot(v));
                slots.len() - 1
            });
            (at, self.view(v))
        });
        let rule = kernels::DeltaRule { delta, norm, views };
        let tables = Table::of(self.g, self.i);
        let (state, table) = (program.states.get(state), program.table(&tables[0]));
        let chunks = chunks_of(delta, tuning);
        let few = if chunks.is_some() { When::rows(1, kernels::FEW) } else { When::ALWAYS };
        let whole = [&from[..], &[table, state, out]].concat();
        self.push(|| kernels::delta_rule(&rule, tuning), few, &whole);
        if let Some(c) = chunks {
            let many = When::rows(kernels::FEW + 1, usize::MAX);
            let scratch = &program.scratch;
            self.push(|| kernels::delta_prepare(&rule, c), many, &[&from[..], &[table, scratch]].concat());
            self.push(|| kernels::delta_scan(&rule, c), many, &[program.slot(read[2]), scratch, state, out]);
        }
    }

    fn attention(
        &mut self,
        read: &[&'a wgpu::Buffer],
        gate: Option<(&'a wgpu::Buffer, View)>,
        attn: &Attention,
        kv: KvType,
    ) {
        let (out, tuning) = (self.out(), self.tuning);
        let (gate, view) = (gate.map(|g| g.0), gate.map(|g| g.1));
        let all: Vec<_> = read.iter().copied().chain(gate).chain([out]).collect();
        let split = Split::of(attn, self.program.limits, tuning);
        let most = split.as_ref().map_or(FEW_QUERIES, |s| s.tokens);
        let few = When::rows(1, most);
        self.push(|| kernels::attention_tile(attn, view, kv), When::rows(most + 1, usize::MAX), &all);
        let Some(split) = split else {
            self.push(|| kernels::attention(attn, view, kv, tuning), few, &all);
            return;
        };
        // Within a window the past never gets longer than that.
        let short = if split.chunks == 1 { usize::MAX } else { split.keys };
        self.push(|| kernels::attention_split(attn, view, kv, 1, tuning), few.and_keys(0, short), &all);
        if split.chunks > 1 {
            let scratch = &self.program.scratch;
            let long = few.and_keys(short + 1, usize::MAX);
            let parts = [read[0], read[1], read[2], scratch];
            let k = || kernels::attention_split(attn, view, kv, split.chunks, tuning);
            if let Some(d) = self.push(k, long, &parts) {
                d.chunks = Some(Chunks { keys: split.keys, window: attn.window });
            }
            let joined: Vec<_> = [scratch].into_iter().chain(gate).chain([out]).collect();
            self.push(|| kernels::attention_join(attn, view, split.chunks, tuning), long, &joined);
        }
    }

    fn experts(&self, x: ValueId, w: WeightId, route: ValueId, n_expert: usize) -> Experts {
        let shared_x = self.g.shape(x).cols == self.g.weight(w).cols;
        Experts { n_expert, n_used: self.g.shape(route).cols / 2, shared_x, tile: None }
    }
}
