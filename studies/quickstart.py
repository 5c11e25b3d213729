"""A few minutes on two CPU cores: decay, rate and schedule of a 0.04M-parameter model."""

from hpo import BASE_LOSS_DOWN, Baseline, Choice, Float, Goal, StudySpec
from objectives import (
    BuiltinTask,
    Corpus,
    Finetune,
    Lora,
    Model,
    PlasticityObjective,
    Pretrain,
    Recipe,
    Schedule,
    WeightDecay,
)

RECIPE = Recipe(
    model=Model(preset="llama-0.06m"),
    corpus=Corpus(vocab_size=512),
    pretrain=Pretrain(
        steps=2000,  # rate times decay times steps is 1: one timescale of AdamW
        batch_size=8,
        seq_len=64,
        lr=5e-3,
        weight_decay=WeightDecay(value=0.1, decayed="all"),
        eval_tokens=65_536,
        evals=4,
        schedule=Schedule(warmup_steps=100, decay_frac=1.0, shape="cosine", floor_ratio=0.1),
    ),
    # Tasks that need a base, read by the loss on their answers.
    finetune=Finetune(
        tasks=(BuiltinTask(name="docstring"), BuiltinTask(name="doc_name")),
        # Adapters alone order bases of this size otherwise than full fine-tuning does
        # (`python -m tests.bench lora`).
        lora=Lora(modules_to_save=("embeddings", "norms")),
        lrs=(4e-3, 8e-3, 1.6e-2),
        steps=200,
        batch_size=8,
        seeds=2,
        schedule=Schedule(warmup_steps=10, shape="linear", floor_ratio=0.0),
        train_rows=1600,
        test_rows=300,
    ),
)


STUDY = StudySpec(
    name="quickstart",
    description="Which weight decay and schedule make the better base, and the better fine-tune?",
    objective=PlasticityObjective(RECIPE),
    space={
        "pretrain.weight_decay": Float(low=0.01, high=1.0, log=True),
        "pretrain.lr": Float(low=2e-3, high=3e-2, log=True),
        "pretrain.schedule.decay_frac": Choice(options=(0.0, 0.25, 1.0)),
    },
    goals=(BASE_LOSS_DOWN, Goal(metric="finetuned_loss_nats", direction="down")),
    # standard: decay 0.1, cosine to a tenth; WSO: Warmup-Stable-Only, the rate never falls.
    baselines=(
        Baseline(name="standard", params={}),
        Baseline(name="no decay", params={"pretrain.weight_decay": 0.0}),
        Baseline(name="WSO", params={"pretrain.schedule.decay_frac": 0.0}),
    ),
    trials=12,
    wave=6,
)
