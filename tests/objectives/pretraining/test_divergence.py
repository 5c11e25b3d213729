"""Runs that end in NaN or infinity fail with their reason, and are not stored as finished."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from objectives import Execution, PlasticityObjective, failures
from objectives.config.recipe import Recipe
from objectives.finetuning.lr_search import Outcome
from objectives.models.causal_lm import build_module
from objectives.store.store import Store
from objectives.training import batch, evaluation, loop, optimizers
from objectives.training.batch import TokenBatch
from objectives.training.lanes import LaneModel
from objectives.types import Request
from tests.objectives import toy
from tests.objectives.test_objective import recipe

__all__ = ["recipe"]


def objective(recipe: Recipe, folder: Path) -> PlasticityObjective:
    return PlasticityObjective(recipe, Execution(device="cpu", store=folder))


def request(params: dict[str, Any], base_only: bool = False) -> Request:
    return Request(params=params, fidelity=1.0, seed=0, base_only=base_only)


BLOWS_UP = {"pretrain.steps": 1, "pretrain.lr": 1e38, "pretrain.schedule.warmup_steps": 0}
"""One step whose loss and gradient are finite and whose update is not, or makes the loss NaN."""


@pytest.mark.parametrize("base_only", [True, False])
def test_weights_that_blow_up_in_the_last_step_fail_and_are_not_stored(
    base_only: bool, recipe: Recipe, tmp_path: Path
) -> None:
    fine = {"pretrain.steps": 1, "pretrain.schedule.warmup_steps": 0}
    requests = [request({**BLOWS_UP, "pretrain.lr": lr}, base_only) for lr in (1e38, 3e38)]
    *lost, found = objective(recipe, tmp_path).evaluate([*requests, request(fine, base_only)])
    for result in lost:
        assert (result.failure or "").startswith("pretraining diverged: ")
        assert result.metrics == {}
    assert found.failure is None
    assert math.isfinite(found.metrics["base_loss"])
    for path in (tmp_path / "pretrain").rglob("params.safetensors"):
        assert all(p.isfinite().all() for p in load_file(path).values())


def test_a_lane_whose_last_update_is_not_finite_is_lost_and_its_neighbour_is_not() -> None:
    config = toy.CONFIGS["llama"]
    module = build_module(config, "cpu")
    program = LaneModel(module)
    shapes = {name: p.shape for name, p in module.named_parameters()}
    values = batch.join_rows([toy.initial(config, 0)] * 2, shapes)
    state = loop.State.fresh(shapes, values)
    plan = loop.Plan(
        lr_SK=torch.tensor([[math.inf, 1e-3]]),
        decay_SK=torch.zeros(1, 2),
        constants=optimizers.constants(2, "cpu"),
    )
    loop.train(program, state, plan, lambda step: TokenBatch(toy.ids(2, 6)), until=1)
    assert state.diverged_at.tolist() == [1, loop.NEVER]


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        ({"base_loss": 5.0, "train_loss": 5.0}, None),
        ({"base_loss": 2 * math.log(300), "train_loss": 5.0}, None),
        ({"base_loss": 12.0, "train_loss": 5.0}, "base loss 12 nats, more than 2 times"),
        ({"base_loss": math.nan, "train_loss": 5.0}, "base_loss of the base is nan"),
        ({"base_loss": math.inf, "train_loss": 5.0}, "base_loss of the base is inf"),
        ({"base_loss": 5.0, "train_loss": math.nan}, "train_loss of the base is nan"),
        ({"base_loss": 5.0, "mid_loss": math.inf}, "mid_loss of the base is inf"),
    ],
)
def test_a_base_without_finite_losses_has_diverged(
    losses: dict[str, float], reason: str | None
) -> None:
    found = failures.unfit_base(losses, 300)
    assert (found is None) == (reason is None)
    assert (reason or "") in (found or "")


def scored(**changed: Any) -> Outcome:
    given: dict[str, Any] = {
        "lr": 1e-2, "tried": {1e-3: 2.0, 1e-2: 1.0}, "before": 0.5, "loss_before": 2.0,
        "after": [0.5, 0.75], "loss_after": [1.0, 1.0], "base_loss_after": [3.0, 3.0],
    }  # fmt: skip
    return Outcome(**{**given, **changed})


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, None),
        ({"lr": math.nan, "tried": {1e-3: math.inf}}, "t diverged at every learning rate"),
        ({"lr": math.nan}, "t diverged at the chosen learning rate 0.01 with one of the further"),
        ({"loss_before": math.nan}, "the loss before fine-tuning on t is not finite"),
        ({"after": [0.5, math.nan]}, "the score after fine-tuning on t is not finite"),
        ({"loss_after": [math.inf, 1.0]}, "the loss after fine-tuning on t is not finite"),
        ({"base_loss_after": [math.nan]}, "the base loss after fine-tuning on t is not finite"),
    ],
)
def test_fine_tunes_without_finite_scores_fail(changed: dict[str, Any], reason: str | None) -> None:
    tasks: Any = [SimpleNamespace(name="s"), SimpleNamespace(name="t")]
    found = failures.unfit_tunes(tasks, [scored(), scored(**changed)])
    assert (found is None) == (reason is None)
    assert (reason or "") in (found or "")


def test_a_further_seed_that_diverges_fails_the_trial(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, calls = evaluation.completion_loss, 0

    def diverged_the_second_time(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        found = measured(*given)
        return np.full_like(found, math.nan) if calls == 2 else found

    monkeypatch.setattr(evaluation, "completion_loss", diverged_the_second_time)
    params = {"finetune.lrs": [1e-2], "finetune.max_extensions": 0}
    for _ in range(2):  # measured, and from the store
        (result,) = objective(recipe, tmp_path).evaluate([request(params)])
        assert "diverged at the chosen learning rate 0.01 with one of" in (result.failure or "")
        assert result.metrics == {}
    assert list(Store(tmp_path).keys("finetune"))
