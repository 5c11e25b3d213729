"""Modules that LoRA fine-tuning trains in full beside its adapters, as PEFT's `modules_to_save`.

A recipe names kinds of modules, which every architecture has, and not their names: `embeddings`
(of tokens, and of positions where they are learned), `norms` and `head`, the output layer. A tensor
that several modules share, such as a head tied to the embeddings, is one trained parameter,
whichever of them is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import nn

from objectives.models import parameter_roles


@dataclass(frozen=True)
class SavedModules:
    """The modules that are trained in full, and their parameters."""

    modules: tuple[str, ...] = ()
    """Full names, also of modules that share a parameter with one that the recipe names."""
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Trained parameter, as `named_parameters` calls it -> its name in each of the modules."""

    @property
    def shared(self) -> bool:
        """Whether a parameter is in several of the modules."""
        return any(len(names) > 1 for names in self.names.values())


def saved_modules(
    module: nn.Module, kinds: Sequence[str], adapted: Sequence[str] = ()
) -> SavedModules:
    """The modules of these kinds in a model, which may be without memory.

    `adapted` names the layers that get adapters.

    Raises:
        ValueError: the model has no parameter of a kind, or its layer gets an adapter.
    """
    parts = dict(module.named_modules(remove_duplicate=False))
    chosen: set[int] = set()
    for kind in kinds:
        of_kind = [part for part in parts.values() if KINDS[kind](module, part)]
        found = {id(p) for part in of_kind for p in part.parameters()}
        if not found:
            raise ValueError(
                f"finetune.lora.modules_to_save has {kind!r}, but the model has no {kind} with "
                "parameters; leave it out."
            )
        for name in adapted:
            if any(id(p) in found for p in parts[name].parameters()):
                raise ValueError(
                    f"finetune.lora.modules_to_save has {kind!r}, and finetune.lora.targets names "
                    f"{name}, which is one of them; leave it out of one of the two."
                )
        chosen |= found
    holders = {
        name: part
        for name, part in parts.items()
        if any(id(p) in chosen for p in part.parameters(recurse=False))
    }
    names: dict[int, list[str]] = {}
    for name, part in holders.items():
        for key, parameter in part.named_parameters(recurse=False):
            names.setdefault(id(parameter), []).append(f"{name}.{key}")
    order = [(name, id(p)) for name, p in module.named_parameters() if id(p) in names]
    return SavedModules(tuple(holders), {name: tuple(names[at]) for name, at in order})


KINDS: dict[str, Callable[[nn.Module, nn.Module], bool]] = {
    "embeddings": lambda model, part: isinstance(part, nn.Embedding),
    "norms": lambda model, part: parameter_roles.is_norm(part),
    "head": lambda model, part: part is model.get_output_embeddings(),  # type: ignore[operator]
}
"""Kind -> whether a part of a model is one."""
