"""LoRA adapters by PEFT, as the trained part of lanes on frozen bases (arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from objectives import models, recipe

ADAPTER = "default"


class Adapted:
    """A model with adapters, as a program: which parameters are trained and which are frozen."""

    def __init__(self, config: PreTrainedConfig, lora: recipe.Lora, device: str) -> None:
        """Inject adapters into the model's linear layers.

        Raises:
            ValueError: the targets match no module, or one that is not linear.
        """
        self.lora_config = peft_config(lora)
        self.module = models.build_module(config, device)
        base_names = {id(p): name for name, p in self.module.named_parameters()}
        self.lora_config.fan_in_fan_out = any(
            isinstance(part, Conv1D) for part in self.module.modules()
        )
        inject_adapter_in_model(self.lora_config, self.module, adapter_name=ADAPTER)
        for name, part in self.module.named_modules():
            if isinstance(part, LoraLayer) and ADAPTER not in part.lora_A:
                raise ValueError(
                    f"finetune.lora.targets names {name}, which is no linear layer; name linear "
                    "layers, or all-linear."
                )
        self.base_names: dict[str, str] = {}
        """Name inside the adapted module -> name in the plain one, for all frozen parameters."""
        self.shapes: dict[str, torch.Size] = {}
        """Name -> shape of the trained parameters."""
        for name, parameter in self.module.named_parameters():
            if id(parameter) in base_names:
                self.base_names[name] = base_names[id(parameter)]
            else:
                self.shapes[name] = parameter.shape
        models.make_program(self.module, device)
        self.module.train()

    def frozen(self, bases: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Stacked base parameters [G, ...] under the names of the adapted module."""
        return {name: bases[base] for name, base in self.base_names.items()}

    def initial(self, seed: int) -> dict[str, Tensor]:
        """Adapters as PEFT initialises them, drawn from the seed; on the CPU."""
        parameters: dict[str, Tensor] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for prefix, layer in self.module.named_modules():
                if isinstance(layer, LoraLayer):
                    parameters |= _reset(layer, prefix)
        return {name: parameters[name] for name in self.shapes}


def peft_config(lora: recipe.Lora) -> LoraConfig:
    """The recipe's adapter in PEFT's terms."""
    targets = "all-linear" if lora.targets == ("all-linear",) else list(lora.targets)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets,
    )


def _reset(layer: Any, prefix: str) -> dict[str, Tensor]:
    """Run PEFT's own initialisation on real tensors, and leave the module on meta."""
    found = {}
    parts = {"lora_A": layer.lora_A[ADAPTER], "lora_B": layer.lora_B[ADAPTER]}
    for part in parts.values():
        part.weight = nn.Parameter(torch.empty(part.weight.shape))
    layer.reset_lora_parameters(ADAPTER, True)
    for kind, part in parts.items():
        found[f"{prefix}.{kind}.{ADAPTER}.weight"] = part.weight.detach()
        part.weight = nn.Parameter(part.weight.detach().to("meta"))
    return found
