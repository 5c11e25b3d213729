"""Toy bases to probe: random weights under the key of a job that was never trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from objectives.config.data import BuiltinTask
from objectives.config.recipe import Recipe
from objectives.config.training import Finetune
from objectives.data import tasks
from objectives.models import causal_lm
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.job import PretrainJob
from objectives.probes.types import ProbeBatch, ProbedModel
from tests.objectives import toy


def recipe(folder: Path, run: Sequence[str], family: str = "llama", **settings: Any) -> Recipe:
    """The toy recipe with these probes, in sizes of a second."""
    base = toy.recipe(folder)
    toy.CONFIGS[family].save_pretrained(folder / family)
    small = {
        "run": list(run), "tokens": 96, "rows": 40, "vectors": 3, "noise_draws": 3,
        "lost_batches": 3, **settings,
    }  # fmt: skip
    fine = Finetune(
        tasks=(BuiltinTask(name="token_kind"), BuiltinTask(name="commands")),
        train_rows=60, validation_rows=4, test_rows=30,
    )  # fmt: skip
    whole = Recipe(model=base.model, corpus=base.corpus, pretrain=base.pretrain, finetune=fine)
    changes = {f"probes.{name}": value for name, value in small.items()}
    return whole.with_params({**changes, "model.config": str(folder / family)})


def group(folder: Path, run: Sequence[str], lanes: int, **settings: Any) -> ProbeBatch:
    """Bases of different seeds."""
    found = recipe(folder, run, **settings)
    corpus = toy.prepared(folder)
    config = causal_lm.build_config(found.model, corpus.vocab_size)
    losses = np.random.default_rng(0).normal(3, 0.01, toy.STEPS)
    subjects = []
    for seed in range(lanes):
        job = PretrainJob(found, seed, toy.STEPS)
        drawn = causal_lm.initial_parameters(found.model, config, seed)
        params = {name: p.clone() for name, p in drawn.items()}
        base = BaseModel(
            key=job.key(corpus, job.steps),
            params=params,
            losses=losses,
            validation=[],
            curve_tokens=0,
            diverged_at=None,
            device_s=0.0,
        )
        subjects.append(ProbedModel(job, base, 6.0))
    loaded = tasks.load(found.finetune, corpus.tokenizer)
    return ProbeBatch(subjects, corpus, loaded, lambda event: None)
