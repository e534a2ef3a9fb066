//! The layers of an encoder: pre-norm, with biases, each token seeing all others (<https://arxiv.org/abs/2010.11929>).

use crate::arch::ModelBuilder;
use crate::graph::{Act, Attention, Rope, StateId, ValueId};

/// The variant of an encoder.
#[derive(Clone, Debug)]
pub(crate) struct EncoderSpec {
    pub d_model: usize,
    pub d_ff: usize,
    pub act: Act,
    /// By row and column; without it, only what is added to the patches says where they are.
    pub rope: Option<Rope>,
    pub attn: Attention,
    /// Of the norms.
    pub eps: f32,
}

/// `W x + b`.
pub(crate) fn linear(d: &mut ModelBuilder<'_>, name: &str, d_in: usize, d_out: usize, x: ValueId) -> ValueId {
    let w = d.matrix(&format!("{name}.weight"), d_in, d_out);
    let b = d.vector(&format!("{name}.bias"), d_out);
    let y = d.g.matmul(w, x);
    d.g.add_bias(y, b)
}

/// A norm with a mean, over rows of `len` values.
pub(crate) fn layer_norm(d: &mut ModelBuilder<'_>, name: &str, len: usize, eps: f32, x: ValueId) -> ValueId {
    let w = d.vector(&format!("{name}.weight"), len);
    let b = d.vector(&format!("{name}.bias"), len);
    d.g.layer_norm(x, w, b, eps)
}

/// One layer, with its residuals: `x += out(attention(ln1 x)); x += down(act(up(ln2 x)))`. Files have q, k and v in one matrix or
/// apart, and the first ones of `gemma3` call up down.
/// Keys and values are kept for one layer only: an image is one step, and no layer reads those of another one.
pub(crate) fn encoder_layer(
    d: &mut ModelBuilder<'_>,
    i: usize,
    x: ValueId,
    [keys, values]: [StateId; 2],
    spec: &EncoderSpec,
) -> ValueId {
    let EncoderSpec { d_model, d_ff, eps, .. } = *spec;
    let name = |part: &str| format!("v.blk.{i}.{part}");
    let h = layer_norm(d, &name("ln1"), d_model, eps, x);
    let [q, k, v] = if d.has(&name("attn_q.weight")) {
        ["attn_q", "attn_k", "attn_v"].map(|part| linear(d, &name(part), d_model, d_model, h))
    } else {
        let qkv = linear(d, &name("attn_qkv"), d_model, 3 * d_model, h);
        [0, 1, 2].map(|part| d.g.slice(qkv, 3 * d_model, part * d_model, d_model))
    };
    let [q, k] = [q, k].map(|x| spec.rope.map_or(x, |rope| d.g.rope(x, rope)));
    d.g.kv_store(k, keys);
    d.g.kv_store(v, values);
    let o = d.g.attention(q, keys, values, spec.attn);
    let o = linear(d, &name("attn_out"), d_model, d_model, o);
    let x = d.g.add(x, o);
    let h = layer_norm(d, &name("ln2"), d_model, eps, x);
    let mut names = ["ffn_up", "ffn_down"];
    if d_ff != d_model && d.row_len(&name("ffn_up.weight")) == Some(d_ff as u64) {
        names.reverse();
    }
    let h = linear(d, &name(names[0]), d_model, d_ff, h);
    let h = d.g.activate(h, spec.act);
    let h = linear(d, &name(names[1]), d_ff, d_model, h);
    let x = d.g.add(x, h);
    d.g.name(x, name("out"));
    x
}
