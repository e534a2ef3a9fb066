//! `qwen2` (Qwen 2, 2.5) and `qwen3` (dense): llama with halves rotated, and one difference each.
//!
//! Tensors as llama's; qwen2 adds `attn_{q,k,v}.bias`, qwen3 `attn_{q,k}_norm.weight`.

use super::blocks::{AttnSpec, DecoderSpec, LayerSpec, decoder};
use super::{Config, Describe};
use crate::error::Result;
use crate::graph::{Act, Graph};

pub fn qwen2(d: &mut Describe<'_>) -> Result<Graph> {
    build(d, |attn| AttnSpec { qkv_bias: true, ..attn })
}

pub fn qwen3(d: &mut Describe<'_>) -> Result<Graph> {
    build(d, |attn| AttnSpec { qk_norm: true, ..attn })
}

fn build(d: &mut Describe<'_>, differ: impl Fn(AttnSpec) -> AttnSpec) -> Result<Graph> {
    let c = Config::read(d.gguf)?;
    let attn = differ(AttnSpec::causal(&c, c.rope_halves()));
    decoder(d, &c, &DecoderSpec::default(), |_| LayerSpec { attn: attn.clone(), act: Act::Silu, post_norms: false })
}
