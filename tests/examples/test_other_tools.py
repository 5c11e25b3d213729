"""Examples in other tools, such as Ray Tune; each runs where its tool is installed."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from objectives import Recipe
from tests.toy_size import TOY, small_inputs

EXAMPLES = Path(__file__).parents[2] / "examples"


def toy(recipe: Recipe, folder: Path) -> Recipe:
    return recipe.with_params(TOY | small_inputs(folder))


@pytest.fixture
def _local_ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Ray of this test alone, which ends with it: a process can have only one at a time."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.tune")
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(address="local", include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("_local_ray")
def test_ray_tune_reports_the_base_loss_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AIR_NEW_OUTPUT", "0")
    monkeypatch.setenv("TUNE_DISABLE_SIGINT_HANDLER", "1")  # it would stay
    ray_tune: Any = importlib.import_module("examples.ray_tune")
    results = ray_tune.main(toy(ray_tune.RECIPE, tmp_path), samples=4, store=tmp_path / "store")
    assert len(results) == 4
    assert not results.errors
    finished = [each for each in results if len(each.metrics_dataframe) == 2]
    assert finished
    for each in finished:
        first, last = each.metrics_dataframe["base_loss"]
        assert first == last
        assert each.metrics["gain"] > float("-inf")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_ax_has_both_objectives_of_four_trials(tmp_path: Path) -> None:
    pytest.importorskip("ax")
    ax_client: Any = importlib.import_module("examples.ax_client")
    client = ax_client.main(toy(ax_client.RECIPE, tmp_path), store=tmp_path / "store")
    table = client.summarize()
    assert len(table) == 4
    assert table["base_loss"].notna().all()
    assert table["gain"].notna().all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["pretrain.lr=1e-3,3e-3", "pretrain.weight_decay.value=0.1,0.5"],
        ["hydra/sweeper=plasticity", "hydra.sweeper.n_trials=4", "pretrain.lr=interval(0.001,0.1)"],
    ],
)
def test_hydra_runs_four_recipes(words: list[str], tmp_path: Path) -> None:
    pytest.importorskip("hydra")
    small = TOY | small_inputs(tmp_path)
    fixed = [f"{path}={json.dumps(value).replace(' ', '')}" for path, value in small.items()]
    fixed = [each.replace('"', "") for each in fixed] + ["pretrain.schedule.warmup_frac=null"]
    fixed.append("finetune.schedule.warmup_frac=null")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "hydra_app.py"), "-m", *fixed, *words],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={"PYTHONPATH": str(EXAMPLES.parent), "PATH": "", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("base loss") == 4
