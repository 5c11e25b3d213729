"""Rungs: the better part goes on, what is stopped is kept, and no kill changes a decision."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from hpo.controller import Controller
from hpo.core import history
from hpo.core.goals import Goal, Limit
from hpo.core.history import Begin, Continue, History
from hpo.core.objective import Event, Request
from hpo.core.spec import StudySpec
from hpo.core.trial import Answer, Ask, Run, Trial
from hpo.front.front import front
from hpo.search import candidates, strategy, successive_halving
from hpo.storage.record import load_study, read_run, url_of
from hpo.storage.trials import read_history
from tests.bench.search_problems import Analytic, Measured
from tests.hpo.cutting import cut_off_after
from tests.hpo.toy_objective import explode

GOALS = (Goal(metric="first", direction="down"), Goal(metric="second", direction="down"))


RUNGS = (1 / 9, 1 / 3, 1.0)


def study(**fields: Any) -> StudySpec:
    """Waves of three over three rungs of an analytic problem."""
    objective = Analytic(name="branin-currin")
    defaults: dict[str, Any] = {
        "name": "toy",
        "objective": objective,
        "space": {f"x{place}": domain for place, domain in enumerate(_space(objective))},
        "goals": GOALS,
        "trials": 14,
        "wave": 3,
        "rungs": RUNGS,
        "replicate_share": 0.0,
    }
    return StudySpec(**(defaults | fields))


def _space(objective: Analytic) -> list[Any]:
    from tests.bench.search_problems import PROBLEMS

    return list(PROBLEMS[objective.name].space.values())


def entry(number: int, values: Sequence[float], rung: int = 0, **fields: Any) -> Trial:
    """A trial with these losses at this rung and all below."""
    metrics = dict(zip(("first", "second"), values, strict=True))
    steps = range(rung + 1)
    defaults: dict[str, Any] = {
        "params": {"x0": 0.5, "x1": 0.5},
        "seed": 0,
        "asks": tuple(Ask(number, index, RUNGS[index], 0) for index in steps),
        "answers": tuple(Answer(RUNGS[index], number, metrics) for index in steps),
    }
    return Trial(number=number, **(defaults | fields))


def test_the_better_third_of_a_rung_goes_on_by_rank_and_then_by_crowding() -> None:
    values = [(0.0, 9.0), (9.0, 0.0), (4.0, 4.0), (4.1, 3.9), (9.0, 9.0), (9.5, 9.5)]
    entries = [entry(number, each) for number, each in enumerate(values)]
    found = successive_halving.promotable(study(), entries)
    assert [(each.number, fidelity) for each, fidelity in found] == [(0, 1 / 3), (1, 1 / 3)]
    order = successive_halving.ranked(study(), [(each, each.answers[0]) for each in entries])
    assert [each.number for each in order] == [0, 1, 2, 3, 4, 5]


def test_who_has_gone_on_takes_a_place_and_the_higher_rung_comes_first() -> None:
    entries = [entry(n, (float(n), float(n)), rung=1 if n < 3 else 0) for n in range(12)]
    found = successive_halving.promotable(study(), entries)
    assert [(each.number, fidelity) for each, fidelity in found] == [(0, 1.0), (3, 1 / 3)]


def test_a_trial_outside_the_limits_ranks_behind_all_within() -> None:
    spec = study(limits=(Limit(metric="first", low=2.0),))
    entries = [entry(0, (1.0, 1.0)), entry(1, (5.0, 5.0)), entry(2, (6.0, 6.0))]
    assert [each.number for each, _ in successive_halving.promotable(spec, entries)] == [1]


def test_failed_planned_and_repeated_trials_are_no_peers() -> None:
    good = [entry(number, (1.0, 1.0)) for number in range(2)]
    others = [
        entry(2, (0.0, 0.0), state="failed"),
        entry(3, (0.0, 0.0), point="planned"),
        entry(4, (0.0, 0.0), replicate_of=0),
    ]
    assert successive_halving.promotable(study(), [*good, *others]) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0.0, 2.0], [1.0, 1.0], [2.0, 0.0]], [math.inf, 2.0, math.inf]),
        ([[0.0, 4.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0]], [math.inf, 1.5, 1.25, math.inf]),
        ([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]], [math.inf, 0.0, math.inf]),
    ],
)
def test_crowding_is_the_sum_of_gaps_over_spans(
    values: list[list[float]], expected: list[float]
) -> None:
    assert successive_halving.crowding(np.array(values)).tolist() == expected


@pytest.fixture(scope="module")
def undisturbed() -> Run:
    return Controller(study(sampler="random"), "sqlite://").run()


def test_what_is_stopped_is_pruned_with_all_it_measured(tmp_path: Path) -> None:
    run = Controller(study(sampler="random"), url_of(tmp_path)).run()
    states = [trial.state for trial in run.trials]
    assert set(states) == {"complete", "pruned"}
    assert len(states) == 14
    for trial in run.trials:
        passed = [rung.fidelity for rung in trial.rungs] + [trial.fidelity]
        assert passed == list(RUNGS[: len(passed)])
        assert trial.cost["time_s"] == pytest.approx(trial.fidelity)
        assert (trial.fidelity == 1) is (trial.state == "complete")
        measured = Analytic(name="branin-currin").measure(trial.params, trial.fidelity, 0)
        assert trial.metrics == measured.metrics
    frozen = optuna.load_study(study_name="toy", storage=url_of(tmp_path)).trials
    assert all(not each.intermediate_values for each in frozen)
    assert {front(run).standings[t.number] for t in run.trials if t.state == "pruned"} == {"pruned"}


def test_successive_halving_keeps_its_shares(undisturbed: Run) -> None:
    reached = [trial.fidelity for trial in undisturbed.trials]
    assert sum(fidelity >= 1 / 3 for fidelity in reached) == 14 // 3
    assert sum(fidelity == 1 for fidelity in reached) == 14 // 9


@pytest.mark.parametrize("writes", range(0, 330, 23))
def test_a_study_with_rungs_stopped_at_a_write_goes_on_with_the_same_decisions(
    writes: int, tmp_path: Path, undisturbed: Run
) -> None:
    with cut_off_after(writes):
        Controller(study(sampler="random"), url_of(tmp_path)).run()
    run = Controller(study(sampler="random"), url_of(tmp_path)).run()
    assert _decisions(run) == _decisions(undisturbed)


def _decisions(run: Run) -> list[Any]:
    """All but costs: a resumed objective of this test has forgotten what it had measured."""
    return [(t.params, t.state, t.metrics, [(r.fidelity, r.metrics) for r in t.rungs])
            for t in run.trials]  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Breaks(Analytic):
    """Breaks down in the batch that goes on with a trial for the n-th time."""

    at: int
    count: list[int] = dataclasses.field(default_factory=lambda: [0])

    def evaluate(self, requests: Sequence[Request], on_event: Any = None) -> list[Measured]:
        if any(request["fidelity"] > 0.2 for request in requests):
            self.count[0] += 1
            if self.count[0] == self.at:
                explode()
        return super().evaluate(requests, on_event)


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_a_model_with_rungs_resumes_to_the_same_trials(
    sampler: str, at: int, tmp_path: Path
) -> None:
    whole = Controller(study(sampler=sampler), "sqlite://").run()
    broken = study(sampler=sampler, objective=Breaks(name="branin-currin", at=at))
    with pytest.raises(RuntimeError, match="caught fire"):
        Controller(broken, url_of(tmp_path)).run()
    left = read_run(load_study(url_of(tmp_path), "toy"))
    assert "running" in {trial.state for trial in left.trials}
    assert _decisions(Controller(broken, url_of(tmp_path)).run()) == _decisions(whole)


@pytest.mark.parametrize("sampler", ["gp", "tpe", "nsga2"])
def test_any_trial_can_be_proposed_again_from_what_was_seen(sampler: str, tmp_path: Path) -> None:
    spec = study(sampler=sampler)
    Controller(spec, url_of(tmp_path)).run()
    known = read_history(load_study(url_of(tmp_path), "toy").trials, spec)
    for each in known.trials:
        for place, ask in enumerate(each.asks):
            decided = strategy.propose_again(spec, known, ask, lambda run: None)
            assert isinstance(decided, Continue if place else Begin)
            assert (decided.number, decided.fidelity) == (each.number, ask.fidelity)
            if isinstance(decided, Begin):
                assert decided.params == each.params


def test_baselines_are_measured_in_full_at_once() -> None:
    from hpo.core.spec import Baseline

    run = Controller(study(baselines=(Baseline(name="middle", params={}),)), "sqlite://").run()
    assert (run.trials[0].fidelity, run.trials[0].rungs) == (1.0, ())


class Side:
    """Two slots: batches are answered in pairs, the later one first."""

    slots = 2

    def __init__(self, objective: Analytic) -> None:
        self.objective = objective
        self.held: list[tuple[Future[Any], Sequence[Request]]] = []
        self.most = 0

    def submit(self, requests: Sequence[Request], on_event: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.held.append((future, requests))
        self.most = max(self.most, len(self.held))
        if len(self.held) == self.slots or len(requests) < 3:
            for each, asked in reversed(self.held):
                each.set_result(self.objective.evaluate(asked))
            self.held.clear()
        return future

    def close(self) -> None:
        """Nothing runs."""


def test_batches_side_by_side_leave_no_trial_behind_and_can_be_proposed_again(
    tmp_path: Path,
) -> None:
    spec = study(sampler="random", trials=15)
    executor = Side(Analytic(name="branin-currin"))
    run = Controller(spec, url_of(tmp_path), executor).run()
    assert executor.most == 2
    assert {trial.state for trial in run.trials} == {"complete", "pruned"}
    known = read_history(load_study(url_of(tmp_path), "toy").trials, spec)
    assert [each.asks for each in known.as_of(Ask(99, 0, 1.0, 999)).trials] == [
        each.asks for each in known.trials
    ]
    for each in known.trials:
        for ask in each.asks:
            decided = strategy.propose_again(spec, known, ask, lambda run: None)
            assert decided is not None
            assert decided.number == each.number


def test_events_name_what_goes_on() -> None:
    events: list[Event] = []
    Controller(study(sampler="random", trials=9), "sqlite://").run(events.append)
    waves = [event["wave"] for event in events if "wave" in event]
    assert sorted(number for wave in waves for number in wave) == sorted(
        number for event in events if "recorded" in event for number in event["recorded"]
    )
    assert len({number for wave in waves for number in wave}) == 9
    assert sum(len(wave) for wave in waves) > 9


@pytest.mark.parametrize("bad", [(), (0.5,), (0.5, 0.25, 1.0), (0.0, 1.0), (0.5, 0.5, 1.0)])
def test_rungs_rise_to_one(bad: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="rising shares"):
        study(rungs=bad)


def test_an_empty_ledger_begins_with_wave_zero() -> None:
    assert History().last_wave() == -1
    assert History().asked_in(-1) == []


def test_a_point_asked_for_a_second_time_is_looked_at_where_that_tells_more() -> None:
    values = {"x0": 0.25, "x1": 0.75}
    some = entry(0, (0.0, 1.0), params={"x0": 0.5, "x1": 0.5})
    searcher = strategy.Searcher(study(), lambda run: None)

    def decided(second: Trial) -> history.Decision:
        return searcher._new(History([some, second]), Begin(2, dict(values), 0, RUNGS[0]))

    assert decided(entry(1, (0.0, 1.0), params=values)) == Continue(1, 1 / 3)
    full = entry(1, (0.0, 1.0), rung=2, params=values, state="complete")
    assert decided(full) == Begin(2, values, 1, 1.0, "replicate", 1)
    stopped = entry(1, (0.0, 1.0), params=values, state="pruned")
    assert decided(stopped) == Begin(2, values, 0, 1 / 9)
    assert decided(entry(1, (0.0, 1.0), params={"x0": 0.25, "x1": 0.5})) == Begin(
        2, values, 0, 1 / 9
    )


def test_repetitions_take_their_share_of_the_training_not_of_the_trials() -> None:
    """At 1/9 of a full trial each, nine short trials are what one repetition is."""

    def asked(share: float, cheap: int) -> history.Decision | None:
        entries = [entry(n, (0.0, 1.0), params={"x0": n / 100, "x1": 0.5}) for n in range(cheap)]
        entries.append(entry(cheap, (0.0, 1.0), rung=2, state="complete"))
        searcher = strategy.Searcher(study(replicate_share=share), lambda run: cheap)
        return searcher._repeat(History(entries))

    assert asked(0.25, 17) is None
    found = asked(0.25, 18)
    assert isinstance(found, Begin)
    assert (found.kind, found.replicate_of, found.fidelity) == ("replicate", 18, 1.0)
    assert asked(0.0, 40) is None


def test_repetitions_take_their_share_of_what_the_training_costs() -> None:
    """Where fine-tuning is four times as expensive as pretraining, three short trials are two
    whole."""

    def asked(cheap: int) -> history.Decision | None:
        entries = [entry(n, (0.0, 1.0), params={"x0": n / 100, "x1": 0.5}) for n in range(cheap)]
        entries.append(entry(cheap, (0.0, 1.0), rung=2, state="complete"))
        entries = [
            dataclasses.replace(each, answers=tuple(
                dataclasses.replace(answer, cost={"tokens": answer.fidelity + 4.0})
                for answer in each.answers
            ))
            for each in entries
        ]  # fmt: skip
        searcher = strategy.Searcher(study(replicate_share=0.25), lambda run: cheap)
        return searcher._repeat(History(entries))

    # whole = 5; spent: cheap (1/9 + 4) + (1 + 3 x 4), of which and of itself 5 is a quarter
    assert asked(0) is None
    assert isinstance(asked(1), Begin)


def test_a_waiting_point_that_is_asked_for_again_goes_on_as_the_market_says() -> None:
    values = {"x0": 0.25, "x1": 0.75}
    entries = [entry(0, (0.0, 1.0), rung=2, state="complete"), entry(1, (0.0, 1.0), params=values)]
    dear = [
        dataclasses.replace(each, answers=tuple(
            dataclasses.replace(answer, cost={"tokens": answer.fidelity + 50.0})
            for answer in each.answers
        ))
        for each in entries
    ]  # fmt: skip
    for found, alone in ((entries, False), (dear, True)):
        ledger = History(found)
        tuned = Analytic(name="branin-currin", finetuning=50.0)
        searcher = strategy.Searcher(study(objective=tuned), lambda run: None)
        known = searcher.data.fit(ledger)
        assert known is not None
        ranking = candidates.Ranking(searcher.spec, searcher.data, known, ledger)
        decided = searcher._new(ledger, Begin(2, dict(values), 0, RUNGS[0]), ranking)
        assert decided == Continue(1, 1 / 3, alone)
