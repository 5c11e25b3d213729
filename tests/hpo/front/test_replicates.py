"""Trials gathered into points, and the errors of their means."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hpo.core.domains import Float
from hpo.front.front import front
from hpo.front.replicates import PRIOR_FREEDOM, deviations, encoded, points
from tests.hpo import noisy, toy


def test_replicates_and_names_make_points_and_seeds_their_means() -> None:
    run = noisy.run(
        [
            noisy.trial(0, 1.0, 4.0, baseline="standard"),
            noisy.trial(1, 2.0, 3.0),
            noisy.trial(2, 3.0, 5.0, baseline="standard", seed=1),
            noisy.trial(3, 4.0, 3.0, seed=1, replicate_of=1),
            noisy.trial(4, 6.0, 3.0, seed=2, replicate_of=3),
            noisy.trial(5, 9.0, 9.0),
        ]
    )
    found = points(run, run.trials)
    assert [[trial.number for trial in point.seeds] for point in found] == [[0, 2], [1, 3, 4], [5]]
    assert [point.trial.metrics["a"] for point in found] == [2.0, 4.0, 9.0]
    assert [point.trial.number for point in found] == [0, 1, 5]


def test_errors_are_shrunk_to_the_spread_pooled_over_points() -> None:
    run = noisy.run(
        [
            noisy.trial(0, 1.0, 0.0),
            noisy.trial(1, 3.0, 0.0, seed=1, replicate_of=0),
            noisy.trial(2, 0.0, 0.0),
            noisy.trial(3, 0.0, 0.0, seed=1, replicate_of=2),
            noisy.trial(4, 5.0, 0.0),
        ]
    )
    found = points(run, run.trials)
    pooled = 2.0 / 2  # squares 2 and 0 over two degrees of freedom
    assert deviations(point.seeds for point in found)["a"] == (1.0, 2)
    errors = [point.trial.metrics["a_sem"] for point in found]
    own = [(PRIOR_FREEDOM * pooled + each) / (PRIOR_FREEDOM + 1) / 2 for each in (2.0, 0.0)]
    assert errors == pytest.approx([math.sqrt(own[0]), math.sqrt(own[1]), 1.0])
    assert [point.trial.metrics["b_sem"] for point in found] == [0.0, 0.0, 0.0]


def test_an_error_measured_within_a_trial_is_kept_where_nothing_is_repeated_or_it_is_larger() -> (
    None
):
    once = toy.trial(0, 3.5, 0.2)
    assert points(toy.run([once]), [once])[0].trial is once
    trials = [
        toy.trial(0, 3.5, 0.2),
        toy.trial(1, 3.5, 0.2002, seed=1, replicate_of=0),
        toy.trial(2, 3.6, 0.3),
    ]
    single = points(toy.run(trials), trials)[1].trial
    assert single.metrics["gain_sem"] == 0.01
    assert single.metrics["base_loss_sem"] == 0.0


def test_the_same_seed_twice_says_nothing_about_the_spread() -> None:
    run = noisy.run([noisy.trial(0, 1.0, 1.0), noisy.trial(1, 2.0, 2.0, replicate_of=0)])
    (point,) = points(run, run.trials)
    assert [trial.number for trial in point.every] == [0]
    assert "a_sem" not in point.trial.metrics


def test_confirmations_stand_apart_from_the_seeds_that_led_to_the_choice() -> None:
    run = noisy.run(
        [
            noisy.trial(0, 1.0, 1.0),
            noisy.trial(1, 3.0, 3.0, seed=5, replicate_of=0, confirms=True),
        ]
    )
    (point,) = points(run, run.trials)
    assert point.trial.metrics["a"] == 1.0
    assert [trial.number for trial in point.confirmations] == [1]
    assert [trial.number for trial in point.every] == [0, 1]
    (alone,) = points(run, run.trials[1:])
    assert alone.trial.metrics["a"] == 3.0
    assert [trial.number for trial in alone.every] == [1]


def test_a_replicate_of_a_trial_that_is_not_there_is_a_point_of_its_own() -> None:
    run = noisy.run(
        [noisy.trial(3, 1.0, 1.0, replicate_of=99), noisy.trial(4, 1, 1, replicate_of=4)]
    )
    assert [point.trial.number for point in points(run, run.trials)] == [3, 4]


def test_numbers_are_encoded_by_their_domain_and_words_by_whether_they_differ() -> None:
    settings = [
        {"rate": 0.01, "free": 2, "shape": "cosine", "same": 1.0, "off": None},
        {"rate": 0.1, "free": 4, "shape": "linear", "same": 1.0, "off": 0.5},
        {"rate": 1.0, "free": 6, "shape": "cosine", "same": 1.0},
    ]
    trials = [noisy.trial(n, 1.0, 1.0, params=params) for n, params in enumerate(settings)]
    space = {"rate": Float(low=0.01, high=1.0, log=True)}
    run = toy.run(trials, goals=noisy.GOALS, space=space)
    rate, free, shape, off = encoded(run, points(run, trials))
    np.testing.assert_allclose(rate, [[0], [0.5], [1]])
    np.testing.assert_allclose(free, [[0], [0.5], [1]])
    apart = ((shape[:, None] - shape[None]) ** 2).sum(-1)
    np.testing.assert_allclose(apart, [[0, 1, 0], [1, 0, 1], [0, 1, 0]])
    assert off.shape == (3, 2)


def test_zero_on_a_log_axis_leaves_the_others_where_they_are() -> None:
    decays = (0.0, 0.01, 0.1, 1.0)
    trials = [noisy.trial(n, 1.0, 1.0, params={"decay": v}) for n, v in enumerate(decays)]
    space = {"decay": Float(low=0.01, high=1.0, log=True)}
    run = toy.run(trials, goals=noisy.GOALS, space=space)
    (decay,) = encoded(run, points(run, trials))
    np.testing.assert_allclose(decay, [[-0.25], [0], [0.5], [1]])
    below = toy.run(trials, goals=noisy.GOALS, space={"decay": Float(low=0.1, high=10.0, log=True)})
    (decay,) = encoded(below, points(below, trials))
    np.testing.assert_allclose(decay, [[-0.75], [-0.5], [0], [0.5]])


def test_points_at_zero_and_at_little_decay_are_told_apart_by_their_repetitions() -> None:
    """A tenth of a nat between them, at noise of a hundredth."""
    draw = np.random.default_rng(0)
    losses = {0.0: 3.1, 0.01: 3.0, 0.1: 3.05, 1.0: 3.3}
    trials = [
        noisy.trial(4 * seed + n, y + draw.normal(0, 0.01), y + draw.normal(0, 0.01),
                    params={"decay": decay}, seed=seed, point=str(decay))
        for seed in range(2)
        for n, (decay, y) in enumerate(losses.items())
    ]  # fmt: skip
    space = {"decay": Float(low=0.01, high=1.0, log=True)}
    run = toy.run(trials, goals=noisy.GOALS, space=space)
    membership = front(run).membership
    assert membership[1] > 0.95
    assert membership[0] < 0.05
