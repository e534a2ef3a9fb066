//! The gated feed-forward network, <https://arxiv.org/abs/2002.05202>.

use crate::arch::{Config, ModelBuilder};
use crate::graph::{Act, ValueId};

/// `down(act(gate x) * up x)`.
pub(crate) fn ffn(d: &mut ModelBuilder<'_>, c: &Config, layer: usize, x: ValueId, act: Act) -> ValueId {
    gated(d, c, &format!("blk.{layer}"), "", c.d_ff, x, act)
}

/// The same, with a suffix to the names of its tensors and a width of its own.
pub(super) fn gated(
    d: &mut ModelBuilder<'_>,
    c: &Config,
    prefix: &str,
    suffix: &str,
    d_ff: usize,
    x: ValueId,
    act: Act,
) -> ValueId {
    let gate = d.matrix(&format!("{prefix}.ffn_gate{suffix}.weight"), c.d_model, d_ff);
    let up = d.matrix(&format!("{prefix}.ffn_up{suffix}.weight"), c.d_model, d_ff);
    let down = d.matrix(&format!("{prefix}.ffn_down{suffix}.weight"), d_ff, c.d_model);
    let gate = d.g.matmul(gate, x); // [tokens, d_ff]
    let up = d.g.matmul(up, x);
    let h = d.g.glu(gate, up, act);
    d.g.matmul(down, h)
}
