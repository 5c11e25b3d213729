"""What benches time and judge: a short study of a 0.2M-parameter model on labelled tasks.

Apart from the studies that ship, so that figures of one commit can be compared with another's. Its
fine-tuning rates are a plain grid, as those of the tools that it is compared with.
"""

from hpo import Baseline, Choice, Float, StudySpec
from objectives import (
    BuiltinTask,
    Finetune,
    Model,
    PlasticityObjective,
    Pretrain,
    Recipe,
    Schedule,
    WeightDecay,
)

RECIPE = Recipe(
    model=Model(preset="llama-0.2m"),
    pretrain=Pretrain(
        steps=400,
        batch_size=16,
        seq_len=64,
        lr=3e-3,
        weight_decay=WeightDecay(value=0.1),
        eval_tokens=16_384,
        evals=4,
        schedule=Schedule(warmup_steps=40, decay_frac=1.0, shape="cosine", floor_ratio=0.1),
    ),
    finetune=Finetune(
        tasks=(
            BuiltinTask(name="token_kind"),
            BuiltinTask(name="code_module"),
            BuiltinTask(name="list_ops"),
        ),
        lrs=(3e-3, 1e-2, 3e-2),
        steps=120,
        batch_size=8,
        seeds=2,
        refine=0,
        schedule=Schedule(warmup_steps=10, shape="linear", floor_ratio=0.0),
        test_rows=100,
    ),
)


STUDY = StudySpec(
    name="short",
    objective=PlasticityObjective(RECIPE),
    space={
        "pretrain.weight_decay": Float(low=0.003, high=3.0, log=True),
        "pretrain.lr": Float(low=1e-3, high=3e-2, log=True),
        "pretrain.schedule.decay_frac": Choice(options=(0.0, 0.25, 1.0)),
    },
    # standard: decay 0.1, cosine to a tenth; WSO: Warmup-Stable-Only, the rate never falls.
    baselines=(
        Baseline(name="standard", params={}),
        Baseline(name="no decay", params={"pretrain.weight_decay": 0.0}),
        Baseline(name="WSO", params={"pretrain.schedule.decay_frac": 0.0}),
    ),
    trials=12,
    wave=6,
)
