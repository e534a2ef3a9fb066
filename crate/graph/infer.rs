//! The shape rule of each op. Refuses with the op, what it expects and what it got.

use super::ir::{Dim, Graph, Op, Shape};

/// The shape of the op's value, `None` for an effect.
pub fn infer(g: &Graph, op: &Op) -> Result<Option<Shape>, String> {
    let shape = |v| g.shape(v);
    let expect = |what: &str, want: usize, got: usize| {
        if want == got { Ok(()) } else { Err(format!("{}: {what} must be {want}, is {got}", op.name())) }
    };
    let same = |a: Shape, b: Shape| {
        if a == b { Ok(a) } else { Err(format!("{}: operands have shapes {a} and {b}", op.name())) }
    };
    let out = match op {
        Op::Embed { w, .. } => Shape { rows: Dim::Tokens, cols: g.weight(*w).cols },
        Op::MatMul { w, x } => {
            expect("columns of x", g.weight(*w).cols, shape(*x).cols)?;
            Shape { cols: g.weight(*w).rows, ..shape(*x) }
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
        Op::Rope { x, rope } => {
            expect("columns left over by d_head", 0, shape(*x).cols % rope.d_head)?;
            expect("n_rot modulo 2", 0, rope.n_rot % 2)?;
            if rope.n_rot > rope.d_head {
                return Err(format!("rope: n_rot {} is more than d_head {}", rope.n_rot, rope.d_head));
            }
            if let Some(freqs) = rope.freqs {
                expect("length of freqs", rope.n_rot / 2, g.weight(freqs).cols)?;
            }
            rows_are_tokens(op, shape(*x))?
        }
        Op::KvStore { x, state } => {
            expect("columns of x", g.state(*state).cols, shape(*x).cols)?;
            rows_are_tokens(op, shape(*x))?;
            return Ok(None);
        }
        Op::Attention { q, k, v, attn } => {
            expect("columns of q", attn.n_head * attn.d_head, shape(*q).cols)?;
            expect("columns of k", attn.n_kv_head * attn.d_head, g.state(*k).cols)?;
            expect("columns of v", attn.n_kv_head * attn.d_head, g.state(*v).cols)?;
            expect("query heads left over by the kv heads", 0, attn.n_head % attn.n_kv_head)?;
            rows_are_tokens(op, shape(*q))?
        }
        Op::Add { a, b } => same(shape(*a), shape(*b))?,
        Op::Glu { gate, up, .. } => same(shape(*gate), shape(*up))?,
        Op::Softcap { x, .. } => shape(*x),
        Op::LastRows { x } => Shape { rows: Dim::Outputs, ..rows_are_tokens(op, shape(*x))? },
    };
    Ok(Some(out))
}

/// Positions belong to the rows of a whole step only.
fn rows_are_tokens(op: &Op, s: Shape) -> Result<Shape, String> {
    if s.rows == Dim::Tokens { Ok(s) } else { Err(format!("{}: rows must be tokens, shape is {s}", op.name())) }
}
