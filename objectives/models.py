"""Causal language models from a preset's shape or any Hugging Face config.

The module itself is only a program: its parameters live on the meta device and every forward pass
is given real ones, so K lanes cost K sets of parameters and not K + 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import GPT2Config, LlamaConfig, PreTrainedConfig

from objectives import attention, draws, huggingface, recipe, recompute

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


def build_config(model: recipe.Model, vocab_size: int) -> PreTrainedConfig:
    """The Hugging Face config that the recipe's model section names.

    Raises:
        ValueError: an unknown preset, or a config that cannot be read.
    """
    if model.config is not None:
        config = huggingface.load_config(model.config)
        _set_vocabulary(config, vocab_size, model.config)
    elif model.preset in PRESETS:
        config = _FAMILIES[PRESETS[model.preset].family](PRESETS[model.preset], vocab_size)
    else:
        raise ValueError(
            f"unknown model.preset {model.preset!r}; presets are {', '.join(PRESETS)}."
        )
    config.use_cache = False
    return config


def family_of(model: recipe.Model) -> str | None:
    """The family of a preset whose initial weights are drawn; None for any other model."""
    preset = PRESETS.get(model.preset or "")
    return None if preset is None or model.weights is not None else preset.family


def build_module(
    config: PreTrainedConfig, device: str, *, checkpointing: bool = False
) -> nn.Module:
    """The model as a program: buffers on `device`, parameters on meta (tied ones stay tied)."""
    with draws.seeded(0):  # what is drawn is not kept
        module = huggingface.new_module(config, attention.NAME)
    for part in module.modules():
        if isinstance(part, nn.Embedding):
            part.padding_idx = None  # that token would have no gradient
    if checkpointing:
        recompute.install(module)
    make_program(module, device)
    return module.train()


def make_program(module: nn.Module, device: str) -> None:
    """Move buffers to `device` and parameters to meta, in place; a shared one stays shared."""
    moved: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else buffer.to(device)
        for name, old in part._parameters.items():
            if old is not None:
                new = nn.Parameter(old.detach().to("meta"), requires_grad=old.requires_grad)
                part._parameters[name] = moved.setdefault(id(old), new)


def initial_parameters(
    model: recipe.Model, config: PreTrainedConfig, seed: int
) -> dict[str, Tensor]:
    """Name -> parameter on the CPU: the recipe's pretrained weights, else drawn from the seed.

    Raises:
        ValueError: the weights cannot be read or are another model's.
    """
    if model.weights is not None:
        module = huggingface.load_weights(model.weights, config)
    else:
        with draws.seeded(seed):
            module = huggingface.new_module(config)
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def spread(params: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Weights with noise that makes attention uneven and leaves nothing at 0, to try a model with.

    Attention of fresh weights is nearly even, and what should not reach a token hardly shows.
    """
    draw = torch.Generator().manual_seed(seed)

    def noise(p: Tensor) -> Tensor:
        scale = p.shape[-1] ** -0.5 if p.dim() > 1 else 0.1
        return (torch.randn(p.shape, generator=draw) * scale).to(p)

    return {name: p + noise(p) for name, p in params.items()}


def num_parameters(module: nn.Module) -> int:
    """Parameters, tied ones counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def decayed_mask(module: nn.Module, which: str) -> Tensor | None:
    """1 for parameters that decay, 0 for the others, in the order of named_parameters; [P].

    "all" gives None. Vectors (norms, biases) decay only there; embeddings, and a head tied to them,
    not under "matrices".
    """
    if which == "all":
        return None
    embeddings = {id(p) for part in module.modules() if isinstance(part, nn.Embedding)
                  for p in part.parameters()}  # fmt: skip
    parts = []
    for parameter in module.parameters():
        decays = parameter.dim() >= 2 and (which != "matrices" or id(parameter) not in embeddings)
        parts.append(torch.full((parameter.numel(),), float(decays)))
    return torch.cat(parts)


def has_dropout(config: PreTrainedConfig) -> bool:
    """Whether a training step draws random numbers: dropout, or noise on a router's inputs."""
    kinds = ("drop", "jitter", "noise")
    return any(
        any(kind in name for kind in kinds) and isinstance(value, float) and value > 0
        for name, value in config.to_dict().items()
    )


def max_positions(config: PreTrainedConfig) -> int | None:
    """Longest row that the model has positions for; None where it has no limit."""
    try:
        most = getattr(config, "max_position_embeddings", None)
    except NotImplementedError:  # as transformers says of a model without limit
        return None
    return most if isinstance(most, int) and most > 0 else None


def flops_per_token(config: PreTrainedConfig, num_params: int, seq_len: int) -> float:
    """Training operations a token: 6 N for the weights plus 12 L C T for attention scores.

    The usual count (forward 2, backward 4 a weight), attention not halved for causality.
    """
    layers, width = int(config.num_hidden_layers), int(config.hidden_size)
    return 6.0 * num_params + 12.0 * layers * width * seq_len


def _set_vocabulary(config: PreTrainedConfig, vocab_size: int, name: str) -> None:
    """The corpus's vocabulary, and no padding, which would name a token of another tokenizer.

    A config whose padding must be a number gets token 0, the end mark of a trained tokenizer;
    `build_module` has it trained like any other.
    """
    config.vocab_size = vocab_size
    for pad in (None, 0):
        try:
            config.pad_token_id = pad
        except StrictDataclassError:
            continue
        return
    raise ValueError(f"model.config {name!r} has a pad_token_id that takes no number.")


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
    """GPT-2's 0.02, and sqrt(2 / (5 width)) below width 1,000; assumed, ours.

    At width 64 with tied embeddings 0.02 leaves logits so flat that adapters learn slowly.
    """
    return max(0.02, math.sqrt(2 / (5 * preset.width)))


_FAMILIES: dict[str, Any] = {"llama": _llama, "gpt2": _gpt2}

# Sizes in the names count a vocabulary of 1,024 up to 30m, and 32,000 from 60m. 60m to 1b are the
# shapes of arXiv 2506.14562, section 4; 0.5b is the smallest of arXiv 2602.11137, 3.2-1b that of
# arXiv 2603.16127 (whether its head is tied was not found; not here); the smaller ones are ours.
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
