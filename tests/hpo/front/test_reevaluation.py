"""Which trial deserves another seed."""

from __future__ import annotations

import pytest

from hpo.front import reevaluation
from hpo.front.reevaluation import next_replicate
from tests.hpo import noisy


def test_of_many_points_the_fronts_come_in_turn_without_a_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reevaluation, "MOST_MODELLED", 5)
    monkeypatch.setattr(reevaluation, "front", lambda run: pytest.fail("a model was fitted"))
    trials = [noisy.trial(n, float(n), float(6 - n)) for n in range(6)]
    trials += [noisy.trial(6, 9.0, 9.0), noisy.trial(7, 0.0, 6.0, seed=1, replicate_of=0)]
    assert next_replicate(noisy.run(trials)) == 1
    running = noisy.trial(8, 1.0, 5.0, seed=1, replicate_of=1, state="running")
    assert next_replicate(noisy.run([*trials, running])) == 2
