//! The pre-norm decoder: embedding, layers of attention and feed-forward with residuals, head.

use super::{AttnSpec, DeltaSpec, MoeSpec, attention, delta_net, ffn, moe};
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
}

impl Default for DecoderSpec {
    fn default() -> Self {
        Self { embed_scale: 1.0, final_softcap: None }
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
    let norm = |d: &mut Describe<'_>, name: &str, x: ValueId| {
        let w = d.vector(&format!("{name}.weight"), c.d_model);
        d.rms_norm(x, w, c.eps)
    };
    let token_embd = d.matrix("token_embd.weight", c.d_model, c.n_vocab);
    let mut x = d.embed(token_embd, spec.embed_scale);
    d.name(x, "embd");
    for layer in 0..c.n_layer {
        let spec = layer_spec(layer);
        let h = norm(d, &format!("blk.{layer}.attn_norm"), x);
        let h = match &spec.mixer {
            Mixer::Attention(attn) => attention(d, c, layer, h, attn),
            Mixer::DeltaNet(delta) => delta_net(d, c, layer, h, delta),
        };
        d.name(h, format!("blk.{layer}.attn_out"));
        let h = if spec.post_norms { norm(d, &format!("blk.{layer}.post_attention_norm"), h) } else { h };
        x = d.add(x, h);
        let h = norm(d, &format!("blk.{layer}.{}", spec.ffn_norm), x);
        let h = match &spec.ffn {
            Ffn::Gated(act) => ffn(d, c, layer, h, *act),
            Ffn::Moe(experts) => moe(d, c, layer, h, experts),
        };
        d.name(h, format!("blk.{layer}.mlp_out"));
        let h = if spec.post_norms { norm(d, &format!("blk.{layer}.post_ffw_norm"), h) } else { h };
        x = d.add(x, h);
        d.name(x, format!("blk.{layer}.out"));
    }
    let x = d.last_rows(x); // only the rows whose logits are wanted go through the head
    let x = norm(d, "output_norm", x);
    d.name(x, "norm");
    // Tied embeddings: the file has no output matrix.
    let output = if d.has("output.weight") { d.matrix("output.weight", c.d_model, c.n_vocab) } else { token_embd };
    let logits = d.matmul(output, x);
    let logits = spec.final_softcap.map_or(logits, |cap| d.softcap(logits, cap));
    Ok(d.finish(logits))
}
