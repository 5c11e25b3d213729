"""Memory that runs out: fewer lanes at once, the same results, and a trial that fails alone."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from objectives import PlasticityObjective
from objectives.config.recipe import Recipe
from objectives.training import device_memory, loop, optimizers, out_of_memory
from tests.objectives.test_objective import PARAMS, objective, recipe, request

__all__ = ["recipe"]


RAN_OUT = [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()]


def measured(found: PlasticityObjective) -> list[Any]:
    """All that came out but what it took."""
    return [
        [each.failure, each.metrics, each.curves, each.notes]
        for each in found.evaluate([request(params) for params in PARAMS])
    ]


def running_out(
    monkeypatch: pytest.MonkeyPatch, place: str, wanted: Callable[[int], Exception | None]
) -> None:
    """Have a step raise before its gradient, or in the middle of the update, as `wanted` says."""
    gradient, step_ = loop._gradient, optimizers.step_

    def before(program: Any, rows: Any, *given: Any) -> torch.Tensor:
        if place == "gradient" and (error := wanted(len(rows.values))) is not None:
            raise error
        return gradient(program, rows, *given)

    def amid(values_KP: torch.Tensor, *given: Any, **named: Any) -> None:
        step_(values_KP, *given, **named)
        if place == "update" and (error := wanted(len(values_KP))) is not None:
            raise error

    monkeypatch.setattr(loop, "_gradient", before)
    monkeypatch.setattr(optimizers, "step_", amid)


@pytest.mark.parametrize("place", ["gradient", "update"])
def test_lanes_that_run_out_of_memory_anywhere_go_on_with_fewer_and_end_the_same(
    place: str, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = measured(objective(recipe, tmp_path / "calm", lanes=8))
    drawn, raised = random.Random(0), []

    def wanted(lanes: int) -> Exception | None:
        if lanes == 1 or drawn.random() > 0.4:
            return None
        raised.append(lanes)
        return RAN_OUT[len(raised) % 2]

    running_out(monkeypatch, place, wanted)
    assert measured(objective(recipe, tmp_path / "short", lanes=8)) == expected
    assert len(raised) > 2


def test_a_trial_that_does_not_fit_alone_fails_with_a_sentence_and_the_others_go_on(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = measured(objective(recipe, tmp_path / "calm"))
    gradient = loop._gradient
    params = [*PARAMS[:2], {**PARAMS[2], "pretrain.batch_size": 8}]

    def too_large(program: Any, rows: Any, frozen: Any, batch: Any, parts: int) -> torch.Tensor:
        if frozen is None and batch.ids.shape[-2] == 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return gradient(program, rows, frozen, batch, parts)

    monkeypatch.setattr(loop, "_gradient", too_large)
    found = objective(recipe, tmp_path / "short").evaluate([request(each) for each in params])
    assert [each.metrics for each in found[:2]] == [metrics for _, metrics, *_ in expected[:2]]
    assert "one lane does not fit into the device's memory; raise" in (found[2].failure or "")


def test_fine_tunes_that_do_not_fit_fail_their_trials_with_a_sentence(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradient = loop._gradient

    def no_room(program: Any, rows: Any, frozen: Any, *given: Any) -> torch.Tensor:
        if frozen:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return gradient(program, rows, frozen, *given)

    monkeypatch.setattr(loop, "_gradient", no_room)
    for found in objective(recipe, tmp_path).evaluate([request(params) for params in PARAMS]):
        assert "one lane does not fit" in (found.failure or "")
        assert found.curves["train_loss"]


TOO_MUCH = """
import torch
from objectives.training import out_of_memory as memory
try:
    torch.empty(2**60, dtype=torch.uint8)
except RuntimeError as error:
    assert memory.is_out_of_memory(error), error
else:
    raise AssertionError("there is room")
"""


def test_an_allocation_that_fails_on_this_machine_counts_as_memory_that_ran_out() -> None:
    # In another process, as glibc's heap is laid out otherwise from then on.
    subprocess.run([sys.executable, "-c", TOO_MUCH], check=True)
    assert not out_of_memory.is_out_of_memory(RuntimeError("shapes do not match"))


def test_a_first_step_that_does_not_fit_leaves_one_lane_to_be_tried() -> None:
    def step(count: int) -> None:
        raise MemoryError

    assert device_memory.max_lanes_that_fit(step, "cpu", most=8) == 1
    with pytest.raises(MemoryError, match="one lane does not fit"):
        out_of_memory.in_chunks([1, 2, 3], 3, lambda some: step(len(some)))


@pytest.mark.parametrize("heavy", [set[int](), {3}, {0, 6}, set(range(7))])
def test_items_that_do_not_fit_alone_fail_apart_from_the_others(heavy: set[int]) -> None:
    done, failed = list[int](), dict[int, str]()

    def run(some: Sequence[int]) -> None:
        if len(some) > 4 or heavy & set(some):
            raise torch.OutOfMemoryError("no room")
        done.extend(some)

    out_of_memory.apart(list(range(7)), run, failed.__setitem__)
    assert done == sorted(set(range(7)) - heavy)
    assert failed == dict.fromkeys(sorted(heavy), "no room")


def test_fewer_at_once_are_tried_until_they_fit() -> None:
    def run(count: int) -> str:
        if count > 3:
            raise MemoryError
        return f"{count} at once"

    assert out_of_memory.with_fewer(13, run) == ("3 at once", 3)
    with pytest.raises(RuntimeError, match="something else"):
        out_of_memory.with_fewer(4, lambda count: raised(RuntimeError("something else")))


def raised(error: Exception) -> None:
    raise error
