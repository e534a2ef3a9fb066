//! Attention with grouped query heads, <https://arxiv.org/abs/2305.13245>.

use crate::arch::{Config, ModelBuilder};
use crate::graph::{Attention, Rope, ValueId};

/// The variant of attention in one layer.
#[derive(Clone, Debug)]
pub(crate) struct AttnSpec {
    /// q, k and v have biases.
    pub qkv_bias: bool,
    /// q and k are RMS-normed per head before they are rotated.
    pub qk_norm: bool,
    /// Each head of q has a second half, whose sigmoid gates the head's result.
    pub gated: bool,
    pub rope: Rope,
    pub attn: Attention,
}

impl AttnSpec {
    /// Full causal attention, scores scaled by 1 / sqrt(d_head).
    pub(crate) fn causal(c: &Config, rope: Rope) -> Self {
        let scale = 1.0 / (c.d_head as f32).sqrt();
        let (n_head, n_kv_head, d_head) = (c.n_head, c.n_kv_head, c.d_head);
        Self {
            qkv_bias: false,
            qk_norm: false,
            gated: false,
            rope,
            attn: Attention { n_head, n_kv_head, d_head, scale, causal: true, window: None, softcap: None },
        }
    }
}

/// `x` is the normed input, `[tokens, d_model]`; so is the result, after the output projection.
pub(crate) fn attention(d: &mut ModelBuilder<'_>, c: &Config, layer: usize, x: ValueId, spec: &AttnSpec) -> ValueId {
    let (d_q, d_kv) = (c.n_head * c.d_head, c.n_kv_head * c.d_head);
    let mut project = |name: &str, d_out: usize| {
        let w = d.matrix(&format!("blk.{layer}.{name}.weight"), c.d_model, d_out);
        let y = d.g.matmul(w, x); // [tokens, d_out]
        if !spec.qkv_bias {
            return y;
        }
        let b = d.vector(&format!("blk.{layer}.{name}.bias"), d_out);
        d.g.add_bias(y, b)
    };
    let q = project("attn_q", if spec.gated { 2 * d_q } else { d_q });
    let k = project("attn_k", d_kv);
    let v = project("attn_v", d_kv);
    let (q, gate) = if spec.gated {
        let d_head = c.d_head;
        (d.g.slice(q, 2 * d_head, 0, d_head), Some(d.g.slice(q, 2 * d_head, d_head, d_head)))
    } else {
        (q, None)
    };
    let mut place = |name: &str, x: ValueId| {
        let x = if spec.qk_norm {
            let norm = d.vector(&format!("blk.{layer}.{name}_norm.weight"), c.d_head);
            d.g.rms_norm(x, norm, c.eps)
        } else {
            x
        };
        d.g.rope(x, spec.rope)
    };
    let q = place("attn_q", q);
    let k = place("attn_k", k);
    let keys = d.g.state(&format!("blk.{layer}.k"), d_kv);
    let values = d.g.state(&format!("blk.{layer}.v"), d_kv);
    d.g.kv_store(k, keys);
    d.g.kv_store(v, values);
    let o = d.g.attention(q, keys, values, spec.attn); // [tokens, d_q]
    let o = gate.map_or(o, |gate| d.g.sigmoid_gate(o, gate));
    let w = d.matrix(&format!("blk.{layer}.attn_output.weight"), d_q, c.d_model);
    d.g.matmul(w, o)
}
