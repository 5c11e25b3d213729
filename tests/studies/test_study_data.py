"""Studies in YAML: equal to those in Python, and one sentence with its line if not."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo import study_files
from hpo.core.contrasts import PlannedContrast, PlannedContrasts
from hpo.core.domains import Choice, Float, Int
from hpo.core.goals import Goal, Limit
from hpo.core.spec import Baseline, Prior, StudySpec
from hpo.storage.settings import spec_data
from objectives import PlasticityObjective, Pretrain, Recipe

TEXT = """\
name: mine
recipe:
  pretrain: {steps: 100, lr: 3e-3}
space:
  pretrain.lr: {kind: float, low: 1e-3, high: 3e-2, log: true}
  pretrain.schedule.decay_frac: [0.0, 0.25, 1.0]
  finetune.lora.rank:
    kind: int
    low: 2
    high: 8
goals: {base_loss: down, finetuned: maximize}
limits: {gain: {low: 0}}
baselines:
  standard: {}
  low rate: {pretrain.lr: 1e-3}
priors:
  pretrain.lr: {centre: 0.01, width: 0.5}
trials: 6
contrasts:
  alpha: 0.01
  contrasts:
    rate costs loss:
      {metric: base_loss, arm: low rate, minus: standard, expected: up, effect: 0.1}
"""


def loaded(folder: Path, text: str) -> StudySpec:
    (folder / "mine.yaml").write_text(text)
    return study_files.load(str(folder / "mine.yaml"))


def test_a_study_in_yaml_is_the_one_in_python(tmp_path: Path) -> None:
    recipe = Recipe(pretrain=Pretrain(steps=100, lr=3e-3))
    wanted = StudySpec(
        name="mine",
        objective=PlasticityObjective(recipe).configure({"folder": str(tmp_path)}),
        space={
            "pretrain.lr": Float(low=1e-3, high=3e-2, log=True),
            "pretrain.schedule.decay_frac": Choice(options=(0.0, 0.25, 1.0)),
            "finetune.lora.rank": Int(low=2, high=8),
        },
        goals=(Goal("base_loss", "down"), Goal("finetuned", "up")),
        limits=(Limit("gain", low=0.0),),
        baselines=(Baseline("standard", {}), Baseline("low rate", {"pretrain.lr": 1e-3})),
        priors={"pretrain.lr": Prior(centre=0.01, width=0.5)},
        trials=6,
        contrasts=PlannedContrasts(
            contrasts=(
                PlannedContrast(
                    name="rate costs loss",
                    metric="base_loss",
                    arm="low rate",
                    minus="standard",
                    expected="up",
                    effect=0.1,
                ),
            ),
            alpha=0.01,
        ),
    )
    assert spec_data(loaded(tmp_path, TEXT)) == spec_data(wanted)


MISTAKES = {
    "a field": ("trials: 6", "trails: 6", "line 18: a study has no field 'trails'; did you"),
    "a domain": ("kind: int", "kind: whole", "line 8: space['finetune.lora.rank'] needs a kind"),
    "a bound": ("low: 2", "low: 20", "line 9: Int needs low <= high, got 20 and 8"),
    "a path": ("decay_frac: [", "decay_frak: [", "line 6: unknown hyperparameter"),
    "a recipe": ("steps: 100", "steps: 1.5", "line 3: pretrain.steps must be a whole number"),
    "a goal": ("finetuned: max", "finetooned: max", "line 11: the goal 'finetooned' is no metric"),
    "a baseline": ("{}\n  low", "7\n  low", "line 14: params of Baseline 'standard'"),
    "a mapping": ("goals: {base_loss: down, finetuned: maximize}", "goals: [gain]",
                  "line 11: goals must be a mapping"),
    "an objective": ("name: mine", "objective: audio", "line 1: objective must be plasticity or"),
    "a contrast's field": ("effect: 0.1", "effects: 0.1", "line 23: PlannedContrast has no field"),
    "a contrast's arm": ("minus: standard", "minus: none", "line 21: the planned contrasts name"),
    "an objective in a list": ("name: mine", "objective: [vision]",
                               "line 1: objective must be plasticity or vision, got ['vision']"),
    "a kind in a list": ("kind: int", "kind: [int]",
                         "line 8: space['finetune.lora.rank'] needs a kind"),
    "a field beside a baseline called a": ("{pretrain.lr: 1e-3}",
                                           "{pretrain.lr: 1e-3}\n  a: {}\nwave: 0",
                                           "line 17: a study's wave must be a whole number"),
    "contrasts": ("alpha: 0.01", "alfa: 0.01", "line 20: PlannedContrasts has no field 'alfa'"),
    "Python's own": ("trials: 6", "warm: []", "line 18: warm can be set in a study file in Python"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_with_its_line(mistake: str, tmp_path: Path) -> None:
    old, new, message = MISTAKES[mistake]
    assert old in TEXT
    with pytest.raises(ValueError, match=str(tmp_path)) as caught:
        loaded(tmp_path, TEXT.replace(old, new))
    assert message in str(caught.value)


def test_a_variant_and_a_file_that_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(TEXT)
    with pytest.raises(ValueError, match="only files in Python have variants"):
        study_files.load(str(tmp_path / "mine.yaml"), "small")
    with pytest.raises(ValueError, match=r"did you mean .*mine\.yaml"):
        study_files.load(str(tmp_path / "min.yaml"))
