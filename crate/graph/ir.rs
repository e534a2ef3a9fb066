//! The graph: values, weights, states, and the nodes in the order in which they run.

use std::fmt;
use std::ops::Range;

use super::op::Op;
use crate::dtype::DType;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            /// As an index into the list of the graph.
            pub fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    )*};
}

ids! {
    /// A node and the value that it makes: the index into [`Graph::nodes`].
    ValueId, "%";
    /// An index into [`Graph::weights`].
    WeightId, "w";
    /// An index into [`Graph::states`].
    StateId, "s";
}

/// A number of rows: the only thing about a value that changes from step to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// The tokens of the step.
    Tokens,
    /// The last rows of the step for which logits are wanted; may be 0.
    Outputs,
}

/// Every value is a row-major f32 matrix. Heads lie side by side in a row: `[tokens, n_head * d_head]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Known when a step is; a plan holds only which count it is.
    pub rows: Dim,
    /// Values of a row.
    pub cols: usize,
}

/// A packed matrix from the file: `rows` rows of `cols` values, `y = W x` is one dot product per row.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    /// Its name in the file, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// How its rows are packed.
    pub dtype: DType,
    /// Outputs of the product; of stacked experts, all of theirs.
    pub rows: usize,
    /// Inputs of the product.
    pub cols: usize,
}

impl Weight {
    /// Bytes of one packed row.
    pub fn row_bytes(&self) -> usize {
        self.dtype.row_bytes(self.cols).expect("the reader refuses rows that are not whole blocks")
    }

    /// Bytes of the packed matrix.
    pub fn bytes(&self) -> usize {
        self.rows * self.row_bytes()
    }
}

/// What lives from step to step.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Such as `blk.0.k`.
    pub name: String,
    /// How many there are, and whether they can be rolled back.
    pub rows: StateRows,
    /// Values of a row.
    pub cols: usize,
}

/// Which positions of a state with a row per position are read later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CacheKind {
    /// All.
    Context,
    /// The last ones: only attention with a window reads it.
    Window,
}

/// How many kinds there are: the length of a table by `kind as usize`.
pub const CACHE_KINDS: usize = 2;

impl CacheKind {
    /// Both, by number.
    pub const ALL: [Self; CACHE_KINDS] = [Self::Context, Self::Window];
}

/// The rows of a state, and with them the rule for going back to an earlier position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateRows {
    /// Row `p` belongs to position `p` and may be written again.
    Ctx,
    /// So many rows that each step rewrites from what they were: going back needs a snapshot. Position 0 starts from
    /// zeros, whatever is there.
    Recurrent(usize),
}

impl StateRows {
    /// Whether going back to an earlier position needs a snapshot.
    pub fn is_recurrent(self) -> bool {
        matches!(self, StateRows::Recurrent(_))
    }

    /// How many rows there are with a context of `n_ctx`.
    pub fn count(self, n_ctx: usize) -> usize {
        match self {
            StateRows::Ctx => n_ctx,
            StateRows::Recurrent(rows) => rows,
        }
    }
}

/// An op, the shape of its value (none for an effect), and the name of the value in hidden-state dumps.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it computes, with its operands.
    pub op: Op,
    /// `None` for an effect, such as [`Op::KvStore`].
    pub shape: Option<Shape>,
    /// Such as `blk.0.attn_out`.
    pub name: Option<String>,
}

/// A model: nodes in the order in which they run. Effects on states happen in that order.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// In the order in which the model reads them first.
    pub weights: Vec<Weight>,
    /// Caches and recurrent states.
    pub states: Vec<State>,
    /// Operands come before what reads them.
    pub nodes: Vec<Node>,
    /// What a step of [`Entry::Given`] gives back, where there is one: the nodes up to this one are its own.
    pub given: Option<ValueId>,
    /// The value that a step gives back: logits, `[outputs, vocab]`, or the last hidden states, `[outputs, d_model]`.
    pub output: ValueId,
    /// The same of the block for multi-token prediction, where there is one. The nodes after `output` are its own; those
    /// after this one run only for [`Entry::MtpChain`].
    pub mtp: Option<ValueId>,
}

/// Where a step enters the graph.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Entry {
    /// From the tokens of the step to the logits of the tokens after them.
    #[default]
    Trunk,
    /// Multi-token prediction. Row j takes what the trunk stored for position j, and as its token the one at position
    /// j + 1; its logits are those of the token at j + 2.
    Mtp,
    /// The same, and the block's result for each row of logits takes the place of what the trunk will store for the next
    /// position: so the block can go on from it before the trunk has run.
    MtpChain,
    /// The trunk once more, from rows that the step gives in place of those of its tokens' embeddings: those of images.
    Given,
}

/// How many entries there are.
pub(crate) const ENTRIES: usize = 4;

impl Entry {
    /// All, by number.
    pub(crate) const ALL: [Self; ENTRIES] = [Self::Trunk, Self::Mtp, Self::MtpChain, Self::Given];
}

/// The nodes that run from one entry, and the value that they give back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Indices into [`Graph::nodes`].
    pub nodes: Range<usize>,
    /// What a step gives back of the rows that are wanted.
    pub output: ValueId,
}

impl Graph {
    /// The node that makes a value.
    pub fn node(&self, v: ValueId) -> &Node {
        &self.nodes[v.index()]
    }

    /// The description of a weight; its bytes are the backend's.
    pub fn weight(&self, w: WeightId) -> &Weight {
        &self.weights[w.index()]
    }

    /// The description of a state.
    pub fn state(&self, s: StateId) -> &State {
        &self.states[s.index()]
    }

    /// The shape of a value.
    ///
    /// # Panics
    /// Where the node is an effect: `verify` refuses graphs that read one.
    pub fn shape(&self, v: ValueId) -> Shape {
        self.node(v).shape.expect("an effect has no value")
    }

    /// What runs from an entry; `None` where the model has no such part.
    pub fn part(&self, entry: Entry) -> Option<Part> {
        let start = self.given.map_or(0, |v| v.index() + 1);
        let end = if self.mtp.is_some() { self.output.index() + 1 } else { self.nodes.len() };
        match entry {
            Entry::Given => self.given.map(|output| Part { nodes: 0..start, output }),
            Entry::Trunk => Some(Part { nodes: start..end, output: self.output }),
            Entry::Mtp => self.mtp.map(|output| Part { nodes: end..output.index() + 1, output }),
            Entry::MtpChain => self.mtp.map(|output| Part { nodes: end..self.nodes.len(), output }),
        }
    }

    /// All parts, by the number of their entry.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        Entry::ALL.into_iter().filter_map(|e| self.part(e))
    }

    /// Columns of the rows that steps give; 0 where no op reads them.
    pub fn given_columns(&self) -> usize {
        let ends = self.nodes.iter().filter_map(|n| match n.op {
            Op::Given { start, len } => Some(start + len),
            _ => None,
        });
        ends.max().unwrap_or(0)
    }

    /// How many tokens there are: the rows of the first embedding; 0 without one.
    pub fn n_vocab(&self) -> usize {
        let rows = self.nodes.iter().find_map(|n| match n.op {
            Op::Embed { w, .. } => Some(self.weight(w).rows),
            _ => None,
        });
        rows.unwrap_or(0)
    }

    /// Columns of what a part gives back: logits, or hidden states.
    pub fn columns(&self, entry: Entry) -> usize {
        self.part(entry).map_or(0, |p| self.shape(p.output).cols)
    }

    /// Leaves only the first `n` tokens to the block for multi-token prediction, if there is one and its head is a matrix.
    #[must_use]
    pub fn with_mtp_vocab(mut self, n: usize) -> Self {
        let Some(node) = self.mtp.map(|v| &mut self.nodes[v.index()]) else { return self };
        if let (Op::MatMul { rows, .. }, Some(shape)) = (&mut node.op, &mut node.shape) {
            *rows = n.min(*rows);
            shape.cols = *rows;
        }
        self
    }

    /// The kind of a state with a row per position.
    pub fn cache_kind(&self, s: StateId) -> CacheKind {
        let mut kind = None;
        for n in &self.nodes {
            match &n.op {
                Op::Attention { k, v, attn, .. } if [*k, *v].contains(&s) => {
                    let of_op = if attn.window.is_some() { CacheKind::Window } else { CacheKind::Context };
                    kind = Some(kind.filter(|k| *k == CacheKind::Context).unwrap_or(of_op));
                }
                Op::KvLoad { state } if *state == s => kind = Some(CacheKind::Context),
                _ => {}
            }
        }
        kind.unwrap_or(CacheKind::Context)
    }

    /// Whether no token sees one after it in the steps of a part; true where there is no such part.
    pub fn is_causal(&self, entry: Entry) -> bool {
        let mut nodes = self.part(entry).into_iter().flat_map(|part| &self.nodes[part.nodes]);
        nodes.all(|n| !matches!(&n.op, Op::Attention { attn, .. } if !attn.causal))
    }

    /// How many positions back a token sees in the states of [`CacheKind::Window`]; `None` where there are none.
    pub fn window(&self) -> Option<usize> {
        let windows = self.nodes.iter().filter_map(|n| match &n.op {
            Op::Attention { attn, .. } => attn.window,
            _ => None,
        });
        windows.max()
    }

    /// The value with this name, such as `blk.0.attn_out`; of the trunk, where the part before it has one too.
    pub fn named(&self, name: &str) -> Option<ValueId> {
        let i = self.nodes.iter().rposition(|n| n.name.as_deref() == Some(name))?;
        Some(ValueId(i as u32))
    }
}
