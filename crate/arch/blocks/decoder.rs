//! The pre-norm decoder: embedding, layers of attention and feed-forward with residuals, head.

use super::{AttnSpec, DeltaSpec, MoeSpec, attention, delta_net, ffn, moe, mtp};
use crate::arch::{Config, Describe};
use crate::error::Result;
use crate::graph::{Act, Graph, ValueId};

/// What an architecture says of the whole.
#[derive(Clone, Debug)]
pub struct DecoderSpec {
    /// Factor on the embedding rows.
    pub embed_scale: f32,
    /// The logits become `cap * tanh(logit / cap)`.
    pub final_softcap: Option<f32>,
    /// A block for multi-token prediction follows the layers.
    pub mtp: bool,
}

impl Default for DecoderSpec {
    fn default() -> Self {
        Self { embed_scale: 1.0, final_softcap: None, mtp: false }
    }
}

/// What mixes the tokens.
#[derive(Clone, Debug)]
pub enum Mixer {
    Attention(AttnSpec),
    DeltaNet(DeltaSpec),
}

/// What follows, token by token.
#[derive(Clone, Copy, Debug)]
pub enum Ffn {
    Gated(Act),
    Moe(MoeSpec),
}

/// What an architecture says of one layer.
#[derive(Clone, Debug)]
pub struct LayerSpec {
    pub mixer: Mixer,
    pub ffn: Ffn,
    /// The name of the norm before the feed-forward network.
    pub ffn_norm: &'static str,
    /// What comes out of attention and feed-forward is normed before it is added.
    pub post_norms: bool,
}

impl LayerSpec {
    /// Attention and feed-forward, each with a norm before it.
    pub fn plain(attn: AttnSpec, act: Act) -> Self {
        Self { mixer: Mixer::Attention(attn), ffn: Ffn::Gated(act), ffn_norm: "ffn_norm", post_norms: false }
    }
}

/// Builds the graph. The names of values are those under which hidden states are compared.
pub fn decoder(
    d: &mut Describe<'_>,
    c: &Config,
    spec: &DecoderSpec,
    layer_spec: impl Fn(usize) -> LayerSpec,
) -> Result<Graph> {
    let token_embd = d.matrix("token_embd.weight", c.d_model, c.n_vocab);
    let mut x = d.embed(token_embd, spec.embed_scale);
    d.name(x, "embd");
    for i in 0..c.n_layer {
        x = layer(d, c, i, x, &layer_spec(i));
    }
    // Only the rows whose logits are wanted go through the head; multi-token prediction wants the norm of all.
    let hidden = spec.mtp.then(|| {
        x = norm(d, c, "output_norm", x);
        let hidden = d.state("mtp.hidden", c.d_model);
        d.kv_store(x, hidden);
        hidden
    });
    x = d.last_rows(x);
    if hidden.is_none() {
        x = norm(d, c, "output_norm", x);
    }
    d.name(x, "norm");
    // Tied embeddings: the file has no output matrix.
    let output = if d.has("output.weight") { d.matrix("output.weight", c.d_model, c.n_vocab) } else { token_embd };
    let logits = d.matmul(output, x);
    let logits = spec.final_softcap.map_or(logits, |cap| d.softcap(logits, cap));
    let Some(hidden) = hidden else { return Ok(d.finish(logits)) };
    d.end_trunk(logits);
    let logits = mtp(d, c, hidden, (token_embd, output), &layer_spec(c.n_layer));
    Ok(d.finish(logits))
}

/// A norm over whole rows.
pub(super) fn norm(d: &mut Describe<'_>, c: &Config, name: &str, x: ValueId) -> ValueId {
    let w = d.vector(&format!("{name}.weight"), c.d_model);
    d.rms_norm(x, w, c.eps)
}

/// One layer, with its residuals.
pub(super) fn layer(d: &mut Describe<'_>, c: &Config, i: usize, x: ValueId, spec: &LayerSpec) -> ValueId {
    let h = norm(d, c, &format!("blk.{i}.attn_norm"), x);
    let h = match &spec.mixer {
        Mixer::Attention(attn) => attention(d, c, i, h, attn),
        Mixer::DeltaNet(delta) => delta_net(d, c, i, h, delta),
    };
    d.name(h, format!("blk.{i}.attn_out"));
    let h = if spec.post_norms { norm(d, c, &format!("blk.{i}.post_attention_norm"), h) } else { h };
    let x = d.add(x, h);
    let h = norm(d, c, &format!("blk.{i}.{}", spec.ffn_norm), x);
    let h = match &spec.ffn {
        Ffn::Gated(act) => ffn(d, c, i, h, *act),
        Ffn::Moe(experts) => moe(d, c, i, h, experts),
    };
    d.name(h, format!("blk.{i}.mlp_out"));
    let h = if spec.post_norms { norm(d, c, &format!("blk.{i}.post_ffw_norm"), h) } else { h };
    let x = d.add(x, h);
    d.name(x, format!("blk.{i}.out"));
    x
}
