"""Model shapes by name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from transformers import GPT2Config, LlamaConfig, PreTrainedConfig

MAX_POSITIONS = 1024
"""Positions of models that learn them; assumed enough for proxy runs, GPT-2's own number."""


@dataclass(frozen=True)
class Preset:
    """A shape; the vocabulary comes from the tokenizer."""

    family: str
    width: int
    layers: int
    heads: int
    ffn: int
    tied: bool = False
    kv_heads: int | None = None
    """Key and value heads; None is as many as heads."""
    positions: int = MAX_POSITIONS


def _llama(preset: Preset, vocab_size: int) -> PreTrainedConfig:
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=preset.width,
        intermediate_size=preset.ffn,
        num_hidden_layers=preset.layers,
        num_attention_heads=preset.heads,
        num_key_value_heads=preset.kv_heads or preset.heads,
        max_position_embeddings=preset.positions,
        tie_word_embeddings=preset.tied,
        rms_norm_eps=1e-5,
        initializer_range=_initial_std(preset),
    )


def _gpt2(preset: Preset, vocab_size: int) -> PreTrainedConfig:
    return GPT2Config(
        vocab_size=vocab_size,
        n_embd=preset.width,
        n_inner=preset.ffn,
        n_layer=preset.layers,
        n_head=preset.heads,
        n_positions=preset.positions,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,  # its default is outside a vocabulary of one's own
        eos_token_id=None,
        initializer_range=_initial_std(preset),
    )


def _initial_std(preset: Preset) -> float:
    """GPT-2's 0.02, and sqrt(2 / (5 width)) below width 1,000; assumed.

    At width 64 with tied embeddings 0.02 leaves logits so flat that adapters learn slowly.
    """
    return max(0.02, math.sqrt(2 / (5 * preset.width)))


_FAMILIES: dict[str, Any] = {"llama": _llama, "gpt2": _gpt2}


# Sizes in the names count a vocabulary of 1,024 up to 30m, and 32,000 from 60m. 60m to 1b are the
# shapes of arXiv 2506.14562, section 4; 0.5b is the smallest of arXiv 2602.11137, 3.2-1b that of
# arXiv 2603.16127 (whether its head is tied was not found; not here); the smaller ones are this
# project's.
PRESETS: dict[str, Preset] = {
    "llama-0.06m": Preset("llama", width=32, layers=2, heads=2, ffn=88, tied=True),
    "llama-0.2m": Preset("llama", width=64, layers=3, heads=4, ffn=176, tied=True),
    "llama-1m": Preset("llama", width=128, layers=5, heads=4, ffn=344, tied=True),
    "llama-4m": Preset("llama", width=256, layers=5, heads=8, ffn=688, tied=True),
    "llama-10m": Preset("llama", width=320, layers=8, heads=10, ffn=864, tied=True),
    "llama-30m": Preset("llama", width=512, layers=9, heads=8, ffn=1376, tied=True),
    "llama-60m": Preset("llama", width=512, layers=8, heads=8, ffn=1376),
    "llama-135m": Preset("llama", width=768, layers=12, heads=12, ffn=2048),
    "llama-350m": Preset("llama", width=1024, layers=24, heads=16, ffn=2736),
    "llama-0.5b": Preset(
        "llama", width=1536, layers=20, heads=32, ffn=3216, kv_heads=4, positions=2048
    ),
    "llama-1b": Preset("llama", width=2048, layers=24, heads=32, ffn=5461),
    "llama-3.2-1b": Preset(
        "llama", width=2048, layers=16, heads=32, ffn=8192, kv_heads=8, positions=2048
    ),
    "gpt2-0.2m": Preset("gpt2", width=64, layers=3, heads=4, ffn=256, tied=True),
    "gpt2-124m": Preset("gpt2", width=768, layers=12, heads=12, ffn=3072, tied=True),
}
