//! The pre-norm decoder: embedding, layers of attention and feed-forward with residuals, head.

use super::layer::{LayerSpec, layer, norm};
use super::mtp::mtp;
use crate::arch::{Config, ModelBuilder};
use crate::error::Result;
use crate::graph::{Graph, ValueId};

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

/// The matrices that some models have after the last norm. They belong after the pooling, which commutes with them.
fn dense(d: &mut ModelBuilder<'_>, c: &Config, mut x: ValueId) -> Result<ValueId> {
    let mut d_in = c.d_model;
    for name in ["dense_2", "dense_3"] {
        let (weight, key) = (format!("{name}.weight"), format!("{name}_feat_out"));
        if d.has(&weight) {
            d.keys.neutral(&format!("{name}_feat_in"), &[d_in as f64]);
            let d_out = d.keys.size(&key)?;
            let w = d.matrix(&weight, d_in, d_out);
            x = d.g.matmul(w, x);
            d_in = d_out;
        }
    }
    Ok(x)
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
    if d.embeddings {
        d.ignore("output.weight".to_string());
        x = dense(d, c, x)?;
        return Ok(d.finish(x));
    }
    // Tied embeddings: the file has no output matrix.
    let output = if d.has("output.weight") { d.matrix("output.weight", c.d_model, c.n_vocab) } else { token_embd };
    let logits = d.g.matmul(output, x);
    let logits = spec.final_softcap.map_or(logits, |cap| d.g.softcap(logits, cap));
    let Some(hidden) = hidden else { return Ok(d.finish(logits)) };
    d.g.end_trunk(logits);
    let logits = mtp(d, c, hidden, (token_embd, output), &layer_spec(c.n_layer));
    Ok(d.finish(logits))
}
