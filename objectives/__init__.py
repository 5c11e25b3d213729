"""Measures one recipe: short pretraining, fine-tuning, and what came of both."""

from objectives.decay_recipe import EffectiveLrOf, ModuleScores, Multipliers, WeightDecay
from objectives.execution import Execution
from objectives.measures import Request, Result, TrialFailed
from objectives.plasticity import PlasticityObjective
from objectives.recipe import (
    BuiltinTask,
    Corpus,
    Files,
    FileTask,
    Finetune,
    HubDataset,
    HubTask,
    Lora,
    MidTraining,
    Model,
    Pretrain,
    Probes,
    Recipe,
    Schedule,
    Stdlib,
)
from objectives.vision import VisionObjective
from objectives.vision_recipe import (
    Cifar10,
    Digits,
    HubImages,
    ResNet,
    Training,
    VisionProbes,
    VisionRecipe,
)

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
    "Training",
    "TrialFailed",
    "VisionObjective",
    "VisionProbes",
    "VisionRecipe",
    "WeightDecay",
]
