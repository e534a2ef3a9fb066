//! One layer: a token mixer, then a feed-forward network, each with its norm and residual.

use super::{AttnSpec, DeltaSpec, MoeSpec, attention, delta_net, ffn, moe};
use crate::arch::{Config, ModelBuilder};
use crate::graph::{Act, ValueId};

/// The token mixer of a layer.
#[derive(Clone, Debug)]
pub(crate) enum Mixer {
    Attention(AttnSpec),
    DeltaNet(DeltaSpec),
}

/// The feed-forward network of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ffn {
    Gated(Act),
    Moe(MoeSpec),
}

/// The variant of one layer.
#[derive(Clone, Debug)]
pub(crate) struct LayerSpec {
    pub mixer: Mixer,
    pub ffn: Ffn,
    /// The name of the norm before the feed-forward network.
    pub ffn_norm: &'static str,
    /// What comes out of attention and feed-forward is normed before it is added.
    pub post_norms: bool,
}

impl LayerSpec {
    /// Attention and feed-forward, each with a norm before it.
    pub(crate) fn plain(attn: AttnSpec, act: Act) -> Self {
        Self { mixer: Mixer::Attention(attn), ffn: Ffn::Gated(act), ffn_norm: "ffn_norm", post_norms: false }
    }
}

/// A norm over whole rows.
pub(super) fn norm(d: &mut ModelBuilder<'_>, c: &Config, name: &str, x: ValueId) -> ValueId {
    let w = d.vector(&format!("{name}.weight"), c.d_model);
    d.g.rms_norm(x, w, c.eps)
}

/// One layer, with its residuals.
pub(super) fn layer(d: &mut ModelBuilder<'_>, c: &Config, i: usize, x: ValueId, spec: &LayerSpec) -> ValueId {
    let h = norm(d, c, &format!("blk.{i}.attn_norm"), x);
    let h = match &spec.mixer {
        Mixer::Attention(attn) => attention(d, c, i, h, attn),
        Mixer::DeltaNet(delta) => delta_net(d, c, i, h, delta),
    };
    d.g.name(h, format!("blk.{i}.attn_out"));
    let h = if spec.post_norms { norm(d, c, &format!("blk.{i}.post_attention_norm"), h) } else { h };
    let x = d.g.add(x, h);
    let h = norm(d, c, &format!("blk.{i}.{}", spec.ffn_norm), x);
    let h = match &spec.ffn {
        Ffn::Gated(act) => ffn(d, c, i, h, *act),
        Ffn::Moe(experts) => moe(d, c, i, h, experts),
    };
    d.g.name(h, format!("blk.{i}.mlp_out"));
    let h = if spec.post_norms { norm(d, c, &format!("blk.{i}.post_ffw_norm"), h) } else { h };
    let x = d.g.add(x, h);
    d.g.name(x, format!("blk.{i}.out"));
    x
}
