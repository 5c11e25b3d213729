"""The control without pretraining: fine-tuning of the initial weights.

A score after fine-tuning says nothing of a base by itself: on a task that a model learns as well
from its initial weights, pretraining is worth nothing, and a base that is "more plastic" is only
less pretrained. The control depends on the model, the seed and the fine-tuning, not on how a base
is trained, so that a study measures it once a seed.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from objectives.config.training import Lora
from objectives.data.token_dataset import TokenDataset
from objectives.models import causal_lm, library_fingerprints
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.job import PretrainJob
from objectives.pretraining.stage_keys import model_fingerprint
from objectives.store.store import key_of


def control_job(job: PretrainJob) -> PretrainJob:
    """The job without what only a trained base has, a second phase, and with the control's method.

    Adapters on frozen weights that nothing has trained learn little on any task, and beside them
    every base looks worth its training; a control that trains all weights is stricter. It has the
    same rows, steps and grid of rates, which grows where the best one is at its edge.
    """
    pre, fine = dataclasses.replace(job.recipe.pretrain, mid=None), job.recipe.finetune
    if fine.from_scratch == "full":
        fine = dataclasses.replace(fine, method="full", lora=Lora())
    recipe = dataclasses.replace(job.recipe, pretrain=pre, finetune=fine)
    return dataclasses.replace(job, recipe=recipe, second=None)


def initial_key(job: PretrainJob, corpus: TokenDataset) -> str:
    """The key of the initial weights, as that of a base in the keys of stages."""
    model = job.recipe.model
    return key_of(
        "initial-1",
        model_fingerprint(model, corpus.vocab_size),
        job.recipe.pretrain.precision,
        job.placement,
        job.seed,
        library_fingerprints.of_pretraining(causal_lm.family_of(model)),
    )


def initial_base(job: PretrainJob, corpus: TokenDataset) -> BaseModel:
    """The model before its first step: drawn from the job's seed, or the recipe's weights."""
    model = job.recipe.model
    config = causal_lm.build_config(model, corpus.vocab_size)
    return BaseModel(
        key=initial_key(job, corpus),
        params=causal_lm.initial_parameters(model, config, job.seed),
        losses=np.empty(0),
        validation=[],
        curve_tokens=job.recipe.pretrain.curve_tokens,
        diverged_at=None,
        device_s=0.0,
    )
