"""The ledger: what it counts as trials are put is what a sum over its entries gives."""

from __future__ import annotations

import dataclasses
import random

import pytest

from hpo.core.history import History
from hpo.core.trial import Answer, Ask, Trial

FIDELITIES = (1 / 9, 1 / 3, 1.0)


KINDS = ("planned", "searched", "repeated", "confirms")


def walk(seed: int, steps: int = 120) -> list[History]:
    """A study's ledger that grows by questions, answers and ends; as it is, and made again."""
    drawn, grown, wave = random.Random(seed), History(), -1
    for _ in range(steps):
        open_ = [entry for entry in grown.trials if not entry.ended]
        entry = drawn.choice(open_) if open_ and drawn.random() < 0.7 else None
        if entry is None:
            number = len(grown.trials)
            wave += drawn.random() < 0.4 or wave < 0
            asks = (Ask(wave, number, FIDELITIES[0], grown.num_answers),)
            kind = drawn.choice(KINDS)
            grown.put(Trial(number=number, params={}, seed=0, asks=asks, kind=kind))
        elif entry.in_flight:
            cost = {"time_s": drawn.random(), "peak_memory_gib": drawn.random()}
            answer = Answer(entry.asks[-1].fidelity, grown.num_answers, {}, cost)
            ended = drawn.choice([None, "complete", "failed"])
            put = dataclasses.replace(entry, answers=(*entry.answers, answer), ended=ended)
            grown.put(put)
        elif entry.waiting and drawn.random() < 0.3:
            grown.put(dataclasses.replace(entry, state="pruned", stopped_at=wave + 1))
        else:
            wave += 1
            again = Ask(wave, 0, drawn.choice(FIDELITIES), grown.num_answers)
            grown.put(dataclasses.replace(entry, asks=(*entry.asks, again)))
    return [grown, History(list(grown.trials))]


@pytest.mark.parametrize("seed", range(8))
def test_what_is_counted_is_what_a_sum_over_the_entries_gives(seed: int) -> None:
    for ledger in walk(seed):
        entries = ledger.trials
        asks = [ask for entry in entries for ask in entry.asks]
        assert ledger.num_answers == sum(len(entry.answers) for entry in entries)
        assert ledger.num_ended == sum(entry.ended for entry in entries)
        assert ledger.in_flight == {entry.number for entry in entries if entry.in_flight}
        for kind in KINDS:
            assert ledger.kinds[kind] == sum(entry.kind == kind for entry in entries)
        assert ledger.last_wave() == max(ask.wave for ask in asks)
        for wave in range(-1, ledger.last_wave() + 2):
            assert ledger.asked_in(wave) == sorted(ask for ask in asks if ask.wave == wave)
            flying = [(e.asks[-1], e.number) for e in entries if e.in_flight]
            expected = [number for ask, number in sorted(flying) if ask.wave == wave]
            assert ledger.in_flight(wave) == expected


def test_a_question_once_put_stays() -> None:
    ledger = History()
    ledger.put(Trial(number=0, params={}, seed=0, asks=(Ask(0, 0, 1.0, 0),)))
    with pytest.raises(AssertionError):
        ledger.put(Trial(number=0, params={}, seed=0))
