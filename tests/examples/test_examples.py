"""Every example, with its own recipe shrunk: a few steps, a few rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from examples import callback, for_loop, hf_search, hf_trainer, own_optuna
from hpo import study_files
from hpo.cli import main
from hpo.storage import run_folder
from objectives import PlasticityObjective, Recipe
from tests.hpo import toy_objective
from tests.toy_size import TOY, small_inputs

OWN_TASK = Path(__file__).parents[2] / "examples" / "own_task.py"


def toy(recipe: Recipe, folder: Path) -> Recipe:
    return recipe.with_params(TOY | small_inputs(folder))


def test_for_loop_prints_a_row_for_each_decay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = for_loop.main(toy(for_loop.RECIPE, tmp_path), store=tmp_path)
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading.split()[0] == "decay"
    assert [float(row.split()[0]) for row in rows] == list(for_loop.DECAYS)
    assert [float(row.split()[1]) for row in rows] == [
        pytest.approx(metrics["base_loss"], abs=1e-3) for metrics in found
    ]


def test_own_optuna_tells_the_study_what_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = toy(own_optuna.RECIPE, tmp_path)
    study = own_optuna.main(recipe, rounds=2, width=1, store=tmp_path)
    assert [trial.state for trial in study.trials] == [optuna.trial.TrialState.COMPLETE] * 2
    assert capsys.readouterr().out.count("base loss") == len(study.best_trials)
    last = study.trials[-1]
    objective = PlasticityObjective(recipe).configure({"store": str(tmp_path)})
    metrics = objective(last.params).metrics
    assert last.values == pytest.approx([metrics["base_loss"], metrics["gain"]])


def test_every_cell_of_the_notebook_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("from tests.hpo.toy_objective import *\nSTUDY = spec(trials=3)\n")
    cells = json.loads(OWN_TASK.with_name("notebook.ipynb").read_text())["cells"]
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            exec("".join(cell["source"]).replace('"quickstart"', '"mine.py"'), names)
    assert "best gain: {" in capsys.readouterr().out
    assert names["study"].metric_names == ["base_loss", "gain"]


def test_a_callback_prints_a_line_for_each_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callback.main(toy_objective.spec(trials=3), tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("toy: 0 of ")
    assert [line.split(":")[0] for line in lines[4:7]] == [
        f"trial {number} is complete" for number in range(3)
    ]
    assert lines[-1].endswith("report.html")


def test_a_trainer_takes_the_schedule_and_probes_of_a_recipe(
    capsys: pytest.CaptureFixture[str],
) -> None:
    losses = hf_trainer.main(hf_trainer.RECIPE, steps=20)
    assert len(losses) == 20
    printed = capsys.readouterr().out
    assert "rates: [0.0015, 0.003, 0.003" in printed  # a warmup of two steps
    assert "step 10: norm" in printed
    assert "step 20: norm" in printed


def test_the_trainers_own_search_finds_a_front_of_both_goals() -> None:
    front = hf_search.main(trials=2, steps=4)
    assert len(front) in (1, 2)
    for best in front:
        assert [*best.hyperparameters] == ["learning_rate", "weight_decay"]
        assert all(0 < loss < 10 for loss in best.objective)


def test_the_study_in_yaml_is_complete() -> None:
    spec = study_files.load(str(OWN_TASK.with_name("study.yaml")))
    assert [*spec.space] == [
        "pretrain.weight_decay", "pretrain.schedule.decay_frac", "finetune.lora.rank"
    ]  # fmt: skip
    assert [point.name for point in spec.baselines] == ["standard", "constant rate"]


def test_own_task_runs_as_a_study_on_its_own_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    fixed = [f"--set={path}={json.dumps(value)}" for path, value in TOY.items()]
    within = ["--store-gb", "0.001", "--share", str(tmp_path / "net")]
    assert main.main(["run", str(OWN_TASK), "--trials", "2", *within, *fixed]) == 0
    assert sum(path.stat().st_size for path in Path("runs/store").rglob("*")) < 1_000_000
    assert {path.name for path in (tmp_path / "net").iterdir()} >= {"pretrain", "tune", "tokens"}
    run = run_folder.read(run_folder.find_run("own-task", Path("runs"), None))
    assert [trial.state for trial in run.trials] == ["complete"] * 2
    assert "task.diet.after" in run.trials[0].metrics
    folder = tmp_path / "temporary" / "plasticity-hpo-example"
    assert len([*folder.glob("report-*.txt")]) == 100
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert {row["label"].strip() for row in rows} == {"grass", "fish", "honey", "hay", "mice"}


def test_the_proxy_is_verified_at_a_larger_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    toy = TOY | small_inputs(tmp_path)
    fixed = [f"--set={path}={json.dumps(value)}" for path, value in toy.items()]
    proxy = str(OWN_TASK.with_name("proxy.py"))
    assert main.main(["run", proxy, "--trials", "4", "--executor", "inline", *fixed]) == 0
    few = ["--recipes", "3", "--seeds", "1", "--tokens-per-param", "0.005", "--executor", "inline"]
    few += ["--rules", "tau_share,carry_over"]
    capsys.readouterr()
    assert main.main(["verify", "proxy", "--sizes", "llama-0.2m", *few, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["verifications"]
    assert found["complete"]
    assert 150_000 < found["plan"]["num_params"] < 250_000
    assert {rule["rule"] for rule in found["rules"]} == {"tau_share", "carry_over"}
    assert [goal["recipes"] for goal in found["rules"][0]["goals"]] == [3, 3]
