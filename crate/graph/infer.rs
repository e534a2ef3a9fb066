//! The shape rule of each op. Refuses with the op, what it expects and what it got.

use super::fused::Post;
use super::ir::{Dim, Graph, Shape, StateId, StateRows};
use super::op::{Delta, Op};
use super::rope::RopeAxes;

/// The shape of the op's value, `None` for an effect.
pub(super) fn infer(g: &Graph, op: &Op) -> Result<Option<Shape>, String> {
    let shape = |v| g.shape(v);
    let expect = |what: &str, want: usize, got: usize| {
        if want == got { Ok(()) } else { Err(format!("{}: {what} must be {want}, is {got}", op.name())) }
    };
    let same = |a: Shape, b: Shape| {
        if a == b { Ok(a) } else { Err(format!("{}: operands have shapes {a} and {b}", op.name())) }
    };
    let out = match op {
        Op::Embed { w, .. } => Shape { rows: Dim::Tokens, cols: g.weight(*w).cols },
        Op::Given { len: 0, .. } => return Err("given: there must be columns".to_string()),
        Op::Given { len, .. } => Shape { rows: Dim::Tokens, cols: *len },
        Op::Blend { w, x, all } => {
            if *all {
                expect("columns of x", g.weight(*w).rows, shape(*x).cols)?;
            } else {
                expect("columns of x modulo 2", 0, shape(*x).cols % 2)?;
            }
            Shape { cols: g.weight(*w).cols, ..shape(*x) }
        }
        Op::MatMul { w, x, rows } => {
            if !(1..=g.weight(*w).rows).contains(rows) {
                return Err(format!("matmul: there are {} rows, not {rows}", g.weight(*w).rows));
            }
            expect("columns of x", g.weight(*w).cols, shape(*x).cols)?;
            Shape { cols: *rows, ..shape(*x) }
        }
        Op::AddBias { x, b } => {
            expect("rows of the bias", 1, g.weight(*b).rows)?;
            expect("length of the bias", shape(*x).cols, g.weight(*b).cols)?;
            shape(*x)
        }
        Op::RmsNorm { x, w, .. } => {
            expect("rows of the weight", 1, g.weight(*w).rows)?;
            expect("columns left over by the weight's length", 0, shape(*x).cols % g.weight(*w).cols)?;
            shape(*x)
        }
        Op::LayerNorm { x, w, b, .. } => {
            for w in [w, b] {
                expect("rows of the weight", 1, g.weight(*w).rows)?;
                expect("length of the weight", shape(*x).cols, g.weight(*w).cols)?;
            }
            shape(*x)
        }
        Op::Rope { x, rope } => {
            expect("columns left over by d_head", 0, shape(*x).cols % rope.d_head)?;
            expect("n_rot modulo 2", 0, rope.n_rot % 2)?;
            if rope.n_rot > rope.d_head {
                return Err(format!("rope: n_rot {} is more than d_head {}", rope.n_rot, rope.d_head));
            }
            if let RopeAxes::Grid { square } = rope.axes {
                expect("n_rot modulo 4", 0, rope.n_rot % 4)?;
                expect("empty squares", 0, usize::from(square == 0))?;
            }
            if let Some(freqs) = rope.freqs {
                expect("length of freqs", rope.n_rot / 2, g.weight(freqs).cols)?;
            }
            rows_are_tokens(op, shape(*x))?
        }
        Op::KvStore { x, state } | Op::KvStoreNext { x, state } => {
            expect("columns of x", g.state(*state).cols, shape(*x).cols)?;
            if g.state(*state).rows != StateRows::Ctx {
                return Err(format!("{}: the state must have a row for each position", op.name()));
            }
            if matches!(op, Op::KvStore { .. }) {
                rows_are_tokens(op, shape(*x))?;
            } else if shape(*x).rows != Dim::Outputs {
                return Err(format!("kv_store_next: rows must be outputs, shape is {}", shape(*x)));
            }
            return Ok(None);
        }
        Op::KvLoad { state } => {
            if g.state(*state).rows != StateRows::Ctx {
                return Err("kv_load: the state must have a row for each position".to_string());
            }
            Shape { rows: Dim::Tokens, cols: g.state(*state).cols }
        }
        Op::Attention { q, k, v, gate, attn } => {
            gate.map_or(Ok(shape(*q)), |gate| same(shape(*q), shape(gate)))?;
            expect("columns of q", attn.n_head * attn.d_head, shape(*q).cols)?;
            expect("columns of k", attn.n_kv_head * attn.d_head, g.state(*k).cols)?;
            expect("columns of v", attn.n_kv_head * attn.d_head, g.state(*v).cols)?;
            expect("query heads left over by the kv heads", 0, attn.n_head % attn.n_kv_head)?;
            rows_are_tokens(op, shape(*q))?
        }
        Op::Add { a, b } => same(shape(*a), shape(*b))?,
        Op::Concat { a, b } => {
            let (a, b) = (shape(*a), shape(*b));
            same(Shape { cols: b.cols, ..a }, b)?;
            Shape { cols: a.cols + b.cols, ..a }
        }
        Op::Glu { gate, up, .. } => same(shape(*gate), shape(*up))?,
        Op::Activate { x, .. } | Op::Softcap { x, .. } => shape(*x),
        Op::SigmoidGate { x, gate } => {
            if shape(*gate).cols == 1 {
                same(shape(*x), Shape { cols: shape(*x).cols, ..shape(*gate) })?
            } else {
                same(shape(*x), shape(*gate))?
            }
        }
        Op::Slice { x, group, start, len } => {
            expect("columns left over by the group", 0, shape(*x).cols % group)?;
            if start + len > *group || *len == 0 {
                return Err(format!("slice: {start} + {len} columns are not inside a group of {group}"));
            }
            Shape { cols: shape(*x).cols / group * len, ..shape(*x) }
        }
        Op::L2Norm { x, d_head, .. } => {
            expect("columns left over by d_head", 0, shape(*x).cols % d_head)?;
            shape(*x)
        }
        Op::SsmConv { x, w, state } => {
            expect("rows of the weight", shape(*x).cols, g.weight(*w).rows)?;
            expect("columns of the state", shape(*x).cols, g.state(*state).cols)?;
            recurrent(g, op, *state, g.weight(*w).cols - 1)?;
            rows_are_tokens(op, shape(*x))?
        }
        Op::DeltaRule { q, k, v, alpha, beta, a, dt, state, delta, norm: _ } => {
            let Delta { n_k_head, n_v_head, d_head } = *delta;
            expect("value heads left over by the key heads", 0, n_v_head % n_k_head)?;
            expect("columns of q", n_k_head * d_head, shape(*q).cols)?;
            expect("columns of k", n_k_head * d_head, shape(*k).cols)?;
            expect("columns of v", n_v_head * d_head, shape(*v).cols)?;
            expect("columns of alpha", n_v_head, shape(*alpha).cols)?;
            expect("columns of beta", n_v_head, shape(*beta).cols)?;
            expect("length of a", n_v_head, g.weight(*a).cols)?;
            expect("length of dt", n_v_head, g.weight(*dt).cols)?;
            expect("columns of the state", d_head, g.state(*state).cols)?;
            recurrent(g, op, *state, n_v_head * d_head)?;
            rows_are_tokens(op, shape(*v))?
        }
        Op::MoeRoute { x, n_used, renormalise: _ } => {
            if *n_used == 0 || *n_used > shape(*x).cols {
                return Err(format!("moe_route: {n_used} experts of {}", shape(*x).cols));
            }
            Shape { cols: 2 * n_used, ..shape(*x) }
        }
        Op::MoeMatMul { w, x, route, n_expert } => {
            let (n_used, cols) = (shape(*route).cols / 2, g.weight(*w).cols);
            expect("rows left over by the experts", 0, g.weight(*w).rows % n_expert)?;
            if shape(*x).cols != cols {
                expect("columns of x", n_used * cols, shape(*x).cols)?;
            }
            Shape { cols: n_used * (g.weight(*w).rows / n_expert), ..shape(*x) }
        }
        Op::MoeSum { x, route } => {
            let n_used = shape(*route).cols / 2;
            expect("columns left over by the experts used", 0, shape(*x).cols % n_used)?;
            Shape { cols: shape(*x).cols / n_used, ..shape(*x) }
        }
        Op::LastRows { x } => Shape { rows: Dim::Outputs, ..rows_are_tokens(op, shape(*x))? },
        Op::Group { x, n } => Shape { rows: Dim::Outputs, cols: n * rows_are_tokens(op, shape(*x))?.cols },
        Op::NormAdd { x, y, w, .. } => {
            expect("length of the weight", shape(*x).cols, g.weight(*w).cols)?;
            same(shape(*x), shape(*y))?
        }
        // What they are made of was checked before they were made.
        Op::RopeStore(p) => rows_are_tokens(op, shape(p.q))?,
        Op::FusedMatMul(p) => {
            let rows: usize = p.parts.iter().map(|p| g.weight(p.w).rows).sum();
            let n = p.experts.map_or(1, |e| e.n);
            let used = p.experts.map_or(1, |e| shape(e.route).cols / 2);
            let cols = match p.post {
                Post::None => used * rows / n,
                Post::Glu(_) => used * rows / n / 2,
                Post::Add { to, .. } => {
                    expect("columns of the sum", shape(to).cols, rows / n)?;
                    rows / n
                }
            };
            Shape { cols, ..shape(p.x) }
        }
    };
    Ok(Some(out))
}

/// Positions belong to the rows of a whole step only.
fn rows_are_tokens(op: &Op, s: Shape) -> Result<Shape, String> {
    if s.rows == Dim::Tokens { Ok(s) } else { Err(format!("{}: rows must be tokens, shape is {s}", op.name())) }
}

fn recurrent(g: &Graph, op: &Op, state: StateId, rows: usize) -> Result<(), String> {
    match g.state(state).rows {
        StateRows::Recurrent(n) if n == rows => Ok(()),
        other => Err(format!("{}: the state must be recurrent with {rows} rows, is {other:?}", op.name())),
    }
}
