"""The vision half of 2310.04415: what it says in both settings, and a toy run to its tables."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from hpo import study_files
from hpo.cli import main
from hpo.search import unit_cube
from hpo.storage import run_folder
from objectives.config.vision import VisionRecipe
from objectives.vision.trainer import Job

NAME = "why_weight_decay_vision"


POINTS = 8


TOY: dict[str, Any] = {
    "pretrain.steps": 4,
    "pretrain.evals": 2,
    "pretrain.batch_size": 16,
    "pretrain.eval_rows": 32,
    "model.widths": [4, 8],
    "model.depths": [1, 1],
    "images.train_rows": 32,
    "probes.points": 2,
    "probes.rows": 16,
    "probes.vectors": 2,
    "probes.flow_steps": 1,
}


def recipes(setting: str) -> dict[str, VisionRecipe]:
    study = study_files.load(NAME, setting)
    objective: Any = study.objective
    return {
        planned.point.name: objective.recipe.with_params(planned.point.params)
        for planned in study.planned
        if planned.replicate == 0
    }


@pytest.mark.parametrize("setting", ["small", "full"])
def test_every_point_and_proposal_can_be_set_and_is_a_run_of_its_own(setting: str) -> None:
    study, found = study_files.load(NAME, setting), recipes(setting)
    assert len({json.dumps(recipe.to_dict()) for recipe in found.values()}) == POINTS
    assert study.trials == len(study.planned) == POINTS * study.replicates
    assert study.replicates >= 2
    assert list(found) == list(recipes("small"))
    for place in range(8):
        study.objective.check(unit_cube.sobol_point(study.space, study.seed, place))


@pytest.mark.parametrize("setting", ["small", "full"])
def test_rates_are_held_for_half_of_the_run_and_end_alike(setting: str) -> None:
    found = recipes(setting)
    for name, recipe in found.items():
        job = Job(recipe, 0, recipe.pretrain.steps, "cpu")
        half = job.steps // 2
        assert (job.lr[:half] == recipe.pretrain.lr).all()
        assert job.lr[half:] == pytest.approx({"small": 0.02, "full": 1e-4}[setting])
        assert (job.decay == 0).all() == name.endswith("no decay")
    rising = ("low rate, middle", "middle rate, middle", "high rate, middle", "higher rate, middle")
    rates = [found[name].pretrain.lr for name in rising]
    assert rates == sorted(set(rates))


def test_full_has_the_papers_numbers() -> None:
    found = recipes("full")
    pre = found["high rate, middle"].pretrain
    assert (pre.lr, pre.weight_decay.value, pre.batch_size) == (0.08, 0.0125, 128)
    assert pre.steps == 1000 * (50_000 // 128)
    assert (pre.optimizer, pre.beta1, pre.clip_norm) == ("sgd", 0.0, None)
    assert found["low rate, no decay"].pretrain.lr == 0.001


def test_it_runs_at_toy_size_to_its_papers_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fixed = [f"--set={path}={json.dumps(value)}" for path, value in TOY.items()]
    assert main.main(["run", NAME, "--trials", str(2 * POINTS), *fixed]) == 0
    run = run_folder.read(run_folder.find_run(NAME, Path("runs"), None))
    assert [trial.state for trial in run.trials] == ["complete"] * 2 * POINTS
    printed = " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "runs" / NAME / "report.html").read_text()
    assert run.paper is not None
    for table in run.paper.tables:
        assert table.title in printed
        assert table.title in page
        for claim in table.claims:
            assert f"{claim.text}: here" in printed
    assert "validation_loss (nats/image)" in page
    assert main.main(["show", NAME, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["paper"]
    cells = [cell for table in shown["tables"] for row in table["rows"] for cell in row["cells"]]
    assert {cell["seeds"] for cell in cells} == {2}
    assert all(math.isfinite(cell["mean"]) for cell in cells)


def test_images_can_be_changed_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    other = '--set=images={"kind": "cifar10", "folder": "nowhere"}'
    assert main.main(["run", NAME, other]) == 2
    said = " ".join(capsys.readouterr().err.split())
    looked_at = str(tmp_path / "nowhere")
    assert (
        f"images.folder {looked_at!r} holds no CIFAR-10; give the folder of CIFAR-10's binary"
        in said
    )
