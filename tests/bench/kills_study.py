"""The study that the bench `kills` runs and kills: twelve small trials in three waves.

Its text and tasks are set by the bench, so that a start costs little besides the imports.

Lanes are stored every half second instead of every minute, so that kills fall between checkpoints
and while they are written, and restarts continue from them.
"""

from hpo.core.domains import Choice, Float
from hpo.core.spec import Baseline, StudySpec
from objectives import PlasticityObjective, Recipe
from objectives.training import setup

setup.CHECKPOINT_S = 0.5


RECIPE = Recipe().with_params(
    {
        "pretrain.steps": 120,
        "pretrain.batch_size": 4,
        "pretrain.seq_len": 32,
        "pretrain.lr": 1e-2,
        "pretrain.schedule.warmup_steps": 20,
        "pretrain.eval_tokens": 2048,
        "finetune.lrs": [3e-3, 1e-2],
        "finetune.max_extensions": 1,
        "finetune.steps": 30,
        "finetune.batch_size": 4,
        "finetune.validation_rows": 16,
        "finetune.test_rows": 16,
        "probes.forgetting_tokens": 1024,
    }
)


STUDY = StudySpec(
    name="kills",
    objective=PlasticityObjective(RECIPE),
    space={
        "pretrain.weight_decay": Float(low=0.01, high=1.0, log=True),
        "pretrain.schedule.decay_frac": Choice(options=(0.0, 0.25, 1.0)),
    },
    baselines=(
        Baseline(name="standard", params={}),
        Baseline(name="Warmup-Stable-Only", params={"pretrain.schedule.decay_frac": 0.0}),
    ),
    trials=12,
    wave=4,
    replicate_share=0.0,
)
