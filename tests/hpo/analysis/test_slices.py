"""The data behind slices, interactions, importance and parallel coordinates, by equality."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from hpo.analysis import interactions, parallel_coordinates, slices
from hpo.analysis.importance import FEWEST, importances
from hpo.analysis.interactions import TauLine, tau_lines
from hpo.analysis.slices import DECAY, RATE, Level
from hpo.core.domains import Choice, Float
from hpo.core.trial import Run
from hpo.report.plots import draw_parameters
from tests.hpo import toy

SPACE: dict[str, Any] = {
    DECAY: Float(low=0.01, high=1.0, log=True),
    RATE: Float(low=0.001, high=0.1, log=True),
    "pretrain.shape": Choice(options=["linear", "cosine"]),
}


def searched(extra: tuple[dict[str, Any], ...] = ()) -> Run:
    """Rates and decays whose timescale is 100 or 1,000 steps of a run of 100."""
    rows: list[dict[str, Any]] = [
        {DECAY: 0.1, RATE: 0.1, "pretrain.shape": "cosine"},
        {DECAY: 1.0, RATE: 0.01, "pretrain.shape": "linear"},
        {DECAY: 0.1, RATE: 0.01, "pretrain.shape": "cosine"},
        *extra,
    ]
    trials = [
        toy.trial(
            number,
            3.5 + number / 10,
            0.2,
            params=params,
            metrics={"tau_frac": 1 / (params[DECAY] * params[RATE]) / 100} if params[DECAY] else {},
        )
        for number, params in enumerate(rows)
    ]
    return toy.run(trials, space=SPACE)


def test_a_slice_of_a_number_leaves_out_what_its_axis_cannot_show() -> None:
    run = searched(({DECAY: 0.0, RATE: 0.01, "pretrain.shape": "cosine"},))
    found = slices.slice_data(run, DECAY, "base_loss")
    assert (found.trials, found.across, found.values) == (
        (0, 1, 2),
        (0.1, 1.0, 0.1),
        (3.5, 3.6, 3.7),
    )
    assert (found.log, found.levels, found.trend, found.left_out) == (True, (), None, (3,))


def test_a_slice_of_a_choice_has_means_in_the_order_of_its_options() -> None:
    found = slices.slice_data(searched(), "pretrain.shape", "base_loss")
    assert found.levels == (
        Level(value="linear", mean=3.6, sem=None, num_settings=1),
        Level(value="cosine", mean=pytest.approx(3.6), sem=pytest.approx(0.1), num_settings=2),
    )
    assert found.across == ("cosine", "linear", "cosine")


def test_only_trials_of_full_length_are_sliced_and_unvaried_parameters_are_not() -> None:
    run = toy.mixed()
    assert slices.varied(run) == [DECAY]
    assert slices.slice_data(run, DECAY, "base_loss").trials == (0, 1, 2, 3, 4, 5, 9)
    assert slices.slice_data(run, DECAY, "gain").trials == (0, 1, 2, 3, 4, 5)


def test_a_trend_over_decades_is_fitted_to_logarithms() -> None:
    trials = [toy.trial(n, 3 + n, 0.2, params={DECAY: 10.0 ** (n - 8)}) for n in range(9)]
    found = slices.slice_data(toy.run(trials), DECAY, "base_loss")
    assert found.trend is not None
    assert (found.trend.x[0], found.trend.x[-1]) == (-8, 0)
    assert found.trend.mean == pytest.approx(11 + np.array(found.trend.x))
    drawn = draw_parameters.draw_slice(found, "decay")
    assert drawn.data[0].x[0] == 1e-8
    assert list(drawn.data[-1].customdata) == list(range(9))


def test_lines_of_equal_timescale_are_cut_to_the_points() -> None:
    found = tau_lines([0.01, 0.1], [0.1, 1.0], steps=100)
    assert found == (
        TauLine(
            tau_steps=pytest.approx(100),
            share=1.0,
            rates=(0.01, pytest.approx(0.1)),
            decays=(pytest.approx(1.0), pytest.approx(0.1)),
        ),
    )
    for line in found:
        for rate, decay in zip(line.rates, line.decays, strict=True):
            assert 1 / (rate * decay) == pytest.approx(line.tau_steps)
    assert tau_lines([0.01, 0.01], [0.1, 1.0], steps=100) == ()


def test_the_interaction_knows_the_steps_from_the_timescales() -> None:
    run = searched(({DECAY: 0.0, RATE: 0.01, "pretrain.shape": "cosine"},))
    base_loss, gain = interactions.interactions(run)
    assert (base_loss.goal.metric, gain.goal.metric) == ("base_loss", "gain")
    assert base_loss.rates == (0.1, 0.01, 0.01)
    assert base_loss.decays == (0.1, 1.0, 0.1)
    assert base_loss.values == (3.5, 3.6, 3.7)
    assert [line.share for line in base_loss.lines] == [1.0]
    assert base_loss.left_out == (3,)
    assert interactions.interactions(toy.mixed()) == ()


def test_parallel_coordinates_run_from_0_to_1() -> None:
    found = parallel_coordinates.parallel_data(searched())
    assert found.trials == (0, 1, 2)
    decay, rate, shape, base_loss, *_ = found.dimensions
    assert (decay.name, decay.places) == ("weight_decay", (0, 1, 0))
    assert decay.ticks == ((0, "0.1"), (0.5, "0.316"), (1, "1"))
    assert rate.places == (1, 0, 0)
    assert (shape.places, shape.ticks) == ((1, 0, 1), ((0, "linear"), (1, "cosine")))
    assert base_loss.places == pytest.approx((0, 0.5, 1))
    drawn = draw_parameters.draw_parallel(found).data[0]
    assert list(drawn.customdata[:7]) == [0] * 7
    assert drawn.y[6] is None
    assert parallel_coordinates.parallel_data(toy.run([])).trials == ()


def test_importance_finds_the_parameter_that_matters() -> None:
    rng = np.random.default_rng(0)
    space = {name: Float(low=0.0, high=1.0) for name in "ab"}
    trials = []
    for number in range(60):
        params = {name: float(rng.uniform()) for name in "ab"}
        trials.append(toy.trial(number, params["a"], params["b"], params=params))
    trials.append(toy.trial(60, 0.5, 0.5, params={"a": 7.0, "b": 0.0}))
    base_loss, gain = importances(toy.run(trials, space=space))
    assert (base_loss.num_settings, gain.num_settings) == (60, 60)
    assert next(iter(base_loss.shares)) == "a"
    assert next(iter(gain.shares)) == "b"
    assert sum(gain.shares.values()) == pytest.approx(1)
    assert gain.shares["b"] > gain.chance
    few = importances(toy.run(trials[: FEWEST - 1], space=space))
    assert [(each.shares, each.num_settings) for each in few] == [({}, FEWEST - 1)] * 2
    assert importances(toy.run(trials, space={})) == ()


def test_importance_of_pure_noise_is_what_chance_gives() -> None:
    """20 settings, 3 parameters: some share is always large."""
    space = {name: Float(low=0.0, high=1.0) for name in "abc"}
    beyond, largest = [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        trials = [
            toy.trial(n, float(rng.normal()), float(rng.normal()),
                      params={name: float(rng.uniform()) for name in "abc"})
            for n in range(20)
        ]  # fmt: skip
        for each in importances(toy.run(trials, space=space)):
            largest.append(max(each.shares.values()))
            beyond.append(largest[-1] > each.chance)
    assert np.mean(largest) > 0.5
    assert np.mean(beyond) < 0.3


def test_hostile_options_are_escaped_in_drawings() -> None:
    trials = [
        toy.trial(n, 3.5 + n, 0.2, params={"shape": (toy.HOSTILE, "b")[n % 2]}) for n in range(4)
    ]
    run = toy.run(trials, space={})
    drawings = [
        draw_parameters.draw_slice(slices.slice_data(run, "shape", "gain"), toy.HOSTILE),
        draw_parameters.draw_parallel(parallel_coordinates.parallel_data(run)),
    ]
    for drawn in drawings:
        assert "<img" not in drawn.to_json().replace("\\u003c", "<")


def test_a_trial_without_a_goal_has_no_place_on_its_axis() -> None:
    run = toy.run([toy.trial(0, 3.5, 0.2), toy.trial(1, 3.6, math.nan), toy.trial(2, 3.7, 0.4)])
    gain = next(
        each for each in parallel_coordinates.parallel_data(run).dimensions if each.name == "gain"
    )
    assert gain.places == (0, None, 1)
