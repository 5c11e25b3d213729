"""Measures one recipe: short pretraining, fine-tuning, and what came of both.

The names below are what studies and searches of your own need. Each is imported when it is first
used, so that `import objectives` loads nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from objectives.config.data import (
        BuiltinTask,
        Corpus,
        Files,
        FileTask,
        HubDataset,
        HubTask,
        Stdlib,
        TaskOverride,
    )
    from objectives.config.execution import Execution
    from objectives.config.probes import Probes
    from objectives.config.recipe import Model, Recipe
    from objectives.config.training import Finetune, Lora, MidTraining, Pretrain, Schedule
    from objectives.config.vision import (
        Cifar10,
        Digits,
        HubImages,
        ResNet,
        Training,
        VisionProbes,
        VisionRecipe,
    )
    from objectives.config.weight_decay import EffectiveLrOf, ModuleScores, Multipliers, WeightDecay
    from objectives.objective import PlasticityObjective
    from objectives.results import TrialFailed
    from objectives.types import Request, Result
    from objectives.vision.objective import VisionObjective

__all__ = [
    "BuiltinTask",
    "Cifar10",
    "Corpus",
    "Digits",
    "EffectiveLrOf",
    "Execution",
    "FileTask",
    "Files",
    "Finetune",
    "HubDataset",
    "HubImages",
    "HubTask",
    "Lora",
    "MidTraining",
    "Model",
    "ModuleScores",
    "Multipliers",
    "PlasticityObjective",
    "Pretrain",
    "Probes",
    "Recipe",
    "Request",
    "ResNet",
    "Result",
    "Schedule",
    "Stdlib",
    "TaskOverride",
    "Training",
    "TrialFailed",
    "VisionObjective",
    "VisionProbes",
    "VisionRecipe",
    "WeightDecay",
]
_HOMES = {
    "objectives.config.data": (
        "BuiltinTask",
        "Corpus",
        "FileTask",
        "Files",
        "HubDataset",
        "HubTask",
        "Stdlib",
        "TaskOverride",
    ),
    "objectives.config.execution": ("Execution",),
    "objectives.config.probes": ("Probes",),
    "objectives.config.recipe": (
        "Model",
        "Recipe",
    ),
    "objectives.config.training": (
        "Finetune",
        "Lora",
        "MidTraining",
        "Pretrain",
        "Schedule",
    ),
    "objectives.config.vision": (
        "Cifar10",
        "Digits",
        "HubImages",
        "ResNet",
        "Training",
        "VisionProbes",
        "VisionRecipe",
    ),
    "objectives.config.weight_decay": (
        "EffectiveLrOf",
        "ModuleScores",
        "Multipliers",
        "WeightDecay",
    ),
    "objectives.objective": ("PlasticityObjective",),
    "objectives.results": ("TrialFailed",),
    "objectives.types": (
        "Request",
        "Result",
    ),
    "objectives.vision.objective": ("VisionObjective",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
