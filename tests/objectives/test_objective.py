"""The objective from end to end on toys: what comes back, twice, from the store, after failures."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from objectives import Execution, PlasticityObjective, Result
from objectives.config.data import BuiltinTask
from objectives.config.recipe import Recipe
from objectives.config.training import Finetune, Pretrain
from objectives.store import maintenance
from objectives.store.store import Store, StoreError
from objectives.types import Request
from tests.objectives import toy

TASKS = ("list_ops", "commands")


PARAMS: list[dict[str, Any]] = [
    {"pretrain.schedule.decay_frac": 0.0},
    {"pretrain.schedule.decay_frac": 0.5},
    {"pretrain.weight_decay": 1.0},
]


@pytest.fixture(scope="module")
def recipe(toy_folder: Path) -> Recipe:
    base = toy.recipe(toy_folder, steps=10)
    fine = toy.finetune(
        tasks=tuple(BuiltinTask(name=name) for name in TASKS),
        lrs=(1e-3, 1e-2),
        steps=3,
        train_rows=200,
    )
    return Recipe(model=base.model, corpus=base.corpus, pretrain=base.pretrain, finetune=fine)


def request(params: dict[str, Any], fidelity: float = 1.0, seed: int = 0) -> Request:
    return Request(params=params, fidelity=fidelity, seed=seed)


def objective(recipe: Recipe, folder: Path, **given: Any) -> PlasticityObjective:
    return PlasticityObjective(recipe, Execution(device="cpu", store=folder, **given))


@pytest.fixture(scope="module")
def first(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Result]]:
    """A store, and the results of three requests that filled it."""
    folder = tmp_path_factory.mktemp("plasticity")
    return folder, objective(recipe, folder).evaluate([request(params) for params in PARAMS])


First = tuple[Path, list[Result]]


def test_every_documented_metric_is_there_and_finite(first: First) -> None:
    per_task = {"before", "after", "after_sem", "gain", "gain_sem", "chance", "lr",
                "before_rows_sem", "after_rows_sem", "gain_rows_sem",
                "loss_before_nats_rows_sem", "loss_after_nats_rows_sem",
                "loss_before_nats", "loss_after_nats", "loss_after_nats_sem"}  # fmt: skip
    expected = {
        "base_loss", "base_bits_per_byte", "train_loss", "train_validation_gap",
        "tokens_per_param", "tau_frac", "finetuned", "finetuned_sem", "gain", "gain_sem",
        "finetuned_loss_nats", "finetuned_loss_nats_sem", "loss_gain_nats", "loss_gain_nats_sem",
        "forgetting_nats", "forgetting_nats_sem", "gain_rows_sem", "finetuned_rows_sem",
        "finetuned_loss_nats_rows_sem", "loss_gain_nats_rows_sem", "forgetting_nats_rows_sem",
        "base_loss_rows_sem", "base_bits_per_byte_rows_sem", "base_perplexity_rows_sem",
        "train_loss_rows_sem", "train_validation_gap_rows_sem",
        *(f"task.{task}.{name}" for task in TASKS for name in per_task),
    }  # fmt: skip
    for result in first[1]:
        assert result.failure is None
        assert expected <= result.metrics.keys()
        assert all(math.isfinite(value) for value in result.metrics.values())


def test_scores_row_by_row_have_the_metrics_as_their_means(first: First) -> None:
    for result in first[1]:
        assert result.row_scores.keys() == {
            "gain", "finetuned", "finetuned_loss_nats", "loss_gain_nats", "forgetting_nats",
            "base_loss", "base_bits_per_byte", "base_perplexity", "train_loss",
            "train_validation_gap",
        }  # fmt: skip
        for name, tasks in result.row_scores.items():
            mean = sum(sum(rows) / len(rows) for rows in tasks) / len(tasks)
            # Losses of about 5 nats are kept to 6 digits, also those that are subtracted.
            assert mean == pytest.approx(result.metrics[name], rel=1e-5, abs=1e-5)
            assert result.metrics[f"{name}_rows_sem"] >= 0
        assert len(result.row_scores["gain"]) == len(TASKS)
        assert json.loads(json.dumps(result.row_scores)) == result.row_scores


ERRORS_OF_LOSS = ("loss_after_nats_sem", "lr_error_nats")


def test_metrics_agree_with_each_other(first: First) -> None:
    for result in first[1]:
        found = result.metrics
        assert found["train_validation_gap"] == found["base_loss"] - found["train_loss"]
        after = [found[f"task.{task}.after"] for task in TASKS]
        before = [found[f"task.{task}.before"] for task in TASKS]
        assert found["finetuned"] == pytest.approx(sum(after) / 2)
        assert found["gain"] == pytest.approx((sum(after) - sum(before)) / 2)
        assert 0 < found["base_loss"] < 2 * math.log(toy.VOCAB)
        assert found["base_bits_per_byte"] < found["base_loss"] / math.log(2)
        for task in TASKS:
            assert 0 <= found[f"task.{task}.after"] <= 1
            assert 0 <= found[f"task.{task}.chance"] < 1
            tried = dict(result.curves[f"finetune_lr.{task}"])
            assert list(tried) == sorted(tried)
            assert {1e-3, 1e-2} < set(tried)
            assert tried[found[f"task.{task}.lr"]] == min(tried.values())
            error, of_rate = (found[f"task.{task}.{n}"] for n in ERRORS_OF_LOSS)
            assert error >= of_rate >= 0
    bare, decayed = first[1][0].metrics, first[1][2].metrics
    assert bare["tau_frac"] == pytest.approx(1 / (1e-2 * 0.1 * 10))
    assert decayed["tau_frac"] == pytest.approx(1 / (1e-2 * 1.0 * 10))


def test_curves_cost_and_metrics_are_json(first: First) -> None:
    for result in first[1]:
        data = {"metrics": result.metrics, "curves": result.curves, "cost": result.cost,
                "notes": result.notes, "failure": result.failure}  # fmt: skip
        assert json.loads(json.dumps(data, allow_nan=False)) == data
        assert {"train_loss", "val_loss", "lr"} <= result.curves.keys()
        assert {f"finetune.{task}" for task in TASKS} <= result.curves.keys()
        assert result.curves["val_loss"][-1] == [10.0, result.metrics["base_loss"]]
        steps = [step for step, _ in result.curves["val_loss"]]
        assert steps == sorted(set(steps))
        assert result.curves["train_loss"][-1][0] == 10.0
        assert {"tokens", "tokens_reused", "flops", "time_s", "peak_memory_gib"} <= set(result.cost)
        assert all(value >= 0 for value in result.cost.values())


def test_the_trunk_is_paid_once(first: First, recipe: Recipe) -> None:
    pre = recipe.pretrain
    steps = 10 + 5 + 10  # the second branches off after 5
    total = sum(r.cost["tokens"] for r in first[1])
    tuned = total - steps * pre.batch_size * pre.seq_len
    assert tuned > 0
    assert first[1][2].cost["tokens_reused"] == 0
    assert first[1][0].cost["tokens_reused"] > 0


def test_each_stage_has_its_tokens_and_the_seconds_that_it_took_here(
    first: First, recipe: Recipe
) -> None:
    pre, costs = recipe.pretrain, [result.cost for result in first[1]]
    a_step = pre.batch_size * pre.seq_len
    assert sum(cost["pretrain_tokens"] for cost in costs) == (10 + 5 + 10) * a_step
    for cost in costs:
        assert cost["pretrain_tokens"] + cost["pretrain_tokens_reused"] == 10 * a_step
        assert cost["finetune_s"] > 0
        assert cost["pretrain_s"] + cost["finetune_s"] <= cost["device_s"] + cost["time_s"]


def test_the_same_requests_again_come_from_the_store(first: First, recipe: Recipe) -> None:
    folder, before = first
    again = objective(recipe, folder).evaluate([request(params) for params in PARAMS])
    for one, other in zip(again, before, strict=True):
        assert one.metrics == other.metrics
        assert one.curves == other.curves
        assert one.cost["tokens"] == 0
        assert one.cost["tokens_reused"] == other.cost["tokens"] + other.cost["tokens_reused"] > 0
        assert one.cost["pretrain_tokens"] == one.cost["pretrain_s"] == one.cost["finetune_s"] == 0


def test_the_same_request_in_a_fresh_store_is_bitwise_the_same(
    first: First, recipe: Recipe, tmp_path: Path
) -> None:
    again = objective(recipe, tmp_path).evaluate([request(params) for params in PARAMS])
    assert [result.metrics for result in again] == [result.metrics for result in first[1]]
    assert [result.curves for result in again] == [result.curves for result in first[1]]


def test_one_request_alone_is_what_it_is_in_a_batch(
    first: First, recipe: Recipe, tmp_path: Path
) -> None:
    alone = objective(recipe, tmp_path)(PARAMS[2])
    assert alone.metrics == pytest.approx(first[1][2].metrics, rel=1e-4)
    assert alone.metrics["base_loss"] == first[1][2].metrics["base_loss"]


def test_equal_requests_in_one_batch_get_equal_results_and_are_paid_once(
    first: First, recipe: Recipe, tmp_path: Path
) -> None:
    one, other = objective(recipe, tmp_path).evaluate([request(PARAMS[2])] * 2)
    assert one.metrics == other.metrics
    tokens = one.cost["tokens"] + other.cost["tokens"]
    assert tokens == pytest.approx(first[1][2].cost["tokens"])


def test_requests_with_other_tasks_in_one_batch_keep_them_apart(
    first: First, recipe: Recipe
) -> None:
    folder, before = first
    other = {**PARAMS[2], "finetune.tasks": [{"kind": "builtin", "name": "commands"}]}
    found = objective(recipe, folder).evaluate([request(PARAMS[2]), request(other)])
    assert found[0].metrics == before[2].metrics
    assert {name for name in found[1].metrics if name.endswith(".gain")} == {"task.commands.gain"}


def test_other_lora_settings_reuse_the_pretraining(first: First, recipe: Recipe) -> None:
    folder, before = first
    changed = objective(recipe, folder)({**PARAMS[2], "finetune.lora.alpha": 4.0})
    assert changed.metrics["base_loss"] == before[2].metrics["base_loss"]
    assert changed.metrics != before[2].metrics
    pre = recipe.pretrain
    assert changed.cost["tokens_reused"] == 10 * pre.batch_size * pre.seq_len


def test_seeds_give_other_bases(recipe: Recipe, tmp_path: Path) -> None:
    found = objective(recipe, tmp_path).evaluate([request({}, seed=seed) for seed in (0, 1)])
    assert found[0].metrics["base_loss"] != found[1].metrics["base_loss"]


def test_fidelity_shortens_the_pretraining(first: First, recipe: Recipe, tmp_path: Path) -> None:
    short = objective(recipe, tmp_path)(PARAMS[2], fidelity=0.5)
    assert short.curves["val_loss"][-1][0] == 5.0
    assert short.curves["lr"][-1][0] == 5.0
    ratio = short.metrics["tokens_per_param"] / first[1][2].metrics["tokens_per_param"]
    assert ratio == pytest.approx(0.5)
    assert short.metrics["base_loss"] > first[1][2].metrics["base_loss"]


@pytest.mark.parametrize("fidelity", [0.0, -1.0, 1.01, math.nan])
def test_a_fidelity_out_of_range_is_refused(
    fidelity: float, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"fidelity must be in \(0, 1\]"):
        objective(recipe, tmp_path)({}, fidelity=fidelity)


def test_requests_that_cannot_run_fail_alone_with_their_reason(
    first: First, recipe: Recipe
) -> None:
    folder, before = first
    found = objective(recipe, folder).evaluate(
        [
            request({"pretrain.schedule.warmup_steps": 11}),
            request(PARAMS[0]),
            request({"pretrain.lr": 1e30}),
            request({"finetune.schedule.warmup_steps": 4}),
            request({"finetune.lrs": [1e29, 1e30]}),
        ]
    )
    assert found[1].metrics == before[0].metrics
    reasons = [
        "pretrain.schedule.warmup_steps is 11 but the run has 10 steps",
        None,
        "pretraining diverged: loss not finite at step",
        "finetune.schedule.warmup_steps is 4 but the run has 3 steps",
        "fine-tuning on list_ops, commands diverged at every learning rate",
    ]
    for result, reason in zip(found, reasons, strict=True):
        if reason is None:
            assert result.failure is None
        else:
            assert result.failure is not None
            assert reason in result.failure
            assert result.metrics == {}
            json.dumps([result.curves, result.cost], allow_nan=False)


def test_an_unknown_param_raises_and_names_near_ones(recipe: Recipe, tmp_path: Path) -> None:
    one = objective(recipe, tmp_path)
    for use in (one, one.check):
        with pytest.raises(ValueError, match=r"did you mean .*pretrain\.weight_decay"):
            use({"pretrain.weight_decy": 0.1})


def test_full_fine_tuning_from_a_stored_base_equals_that_from_a_fresh_one(
    first: First, recipe: Recipe, tmp_path: Path
) -> None:
    params = {**PARAMS[2], "finetune.method": "full"}
    stored = objective(recipe, first[0])(params)
    assert stored.metrics == objective(recipe, tmp_path)(params).metrics
    assert stored.cost["tokens_reused"] > 0


class Stop(Exception):
    """Raised in the middle."""


@pytest.mark.parametrize("stage", ["pretrain", "fine-tune commands"])
def test_a_batch_stopped_on_the_way_goes_on_as_if_nothing_had_been(
    stage: str, first: First, recipe: Recipe, tmp_path: Path
) -> None:
    def stop(event: dict[str, Any]) -> None:
        if event["stage"].startswith(stage) and event["step"] == event["steps"]:
            raise Stop

    requests = [request(params) for params in PARAMS]
    with pytest.raises(Stop):
        objective(recipe, tmp_path).evaluate(requests, stop)
    again = objective(recipe, tmp_path).evaluate(requests)
    assert [result.metrics for result in again] == [result.metrics for result in first[1]]
    assert [result.curves for result in again] == [result.curves for result in first[1]]


def test_events_say_stage_step_and_share(recipe: Recipe, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    objective(recipe, tmp_path).evaluate([request({})], events.append)
    json.dumps(events, allow_nan=False)
    stages = {event["stage"].split()[0] for event in events}
    assert {"prepare", "pretrain", "fine-tune", "score"} <= stages
    shares = [event["done_frac"] for event in events if "done_frac" in event]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


def test_a_store_that_cannot_be_written_is_one_clear_error(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write to the store"):
        objective(recipe, tmp_path / "file" / "store")({})


def test_a_store_within_a_tiny_budget_gives_the_same_results_and_counts_what_it_does_again(
    first: First, recipe: Recipe, tmp_path: Path
) -> None:
    tiny = objective(recipe, tmp_path, store_gb=50e-6)
    again: list[Result] = []
    for params in PARAMS + PARAMS:  # the second time nothing but the tiniest is left
        again += tiny.evaluate([request(params)])
        assert sum(entry.bytes for entry in maintenance.scan(tmp_path)) <= 50_000
    for one, other in zip(again, first[1] * 2, strict=True):
        assert one.metrics["base_loss"] == other.metrics["base_loss"]
        assert one.metrics == pytest.approx(other.metrics, rel=1e-4)
    whole = first[1][2].cost["tokens"]
    assert [result.cost["tokens"] + result.cost["tokens_reused"] for result in again] == [
        pytest.approx(whole)
    ] * 6
    pre = recipe.pretrain
    pretraining = 10 * pre.batch_size * pre.seq_len
    assert all(result.cost["tokens"] >= pretraining for result in again)
    assert all(value >= 0 for result in again for value in result.cost.values())


def test_a_study_that_evicts_between_its_waves_is_bitwise_the_one_that_keeps_all(
    recipe: Recipe, tmp_path: Path
) -> None:
    kept, tiny = (
        objective(recipe, tmp_path / "kept"),
        objective(recipe, tmp_path / "tiny", store_gb=1e-9),
    )
    for fidelity in (0.5, 1.0):
        wave = [request(params, fidelity) for params in PARAMS[:2]]
        one, other = kept.evaluate(wave), tiny.evaluate(wave)
        assert [result.metrics for result in one] == [result.metrics for result in other]
        assert [result.curves for result in one] == [result.curves for result in other]
    assert one[0].cost["tokens_reused"] > other[0].cost["tokens_reused"]
    assert {entry.stage for entry in maintenance.scan(tmp_path / "tiny")} == {"tokens"}


def test_another_machine_finds_what_was_shared_and_says_what_that_saved(
    first: First, recipe: Recipe, tmp_path: Path
) -> None:
    share = str(tmp_path / "net")
    made = objective(recipe, tmp_path / "one", share=share)(PARAMS[2])
    found = objective(recipe, tmp_path / "other", share=share)(PARAMS[2])
    assert made.metrics == found.metrics
    assert (made.cost["tokens_reused"], found.cost["tokens"]) == (0, 0)
    assert found.cost["tokens_reused"] == made.cost["tokens"] > 0
    assert found.cost["device_s_saved"] == pytest.approx(made.cost["device_s"])
    longer = {**PARAMS[0], "pretrain.steps": 20}
    objective(recipe, tmp_path / "one", share=share)(PARAMS[0])
    pre = recipe.pretrain
    steps = objective(recipe, tmp_path / "third", share=share)(longer).cost["tokens_reused"]
    assert steps == 10 * pre.batch_size * pre.seq_len


@pytest.mark.parametrize("size", [0.0, -1.0, math.nan])
def test_a_budget_that_is_none_is_refused(size: float) -> None:
    with pytest.raises(ValueError, match="store_gb must be above 0 or None"):
        Execution(store_gb=size)


def test_a_shared_store_of_no_kind_is_refused_before_anything_is_computed(
    recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="the shared store abacus://x cannot be used"):
        objective(recipe, tmp_path).configure({"share": "abacus://x"})


def test_the_objective_describes_itself_as_json(recipe: Recipe, tmp_path: Path) -> None:
    one = objective(recipe, tmp_path)
    described = json.loads(json.dumps(one.describe()))
    assert Recipe.from_dict(described["recipe"]) == recipe
    json.dumps(one.machine())
    assert one.values()["pretrain.lr"] == 1e-2
    assert one.with_params({"pretrain.lr": 0.5}).values()["pretrain.lr"] == 0.5
    moved = one.configure({"store": str(tmp_path / "x"), "lanes": 3, "device": "cpu"})
    assert moved.execution.store == tmp_path / "x"
    assert moved.execution.lanes == 3
    with pytest.raises(ValueError, match=r"device .*'tpu9'"):
        one.configure({"device": "tpu9"})
    assert Store(tmp_path / "y").root.is_dir()
    assert torch.get_default_dtype() == torch.float32


def test_events_say_that_data_is_prepared_until_training_begins(
    tmp_path: Path, toy_folder: Path
) -> None:
    events: list[dict[str, Any]] = []
    recipe = toy.recipe(toy_folder, steps=6)
    objective = PlasticityObjective(recipe, Execution(device="cpu", store=tmp_path, lanes=1))
    request = Request(params={}, fidelity=1.0, seed=0, base_only=True)
    objective.evaluate([request], events.append)
    preparing = [bool(event.get("preparing")) for event in events]
    trains = [event["stage"].startswith("pretrain") for event in events]
    assert preparing[0]
    assert any(trains)
    assert preparing == [True] * sum(preparing) + [False] * (len(events) - sum(preparing))
    assert not any(one and other for one, other in zip(preparing, trains, strict=True))


@pytest.mark.parametrize("steps", [6, 30])
def test_the_default_warmups_suit_a_short_run(steps: int, recipe: Recipe, tmp_path: Path) -> None:
    fine = dataclasses.replace(
        recipe.finetune, tasks=recipe.finetune.tasks[:1], lrs=(1e-2,), seeds=1, steps=steps,
        schedule=Finetune().schedule,
    )  # fmt: skip
    pre = dataclasses.replace(recipe.pretrain, steps=steps, schedule=Pretrain().schedule)
    short = dataclasses.replace(recipe, pretrain=pre, finetune=fine)
    for fidelity in (1.0, 1 / 3):
        result = objective(short, tmp_path)({}, fidelity=fidelity)
        rates = [rate for _, rate in result.curves["lr"]]
        assert rates.index(max(rates)) <= round(0.1 * steps * fidelity)
        assert math.isfinite(result.metrics["gain"])


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"pretrain.schedule.warmup_steps": 11}, r"^pretrain\.schedule\.warmup_steps is 11 but"),
        ({"finetune.schedule.warmup_steps": 4}, r"^finetune\.schedule\.warmup_steps is 4 but"),
        (
            {
                "pretrain.mid": {
                    "sources": [{"kind": "stdlib"}],
                    "steps": 3,
                    "schedule": {"warmup_steps": 4},
                }
            },
            r"^pretrain\.mid\.schedule\.warmup_steps is 4 but",
        ),
    ],
)
def test_a_warmup_longer_than_the_whole_run_is_refused_when_the_objective_is_made(
    params: dict[str, Any], said: str, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        objective(recipe.with_params(params), tmp_path)
    with pytest.raises(ValueError, match=said):
        objective(recipe, tmp_path).with_params(params)


@pytest.mark.skipif(sys.platform != "linux", reason="the process's peak cannot be reset")
def test_memory_that_was_freed_before_a_trial_is_not_its_peak(first: First, recipe: Recipe) -> None:
    size = 2**29
    again = objective(recipe, first[0])
    np.ones(size, np.uint8)
    (result,) = again.evaluate([request(PARAMS[0])])
    used = psutil.Process().memory_info().rss
    assert 0 < result.cost["peak_memory_gib"] * 2**30 < used + size / 2
