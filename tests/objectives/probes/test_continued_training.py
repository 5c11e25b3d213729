"""The tiny rate against the training loop's own maths; updates lost in bf16 by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from objectives.probes import continued_training
from objectives.probes.continued_training import rounded_away, tiny_steps
from objectives.probes.types import NotApplicableError
from tests.objectives import toy
from tests.objectives.probes.subjects import group


def test_updates_below_half_a_bf16_step_are_lost() -> None:
    # Between 1 and 2 bf16 weights are 1/128 apart, below 1 they are 1/256 apart; ties go to even.
    weights = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    updates = torch.tensor([-0.9 / 256, -1.1 / 256, 0.4 / 256, 0.6 / 256, 0.0, 1e-30])
    assert rounded_away(weights, updates, 1.0) == pytest.approx(2 / 5)
    assert rounded_away(weights, updates, 1e-3) == pytest.approx(4 / 5)
    assert rounded_away(weights, updates, 1e3) == 0.0
    assert rounded_away(weights, torch.zeros(6), 1.0) == 0.0


def test_a_weight_is_rounded_before_it_is_compared() -> None:
    # 1.001 is 1.0 in bf16: half a step from there is what counts.
    assert rounded_away(torch.tensor([1.001]), torch.tensor([-0.003]), 1.0) == 1.0


@pytest.mark.parametrize(
    ("frac", "steps", "more"), [(0.2, 20, 4), (0.2, 1, 1), (1.0, 7, 7), (1e-9, 9, 1)]
)
def test_further_steps_are_a_share_of_the_run(frac: float, steps: int, more: int) -> None:
    assert tiny_steps(frac, steps) == more


def test_the_tiny_rate_lowers_the_loss_and_gives_the_same_again(toy_folder: Path) -> None:
    one = group(toy_folder, ["tiny_rate"], 2, tiny_rate=1e-2, tiny_frac=1.0)
    found = continued_training.measure_tiny_rate(one)
    assert found == continued_training.measure_tiny_rate(one)
    for finding in found:
        assert finding.metrics["loss_nats"] < 5.5
        assert finding.metrics["drop_nats"] == 6.0 - finding.metrics["loss_nats"]
        assert finding.tokens == toy.STEPS * 4 * toy.SEQ_LEN
    slower = group(toy_folder, ["tiny_rate"], 2, tiny_rate=1e-6, tiny_frac=0.1)
    for finding, slow in zip(found, continued_training.measure_tiny_rate(slower), strict=True):
        assert slow.metrics["loss_nats"] > finding.metrics["loss_nats"]


def test_a_tiny_rate_that_diverges_is_a_note(toy_folder: Path) -> None:
    (found,) = continued_training.measure_tiny_rate(
        group(toy_folder, ["tiny_rate"], 1, tiny_rate=1e30, tiny_frac=0.5)
    )
    assert found.metrics == {}
    assert found.notes[0].startswith("diverged at step")


def test_updates_at_the_low_last_rate_are_lost_more_often(toy_folder: Path) -> None:
    (found,) = continued_training.measure_lost_updates(group(toy_folder, ["lost_updates"], 1))
    assert 0 <= found.metrics["peak_frac"] < found.metrics["end_frac"] <= 1


def test_bases_of_gradient_descent_are_not_gone_on_from_with_adamw(toy_folder: Path) -> None:
    one = group(toy_folder, ["tiny_rate"], 1)
    recipe = one.subjects[0].job.recipe.with_params({"pretrain.optimizer": "sgd"})
    job = dataclasses.replace(one.subjects[0].job, recipe=recipe)
    other = dataclasses.replace(one, subjects=[dataclasses.replace(one.subjects[0], job=job)])
    with pytest.raises(NotApplicableError, match="takes AdamW's steps"):
        continued_training.measure_tiny_rate(other)
