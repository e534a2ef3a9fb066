//! Names of tensors: transformers' on the left, GGUF's on the right.

const GLOBAL: &[(&str, &str)] =
    &[("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// Under `model.layers.N.` there and `blk.N.` here.
const LAYER: &[(&str, &str)] = &[
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("mlp.gate", "ffn_gate_inp"),
    ("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_expert.up_proj", "ffn_up_shexp"),
    ("mlp.shared_expert.down_proj", "ffn_down_shexp"),
    ("mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
];

/// The norm before the feed-forward network is called after what comes before it.
pub(super) const PLAIN_NORMS: &[(&str, &str)] = &[("post_attention_layernorm", "ffn_norm")];

/// Norms before and after.
pub(super) const SANDWICH_NORMS: &[(&str, &str)] = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

/// The GGUF name of a tensor, where it has one.
pub(super) fn gguf_name(name: &str, norms: &[(&str, &str)]) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.').filter(|(_, kind)| matches!(*kind, "weight" | "bias"))?;
    let find = |table: &[(&str, &'static str)], stem: &str| table.iter().find(|(hf, _)| *hf == stem).map(|(_, g)| *g);
    if let Some(global) = find(GLOBAL, stem) {
        return Some(format!("{global}.{kind}"));
    }
    let (layer, stem) = stem.strip_prefix("model.layers.")?.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let (_, own) = LAYER.iter().chain(norms).find(|(hf, _)| *hf == stem)?;
    Some(format!("blk.{layer}.{own}.{kind}"))
}

/// The GGUF name of the tensor that holds all experts' matrices, and which of them this is.
pub(super) fn expert(name: &str) -> Option<(String, usize)> {
    let (layer, stem) =
        name.strip_prefix("model.layers.")?.strip_suffix("_proj.weight")?.split_once(".mlp.experts.")?;
    let (expert, part) = stem.split_once('.')?;
    let (layer, expert): (u32, usize) = (layer.parse().ok()?, expert.parse().ok()?);
    matches!(part, "gate" | "up" | "down").then(|| (format!("blk.{layer}.ffn_{part}_exps.weight"), expert))
}

/// Buffers that old checkpoints hold and that follow from the configuration.
pub(super) fn is_derived(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".self_attn.masked_bias")
}
