"""A tiny config of every causal language model type that transformers has.

Sizes are set by the names that configs use; what a type needs besides is in EXTRA.
"""

from __future__ import annotations

import contextlib
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from objectives.models import huggingface

VOCAB, WIDTH, FFN, LAYERS, HEADS, POSITIONS = 64, 32, 48, 2, 4, 64


TYPES = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
"""All of them, in transformers' order."""


_SIZES: tuple[tuple[int, str], ...] = (
    (VOCAB, "vocab_size"),
    (WIDTH, "hidden_size d_model n_embd embedding_size word_embed_proj_dim dim emb_dim embed_dim"),
    (FFN, "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim n_inner d_ff dff d_inner"),
    (FFN, "ffn_hidden_size inner_hidden_size"),
    (16, "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size"),
    (LAYERS, "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers"),
    (LAYERS, "num_decoder_layers num_encoder_layers"),
    (HEADS, "num_attention_heads n_head n_heads num_heads decoder_attention_heads"),
    (HEADS, "encoder_attention_heads num_decoder_attention_heads num_encoder_attention_heads"),
    (HEADS, "num_local_experts num_experts n_routed_experts moe_num_experts"),
    (2, "num_key_value_heads num_experts_per_tok moe_topk moe_k"),
    (8, "head_dim rotary_dim"),
    (POSITIONS, "max_position_embeddings n_positions max_seq_len n_ctx"),
)


_TOKENS = (
    "bos_token_id", "eos_token_id", "sep_token_id", "decoder_start_token_id", "pad_token_id",
)  # fmt: skip


LATENT = {
    "q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
    "v_head_dim": 8, "head_dim": 8, "qk_head_dim": 16, "num_key_value_heads": HEADS,
}  # fmt: skip
"""Multi-head latent attention."""


DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}  # fmt: skip
"""Linear attention by the delta rule."""


EXTRA: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "olmo_hybrid"), DELTA),
    "qwen4_exp_text": {
        **DELTA, "ple_embed_dim": 8, "ngram_vocab_size_base": 50, "heads_per_ngram": 2,
        "hc_lowrank": 4, "hc_count": 2,
    },
    **dict.fromkeys(("axk2", "minicpm3", "longcat_flash", "glm4_moe_lite", "youtu"), LATENT),
    "axk1": {**LATENT, "n_group": 1, "topk_group": 1},
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8},
    "blt": {"encoder_hash_byte_group_vocab": 50, "encoder_hash_byte_group_size": [3]},
    "codegen": {"rotary_dim": 4},
    "cpmant": {"dim_head": 8},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": FFN, "moe_num_experts": 4, "moe_top_k": 2},
        "use_cache": False,
    },
    "deepseek_v2": {**LATENT, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
    "deepseek_v3": {**LATENT, "n_group": 1, "topk_group": 1},
    "deepseek_v32": {**LATENT, "index_n_heads": 2, "index_head_dim": 16, "index_topk": 64},
    "dots1": {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1},
    "dots3_note_text": {
        **LATENT, "per_layer_config": None, "index_n_heads": 2, "index_head_dim": 16,
        "shared_experts_intermediate_size": 16, "num_attention_heads": HEADS,
    },
    "falcon": {"ffn_hidden_size": FFN, "head_dim": ...},
    "falcon_h1": {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8},
    "gemma3n_text": {
        "intermediate_size": FFN, "vocab_size_per_layer_input": VOCAB, "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 8, "laurel_rank": 4,
        "activation_sparsity_pattern": [0.0] * LAYERS,
        "layer_types": ["full_attention"] * LAYERS,
    },
    "gemma4_text": {
        "vocab_size_per_layer_input": VOCAB, "hidden_size_per_layer_input": 8,
        "per_layer_config": None, "layer_types": ["sliding_attention", "full_attention"],
    },
    "gemma4_unified_text": {
        "per_layer_config": None, "layer_types": ["sliding_attention", "full_attention"],
    },
    "git": {"vision_config": {
        "hidden_size": WIDTH, "intermediate_size": FFN, "num_hidden_layers": 1,
        "num_attention_heads": HEADS, "image_size": 32, "patch_size": 16,
    }},
    "glm_moe_dsa": {**LATENT, "index_n_heads": 2, "index_head_dim": 16, "index_topk": 64},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 4},
    "granitemoehybrid": {"mamba_n_heads": 8, "mamba_d_head": 8},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8, "num_experts": 4, "moe_topk": 2},
    "kimi_linear": {**LATENT, "linear_head_dim": 8, "linear_num_heads": 4},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1},
    "ministral": {"head_dim": 8},
    "nemotron_h": {
        "mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 8, "n_groups": 1,
        "num_hidden_layers": ..., "layers_block_type": ["mamba", "attention", "moe", "mlp"],
        "moe_shared_expert_intermediate_size": 16,
    },
    "nemotron": {"num_key_value_heads": 2},
    "phi4_multimodal_audio": {"num_blocks": 1},
    "prophetnet": {
        "num_hidden_layers": ..., "num_encoder_attention_heads": HEADS,
        "num_decoder_attention_heads": HEADS,
    },
    "reformer": {
        "is_decoder": True, "attn_layers": ["local", "lsh"], "attention_head_size": 8,
        "feed_forward_size": FFN, "axial_pos_shape": [8, 8], "axial_pos_embds_dim": [16, 16],
        "lsh_attn_chunk_length": 8, "local_attn_chunk_length": 8, "num_hidden_layers": ...,
        "num_buckets": 4,
    },
    "roc_bert": {
        "pronunciation_embed_dim": 8, "pronunciation_vocab_size": 8, "shape_embed_dim": 8,
        "shape_vocab_size": 8,
    },
    "hy_v4": {
        **LATENT, "index_n_heads": 2, "index_head_dim": 16, "index_topk": 64, "hc_mult": 2,
        "indexer_types": ["full", "full"], "n_group": 1, "topk_group": 1,
    },
    "rembert": {"input_embedding_size": 16, "output_embedding_size": 16},
    "xlnet": {"max_position_embeddings": ...},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "num_hidden_layers": 3, "attention_head_dim": 16, "attention_hidden_size": 64,
        "layers_block_type": ["linear_attention", "hybrid", "hybrid"], "mamba_dt_rank": 2,
    },
    "zamba2": {
        "num_hidden_layers": 3, "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
        "mamba_headdim": 16, "n_mamba_heads": 4, "mamba_d_state": 8, "adapter_rank": 4,
    },
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
}  # fmt: skip
"""Type -> what it needs besides; ... leaves a size out."""


def config_class(model_type: str) -> type[PreTrainedConfig]:
    """Of the text model that a type's config holds, or of the type itself."""
    whole = CONFIG_MAPPING[model_type]
    text = huggingface.text_model(whole())
    return whole if text is None else type(text)


def tiny_config(model_type: str) -> PreTrainedConfig:
    """A config of some ten thousand parameters."""
    return _tiny(config_class(model_type))


def _tiny(found: type[PreTrainedConfig]) -> PreTrainedConfig:
    default = found()
    known: dict[str, Any] = {}
    for size, names in _SIZES:
        known |= {name: size for name in names.split() if _is_count(default, name)}
    for name, value in default.to_dict().items():
        if ("drop" in name or "jitter" in name) and isinstance(value, float):
            known[name] = 0.0
        if name in _TOKENS and isinstance(value, int):
            known[name] = 0
    if hasattr(default, "is_decoder"):
        known["is_decoder"] = True
    for name in found.sub_configs:
        if isinstance(part := getattr(default, name, None), PreTrainedConfig):
            known[name] = _tiny(type(part)).to_dict()
    given = {**known, **EXTRA.get(found.model_type, {})}
    return found(**{name: value for name, value in given.items() if value is not ...})


def _is_count(config: PreTrainedConfig, name: str) -> bool:
    value = None
    with contextlib.suppress(Exception):  # properties that not every model can answer
        value = getattr(config, name, None)
    return isinstance(value, int) and not isinstance(value, bool)
