"""What the stages of pretraining depend on."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from objectives.config.recipe import Model
from objectives.data import file_paths, sources
from objectives.models import causal_lm

ANY_VOCABULARY = 512
"""Entries of the embedding where only the rest of a shape matters."""


def model_fingerprint(model: Model, vocab_size: int) -> list[Any]:
    """What the initial weights depend on besides the seed: shape, and any pretrained weights."""
    if model.config is None and model.weights is None:
        return _preset_fingerprint(model, vocab_size)
    return _read_fingerprint(model, vocab_size)


def _read_fingerprint(model: Model, vocab_size: int) -> list[Any]:
    """Read again each time: a folder may have changed."""
    return [_shape(model, vocab_size), _weights(model)]


def model_content(model: Model) -> list[Any]:
    """What a model's own files hold that results depend on, whatever the vocabulary."""
    return [
        _shape(model, ANY_VOCABULARY) if model.preset is None else model.preset,
        _weights(model),
    ]


def _shape(model: Model, vocab_size: int) -> dict[str, Any]:
    config = causal_lm.build_config(model, vocab_size)
    return {name: value for name, value in config.to_diff_dict().items() if name[0] != "_"}


def _weights(model: Model) -> Any:
    """Checksums of the files in a folder of weights, or a name."""
    weights = model.weights
    if weights is None or not Path(weights).is_dir():
        return weights
    files = file_paths.matching_files((f"{weights}/*.safetensors",))
    return [sources.checksum(path) for path in files]


_preset_fingerprint = functools.lru_cache(maxsize=64)(_read_fingerprint)
