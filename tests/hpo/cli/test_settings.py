"""Seeds of one setting are not independent trials: no analysis takes chance for a finding."""

from __future__ import annotations

import numpy as np
import pytest

from hpo.analysis import slices
from hpo.analysis.importance import FEWEST, importances
from hpo.analysis.probes import associations
from hpo.analysis.slices import DECAY, RATE
from hpo.core.domains import Choice, Float
from hpo.core.trial import Run, Trial
from tests.hpo import toy

SETTINGS, REPEATS = 10, 250


PROBE = "probe.alphas.mean"


SLACK = 2.6 * (0.05 * 0.95 / REPEATS) ** 0.5
"""One in a hundred draws of a share that is 5 % is farther off."""


def noise(draw: int, seeds: int, settings: int = SETTINGS) -> Run:
    """Settings whose measures are pure chance, the most of it shared by the seeds of a setting."""
    rng = np.random.default_rng([draw, seeds])
    decay, shape = 10 ** rng.uniform(-2, 0, settings), rng.integers(0, 2, settings)
    common = rng.normal(size=(settings, 3))
    trials = []
    for seed in range(seeds):
        for row in range(settings):
            probe, base_loss, gain = common[row] + 0.2 * rng.normal(size=3)
            params = {DECAY: float(decay[row]), "shape": ("a", "b")[shape[row]]}
            trials.append(
                Trial.measured(
                    number=len(trials), state="complete", params=params, seed=seed,
                    replicate_of=row if seed else None,
                    metrics={PROBE: probe, "base_loss": base_loss, "gain": gain},
                )
            )  # fmt: skip
    space = {
        DECAY: Float(low=0.01, high=1.0, log=True),
        "shape": Choice(options=["a", "b"]),
    }
    return toy.run(trials, space=space)


@pytest.mark.parametrize("seeds", [1, 4])
def test_a_probe_without_relation_is_significant_in_one_of_twenty(seeds: int) -> None:
    found = [associations(noise(draw, seeds))[0] for draw in range(REPEATS)]
    assert {each.num_settings for row in found for each in row} == {SETTINGS}
    for column in range(3):  # decay and the two goals
        share = np.mean([row[column].p < 0.05 for row in found])
        assert share == pytest.approx(0.05, abs=SLACK)


@pytest.mark.parametrize("seeds", [1, 4])
def test_the_band_of_a_trend_holds_the_truth_nineteen_times_of_twenty(seeds: int) -> None:
    inside = []
    for draw in range(REPEATS):
        trend = slices.slice_data(noise(draw, seeds), DECAY, "base_loss").trend
        assert trend is not None
        inside.append([low <= 0 <= high for low, high in zip(trend.low, trend.high, strict=True)])
    assert 0.90 <= np.mean(inside) <= 0.98


@pytest.mark.parametrize("seeds", [1, 4])
def test_the_error_of_a_level_is_that_of_its_settings(seeds: int) -> None:
    scores = [
        level.mean / level.sem
        for draw in range(REPEATS)
        for level in slices.slice_data(noise(draw, seeds), "shape", "gain").levels
        if level.sem and level.num_settings > 3
    ]
    assert len(scores) > REPEATS
    assert np.median(np.abs(scores)) == pytest.approx(0.73, abs=0.08)  # Student's, 4 degrees


def test_a_trend_and_a_level_stand_on_the_settings_means_and_every_seed_is_shown() -> None:
    run = noise(0, seeds=4)
    means = toy.run(slices.settings(run), space=run.space)
    assert len(means.trials) == SETTINGS
    for param in (DECAY, "shape"):
        found = slices.slice_data(run, param, "gain")
        expected = slices.slice_data(means, param, "gain")
        assert (found.trend, found.levels) == (expected.trend, expected.levels)
        assert len(found.trials) == 4 * SETTINGS
    measure = slices.metric_slice(run, PROBE, "gain")
    assert measure.trend == slices.metric_slice(means, PROBE, "gain").trend


def test_importance_counts_a_setting_once_however_many_seeds_it_has() -> None:
    few = importances(noise(0, seeds=4, settings=FEWEST - 1))
    assert [(each.shares, each.num_settings) for each in few] == [({}, FEWEST - 1)] * 2
    run = noise(1, seeds=3, settings=30)
    means = toy.run(slices.settings(run), space=run.space)
    assert importances(run) == importances(means)
    assert RATE not in importances(run)[0].shares
