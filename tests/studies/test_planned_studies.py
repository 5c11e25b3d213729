"""Studies with planned contrasts: what their arms differ in, and toy runs to their verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpo import study_files
from hpo.cli import main
from hpo.core.contrasts import PlannedContrasts
from hpo.core.spec import StudySpec
from studies.weight_decay_plasticity import LONG_DECAYS
from tests.toy_size import TOY, small_inputs

NAMES = ("weight_decay_plasticity", "warmup_stable_only", "other_text")


def planned(study: StudySpec) -> PlannedContrasts:
    assert study.contrasts is not None
    return study.contrasts


def arms(study: StudySpec) -> dict[str, Any]:
    """Point -> its recipe."""
    objective: Any = study.objective
    return {each.name: objective.recipe.with_params(each.params) for each in study.points}


@pytest.mark.parametrize("name", NAMES)
def test_arms_of_a_contrast_differ_in_decay_or_in_schedule_alone(name: str) -> None:
    study = study_files.load(name)
    found = {point: recipe.to_dict() for point, recipe in arms(study).items()}
    for contrast in planned(study).contrasts:
        one, other = found[contrast.arm]["pretrain"], found[contrast.minus]["pretrain"]
        changed = {key for key in one if one[key] != other[key]}
        assert changed == {"weight_decay" if "decay makes" in contrast.name else "schedule"}
        assert found[contrast.arm]["finetune"] == found[contrast.minus]["finetune"]


@pytest.mark.parametrize("name", NAMES)
def test_every_arm_trains_for_two_timescales_at_decay_a_tenth(name: str) -> None:
    """Rate times decay times steps; the others have as many steps and the same peak rate."""
    for recipe in arms(study_files.load(name)).values():
        assert recipe.pretrain.lr * 0.1 * recipe.pretrain.steps == pytest.approx(2.0)
        assert recipe.finetune.method == "full"


def test_decays_stand_at_their_points() -> None:
    found = arms(study_files.load("weight_decay_plasticity"))
    decays = {point: recipe.pretrain.weight_decay.value for point, recipe in found.items()}
    assert decays == {f"decay {each:g}": each for each in LONG_DECAYS}


@pytest.mark.parametrize("name", NAMES)
def test_a_toy_run_of_two_seeds_ends_with_a_verdict_on_every_contrast(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    study = study_files.load(name)
    count = 2 * len(study.points)
    settings = TOY | small_inputs(tmp_path)
    fixed = [f"--set={path}={json.dumps(value)}" for path, value in settings.items()]
    assert main.main(["run", name, "--trials", str(count), *fixed]) == 0
    capsys.readouterr()
    assert main.main(["show", name, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["contrasts"]
    assert [each["seeds"] for each in shown["findings"]] == [[study.seed, study.seed + 1]] * len(
        planned(study).contrasts
    )
