"""What a finite sample of test rows adds to an error."""

from __future__ import annotations

import math

import numpy as np
import pytest

from objectives import results, row_errors
from objectives.finetuning.lr_search import Outcome


def test_rows_of_one_seed_have_the_binomial_error() -> None:
    rows = np.repeat([0.0, 1.0], [70, 30])[None]
    expected = math.sqrt(0.3 * 0.7 / 99)
    assert row_errors.rows_error([rows]) == pytest.approx(expected)


def test_tasks_are_independent_samples() -> None:
    rng = np.random.default_rng(0)
    one, two = rng.random((1, 50)), rng.random((1, 80))
    alone = [row_errors.rows_error([each]) for each in (one, two)]
    assert row_errors.rows_error([one, two]) == pytest.approx(math.hypot(*alone) / 2)


def test_seeds_and_rows_together_have_the_variance_of_crossed_effects() -> None:
    """Over many draws of seeds and rows the stated variance is that of the mean."""
    rng = np.random.default_rng(1)
    means, stated = [], []
    for _ in range(3000):
        y_SN = 0.3 * rng.standard_normal((3, 1)) + rng.standard_normal((1, 20))
        y_SN = y_SN + 1.5 * rng.standard_normal((3, 20))
        means.append(y_SN.mean())
        seeds = y_SN.mean(1).var(ddof=1) / 3
        stated.append(seeds + row_errors.rows_error([y_SN]) ** 2)
    assert np.mean(stated) == pytest.approx(np.var(means), rel=0.1)


def test_many_rows_are_kept_as_means_that_tell_the_same_variance() -> None:
    y_N = np.random.default_rng(2).random(12_800)
    kept = np.array(row_errors.grouped(y_N))
    assert len(kept) == row_errors.MOST_GROUPS
    assert kept.mean() == pytest.approx(y_N.mean(), rel=1e-4)
    assert kept.var(ddof=1) / len(kept) == pytest.approx(y_N.var(ddof=1) / len(y_N), rel=0.35)
    assert row_errors.grouped(np.array([0.0, 1.0, 0.5])) == [0.0, 1.0, 0.5]


def test_a_trial_keeps_its_score_of_each_row_and_their_mean_is_the_metric() -> None:
    outcomes = [
        Outcome(
            lr=1e-2, tried={1e-2: 1.0}, before=0.25, loss_before=2.0, after=[0.5, 0.75],
            loss_after=[1.0, 1.0], rows_before="0100", rows_after=["0110", "1101"],
        )
    ]  # fmt: skip
    kept = results.listed_rows(results.row_scores(outcomes))
    assert kept["finetuned"] == [[0.5, 1.0, 0.5, 0.5]]
    assert kept["gain"] == [[0.5, 0.0, 0.5, 0.5]]
    assert np.mean(kept["gain"]) == pytest.approx(0.625 - 0.25)


def test_losses_by_row_and_forgetting_by_sequence_are_kept_too() -> None:
    """All tasks keep the same text, so that forgetting has one sample of rows."""
    outcomes = [
        Outcome(
            lr=1e-2, tried={1e-2: 1.0}, before=0.25, loss_before=2.0, after=[0.5, 0.75],
            loss_after=[1.0, 2.0], loss_rows_before=[1.0, 3.0],
            loss_rows_after=[[0.5, 1.5], [1.0, 3.0]], base_loss_after=[4.5, 5.0],
            base_loss_rows_after=[[4.0 + n, 5.0], [5.0, 5.0 + n]],
        )
        for n in range(2)
    ]  # fmt: skip
    rows = results.row_scores(outcomes, [4.0, 4.5])
    kept = results.listed_rows(rows)
    assert kept["finetuned_loss_nats"] == [[0.75, 2.25]] * 2
    assert kept["loss_gain_nats"] == [[0.25, 0.75]] * 2
    assert kept["forgetting_nats"] == [[0.75, 0.75]]
    assert "loss_before_nats" not in kept
    errors = results.rows_errors(rows)
    np.testing.assert_allclose(rows["forgetting_nats"], [[[0.5, 0.5], [1.0, 1.0]]])
    assert errors["forgetting_nats_rows_sem"] == 0.0
    assert errors["loss_before_nats_rows_sem"] == pytest.approx(1 / math.sqrt(2))


def test_outcomes_without_rows_have_no_error_of_them() -> None:
    outcome = Outcome(
        lr=1e-2, tried={1e-2: 1.0}, before=0.5, loss_before=2.0, after=[0.5], loss_after=[1.0]
    )
    assert results.row_scores([outcome]) == {}
