"""Callbacks hear of a study in its order, and cannot stop it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import hpo
from hpo.cli import main
from hpo.core.callback import CurvePoint, StudyEnded, TrialBegun
from hpo.core.trial import Run, Trial
from hpo.trackers.registry import TRACKERS
from hpo.trackers.tracker import TrackedStudy, TrackedTrial, Tracker
from tests.hpo.cli.test_main import complaint, folder
from tests.hpo.toy_objective import Once, ToyObjective, interrupt, spec

__all__ = ["folder"]


class Diary:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.notes: list[Any] = []

    def study_begun(self, run: Run, folder: Path) -> None:
        self.notes.append(("begun", len(run.trials), folder.name))

    def trial_begun(self, trial: TrialBegun) -> None:
        self.notes.append((trial.number, "begins", trial.fidelity))

    def curve_point(self, point: CurvePoint) -> None:
        self.notes.append((point.trials, point.stage, point.loss))

    def trial_ended(self, trial: Trial) -> None:
        self.notes.append((trial.number, trial.state, trial.metrics.get("gain")))

    def study_ended(self, ended: StudyEnded) -> None:
        assert ended.report is not None
        self.notes.append(("ended", [trial.number for trial in ended.run.trials]))


class Losing(ToyObjective):
    """Tells of a loss, a value that is none among them."""

    def evaluate(self, requests: Any, on_event: Any = None) -> Any:
        for loss in (2.5, float("nan")):
            on_event({"stage": "pretrain", "step": 1, "steps": 2, "loss": loss})
        return super().evaluate(requests, on_event)


def test_a_study_is_reported_in_its_order(tmp_path: Path) -> None:
    diary = Diary()
    study = spec(trials=4, objective=Losing(fails_above_lr=0.009))
    run = hpo.run_study(study, out=tmp_path, progress=False, callbacks=[diary])
    waves = [[0, 1, 2], [3]]
    wanted: list[Any] = [("begun", 0, "toy")]
    for wave in waves:
        wanted += [(number, "begins", 1.0) for number in wave]
        wanted += [(tuple(wave), "pretrain", 2.5)]
        wanted += [
            (number, run.trials[number].state, run.trials[number].metrics.get("gain"))
            for number in wave
        ]
    assert diary.notes == [*wanted, ("ended", [0, 1, 2, 3])]
    assert {trial.state for trial in run.trials} == {"failed", "complete"}


def test_trials_that_are_stopped_at_the_end_are_passed_on_too(tmp_path: Path) -> None:
    diary = Diary()
    study = spec(trials=6, rungs=(0.5, 1.0), baselines=(), seed=1)
    run = hpo.run_study(study, out=tmp_path, progress=False, callbacks=[diary])
    told = [note for note in diary.notes if note[1] in ("complete", "pruned", "failed")]
    assert sorted(note[0] for note in told) == [trial.number for trial in run.trials]
    assert {note[1] for note in told} == {"complete", "pruned"}


class Failing(Diary):
    """Raises whatever it is told."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith(("study_", "trial_", "curve_")):
            raise ConnectionError(f"the server of {name} is away")
        return super().__getattribute__(name)


def test_one_that_fails_is_one_warning_and_the_study_is_the_same(tmp_path: Path) -> None:
    wanted = hpo.run_study(spec(), out=tmp_path / "without", progress=False)
    diary = Diary()
    with pytest.warns(UserWarning, match="Failing failed .ConnectionError: the server") as caught:
        run = hpo.run_study(
            spec(), out=tmp_path / "with", progress=False, callbacks=[Failing(), diary]
        )
    assert len(caught) == 1
    assert run.trials == wanted.trials
    assert diary.notes[-1][0] == "ended"


class Notebook:
    """A tool that keeps what it is told."""

    def __init__(self) -> None:
        self.trials: list[TrackedTrial] = []
        self.studies: list[TrackedStudy] = []

    def trial(self, trial: TrackedTrial) -> None:
        self.trials.append(trial)

    def study(self, study: TrackedStudy) -> None:
        self.studies.append(study)


def test_a_tracker_tracks_each_trial_once_also_after_an_interrupt(tmp_path: Path) -> None:
    tool = Notebook()
    stopped = spec(trials=7, objective=ToyObjective(before=Once(1, tmp_path, interrupt)))
    hpo.run_study(stopped, out=tmp_path, progress=False)  # three trials, untracked
    for _ in range(2):
        run = hpo.run_study(
            stopped, out=tmp_path, progress=False, callbacks=[Tracker("book", tool)]
        )
    assert [each.number for each in tool.trials] == list(range(7))
    assert json.loads((tmp_path / "toy" / "tracked-book.json").read_text()) == list(range(7))
    trial, told = run.trials[3], tool.trials[3]
    assert told.params == {**trial.params, "seed": 0, "fidelity": 1.0}
    assert told.goals == {name: trial.metrics[name] for name in ("base_loss", "gain")}
    assert told.metrics["cost.time_s"] == 1.0
    assert told.curves["train_loss"] == [(1, 5.0), (2, trial.metrics["base_loss"])]
    study = tool.studies[-1]
    assert [*study.columns[:4]] == ["trial", "name", "base_loss", "gain"]
    assert [row[0] for row in study.rows] == [trial.number for trial in run.front.trials]
    assert study.report is not None
    assert study.report.is_file()


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tool_that_is_not_installed_is_one_sentence(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in [each for each in sys.modules if each.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    assert main.main(["run", "mine.py", "--track", name]) == 2
    assert f"pip install 'plasticity-hpo[{name}]'" in complaint(capsys)
    with pytest.raises(SystemExit):
        main.main(["run", "mine.py", "--track", "papr"])
