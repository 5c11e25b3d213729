"""A wave of trials whose fine-tuning differs: pretraining is one program all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from objectives import Execution, PlasticityObjective
from objectives.config.recipe import Recipe
from objectives.types import Request
from tests.objectives.test_objective import recipe

__all__ = ["recipe"]


def wave(recipe: Recipe, folder: Path, params: list[dict[str, Any]]) -> tuple[Any, list[Any]]:
    events: list[dict[str, Any]] = []
    one = PlasticityObjective(recipe, Execution(device="cpu", store=folder, lanes=8))
    requests = [Request(params=each, fidelity=1.0, seed=0) for each in params]
    return one.evaluate(requests, events.append), events


def lanes_of(events: list[Any], stage: str) -> set[int]:
    return {event["lanes"] for event in events if event["stage"].startswith(stage)}


def test_trials_with_adapters_of_their_own_pretrain_as_lanes_of_one_program(
    recipe: Recipe, tmp_path: Path
) -> None:
    params = [
        {"finetune.lora.rank": 1 + n % 3, "pretrain.lr": 1e-3 * (n + 1), "finetune.steps": 1}
        for n in range(6)
    ]
    found, events = wave(recipe, tmp_path / "wave", params)
    assert lanes_of(events, "pretrain") == {6}
    assert [each.failure for each in found] == [None] * 6
    for number in (1, 4):
        (alone,), _ = wave(recipe, tmp_path / str(number), [params[number]])
        assert alone.metrics["base_loss"] == found[number].metrics["base_loss"]
        assert alone.metrics["task.list_ops.lr"] == found[number].metrics["task.list_ops.lr"]
    shares = [event["done_frac"] for event in events if "done_frac" in event]
    assert shares == sorted(shares)
    tuning = [e["done_frac"] for e in events if e["stage"].startswith("fine-tune")]
    assert tuning[0] < 1


def test_equal_bases_with_adapters_of_their_own_are_one_lane(
    recipe: Recipe, tmp_path: Path
) -> None:
    params = [{"finetune.lora.rank": rank, "finetune.steps": 1} for rank in (1, 2, 3)]
    found, events = wave(recipe, tmp_path, params)
    assert lanes_of(events, "pretrain") == {1}
    assert len({each.metrics["base_loss"] for each in found}) == 1
    pre = recipe.pretrain
    tokens = pre.steps * pre.batch_size * pre.seq_len
    assert sum(each.cost["tokens"] for each in found) - tokens > 0


def test_a_fine_tune_that_cannot_be_fails_its_trial_alone(recipe: Recipe, tmp_path: Path) -> None:
    params = [{}, {"finetune.schedule.warmup_steps": 99}]
    (found, failed), _ = wave(recipe, tmp_path, params)
    assert found.failure is None
    assert "finetune.schedule.warmup_steps is 99" in failed.failure
