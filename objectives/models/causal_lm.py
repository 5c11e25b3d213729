"""Causal language models from a preset's shape or any Hugging Face config.

The module itself is only a program: its parameters live on the meta device and every forward pass
is given real ones, so K lanes cost K sets of parameters and not K + 1.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import PreTrainedConfig

from objectives.config import recipe
from objectives.models import activation_checkpointing, attention, draws, huggingface
from objectives.models.presets import _FAMILIES, PRESETS


def build_config(model: recipe.Model, vocab_size: int) -> PreTrainedConfig:
    """The Hugging Face config that the recipe's model section names.

    Raises:
        ValueError: an unknown preset, or a config that cannot be read.
    """
    content = None if model.config is None else huggingface.content_of_config(model.config)
    if model.config is not None and content is None:
        return _build_config(model, vocab_size)
    return copy.deepcopy(_known_config(model, vocab_size, content))


@functools.lru_cache(maxsize=64)
def _known_config(
    model: recipe.Model, vocab_size: int, content: tuple[bytes, ...] | None
) -> PreTrainedConfig:
    """Parsed once for what is in its files now: a trial asks for its config some fifty times."""
    return _build_config(model, vocab_size)


def _build_config(model: recipe.Model, vocab_size: int) -> PreTrainedConfig:
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
        activation_checkpointing.install(module)
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
