//! The pre-norm decoder: embedding, layers of attention and feed-forward with residuals, head.

use super::{AttnSpec, attention, ffn};
use crate::arch::{Config, Describe};
use crate::error::Result;
use crate::graph::{Act, Graph};

/// What an architecture says of the whole.
#[derive(Clone, Debug)]
pub struct DecoderSpec {
    /// Factor on the embedding rows.
    pub embed_scale: f32,
}

/// What it says of one layer.
#[derive(Clone, Debug)]
pub struct LayerSpec {
    pub attn: AttnSpec,
    pub act: Act,
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
    for layer in 0..c.n_layer {
        let spec = layer_spec(layer);
        let norm = d.vector(&format!("blk.{layer}.attn_norm.weight"), c.d_model);
        let h = d.rms_norm(x, norm, c.eps);
        let h = attention(d, c, layer, h, &spec.attn);
        d.name(h, format!("blk.{layer}.attn_out"));
        x = d.add(x, h);
        let norm = d.vector(&format!("blk.{layer}.ffn_norm.weight"), c.d_model);
        let h = d.rms_norm(x, norm, c.eps);
        let h = ffn(d, c, layer, h, spec.act);
        d.name(h, format!("blk.{layer}.mlp_out"));
        x = d.add(x, h);
        d.name(x, format!("blk.{layer}.out"));
    }
    let x = d.last_rows(x); // only the rows whose logits are wanted go through the head
    let norm = d.vector("output_norm.weight", c.d_model);
    let x = d.rms_norm(x, norm, c.eps);
    d.name(x, "norm");
    // Tied embeddings: the file has no output matrix.
    let output = if d.has("output.weight") { d.matrix("output.weight", c.d_model, c.n_vocab) } else { token_embd };
    let logits = d.matmul(output, x);
    Ok(d.finish(logits))
}
