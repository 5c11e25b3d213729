"""Which layers get LoRA adapters, known before anything is trained.

"all-linear" means every linear layer but the output layer. In transformers 5 the experts of a
mixture are stacked into parameters of three dimensions, which are no linear layers, and PEFT
refuses some layers or renames them (`out_proj` of Mamba, projections called as old experts were):
those are left out and named in a note. A layer that a recipe names itself must be one that can be
adapted.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from objectives.config import recipe
from objectives.finetuning.modules_to_save import saved_modules
from objectives.models import draws, huggingface

ADAPTER = "default"


ALL_LINEAR = ("all-linear",)


NAMES_SHOWN, TRIED_TOKENS = 12, 4


LINEAR = (nn.Linear.forward, Conv1D.forward)


@dataclass(frozen=True)
class Targets:
    """The layers that get adapters."""

    names: tuple[str, ...]
    """Full module names."""
    notes: tuple[str, ...] = ()
    """What has none though "all-linear" was asked for."""


def check_targets(changed: recipe.Recipe, config: PreTrainedConfig) -> list[str]:
    """Raise ValueError, in one sentence, if the recipe's adapters cannot be put on the model.

    Returns notes for the result. Nothing is allocated and no token is needed. With
    `finetune.method` "full" there are no adapters and nothing to check.
    """
    if changed.finetune.method != "lora":
        return []
    adapters = changed.finetune.lora
    targets = targets_in(config, adapters.targets)
    if adapters.modules_to_save:
        saved_modules(skeleton(config), adapters.modules_to_save, targets.names)
    return list(targets.notes)


@dataclass(frozen=True)
class _Shape:
    """A config, equal to others of the same content."""

    kind: type[PreTrainedConfig]
    text: str
    config: PreTrainedConfig = field(compare=False)


def targets_in(config: PreTrainedConfig, targets: Sequence[str]) -> Targets:
    """The layers that `finetune.lora.targets` means in the model of a config.

    Raises:
        ValueError: as `skeleton` and `find_targets` do.
    """
    shape = _Shape(type(config), config.to_json_string(use_diff=False), copy.deepcopy(config))
    return _targets_in(shape, tuple(targets))


@functools.lru_cache(maxsize=64)
def _targets_in(shape: _Shape, targets: tuple[str, ...]) -> Targets:
    """Found once: PEFT is tried on a model of this shape, which takes a tenth of a second."""
    return find_targets(skeleton(shape.config), targets)


def skeleton(config: PreTrainedConfig) -> nn.Module:
    """The model without memory.

    Raises:
        ValueError: transformers cannot build it.
    """
    problem = f"the model of type {config.model_type} cannot be built"
    with huggingface.one_sentence(problem, "change model.config"), torch.device("meta"):
        return huggingface.new_module(config)


def find_targets(module: nn.Module, targets: Sequence[str]) -> Targets:
    """The layers that `finetune.lora.targets` means in this model, which is without memory.

    Raises:
        ValueError: a target names no layer, one that is not linear or is shared with another, or
            one that PEFT cannot adapt.
    """
    if tuple(targets) == ALL_LINEAR:
        return _all_linear(module)
    names: dict[str, None] = {}
    for target in targets:
        names |= dict.fromkeys(_named(module, target))
    if (problem := _problem(module, names)) is not None:
        raise ValueError(
            f"finetune.lora.targets {list(targets)} cannot be adapted by PEFT ({problem}); name "
            "other linear layers, or all-linear."
        )
    return Targets(tuple(names))


def _all_linear(module: nn.Module) -> Targets:
    head = module.get_output_embeddings()  # type: ignore[operator]
    names = [name for name, part in _linear(module).items() if part is not head]
    unfit = _unfit(module, names)
    kept = [name for name in names if name not in unfit]
    if _problem(module, kept) is not None:
        kinds = dict.fromkeys(map(_last, kept))
        of_kind = {kind: [name for name in kept if _last(name) == kind] for kind in kinds}
        bad = {kind for kind, some in of_kind.items() if _problem(module, some) is not None}
        kept = [name for name in kept if _last(name) not in bad]
    if not kept or (problem := _problem(module, kept)) is not None:
        why = problem if kept else "it has no linear layer that can be adapted"
        raise ValueError(
            f'finetune.lora.targets "all-linear" cannot be put on the model ({why}); name linear '
            'layers, or set finetune.method to "full".'
        )
    notes = []
    if left := _kinds(name for name in names if name not in set(kept)):
        notes.append(f"no adapters on {', '.join(left)}, which PEFT cannot adapt in this model")
    if experts := _kinds(_experts(module)):
        notes.append(
            f"no adapters on the experts' {', '.join(experts)}, which are not linear layers"
        )
    return Targets(tuple(kept), tuple(notes))


def _named(module: nn.Module, target: str) -> list[str]:
    """The layers with this name, matched as PEFT does: whole, or its last parts."""
    parts = dict(module.named_modules())
    found = [name for name in parts if name == target or name.endswith(f".{target}")]
    if not found:
        known = _kinds(_linear(module))
        more = ", ..." if len(known) > NAMES_SHOWN else ""
        raise ValueError(
            f"finetune.lora.targets names {target!r}, but no layer of the model is called that; "
            f"its linear layers are {', '.join(known[:NAMES_SHOWN])}{more}."
        )
    linear = _linear(module)
    for name in found:
        if name not in linear:
            raise ValueError(
                f"finetune.lora.targets names {name}, which is no linear layer; name linear "
                "layers, or all-linear."
            )
    unfit = _unfit(module, found)
    if unfit:
        name = next(iter(unfit))
        raise ValueError(
            f"finetune.lora.targets names {name}, {unfit[name]}, so an adapter would not do what "
            "merging it does; leave it out."
        )
    return found


def _unfit(module: nn.Module, names: Sequence[str]) -> dict[str, str]:
    """Linear layers to which an adapter is not the same as a change of the weight, and why."""
    parts = dict(module.named_modules(remove_duplicate=False))
    called = _called(module)
    found = {}
    for name in names:
        sharing = next((other for other in parts if _shares(parts[name], parts[other])), None)
        if sharing is not None:
            found[name] = f"whose weights are also those of {sharing}"
        elif parts[name] not in called:
            found[name] = "whose weights are used without calling it"
    return found


def _called(module: nn.Module) -> set[nn.Module]:
    """The parts that a forward pass calls; all where none can be made without values."""
    called: set[nn.Module] = set()

    def note(part: nn.Module, inputs: Any) -> None:
        called.add(part)

    handles = [part.register_forward_pre_hook(note) for part in module.modules()]
    try:
        with torch.no_grad():
            module(input_ids=torch.zeros(1, TRIED_TOKENS, dtype=torch.long, device="meta"))
    except Exception:  # whatever a model's code raises where a value decides what comes next
        return set(module.modules())
    finally:
        for handle in handles:
            handle.remove()
    return called


def _problem(module: nn.Module, names: Iterable[str]) -> str | None:
    """Why PEFT does not put adapters on exactly these layers; None if it does."""
    wanted = set(names)
    adapted = copy.deepcopy(module)
    config = LoraConfig(r=1, target_modules=wanted, fan_in_fan_out=stored_transposed(module))
    try:
        with draws.seeded(0):  # what is drawn is not kept
            inject_adapter_in_model(config, adapted, ADAPTER)
    except Exception as error:  # PEFT's own checks, and what breaks where it has none
        return huggingface.reason(error)
    found = {
        name
        for name, part in adapted.named_modules()
        if isinstance(part, LoraLayer) and ADAPTER in part.lora_A
    }
    wrong = sorted(found ^ wanted)
    return f"it takes {wrong[0]} for something else" if wrong else None


def stored_transposed(module: nn.Module) -> bool:
    """Whether weights are [in, out], as GPT-2's are."""
    return any(isinstance(part, Conv1D) for part in module.modules())


def _linear(module: nn.Module) -> dict[str, nn.Module]:
    """The linear layers; a subclass that computes more, such as a router, is none."""
    parts = module.named_modules()
    return {name: part for name, part in parts if type(part).forward in LINEAR}


def _experts(module: nn.Module) -> list[str]:
    """Stacked weights of experts."""
    named = module.named_parameters()
    return [name for name, parameter in named if parameter.dim() == 3 and "expert" in name.lower()]


def _shares(part: nn.Module, other: nn.Module) -> bool:
    """Whether another module holds the weight of this one."""
    own = part._parameters["weight"]
    return other is not part and any(each is own for each in other._parameters.values())


def _kinds(names: Iterable[str]) -> list[str]:
    """Last parts of module names, each once."""
    return list(dict.fromkeys(_last(name) for name in names))


def _last(name: str) -> str:
    return name.rpartition(".")[2]
