//! The pre-norm decoder: embedding, layers of attention and feed-forward with residuals, head.

use super::layer::{LayerSpec, layer, norm};
use super::mtp::mtp;
use crate::arch::{Config, ModelBuilder};
use crate::error::Result;
use crate::graph::Graph;

/// The variant of the decoder outside its layers.
#[derive(Clone, Debug)]
pub(crate) struct DecoderSpec {
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

/// Builds the graph. Hidden states are compared with other implementations by the names of values.
pub(crate) fn decoder(
    d: &mut ModelBuilder<'_>,
    c: &Config,
    spec: &DecoderSpec,
    layer_spec: impl Fn(usize) -> LayerSpec,
) -> Result<Graph> {
    let token_embd = d.matrix("token_embd.weight", c.d_model, c.n_vocab);
    let mut x = d.g.embed(token_embd, spec.embed_scale);
    d.g.name(x, "embd");
    for i in 0..c.n_layer {
        x = layer(d, c, i, x, &layer_spec(i));
    }
    // Only the rows whose logits are wanted go through the head; multi-token prediction wants the norm of all.
    let hidden = spec.mtp.then(|| {
        x = norm(d, c, "output_norm", x);
        let hidden = d.g.state("mtp.hidden", c.d_model);
        d.g.kv_store(x, hidden);
        hidden
    });
    x = d.g.last_rows(x);
    if hidden.is_none() {
        x = norm(d, c, "output_norm", x);
    }
    d.g.name(x, "norm");
    // Tied embeddings: the file has no output matrix.
    let output = if d.has("output.weight") { d.matrix("output.weight", c.d_model, c.n_vocab) } else { token_embd };
    let logits = d.g.matmul(output, x);
    let logits = spec.final_softcap.map_or(logits, |cap| d.g.softcap(logits, cap));
    let Some(hidden) = hidden else { return Ok(d.finish(logits)) };
    d.g.end_trunk(logits);
    let logits = mtp(d, c, hidden, (token_embd, output), &layer_spec(c.n_layer));
    Ok(d.finish(logits))
}
