//! The pre-norm decoder: embedding, layers of attention and feed-forward with residuals, head.

use super::layer::{LayerSpec, Mixer, layer, norm};
use super::mtp::mtp;
use crate::arch::{Config, ModelBuilder, Pooling};
use crate::error::Result;
use crate::graph::{Graph, ValueId, WeightId};

/// The variant of the decoder outside its layers.
#[derive(Clone, Debug)]
pub(crate) struct DecoderSpec {
    /// Factor on the embedding rows.
    pub embed_scale: f32,
    /// The logits become `cap * tanh(logit / cap)`.
    pub final_softcap: Option<f32>,
    /// A block for multi-token prediction follows the layers.
    pub mtp: bool,
    /// Where the model sees: of how many of its first layers the rows of an image have additions to the results.
    pub deepstack: Option<usize>,
    /// Whether the rows of an image see those after them.
    pub sees_ahead: bool,
}

impl Default for DecoderSpec {
    fn default() -> Self {
        Self { embed_scale: 1.0, final_softcap: None, mtp: false, deepstack: None, sees_ahead: false }
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

/// The classifier of a model that ranks: its classes by their scores.
fn classes(d: &mut ModelBuilder<'_>, c: &Config, x: ValueId) -> ValueId {
    let n = d.rows("cls.output.weight").unwrap_or(1);
    let w = d.matrix("cls.output.weight", c.d_model, n);
    let x = d.g.matmul(w, x);
    match d.opt_vector("cls.output.bias", n) {
        Some(bias) => d.g.add_bias(x, bias),
        None => x,
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
    if let Some(deepstack) = spec.deepstack.filter(|_| d.images) {
        let x = d.g.given(0, c.d_model);
        let of_image = |i| {
            let mut layer = layer_spec(i);
            if let (true, Mixer::Attention(attn)) = (spec.sees_ahead, &mut layer.mixer) {
                attn.attn.causal = false;
            }
            layer
        };
        let x = trunk(d, c, spec, &of_image, (x, deepstack));
        let logits = head(d, c, spec, token_embd, x);
        d.g.end_given(logits);
    }
    let x = d.g.embed(token_embd, spec.embed_scale);
    d.g.name(x, "embd");
    let x = trunk(d, c, spec, &layer_spec, (x, 0));
    let ranks = d.pooling == Some(Pooling::Rank);
    if d.embeddings {
        d.ignore("output.weight".to_string());
        let x = dense(d, c, x)?;
        let x = if ranks { classes(d, c, x) } else { x };
        return Ok(d.finish(x));
    }
    if ranks {
        // It was one that generates, and can be opened as that.
        d.ignore("cls.output.".to_string());
    }
    let logits = head(d, c, spec, token_embd, x);
    if !spec.mtp {
        return Ok(d.finish(logits));
    }
    d.g.end_trunk(logits);
    let hidden = d.g.state(HIDDEN, c.d_model);
    let output = output(d, c, token_embd);
    let logits = mtp(d, c, hidden, (token_embd, output), &layer_spec(c.n_layer));
    Ok(d.finish(logits))
}

/// What the block for multi-token prediction reads of the trunk.
const HIDDEN: &str = "mtp.hidden";

/// From the rows of tokens to the last norm of those whose logits are wanted. Given rows have something to add to the results
/// of the first `deepstack` layers.
fn trunk(
    d: &mut ModelBuilder<'_>,
    c: &Config,
    spec: &DecoderSpec,
    layer_spec: &impl Fn(usize) -> LayerSpec,
    (mut x, deepstack): (ValueId, usize),
) -> ValueId {
    for i in 0..c.n_layer {
        x = layer(d, c, i, x, &layer_spec(i));
        if i < deepstack {
            let more = d.g.given((1 + i) * c.d_model, c.d_model);
            x = d.g.add(x, more);
        }
    }
    // Only the rows whose logits are wanted go through the head; multi-token prediction wants the norm of all.
    if spec.mtp {
        x = norm(d, c, "output_norm", x);
        let hidden = d.g.state(HIDDEN, c.d_model);
        d.g.kv_store(x, hidden);
    }
    x = d.g.last_rows(x);
    if !spec.mtp {
        x = norm(d, c, "output_norm", x);
    }
    d.g.name(x, "norm");
    x
}

fn head(d: &mut ModelBuilder<'_>, c: &Config, spec: &DecoderSpec, token_embd: WeightId, x: ValueId) -> ValueId {
    let output = output(d, c, token_embd);
    let logits = d.g.matmul(output, x);
    spec.final_softcap.map_or(logits, |cap| d.g.softcap(logits, cap))
}

/// Tied embeddings: the file has no output matrix.
fn output(d: &mut ModelBuilder<'_>, c: &Config, token_embd: WeightId) -> WeightId {
    if d.has("output.weight") { d.matrix("output.weight", c.d_model, c.n_vocab) } else { token_embd }
}
