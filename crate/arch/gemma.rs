//! `gemma`, `gemma2`, `gemma3` (text) and `gemma-embedding`.
//!
//! Tensors as llama's without `output` (tied) and with the 1 of `1 + w` already added to every norm. gemma2 and gemma3 add
//! `post_attention_norm` and `post_ffw_norm`, gemma3 `attn_{q,k}_norm`. Embedding rows are scaled by sqrt(d_model).

use super::blocks::{AttnSpec, DecoderSpec, LayerSpec, decoder};
use super::keys::Keys;
use super::{Config, ModelBuilder};
use crate::error::Result;
use crate::graph::{Act, Graph, Rope};

pub(super) fn gemma(d: &mut ModelBuilder<'_>) -> Result<Graph> {
    let c = Config::read(d)?;
    c.no_window(&d.keys)?;
    let attn = AttnSpec::causal(&c, c.rope_halves());
    let layer = |_| LayerSpec::plain(attn.clone(), Act::GeluTanh);
    decoder(
        d,
        &c,
        &DecoderSpec { embed_scale: (c.d_model as f32).sqrt(), final_softcap: None, ..DecoderSpec::default() },
        layer,
    )
}

/// Soft-caps on scores and logits; every second layer sees a window only. The first files said neither caps nor window,
/// because all models had the same.
pub(super) fn gemma2(d: &mut ModelBuilder<'_>) -> Result<Graph> {
    let c = Config::read(d)?;
    let keys = &d.keys;
    let cap = |name, usual| Ok(keys.float(name)?.or(Some(usual)).filter(|cap| *cap != 0.0));
    let softcap = cap("attn_logit_softcapping", 50.0)?;
    let final_softcap = cap("final_logit_softcapping", 30.0)?;
    let local = local_layers(keys, c.n_layer, 2)?;
    let window = keys.has("attention.sliding_window").then(|| keys.size_or_none("attention.sliding_window"));
    let window = window.unwrap_or(Ok(Some(4096)))?;
    let local_base = keys.positive("rope.freq_base_swa")?.unwrap_or(c.rope_base);
    // The 27B model (46 layers) scales by another width; no key says so.
    let d_scale = if c.n_layer == 46 { c.d_model / c.n_head } else { c.d_head };
    let layer = |i| {
        let base = if local(i) { local_base } else { c.rope_base };
        let mut attn = AttnSpec::causal(&c, Rope { base, ..c.rope_halves() });
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

/// Normed q and k; five of six layers see a window, and rotate with a base of their own, unscaled. Without a window all
/// layers are alike. It sees: rows of an image have positions like text, are not scaled, and see those after them too, up to the
/// window.
pub(super) fn gemma3(d: &mut ModelBuilder<'_>) -> Result<Graph> {
    gemma3_with(d, true)
}

/// gemma3 whose tokens also see those after them, half of the window to each side. It has no head.
pub(super) fn gemma_embedding(d: &mut ModelBuilder<'_>) -> Result<Graph> {
    d.embeddings = true;
    if d.keys.bool("attention.causal")? == Some(true) {
        return Err(d
            .keys
            .bad("attention.causal", "must be false: tokens of this architecture see both ways".to_string()));
    }
    gemma3_with(d, false)
}

fn gemma3_with(d: &mut ModelBuilder<'_>, causal: bool) -> Result<Graph> {
    let c = Config::read(d)?;
    let keys = &d.keys;
    let final_softcap = keys.float("final_logit_softcapping")?.filter(|cap| *cap != 0.0);
    let listed = local_layers(keys, c.n_layer, 6)?;
    let window = keys.size_or_none("attention.sliding_window")?.map(|n| if causal { n } else { n / 2 + 1 });
    let local = |layer| window.is_some() && listed(layer);
    let local_base = keys.positive("rope.freq_base_swa")?.unwrap_or(10000.0);
    // The 27B model (62 layers), as in gemma2.
    let d_scale = if c.n_layer == 62 { c.d_model / c.n_head } else { c.d_head };
    let layer = |i| {
        let rope = if local(i) { Rope { base: local_base, scale: 1.0, ..c.rope_halves() } } else { c.rope_halves() };
        let mut attn = AttnSpec { qk_norm: true, ..AttnSpec::causal(&c, rope) };
        attn.attn.causal = causal;
        attn.attn.scale = 1.0 / (d_scale as f32).sqrt();
        attn.attn.window = window.filter(|_| local(i));
        LayerSpec { post_norms: true, ..LayerSpec::plain(attn, Act::GeluTanh) }
    };
    decoder(
        d,
        &c,
        &DecoderSpec {
            embed_scale: (c.d_model as f32).sqrt(),
            final_softcap,
            deepstack: causal.then_some(0),
            sees_ahead: true,
            ..DecoderSpec::default()
        },
        layer,
    )
}

/// Which layers see a window: all but the last of each `period`, unless `attention.sliding_window_pattern` says
/// otherwise, by another period or layer by layer.
fn local_layers(keys: &Keys<'_>, n_layer: usize, period: usize) -> Result<impl Fn(usize) -> bool + use<>> {
    let name = "attention.sliding_window_pattern";
    let listed = keys.flags(name, n_layer)?;
    let period = if listed.is_some() { period } else { keys.opt_size(name)?.unwrap_or(period) };
    Ok(move |layer: usize| listed.as_ref().map_or(!(layer + 1).is_multiple_of(period), |listed| listed[layer]))
}
