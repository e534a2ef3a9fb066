//! What fused ops are made of.

use std::collections::HashMap;

use super::builder::Builder;
use super::fused::{FusedMatMul, Post, Pre, RopeStore, Term};
use super::ir::{Graph, ValueId};
use super::op::Op;

/// The same graph without the ops that passes make: the meaning of those ops.
///
/// # Panics
/// Where a fused matmul of several parts is read otherwise than by slices of its parts: no pass makes that.
pub fn expand(g: &Graph) -> Graph {
    let mut e = Expand { g, b: Builder::over(g), new: Vec::with_capacity(g.nodes.len()), parts: HashMap::new() };
    for (i, node) in g.nodes.iter().enumerate() {
        let v = e.node(ValueId(i as u32), &node.op);
        e.new.push(v);
        if let (Some(name), Some(v)) = (&node.name, v) {
            e.b.name(v, name);
        }
        if let (true, Some(v)) = (g.given == Some(ValueId(i as u32)), v) {
            e.b.end_given(v);
        }
        if let (true, Some(_), Some(v)) = (i == g.output.index(), g.mtp, v) {
            e.b.end_trunk(v);
        }
    }
    let output = e.value(g.mtp.unwrap_or(g.output));
    e.b.finish(output)
}

struct Expand<'a> {
    g: &'a Graph,
    b: Builder,
    /// The value that stands for each node; none for a fused matmul of several parts.
    new: Vec<Option<ValueId>>,
    /// The parts of those, by the node and the first column.
    parts: HashMap<(ValueId, usize), ValueId>,
}

impl Expand<'_> {
    fn value(&self, old: ValueId) -> ValueId {
        self.new[old.index()].unwrap_or_else(|| panic!("{old} has parts, and is read as a whole\n{}", self.g))
    }

    fn node(&mut self, v: ValueId, op: &Op) -> Option<ValueId> {
        match op {
            Op::FusedMatMul(p) => self.fused_matmul(v, p),
            Op::RopeStore(p) => Some(self.rope_store(p)),
            Op::NormAdd { x, y, w, eps } => {
                let y = self.b.rms_norm(self.value(*y), *w, *eps);
                Some(self.b.add(self.value(*x), y))
            }
            Op::Slice { x, start, .. } if self.parts.contains_key(&(*x, *start)) => {
                let part = self.parts[&(*x, *start)];
                assert_eq!(self.b.cols(part), self.g.shape(v).cols, "{v} is not a whole part\n{}", self.g);
                Some(part)
            }
            Op::Attention { gate: Some(gate), .. } => {
                let mut plain = op.clone();
                if let Op::Attention { gate, .. } = &mut plain {
                    *gate = None;
                }
                let o = self.copy(plain);
                Some(self.b.sigmoid_gate(o, self.value(*gate)))
            }
            Op::DeltaRule { norm: Some(n), delta, q, k, .. } => {
                let (q, k) = (self.value(*q), self.value(*k));
                let normed_q = self.b.l2_norm(q, delta.d_head, n.eps, n.q_scale);
                let normed_k = self.b.l2_norm(k, delta.d_head, n.eps, n.k_scale);
                let mut plain = op.clone();
                plain.map_operands(|v| *v = self.value(*v));
                if let Op::DeltaRule { q, k, norm, .. } = &mut plain {
                    (*q, *k, *norm) = (normed_q, normed_k, None);
                }
                Some(self.b.op(plain))
            }
            _ => Some(self.copy(op.clone())),
        }
    }

    fn copy(&mut self, mut op: Op) -> ValueId {
        op.map_operands(|v| *v = self.value(*v));
        self.b.op(op)
    }

    fn fused_matmul(&mut self, v: ValueId, p: &FusedMatMul) -> Option<ValueId> {
        let x = self.value(p.x);
        let x = match p.pre {
            Pre::None => x,
            Pre::Norm { w, eps } => self.b.rms_norm(x, w, eps),
            Pre::GatedNorm { w, eps, gate, act } => {
                let normed = self.b.rms_norm(x, w, eps);
                self.b.glu(self.value(gate), normed, act)
            }
        };
        let products: Vec<ValueId> = p.parts.iter().map(|part| self.product(x, p, part)).collect();
        match (p.post, &products[..]) {
            (Post::Glu(act), [gate, up]) => Some(self.b.glu(*gate, *up, act)),
            (Post::Add { to, gate }, [y]) => {
                let y = p.experts.map_or(*y, |e| self.b.moe_sum(*y, self.value(e.route)));
                let y = gate.map_or(y, |gate| self.b.sigmoid_gate(y, self.value(gate)));
                Some(self.b.add(self.value(to), y))
            }
            (Post::None, [y]) => Some(*y),
            (Post::None, all) => {
                let mut at = 0;
                for y in all {
                    self.parts.insert((v, at), *y);
                    at += self.b.cols(*y);
                }
                None
            }
            (post, all) => panic!("{post:?} of {} parts\n{}", all.len(), self.g),
        }
    }

    fn product(&mut self, x: ValueId, p: &FusedMatMul, part: &Term) -> ValueId {
        let y = match p.experts {
            Some(e) => self.b.moe_matmul(part.w, x, self.value(e.route), e.n),
            None => self.b.matmul(part.w, x),
        };
        part.bias.map_or(y, |b| self.b.add_bias(y, b))
    }

    fn rope_store(&mut self, p: &RopeStore) -> ValueId {
        let [mut q, mut k, v] = [p.q, p.k, p.v].map(|v| self.value(v));
        if let Some([of_q, of_k]) = p.norms {
            q = self.b.rms_norm(q, of_q, p.eps);
            k = self.b.rms_norm(k, of_k, p.eps);
        }
        let (q, k) = (self.b.rope(q, p.rope), self.b.rope(k, p.rope));
        self.b.kv_store(k, p.keys);
        self.b.kv_store(v, p.values);
        q
    }
}
