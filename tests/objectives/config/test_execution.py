"""Where to compute: what is clear is taken, and what cannot be is refused in one sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from objectives import Execution, PlasticityObjective, Recipe, TrialFailed, VisionObjective
from objectives.config.execution import check_device
from objectives.training.out_of_memory import in_chunks
from tests.objectives import toy


def test_what_is_clear_is_taken(tmp_path: Path) -> None:
    found = Execution(
        store=str(tmp_path),  # type: ignore[arg-type]
        share=tmp_path / "net",  # type: ignore[arg-type]
        lanes=np.int64(3),  # type: ignore[arg-type]
        devices=np.int32(2),  # type: ignore[arg-type]
        store_gb=np.float64(0.5),
        device="cuda:1",
    )
    assert found.store == tmp_path
    assert found.share == str(tmp_path / "net")
    assert (type(found.lanes), type(found.devices)) == (int, int)
    assert (found.lanes, found.devices, found.store_gb) == (3, 2, 0.5)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"lanes": 0}, "lanes must be a whole number of at least 1 or None, got 0"),
        ({"lanes": -2}, "lanes must be a whole number of at least 1 or None, got -2"),
        ({"lanes": 2.0}, "lanes must be a whole number of at least 1 or None, got 2.0"),
        ({"lanes": True}, "lanes must be a whole number of at least 1 or None, got True"),
        ({"lanes": "2"}, "lanes must be a whole number of at least 1 or None, got '2'"),
        ({"devices": 0}, "devices must be a whole number of at least 1, got 0"),
        ({"devices": None}, "devices must be a whole number of at least 1, got None"),
        ({"compiling": "always"}, "compiling must be auto or on or off, got 'always'"),
        ({"compiling": True}, "compiling must be auto or on or off, got True"),
        ({"sharding": "ddp"}, "sharding must be replicate or fsdp, got 'ddp'"),
        ({"device": "gpu"}, "device must be cpu, cuda, cuda:N or mps, got 'gpu'"),
        ({"device": "mps:1"}, "device must be cpu, cuda, cuda:N or mps, got 'mps:1'"),
        ({"device": 0}, "device must be cpu, cuda, cuda:N or mps, got 0"),
        ({"store_gb": 0}, "store_gb must be above 0 or None, got 0"),
        ({"store_gb": "10"}, "store_gb must be above 0 or None, got '10'"),
        ({"store": None}, "store must be a folder, got None"),
        ({"share": 3}, "share must be a folder or URL or None, got 3"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_made(given: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(rule)}") as caught:
        Execution(**given)
    assert "\n" not in str(caught.value)


def test_a_device_of_no_known_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"^device must be cpu, .* got 'gpu'"):
        check_device("gpu")


@pytest.mark.parametrize("device", ["cuda", "mps"])
@pytest.mark.skipif(
    torch.cuda.is_available() or torch.backends.mps.is_available(),
    reason="needs a machine without a GPU",
)
def test_a_gpu_that_is_not_there_is_one_sentence_before_anything_is_read(
    device: str, tmp_path: Path
) -> None:
    there = PlasticityObjective(Recipe(), Execution(device=device, store=tmp_path / "store"))
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used"):
        there({})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [PlasticityObjective, VisionObjective])
@pytest.mark.parametrize("given", ["recipe", None, {"pretrain.lr": 1.0}, Recipe])
def test_what_is_no_recipe_is_refused(kind: Any, given: Any) -> None:
    with pytest.raises(ValueError, match=r"needs a (Vision)?Recipe, got"):
        kind(given)


def test_no_chunks_of_nothing() -> None:
    with pytest.raises(AssertionError):
        in_chunks([1, 2], 0, lambda some: None)


def test_a_trial_that_fails_raises_with_its_reason_and_its_result(tmp_path: Path) -> None:
    recipe = toy.recipe(tmp_path)
    one = PlasticityObjective(recipe, Execution(device="cpu", store=tmp_path / "store"))
    with pytest.raises(
        TrialFailed, match=r"schedule\.warmup_steps is 99 but the run has"
    ) as caught:
        one({"pretrain.schedule.warmup_steps": 99})
    assert isinstance(caught.value, RuntimeError)
    assert caught.value.result.failure == str(caught.value)
    assert caught.value.result.metrics == {}
