"""The quickstart study: what it says, and a toy-sized run of it from the command to the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpo import study_files
from hpo.cli import main
from hpo.core import domains
from hpo.search import initial_design, strategy, unit_cube
from hpo.storage import run_folder
from objectives import PlasticityObjective, Recipe
from tests.toy_size import TOY, small_inputs


def test_its_standard_baseline_is_the_papers_recipe_and_lies_in_the_space() -> None:
    study = study_files.load("quickstart")
    values = study.objective.values()
    assert values["pretrain.weight_decay"] == 0.1
    assert values["pretrain.schedule.shape"] == "cosine"
    assert values["pretrain.schedule.floor_ratio"] == 0.1
    assert values["pretrain.schedule.decay_frac"] == 1.0
    assert values["pretrain.schedule.warmup_steps"] == 100
    assert values["finetune.schedule.warmup_steps"] == 10
    assert domains.inside(study.space, strategy.planned_values(study, 0))
    assert [dict(baseline.params) for baseline in study.baselines] == [
        {},
        {"pretrain.weight_decay": 0.0},
        {"pretrain.schedule.decay_frac": 0.0},
    ]


def test_it_trains_for_one_timescale_of_its_standard_decay() -> None:
    values = study_files.load("quickstart").objective.values()
    rate, decay, steps = (values[f"pretrain.{name}"] for name in ("lr", "weight_decay", "steps"))
    assert rate * decay * steps == pytest.approx(1.0)


def test_every_proposal_can_be_set() -> None:
    study = study_files.load("quickstart")
    for place in range(32):
        study.objective.check(unit_cube.sobol_point(study.space, study.seed, place))


def test_it_leaves_room_for_the_model() -> None:
    study = study_files.load("quickstart")
    assert study.trials > len(study.baselines) + initial_design.start_up(study)
    assert [goal.metric for goal in study.goals] == ["base_loss", "finetuned_loss_nats"]


def test_its_recipe_makes_the_json_round_trip() -> None:
    described = study_files.load("quickstart").objective.describe()
    again = Recipe.from_dict(json.loads(json.dumps(described["recipe"])))
    assert PlasticityObjective(again).describe() == described


def test_it_runs_from_the_command_to_the_report_and_the_exported_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = TOY | small_inputs(tmp_path)
    fixed = [f"--set={path}={json.dumps(value)}" for path, value in settings.items()]
    assert main.main(["run", "quickstart", "--trials", "3", *fixed]) == 0
    run = run_folder.read(run_folder.find_run("quickstart", Path("runs"), None))
    assert [trial.state for trial in run.trials] == ["complete"] * 3
    assert {"base_loss", "finetuned_loss_nats", "gain", "finetuned"} <= run.trials[0].metrics.keys()
    assert len({trial.metrics["base_loss"] for trial in run.trials}) > 1
    page = (tmp_path / "runs" / "quickstart" / "report.html").read_text()
    assert study_files.load("quickstart").baselines[0].name in page
    capsys.readouterr()
    assert main.main(["show", "quickstart", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"]["complete"] == 3
    assert main.main(["export", "quickstart", "--trial", "0", "--to", "out", "--json"]) == 0
    exported = json.loads(capsys.readouterr().out)
    assert exported["tokens_trained"] == 0
    assert exported["differences"] == []
    assert all((tmp_path / "out" / name).exists() for name in exported["files"])
    assert "adapters/list_ops-1" in exported["files"]
