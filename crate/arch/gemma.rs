//! `gemma`, `gemma2` and `gemma3` (text).
//!
//! Tensors as llama's without `output` (tied) and with the 1 of `1 + w` already added to every norm. gemma2 and gemma3 add
//! `post_attention_norm` and `post_ffw_norm`, gemma3 `attn_{q,k}_norm`. Embedding rows are scaled by sqrt(d_model).

use super::blocks::{AttnSpec, DecoderSpec, LayerSpec, decoder};
use super::config::{opt_size, positive};
use super::{Config, Describe};
use crate::error::Result;
use crate::gguf::{Array, Meta, Value};
use crate::graph::{Act, Graph, Rope};

pub fn gemma(d: &mut Describe<'_>) -> Result<Graph> {
    let c = Config::read(d.gguf)?;
    let attn = AttnSpec::causal(&c, c.rope_halves());
    let layer = |_| LayerSpec::plain(attn.clone(), Act::GeluTanh);
    decoder(
        d,
        &c,
        &DecoderSpec { embed_scale: (c.d_model as f32).sqrt(), final_softcap: None, ..DecoderSpec::default() },
        layer,
    )
}

/// Soft-caps on scores and logits; every second layer sees a window only.
pub fn gemma2(d: &mut Describe<'_>) -> Result<Graph> {
    let c = Config::read(d.gguf)?;
    let meta = &d.gguf.meta;
    let softcap = positive(meta, "attn_logit_softcapping")?;
    let final_softcap = positive(meta, "final_logit_softcapping")?;
    let local = local_layers(meta, 2)?;
    let window = opt_size(meta, "attention.sliding_window")?;
    // The 27B model (46 layers) scales by another width; no key says so.
    let d_scale = if c.n_layer == 46 { c.d_model / c.n_head } else { c.d_head };
    let layer = |i| {
        let mut attn = AttnSpec::causal(&c, c.rope_halves());
        attn.attn.scale = 1.0 / (d_scale as f32).sqrt();
        attn.attn.softcap = softcap;
        attn.attn.window = window.filter(|_| local(i));
        LayerSpec { post_norms: true, ..LayerSpec::plain(attn, Act::GeluTanh) }
    };
    decoder(
        d,
        &c,
        &DecoderSpec { embed_scale: (c.d_model as f32).sqrt(), final_softcap, ..DecoderSpec::default() },
        layer,
    )
}

/// Normed q and k; five of six layers see a window, and rotate with a base of their own, unscaled.
pub fn gemma3(d: &mut Describe<'_>) -> Result<Graph> {
    let c = Config::read(d.gguf)?;
    let meta = &d.gguf.meta;
    let final_softcap = positive(meta, "final_logit_softcapping")?;
    let local = local_layers(meta, 6)?;
    let window = opt_size(meta, "attention.sliding_window")?;
    let local_base = positive(meta, "rope.freq_base_swa")?.unwrap_or(10000.0);
    // The 27B model (62 layers), as in gemma2.
    let d_scale = if c.n_layer == 62 { c.d_model / c.n_head } else { c.d_head };
    let layer = |i| {
        let rope = if local(i) { Rope { base: local_base, scale: 1.0, ..c.rope_halves() } } else { c.rope_halves() };
        let mut attn = AttnSpec { qk_norm: true, ..AttnSpec::causal(&c, rope) };
        attn.attn.scale = 1.0 / (d_scale as f32).sqrt();
        attn.attn.window = window.filter(|_| local(i));
        LayerSpec { post_norms: true, ..LayerSpec::plain(attn, Act::GeluTanh) }
    };
    decoder(
        d,
        &c,
        &DecoderSpec { embed_scale: (c.d_model as f32).sqrt(), final_softcap, ..DecoderSpec::default() },
        layer,
    )
}

/// Which layers see a window: all but the last of each `period`, unless `attention.sliding_window_pattern` says
/// otherwise, by another period or layer by layer.
fn local_layers(meta: &Meta, period: usize) -> Result<impl Fn(usize) -> bool + use<>> {
    let key = meta.arch_key("attention.sliding_window_pattern")?;
    let (period, listed) = match meta.get(&key) {
        Some(Value::Array(Array::Bool(list))) => (period, list.clone()),
        Some(_) => (opt_size(meta, "attention.sliding_window_pattern")?.unwrap_or(period), Vec::new()),
        None => (period, Vec::new()),
    };
    Ok(move |layer: usize| listed.get(layer).copied().unwrap_or(!(layer + 1).is_multiple_of(period)))
}
