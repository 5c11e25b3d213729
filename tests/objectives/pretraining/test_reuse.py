"""What a base alone gives, and what one request's training saves another: as foretold, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from objectives import Execution, PlasticityObjective
from objectives.config.recipe import Recipe
from objectives.results import EARLY
from objectives.store.store import Store
from objectives.types import Request
from tests.objectives import toy

STEPS = 12


WARMUP = 2


FLAT = {"pretrain.schedule.decay_frac": 0.0}


LATE = {"pretrain.schedule.decay_frac": 0.25}


@pytest.fixture(scope="module")
def recipe(toy_folder: Path) -> Recipe:
    base = toy.recipe(toy_folder, steps=STEPS).with_params(
        {"pretrain.schedule.warmup_steps": WARMUP, "pretrain.merge_points": 4, **FLAT}
    )
    fine = toy.finetune(lrs=(1e-3,), train_rows=100)
    return Recipe(model=base.model, corpus=base.corpus, pretrain=base.pretrain, finetune=fine)


def objective(recipe: Recipe, folder: Path) -> PlasticityObjective:
    return PlasticityObjective(recipe, Execution(device="cpu", store=folder))


def asked(params: dict[str, Any], fidelity: float = 1.0, *, base_only: bool = False) -> Request:
    return Request(params=params, fidelity=fidelity, seed=0, base_only=base_only)


def test_a_base_alone_gives_its_metrics_and_costs_its_training(
    recipe: Recipe, tmp_path: Path
) -> None:
    measure = objective(recipe, tmp_path)
    alone, whole = measure.evaluate([asked({}, base_only=True), asked({})])
    assert alone.failure is None
    early = {name: value for name, value in whole.metrics.items() if name in EARLY}
    assert alone.metrics == early
    assert "base_loss" in alone.metrics
    assert "gain" not in alone.metrics
    steps = recipe.pretrain.batch_size * recipe.pretrain.seq_len * STEPS
    assert alone.cost["tokens"] + alone.cost["tokens_reused"] == steps
    assert whole.cost["tokens"] + whole.cost["tokens_reused"] > steps
    assert {"train_loss", "val_loss", "lr"} == alone.curves.keys()


def test_a_base_alone_leaves_no_fine_tune_and_is_the_same_where_there_is_one(
    recipe: Recipe, tmp_path: Path
) -> None:
    measure = objective(recipe, tmp_path)
    (first,) = measure.evaluate([asked({}, base_only=True)])
    store = Store(tmp_path)
    assert not list(store.keys("finetune"))
    store.close()
    (whole,) = measure.evaluate([asked({})])
    assert whole.cost["tokens_reused"] == first.cost["tokens"]
    (again,) = measure.evaluate([asked({}, base_only=True)])
    assert again.metrics == first.metrics
    assert again.cost["tokens"] == 0


def test_a_diverged_base_fails_alone_too(recipe: Recipe, tmp_path: Path) -> None:
    lost, kept = objective(recipe, tmp_path).evaluate(
        [asked({"pretrain.lr": 1e12}, base_only=True), asked({}, base_only=True)]
    )
    assert lost.failure is not None
    assert "diverged" in lost.failure
    assert kept.failure is None


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], float, dict[str, Any], float, float]] = {
    # name: of the recipe, done, its fidelity, asked, its fidelity, share
    "equal": ({}, {}, 1.0, {}, 1.0, 1.0),
    "longer": ({}, {}, 0.5, {}, 1.0, 0.5),
    "longer, but its rate had fallen": ({}, LATE, 0.5, LATE, 1.0, 0.0),
    "other fine-tuning": ({}, {}, 1.0, {"finetune.batch_size": 3}, 1.0, 1.0),
    "other rate": ({}, {}, 1.0, {"pretrain.lr": 2e-3}, 1.0, 0.0),
    "other optimizer": ({}, {}, 1.0, {"pretrain.beta2": 0.9}, 1.0, 0.0),
    "a branch of what is not kept": ({}, {}, 1.0, LATE, 1.0, 0.0),
    "a branch of a kept trunk": ({"pretrain.keep_trunk": True}, {}, 1.0, LATE, 1.0, 0.75),
    "merged, of a kept trunk": (
        {"pretrain.keep_trunk": True}, {}, 1.0, {**LATE, "pretrain.schedule.decay": "merged"}, 1.0,
        1.0,
    ),
    "followed": (
        {}, {}, 1.0, {"pretrain.weight_decay": 0.0, "pretrain.effective_lr_of.value": 0.1}, 1.0,
        0.0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_another_run_saves_is_foretold_and_then_saved(
    case: str, recipe: Recipe, tmp_path: Path
) -> None:
    fixed, before, upto, params, fidelity, share = CASES[case]
    measure = objective(recipe.with_params(fixed), tmp_path)
    foretold = measure.reused(asked(params, fidelity), asked(before, upto))
    assert foretold == share
    measure.evaluate([asked(before, upto, base_only=True)])
    (result,) = measure.evaluate([asked(params, fidelity, base_only=True)])
    assert result.failure is None
    if case != "followed":  # trains its reference too, which is there
        saved = result.cost["tokens_reused"]
        assert saved == share * (saved + result.cost["tokens"])


def test_what_cannot_be_trained_saves_nothing(recipe: Recipe, tmp_path: Path) -> None:
    short = asked({"pretrain.schedule.warmup_steps": STEPS}, 0.25)
    assert objective(recipe, tmp_path).reused(short, asked({})) == 0.0
