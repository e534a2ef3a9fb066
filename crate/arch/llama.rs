//! `llama`: Llama 2 and 3, SmolLM2, and others of that shape.
//!
//! Tensors: `token_embd`, `blk.N.{attn_norm, attn_q, attn_k, attn_v, attn_output, ffn_norm, ffn_gate, ffn_up,
//! ffn_down}`, `output_norm`, `output` unless tied, and `rope_freqs` (divisors of the angles) for Llama 3 scaling. The
//! converter permuted the rows of q and k, so adjacent numbers are rotated.

use super::blocks::{AttnSpec, DecoderSpec, LayerSpec, decoder};
use super::{Config, ModelBuilder};
use crate::error::Result;
use crate::graph::{Act, Graph, Rope, RopeAxes, RopePairs};

pub(super) fn build(d: &mut ModelBuilder<'_>) -> Result<Graph> {
    let c = Config::read(d)?;
    c.no_window(&d.keys)?;
    let freqs = d.opt_vector("rope_freqs.weight", c.n_rot / 2);
    let rope = Rope {
        d_head: c.d_head,
        n_rot: c.n_rot,
        pairs: RopePairs::Adjacent,
        axes: RopeAxes::Time,
        base: c.rope_base,
        scale: c.rope_scale,
        freqs,
    };
    let attn = AttnSpec::causal(&c, rope);
    decoder(d, &c, &DecoderSpec::default(), |_| LayerSpec::plain(attn.clone(), Act::Silu))
}
