//! `qwen35` and `qwen35moe` (Qwen 3.5, 3.6): gated delta nets, and gated attention in every fourth layer.
//!
//! Tensors of a delta-net layer: `attn_norm, attn_qkv, attn_gate, ssm_conv1d, ssm_alpha, ssm_beta, ssm_a, ssm_dt.bias,
//! ssm_norm, ssm_out`. Of an attention layer: as qwen3's, `attn_q` twice as long (query and gate, head by head).
//! `post_attention_norm` is the norm before the feed-forward network. Only `rope.dimension_count` numbers of a head are
//! rotated; the three coordinates of M-RoPE differ in images
//! only.

use super::blocks::{AttnSpec, DecoderSpec, DeltaSpec, Ffn, LayerSpec, Mixer, MoeSpec, decoder};
use super::keys::Keys;
use super::{Config, ModelBuilder};
use crate::error::Result;
use crate::graph::{Act, Graph};

pub(super) fn qwen35(d: &mut ModelBuilder<'_>) -> Result<Graph> {
    build(d, Ffn::Gated(Act::Silu))
}

pub(super) fn qwen35moe(d: &mut ModelBuilder<'_>) -> Result<Graph> {
    let experts = Ffn::Moe(MoeSpec::read(&d.keys, true)?);
    build(d, experts)
}

fn build(d: &mut ModelBuilder<'_>, ffn: Ffn) -> Result<Graph> {
    let mut c = Config::read(d)?;
    c.no_window(&d.keys)?;
    // The last blocks predict further tokens from the result of those before.
    let n_nextn = d.keys.size_or_none("nextn_predict_layers")?.unwrap_or(0);
    if n_nextn >= c.n_layer {
        crate::bail!(BadConfig, "`nextn_predict_layers` must be less than the {} blocks, is {n_nextn}", c.n_layer);
    }
    c.n_layer -= n_nextn;
    let mtp = d.mtp && n_nextn > 0;
    if mtp && n_nextn > 1 {
        crate::bail!(
            BadConfig,
            "{n_nextn} blocks for multi-token prediction are not supported, 1 is; open the model without them"
        );
    }
    if !mtp {
        (c.n_layer..c.n_layer + n_nextn).for_each(|layer| d.ignore(format!("blk.{layer}.")));
    }
    let delta = DeltaSpec::read(&d.keys)?;
    let attn = AttnSpec { qk_norm: true, gated: true, ..AttnSpec::causal(&c, c.rope_halves()) };
    let recurrent = recurrent_layers(&d.keys, c.n_layer)?;
    let spec = DecoderSpec { mtp, deepstack: Some(0), ..DecoderSpec::default() };
    decoder(d, &c, &spec, |i| LayerSpec {
        mixer: if i < c.n_layer && recurrent(i) { Mixer::DeltaNet(delta) } else { Mixer::Attention(attn.clone()) },
        ffn,
        ffn_norm: "post_attention_norm",
        post_norms: false,
    })
}

/// `attention.recurrent_layers` says it layer by layer; without it, `full_attention_interval` (4) does.
fn recurrent_layers(keys: &Keys<'_>, n_layer: usize) -> Result<impl Fn(usize) -> bool + use<>> {
    let listed = keys.flags("attention.recurrent_layers", n_layer)?;
    let interval = keys.opt_size("full_attention_interval")?.unwrap_or(4);
    Ok(move |layer: usize| listed.as_ref().map_or(!(layer + 1).is_multiple_of(interval), |listed| listed[layer]))
}
