"""LoRA adapters by PEFT, as the trained part of lanes on frozen bases (arXiv 2106.09685).

There are two ways to run them, equal up to rounding. PEFT's own adds B A x to W x in every layer:
two thin products and three more passes over the activations. Where the adapters are not much
smaller than what they adapt, it is cheaper to form W + B A for each lane and run the plain model.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedConfig

from objectives.config import training
from objectives.finetuning.lora_targets import ADAPTER, Targets, stored_transposed, targets_in
from objectives.finetuning.modules_to_save import saved_modules
from objectives.models import causal_lm, draws
from objectives.training.lanes import LaneModel

MERGED_BELOW = 12.0
"""Adapted weights over adapter weights up to which merging pays. Measured on two CPU cores, 18
lanes of 8 x 48 tokens, rank 8: width 64 (ratio 5) 1.6 times as fast, 128 (10) 1.2, 256 (20) 0.9."""


class Adapted:
    """A model with adapters, as a program: which parameters are trained and which are frozen."""

    def __init__(
        self, config: PreTrainedConfig, lora: training.Lora, device: str, *, bf16: bool = False
    ) -> None:
        """Inject adapters into the model's linear layers.

        Raises:
            ValueError: the targets match no module, or one that cannot be adapted; or there is no
                module to save of a kind, or it is adapted.
        """
        self.bf16 = bf16
        self.module = causal_lm.build_module(config, device)
        targets = targets_in(config, lora.targets)
        self.lora_config = peft_config(lora, targets)
        base_names = {id(p): name for name, p in self.module.named_parameters()}
        self.saved = saved_modules(self.module, lora.modules_to_save, targets.names)
        """What is trained in full beside the adapters."""
        self.lora_config.fan_in_fan_out = stored_transposed(self.module)
        with draws.seeded(0):  # what is drawn is not kept
            inject_adapter_in_model(self.lora_config, self.module, adapter_name=ADAPTER)
        self.base_names: dict[str, str] = {}
        """Name inside the adapted module -> name in the plain one, for all frozen parameters."""
        adapters: dict[str, torch.Size] = {}
        saved: dict[str, torch.Size] = {}
        for name, parameter in self.module.named_parameters():
            base_name = base_names.get(id(parameter))
            if base_name is None:
                adapters[name] = parameter.shape
            elif base_name in self.saved.names:
                saved[name] = parameter.shape
            else:
                self.base_names[name] = base_name
        self.adapter_shapes = adapters
        """Name -> shape of the adapters."""
        self.shapes = {**adapters, **saved}
        """Name -> shape of the trained parameters; saved modules have the names of the base."""
        causal_lm.make_program(self.module, device)
        self.module.train()
        self.merged = Merged(self) if self._merging_pays() else None

    def program(self, plain: nn.Module) -> LaneModel:
        """What trains the adapters; `plain` is a module of the same config without them."""
        if self.merged is not None:
            return LaneModel(plain, bf16=self.bf16, weights=self.merged.weights)
        return LaneModel(self.module, bf16=self.bf16)

    def frozen(self, bases: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Stacked base parameters [G, ...] under the names of the program's module."""
        if self.merged is not None:
            return {name: p for name, p in bases.items() if name not in self.saved.names}
        return {name: bases[base] for name, base in self.base_names.items()}

    def layers(self) -> dict[str, LoraLayer]:
        """Module name -> layer with an adapter."""
        return {
            name: part for name, part in self.module.named_modules() if isinstance(part, LoraLayer)
        }

    def _merging_pays(self) -> bool:
        """Never under bf16, which would round most of B A away, or with dropout between x and A.

        Nor where an adapted weight is shared with another module, as a tied head is.
        """
        names = {f"{name}.base_layer.weight": f"{name}.weight" for name in self.layers()}
        alone = all(self.base_names.get(inside) == name for inside, name in names.items())
        if self.bf16 or self.lora_config.lora_dropout or not alone:
            return False
        adapted = sum(self.module.get_parameter(inside).numel() for inside in names)
        return adapted <= MERGED_BELOW * sum(
            shape.numel() for shape in self.adapter_shapes.values()
        )

    def config_for_peft(self) -> LoraConfig:
        """What makes PEFT train the same parameters; a shared one stays one tensor."""
        config = copy.deepcopy(self.lora_config)
        if self.saved.modules:
            config.modules_to_save = list(self.saved.modules)
            config.ensure_weight_tying = self.saved.shared
        return config

    def saved_weights(self, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Where saved modules begin: at the base's weights."""
        return {name: base[name] for name in self.saved.names}

    def initial(self, seed: int) -> dict[str, Tensor]:
        """Adapters as PEFT initialises them, drawn from the seed; on the CPU."""
        parameters: dict[str, Tensor] = {}
        with draws.seeded(seed):
            for prefix, layer in self.layers().items():
                parameters |= _reset(layer, prefix)
        return {name: parameters[name] for name in self.adapter_shapes}


class Merged:
    """W + B A for every adapted weight, and saved modules; the plain model's parameters."""

    def __init__(self, adapted: Adapted) -> None:
        flip = adapted.lora_config.fan_in_fan_out
        self.layers = {
            name: (float(layer.scaling[ADAPTER]), flip) for name, layer in adapted.layers().items()
        }
        self.saved = tuple(adapted.saved.names)

    def weights(
        self, params: Mapping[str, Tensor], frozen: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """One lane's trained parameters and base -> the plain model's parameters."""
        merged = {**frozen, **{name: params[name] for name in self.saved}}
        for name, (scale, flip) in self.layers.items():
            first, second = (
                params[f"{name}.{part}.{ADAPTER}.weight"] for part in ("lora_A", "lora_B")
            )
            change = second @ (scale * first)
            merged[f"{name}.weight"] = frozen[f"{name}.weight"] + (change.T if flip else change)
        return merged


def peft_config(lora: training.Lora, targets: Targets) -> LoraConfig:
    """The recipe's adapter in PEFT's terms."""
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(targets.names),
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
