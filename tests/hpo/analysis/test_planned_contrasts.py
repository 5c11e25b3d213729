"""Planned contrasts against scipy's tests, closed forms and simulated studies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hpo.analysis import planned_contrasts, power
from hpo.analysis.planned_contrasts import ContrastFinding
from hpo.core.contrasts import Correction, PlannedContrast, PlannedContrasts
from hpo.core.trial import Run, Trial
from tests.hpo import toy

DECAY = PlannedContrast(
    name="decay", metric="loss", arm="a", minus="b", expected="down", effect=0.03
)


def run_of(found: dict[str, list[float]], **fields: Any) -> Run:
    """A trial a point and seed, with its loss."""
    cells = [(p, s, y) for p, ys in found.items() for s, y in enumerate(ys)]
    return toy.run(
        [
            Trial.measured(
                number, {}, {"loss": y}, state="complete", point=point, seed=seed, **fields
            )
            for number, (point, seed, y) in enumerate(cells)
        ]
    )


def judged(found: dict[str, list[float]], **fields: Any) -> ContrastFinding:
    planned = PlannedContrasts(**({"contrasts": (DECAY,)} | fields))
    return planned_contrasts.findings(run_of(found), planned)[0]


def test_a_contrast_is_the_paired_t_test_over_the_seeds_that_both_arms_have() -> None:
    a, b = np.random.default_rng(0).normal([[3.0], [3.2]], 1.0, size=(2, 7))
    found = judged({"a": [*a], "b": [*b, 9.0], "c": [0.0, 50.0]})
    expected = stats.ttest_rel(a, b)
    low, high = expected.confidence_interval(0.95)
    assert found.seeds == tuple(range(7))
    assert found.differences == pytest.approx(a - b)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.estimate.interval == pytest.approx((low, high))
    assert (found.estimate.freedom, found.corrected) == (6, found.p)


@pytest.mark.parametrize(
    ("shift", "outcome"),
    [(-1.0, "as expected"), (1.0, "opposite"), (0.0, "not significant")],
)
def test_the_outcome_has_the_direction_that_was_expected(shift: float, outcome: str) -> None:
    b = [3.0, 3.1, 2.9, 3.05]
    noise = [0.01, -0.02, 0.015, -0.005]
    assert judged(
        {"a": [y + shift + e for y, e in zip(b, noise, strict=True)], "b": b}
    ).outcome == (outcome)


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        ({"a": [1.0], "b": [2.0]}, "not significant"),
        ({"a": [1.0, 1.0], "b": [2.0, 2.0]}, "not significant"),  # no spread, as at chance
        ({"a": [], "b": [2.0, 3.0]}, "not measured"),
        ({"a": [math.nan], "b": [2.0]}, "not measured"),
    ],
)
def test_without_a_spread_there_is_no_p_and_no_power(
    found: dict[str, list[float]], outcome: str
) -> None:
    each = judged(found)
    assert each.outcome == outcome
    assert all(math.isnan(x) for x in (each.p, each.corrected, each.detectable, each.power))
    assert each.seeds_needed is None


@pytest.mark.parametrize(
    ("correction", "expected"),
    [
        ("none", [0.01, 0.04, 0.03, 0.9]),
        ("bonferroni", [0.04, 0.16, 0.12, 1.0]),
        ("holm", [0.04, 0.09, 0.09, 0.9]),  # 4 x .01; 2 x .04 < 3 x .03; 3 x .03; .9
    ],
)
def test_p_values_are_corrected_for_their_number(
    correction: Correction, expected: list[float]
) -> None:
    assert planned_contrasts.correct([0.01, 0.04, 0.03, 0.9], correction) == pytest.approx(expected)


def test_a_contrast_that_is_not_measured_counts_among_those_that_are_corrected_for() -> None:
    found = planned_contrasts.correct([0.01, math.nan, 0.02], "holm")
    assert found == pytest.approx([0.03, math.nan, 0.04], nan_ok=True)


@pytest.mark.parametrize(
    ("effect", "deviation", "seeds", "alpha"), [(0.5, 1, 10, 0.05), (1, 1, 5, 0.01), (2, 1, 2, 0.1)]
)
def test_power_is_the_share_of_simulated_studies_that_find_the_effect(
    effect: float, deviation: float, seeds: int, alpha: float
) -> None:
    draws = np.random.default_rng(1).normal(effect, deviation, size=(20_000, seeds))
    share = float((stats.ttest_1samp(draws, 0.0, axis=1).pvalue < alpha).mean())
    found = power.power(effect, deviation / math.sqrt(seeds), seeds - 1, alpha)
    assert found == pytest.approx(share, abs=4 * math.sqrt(0.25 / 20_000))


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 49, 999])
@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.005, 0.001])
def test_power_rises_with_the_effect_to_1_and_the_detectable_one_is_found_everywhere(
    freedom: int, alpha: float
) -> None:
    shifts = stats.t.isf(alpha / 2, freedom) * np.linspace(0.0, 20.0, 200)
    powers = [power.power(shift, 1.0, freedom, alpha) for shift in shifts]
    assert powers[0] == pytest.approx(alpha, rel=1e-4)
    assert np.diff(powers).min() >= -1e-12
    assert powers[-1] > 0.99
    effect = power.detectable(1.0, freedom, alpha)
    assert power.power(effect, 1.0, freedom, alpha) == pytest.approx(0.8)


def test_the_detectable_effect_has_80_percent_power_at_the_strictest_level() -> None:
    ys = np.random.default_rng(2).normal(size=(2, 6))
    other = PlannedContrast(name="other", metric="loss", arm="b", minus="a", expected="up")
    planned = PlannedContrasts(contrasts=(DECAY, other), alpha=0.02)
    found = planned_contrasts.findings(run_of({"a": [*ys[0]], "b": [*ys[1]]}), planned)[0]
    error = found.estimate.error
    assert power.power(found.detectable, error, 5, 0.01) == pytest.approx(0.8)
    assert found.power == pytest.approx(power.power(0.03, error, 5, 0.01))


@pytest.mark.parametrize(("effect", "alpha", "seeds"), [(0.5, 0.05, 34), (1.0, 0.05, 10)])
def test_seeds_needed_are_those_of_tables_of_power(effect: float, alpha: float, seeds: int) -> None:
    # G*Power 3.1, matched pairs, d_z = 0.5 and 1, two tails, 80 %: 34 and 10.
    assert power.seeds_needed(effect, 1.0, alpha) == seeds
    assert power.seeds_needed(-effect, 1.0, alpha) == seeds


def test_an_effect_of_nothing_needs_no_number_of_seeds() -> None:
    assert power.seeds_needed(0.0, 1.0, 0.05) is None
    assert power.seeds_needed(1e-9, 1.0, 0.05) is None


def test_seeds_that_a_search_added_do_not_count() -> None:
    run = run_of({"a": [1.0, 1.2], "b": [2.0, 2.1]})
    added = Trial.measured(9, {}, {"loss": 0.0}, state="complete", replicate_of=0, seed=2)
    run.trials.append(added)
    (found,) = planned_contrasts.findings(run, PlannedContrasts(contrasts=(DECAY,)))
    assert found.seeds == (0, 1)


@pytest.mark.parametrize("alpha", [1e-12, 1e-6, 0.5])
@pytest.mark.parametrize("freedom", [1, 9])
def test_every_level_of_a_study_has_a_detectable_effect(alpha: float, freedom: int) -> None:
    found = power.detectable(0.1, freedom, alpha)
    assert power.power(found, 0.1, freedom, alpha) == pytest.approx(0.8)


def test_a_small_level_keeps_its_digits() -> None:
    effect, error, freedom, alpha = 9.0, 0.5, 30, 1e-17
    enough = stats.t.isf(alpha / 2, freedom)
    expected = stats.nct.sf(enough, freedom, effect / error)
    assert power.power(effect, error, freedom, alpha) == pytest.approx(expected, abs=1e-6)
    assert power.power(0.0, error, freedom, alpha) == pytest.approx(alpha, rel=1e-4)


def test_differences_that_rounding_alone_makes_unequal_tell_no_spread() -> None:
    found = judged({"a": [0.1 + 0.2, 0.4, 0.5], "b": [0.0, 0.1, 0.2]})
    assert len({*found.differences}) > 1  # 0.3 three times, as floats have it
    assert (found.estimate.error, math.isnan(found.p)) == (0.0, True)
    assert found.outcome == "not significant"
    noisy = judged({"a": [0.3, 0.4, 0.5 + 1e-9], "b": [0.0, 0.1, 0.2]})
    assert noisy.estimate.error > 0
