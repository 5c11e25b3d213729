"""What libraries decide about a stage, as part of its key: equal as long as they draw the same.

Initial weights come from transformers, adapters from PEFT, orders of batches from numpy and merges
of a tokenizer from tokenizers, and no library promises that its next version draws the same. So the
keys of stages hold fingerprints of what the installed versions draw: a few numbers of tiny models
drawn at a fixed seed, and a short permutation. An upgrade that changes none of them loses no stage.

What cannot be tried in a few milliseconds is in the keys by its version, major.minor: torch, whose
kernels round; transformers where the model is not one of the presets; PEFT, which chooses the
layers; tokenizers.

Numbers are kept to two digits, because the same version may differ in the last bits between
processors. Each print is made once a process, when it is first needed.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    ResNetConfig,
)

from objectives.models import draws

SEED = 0


FIRST = 4
"""Numbers that are taken of each tensor."""


def of_pretraining(family: str | None) -> list[str]:
    """For the keys of weights that are trained from a model of a preset's family, or another."""
    drawn = versions("transformers") if family is None else initial_weights(family)
    return [drawn, permutations(), versions("torch")]


def of_finetuning(method: str) -> list[str]:
    """For the keys of fine-tunes, beside the key of their base."""
    return [permutations(), *([adapters(), versions("peft")] if method == "lora" else [])]


def of_classifiers() -> list[str]:
    """For the keys of image classifiers."""
    return [classifier_weights(), permutations(), versions("torch")]


def of_tokenizers() -> list[str]:
    """For the keys of tokenizers that are trained."""
    return [versions("tokenizers")]


@functools.cache
def versions(*packages: str) -> str:
    """Such as `torch 2.13`, of each package."""
    found = ((name, importlib.metadata.version(name).split(".")) for name in packages)
    return ", ".join(f"{name} {'.'.join(parts[:2])}" for name, parts in found)


@functools.cache
def initial_weights(family: str) -> str:
    """Of a tiny model of the family, as transformers draws it."""
    with draws.seeded(SEED):
        module = AutoModelForCausalLM.from_config(_TINY[family](), dtype=torch.float32)
    return _print(module.parameters())


@functools.cache
def adapters() -> str:
    """Of an adapter on a tiny layer, as PEFT draws it."""
    with draws.seeded(SEED):
        module = nn.ModuleDict({"layer": nn.Linear(8, 8)})
        inject_adapter_in_model(LoraConfig(r=2, target_modules=["layer"]), module)
    layer: Any = module.to(torch.float32)["layer"]
    with draws.seeded(SEED):
        layer.reset_lora_parameters("default", True)
    return _print(p for name, p in module.named_parameters() if "lora_" in name)


@functools.cache
def classifier_weights() -> str:
    """Of a tiny ResNet, as transformers draws it."""
    config = ResNetConfig(num_channels=1, embedding_size=4, hidden_sizes=[4], depths=[1])
    with draws.seeded(SEED):
        module = AutoModelForImageClassification.from_config(config, dtype=torch.float32)
    return _print(module.parameters())


@functools.cache
def permutations() -> str:
    """Of a short order, as numpy draws it."""
    order = np.random.default_rng([SEED, 1, 2]).permutation(32)
    return hashlib.sha256(str(order.tolist()).encode()).hexdigest()[:16]


def _print(tensors: Iterable[Tensor]) -> str:
    rows = [(list(x.shape), _numbers(x)) for x in tensors]
    return hashlib.sha256(str(rows).encode()).hexdigest()[:16]


def _numbers(x: Tensor) -> list[str]:
    return [f"{value:.1e}" for value in x.detach().flatten()[:FIRST].tolist()]


def _llama() -> PreTrainedConfig:
    return LlamaConfig(
        vocab_size=16,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
    )


def _gpt2() -> PreTrainedConfig:
    return GPT2Config(
        vocab_size=16, n_embd=8, n_layer=1, n_head=2, n_positions=8, bos_token_id=0, eos_token_id=0
    )


_TINY: dict[str, Any] = {"llama": _llama, "gpt2": _gpt2}
"""By the family of `objectives.models.causal_lm.PRESETS`."""
