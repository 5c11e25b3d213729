"""`hpo.run_study`: the record of `hpo run`, from Python."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

import hpo
from hpo.cli import main
from hpo.notebook import NotebookRun
from hpo.storage.provenance import StudyChanged
from tests.hpo.toy_objective import Once, ToyObjective, interrupt, spec

FILE = "from tests.hpo.toy_objective import *\nSTUDY = spec(trials=5)\n"


def test_a_study_that_is_a_value_runs_as_its_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    assert main.main(["run", "mine.py", "--out", "cli", "--seed", "3"]) == 0
    capsys.readouterr()
    run = hpo.run_study(spec(), out="python", trials=5, seed=3, progress=False)
    assert capsys.readouterr() == ("", "")
    wanted = hpo.load_run("toy", "cli")
    assert run.trials == wanted.trials
    assert (tmp_path / "python/toy/report.html").is_file()
    again = hpo.run_study("mine.py", out="files", seed=3)
    assert "trials 0-2 of 5 | measure" in capsys.readouterr().out
    assert again.trials == wanted.trials
    assert main.main(["run", "mine.py", "--out", "files", "--seed", "3", "--trials", "7"]) == 0


def test_an_interrupt_returns_what_is_finished_and_the_same_call_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    whole = hpo.run_study(spec(), out=tmp_path / "whole", progress=False)
    stopped = spec(objective=ToyObjective(before=Once(1, tmp_path, interrupt)))
    run = hpo.run_study(stopped, out=tmp_path / "cut")
    assert [trial.state for trial in run.trials].count("complete") == 3
    assert "Stopped; what is finished is kept" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before
    assert hpo.run_study(stopped, out=tmp_path / "cut").trials == whole.trials


def test_it_runs_in_a_thread_that_hears_no_signals(tmp_path: Path) -> None:
    found: list[NotebookRun] = []
    thread = threading.Thread(
        target=lambda: found.append(hpo.run_study(spec(trials=2), out=tmp_path, progress=False))
    )
    thread.start()
    thread.join()
    assert len(found[0].complete()) == 2


def test_optuna_loads_a_run_by_its_name_with_its_goals_named(tmp_path: Path) -> None:
    run = hpo.run_study(spec(trials=3), out=tmp_path, progress=False)
    study = optuna.load_study(study_name="toy", storage=f"sqlite:///{tmp_path}/toy/study.db")
    assert study.metric_names == ["base_loss", "gain"]
    assert [trial.values for trial in study.trials] == [
        [trial.metrics["base_loss"], trial.metrics["gain"]] for trial in run.trials
    ]
    frame = study.trials_dataframe()
    assert {"values_base_loss", "values_gain", "params_pretrain.lr"} <= {*frame.columns}
    assert {trial.number for trial in study.best_trials} >= {
        trial.number for trial in run.front.trials
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"trails": 3}, "run_study has no argument 'trails'; did you mean trials"),
        ({"variant": "small"}, "run_study has no argument 'variant'"),
        ({"executor": "processes"}, "give the study's name or file instead of a StudySpec"),
        ({"executor": "threads"}, "executor must be one of .*inline, processes"),
        ({"device": "cuda"}, "device 'cuda' cannot be used"),
        ({"params": {"pretrain.ir": 1}}, "unknown hyperparameter"),
    ],
)
def test_a_mistake_is_one_sentence(given: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        hpo.run_study(spec(), out=tmp_path, **given)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_changed_study_is_refused(tmp_path: Path) -> None:
    hpo.run_study(spec(trials=2), out=tmp_path, progress=False)
    with pytest.raises(StudyChanged, match="undo the change, or give another name=") as caught:
        hpo.run_study(replace(spec(trials=2), wave=2), out=tmp_path, progress=False)
    assert "--fork" not in str(caught.value)


def test_a_wider_study_is_refused_with_how_to_go_on(tmp_path: Path) -> None:
    def run(low: float, **given: Any) -> NotebookRun:
        space = {"pretrain.lr": hpo.Float(low=low, high=0.1)}
        return hpo.run_study(spec(trials=2, space=space), out=tmp_path, progress=False, **given)

    run(0.01)
    with pytest.raises(StudyChanged, match=r"; give widen=True to go on .* or give another name="):
        run(0.001)
    assert run(0.001, widen=True).name == "toy"
