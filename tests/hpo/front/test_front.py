"""Losses, the front, comparisons and disagreements of synthetic runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from hpo.analysis.rank_agreement import NAMED_PAIRS, disagreements
from hpo.core.goals import BASE_LOSS_DOWN, GAIN_UP, Goal, Limit
from hpo.front.front import compare, counted, front
from hpo.front.losses import feasible, losses
from tests.hpo import toy


def numbers(trials: object) -> list[int]:
    return [trial.number for trial in trials]  # type: ignore[attr-defined]


def test_losses_are_negated_where_up_is_better_and_nan_where_missing() -> None:
    trials = [toy.trial(0, 3.5, 0.2), toy.trial(1, math.inf, math.nan)]
    Y_NG = losses(trials, (BASE_LOSS_DOWN, GAIN_UP, Goal(metric="absent", direction="down")))
    np.testing.assert_array_equal(Y_NG, [[3.5, -0.2, np.nan], [np.inf, np.nan, np.nan]])


def test_no_trials_have_losses_of_the_right_shape() -> None:
    assert losses([], (BASE_LOSS_DOWN, GAIN_UP)).shape == (0, 2)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (Limit(metric="base_loss", high=3.5), True),
        (Limit(metric="base_loss", low=3.5), True),
        (Limit(metric="base_loss", high=3.4), False),
        (Limit(metric="absent"), False),
        (Limit(metric="gain_sem", low=0.02), False),
    ],
)
def test_a_limit_includes_its_ends_and_needs_a_measurement(limit: Limit, expected: bool) -> None:
    assert feasible(toy.trial(0, 3.5, 0.2), (limit,)) is expected


def test_front_of_a_mixed_run_lists_every_trial_with_its_standing() -> None:
    found = front(toy.mixed())
    assert numbers(found.trials) == [2, 0, 3, 4]
    assert numbers(found.dominated) == [1, 5]
    assert found.standings == {
        0: "front", 1: "dominated", 2: "front", 3: "front", 4: "front", 5: "dominated",
        6: "failed", 7: "running", 8: "partial", 9: "not measured",
    }  # fmt: skip
    assert found.knee is not None
    assert found.knee.number == 3


def test_reference_is_the_worst_of_the_trials_that_count_in_the_goals_own_units() -> None:
    found = front(toy.mixed())
    assert found.reference == (3.9, 0.10)
    by_hand = (
        (3.5 - 3.45) * (0.15 - 0.1) + (3.55 - 3.5) * (0.2 - 0.1)
        + (3.8 - 3.55) * (0.3 - 0.1) + (3.9 - 3.8) * (0.33 - 0.1)
    )  # fmt: skip
    assert found.hypervolume == pytest.approx(by_hand)


def test_a_trial_outside_the_limits_is_not_on_the_front() -> None:
    run = toy.run(toy.mixed().trials, limits=(Limit(metric="base_loss", high=3.6),))
    found = front(run)
    assert numbers(found.trials) == [2, 0, 3]
    assert found.standings[4] == "outside limits"
    assert found.reference == (3.55, 0.15)


@pytest.mark.parametrize("trials", [[], [toy.trial(0, math.nan, math.nan, state="failed")]])
def test_a_run_without_a_complete_trial_has_an_empty_front(trials: list[object]) -> None:
    run = toy.run(trials)  # type: ignore[arg-type]
    found = front(run)
    assert (found.trials, found.knee, found.hypervolume, found.reference) == ((), None, 0.0, None)
    assert compare(run, GAIN_UP) is None
    assert disagreements(run).num_trials == 0


def test_equal_trials_are_all_on_the_front_by_number() -> None:
    found = front(toy.run([toy.trial(number, 3.5, 0.2) for number in (2, 0, 1)]))
    assert numbers(found.trials) == [0, 1, 2]


def test_comparison_holds_the_difference_and_the_error_of_both_sides() -> None:
    found = compare(toy.mixed(), GAIN_UP)
    assert found is not None
    assert (found.baseline.number, found.best.number) == (1, 4)
    assert found.differences == pytest.approx({"base_loss": 0.1, "gain": 0.11})
    assert found.sems["gain"] == pytest.approx(0.01 * math.sqrt(2))
    assert math.isnan(found.sems["base_loss"])


def test_tau_equals_scipys_with_ties() -> None:
    rng = np.random.default_rng(0)
    gain, after = rng.integers(0, 6, (2, 30)) / 10
    trials = [
        toy.trial(n, 3.5, float(g), metrics={"finetuned": float(a)})
        for n, (g, a) in enumerate(zip(gain, after, strict=True))
    ]
    found = disagreements(toy.run(trials))
    assert found.tau == pytest.approx(kendalltau(gain, after).statistic)
    expected = {(a, b) for a in range(30) for b in range(30)
                if gain[a] > gain[b] and after[a] < after[b]}  # fmt: skip
    assert set(found.pairs) == expected
    assert len(found.pairs) == found.num_pairs == len(expected)


def test_of_many_disagreements_the_largest_are_named_and_all_are_counted() -> None:
    gain, after = np.random.default_rng(0).random((2, 400))
    trials = [
        toy.trial(n, 3.5, float(g), metrics={"finetuned": float(a)})
        for n, (g, a) in enumerate(zip(gain, after, strict=True))
    ]
    found = disagreements(toy.run(trials))
    sizes = {
        (a, b): (gain[a] - gain[b]) * (after[b] - after[a])
        for a in range(400)
        for b in range(400)
        if gain[a] > gain[b] and after[a] < after[b]
    }
    assert found.num_pairs == len(sizes) > NAMED_PAIRS
    assert found.pairs == tuple(sorted(sizes, key=lambda pair: -sizes[pair])[:NAMED_PAIRS])


def test_a_base_that_starts_worse_and_gains_more_is_named() -> None:
    trials = [
        toy.trial(0, 3.5, 0.2, metrics={"finetuned": 0.8}),
        toy.trial(1, 3.5, 0.3, metrics={"finetuned": 0.5}),
        toy.trial(2, 3.5, 0.1, metrics={"finetuned": 0.1}),
    ]
    found = disagreements(toy.run(trials), top=2)
    assert found.pairs == ((1, 0),)
    assert numbers(found.top_by_gain) == [1, 0]
    assert numbers(found.top_by_finetuned) == [0, 1]
    assert found.tau == pytest.approx(1 / 3)


def test_only_complete_measured_trials_at_full_fidelity_count() -> None:
    assert numbers(counted(toy.mixed())) == [0, 1, 2, 3, 4, 5]
