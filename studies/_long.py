"""A 0.04M-parameter model trained for long enough that decay and schedule show after fine-tuning.

What decides, found on other seeds, Wikipedia and novels before these studies were written: a run of
about two timescales of AdamW (rate times decay times steps), a task of which pretraining is worth
much from initial weights, and full fine-tuning that is long and whose rate is chosen finely: decay
changes the norm of the weights, and with it the best rate.
"""

from __future__ import annotations

from hpo import PlannedContrast, Value
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


LOSS_AFTER = "finetuned_loss_nats"


def of_decay(arm: str, minus: str) -> tuple[PlannedContrast, ...]:
    """A worse base that is better after fine-tuning, by weight decay."""
    return (
        _worse_base("decay makes the base worse", arm, minus, effect=0.03),
        _better_after("decay makes the fine-tuned model better", arm, minus),
    )


def of_constant_rate(arm: str, cosine: str, wsd: str) -> tuple[PlannedContrast, ...]:
    """The same by a rate that never falls, and whether it also beats WSD after fine-tuning."""
    better = "a constant rate makes the fine-tuned model better than"
    return (
        _worse_base("a constant rate makes the base worse than a cosine", arm, cosine, effect=0.14),
        _better_after(f"{better} a cosine", arm, cosine),
        _better_after(f"{better} WSD", arm, wsd),
    )


def _worse_base(name: str, arm: str, minus: str, effect: float) -> PlannedContrast:
    return PlannedContrast(
        name=name, metric="base_loss", arm=arm, minus=minus, expected="up", effect=effect
    )


def _better_after(name: str, arm: str, minus: str) -> PlannedContrast:
    return PlannedContrast(
        name=name, metric=LOSS_AFTER, arm=arm, minus=minus, expected="down", effect=0.03
    )
