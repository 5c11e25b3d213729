"""Decays by merging: the weights of checkpoints, and that a known trunk gives them for nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from objectives import Execution, PlasticityObjective
from objectives.config.recipe import Recipe
from objectives.config.training import Schedule
from objectives.data.token_dataset import TokenDataset
from objectives.models import causal_lm
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.job import PretrainJob
from objectives.store.store import Store
from objectives.training import lr_schedule
from objectives.training.checkpoint_averaging import Merge, coefficients, plan
from objectives.types import Request
from tests.objectives import toy
from tests.objectives.pretraining.test_sweep import (
    Counter,
    Stop,
    alone,
    assert_same,
    both,
    job,
    run,
    stop_at,
)

MERGED = {"schedule__decay": "merged", "schedule__shape": "linear", "schedule__floor_ratio": 0.0}


@pytest.fixture(scope="module")
def base(toy_folder: Path) -> Recipe:
    """Checkpoints at every second of twenty steps, the rate's warmup four."""
    return toy.recipe(toy_folder, merge_points=10, schedule=Schedule(warmup_steps=4))


def wso(recipe: Recipe, steps: int = toy.STEPS, **given: Any) -> PretrainJob:
    return job(recipe, steps, schedule__decay_frac=0.0, **given)


def merged(recipe: Recipe, decay_frac: float, steps: int = toy.STEPS, **given: Any) -> PretrainJob:
    return job(recipe, steps, schedule__decay_frac=decay_frac, **{**MERGED, **given})


def test_equal_weights_are_a_linear_decay() -> None:
    k = 7
    linear = 1 - np.arange(1, k + 1) / (k + 1)
    np.testing.assert_allclose(coefficients(linear), np.full(k + 1, 1 / (k + 1)), rtol=1e-12)


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([1.0], [0, 1]),
        ([0.0], [1, 0]),
        ([0.25], [0.75, 0.25]),
        ([1.0, 0.5, 0.5], [0, 0.5, 0, 0.5]),
        ([0.9, 0.4, 0.0], [0.1, 0.5, 0.4, 0]),
        ([0.5, 0.5 + 1e-12], [0.5, 0, 0.5]),
    ],
)
def test_weights_of_a_few_curves(curve: list[float], expected: list[float]) -> None:
    np.testing.assert_allclose(coefficients(np.array(curve)), expected, atol=1e-11)


def falling(seed: int, k: int) -> np.ndarray:
    return np.sort(np.random.default_rng(seed).uniform(size=k))[::-1]


@pytest.mark.parametrize("seed", range(5))
def test_weights_are_shares_and_their_sums_from_behind_are_the_curve(seed: int) -> None:
    curve = falling(seed, 9)
    weights = coefficients(curve)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights[::-1].cumsum()[::-1][1:], curve)


@pytest.mark.parametrize("curve", [[0.5, 0.6], [1.1], [-0.1], [0.5, math.nan], [1.0, 0.2, 0.3]])
def test_a_curve_that_rises_or_leaves_the_unit_interval_is_refused(curve: list[float]) -> None:
    with pytest.raises(ValueError, match=r"never rises and stays between 0 and 1, got [^\n]+$"):
        coefficients(np.array(curve))
    with pytest.raises(ValueError, match="never rises"):
        plan(np.array([1.0, *curve]), 1)


def descend(gradient: Callable[[np.ndarray], np.ndarray], rates: np.ndarray) -> np.ndarray:
    """Iterates of gradient descent with weight decay, the start included; [S + 1, P]."""
    found = [np.array([1.0, -2.0, 0.5])]
    for rate in rates:
        found.append((1 - rate * 0.1) * found[-1] - rate * gradient(found[-1]))
    return np.stack(found)


def test_on_a_quadratic_the_mean_is_the_stored_updates_scaled_by_the_curve() -> None:
    hessian = np.array([3.0, 0.5, 1.5])
    iterates = descend(lambda x: hessian * (x - 1), np.full(9, 0.2))
    curve = falling(0, 9)
    replayed = iterates[0] + (curve[:, None] * np.diff(iterates, axis=0)).sum(0)
    np.testing.assert_allclose(coefficients(curve) @ iterates, replayed, rtol=1e-12)


def test_where_updates_do_not_change_the_mean_is_the_decayed_run() -> None:
    slope = np.array([0.3, -1.0, 2.0])
    rates = np.full(12, 0.1)
    curve = lr_schedule.decayed(Schedule(decay_frac=0.5, shape="cosine", floor_ratio=0.1), 12)
    free = [
        np.cumsum(np.vstack([np.zeros(3), -scale[:, None] * slope]), axis=0)
        for scale in (rates, rates * curve)
    ]
    for every in (1, 2, 5):
        merge = plan(curve, every)
        assert merge is not None
        mean = np.array(merge.weights) @ free[0][list(merge.steps)]
        np.testing.assert_allclose(mean, free[1][-1], rtol=1e-12)


def test_a_plan_takes_the_grid_from_before_the_decay_to_the_end() -> None:
    ratio = np.array([1, 1, 1, 0.8, 0.6, 0.4, 0.2])
    assert plan(ratio, 2) == Merge((2, 4, 6, 7), pytest.approx((0.1, 0.4, 0.3, 0.2)))  # type: ignore[arg-type]
    assert plan(ratio, 3) == Merge((3, 6, 7), pytest.approx((0.4, 0.4, 0.2)))  # type: ignore[arg-type]
    assert plan(ratio, 100) == Merge((0, 7), pytest.approx((2 / 7, 5 / 7)))  # type: ignore[arg-type]
    assert plan(np.array([1, 0.5, 0]), 1) == Merge((1, 2), (0.5, 0.5))
    assert plan(np.ones(5), 2) is None


def test_a_merged_schedule_is_trained_without_falling() -> None:
    schedule = Schedule(warmup_steps=4, decay_frac=0.5, shape="sqrt", decay="merged")
    trunk = lr_schedule.multipliers(Schedule(warmup_steps=4, decay_frac=0.0), 20)
    assert (lr_schedule.multipliers(schedule, 20) == trunk).all()
    plain = Schedule(warmup_steps=4, decay_frac=0.5, shape="sqrt")
    assert (lr_schedule.decayed(schedule, 20) == lr_schedule.multipliers(plain, 20)).all()


def test_keys_of_the_way_are_the_constant_rates_and_the_bases_own(
    base: Recipe, toy_corpus: TokenDataset
) -> None:
    trunk, one = wso(base), merged(base, 0.5)
    for step in range(1, 21):
        assert one.key(toy_corpus, step) == trunk.key(toy_corpus, step)
    others = [
        trunk,
        one,
        merged(base, 0.25),
        merged(base, 0.5, schedule__floor_ratio=0.1),
        merged(base, 0.5, schedule__shape="cosine"),
        merged(base, 0.5, merge_points=5),
        merged(base, 0.5, lr=0.02),
        merged(base, 0.5, steps=10),
        job(base, schedule__decay_frac=0.5, schedule__shape="linear", schedule__floor_ratio=0.0),
        PretrainJob(one.recipe, 1, one.steps),
    ]
    assert len({each.base_key(toy_corpus) for each in others}) == len(others)
    assert wso(base, keep_trunk=True).base_key(toy_corpus) == trunk.base_key(toy_corpus)


@pytest.mark.parametrize("given", [{"schedule__floor_ratio": 1.0}, {"schedule__decay_frac": 0.01}])
def test_where_nothing_decays_nothing_is_merged(
    given: dict[str, Any], base: Recipe, toy_corpus: TokenDataset
) -> None:
    one = job(base, **{**MERGED, "schedule__decay_frac": 0.5, **given})
    assert one.merge is None
    assert one.base_key(toy_corpus) == wso(base).base_key(toy_corpus)


def test_the_base_is_the_mean_of_runs_that_end_at_the_checkpoints(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    one = merged(base, 0.5)
    assert one.merge is not None
    assert one.merge.steps == (10, 12, 14, 16, 18, 20)
    # The curve's mean over two steps is 0.85, 0.65, 0.45, 0.25, 0.05.
    assert one.merge.weights == pytest.approx((0.15, 0.2, 0.2, 0.2, 0.2, 0.05))
    ends = [run([wso(base, step)], toy_corpus, tmp_path / str(step))[0] for step in one.merge.steps]
    (found,) = run([one], toy_corpus, tmp_path / "merged")
    for name, p in found.params.items():
        parts = zip(one.merge.weights, ends, strict=True)
        mean = sum(weight * end.params[name].double() for weight, end in parts)
        assert torch.equal(p, mean.float())  # type: ignore[union-attr]
    assert found.key == one.base_key(toy_corpus)
    assert (found.losses == ends[-1].losses).all()
    assert found.trained_steps == toy.STEPS


def test_a_window_that_begins_with_the_run_uses_the_initial_weights(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    one = merged(base, 1.0, schedule__warmup_steps=0, merge_points=1)
    assert one.merge is not None
    assert one.merge.steps == (0, 20)
    (found,) = run([one], toy_corpus, tmp_path / "merged")
    (end,) = run([wso(base, schedule__warmup_steps=0)], toy_corpus, tmp_path / "end")
    first = causal_lm.initial_parameters(one.recipe.model, toy.CONFIGS["llama"], 0)
    for name, p in found.params.items():
        mean = 0.525 * first[name].double() + 0.475 * end.params[name].double()
        torch.testing.assert_close(p, mean.float())


def test_merged_variants_of_a_known_trunk_train_nothing(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    kept = base.with_params({"pretrain.keep_trunk": True})
    counter = Counter()
    run([wso(kept)], toy_corpus, tmp_path / "store", counter)
    assert counter.steps == toy.STEPS
    store = Store(tmp_path / "store")
    before = list(store.keys("pretrain"))
    assert [int(key.split("-")[0]) for key in before] == list(range(2, 21, 2))
    variants = [merged(kept, frac) for frac in (0.2, 0.5, 0.8)]
    variants += [merged(kept, 0.5, schedule__shape="sqrt", schedule__floor_ratio=0.1)]
    found = run(variants, toy_corpus, tmp_path / "store", counter)
    assert counter.steps == toy.STEPS
    assert [one.trained_steps for one in found] == [0.0] * len(variants)
    assert list(store.keys("pretrain")) == before
    assert len(list(store.keys("merged"))) == len(variants)
    assert_same(found, alone(variants, toy_corpus, tmp_path))
    for key in before:
        store.remove("pretrain", key)
    assert_same(run(variants, toy_corpus, tmp_path / "store", counter), found)
    assert counter.steps == toy.STEPS


def grove(recipe: Recipe) -> list[PretrainJob]:
    """Merged and trained decays of one trunk, another horizon, another decay, another seed."""
    return [
        wso(recipe),
        merged(recipe, 0.5),
        merged(recipe, 0.25, schedule__shape="cosine"),
        job(recipe, schedule__decay_frac=0.5, schedule__shape="linear"),
        merged(recipe, 0.5, steps=13),
        merged(recipe, 0.5, weight_decay=1.0),
        merged(recipe, 0.5, seed=1),
    ]


# The trunk, the trained decay's branch from 10, and two lanes of their own.
GROVE_STEPS = 20 + 10 + 20 + 20


def test_merged_jobs_are_lanes_of_their_trunk_bit_for_bit(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    jobs, counter = grove(base), Counter()
    expected = alone(jobs, toy_corpus, tmp_path)
    found = run(jobs, toy_corpus, tmp_path / "together", counter)
    assert_same(found, expected)
    assert counter.steps == GROVE_STEPS
    assert sum(one.trained_steps for one in found) == pytest.approx(GROVE_STEPS)
    assert_same([run([one], toy_corpus, tmp_path / "grown")[0] for one in jobs], expected)
    assert_same(run(jobs, toy_corpus, tmp_path / "few", max_lanes=2), expected)
    assert len({one.key for one in found}) == len(jobs)


@pytest.fixture(scope="module")
def grown(
    base: Recipe, toy_corpus: TokenDataset, tmp_path_factory: pytest.TempPathFactory
) -> list[BaseModel]:
    """The grove, trained undisturbed and together."""
    return run(grove(base), toy_corpus, tmp_path_factory.mktemp("grown"))


@pytest.mark.parametrize("step", [7, 12, 15, 20])
def test_an_interrupted_trunk_goes_on_and_is_merged_the_same(
    step: int, base: Recipe, toy_corpus: TokenDataset, grown: list[BaseModel], tmp_path: Path
) -> None:
    jobs = grove(base)
    before, counter = Counter(), Counter()
    with pytest.raises(Stop):
        run(jobs, toy_corpus, tmp_path / "store", both(before, stop_at(step)))
    assert_same(run(jobs, toy_corpus, tmp_path / "store", counter), grown)
    assert before.steps + counter.steps == GROVE_STEPS


def test_a_missing_checkpoint_is_trained_again_from_before_it(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    one = merged(base, 0.5)
    _, expected = run([wso(base, 13), one], toy_corpus, tmp_path)  # a start at step 13
    store, counter = Store(tmp_path), Counter()
    store.remove("merged", expected.key)
    for step in (14, 18):
        store.remove("pretrain", one.key(toy_corpus, step))
    assert_same(run([one], toy_corpus, tmp_path, counter), [expected])
    assert counter.steps == 20 - 13


def test_a_damaged_merged_base_is_merged_again(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    one, counter = merged(base, 0.5), Counter()
    (expected,) = run([one], toy_corpus, tmp_path)
    path = tmp_path / "merged" / expected.key / "params.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.warns(UserWarning, match="damaged"):
        assert_same(run([one], toy_corpus, tmp_path, counter), [expected])
    assert counter.steps == 0


def test_fidelities_share_the_trunk_and_its_grid(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    counter = Counter()
    for steps in (7, 13, 20):
        one = merged(base, 0.5, steps=steps)
        (found,) = run([one], toy_corpus, tmp_path / "store", counter)
        assert_same([found], alone([one], toy_corpus, tmp_path / str(steps)))
    assert counter.steps == 20


def test_a_diverging_trunk_is_lost_and_not_merged(
    base: Recipe, toy_corpus: TokenDataset, tmp_path: Path
) -> None:
    (found,) = run([merged(base, 0.5, lr=1e30)], toy_corpus, tmp_path)
    assert found.diverged_at >= 0
    assert list(Store(tmp_path).keys("merged")) == []


def test_a_fine_tune_cannot_be_merged() -> None:
    with pytest.raises(ValueError, match=r"finetune\.schedule\.decay must be 'trained'"):
        Recipe().with_params({"finetune.schedule.decay": "merged"})


def test_results_of_merged_decays_say_so_and_cost_no_pretraining(
    base: Recipe, tmp_path: Path
) -> None:
    fine = toy.finetune(seeds=1, schedule=Schedule(warmup_steps=1), test_rows=4)
    pre = base.with_params({"pretrain.keep_trunk": True}).pretrain
    recipe = Recipe(model=base.model, corpus=base.corpus, pretrain=pre, finetune=fine)
    objective = PlasticityObjective(recipe, Execution(device="cpu", store=tmp_path))
    decay = "pretrain.schedule.decay"
    plain = objective({"pretrain.schedule.decay_frac": 0.0})
    assert (plain.labels, plain.failure) == ([], None)
    merged_one = objective({decay: "merged", "pretrain.schedule.decay_frac": 0.5})
    assert merged_one.labels == ["merged"]
    assert "merged, not trained: the base is the mean of 6 checkpoints" in merged_one.notes[0]
    assert merged_one.cost["tokens"] == plain.cost["tokens"] - 20 * 4 * toy.SEQ_LEN
    assert merged_one.metrics["base_loss"] != plain.metrics["base_loss"]
    assert {rate for _, rate in merged_one.curves["lr"][4:]} == {1e-2}
    weights = [weight for _, weight in merged_one.curves["merge_weight"]]
    assert sum(weights) == pytest.approx(1)
    assert objective({decay: "merged", "pretrain.schedule.decay_frac": 0.0}).labels == []
    lost, trained = objective.evaluate(
        [
            Request(params=params, fidelity=1.0, seed=0)
            for params in ({decay: "merged", "pretrain.lr": 1e30}, {})
        ]
    )
    assert (lost.labels, trained.labels) == (["merged"], [])
    assert lost.failure is not None
