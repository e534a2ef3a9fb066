//! `qwen2` (Qwen 2, 2.5), `qwen2moe` (Qwen 1.5 MoE, 2), `qwen3`, `qwen3moe` and `qwen3vl`: llama with halves rotated, and a
//! difference each.
//!
//! Tensors as llama's; qwen2 and qwen2moe add `attn_{q,k,v}.bias`, qwen3 and qwen3moe `attn_{q,k}_norm.weight`. In place of
//! the feed-forward network, qwen2moe and qwen3moe have `ffn_gate_inp` and `ffn_{gate,up,down}_exps`; qwen2moe has a shared
//! expert too, and its experts' shares do not add up to 1.
//! The text part of qwen3vl is qwen3: for text the three positions of M-RoPE are equal, and nothing is added to layers.

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

pub(super) fn qwen3moe(d: &mut ModelBuilder<'_>) -> Result<Graph> {
    let experts = Ffn::Moe(MoeSpec::read(&d.keys, true)?);
    build(d, |attn| LayerSpec { ffn: experts, ..LayerSpec::plain(AttnSpec { qk_norm: true, ..attn }, Act::Silu) })
}

fn build(d: &mut ModelBuilder<'_>, layer: impl Fn(AttnSpec) -> LayerSpec) -> Result<Graph> {
    let c = Config::read(d)?;
    c.no_window(&d.keys)?;
    let layer = layer(AttnSpec::causal(&c, c.rope_halves()));
    decoder(d, &c, &DecoderSpec::default(), |_| layer.clone())
}
