"""What requests would cost, compared with what they do cost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from objectives import Execution, Finetune, PlasticityObjective, Recipe, Schedule
from objectives.config.data import BuiltinTask
from objectives.types import Request
from tests.objectives import toy

STEP = 4 * toy.SEQ_LEN
"""Tokens of a training step."""


def objective(folder: Path, **pretrain: Any) -> PlasticityObjective:
    recipe = toy.recipe(folder, **pretrain)
    fine = Finetune(
        tasks=(BuiltinTask(name="list_ops"),),
        steps=3, batch_size=2, lrs=(1e-2, 2e-2), seeds=2, max_extensions=0, refine=0, train_rows=16,
        validation_rows=4, test_rows=4, max_length=48, schedule=Schedule(),
    )  # fmt: skip
    probes = dataclasses.replace(recipe.probes, run=(), forgetting_tokens=0)
    small = dataclasses.replace(recipe, finetune=fine, probes=probes)
    return PlasticityObjective(small, Execution(store=folder / "store", device="cpu"))


def request(seed: int = 0, fidelity: float = 1.0, **params: Any) -> Request:
    given = {path.replace("__", "."): value for path, value in params.items()}
    return Request(params=given, fidelity=fidelity, seed=seed)


def test_training_is_counted_once_where_it_is_shared(tmp_path: Path) -> None:
    found = objective(tmp_path).estimate(
        [request(), request(finetune__lora__rank=4), request(seed=1), request(pretrain__lr=0.1)],
        timed=False,
    )
    assert found["tokens"]["pretraining"] == 3 * toy.STEPS * STEP
    assert found["stored"] == {"pretraining": 0.0, "finetuning": 0.0}
    assert found["seconds"] is None
    assert "The corpus is not tokenized in this store yet" in found["notes"][0]


def test_what_was_measured_is_found_in_the_store_and_the_rest_is_left(tmp_path: Path) -> None:
    one = objective(tmp_path)
    (result,) = one.evaluate([request()])
    found = one.estimate([request(), request(seed=1)], timed=False)
    total, stored = found["tokens"], found["stored"]
    assert total["pretraining"] == 2 * stored["pretraining"] == 2 * toy.STEPS * STEP
    assert total["finetuning"] == pytest.approx(2 * stored["finetuning"])
    assert found["notes"] == []
    trained = result.cost["tokens"] + result.cost["tokens_reused"]
    assert sum(stored.values()) == pytest.approx(trained)


def test_a_longer_horizon_goes_on_from_what_is_stored(tmp_path: Path) -> None:
    constant = Schedule(warmup_steps=2, decay_frac=0.0)
    one = objective(tmp_path, schedule=constant)
    one.evaluate([request(fidelity=0.5)])
    found = one.estimate([request()], timed=False)
    assert found["stored"]["pretraining"] == toy.STEPS / 2 * STEP
    assert found["stored"]["finetuning"] == found["tokens"]["finetuning"] / 2  # from scratch


def test_disk_is_about_what_stages_take(tmp_path: Path) -> None:
    one = objective(tmp_path)
    expected = one.estimate([request()], timed=False)["disk_bytes"]
    one.evaluate([request()])
    stages = [tmp_path / "store" / name for name in ("pretrain", "moments", "tune")]
    files = [path for stage in stages for path in stage.rglob("*.safetensors")]
    taken = sum(path.stat().st_size for path in files)
    assert expected / 2 < taken < 2 * expected
    assert one.estimate([request()], timed=False)["disk_bytes"] == 0


def test_a_step_is_timed_and_nothing_is_kept(tmp_path: Path) -> None:
    one = objective(tmp_path, steps=4)
    found = one.estimate([request(), request(pretrain__lr=0.1)], together=2)
    left = sum(found["tokens"].values())
    assert found["seconds"] == pytest.approx(left / found["tokens_per_second"])
    assert not (tmp_path / "store").exists()


def test_a_large_recipe_is_counted_without_being_built(tmp_path: Path) -> None:
    recipe = Recipe().with_params({"model.preset": "llama-1b"})
    one = PlasticityObjective(recipe, Execution(store=tmp_path / "store", device="cpu"))
    assert one.estimate([request()], timed=False)["parameters"] > 1e9


def test_operations_on_a_cpu_are_six_a_parameter_and_token_without_reading_data(
    tmp_path: Path,
) -> None:
    one = objective(tmp_path)
    size = one.estimate([request()], timed=False)["parameters"]
    tuning = 3 * 2 * 3 * 32  # steps, rows, fine-tunes, tokens that a row is taken to have
    wanted = 6 * size * (toy.STEPS * STEP + tuning)
    gone = one.with_params({"corpus.sources": [{"kind": "files", "paths": ["no such file"]}]})
    assert gone.cpu_operations([request()]) == wanted
    assert gone.cpu_operations([request(), request(fidelity=0.5)]) < 2 * wanted
    on_gpu = PlasticityObjective(one.recipe, Execution(device="cuda"))
    assert on_gpu.cpu_operations([request()]) == 0.0
