//! The ops, the graph, and its text form, which every dump and snapshot uses.

use std::fmt;

use crate::dtype::DType;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident, $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
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
    pub rows: Dim,
    pub cols: usize,
}

/// A packed matrix from the file: `rows` rows of `cols` values, `y = W x` is one dot product per row.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    pub name: String,
    pub dtype: DType,
    pub rows: usize,
    pub cols: usize,
}

impl Weight {
    /// Bytes of one packed row.
    pub fn row_bytes(&self) -> usize {
        self.dtype.row_bytes(self.cols).expect("the reader refuses rows that are no whole number of blocks")
    }

    /// Bytes of the packed matrix.
    pub fn bytes(&self) -> usize {
        self.rows * self.row_bytes()
    }
}

/// What lives from step to step: rows of keys or values, row `p` for position `p`.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    pub name: String,
    pub cols: usize,
}

/// The gate of a gated linear unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// x * sigmoid(x).
    Silu,
    /// GELU in its tanh form, <https://arxiv.org/abs/1606.08415>.
    GeluTanh,
}

/// Which two numbers of a head one angle rotates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// (2i, 2i + 1).
    Adjacent,
    /// (i, i + n_rot / 2).
    Halves,
}

/// Rotary position embedding, <https://arxiv.org/abs/2104.09864>: angle i of position p is
/// `p * scale * base^(-2i / n_rot)`, divided by `freqs[i]` where that weight is given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    pub d_head: usize,
    /// How many numbers at the start of a head are rotated.
    pub n_rot: usize,
    pub pairs: RopePairs,
    pub base: f32,
    /// Factor on the position (linear scaling by s is 1 / s).
    pub scale: f32,
    pub freqs: Option<WeightId>,
}

/// Causal attention of the step's queries over the rows stored so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    pub n_head: usize,
    pub n_kv_head: usize,
    pub d_head: usize,
    /// Factor on q . k.
    pub scale: f32,
    /// A query at p sees keys with p - k < window.
    pub window: Option<usize>,
    /// Scores become `cap * tanh(score / cap)`.
    pub softcap: Option<f32>,
}

/// One operation. Weights, states and values are operands; all else is a constant of the model.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Row `token` of `w` for each token of the step, times `scale`.
    Embed {
        w: WeightId,
        scale: f32,
    },
    /// `W x` for each row of x.
    MatMul {
        w: WeightId,
        x: ValueId,
    },
    /// Adds the one row of `b` to each row.
    AddBias {
        x: ValueId,
        b: WeightId,
    },
    /// `x / sqrt(mean(x^2) + eps) * w`, <https://arxiv.org/abs/1910.07467>, over each run of `w.cols` values.
    RmsNorm {
        x: ValueId,
        w: WeightId,
        eps: f32,
    },
    Rope {
        x: ValueId,
        rope: Rope,
    },
    /// Writes the rows of x into a state at the step's positions. Makes no value.
    KvStore {
        x: ValueId,
        state: StateId,
    },
    Attention {
        q: ValueId,
        k: StateId,
        v: StateId,
        attn: Attention,
    },
    Add {
        a: ValueId,
        b: ValueId,
    },
    /// `act(gate) * up`.
    Glu {
        gate: ValueId,
        up: ValueId,
        act: Act,
    },
    /// `cap * tanh(x / cap)`.
    Softcap {
        x: ValueId,
        cap: f32,
    },
    /// The last rows of x: those for which logits are wanted.
    LastRows {
        x: ValueId,
    },
}

impl Op {
    /// The one name of the op: kernel file, shader, test case and profile label carry it too.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Embed { .. } => "embed",
            Op::MatMul { .. } => "matmul",
            Op::AddBias { .. } => "add_bias",
            Op::RmsNorm { .. } => "rms_norm",
            Op::Rope { .. } => "rope",
            Op::KvStore { .. } => "kv_store",
            Op::Attention { .. } => "attention",
            Op::Add { .. } => "add",
            Op::Glu { .. } => "glu",
            Op::Softcap { .. } => "softcap",
            Op::LastRows { .. } => "last_rows",
        }
    }

    /// The values that the op reads.
    pub fn operands(&self) -> impl Iterator<Item = ValueId> {
        let (a, b) = match *self {
            Op::Embed { .. } => (None, None),
            Op::MatMul { x, .. }
            | Op::AddBias { x, .. }
            | Op::RmsNorm { x, .. }
            | Op::Rope { x, .. }
            | Op::KvStore { x, .. }
            | Op::Softcap { x, .. }
            | Op::LastRows { x } => (Some(x), None),
            Op::Attention { q, .. } => (Some(q), None),
            Op::Add { a, b } => (Some(a), Some(b)),
            Op::Glu { gate, up, .. } => (Some(gate), Some(up)),
        };
        a.into_iter().chain(b)
    }

    /// The weights that the op reads.
    pub fn weights(&self) -> impl Iterator<Item = WeightId> {
        match *self {
            Op::Embed { w, .. } | Op::MatMul { w, .. } | Op::RmsNorm { w, .. } => Some(w),
            Op::AddBias { b, .. } => Some(b),
            Op::Rope { rope, .. } => rope.freqs,
            _ => None,
        }
        .into_iter()
    }
}

/// An op, the shape of its value (none for an effect), and the name of the value in hidden-state dumps.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub op: Op,
    pub shape: Option<Shape>,
    pub name: Option<String>,
}

/// A model: nodes in the order in which they run. Effects on states happen in that order.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    pub weights: Vec<Weight>,
    pub states: Vec<State>,
    pub nodes: Vec<Node>,
    /// The value that a step gives back: `[outputs, vocab]`.
    pub output: ValueId,
}

impl Graph {
    pub fn node(&self, v: ValueId) -> &Node {
        &self.nodes[v.index()]
    }

    pub fn weight(&self, w: WeightId) -> &Weight {
        &self.weights[w.index()]
    }

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

    pub fn n_vocab(&self) -> usize {
        self.shape(self.output).cols
    }

    /// The value with this name, such as `blk.0.attn_out`.
    pub fn named(&self, name: &str) -> Option<ValueId> {
        let i = self.nodes.iter().position(|n| n.name.as_deref() == Some(name))?;
        Some(ValueId(i as u32))
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dim::Tokens => "tokens",
            Dim::Outputs => "outputs",
        })
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {}]", self.rows, self.cols)
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for s in &self.states {
            writeln!(f, "state {} [ctx, {}]", s.name, s.cols)?;
        }
        for (i, node) in self.nodes.iter().enumerate() {
            let v = ValueId(i as u32);
            match node.shape {
                Some(shape) => write!(f, "{v}: {shape} = ")?,
                None => f.write_str("   ")?,
            }
            self.fmt_op(f, &node.op)?;
            match &node.name {
                Some(name) => writeln!(f, "  ; {name}")?,
                None => writeln!(f)?,
            }
        }
        writeln!(f, "output {}", self.output)
    }
}

impl Graph {
    fn fmt_op(&self, f: &mut fmt::Formatter<'_>, op: &Op) -> fmt::Result {
        f.write_str(op.name())?;
        for x in op.operands() {
            write!(f, " {x}")?;
        }
        for w in op.weights() {
            let w = self.weight(w);
            write!(f, " {}:{}[{}, {}]", w.name, w.dtype, w.rows, w.cols)?;
        }
        match op {
            Op::Embed { scale, .. } => write!(f, " scale={scale}"),
            Op::RmsNorm { eps, .. } => write!(f, " eps={eps}"),
            Op::Rope { rope: r, .. } => {
                write!(f, " d_head={} n_rot={} {:?} base={} scale={}", r.d_head, r.n_rot, r.pairs, r.base, r.scale)
            }
            Op::KvStore { state, .. } => write!(f, " {}", self.state(*state).name),
            Op::Attention { k, v, attn: a, .. } => {
                write!(f, " {} {}", self.state(*k).name, self.state(*v).name)?;
                write!(f, " heads={}/{} d_head={} scale={}", a.n_head, a.n_kv_head, a.d_head, a.scale)?;
                a.window.map_or(Ok(()), |w| write!(f, " window={w}"))?;
                a.softcap.map_or(Ok(()), |c| write!(f, " softcap={c}"))
            }
            Op::Glu { act, .. } => write!(f, " {act:?}"),
            Op::Softcap { cap, .. } => write!(f, " cap={cap}"),
            Op::MatMul { .. } | Op::AddBias { .. } | Op::Add { .. } | Op::LastRows { .. } => Ok(()),
        }
    }
}
