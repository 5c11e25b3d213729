"""The history: what it counts as trials are put is what a sum over them gives."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from hpo.core.history import History
from hpo.core.trial import Answer, Ask, Kind, Trial

FIDELITIES = (1 / 9, 1 / 3, 1.0)


KINDS: dict[Kind, dict[str, Any]] = {
    "planned": {"point": "one", "replicate_of": 0},
    "proposed": {},
    "replicate": {"replicate_of": 0},
    "confirmation": {"point": "one", "replicate_of": 0, "confirms": True},
}
"""Kind -> what a trial of it has."""


def walk(seed: int, steps: int = 120) -> list[History]:
    """A study's history that grows by questions, answers and ends; as it is, and made again."""
    drawn, grown, wave = random.Random(seed), History(), -1
    for _ in range(steps):
        open_ = [trial for trial in grown.trials if not trial.ended]
        trial = drawn.choice(open_) if open_ and drawn.random() < 0.7 else None
        if trial is None:
            number = len(grown.trials)
            wave += drawn.random() < 0.4 or wave < 0
            asks = (Ask(wave, number, FIDELITIES[0], grown.num_answers),)
            fields = drawn.choice(list(KINDS.values()))
            grown.put(Trial(number=number, params={}, asks=asks, **fields))
        elif trial.in_flight:
            cost = {"time_s": drawn.random(), "peak_memory_gib": drawn.random()}
            answer = Answer(trial.asks[-1].fidelity, grown.num_answers, {}, cost)
            state = drawn.choice(["running", "complete", "failed"])
            put = dataclasses.replace(trial, answers=(*trial.answers, answer), state=state)
            grown.put(put)
        elif trial.waiting and drawn.random() < 0.3:
            grown.put(dataclasses.replace(trial, state="pruned", stopped_at=wave + 1))
        else:
            wave += 1
            again = Ask(wave, 0, drawn.choice(FIDELITIES), grown.num_answers)
            grown.put(dataclasses.replace(trial, asks=(*trial.asks, again)))
    return [grown, History(list(grown.trials))]


@pytest.mark.parametrize("seed", range(8))
def test_what_is_counted_is_what_a_sum_over_the_trials_gives(seed: int) -> None:
    for history in walk(seed):
        trials = history.trials
        asks = [ask for trial in trials for ask in trial.asks]
        assert history.num_answers == sum(len(trial.answers) for trial in trials)
        assert history.num_ended == sum(trial.ended for trial in trials)
        assert history.in_flight == {trial.number for trial in trials if trial.in_flight}
        for kind in KINDS:
            assert history.kinds[kind] == sum(trial.kind == kind for trial in trials)
        assert history.last_wave() == max(ask.wave for ask in asks)
        for wave in range(-1, history.last_wave() + 2):
            assert history.asked_in(wave) == sorted(ask for ask in asks if ask.wave == wave)
            unanswered = [(e.asks[-1], e.number) for e in trials if e.in_flight]
            expected = [number for ask, number in sorted(unanswered) if ask.wave == wave]
            assert history.unanswered_in(wave) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_has_the_kind_that_its_fields_tell(kind: Kind) -> None:
    assert Trial(number=1, params={}, **KINDS[kind]).kind == kind


def test_a_question_once_put_stays() -> None:
    history = History()
    history.put(Trial(number=0, params={}, seed=0, asks=(Ask(0, 0, 1.0, 0),)))
    with pytest.raises(AssertionError):
        history.put(Trial(number=0, params={}, seed=0))
