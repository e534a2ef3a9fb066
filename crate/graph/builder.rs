//! The only way to make nodes.

use super::infer::infer;
use super::ir::{Graph, Node, State, StateId, StateRows, ValueId, Weight, WeightId};
use super::op::{Act, Attention, Op};
use super::rope::Rope;
use super::verify::verify;
use crate::dtype::DType;

/// Builds a [`Graph`], one op a call.
///
/// # Panics
/// Every method panics, with the op and the shapes, where operands do not fit: an architecture checks what comes from
/// the file before it builds, so a misfit here is a mistake in its description.
pub struct Builder {
    g: Graph,
    /// The output of the trunk, once that is over.
    trunk: Option<ValueId>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// A graph without nodes.
    pub fn new() -> Self {
        let (weights, states, nodes) = Default::default();
        Self { g: Graph { weights, states, nodes, given: None, output: ValueId(0), mtp: None }, trunk: None }
    }

    /// For another graph over the weights and states of this one.
    pub(super) fn over(g: &Graph) -> Self {
        let (weights, states) = (g.weights.clone(), g.states.clone());
        let g = Graph { weights, states, nodes: Vec::new(), given: None, output: ValueId(0), mtp: None };
        Self { g, trunk: None }
    }

    pub(super) fn cols(&self, v: ValueId) -> usize {
        self.g.shape(v).cols
    }

    /// Declares a packed matrix of `rows` rows of `cols` values, or a vector (one row).
    pub fn weight(&mut self, name: &str, dtype: DType, rows: usize, cols: usize) -> WeightId {
        self.g.weights.push(Weight { name: name.to_string(), dtype, rows, cols });
        WeightId(self.g.weights.len() as u32 - 1)
    }

    /// A state with a row for each position; the same one for the same name.
    pub fn state(&mut self, name: &str, cols: usize) -> StateId {
        self.push_state(name, StateRows::Ctx, cols)
    }

    /// A state of `rows` rows that every step rewrites; the same one for the same name.
    pub fn recurrent_state(&mut self, name: &str, rows: usize, cols: usize) -> StateId {
        self.push_state(name, StateRows::Recurrent(rows), cols)
    }

    fn push_state(&mut self, name: &str, rows: StateRows, cols: usize) -> StateId {
        let new = State { name: name.to_string(), rows, cols };
        let known = self.g.states.iter().position(|s| s.name == name);
        let i = known.unwrap_or(self.g.states.len());
        if known.is_none() {
            self.g.states.push(new);
        } else {
            assert_eq!(self.g.states[i], new, "two states have one name");
        }
        StateId(i as u32)
    }

    /// [`Op::Embed`]: `[tokens, cols of w]`.
    pub fn embed(&mut self, w: WeightId, scale: f32) -> ValueId {
        self.push(Op::Embed { w, scale })
    }

    /// [`Op::Given`]: `[tokens, len]`.
    pub fn given(&mut self, start: usize, len: usize) -> ValueId {
        self.push(Op::Given { start, len })
    }

    /// [`Op::Blend`]: `[tokens, cols of w]`.
    pub fn blend(&mut self, w: WeightId, x: ValueId) -> ValueId {
        self.push(Op::Blend { w, x, all: false })
    }

    /// [`Op::Blend`] of all rows of w: `[rows of x, cols of w]`, for matrices that are stored the other way around.
    pub fn blend_all(&mut self, w: WeightId, x: ValueId) -> ValueId {
        self.push(Op::Blend { w, x, all: true })
    }

    /// [`Op::MatMul`]: `[rows of x, rows of w]`.
    pub fn matmul(&mut self, w: WeightId, x: ValueId) -> ValueId {
        self.matmul_rows(w, x, self.g.weight(w).rows)
    }

    /// [`Op::MatMul`] with the first rows of w: `[rows of x, rows]`.
    pub fn matmul_rows(&mut self, w: WeightId, x: ValueId, rows: usize) -> ValueId {
        self.push(Op::MatMul { w, x, rows })
    }

    /// [`Op::AddBias`].
    pub fn add_bias(&mut self, x: ValueId, b: WeightId) -> ValueId {
        self.push(Op::AddBias { x, b })
    }

    /// [`Op::RmsNorm`]; a `w` shorter than a row norms per head.
    pub fn rms_norm(&mut self, x: ValueId, w: WeightId, eps: f32) -> ValueId {
        self.push(Op::RmsNorm { x, w, eps })
    }

    /// [`Op::LayerNorm`].
    pub fn layer_norm(&mut self, x: ValueId, w: WeightId, b: WeightId, eps: f32) -> ValueId {
        self.push(Op::LayerNorm { x, w, b, eps })
    }

    /// [`Op::Rope`].
    pub fn rope(&mut self, x: ValueId, rope: Rope) -> ValueId {
        self.push(Op::Rope { x, rope })
    }

    /// [`Op::KvStore`], an effect.
    pub fn kv_store(&mut self, x: ValueId, state: StateId) {
        self.push(Op::KvStore { x, state });
    }

    /// [`Op::KvStoreNext`], an effect.
    pub fn kv_store_next(&mut self, x: ValueId, state: StateId) {
        self.push(Op::KvStoreNext { x, state });
    }

    /// The rows of a state at the step's positions.
    pub fn kv_load(&mut self, state: StateId) -> ValueId {
        self.push(Op::KvLoad { state })
    }

    /// [`Op::Attention`] without a gate: as wide as q.
    pub fn attention(&mut self, q: ValueId, k: StateId, v: StateId, attn: Attention) -> ValueId {
        self.push(Op::Attention { q, k, v, gate: None, attn })
    }

    /// [`Op::Add`]: the sum of two values of one shape.
    pub fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.push(Op::Add { a, b })
    }

    /// [`Op::Concat`].
    pub fn concat(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.push(Op::Concat { a, b })
    }

    /// [`Op::Activate`].
    pub fn activate(&mut self, x: ValueId, act: Act) -> ValueId {
        self.push(Op::Activate { x, act })
    }

    /// [`Op::Glu`].
    pub fn glu(&mut self, gate: ValueId, up: ValueId, act: Act) -> ValueId {
        self.push(Op::Glu { gate, up, act })
    }

    /// [`Op::Softcap`].
    pub fn softcap(&mut self, x: ValueId, cap: f32) -> ValueId {
        self.push(Op::Softcap { x, cap })
    }

    /// [`Op::SigmoidGate`].
    pub fn sigmoid_gate(&mut self, x: ValueId, gate: ValueId) -> ValueId {
        self.push(Op::SigmoidGate { x, gate })
    }

    /// [`Op::Slice`]: `len` columns of each group.
    pub fn slice(&mut self, x: ValueId, group: usize, start: usize, len: usize) -> ValueId {
        self.push(Op::Slice { x, group, start, len })
    }

    /// [`Op::L2Norm`].
    pub fn l2_norm(&mut self, x: ValueId, d_head: usize, eps: f32, scale: f32) -> ValueId {
        self.push(Op::L2Norm { x, d_head, eps, scale })
    }

    /// [`Op::SsmConv`]: as wide as x.
    pub fn ssm_conv(&mut self, x: ValueId, w: WeightId, state: StateId) -> ValueId {
        self.push(Op::SsmConv { x, w, state })
    }

    /// Any op as it is: for those with more operands than a call can name, and for copies of nodes.
    pub fn op(&mut self, op: Op) -> ValueId {
        self.push(op)
    }

    /// [`Op::MoeRoute`]: `[tokens, 2 * n_used]`.
    pub fn moe_route(&mut self, x: ValueId, n_used: usize, renormalise: bool) -> ValueId {
        self.push(Op::MoeRoute { x, n_used, renormalise })
    }

    /// [`Op::MoeMatMul`]: `[tokens, n_used * rows of an expert]`.
    pub fn moe_matmul(&mut self, w: WeightId, x: ValueId, route: ValueId, n_expert: usize) -> ValueId {
        self.push(Op::MoeMatMul { w, x, route, n_expert })
    }

    /// [`Op::MoeSum`].
    pub fn moe_sum(&mut self, x: ValueId, route: ValueId) -> ValueId {
        self.push(Op::MoeSum { x, route })
    }

    /// [`Op::LastRows`]: `[outputs, cols of x]`.
    pub fn last_rows(&mut self, x: ValueId) -> ValueId {
        self.push(Op::LastRows { x })
    }

    /// [`Op::Group`]: `[outputs, n * cols of x]`.
    pub fn group(&mut self, x: ValueId, n: usize) -> ValueId {
        self.push(Op::Group { x, n })
    }

    /// Names a value for hidden-state dumps.
    pub fn name(&mut self, v: ValueId, name: impl Into<String>) {
        self.g.nodes[v.index()].name = Some(name.into());
    }

    /// Ends the part of [`Entry::Given`](super::Entry::Given). What is built from here on is the trunk.
    pub fn end_given(&mut self, output: ValueId) {
        self.g.given = Some(output);
    }

    /// Ends the trunk. What is built from here on is the block for multi-token prediction.
    pub fn end_trunk(&mut self, output: ValueId) {
        self.trunk = Some(output);
    }

    /// The finished graph, verified.
    pub fn finish(mut self, output: ValueId) -> Graph {
        (self.g.output, self.g.mtp) = match self.trunk {
            Some(trunk) => (trunk, Some(output)),
            None => (output, None),
        };
        verify(&self.g).unwrap_or_else(|e| panic!("the builder made a broken graph: {e}\n{}", self.g));
        self.g
    }

    fn push(&mut self, op: Op) -> ValueId {
        let shape = infer(&self.g, &op).unwrap_or_else(|e| panic!("{e}\n{}", self.g));
        self.g.nodes.push(Node { op, shape, name: None });
        ValueId(self.g.nodes.len() as u32 - 1)
    }
}
