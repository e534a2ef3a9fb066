//! Keys and tensors that a file may hold although its description does not read them. One that is not listed here could
//! change the results of the model, so the file is refused unless the caller allows unknown content.

use crate::gguf::{Array, Value};

/// The architecture of files with the part of a model that sees.
const SEES: &str = "clip";

/// Prefixes of tensors that only images and sound use.
const OTHER_SENSES: &[&str] = &["v.", "a.", "mm."];

/// Namespaces in which programs that convert, quantise and split files describe their work; and `clip`, of the program
/// that reads images.
const NOTES: &[&str] = &["split.", "quantize.", "imatrix.", "mradermacher.", "clip."];

/// Namespaces under the name of the architecture that are about images and sound.
const OTHER_KEYS: &[&str] = &["vision.", "audio.", "mm."];

/// Under `general.`; strings there are descriptions and always allowed.
const GENERAL: &[&str] = &[
    "general.alignment",
    "general.file_type",
    "general.quantization_version",
    "general.parameter_count",
    "general.base_model.count",
    "general.dataset.count",
];

/// Under `tokenizer.`: read by the tokenizer, or without influence on the ids of a text.
const TOKENIZER: &[&str] = &[
    "tokenizer.ggml.model",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.tokens",
    "tokenizer.ggml.token_type",
    "tokenizer.ggml.token_type_count",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.merges",
    "tokenizer.ggml.added_tokens",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_eos_token",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.ggml.suppress_tokens",
    "tokenizer.ggml.bos_token_ids",
    "tokenizer.ggml.eos_token_ids",
    "tokenizer.huggingface.json",
    "tokenizer.chat_template",
    "tokenizer.chat_templates",
];

/// Under the name of the architecture.
const HARMLESS: &[&str] = &[
    // Sizes that the tensors have.
    "vocab_size",
    // Where images go. For text all positions of M-RoPE are equal.
    "rope.dimension_sections",
    "n_deepstack_layers",
    "deepstack_mapping",
    // Of scalings that are refused by their type, and what was done to the model before.
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    // Of layers that see a window, which `attention.sliding_window` decides.
    "attention.sliding_window_pattern",
    "rope.freq_base_swa",
    // How embeddings are made of hidden states: read by who makes them.
    "pooling_type",
    // Of another kind of norm.
    "attention.layer_norm_epsilon",
];

/// Under the name of the architecture, with values that say what the engine does anyway.
const NEUTRAL: &[(&str, Neutral)] = {
    use Neutral::*;
    const FACTOR: Neutral = Number(&[1.0, 0.0]);
    const NONE: Neutral = Number(&[0.0]);
    &[
        ("has_text_encoder", Bool(false)),
        ("has_audio_encoder", Bool(false)),
        ("attention.causal", Bool(true)),
        ("attention.output_scale", FACTOR),
        ("attention.value_scale", FACTOR),
        ("attention.temperature_scale", NONE),
        ("attention.temperature_length", NONE),
        ("attention.clamp_kqv", NONE),
        ("attention.max_alibi_bias", NONE),
        ("attention.shared_kv_layers", NONE),
        ("attn_logit_softcapping", NONE),
        ("final_logit_softcapping", NONE),
        ("router_logit_softcapping", NONE),
        ("logit_scale", FACTOR),
        ("residual_scale", FACTOR),
        ("embedding_scale", FACTOR),
        ("expert_count", NONE),
        ("expert_used_count", NONE),
        ("expert_feed_forward_length", NONE),
        ("expert_shared_feed_forward_length", NONE),
        ("expert_shared_count", NONE),
        ("expert_group_count", FACTOR),
        ("expert_group_used_count", FACTOR),
        ("expert_group_scale", FACTOR),
        ("expert_weights_scale", FACTOR),
        ("expert_weights_norm", Bool(true)),
        // 1 is a softmax; 0 leaves it to the architecture.
        ("expert_gating_func", FACTOR),
        ("experts_per_group", NONE),
        ("leading_dense_block_count", NONE),
        ("interleave_moe_layer_step", FACTOR),
        ("moe_every_n_layers", FACTOR),
        ("nextn_predict_layers", NONE),
        ("rescale_every_n_layers", NONE),
        ("rope.scaling.alpha", FACTOR),
        ("rope.scaling.attn_factor", FACTOR),
        ("rope.scaling.yarn_attn_factor", FACTOR),
        ("rope.scaling.yarn_ext_factor", Number(&[0.0, -1.0])),
        ("rope.scaling.yarn_log_multiplier", NONE),
        ("swiglu_clamp_exp", NONE),
        ("swiglu_clamp_shexp", NONE),
        ("swin_norm", Bool(false)),
        ("use_parallel_residual", Bool(false)),
        ("tensor_data_layout", Text(&["reference", "Meta AI original pth"])),
    ]
};

enum Neutral {
    /// One of these; of a list each number.
    Number(&'static [f64]),
    Bool(bool),
    Text(&'static [&'static str]),
}

/// The problem with a key that the description did not read; `None` where it cannot change the results.
pub(super) fn problem(arch: &str, key: &str, value: &Value) -> Option<String> {
    let allowed = if let Some(name) = key.strip_prefix(arch).and_then(|rest| rest.strip_prefix('.')) {
        let other = |p: &&str| name.starts_with(*p) && (arch != SEES || **p == *"audio.");
        if OTHER_KEYS.iter().any(other) || HARMLESS.contains(&name) {
            return None;
        }
        match NEUTRAL.iter().find(|(n, _)| *n == name).map(|(_, neutral)| neutral) {
            Some(Neutral::Bool(b)) if *value == Value::Bool(*b) => return None,
            Some(Neutral::Text(list)) if matches!(value, Value::String(s) if list.contains(&s.as_str())) => {
                return None;
            }
            Some(Neutral::Number(list)) if is_number_of(value, list) => return None,
            Some(Neutral::Number(list)) => Some(*list),
            _ => None,
        }
    } else if is_note(arch, key, value) {
        return None;
    } else {
        None
    };
    Some(shown(key, value, allowed))
}

/// Whether a key outside the architecture's namespace cannot change the results.
fn is_note(arch: &str, key: &str, value: &Value) -> bool {
    let empty = matches!(value, Value::Array(a) if a.is_empty());
    let text = empty || matches!(value, Value::String(_) | Value::Array(Array::Strings(_)));
    match key.split('.').next() {
        Some("general") if key == "general.type" => {
            let kind = if arch == SEES { "mmproj" } else { "model" };
            matches!(value, Value::String(s) if s == kind)
        }
        // Which tensors are computed in another way.
        Some("general") if key.starts_with("general.tensor_extra.") => false,
        Some("general") => text || GENERAL.contains(&key) || key.starts_with("general.sampling."),
        Some("tokenizer") => {
            TOKENIZER.contains(&key)
                || key.ends_with("_token_id")
                || key.starts_with("tokenizer.chat_template.")
                // Steps that no tokenizer here takes.
                || key.starts_with("tokenizer.ggml.normalizer.") && *value == Value::Bool(false)
                || key == "tokenizer.ggml.add_sep_token" && *value == Value::Bool(false)
                || key == "tokenizer.ggml.remove_extra_whitespaces" && *value == Value::Bool(false)
                || key == "tokenizer.ggml.precompiled_charsmap" && empty
        }
        _ => NOTES.iter().any(|p| key.starts_with(p)),
    }
}

/// Whether only senses use a tensor that the model of the file has not.
pub(super) fn is_for_other_senses(arch: &str, tensor: &str) -> bool {
    OTHER_SENSES.iter().any(|p| tensor.starts_with(p) && (arch != SEES || *p == "a."))
}

/// Whether the value is one of these numbers, or a list of nothing else.
pub(super) fn is_number_of(value: &Value, allowed: &[f64]) -> bool {
    // Within f32 rounding of the computed number.
    let one_of = |v: f64| allowed.iter().any(|a| (v - a).abs() <= a.abs() * 1e-6);
    match value {
        Value::Uint(v) => one_of(*v as f64),
        Value::Int(v) => one_of(*v as f64),
        Value::Float(v) => one_of(*v),
        Value::Array(Array::Uint(v)) => v.iter().all(|v| one_of(*v as f64)),
        Value::Array(Array::Int(v)) => v.iter().all(|v| one_of(*v as f64)),
        Value::Array(Array::Float(v)) => v.iter().all(|v| one_of((*v).into())),
        Value::Bool(_) | Value::String(_) | Value::Array(_) => false,
    }
}

/// A key and its value for a message, and the values that are supported.
pub(super) fn shown(key: &str, value: &Value, allowed: Option<&[f64]>) -> String {
    let key = clipped(key);
    let value = match value {
        Value::Uint(v) => format!(" = {v}"),
        Value::Int(v) => format!(" = {v}"),
        Value::Float(v) => format!(" = {v}"),
        Value::Bool(v) => format!(" = {v}"),
        Value::String(v) => format!(" = \"{}\"", clipped(v)),
        Value::Array(_) => String::new(),
    };
    match allowed {
        Some(list) => {
            let list: Vec<_> = list.iter().map(f64::to_string).collect();
            format!("`{key}`{value} (expected {})", list.join(" or "))
        }
        None => format!("`{key}`{value}"),
    }
}

/// A foreign name or text, short enough for a message.
pub(super) fn clipped(name: &str) -> std::borrow::Cow<'_, str> {
    match name.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &name[..end]).into(),
        None => name.into(),
    }
}
