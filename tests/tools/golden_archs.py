"""What golden.py knows of architectures: how a model of transformers becomes a GGUF file.

A new one is an entry in ARCHS: its model_type in transformers, what its tiny config needs beyond TINY, the names of
tensors that NAMES lacks, and how its weights and keys differ from the plain decoder's. A parameter without a name stops
golden.py. What the tables cannot find is a config value that changes numbers and that no key carries, such as
norm_topk_prob: read the forward pass in transformers for those, and put them in `implied`.
"""
from dataclasses import dataclass, field
from typing import Callable

import torch

# Sizes of every architecture: more query than key heads, and no two widths the same.
TINY = dict(hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
            head_dim=16, max_position_embeddings=512, tie_word_embeddings=False)
EXPERTS = dict(num_experts=8, num_experts_per_tok=2, moe_intermediate_size=32)

# Config attribute: keys. An attribute that is absent, None or 0 writes nothing.
KEYS = {
    'num_hidden_layers': ['block_count'],
    'max_position_embeddings': ['context_length'],
    'hidden_size': ['embedding_length'],
    'intermediate_size': ['feed_forward_length'],
    'num_attention_heads': ['attention.head_count'],
    'num_key_value_heads': ['attention.head_count_kv'],
    'head_dim': ['attention.key_length', 'attention.value_length'],
    'rms_norm_eps': ['attention.layer_norm_rms_epsilon'],
    'sliding_window': ['attention.sliding_window'],
    'attn_logit_softcapping': ['attn_logit_softcapping'],
    'final_logit_softcapping': ['final_logit_softcapping'],
    'num_experts': ['expert_count'],
    'num_experts_per_tok': ['expert_used_count'],
    'moe_intermediate_size': ['expert_feed_forward_length'],
    'shared_expert_intermediate_size': ['expert_shared_feed_forward_length'],
    'linear_conv_kernel_dim': ['ssm.conv_kernel'],
    'linear_key_head_dim': ['ssm.state_size'],
    'linear_num_key_heads': ['ssm.group_count'],
    'linear_num_value_heads': ['ssm.time_step_rank'],
}

# Parameter without `model.`, `layers.N.` and `.weight` or `.bias`: tensor, to which prefix and suffix are given again.
# A parameter that has no such suffix names its tensor in full. Two tensors share its rows, the first half first.
NAMES = {
    'embed_tokens': 'token_embd',
    'norm': 'output_norm',
    'lm_head': 'output',
    'input_layernorm': 'attn_norm',
    'self_attn.q_proj': 'attn_q',
    'self_attn.k_proj': 'attn_k',
    'self_attn.v_proj': 'attn_v',
    'self_attn.o_proj': 'attn_output',
    'self_attn.q_norm': 'attn_q_norm',
    'self_attn.k_norm': 'attn_k_norm',
    'post_attention_layernorm': 'ffn_norm',
    'mlp.gate_proj': 'ffn_gate',
    'mlp.up_proj': 'ffn_up',
    'mlp.down_proj': 'ffn_down',
    'mlp.gate': 'ffn_gate_inp',
    'mlp.experts.gate_up_proj': ('ffn_gate_exps.weight', 'ffn_up_exps.weight'),
    'mlp.experts.down_proj': 'ffn_down_exps.weight',
    'mlp.shared_expert.gate_proj': 'ffn_gate_shexp',
    'mlp.shared_expert.up_proj': 'ffn_up_shexp',
    'mlp.shared_expert.down_proj': 'ffn_down_shexp',
    'mlp.shared_expert_gate': 'ffn_gate_inp_shexp',
    'dense_2': 'dense_2',
    'dense_3': 'dense_3',
}
POST_NORMS = {
    'post_attention_layernorm': 'post_attention_norm',
    'pre_feedforward_layernorm': 'ffn_norm',
    'post_feedforward_layernorm': 'post_ffw_norm',
}
DELTA_NET = {
    'post_attention_layernorm': 'post_attention_norm',
    'linear_attn.in_proj_qkv': 'attn_qkv',
    'linear_attn.in_proj_z': 'attn_gate',
    'linear_attn.in_proj_b': 'ssm_beta',
    'linear_attn.in_proj_a': 'ssm_alpha',
    'linear_attn.conv1d': 'ssm_conv1d',
    'linear_attn.dt_bias': 'ssm_dt.bias',
    'linear_attn.A_log': 'ssm_a',
    'linear_attn.norm': 'ssm_norm',
    'linear_attn.out_proj': 'ssm_out',
}


def adjacent_pairs(w, heads):
    """Rotated halves become adjacent pairs: rows i and i + d/2 of each head come to 2i and 2i + 1."""
    return w.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def tiled(c, w, rows):
    """Value heads, of `rows` each, from grouped by their key head to key heads in turn."""
    k = c.linear_num_key_heads
    return w.unflatten(0, (k, c.linear_num_value_heads // k, rows)).transpose(0, 1).flatten(0, 2)


def tiled_values(c, w):
    """The same for the rows after those of queries and keys."""
    qk = 2 * c.linear_num_key_heads * c.linear_key_head_dim
    return torch.cat([w[:qk], tiled(c, w[qk:], c.linear_value_head_dim)])


LLAMA = {
    'attn_q': lambda c, w: adjacent_pairs(w, c.num_attention_heads),
    'attn_k': lambda c, w: adjacent_pairs(w, c.num_key_value_heads),
}
TILED = {
    'attn_qkv': tiled_values,
    'ssm_conv1d': lambda c, w: tiled_values(c, w.squeeze(1)),
    'attn_gate': lambda c, w: tiled(c, w, c.linear_value_head_dim),
    'ssm_out': lambda c, w: tiled(c, w.T, c.linear_value_head_dim).T,
    'ssm_alpha': lambda c, w: tiled(c, w, 1),
    'ssm_beta': lambda c, w: tiled(c, w, 1),
    'ssm_dt': lambda c, w: tiled(c, w, 1),
    'ssm_a': lambda c, w: tiled(c, -w.exp(), 1),
}


def delta_net_keys(c):
    rope, recurrent = c.rope_parameters, [kind == 'linear_attention' for kind in c.layer_types]
    return {
        'ssm.inner_size': c.linear_num_value_heads * c.linear_value_head_dim,
        'attention.recurrent_layers': recurrent,
        'full_attention_interval': recurrent.index(False) + 1,
        'rope.dimension_count': int(c.head_dim * rope['partial_rotary_factor']),
        'rope.dimension_sections': [*rope['mrope_section'], 0],
    }


def dense_keys(c):
    keys = {'pooling_type': 1, 'attention.sliding_window': 2 * (c.sliding_window - 1)}
    for i, (d_in, d_out) in enumerate(zip([c.hidden_size, *c.dense], c.dense), 2):
        keys |= {f'dense_{i}_feat_in': d_in, f'dense_{i}_feat_out': d_out}
    return keys


@dataclass
class Arch:
    model_type: str
    # The fixture whose vocabulary and tokenizer cases it takes.
    vocab: str
    # Beyond TINY; None takes a value away.
    tiny: dict = field(default_factory=dict)
    # Beyond NAMES.
    names: dict = field(default_factory=dict)
    # Norms multiply by this plus the parameter, and are stored with it added.
    norm_offset: int = 0
    # Tensor without prefix and suffix: how it is stored.
    stored: dict = field(default_factory=dict)
    # Beyond KEYS; None takes a key away.
    keys: Callable = lambda config: {}
    # Widths of the matrices after the mean of the last hidden states, for a model that makes embeddings.
    dense: list = field(default_factory=list)
    # Config values that no key carries, so that the architecture has but one.
    implied: Callable = lambda values: {}


GEMMA = dict(norm_offset=1)
GEMMA_TINY = dict(tie_word_embeddings=True, sliding_window=8)
POST_NORM_GEMMA = dict(GEMMA, names=POST_NORMS, implied=lambda values: {'query_pre_attn_scalar': values['head_dim']})
QWEN35 = dict(vocab='qwen35', norm_offset=1, names=DELTA_NET, stored=TILED, keys=delta_net_keys)
QWEN35_TINY = dict(
    num_hidden_layers=4, layer_types=['linear_attention'] * 3 + ['full_attention'], head_dim=32,
    linear_conv_kernel_dim=4, linear_key_head_dim=16, linear_value_head_dim=16,
    linear_num_key_heads=2, linear_num_value_heads=4,
    rope_parameters=dict(rope_type='default', rope_theta=10000.0, partial_rotary_factor=0.5, mrope_interleaved=True,
                         mrope_section=[3, 3, 2]))
ARCHS = {
    'llama': Arch('llama', 'llama', stored=LLAMA,
                  keys=lambda c: {'vocab_size': c.vocab_size, 'rope.dimension_count': c.head_dim}),
    'qwen2': Arch('qwen2', 'qwen2', dict(head_dim=None)),
    # Unlike in qwen3moe, the shares of the chosen experts are not made to sum to 1.
    'qwen2moe': Arch('qwen2_moe', 'qwen2', implied=lambda values: {'norm_topk_prob': False},
                     tiny=dict(EXPERTS, head_dim=None, intermediate_size=128, shared_expert_intermediate_size=48)),
    'qwen3': Arch('qwen3', 'qwen3'),
    'qwen3moe': Arch('qwen3_moe', 'qwen3', dict(EXPERTS, intermediate_size=128),
                     implied=lambda values: {'norm_topk_prob': True}),
    'gemma': Arch('gemma', 'gemma', **GEMMA, tiny=dict(tie_word_embeddings=True, head_dim=32, num_key_value_heads=1),
                  keys=lambda c: {'rope.freq_base': None}),
    # Caps that are low, so that they matter.
    'gemma2': Arch('gemma2', 'gemma2', **POST_NORM_GEMMA, keys=lambda c: {'rope.freq_base': None},
                   tiny=dict(GEMMA_TINY, num_hidden_layers=4, attn_logit_softcapping=3.0, final_logit_softcapping=8.0)),
    # Layers 0 to 4 and 6 are local.
    'gemma3': Arch('gemma3_text', 'gemma3', **POST_NORM_GEMMA, tiny=dict(
        GEMMA_TINY, num_hidden_layers=7, intermediate_size=96, rope_parameters=dict(
            full_attention=dict(rope_type='linear', factor=8.0, rope_theta=1e6),
            sliding_attention=dict(rope_type='default', rope_theta=1e4)))),
    # A token sees 4 others before it and 4 after it; transformers has that window already halved.
    'gemma-embedding': Arch('gemma3_text', 'gemma3', norm_offset=1, names=POST_NORMS, dense=[96, 64], keys=dense_keys,
                            implied=lambda values: {'query_pre_attn_scalar': values['head_dim'],
                                                    'use_bidirectional_attention': True},
                            tiny=dict(GEMMA_TINY, num_hidden_layers=7, intermediate_size=96)),
    'qwen35': Arch('qwen3_5_text', **QWEN35, tiny=QWEN35_TINY),
    'qwen35moe': Arch('qwen3_5_moe_text', **QWEN35, tiny=dict(
        QWEN35_TINY, **EXPERTS, intermediate_size=None, shared_expert_intermediate_size=48)),
}
