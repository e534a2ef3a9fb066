//! `qwen2` (Qwen 2, 2.5), `qwen2moe` (Qwen 1.5 MoE, 2), `qwen3`, `qwen3moe` and `qwen3vl`: llama with halves rotated, and a
//! difference each.
//!
//! Tensors as llama's; qwen2 and qwen2moe add `attn_{q,k,v}.bias`, qwen3 and qwen3moe `attn_{q,k}_norm.weight`. In place of
//! the feed-forward network, qwen2moe and qwen3moe have `ffn_gate_inp` and `ffn_{gate,up,down}_exps`; qwen2moe has a shared
//! expert too, and its experts' shares do not add up to 1.
//! qwen3vl is qwen3, which sees: the rows of an image turn by three coordinates (interleaved M-RoPE), and have something to add
//! to the results of the first layers. For text the coordinates are equal, and nothing is added.

use super::blocks::{AttnSpec, DecoderSpec, Ffn, LayerSpec, MoeSpec, decoder};
use super::{Config, ModelBuilder};
use crate::error::Result;
use crate::graph::{Act, Graph};

pub(super) fn qwen2(d: &mut ModelBuilder<'_>) -> Result<Graph> {
    build(d, |attn| LayerSpec::plain(AttnSpec { qkv_bias: true, ..attn }, Act::Silu))
}

pub(super) fn qwen2moe(d: &mut ModelBuilder<'_>) -> Result<Graph> {
    let experts = Ffn::Moe(MoeSpec::read(&d.keys, false)?);
    build(d, |attn| LayerSpec { ffn: experts, ..LayerSpec::plain(AttnSpec { qkv_bias: true, ..attn }, Act::Silu) })
}

pub(super) fn qwen3(d: &mut ModelBuilder<'_>) -> Result<Graph> {
    build(d, |attn| LayerSpec::plain(AttnSpec { qk_norm: true, ..attn }, Act::Silu))
}

/// With the rows of images, to which `n_deepstack_layers` first layers add something.
pub(super) fn qwen3vl(d: &mut ModelBuilder<'_>) -> Result<Graph> {
    let deepstack = d.keys.size_or_none("n_deepstack_layers")?.unwrap_or(0);
    let c = Config::read(d)?;
    if deepstack > c.n_layer {
        return Err(d.keys.bad("n_deepstack_layers", format!("must be at most {} layers, is {deepstack}", c.n_layer)));
    }
    let spec = DecoderSpec { deepstack: Some(deepstack), ..DecoderSpec::default() };
    build_as(d, &spec, |attn| LayerSpec::plain(AttnSpec { qk_norm: true, ..attn }, Act::Silu))
}

pub(super) fn qwen3moe(d: &mut ModelBuilder<'_>) -> Result<Graph> {
    let experts = Ffn::Moe(MoeSpec::read(&d.keys, true)?);
    build(d, |attn| LayerSpec { ffn: experts, ..LayerSpec::plain(AttnSpec { qk_norm: true, ..attn }, Act::Silu) })
}

fn build(d: &mut ModelBuilder<'_>, layer: impl Fn(AttnSpec) -> LayerSpec) -> Result<Graph> {
    build_as(d, &DecoderSpec::default(), layer)
}

fn build_as(d: &mut ModelBuilder<'_>, spec: &DecoderSpec, layer: impl Fn(AttnSpec) -> LayerSpec) -> Result<Graph> {
    let c = Config::read(d)?;
    c.no_window(&d.keys)?;
    let layer = layer(AttnSpec::causal(&c, c.rope_halves()));
    decoder(d, &c, spec, |_| layer.clone())
}
