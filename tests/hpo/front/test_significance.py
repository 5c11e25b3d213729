"""Which differences are significant: published quantiles, simulated truth, and what is listed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hpo.core.trial import Run, Trial
from hpo.front.differences import Difference, differences, from_baselines
from hpo.front.errors import student
from hpo.front.front import counted_points, front
from hpo.front.significance import Leads, null_quantile
from hpo.report.results import Results
from tests.bench import errors as bench
from tests.hpo import noisy, toy


def leads(run: Run) -> Leads:
    return Leads(counted_points(run), len(run.goals))


def measured(gains: dict[str, list[float]], **metrics: float) -> Run:
    """Setting -> gains at seeds 0, 1, ...; the setting "base" is a baseline."""
    trials: list[Trial] = []
    for name, values in gains.items():
        first = len(trials)
        for seed, value in enumerate(values):
            more: dict[str, Any] = {} if seed == 0 else {"replicate_of": first}
            more |= {"baseline": "base"} if name == "base" else {}
            trials.append(
                toy.trial(len(trials), 3.0 + value, value, seed=seed, metrics=metrics,
                          params={"x": name}, **more)
            )  # fmt: skip
    return toy.run(trials)


def test_the_quantile_of_one_comparison_is_students() -> None:
    for given_ in (True, False):
        assert null_quantile(2, 5.0, given=given_) == pytest.approx(student(5.0), rel=0.1)
        assert null_quantile(2, math.inf, given=given_) == pytest.approx(1.96, rel=0.05)


def test_against_one_given_setting_the_quantiles_are_dunnetts() -> None:
    """Dunnett 1955, two-sided, 9 treatments with a control, 20 degrees of freedom, 95 %."""
    assert null_quantile(10, 20.0, given=True) == pytest.approx(2.95, rel=0.05)


@pytest.mark.parametrize(("count", "freedom"), [(3, 10.0), (10, 20.0), (20, math.inf)])
def test_between_any_two_settings_the_quantiles_are_tukeys(count: int, freedom: float) -> None:
    expected = stats.studentized_range.ppf(0.95, count, min(freedom, 1e5)) / math.sqrt(2)
    assert null_quantile(count, freedom, given=False) == pytest.approx(expected, rel=0.04)


@given(st.integers(2, 40), st.floats(1.0, 60.0), st.floats(0.8, 0.98))
def test_quantiles_grow_with_what_was_chosen_from(n: int, freedom: float, level: float) -> None:
    of_one, of_any = (null_quantile(n, freedom, level, given=each) for each in (True, False))
    assert of_one <= of_any
    assert of_one <= null_quantile(n + 1, freedom, level, given=True)
    assert of_one <= null_quantile(n, freedom, min(1.0, level + 0.01), given=True)


def test_without_a_second_pretraining_seed_nothing_is_known() -> None:
    run = measured({"base": [0.1], "best": [5.0]}, gain_sem=0.001)
    found = leads(run).between(run.trials[1], run.trials[0], "gain")
    assert found.error < 0.01
    assert found.significant is None


def test_a_clear_lead_is_significant_and_its_sign_is_not_asked() -> None:
    run = measured({"base": [0.1, 0.11, 0.09], "best": [0.5, 0.51, 0.49], "c": [0.1]})
    base, best, other = run.trials[0], run.trials[3], run.trials[6]
    known = leads(run)
    assert known.between(best, base, "gain").significant
    assert known.between(base, best, "gain").significant
    assert known.between(other, base, "gain").significant is False


def test_two_settings_that_were_both_chosen_need_a_larger_lead_than_one_and_a_baseline() -> None:
    """The same values, once with the other setting a baseline."""
    same = [0.2, 0.25, 0.3]
    sure: dict[str, list[bool | None]] = {"base": [], "other": []}
    for name, found in sure.items():
        for by in np.linspace(0.0, 0.15, 40):
            best = [value + by for value in (0.2, 0.26, 0.3)]
            run = measured({name: same, "best": best} | dict.fromkeys("abcdefg", same))
            found.append(leads(run).between(run.trials[3], run.trials[0], "gain").significant)
    assert sure["other"].index(True) > sure["base"].index(True) > 0


def test_every_place_that_names_a_lead_says_the_same_of_it() -> None:
    run, _ = bench.study(12, 0.3, np.random.default_rng([91, 3]))
    results = Results(run)
    for each in results.comparisons:
        assert each is not None
        metric = each.goal.metric
        own = each.leads[metric]
        assert own == results.lead(each.best, each.baseline, metric)
        for line in results.headline:
            if line.trial.number == each.best.number and metric in line.differences:
                assert line.differences[metric].significant == own.significant
        for pair in (*results.differences, *results.from_baselines):
            if (pair.better, pair.other, pair.metric) == (
                each.best.number, each.baseline.number, metric,
            ):  # fmt: skip
                assert pair.significant == own.significant


def test_noise_that_nothing_tells_and_a_front_without_pairs_give_no_differences() -> None:
    run = toy.mixed()
    assert differences(front(run), leads(run)) == from_baselines(front(run), leads(run)) == ()


def test_without_noise_every_difference_is_significant() -> None:
    run = noisy.curve(noise=0.0)
    assert all(each.significant for each in differences(front(run), leads(run)))


def test_differences_have_sign_and_error_of_the_true_values() -> None:
    run = noisy.curve(noise=0.02)
    baseline = dataclasses.replace(run.trials[3], baseline="standard")
    again = dataclasses.replace(run.trials[15], baseline="standard")
    trials = [*run.trials[:3], baseline, *run.trials[4:15], again, *run.trials[16:]]
    run = dataclasses.replace(run, trials=trials)
    found, known = front(run), leads(run)
    pairs: tuple[Difference, ...] = differences(found, known)
    count = len(found.trials)
    assert len(pairs) == count * (count - 1)
    assert all(each.value < 0 < each.error for each in pairs)
    ends = [each for each in pairs if {each.better, each.other} == {0, found.trials[-1].number}]
    assert all(each.significant for each in ends)
    (a, b) = from_baselines(found, known)
    assert (a.better, a.other, a.metric) == (0, 3, "a")
    assert a.value == pytest.approx(-3 / 11, abs=0.05)
    assert (b.other, b.metric, b.significant) == (3, "b", True)
