//! Fused ops, which passes make of several ops that one kernel can run together. [`expand`](super::expand()) defines each
//! by the ops that it replaces.

use super::ir::{Graph, StateId, ValueId, WeightId};
use super::op::{Act, Op};
use super::rope::Rope;

/// A product of matrices with one input, what happens to that input first, and to the result.
///
/// The value has the rows of all parts side by side; of several parts each is read through a slice of its own. With
/// experts a row of x serves all experts of a token or there is one for each, as in `MoeMatMul`.
#[derive(Clone, Debug, PartialEq)]
pub struct FusedMatMul {
    /// The input, `[tokens, cols]` of the weights, before `pre`.
    pub x: ValueId,
    /// What happens to x first.
    pub pre: Pre,
    /// The matrices, all with x as input.
    pub parts: Vec<Term>,
    /// What happens to the products.
    pub post: Post,
    /// Set where each part stacks the matrices of experts.
    pub experts: Option<Experts>,
}

/// One matrix, and what is added to each row of its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// `[rows of this part, cols of x]`.
    pub w: WeightId,
    /// One row, as wide as the part.
    pub bias: Option<WeightId>,
}

/// The matrices of `n` experts lie one after another in each part; `route` says which of them a token takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Experts {
    /// A value of [`Op::MoeRoute`].
    pub route: ValueId,
    /// How many experts there are, not how many a token takes.
    pub n: usize,
}

/// What happens to the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pre {
    /// x is taken as it is.
    None,
    /// `rms_norm(x)`.
    Norm {
        /// Factor on each column of the normed x.
        w: WeightId,
        /// Added to the mean square.
        eps: f32,
    },
    /// `act(gate) * rms_norm(x)`, the norm over each run of `w.cols` values.
    GatedNorm {
        /// Factor on each column; its length is the length of a run.
        w: WeightId,
        /// Added to the mean square.
        eps: f32,
        /// As wide as x.
        gate: ValueId,
        /// Applied to the gate.
        act: Act,
    },
}

/// What happens to the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Post {
    /// The parts are given back side by side.
    None,
    /// `act(first part) * second part`.
    Glu(Act),
    /// `to + result`, the result times `sigmoid(gate)` where there is a gate (of one column). With experts the result
    /// is the sum of theirs, each times its share.
    Add {
        /// As wide as the result; usually the residual.
        to: ValueId,
        /// `[tokens, 1]`.
        gate: Option<ValueId>,
    },
}

/// Puts the rows of a step where attention wants them: q normed per head, rotated, and given back; k the same and
/// stored; v stored.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeStore {
    /// `[tokens, n_head * d_head]`.
    pub q: ValueId,
    /// `[tokens, n_kv_head * d_head]`.
    pub k: ValueId,
    /// As wide as k.
    pub v: ValueId,
    /// The norms of q and of k.
    pub norms: Option<[WeightId; 2]>,
    /// Of the norms.
    pub eps: f32,
    /// Of q and of k.
    pub rope: Rope,
    /// Where k goes, a row per position.
    pub keys: StateId,
    /// Where v goes, a row per position.
    pub values: StateId,
}

/// Euclidean norms of the heads of q and k, as in `L2Norm`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QkNorm {
    /// Added to the sum of squares.
    pub eps: f32,
    /// Factor on the normed heads of q.
    pub q_scale: f32,
    /// Factor on the normed heads of k.
    pub k_scale: f32,
}

/// A `norm_add` that a fused matmul can make along with its own work.
#[derive(Clone, Copy, Debug)]
pub struct NormAdd {
    pub x: ValueId,
    pub y: ValueId,
    pub w: WeightId,
    pub eps: f32,
}

/// The `norm_add` right before node `i`, where node `i` is a fused matmul that norms its value.
pub fn norm_add_before(g: &Graph, i: usize) -> Option<NormAdd> {
    let Op::FusedMatMul(p) = &g.nodes[i].op else { return None };
    let Op::NormAdd { x, y, w, eps } = g.node(p.x).op else { return None };
    let normed = matches!(p.pre, Pre::Norm { .. }) && p.experts.is_none();
    (normed && p.x.index() + 1 == i).then_some(NormAdd { x, y, w, eps })
}
