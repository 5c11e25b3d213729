"""What a notebook and other tools get of a run: rows, the front, the best."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest

import hpo
from hpo.cli import main
from hpo.controller import Controller
from hpo.notebook import NotebookRun, notebook_run
from tests.hpo.cli.test_main import complaint
from tests.hpo.toy_objective import ToyObjective, spec


@pytest.fixture(scope="module")
def run() -> NotebookRun:
    objective = ToyObjective(fails_above_lr=0.05, extra={"=cmd": 1.0, "gain_sem": math.nan})
    return notebook_run(Controller(spec(objective=objective), "sqlite://").run())


def test_a_row_a_trial_with_params_metrics_and_standing(run: NotebookRun) -> None:
    frame = run.trials_dataframe()
    assert [*frame["number"]] == [trial.number for trial in run.trials]
    assert [*frame["metrics.gain"].dropna()] == [
        trial.metrics["gain"] for trial in run.trials if trial.metrics
    ]
    assert [*frame["params.pretrain.lr"].dropna()] == [
        trial.params["pretrain.lr"] for trial in run.trials if "pretrain.lr" in trial.params
    ]
    assert [*frame["standing"]] == [
        run.front.standings.get(trial.number, trial.state) for trial in run.trials
    ]
    assert frame["metrics.gain_sem"].isna().all()
    kinds = [name.partition(".")[0] for name in frame.columns if "." in name]
    assert kinds == sorted(kinds, key=["params", "metrics", "cost"].index)


def test_front_and_best_are_those_of_the_report(run: NotebookRun) -> None:
    assert run.front is run.results.front
    best = run.best("base_loss")
    assert best is not None
    assert best.metrics["base_loss"] == min(trial.metrics["base_loss"] for trial in run.complete())
    with pytest.raises(ValueError, match="no goal 'gian'; did you mean gain"):
        run.best("gian")


def test_csv_has_the_same_rows_and_no_formula(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = hpo.run_study(spec(trials=3, objective=ToyObjective(extra={"-cmd": 1.0})), progress=False)
    assert main.main(["show", "toy", "--csv"]) == 0
    rows = [*csv.DictReader(io.StringIO(capsys.readouterr().out))]
    assert [row["metrics.gain"] for row in rows] == [
        str(trial.metrics["gain"]) for trial in run.trials
    ]
    assert [row["name"] for row in rows] == ["standard", "no decay", ""]
    assert main.main(["show", "toy", "--csv", "--top", "1"]) == 2
    assert "--csv prints every trial" in complaint(capsys)
