//! The text form of a graph, which every dump and snapshot uses.

use std::fmt;

use super::fused::{Post, Pre};
use super::ir::{Dim, Graph, Shape, StateRows, ValueId};
use super::op::Op;
use super::rope::RopeAxes;

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
            match s.rows {
                StateRows::Ctx => writeln!(f, "state {} [ctx, {}]", s.name, s.cols)?,
                StateRows::Recurrent(rows) => writeln!(f, "state {} [{rows}, {}] recurrent", s.name, s.cols)?,
            }
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
        self.given.map_or(Ok(()), |given| writeln!(f, "given {given}"))?;
        writeln!(f, "output {}", self.output)?;
        self.mtp.map_or(Ok(()), |mtp| writeln!(f, "mtp {mtp}"))
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
            Op::Given { start, len } => write!(f, " start={start} len={len}"),
            Op::RmsNorm { eps, .. } | Op::LayerNorm { eps, .. } => write!(f, " eps={eps}"),
            Op::Rope { rope: r, .. } => {
                write!(f, " d_head={} n_rot={} {:?} base={} scale={}", r.d_head, r.n_rot, r.pairs, r.base, r.scale)?;
                if r.axes == RopeAxes::Time { Ok(()) } else { write!(f, " {:?}", r.axes) }
            }
            Op::KvStore { state, .. } | Op::KvStoreNext { state, .. } | Op::KvLoad { state } => {
                write!(f, " {}", self.state(*state).name)
            }
            Op::Attention { k, v, attn: a, .. } => {
                write!(f, " {} {}", self.state(*k).name, self.state(*v).name)?;
                write!(f, " heads={}/{} d_head={} scale={}", a.n_head, a.n_kv_head, a.d_head, a.scale)?;
                a.window.map_or(Ok(()), |w| write!(f, " window={w}"))?;
                if !a.causal {
                    f.write_str(" both sides")?;
                }
                a.softcap.map_or(Ok(()), |c| write!(f, " softcap={c}"))
            }
            Op::Activate { act, .. } | Op::Glu { act, .. } => write!(f, " {act:?}"),
            Op::Group { n, .. } => write!(f, " n={n}"),
            Op::Softcap { cap, .. } => write!(f, " cap={cap}"),
            Op::Slice { group, start, len, .. } => write!(f, " group={group} start={start} len={len}"),
            Op::L2Norm { d_head, eps, scale, .. } => write!(f, " d_head={d_head} eps={eps} scale={scale}"),
            Op::SsmConv { state, .. } => write!(f, " {}", self.state(*state).name),
            Op::DeltaRule { state, delta: d, norm, .. } => {
                write!(f, " {} heads={}/{} d_head={}", self.state(*state).name, d.n_v_head, d.n_k_head, d.d_head)?;
                norm.map_or(Ok(()), |n| write!(f, " norm={}/{} eps={}", n.q_scale, n.k_scale, n.eps))
            }
            Op::NormAdd { eps, .. } => write!(f, " eps={eps}"),
            Op::RopeStore(p) => {
                write!(f, " {} {}", self.state(p.keys).name, self.state(p.values).name)?;
                p.norms.map_or(Ok(()), |_| write!(f, " eps={}", p.eps))
            }
            Op::FusedMatMul(p) => {
                match p.pre {
                    Pre::None => {}
                    Pre::Norm { eps, .. } => write!(f, " norm eps={eps}")?,
                    Pre::GatedNorm { eps, act, .. } => write!(f, " gated norm {act:?} eps={eps}")?,
                }
                match p.post {
                    Post::None => {}
                    Post::Glu(act) => write!(f, " {act:?}")?,
                    Post::Add { .. } => write!(f, " add")?,
                }
                p.experts.map_or(Ok(()), |e| write!(f, " n_expert={}", e.n))
            }
            Op::MoeRoute { n_used, renormalise, .. } => {
                write!(f, " n_used={n_used}")?;
                if *renormalise { Ok(()) } else { write!(f, " raw shares") }
            }
            Op::MoeMatMul { n_expert, .. } => write!(f, " n_expert={n_expert}"),
            Op::MatMul { w, rows, .. } if *rows < self.weight(*w).rows => write!(f, " rows={rows}"),
            Op::Blend { all: true, .. } => f.write_str(" all"),
            Op::Blend { .. }
            | Op::MatMul { .. }
            | Op::AddBias { .. }
            | Op::Add { .. }
            | Op::Concat { .. }
            | Op::SigmoidGate { .. }
            | Op::MoeSum { .. }
            | Op::LastRows { .. } => Ok(()),
        }
    }
}
