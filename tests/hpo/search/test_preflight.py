"""What a study is checked for before its record is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from hpo.cli import main
from hpo.core.objective import Request
from hpo.core.spec import GridPoint
from hpo.search import preflight
from tests.hpo.cli.test_main import complaint, folder, read, write
from tests.hpo.toy_objective import ToyObjective, spec
from tests.toy_size import TOY, small_inputs

__all__ = ["folder"]


def test_defaults_named_points_and_both_ends_are_asked_for_at_their_rungs() -> None:
    study = spec(rungs=(0.5, 1.0), grid=(GridPoint(name="p", params={"pretrain.lr": 0.02}),))
    found = [(each["params"], each["fidelity"]) for each in preflight.requests(study)]
    assert ({"pretrain.lr": 0.02}, 1.0) in found
    assert ({"pretrain.lr": 0.02}, 0.5) not in found
    for params in ({}, {"pretrain.lr": 1e-3}, {"pretrain.lr": 0.1}, {"pretrain.weight_decay": 1.0}):
        assert (params, 0.5) in found
        assert (params, 1.0) in found
    assert len(found) == len(preflight.requests(study))


class LongWarmup(ToyObjective):
    """Needs at least a fifth of the horizon."""

    def preflight(self, requests: Sequence[Request]) -> None:
        """Refuse what is shorter."""
        if any(request["fidelity"] < 0.2 for request in requests):
            raise ValueError("the warmup is longer than the run.")


def test_a_rung_that_nobody_asked_for_refuses_no_study_and_is_left_out() -> None:
    study = spec(objective=LongWarmup(), budget_s=60.0, sampler="gp")
    assert study.rungs == "auto"
    assert study.fidelities == (1 / 9, 1 / 3, 1.0)
    preflight.check(study)
    assert [preflight.usable(study, rung) for rung in study.fidelities] == [False, True, True]
    with pytest.raises(ValueError, match="the warmup is longer"):
        preflight.check(spec(objective=LongWarmup(), rungs=(1 / 9, 1.0)))


def test_ends_are_not_asked_for_where_nothing_is_searched() -> None:
    study = spec(trials=2)
    assert [each["params"] for each in preflight.requests(study)] == [
        {},
        {"pretrain.weight_decay": 0.0},
    ]


def test_a_study_that_is_wrong_leaves_no_run(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(
        "class Strict(ToyObjective):\n"
        "    def preflight(self, requests): raise ValueError('the file is not there.')\n"
        "STUDY = spec(trials=3, objective=Strict())"
    )
    assert main.main(["run", "mine.py"]) == 2
    assert complaint(capsys) == "hpo: the file is not there."
    assert not Path("runs").exists()


def test_a_finished_study_is_shown_though_its_data_have_gone(folder: Path) -> None:
    text = (
        "class Strict(ToyObjective):\n"
        "    def preflight(self, requests):\n"
        "        if not Path('data').exists(): raise ValueError('no data.')\n"
        "STUDY = spec(trials=3, objective=Strict())"
    )
    Path("data").write_text("")
    write(text)
    assert main.main(["run", "mine.py"]) == 0
    Path("data").unlink()
    assert main.main(["run", "mine.py"]) == 0
    assert main.main(["run", "mine.py", "--trials", "4"]) == 2
    assert len(read().trials) == 3


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ('finetune.lora.targets=["wq"]', "wq"),
        ('finetune.tasks=[{"kind": "file", "name": "t", "train": "no.jsonl", "test": "no.jsonl"}]',
         "no.jsonl"),
        ("model.preset=llama-9b", "got 'llama-9b'; did you mean llama-"),
        ("pretrain.schedule.warmup_steps=3", "warmup_steps is 3 but the run has 2 steps"),
        ("model.weights=nowhere", "nowhere"),
        ('corpus.sources=[{"kind": "files", "paths": ["no.txt"]}]', "no.txt"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_recipe_is_found_before_a_token(
    setting: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = TOY | small_inputs(folder)
    Path("lm.py").write_text(
        "from hpo import *\nfrom objectives import *\n"
        f"STUDY = StudySpec(name='lm', objective=PlasticityObjective(Recipe().with_params({small!r}"
        ")), space={'pretrain.lr': Float(low=1e-3, high=1e-2)}, trials=2, rungs=(0.5, 1.0))"
    )
    assert main.main(["run", "lm.py", "--device", "cpu", "--set", setting]) == 2
    assert said in complaint(capsys)
    assert not Path("runs").exists()
