//! The ops: what one node computes, and which values and weights it reads.

use super::fused::{FusedMatMul, Post, Pre, QkNorm, RopeStore};
use super::ir::{StateId, ValueId, WeightId};
use super::rope::Rope;

/// An activation: of the gate of a gated linear unit, or alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// x * sigmoid(x).
    Silu,
    /// GELU in its tanh form, <https://arxiv.org/abs/1606.08415>.
    GeluTanh,
    /// GELU, `x * (1 + erf(x / sqrt(2))) / 2`.
    Gelu,
}

/// Attention of the step's queries over the rows stored so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Heads of q.
    pub n_head: usize,
    /// Heads of k and v; head h of q reads head `h * n_kv_head / n_head`.
    pub n_kv_head: usize,
    /// Columns of a head.
    pub d_head: usize,
    /// Factor on q . k.
    pub scale: f32,
    /// A query sees no keys after its own position. Else it sees those of its segment too, so a sequence runs in one step.
    pub causal: bool,
    /// A query at p sees keys with |p - k| < window.
    pub window: Option<usize>,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
}

/// The sizes of a gated delta net, <https://arxiv.org/abs/2412.06464>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Heads of q and k.
    pub n_k_head: usize,
    /// Value head v uses key head `v % n_k_head`.
    pub n_v_head: usize,
    /// The width of every head, of keys and of values.
    pub d_head: usize,
}

/// One operation. Weights, states and values are operands; all else is a constant of the model.
///
/// Values are `[tokens, columns]`, weights `[rows, columns]`; a doc names the shapes that differ from its operands'.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the doc of an op defines its operands")]
pub enum Op {
    /// Row `token` of `w` for each token of the step, times `scale`.
    Embed { w: WeightId, scale: f32 },
    /// Columns `start .. start + len` of the row that the step gives for each token.
    Given { start: usize, len: usize },
    /// The sum of rows of `w`, each times its share. A row of x is n row numbers (as floats), and then their n shares; with
    /// `all`, a share for each row of `w`: `x W`.
    Blend { w: WeightId, x: ValueId, all: bool },
    /// `W x` for each row of x, with the first `rows` rows of W.
    MatMul { w: WeightId, x: ValueId, rows: usize },
    /// Adds the one row of `b` to each row.
    AddBias { x: ValueId, b: WeightId },
    /// `x / sqrt(mean(x^2) + eps) * w`, <https://arxiv.org/abs/1910.07467>, over each run of `w.cols` values.
    RmsNorm { x: ValueId, w: WeightId, eps: f32 },
    /// `(x - mean(x)) / sqrt(variance(x) + eps) * w + b`, <https://arxiv.org/abs/1607.06450>, over each row.
    LayerNorm { x: ValueId, w: WeightId, b: WeightId, eps: f32 },
    /// Each head of x rotated by its token's position, as [`Rope`] says.
    Rope { x: ValueId, rope: Rope },
    /// Writes the rows of x into a state at the step's positions. Makes no value.
    KvStore { x: ValueId, state: StateId },
    /// Writes the row of each row of logits, [outputs, cols], into a state at the position after that of its token, which must
    /// lie in the same block. Makes no value.
    KvStoreNext { x: ValueId, state: StateId },
    /// The rows of a state at the step's positions.
    KvLoad { state: StateId },
    /// `softmax(scale * q k^T) v` per head, over the rows of the states `k` and `v` that [`Attention`] lets a query see.
    Attention {
        q: ValueId,
        k: StateId,
        v: StateId,
        /// The result times `sigmoid(gate)`; passes put a gate here.
        gate: Option<ValueId>,
        attn: Attention,
    },
    /// `a + b`, of one shape.
    Add { a: ValueId, b: ValueId },
    /// The columns of a, then those of b.
    Concat { a: ValueId, b: ValueId },
    /// `act(x)`.
    Activate { x: ValueId, act: Act },
    /// `act(gate) * up`.
    Glu { gate: ValueId, up: ValueId, act: Act },
    /// `cap * tanh(x / cap)`.
    Softcap { x: ValueId, cap: f32 },
    /// `x * sigmoid(gate)`; a gate of one column serves the whole row.
    SigmoidGate { x: ValueId, gate: ValueId },
    /// Columns `start .. start + len` of each run of `group` columns.
    Slice { x: ValueId, group: usize, start: usize, len: usize },
    /// Each head divided by its Euclidean norm, times `scale`: `x / sqrt(sum(x^2) + eps) * scale`.
    L2Norm { x: ValueId, d_head: usize, eps: f32, scale: f32 },
    /// Depthwise causal convolution over time, then SiLU. `w` has a row of taps for each column of x, the last tap for
    /// the present token. The state holds the inputs before this step, `[taps - 1, cols]`, oldest first.
    SsmConv { x: ValueId, w: WeightId, state: StateId },
    /// The gated delta rule. Per value head, over the tokens of the step, with state M `[d_head, d_head]` (key by
    /// value): `M *= exp(a * softplus(alpha + dt)); M += k (sigmoid(beta) (v - M^T k))^T; y = M^T q`.
    DeltaRule {
        q: ValueId,
        k: ValueId,
        v: ValueId,
        alpha: ValueId,
        beta: ValueId,
        a: WeightId,
        dt: WeightId,
        state: StateId,
        delta: Delta,
        /// Norms that passes took in: q and k are then what they were before those.
        norm: Option<QkNorm>,
    },
    /// The experts of each token: softmax over the router's logits x, the `n_used` largest and, where `renormalise`,
    /// divided by their sum. A row is the expert numbers (as floats), best first, and then their shares.
    MoeRoute { x: ValueId, n_used: usize, renormalise: bool },
    /// `W_e x` for each expert e of a token. `w` holds the experts' matrices one after another. x is one row for all
    /// experts of a token (`[tokens, cols]`) or one for each (`[tokens, n_used * cols]`).
    MoeMatMul { w: WeightId, x: ValueId, route: ValueId, n_expert: usize },
    /// The sum of the experts' rows, each times its share: `[tokens, n_used * d]` to `[tokens, d]`.
    MoeSum { x: ValueId, route: ValueId },
    /// The last rows of x: those for which logits are wanted.
    LastRows { x: ValueId },
    /// Each `n` rows of x side by side: `[n * outputs, cols]` to `[outputs, n * cols]`. For steps with a row of the output
    /// for each n tokens.
    Group { x: ValueId, n: usize },
    /// Made by passes, as all that follow. A backend runs them only if it asks for fused plans.
    FusedMatMul(Box<FusedMatMul>),
    /// An effect on two states, and a value: q.
    RopeStore(Box<RopeStore>),
    /// `x + rms_norm(y)`. Where a fused matmul norms the value and comes next, a backend may run both at once.
    NormAdd { x: ValueId, y: ValueId, w: WeightId, eps: f32 },
}

impl Op {
    /// The one name of the op: kernel file, shader, test case and profile label carry it too.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Embed { .. } => "embed",
            Op::Given { .. } => "given",
            Op::Blend { .. } => "blend",
            Op::MatMul { .. } => "matmul",
            Op::AddBias { .. } => "add_bias",
            Op::RmsNorm { .. } => "rms_norm",
            Op::LayerNorm { .. } => "layer_norm",
            Op::Rope { .. } => "rope",
            Op::KvStore { .. } => "kv_store",
            Op::KvStoreNext { .. } => "kv_store_next",
            Op::KvLoad { .. } => "kv_load",
            Op::Attention { .. } => "attention",
            Op::Add { .. } => "add",
            Op::Concat { .. } => "concat",
            Op::Activate { .. } => "activate",
            Op::Glu { .. } => "glu",
            Op::Softcap { .. } => "softcap",
            Op::SigmoidGate { .. } => "sigmoid_gate",
            Op::Slice { .. } => "slice",
            Op::L2Norm { .. } => "l2_norm",
            Op::SsmConv { .. } => "ssm_conv",
            Op::DeltaRule { .. } => "delta_rule",
            Op::MoeRoute { .. } => "moe_route",
            Op::MoeMatMul { .. } => "moe_matmul",
            Op::MoeSum { .. } => "moe_sum",
            Op::LastRows { .. } => "last_rows",
            Op::Group { .. } => "group",
            Op::FusedMatMul(_) => "fused_matmul",
            Op::RopeStore(_) => "rope_store",
            Op::NormAdd { .. } => "norm_add",
        }
    }

    /// The values that the op reads.
    pub fn operands(&self) -> impl Iterator<Item = ValueId> {
        let mut all = Vec::new();
        self.clone().map_operands(|v| all.push(*v));
        all.into_iter()
    }

    /// Gives each operand to `f`, which may point it at another value.
    pub fn map_operands(&mut self, mut f: impl FnMut(&mut ValueId)) {
        match self {
            Op::Embed { .. } | Op::Given { .. } | Op::KvLoad { .. } => {}
            Op::MatMul { x, .. }
            | Op::Blend { x, .. }
            | Op::AddBias { x, .. }
            | Op::RmsNorm { x, .. }
            | Op::LayerNorm { x, .. }
            | Op::Rope { x, .. }
            | Op::KvStore { x, .. }
            | Op::KvStoreNext { x, .. }
            | Op::Activate { x, .. }
            | Op::Softcap { x, .. }
            | Op::Slice { x, .. }
            | Op::L2Norm { x, .. }
            | Op::SsmConv { x, .. }
            | Op::MoeRoute { x, .. }
            | Op::LastRows { x }
            | Op::Group { x, .. } => f(x),
            Op::Attention { q, gate, .. } => [q].into_iter().chain(gate).for_each(f),
            Op::Add { a, b } | Op::Concat { a, b } => [a, b].into_iter().for_each(f),
            Op::Glu { gate, up, .. } => [gate, up].into_iter().for_each(f),
            Op::SigmoidGate { x, gate } => [x, gate].into_iter().for_each(f),
            Op::DeltaRule { q, k, v, alpha, beta, .. } => [q, k, v, alpha, beta].into_iter().for_each(f),
            Op::MoeMatMul { x, route, .. } | Op::MoeSum { x, route } => [x, route].into_iter().for_each(f),
            Op::NormAdd { x, y, .. } => [x, y].into_iter().for_each(f),
            Op::RopeStore(p) => [&mut p.q, &mut p.k, &mut p.v].into_iter().for_each(f),
            Op::FusedMatMul(p) => {
                f(&mut p.x);
                if let Pre::GatedNorm { gate, .. } = &mut p.pre {
                    f(gate);
                }
                if let Post::Add { to, gate } = &mut p.post {
                    [to].into_iter().chain(gate).for_each(&mut f);
                }
                p.experts.iter_mut().for_each(|e| f(&mut e.route));
            }
        }
    }

    /// The recurrent state that the op reads and rewrites.
    pub fn recurrent_state(&self) -> Option<StateId> {
        match *self {
            Op::SsmConv { state, .. } | Op::DeltaRule { state, .. } => Some(state),
            _ => None,
        }
    }

    /// The weights that the op reads.
    pub fn weights(&self) -> impl Iterator<Item = WeightId> {
        let mut all = Vec::new();
        self.clone().map_weights(|w| all.push(*w));
        all.into_iter()
    }

    /// Gives each weight to `f`, which may point it at another.
    pub fn map_weights(&mut self, mut f: impl FnMut(&mut WeightId)) {
        match self {
            Op::Embed { w, .. }
            | Op::Blend { w, .. }
            | Op::MatMul { w, .. }
            | Op::RmsNorm { w, .. }
            | Op::SsmConv { w, .. }
            | Op::MoeMatMul { w, .. }
            | Op::NormAdd { w, .. } => f(w),
            Op::AddBias { b, .. } => f(b),
            Op::LayerNorm { w, b, .. } => [w, b].into_iter().for_each(f),
            Op::Rope { rope, .. } => rope.freqs.iter_mut().for_each(f),
            Op::DeltaRule { a, dt, .. } => [a, dt].into_iter().for_each(f),
            Op::RopeStore(p) => p.norms.iter_mut().flatten().chain(&mut p.rope.freqs).for_each(f),
            Op::FusedMatMul(p) => {
                if let Pre::Norm { w, .. } | Pre::GatedNorm { w, .. } = &mut p.pre {
                    f(w);
                }
                p.parts.iter_mut().flat_map(|p| [&mut p.w].into_iter().chain(&mut p.bias)).for_each(f);
            }
            Op::Given { .. }
            | Op::KvStore { .. }
            | Op::KvStoreNext { .. }
            | Op::KvLoad { .. }
            | Op::Attention { .. }
            | Op::Add { .. }
            | Op::Concat { .. }
            | Op::Activate { .. }
            | Op::Glu { .. }
            | Op::Softcap { .. }
            | Op::SigmoidGate { .. }
            | Op::Slice { .. }
            | Op::L2Norm { .. }
            | Op::MoeRoute { .. }
            | Op::MoeSum { .. }
            | Op::LastRows { .. }
            | Op::Group { .. } => {}
        }
    }

    /// Gives each state to `f`, which may point it at another.
    pub fn map_states(&mut self, mut f: impl FnMut(&mut StateId)) {
        match self {
            Op::KvStore { state, .. }
            | Op::KvStoreNext { state, .. }
            | Op::KvLoad { state }
            | Op::SsmConv { state, .. }
            | Op::DeltaRule { state, .. } => f(state),
            Op::Attention { k, v, .. } => [k, v].into_iter().for_each(f),
            Op::RopeStore(p) => [&mut p.keys, &mut p.values].into_iter().for_each(f),
            _ => {}
        }
    }

    /// Whether each row of the result depends on the same row of the operands alone, and on what was stored before.
    pub fn is_by_row(&self) -> bool {
        matches!(
            self,
            Self::Given { .. }
                | Self::Blend { .. }
                | Self::MatMul { .. }
                | Self::AddBias { .. }
                | Self::RmsNorm { .. }
                | Self::LayerNorm { .. }
                | Self::Rope { .. }
                | Self::Attention { .. }
                | Self::Add { .. }
                | Self::Concat { .. }
                | Self::Activate { .. }
                | Self::Glu { .. }
                | Self::Softcap { .. }
                | Self::SigmoidGate { .. }
                | Self::Slice { .. }
                | Self::L2Norm { .. }
        )
    }

    /// Whether the op does something besides making a value, so that it stays though nothing reads that.
    pub fn is_effect(&self) -> bool {
        matches!(self, Op::KvStore { .. } | Op::KvStoreNext { .. } | Op::RopeStore(_))
    }

    /// The states that the op writes rows of.
    pub fn stores(&self) -> impl Iterator<Item = StateId> + use<> {
        let stored = match self {
            Op::KvStore { state, .. } | Op::KvStoreNext { state, .. } => [Some(*state), None],
            Op::RopeStore(p) => [Some(p.keys), Some(p.values)],
            _ => [None, None],
        };
        stored.into_iter().flatten()
    }

    /// Whether the op can read `v` out of the wider value that `v` is a slice of.
    pub fn reads_in_place(&self, v: ValueId) -> bool {
        match self {
            Op::RopeStore(_) | Op::DeltaRule { norm: Some(_), .. } => true,
            Op::Slice { x, .. } | Op::MoeRoute { x, .. } | Op::SsmConv { x, .. } => *x == v,
            Op::Attention { q, gate, .. } => *gate == Some(v) && *q != v,
            Op::FusedMatMul(p) => {
                let of_gate = match p.pre {
                    Pre::GatedNorm { gate, .. } => gate == v,
                    _ => false,
                };
                let of_sum = matches!(p.post, Post::Add { gate: Some(gate), .. } if gate == v);
                let as_whole = p.x == v || matches!(p.post, Post::Add { to, .. } if to == v);
                (of_gate || of_sum) && !as_whole
            }
            _ => false,
        }
    }
}
