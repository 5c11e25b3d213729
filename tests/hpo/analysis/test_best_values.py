"""Where goals are best along a parameter, on runs whose optimum is known."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from hpo.analysis.best_values import BestValues, best_values
from hpo.analysis.slices import timescale_slices
from hpo.core.goals import BASE_LOSS_DOWN
from hpo.core.trial import Run
from hpo.front.front import counted_points
from hpo.report import best_values as shown
from hpo.report import terminal_tables
from hpo.report.html.page import render
from hpo.report.results import Results
from tests.hpo import toy

DECAYS = (0.0, 0.01, 0.1, 1.0)


def run(
    best_loss: float, best_gain: float, noise: float = 0.01, lrs: tuple[float, ...] = ()
) -> Run:
    """Decays at three seeds, each goal best at its own one."""
    rng, trials = np.random.default_rng(0), []
    for seed in range(3):
        for n, decay in enumerate(DECAYS):
            lr = lrs[n] if lrs else 0.003
            tau = {"tau_frac": 1 / (decay * lr * 100)} if decay else {}
            away, from_gain = (abs(n - DECAYS.index(best)) for best in (best_loss, best_gain))
            loss = 3.0 + 0.1 * away + noise * rng.normal()
            gain = 0.9 - 0.1 * from_gain + noise * rng.normal()
            trials.append(
                toy.trial(
                    len(trials), loss, gain, point=f"d{decay}", seed=seed, metrics=tau,
                    params={"pretrain.weight_decay": decay, "pretrain.lr": lr},
                )
            )  # fmt: skip
    return toy.run(trials)


def decay_of(found: Run) -> BestValues:
    return next(
        each
        for each in best_values(found, counted_points(found))
        if each.param == "pretrain.weight_decay"
    )


def test_two_goals_have_their_own_best_values_and_the_ratio_of_them() -> None:
    found = decay_of(run(0.01, 1.0))
    places = {name: dataclasses.astuple(place) for name, place in found.goals.items()}
    assert places == {"base_loss": (0.01, 0.01, 0.01), "gain": (1.0, 1.0, 1.0)}
    (apart,) = found.apart
    assert (apart.one, apart.other, apart.differ) == ("gain", "base_loss", True)
    assert apart.ratio.value == pytest.approx(100)


@pytest.mark.parametrize(
    ("loss", "gain", "ratio"), [(0.1, 0.1, 1.0), (0.0, 0.0, 1.0), (0.0, 0.1, math.inf)]
)
def test_no_decay_is_a_value_like_others(loss: float, gain: float, ratio: float) -> None:
    (apart,) = decay_of(run(loss, gain)).apart
    assert apart.ratio.value == ratio
    assert apart.differ == (ratio != 1)


def test_noise_leaves_open_which_value_is_best() -> None:
    found = decay_of(run(0.01, 1.0, noise=0.5))
    assert not found.apart[0].differ
    assert found.goals["base_loss"].low < found.goals["base_loss"].high


def test_intervals_hold_the_best_value_of_simulated_runs() -> None:
    """Losses that differ by one error of a mean: the best one is often another as observed."""
    rng, held = np.random.default_rng(7), 0
    for _ in range(100):
        trials = [
            toy.trial(
                n, 3.0 + 0.03 * abs(n % 4 - 1) + 0.05 * rng.normal(), 0.3, point=f"d{n % 4}",
                seed=n // 4, params={"pretrain.weight_decay": DECAYS[n % 4]},
            )
            for n in range(12)
        ]  # fmt: skip
        place = decay_of(toy.run(trials, (BASE_LOSS_DOWN,))).goals["base_loss"]
        held += place.low <= DECAYS[1] <= place.high
    assert held >= 90  # 95 less 2.3 standard errors


def test_a_run_whose_noise_is_unknown_has_no_best_values() -> None:
    one = run(0.01, 1.0)
    single = dataclasses.replace(one, trials=one.trials[:4])
    assert best_values(single, counted_points(single)) == ()


def test_the_timescale_is_an_axis_where_the_rate_varies_too() -> None:
    assert timescale_slices(run(0.01, 1.0)) == []
    varied = run(0.01, 1.0, lrs=(0.001, 0.01, 0.003, 0.003))
    assert timescale_slices(varied) == []  # one timescale for each decay
    several = run(0.01, 1.0)
    extra = toy.trial(
        99, 3.0, 0.2, params={"pretrain.weight_decay": 1.0, "pretrain.lr": 0.03},
        metrics={"tau_frac": 0.1},
    )  # fmt: skip
    several.trials.append(extra)
    again = dataclasses.replace(extra, number=100, params={
        "pretrain.weight_decay": 1.0, "pretrain.lr": 0.06})  # fmt: skip
    several.trials.append(again.with_answer(metrics=extra.metrics | {"tau_frac": 0.05}))
    found = timescale_slices(several)
    assert [(each.x, each.y, each.log) for each in found] == [
        ("tau_frac", "base_loss", True), ("tau_frac", "gain", True),
    ]  # fmt: skip


def test_page_and_json_have_the_best_values() -> None:
    results = Results(run(0.01, 1.0))
    data = terminal_tables.run_json(results)["best_values"]
    assert [each["param"] for each in data] == ["pretrain.weight_decay", "tau_frac"]
    assert data[0]["apart"][0]["differ"] is True
    rows = shown.rows(results.run, results.best_values, results.params)
    assert rows[0][:3] == ["weight_decay", "0.01", "1"]
    assert rows[0][3].endswith(", different")
    assert "Where each goal is best, among values that were measured" in render(results)
