"""Measures one recipe: short pretraining, fine-tuning, and what came of both."""

from objectives.decay_recipe import ModuleScores, Multipliers, WeightDecay
from objectives.execution import Execution
from objectives.measures import Request, Result
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

__all__ = [
    "BuiltinTask",
    "Corpus",
    "Execution",
    "FileTask",
    "Files",
    "Finetune",
    "HubDataset",
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
    "Result",
    "Schedule",
    "Stdlib",
    "WeightDecay",
]
