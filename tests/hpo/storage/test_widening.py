"""A study whose space gets wider in place: old trials stay, new ones use what was added."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import hpo
from hpo.cli import main
from hpo.core.domains import Choice, Float, Int
from hpo.core.goals import BASE_LOSS_DOWN
from hpo.core.spec import Baseline, StudySpec
from hpo.core.trial import Run
from hpo.storage.provenance import StudyChanged
from hpo.storage.settings import spec_data
from hpo.storage.widening import refusal
from tests.hpo.cli.test_main import HEAD
from tests.hpo.toy_objective import FULL_SPACE, ToyObjective, spec

WIDER = {
    **FULL_SPACE,
    "pretrain.lr": Float(low=1e-4, high=1.0, log=True),
    "model.layers": Int(low=1, high=60),
    "pretrain.shape": Choice(options=("sqrt", "cosine", "linear")),
}


def run(folder: Path, study: StudySpec, **given: bool) -> Run:
    return hpo.run_study(study, out=folder, progress=False, **given)  # type: ignore[arg-type]


def test_trials_stay_and_new_ones_use_what_was_added(tmp_path: Path) -> None:
    narrow = spec(space=FULL_SPACE, trials=9)
    first = run(tmp_path, narrow)
    wide = replace(narrow, space=WIDER, trials=18)
    with pytest.raises(StudyChanged, match="started with other settings"):
        run(tmp_path, wide)
    assert run(tmp_path, narrow).trials == first.trials
    found = run(tmp_path, wide, widen=True)
    assert found.trials[:9] == first.trials
    assert found.space == WIDER
    added = [trial.params for trial in found.trials[9:]]
    assert all(path in params for params in added for path in WIDER)
    assert any(params["pretrain.shape"] == "sqrt" for params in added)
    assert any(params["model.layers"] > 5 for params in added)
    assert found.results.front.trials  # type: ignore[attr-defined]
    again = run(tmp_path, replace(wide, trials=19))  # the wider space is the study's by now
    assert again.trials[:18] == found.trials
    with pytest.raises(StudyChanged):
        run(tmp_path, narrow)


REFUSED = {
    "a narrower range": {"space": {**FULL_SPACE, "model.layers": Int(low=2, high=9)}},
    "another kind": {"space": {**FULL_SPACE, "model.layers": Float(low=0.5, high=9)}},
    "another scale": {"space": {**FULL_SPACE, "model.layers": Int(low=1, high=9, log=True)}},
    "a lost choice": {"space": {**FULL_SPACE, "pretrain.shape": Choice(options=("cosine", "x"))}},
    "a new parameter": {"space": {**FULL_SPACE, "pretrain.x": Float(low=0, high=1)}},
    "a goal": {"goals": (BASE_LOSS_DOWN,)},
    "the seed": {"seed": 5},
    "a baseline": {"baselines": (Baseline("standard", {}),)},
    "the objective": {"objective": ToyObjective(fixed={"a": 1})},
}


@pytest.mark.parametrize("what", REFUSED)
def test_all_else_is_one_sentence(what: str) -> None:
    class Any(ToyObjective):
        def check(self, params: object) -> None:
            pass

    started = spec_data(spec(space=FULL_SPACE, objective=Any()))
    now = spec_data(spec(**{"space": FULL_SPACE, "objective": Any(), **REFUSED[what]}))
    message = refusal(started, now)
    assert message is not None
    assert message.startswith("--widen adds choices, widens ranges and adds trials, but ")
    assert message.count(". ") == 0
    assert refusal(started, started) is None


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = HEAD + "STUDY = spec(trials=3, space={'pretrain.lr': Float(low=%s, high=0.1)})\n"
    Path("mine.py").write_text(text % 0.01)
    assert main.main(["run", "mine.py"]) == 0
    Path("mine.py").write_text(text % 0.001)
    assert main.main(["run", "mine.py", "--trials", "4"]) == 2
    assert "add --widen to go on in the wider space" in capsys.readouterr().err
    assert main.main(["check", "mine.py", "--trials", "4", "--widen"]) == 0
    assert "toy, continued" in capsys.readouterr().out
    assert main.main(["run", "mine.py", "--trials", "4", "--widen"]) == 0
    assert len(hpo.load_run("toy").trials) == 4
    Path("mine.py").write_text(text % 0.05)
    capsys.readouterr()
    assert main.main(["run", "mine.py"]) == 2
    assert "--widen" not in capsys.readouterr().err
    assert main.main(["run", "mine.py", "--widen"]) == 2
    assert "but pretrain.lr would not contain float 0.001 to 0.1" in capsys.readouterr().err
