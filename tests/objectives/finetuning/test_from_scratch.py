"""The control without pretraining: what it is, whom it belongs to, and what it costs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from objectives import Execution, PlasticityObjective, Recipe, Result
from objectives.config.data import BuiltinTask
from objectives.data.token_dataset import TokenDataset
from objectives.finetuning import from_scratch
from objectives.finetuning.lr_search import Finetuner
from objectives.finetuning.trainer import FinetuneTrainer
from objectives.models import causal_lm
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.data_cache import DataCache
from objectives.pretraining.job import PretrainJob
from objectives.store.store import Store
from objectives.training.runtime import Runtime
from objectives.types import Request
from tests.objectives import toy

TASK = "list_ops"


def recipe(folder: Path, **given: Any) -> Recipe:
    base = toy.recipe(folder, steps=4)
    fine = toy.finetune(
        tasks=(BuiltinTask(name=TASK),), **{"lrs": (1e-2,), "from_scratch": "same", **given}
    )
    probes = dataclasses.replace(base.probes, run=(), forgetting_tokens=0)
    return dataclasses.replace(base, finetune=fine, probes=probes)


def measured(recipe: Recipe, store: Path, *asked: tuple[dict[str, Any], int]) -> list[Result]:
    requests = [Request(params=params, fidelity=1.0, seed=seed) for params, seed in asked]
    objective = PlasticityObjective(recipe, Execution(device="cpu", store=store))
    return objective.evaluate(requests)


def num_tunes(store: Path) -> float:
    """Fine-tuned models: the seed that chooses the rate is a stage of its own."""
    return len(list((store / "tune").glob("*"))) / 2


def test_the_control_is_the_same_fine_tuning_of_the_initial_weights(tmp_path: Path) -> None:
    asked = recipe(tmp_path)
    (result,) = measured(asked, tmp_path / "store", ({}, 3))
    corpus, (task,) = DataCache().corpus_and_tasks(
        asked, Store(tmp_path / "other"), lambda event: None
    )
    config = causal_lm.build_config(asked.model, corpus.vocab_size)
    runtime = Runtime(store=Store(tmp_path / "other"), report=lambda event: None, max_lanes=8)
    trainer = FinetuneTrainer(config, asked.finetune, runtime, bf16=False, device="cpu")
    initial = causal_lm.initial_parameters(asked.model, config, 3)
    ((expected,),) = Finetuner(trainer, [task], 3).run([("initial", initial)])
    found = result.metrics
    assert found[f"task.{TASK}.scratch"] == pytest.approx(np.mean(expected.after))
    assert found[f"task.{TASK}.scratch_loss_nats"] == pytest.approx(np.mean(expected.loss_after))


def test_differences_are_paired_over_seeds(tmp_path: Path) -> None:
    (result,) = measured(recipe(tmp_path, seeds=3), tmp_path / "store", ({}, 0))
    found, name = result.metrics, f"task.{TASK}"
    worth = found[f"{name}.after"] - found[f"{name}.scratch"]
    assert found[f"{name}.over_scratch"] == pytest.approx(worth)
    assert found["over_scratch"] == pytest.approx(worth)
    nats = found[f"{name}.scratch_loss_nats"] - found[f"{name}.loss_after_nats"]
    assert found[f"{name}.over_scratch_nats"] == pytest.approx(nats)
    assert found["over_scratch_nats_sem"] == found[f"{name}.over_scratch_nats_sem"] > 0
    assert found["over_scratch_rows_sem"] >= 0


def test_trials_of_one_seed_share_one_control_and_later_ones_find_it(tmp_path: Path) -> None:
    asked, store = recipe(tmp_path), tmp_path / "store"
    other = {"pretrain.weight_decay": 0.5}
    one, two, third = measured(asked, store, ({}, 0), (other, 0), (other, 1))
    name = f"task.{TASK}.scratch_loss_nats"
    assert one.metrics[name] == two.metrics[name] != third.metrics[name]
    assert num_tunes(store) == 3 + 2  # a base each, and the initial weights of two seeds
    (later,) = measured(asked, store, ({"pretrain.weight_decay": 0.9}, 1))
    assert num_tunes(store) == 3 + 2 + 1
    assert later.metrics[name] == third.metrics[name]
    assert later.cost["tokens"] < third.cost["tokens"]


def test_a_control_changes_nothing_but_its_own_metrics(tmp_path: Path) -> None:
    (with_it,) = measured(recipe(tmp_path), tmp_path / "one", ({}, 0))
    (without,) = measured(recipe(tmp_path, from_scratch="off"), tmp_path / "two", ({}, 0))
    own = {name for name in with_it.metrics if "scratch" in name}
    assert with_it.metrics.keys() - own == without.metrics.keys()
    for name, value in without.metrics.items():
        assert with_it.metrics[name] == value, name
    (stored,) = measured(recipe(tmp_path), tmp_path / "two", ({}, 0))
    assert stored.metrics == with_it.metrics
    assert stored.cost["tokens_reused"] > 0


def test_what_a_store_holds_from_before_is_found_with_and_without_a_control(tmp_path: Path) -> None:
    store = tmp_path / "store"
    measured(recipe(tmp_path, from_scratch="off"), store, ({}, 0))
    assert num_tunes(store) == 1
    measured(recipe(tmp_path), store, ({}, 0))
    assert num_tunes(store) == 2


def test_a_request_of_the_base_alone_has_no_control(tmp_path: Path) -> None:
    asked = Request(params={}, fidelity=1.0, seed=0, base_only=True)
    store = tmp_path / "store"
    objective = PlasticityObjective(recipe(tmp_path), Execution(device="cpu", store=store))
    (result,) = objective.evaluate([asked])
    assert not any("scratch" in name for name in result.metrics)
    assert num_tunes(store) == 0


def test_a_control_that_diverges_is_a_note_and_costs_no_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = from_scratch.initial_base

    def huge(job: PretrainJob, corpus: TokenDataset) -> BaseModel:
        base = drawn(job, corpus)
        params = {name: p * 1e30 for name, p in base.params.items()}
        return dataclasses.replace(base, params=params)

    monkeypatch.setattr(from_scratch, "initial_base", huge)
    (result,) = measured(recipe(tmp_path), tmp_path / "store", ({}, 0))
    assert result.failure is None
    assert not any("scratch" in name for name in result.metrics)
    (note,) = [note for note in result.notes if "initial weights" in note]
    assert f"fine-tuning on {TASK} diverged at every learning rate" in note


def test_a_full_control_trains_all_weights_whatever_the_method(tmp_path: Path) -> None:
    """And is one for all adapters: a study of their rank measures it once a seed."""
    full = recipe(tmp_path, from_scratch="full", method="full")
    adapters = recipe(tmp_path, from_scratch="full")
    name = f"task.{TASK}.scratch_loss_nats"
    (expected,) = measured(full, tmp_path / "full", ({}, 0))
    found = measured(adapters, tmp_path / "lora", ({}, 0), ({"finetune.lora.rank": 3}, 0))
    assert [each.metrics[name] for each in found] == [expected.metrics[name]] * 2
    assert num_tunes(tmp_path / "lora") == 2 + 1
