"""Lanes as ordinary Hugging Face folders, which plain transformers and PEFT load."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase
from transformers.utils import logging

from objectives.finetuning import lora
from objectives.finetuning.lora_targets import ADAPTER
from objectives.models import draws, huggingface


def write_model(
    folder: Path,
    config: PreTrainedConfig,
    params: Mapping[str, Tensor],
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """A base model (or a fully fine-tuned one) with its tokenizer."""
    with draws.seeded(0):  # all of it is replaced
        module: Any = huggingface.new_module(config)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(params[name])
    module.config.use_cache = True  # off in training; text is generated with it
    with _no_bar():
        module.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextlib.contextmanager
def _no_bar() -> Iterator[None]:
    """Without transformers' progress bar, which would break into this program's."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def write_adapter(
    folder: Path,
    adapted: lora.Adapted,
    params: Mapping[str, Tensor],
    base: Path | None = None,
) -> None:
    """A LoRA adapter for the base model it was trained on, with modules that were trained in full.

    `base`: the base model's folder. Its absolute path is written, as PEFT's AutoPeftModel reads a
    relative one from the current folder; where both were moved, load the base and use PeftModel.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # copies, as a file's tensors share no memory
    named = {
        f"base_model.model.{inside}": p.clone(memory_format=torch.contiguous_format)
        for name, p in params.items()
        for inside in adapted.saved.names.get(name, (name.replace(f".{ADAPTER}.", "."),))
    }
    save_file(named, folder / "adapter_model.safetensors")
    config = adapted.config_for_peft()
    config.base_model_name_or_path = None if base is None else str(base.absolute())
    config.save_pretrained(str(folder))
