"""A 0.04M-parameter model trained for long enough that decay and schedule show after fine-tuning.

What decides, found on other seeds, Wikipedia and novels before these studies were written: a run of
about two timescales of AdamW (rate times decay times steps), a task of which pretraining is worth
much from initial weights, and full fine-tuning that is long and whose rate is chosen finely: decay
changes the norm of the weights, and with it the best rate.
"""

from __future__ import annotations

from hpo import Value
from objectives import (
    Corpus,
    Finetune,
    Model,
    Pretrain,
    Probes,
    Recipe,
    Schedule,
    WeightDecay,
)
from objectives.config.data import Task

COSINE: dict[str, Value] = {
    "pretrain.schedule.shape": "cosine",
    "pretrain.schedule.decay_frac": 1.0,
    "pretrain.schedule.floor_ratio": 0.1,
}
"""To a tenth of the peak rate."""


CONSTANT: dict[str, Value] = {
    "pretrain.schedule.decay_frac": 0.0,
    "pretrain.schedule.floor_ratio": 1.0,
}
"""After the warmup."""


def recipe(corpus: Corpus, task: Task) -> Recipe:
    """Decay 0.1 with WSD: the last quarter falls to zero linearly."""
    return Recipe(
        model=Model(preset="llama-0.06m"),
        corpus=corpus,
        pretrain=Pretrain(
            steps=4000,  # 2.05 million tokens, 49 for each of 41,632 parameters
            batch_size=8,
            seq_len=64,
            lr=5e-3,
            weight_decay=WeightDecay(value=0.1, decayed="all"),
            schedule=Schedule(warmup_steps=100, shape="linear", decay_frac=0.25, floor_ratio=0.0),
            eval_tokens=131_072,
        ),
        finetune=Finetune(
            tasks=(task,),
            method="full",
            lrs=(2.5e-3, 3.5e-3, 5e-3, 7e-3, 1e-2),
            refine=0,
            steps=300,
            batch_size=8,
            seeds=2,
            schedule=Schedule(warmup_steps=10, shape="linear", floor_ratio=0.0),
            train_rows=2400,
            validation_rows=400,
            test_rows=400,
        ),
        probes=Probes(run=("norms", "ranks"), forgetting_tokens=0),
    )
