//! The gated feed-forward network, <https://arxiv.org/abs/2002.05202>.

use crate::arch::{Config, Describe};
use crate::graph::{Act, ValueId};

/// `down(act(gate x) * up x)`.
pub fn ffn(d: &mut Describe<'_>, c: &Config, layer: usize, x: ValueId, act: Act) -> ValueId {
    let gate = d.matrix(&format!("blk.{layer}.ffn_gate.weight"), c.d_model, c.d_ff);
    let up = d.matrix(&format!("blk.{layer}.ffn_up.weight"), c.d_model, c.d_ff);
    let down = d.matrix(&format!("blk.{layer}.ffn_down.weight"), c.d_ff, c.d_model);
    let gate = d.matmul(gate, x); // [tokens, d_ff]
    let up = d.matmul(up, x);
    let h = d.glu(gate, up, act);
    d.matmul(down, h)
}
