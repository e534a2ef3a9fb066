//! `config.json` as GGUF metadata. A configuration that the engine would compute differently from transformers is refused.

use serde_json::Value as Json;

use super::json::Object;
use super::names::{PLAIN_NORMS, SANDWICH_NORMS};
use super::rope::{self, Rope};
use crate::error::{Error, ErrorKind, Result};
use crate::gguf::{Array, Meta, Value};

/// How the checkpoints of one architecture differ from others.
#[derive(Debug)]
pub(super) struct Family {
    model_type: &'static str,
    pub arch: &'static str,
    /// Rows of q and k are put in the order of adjacent rotation.
    pub permutes: bool,
    /// Norms are stored without the 1 of `1 + w`.
    pub gemma: bool,
    /// The names of the norms around the feed-forward network.
    pub norms: &'static [(&'static str, &'static str)],
}

const FAMILIES: &[Family] = {
    const fn plain(name: &'static str) -> Family {
        Family { model_type: name, arch: name, permutes: false, gemma: false, norms: PLAIN_NORMS }
    }
    &[
        Family { permutes: true, ..plain("llama") },
        plain("qwen2"),
        Family { model_type: "qwen2_moe", ..plain("qwen2moe") },
        plain("qwen3"),
        Family { model_type: "qwen3_moe", ..plain("qwen3moe") },
        Family { gemma: true, ..plain("gemma") },
        Family { gemma: true, norms: SANDWICH_NORMS, ..plain("gemma2") },
        Family { model_type: "gemma3_text", gemma: true, norms: SANDWICH_NORMS, ..plain("gemma3") },
    ]
};

/// The configuration as far as converting weights needs it.
#[derive(Debug)]
pub(super) struct Config {
    pub family: &'static Family,
    pub d_head: usize,
    /// `tie_word_embeddings`, where the file says it.
    pub tied: Option<bool>,
    /// Of each layer; 0 where there are none.
    pub n_expert: usize,
    /// Divisors of the angles.
    pub rope_freqs: Option<Vec<f32>>,
}

/// Metadata that grows under the architecture's name.
struct Keys {
    arch: &'static str,
    meta: Meta,
}

impl Keys {
    fn uint(&mut self, key: &str, v: u32) {
        self.set(key, Value::Uint(v.into()));
    }

    fn bool(&mut self, key: &str, v: bool) {
        self.set(key, Value::Bool(v));
    }

    fn float(&mut self, key: &str, v: f64) {
        self.set(key, Value::Float(v));
    }

    fn set(&mut self, key: &str, value: Value) {
        self.meta.insert(format!("{}.{key}", self.arch), value);
    }
}

pub(super) fn read(c: Object<'_>) -> Result<(Config, Meta)> {
    let model_type = c.str("model_type")?;
    let Some(family) = FAMILIES.iter().find(|f| f.model_type == model_type) else {
        let known: Vec<_> = FAMILIES.iter().map(|f| f.model_type).collect();
        let detail = format!(
            "unsupported model type `{model_type}`; expected one of {}, or convert the checkpoint to GGUF",
            known.join(", ")
        );
        return Err(Error::new(ErrorKind::UnsupportedArchitecture, detail).at(c.at("model_type")));
    };
    if c.get("quantization_config").is_some() {
        let detail = "quantised checkpoints are not supported; use the one in BF16 or F16, or a quantised GGUF file";
        return Err(Error::new(ErrorKind::UnsupportedType, detail).at(c.at("quantization_config")));
    }
    let mut keys = Keys { arch: family.arch, meta: Meta::default() };
    keys.meta.insert("general.architecture".to_string(), Value::String(family.arch.to_string()));
    let (d_model, n_head, n_layer) =
        (c.u32("hidden_size")?, c.u32("num_attention_heads")?, c.u32("num_hidden_layers")?);
    let d_head = match c.opt_u32("head_dim")? {
        Some(d) => d,
        None if n_head > 0 && !family.gemma && d_model % n_head == 0 => d_model / n_head,
        None => c.u32("head_dim")?,
    };
    keys.uint("block_count", n_layer);
    keys.uint("context_length", c.u32("max_position_embeddings")?);
    keys.uint("embedding_length", d_model);
    keys.uint("feed_forward_length", c.u32("intermediate_size")?);
    keys.uint("attention.head_count", n_head);
    keys.uint("attention.head_count_kv", c.opt_u32("num_key_value_heads")?.unwrap_or(n_head));
    keys.uint("attention.key_length", d_head);
    keys.uint("attention.value_length", d_head);
    keys.float("attention.layer_norm_rms_epsilon", c.f64("rms_norm_eps")?);
    activation(c, family)?;
    let rope = rope::read(c, d_head)?;
    keys.float("rope.freq_base", rope.base(family.arch));
    if let Some(factor) = rope.linear {
        keys.set("rope.scaling.type", Value::String("linear".to_string()));
        keys.float("rope.scaling.factor", factor);
    }
    match family.arch {
        "gemma2" | "gemma3" => {
            let wide = if family.arch == "gemma2" { n_layer == 46 } else { n_layer == 62 };
            let scalar = if wide { d_model / n_head.max(1) } else { d_head };
            windows(c, &rope, scalar, &mut keys)?;
        }
        _ => no_windows(c)?,
    }
    let n_expert = match family.arch {
        "qwen2moe" => {
            keys.uint("expert_shared_feed_forward_length", c.u32("shared_expert_intermediate_size")?);
            experts(c, &mut keys)?
        }
        "qwen3moe" => experts(c, &mut keys)?,
        _ => 0,
    };
    if rope.freqs.is_some() && !family.permutes {
        return Err(c.bad("rope_scaling", format!("`llama3` scaling is not supported for `{model_type}`")));
    }
    let tied = c.opt_bool("tie_word_embeddings")?;
    Ok((Config { family, d_head: d_head as usize, tied, n_expert, rope_freqs: rope.freqs }, keys.meta))
}

/// How many there are, and how they are used: in every layer.
fn experts(c: Object<'_>, keys: &mut Keys) -> Result<usize> {
    let n = match c.opt_u32("num_experts")? {
        Some(n) => n,
        None => c.u32("num_local_experts")?, // since transformers 5
    };
    // Transformers takes an absent key as false.
    keys.bool("expert_weights_norm", c.opt_bool("norm_topk_prob")?.unwrap_or(false));
    if c.list("mlp_only_layers")?.is_some_and(|list| !list.is_empty()) {
        return Err(c.bad("mlp_only_layers", "layers without experts are not supported"));
    }
    if c.opt_u32("decoder_sparse_step")?.is_some_and(|step| step != 1) {
        return Err(c.bad("decoder_sparse_step", "layers without experts are not supported"));
    }
    keys.uint("expert_count", n);
    keys.uint("expert_used_count", c.u32("num_experts_per_tok")?);
    keys.uint("expert_feed_forward_length", c.u32("moe_intermediate_size")?);
    Ok(n as usize)
}

fn activation(c: Object<'_>, family: &Family) -> Result<()> {
    // Old files of gemma say `gelu` and mean the tanh one.
    let want: &[&str] = if family.gemma { &["gelu_pytorch_tanh", "gelu"] } else { &["silu"] };
    let key = if c.get("hidden_activation").is_some() { "hidden_activation" } else { "hidden_act" };
    match c.opt_str(key)? {
        Some(act) if !want.contains(&act) => {
            Err(c.bad(key, format!("unsupported activation `{act}`; expected `{}`", want[0])))
        }
        _ => Ok(()),
    }
}

/// Soft-caps and windows of gemma2 and gemma3.
fn windows(c: Object<'_>, rope: &Rope, scalar: u32, keys: &mut Keys) -> Result<()> {
    let given = c.opt_f64("query_pre_attn_scalar")?.unwrap_or(256.0);
    if given != f64::from(scalar) {
        return Err(c.bad("query_pre_attn_scalar", format!("must be {scalar} for this shape, is {given}")));
    }
    if c.opt_bool("use_bidirectional_attention")? == Some(true) {
        return Err(c.bad("use_bidirectional_attention", "the model looks ahead; only causal attention is supported"));
    }
    // Of gemma2 an absent key means the same in a GGUF file, and `null`, which switches a thing off, is 0 there.
    let off = |key| (keys.arch == "gemma2" && c.is_null(key)).then_some(0.0);
    let final_cap = c.opt_f64("final_logit_softcapping")?.or_else(|| off("final_logit_softcapping"));
    let cap = c.opt_f64("attn_logit_softcapping")?.or_else(|| off("attn_logit_softcapping"));
    if let Some(cap) = final_cap {
        keys.float("final_logit_softcapping", cap);
    }
    match (cap, keys.arch) {
        (Some(cap), "gemma2") => keys.float("attn_logit_softcapping", cap),
        (Some(_), _) => return Err(c.bad("attn_logit_softcapping", "is not supported for this architecture")),
        (None, _) => {}
    }
    match (c.opt_u32("sliding_window")?, keys.arch) {
        (Some(n), _) => keys.uint("attention.sliding_window", n),
        (None, "gemma2") if c.is_null("sliding_window") => keys.uint("attention.sliding_window", 0),
        (None, _) if c.is_null("sliding_window") => {
            return Err(c.bad("sliding_window", "must be a number for this architecture"));
        }
        (None, _) => keys.uint("attention.sliding_window", 4096),
    }
    if let Some(list) = c.list("layer_types")? {
        let local = list.iter().map(|t| match t.as_str() {
            Some("sliding_attention") => Ok(true),
            Some("full_attention") => Ok(false),
            _ => Err(c.bad("layer_types", format!("{t} is not supported"))),
        });
        keys.set("attention.sliding_window_pattern", Value::Array(Array::Bool(local.collect::<Result<_>>()?)));
    } else if let Some(period) = c.opt_u32("sliding_window_pattern")? {
        keys.uint("attention.sliding_window_pattern", period);
    }
    match (rope.local_base, keys.arch) {
        (Some(base), "gemma3") => keys.float("rope.freq_base_swa", base),
        (Some(_), _) => {
            return Err(c.bad("rope_parameters", "a base per kind of layer is not supported for this architecture"));
        }
        (None, _) => {}
    }
    Ok(())
}

fn no_windows(c: Object<'_>) -> Result<()> {
    let full = |t: &Json| t.as_str() == Some("full_attention");
    if let Some(other) = c.list("layer_types")?.and_then(|list| list.iter().find(|t| !full(t))) {
        return Err(c.bad("layer_types", format!("{other} is not supported for this architecture")));
    }
    if c.opt_bool("use_sliding_window")? == Some(true) {
        return Err(c.bad("use_sliding_window", "windows are not supported for this architecture"));
    }
    Ok(())
}
