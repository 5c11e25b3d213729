"""The only doors to Hugging Face's configs, tokenizers, weights and model classes.

A folder or a hub repository is data. Nothing in it may run as code, choose an implementation of
attention or of experts (which transformers would fetch from the hub as a binary), or lead to files
outside it. Whatever is wrong with it is one short ValueError that names it.
"""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from objectives.models import hub

NO_CODE: dict[str, Any] = {"trust_remote_code": False}
"""Without it transformers asks on stdin whether to run a repository's Python."""


CONFIG_BYTES = 64_000_000
"""A config has at most; assumed."""


MOST_LAYERS = 10_000
"""Assumed; ten times the deepest models."""


LARGEST_SIZE = 10**8
"""Of a width, a vocabulary, a context or any other size in a config; assumed: a matrix with such a
side is larger than any machine's memory. Beyond it a size overflows what torch counts with."""


LONGEST_REASON = 160
"""Characters of another library's message that are shown."""


def load_config(name: str) -> PreTrainedConfig:
    """The config of a causal language model; of a multimodal wrapper, that of its text model.

    Raises:
        ValueError: it cannot be read, or is of another kind of model.
    """
    with one_sentence(f"model.config {name!r} cannot be read", "give a folder with config.json"):
        _check_sizes(Path(name) / "config.json")
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            name, local_files_only=hub.only_local(name), **NO_CODE
        )
        text = text_model(config)
    if text is None:
        raise ValueError(
            f"model.config {name!r} is of type {config.model_type}, which transformers has no "
            "causal language model for; take the config of one."
        )
    _clear(text)
    return text


def content_of_config(name: str) -> tuple[bytes, ...] | None:
    """All that `load_config` reads of a folder; None for a hub's name, or files it may refuse."""
    try:
        paths = sorted(Path(name).glob("config*.json"))
        if not paths or any(not p.is_file() or p.stat().st_size > CONFIG_BYTES for p in paths):
            return None
        return tuple(part for path in paths for part in (path.name.encode(), path.read_bytes()))
    except (OSError, ValueError):  # `load_config` says what is wrong
        return None


def _check_sizes(path: Path) -> None:
    """Refuse a local config before its class makes a list of as many parts as it has layers."""
    if not path.is_file():
        return
    if path.stat().st_size > CONFIG_BYTES:
        raise ValueError(f"config.json has more than {CONFIG_BYTES} bytes")
    waiting: list[Any] = [json.loads(path.read_text(encoding="utf-8"))]
    while waiting:
        part = waiting.pop()
        for key, value in part.items() if isinstance(part, dict) else ():
            most = MOST_LAYERS if "layer" in key else LARGEST_SIZE
            if _is_size(key) and type(value) is int and value > most:
                raise ValueError(f"{key} is {value}, more than {most}")
        waiting.extend(part.values() if isinstance(part, dict) else ())


def _is_size(key: str) -> bool:
    """Whether a config's field says how large the model is."""
    return any(part in key for part in ("layer", "size", "dim", "embd", "model", "inner", "heads"))


def text_model(config: PreTrainedConfig) -> PreTrainedConfig | None:
    """The config itself or the text model's inside it; None if neither is a causal model's."""
    try:
        inner = config.get_text_config(decoder=True)
    except NotImplementedError:  # a model without such parts
        inner = config
    # of an encoder and a decoder in one config it makes a copy
    inside = [] if type(inner) is type(config) else [inner]
    return next((c for c in (*inside, config) if type(c) in MODEL_FOR_CAUSAL_LM_MAPPING), None)


def open_tokenizer(name: str, *, local: bool) -> PreTrainedTokenizerBase:
    """A tokenizer of a folder or, unless `local`, of the hub.

    Raises:
        ValueError: it cannot be read.
    """
    remedy = "give a folder with tokenizer.json, or None to train one"
    with one_sentence(f"corpus.tokenizer {name!r} cannot be read", remedy):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            name, local_files_only=local, **NO_CODE
        )
        if not len(tokenizer):
            raise ValueError("it has no tokens")
    return tokenizer


def load_weights(name: str, config: PreTrainedConfig) -> nn.Module:
    """Pretrained weights in the default precision, whatever they are stored in.

    Raises:
        ValueError: they cannot be read, or are another model's.
    """
    remedy = "give a folder with model.safetensors"
    with one_sentence(f"model.weights {name!r} cannot be read", remedy):
        _check_weight_files(Path(name))
        module, found = AutoModelForCausalLM.from_pretrained(
            name,
            config=copy.deepcopy(config),
            dtype=torch.get_default_dtype(),
            attn_implementation="eager",
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            local_files_only=hub.only_local(name),
            **NO_CODE,
        )
        if getattr(module, "_hf_peft_config_loaded", False):
            raise ValueError("it holds an adapter beside the model; merge it first")
    unfit = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
    if unfit:
        raise ValueError(
            f"model.weights {name!r} do not fit the model: {unfit[0]} is missing or has another "
            "shape; give their own config, and their tokenizer as corpus.tokenizer."
        )
    loaded: nn.Module = module
    left_over = _of_its_modules(found["unexpected_keys"], loaded)
    if left_over is not None:
        raise ValueError(
            f"model.weights {name!r} do not fit the model: they hold {left_over}, which the config "
            "has no place for, such as more layers or a bias; give their own config."
        )
    for key, parameter in loaded.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ValueError(
                f"model.weights {name!r} has values in {key} that are no numbers; take a "
                "checkpoint from before training diverged."
            )
    return loaded


def _of_its_modules(keys: Iterable[str], model: nn.Module) -> str | None:
    """A tensor that is left over and is named as one of the model's own layers, at any index.

    Without it another model would be trained. What is of parts that the model does not have, such
    as images, or is computed by its layers, is left out as transformers does.
    """
    layers = {
        _any_index(name)
        for name, module in model.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    }
    for key in sorted(keys):
        layer, _, part = key.rpartition(".")
        name = _any_index(layer)
        inside = "." in name and any(each.endswith(f".{name}") for each in layers)
        if part in ("weight", "bias") and (name in layers or inside):
            return reason(ValueError(key))
    return None


def _any_index(name: str) -> str:
    """A module's name with # for each number."""
    return ".".join("#" if part.isdigit() else part for part in name.split("."))


def new_module(config: PreTrainedConfig, attention: str = "eager") -> nn.Module:
    """The model of a config, its weights drawn from torch's generator, in the default precision."""
    module: nn.Module = AutoModelForCausalLM.from_config(
        copy.deepcopy(config),
        attn_implementation=attention,
        dtype=torch.get_default_dtype(),
        **NO_CODE,
    )
    return module


def reason(error: BaseException) -> str:
    """Another library's message in one short line of printable characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    if "trust_remote_code" in text or "custom code" in text:
        return "it needs Python code of its own, which is never run"
    text = "".join(each if each.isprintable() else "?" for each in text).rstrip(".")
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 3] + "..."


@contextlib.contextmanager
def one_sentence(problem: str, remedy: str) -> Iterator[None]:
    """Turn whatever a library raises over a broken file into a ValueError.

    Any exception: a damaged config, tokenizer or weights file has been seen to raise KeyError,
    IndexError, TypeError, RecursionError and the libraries' own.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{problem} ({reason(error)}); {remedy}.") from None


def _clear(config: PreTrainedConfig) -> None:
    """Forget what a file may not decide: implementations, code, what a forward pass returns.

    Also how its weights were quantized: they are trained in full precision.
    """
    config._attn_implementation = None
    config._experts_implementation = None
    for name in ("auto_map", "custom_pipelines", "quantization_config"):
        if hasattr(config, name):
            delattr(config, name)
    config.output_hidden_states = False
    config.output_attentions = False
    config.return_dict = True


def _check_weight_files(folder: Path) -> None:
    """Raise ValueError if an index leads out of the folder, or a file is none that ends.

    A hub's name is no folder.
    """
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix in (".safetensors", ".json") and not path.is_file():
            raise ValueError(f"{path.name} is no regular file")  # opening a FIFO would wait
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    files = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    if not all(isinstance(file, str) and Path(file).name == file for file in files):
        raise ValueError(f"{index.name} names files outside the folder")
    if not all((folder / file).is_file() for file in files):
        raise ValueError(f"{index.name} names files that are not there")
