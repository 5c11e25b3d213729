"""Probes against decay and goals, by equality."""

from __future__ import annotations

import math

import pytest

from hpo.analysis import probes
from hpo.core.trial import Run
from tests.hpo import toy

PROBE = "probe.alphas.mean"


def probed(num_trials: int = 6) -> Run:
    """Alpha falls with decay and with the base loss; one probe is the same everywhere."""
    return toy.run(
        [
            toy.trial(
                n,
                3.5 + n / 10,
                0.2,
                metrics={
                    PROBE: 5.0 - n,
                    "probe.spikes.count": 0.0,
                    "probe.separability.grammar.last": 0.5,
                    "forgetting_nats": 1.0 + n,
                },
            )
            for n in range(num_trials)
        ]
    )


def test_measures_are_probes_and_forgetting_without_single_tasks() -> None:
    run = probed()
    assert probes.measures(run) == ["forgetting_nats", PROBE, "probe.spikes.count"]
    assert probes.against(run) == ["pretrain.weight_decay", "base_loss", "gain"]


def test_associations_are_rank_correlations() -> None:
    forgetting, alpha, spikes = probes.associations(probed())
    assert [each.tau for each in alpha[:2]] == pytest.approx([-1, -1])
    assert [each.tau for each in forgetting[:2]] == pytest.approx([1, 1])
    assert alpha[0].p == pytest.approx(2 / math.factorial(6))  # exact: 2 of 6! orders
    assert alpha[0].num_settings == 6
    assert all(math.isnan(each.tau) for each in (*spikes, alpha[2]))


def test_few_trials_are_not_correlated_and_without_probes_there_is_nothing() -> None:
    assert all(math.isnan(each.tau) for row in probes.associations(probed(4)) for each in row)
    assert probes.associations(toy.mixed()) == ()
    assert probes.mechanism_slices(toy.mixed()) == ()


def test_shown_measures_are_sliced_over_decay_and_under_goals() -> None:
    found = probes.mechanism_slices(probed())
    decay, measure = "pretrain.weight_decay", "forgetting_nats"
    assert [(each.x, each.y) for each in found] == [
        (decay, PROBE), (PROBE, "base_loss"), (PROBE, "gain"),
        (decay, measure), (measure, "base_loss"), (measure, "gain"),
    ]  # fmt: skip
    assert found[1].across == (5, 4, 3, 2, 1, 0)
    assert found[1].values == pytest.approx((3.5, 3.6, 3.7, 3.8, 3.9, 4.0))
