"""What each part of the search adds on a stand-in for text, by leaving it out.

`tests/bench/textlike.py` gives results and costs by formulas, so that ten seeds take minutes. Every
way has the seconds of 15 full trials, two at a time, where pretraining to fine-tuning is 1 : 1
(the quickstart, measured), 3 : 1 and 10 : 1. What the true values of the observed front dominate,
over the exact front's volume, at 25, 50, 75 and 100 % of the seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import optuna

from hpo.controller import Controller
from hpo.core.history import History
from hpo.core.spec import StudySpec
from hpo.front import losses
from hpo.numerics import pareto
from hpo.search import candidates, rungs
from hpo.search.candidates import Candidate, Ranking
from tests.bench import figures, textlike
from tests.bench.figures import Figure, Options

SEEDS, TRIALS, QUICK_TRIALS = 10, 15, 5


SHARES = (0.25, 0.5, 0.75, 1.0)


RUNGS = (1 / 9, 1 / 3, 1.0)


FINETUNING = {"1_to_1": 1.0, "3_to_1": 1 / 3, "10_to_1": 0.1}
"""Seconds of fine-tuning and scoring where pretraining takes 1."""


WAYS: dict[str, dict[str, object]] = {
    "as_it_comes": {},
    "without_rungs": {"rungs": (1.0,)},
    "random": {"rungs": (1.0,), "sampler": "random"},
    "rungs": {"rungs": RUNGS},
    "rungs_in_tokens": {"rungs": RUNGS, "prices": "tokens"},
    "rungs_always_fine_tuned": {"rungs": RUNGS, "finetune_at_rungs": "always"},
}


def run(options: Options) -> dict[str, Figure]:
    """All ways, and the parts left out of the search with the rungs given."""
    count = options.repeats or (1 if options.quick else SEEDS)
    seeds = range(options.first_seed, options.first_seed + count)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found: dict[str, Figure] = {}
    costs = list(FINETUNING)[: 1 if options.quick else None]
    for name in options.picked([*WAYS, *LEFT_OUT]):
        for cost in costs:
            options.say(f"{cost}, {name}")
            with LEFT_OUT.get(name, contextlib.nullcontext)():
                ways = WAYS.get(name, WAYS["rungs"])
                rows = [_volumes(FINETUNING[cost], seed, options.quick, ways) for seed in seeds]
            for place, share in enumerate(SHARES):
                values = [row[place] for row in rows]
                found[f"{cost}.{name}.at_{100 * share:.0f}"] = figures.mean_of(values, "of best")
    return found


def _volumes(finetuning: float, seed: int, quick: bool, ways: dict[str, Any]) -> list[float]:
    trials = QUICK_TRIALS if quick else TRIALS
    spec = textlike.study(finetuning, seed, trials * (1 + finetuning), **ways)
    controller = Controller(spec, "sqlite://")
    controller.run()
    return [observed(spec, controller.record.history, share) for share in SHARES]


def observed(spec: StudySpec, history: History, share: float) -> float:
    """Of what is non-dominated as observed within a share of the budget."""
    assert spec.budget_s is not None
    answers = sorted(
        ((answer, trial) for trial in history.trials for answer in trial.answers),
        key=lambda pair: pair[0].order,
    )
    spent = np.cumsum([answer.cost["time_s"] for answer, _ in answers])
    done = [
        trial
        for (answer, trial), at in zip(answers, spent, strict=True)
        if at <= share * spec.budget_s + 1e-9 and answer.fidelity == 1
    ]
    if not done:
        return 0.0
    rows = pareto.non_dominated(losses.losses(done, spec.goals))
    return textlike.share_of_best([t.params for t, on in zip(done, rows, strict=True) if on])


@contextlib.contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def _without_jumps() -> Iterator[None]:
    """New points and waiting trials at the next rung only."""
    new, waiting = Ranking._new, Ranking._waiting

    def next_only(self: Ranking) -> list[Candidate]:
        found = waiting(self)
        least = {id(c.trial): min(o.asked["fidelity"] for o in found if o.trial is c.trial)
                 for c in found}  # fmt: skip
        return [c for c in found if c.asked["fidelity"] == least[id(c.trial)]]

    with (
        _replaced(Ranking, "_new", lambda self, rng: new(self, rng)[:1]),
        _replaced(Ranking, "_waiting", next_only),
    ):
        yield


def _showing_all() -> contextlib.AbstractContextManager[None]:
    """A whole result at a rung is taken to show everything, a base alone its part of that."""
    shares = Ranking._shown

    def relative(self: Ranking, *given: Any) -> tuple[float, float]:
        every, early = shares(self, *given)
        return 1.0, early / max(every, 1e-12)

    return _replaced(Ranking, "_shown", relative)


LEFT_OUT: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
    "rungs_without_jumps": _without_jumps,
    "rungs_taken_to_show_all": _showing_all,
    "rungs_without_exploring": lambda: _replaced(candidates, "EXPLORE_BELOW", 0.0),
    "rungs_without_a_whole_third": lambda: _replaced(candidates, "WHOLE_LEAST", 0.0),
    "rungs_without_a_first_in_full": lambda: _replaced(candidates, "FIRST_FULL_AFTER", 10**9),
    "rungs_started_low": lambda: _replaced(
        rungs, "first_fidelity", lambda spec, *given: spec.fidelities[0]
    ),
}
