"""The two plasticity studies once more, on text and a task that nothing was chosen on.

Text: sections of college textbooks, such as OpenStax's under CC BY 4.0, one a row, in
`data/textbooks.jsonl` (field `text`). Task: sentences from a restaurant's attributes, the E2E NLG
set (CC BY-SA 4.0), as rows of `prompt` and `completion` in `data/e2e_nlg/train.jsonl` and
`data/e2e_nlg/test.jsonl`. `data` is looked for where `hpo run` is called; files elsewhere can be
named by `--set corpus.sources=...` and `--set finetune.tasks=...`. The contrasts were written
before the first run.
"""

from pathlib import Path

from hpo import (
    BASE_LOSS_DOWN,
    Baseline,
    Float,
    Goal,
    GridPoint,
    PlannedContrasts,
    StudySpec,
)
from objectives import Corpus, Files, FileTask, PlasticityObjective
from studies import _long

DATA = Path("data").absolute()


CORPUS = Corpus(sources=(Files(paths=(f"{DATA}/textbooks.jsonl*",)),), vocab_size=512)


TASK = FileTask(
    name="e2e_nlg",
    train=f"{DATA}/e2e_nlg/train.jsonl",
    test=f"{DATA}/e2e_nlg/test.jsonl",
    label_field=None,
)


STUDY = StudySpec(
    name="other_text",
    description="Decay and a constant rate once more, on textbooks and restaurant sentences.",
    objective=PlasticityObjective(_long.recipe(CORPUS, TASK)),
    space={"pretrain.weight_decay.value": Float(low=0.01, high=1.0, log=True)},
    goals=(BASE_LOSS_DOWN, Goal(metric=_long.LOSS_AFTER, direction="down")),
    baselines=(Baseline(name="decay 0.1, WSD", params={}),),
    grid=(
        GridPoint(name="decay 0, WSD", params={"pretrain.weight_decay.value": 0.0}),
        GridPoint(name="decay 0.1, cosine", params=_long.COSINE),
        GridPoint(name="decay 0.1, constant", params=_long.CONSTANT),
    ),
    replicates=10,
    trials=40,
    wave=8,
    seed=200,
    replicate_share=0.0,
    contrasts=PlannedContrasts(
        contrasts=(
            *_long.of_decay("decay 0.1, WSD", "decay 0, WSD"),
            *_long.of_constant_rate("decay 0.1, constant", "decay 0.1, cosine", "decay 0.1, WSD"),
        ),
        alpha=0.01,
    ),
)
