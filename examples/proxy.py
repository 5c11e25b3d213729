"""A study of a very small model, to be verified at larger ones: losses before and after tuning.

    hpo run examples/proxy.py
    hpo verify proxy --sizes llama-0.2m --tokens-per-param 2.5 --rules carry_over

The study takes about two CPU minutes, the verification of eight recipes at two seeds about five.
"""

from __future__ import annotations

from hpo import BASE_LOSS_DOWN, Baseline, Choice, Float, Goal, StudySpec
from objectives import (
    BuiltinTask,
    Corpus,
    Finetune,
    Model,
    PlasticityObjective,
    Pretrain,
    Recipe,
    Schedule,
    Stdlib,
    WeightDecay,
)

RECIPE = Recipe(
    model=Model(preset="llama-0.06m"),
    corpus=Corpus(sources=(Stdlib(max_bytes=8_000_000),), vocab_size=512),
    pretrain=Pretrain(
        steps=400,
        batch_size=16,
        seq_len=64,
        lr=5e-3,
        weight_decay=WeightDecay(value=0.1),
        eval_tokens=16_384,
        evals=2,
        schedule=Schedule(warmup_steps=40, decay_frac=1.0, shape="cosine", floor_ratio=0.1),
    ),
    finetune=Finetune(
        tasks=(BuiltinTask(name="docstring"),),
        lrs=(3e-3, 1e-2),
        steps=100,
        batch_size=8,
        seeds=1,
        schedule=Schedule(warmup_steps=10, shape="linear", floor_ratio=0.0),
        test_rows=200,
    ),
)


STUDY = StudySpec(
    name="proxy",
    description="Decay, rate and schedule at 0.04M parameters, by losses.",
    objective=PlasticityObjective(RECIPE),
    space={
        "pretrain.weight_decay": Float(low=0.01, high=10.0, log=True),
        "pretrain.lr": Float(low=1e-3, high=2e-2, log=True),
        "pretrain.schedule.decay_frac": Choice(options=(0.0, 0.25, 1.0)),
    },
    goals=(BASE_LOSS_DOWN, Goal(metric="finetuned_loss_nats", direction="down")),
    baselines=(
        Baseline(name="standard", params={}),
        Baseline(name="no decay", params={"pretrain.weight_decay": 0.0}),
        Baseline(name="WSO", params={"pretrain.schedule.decay_frac": 0.0}),
    ),
    trials=16,
    wave=8,
)
