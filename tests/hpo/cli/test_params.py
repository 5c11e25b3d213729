"""`hpo params` lists a recipe's hyperparameters, and those of a study's own objective."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from hpo.cli import main
from hpo.cli.params import matching
from hpo.core.objective import Parameter

PARAMETERS = [
    Parameter(path=path, owner="", type="int", unit="", default=1, allowed="", meaning="")
    for path in ("pretrain.steps", "pretrain.schedule.warmup_frac", "finetune.steps")
]


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("", [0, 1, 2]),
        ("steps", [0, 2]),
        ("STEPS", [0, 2]),
        ("pretrain.*", [0, 1]),
        ("*_frac", [1]),
        ("finetune.steps", [2]),
    ],
)
def test_a_pattern_is_part_of_a_path_or_a_glob(pattern: str, paths: Sequence[int]) -> None:
    assert matching(PARAMETERS, pattern) == [PARAMETERS[index] for index in paths]


@pytest.mark.parametrize(
    ("pattern", "hint"), [("stepps", "did you mean steps"), ("x", "`hpo params` lists all")]
)
def test_a_pattern_without_a_match_is_one_sentence(pattern: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"no hyperparameter matches '{pattern}'; {hint}"):
        matching(PARAMETERS, pattern)


def test_without_a_study_it_lists_the_recipe_of_language_models(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main.main(["params", "lora.rank", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["path"], found["type"], found["default"]) == ("finetune.lora.rank", "int", 8)
    assert main.main(["params", "lora.rank"]) == 0
    assert "Rank of the adapters" in capsys.readouterr().out


STUDY = """
from tests.hpo.toy_objective import *

STUDY = StudySpec(
    name="toy", objective=ToyObjective(), space=SPACE, goals=(BASE_LOSS_DOWN, GAIN_UP)
)
"""


def test_an_objective_that_lists_nothing_shows_its_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "toy.py"
    path.write_text(STUDY)
    assert main.main(["params", "shape", "--study", str(path), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["path"], found["type"], found["default"]) == ("pretrain.shape", "str", "cosine")


def test_a_variant_without_a_study_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["params", "--variant", "full"]) == 2
    assert "--study" in capsys.readouterr().err
