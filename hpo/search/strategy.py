"""What to ask next: begin a trial, go on with one, or repeat one at another seed.

A decision is a function of the study, the trial's number and the history as it was then, so a
resumed study decides what the uninterrupted one would have, and any trial can be proposed again
(`propose_again`). The order of things:

1. Baselines and grid, in full.
2. A scrambled Sobol sequence at the lowest rung, without points that were asked for before; where
   there are priors, every other point is drawn from them, and the front of an earlier study comes
   first.
3. A share of repetitions at other seeds, where it is asked for and the front is undecided.
4. With the sampler "gp", what promises most hypervolume for its cost: a new point, a waiting
   trial's next rung, or a branch of a trial (hpo/search/candidates.py), of its base alone where
   fine-tuning would not pay; a point that was measured in full is repeated at another seed instead.
   With others, a trial that is among the better part of its rung
   (hpo/search/successive_halving.py), else a new point by Optuna's sampler
   (hpo/search/optuna_samplers.py).
5. When all trials are begun, waiting ones go on while they are in the better part of their rung.

What a `Searcher` keeps between decisions only saves time.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from hpo.core.domains import inside
from hpo.core.history import Begin, Continue, Decision, History
from hpo.core.objective import Value
from hpo.core.spec import StudySpec
from hpo.core.trial import Ask, Kind, Run, Trial
from hpo.front import front
from hpo.search import (
    candidates,
    cost_model,
    optuna_samplers,
    preflight,
    rungs,
    successive_halving,
    training_data,
)
from hpo.search.candidates import Ranking
from hpo.search.initial_design import start_point, start_up
from hpo.search.model import SurrogateModel

START_UP_TRIES = 64
"""Points of the start-up sequence that are looked at for one that is new; assumed."""


class Searcher:
    """Decides; remembers what it has computed.

    Raises ValueError, when it is made, if the sampler needs a package that is not installed.
    """

    def __init__(self, spec: StudySpec, next_replicate: Callable[[Run], int | None]) -> None:
        optuna_samplers.check(spec.sampler)
        self.spec, self.next_replicate = spec, next_replicate
        self.data = training_data.TrainingData(spec)

    @functools.cached_property
    def varied(self) -> list[int]:
        """Indices of the parameters by which branches differ from their trial."""
        return candidates.branch_params(self.spec)

    @functools.cached_property
    def usable(self) -> Callable[[float], bool]:
        """Whether trials can be measured at a rung that nobody asked for; looked at once."""
        return functools.cache(lambda rung: preflight.usable(self.spec, rung))

    def decide(self, history: History) -> Decision | None:
        """The next question; None while there is none, or for good if nothing is under way."""
        number = len(history.trials)
        if number - history.kinds["confirmation"] < self.spec.trials:
            if history.kinds["planned"] < len(self.spec.planned):
                return self._planned(number, history.kinds["planned"])
            repeated = self._repeat(history)
            if repeated is not None:
                return repeated
            return self.next_point(history, number, history.kinds["proposed"])
        return self._promoted(history) or self._confirm(history)

    def _planned(self, number: int, index: int) -> Begin:
        planned = self.spec.planned[index]
        values = {**planned_values(self.spec, index), **planned.point.params}
        seed = self.spec.seed + planned.replicate
        return Begin(number, values, seed, 1.0, "planned", planned=index)

    def _repeat(self, history: History) -> Begin | None:
        """A repetition, where its share of the training is not used up and one is wanted."""
        if not self.spec.replicate_share:
            return None
        price = cost_model.learnt(history.trials, self.spec.currency)
        spent = [(trial.kind, price.asked(trial.asks)) for trial in history.trials]
        repeated = sum(cost for kind, cost in spent if kind == "replicate") + price.whole
        total = sum(cost for kind, cost in spent if kind != "confirmation") + price.whole
        if repeated > self.spec.replicate_share * total * (1 + 1e-9):
            return None
        wanted = self.next_replicate(Run.of(self.spec, history.trials))
        return None if wanted is None else self._again(history, wanted, "replicate")

    def _again(self, history: History, number: int, kind: Kind) -> Begin:
        """The trial at the first seed at which these params were not asked for."""
        params = dict(history.trials[number].params)
        used = {trial.seed for trial in history.trials if dict(trial.params) == params}
        seed = next(
            s for s in range(self.spec.seed, self.spec.seed + len(used) + 1) if s not in used
        )
        return Begin(len(history.trials), params, seed, 1.0, kind, number)

    def _confirm(self, history: History) -> Begin | None:
        """The front at fresh seeds, when nothing else is left to do."""
        if not self.spec.confirm:
            return None
        found = [trial for trial in history.trials if not trial.confirms]
        if any(trial.in_flight for trial in found):
            return None
        done = Counter(trial.replicate_of for trial in history.trials if trial.confirms)
        for number in reported(self.spec, found):
            if done[number] < self.spec.confirm:
                return self._again(history, number, "confirmation")
        return None

    def next_point(self, history: History, number: int, index: int) -> Decision:
        """A new point as trial `number`, the index-th of the search, or a waiting trial."""
        spec = self.spec
        if not spec.space:
            return self._begin(history, number, {})
        started = index >= start_up(spec) or spec.sampler in ("nsga2", "random")
        if not started:
            new = self._start(history, number, index)
            if new is not None:
                return new
        if spec.sampler == "gp":
            known = self.data.fit(history)
            if known is not None:
                return self._best(history, number, known)
            # All that was measured failed or is outside, or the space is used up.
            return self._start(history, number, index) or self._least_repeated(history)
        promoted = self._promoted(history)
        if promoted is not None:
            return promoted
        asked = optuna_samplers.ask(spec, trial_seed(spec, number), history.trials)
        return self._new(history, self._begin(history, number, asked))

    def _begin(self, history: History, number: int, values: dict[str, Value]) -> Begin:
        fidelity = rungs.first_fidelity(self.spec, history.trials, self.usable)
        return Begin(number, values, self.spec.seed, fidelity)

    def _start(self, history: History, number: int, index: int) -> Begin | None:
        """The next start-up point that was not asked for at this seed; None if there is none.

        In a small discrete space points recur, and the same params at the same seed would count as
        two points with independent errors.
        """
        asked = [dict(e.params) for e in history.trials if e.seed == self.spec.seed]
        for offset in range(START_UP_TRIES):
            values = start_point(self.spec, index + offset)
            if values not in asked:
                return self._begin(history, number, values)
        return None

    def _least_repeated(self, history: History) -> Begin:
        """A further seed of the params that have the fewest, trials outside the space left out."""
        trials = [e for e in history.trials if inside(self.spec.space, e.params)]
        params = [tuple(e.params.items()) for e in trials]
        fewest = min(range(len(trials)), key=lambda index: params.count(params[index]))
        return self._again(history, trials[fewest].number, "replicate")

    def _best(self, history: History, number: int, known: SurrogateModel) -> Decision:
        """What promises most for its cost."""
        ranking = Ranking(self.spec, self.data, known, history, self.usable)
        found = ranking.best(number, self.varied)
        decided = candidates.decision(found, number)
        return self._new(history, decided, ranking) if isinstance(decided, Begin) else decided

    def _new(self, history: History, new: Begin, ranking: Ranking | None = None) -> Decision:
        """A new point; where the sampler asks for one a second time, what tells more of it.

        The same seed would only give the same result again, and the model take it for a second
        opinion; what failed would fail again.
        """
        same = [trial for trial in history.trials if dict(trial.params) == new.params]
        for trial in same:
            if trial.waiting:
                at = self.spec.fidelities.index(trial.answers[-1].fidelity)
                fidelity = self.spec.fidelities[at + 1]
                alone = ranking is not None and ranking.base_only(trial, fidelity)
                return Continue(trial.number, fidelity, alone)
        for trial in same:
            if trial.in_flight or trial.state == "complete":
                return self._again(history, trial.number, "replicate")
        if not any(trial.state == "failed" and trial.seed == new.seed for trial in same):
            return new  # also where it was stopped at a rung: a stopped trial cannot go on
        other = self._start(history, new.number, history.kinds["proposed"])
        return other or self._least_repeated(history)

    def _promoted(self, history: History) -> Continue | None:
        """A waiting trial among the better part of its rung, whatever the rest would give.

        Goals that a base alone does not give are set to what the model expects of them.
        """
        trials = history.trials
        partly = any(answer.base_only for trial in trials for answer in trial.answers)
        known = self.data.fit(history) if partly else None
        if known is not None:
            trials = self.data.estimated(trials, known)
        for trial, fidelity in successive_halving.promotable(self.spec, trials):
            if known is None:
                return Continue(trial.number, fidelity)
            ranking = Ranking(self.spec, self.data, known, history, self.usable)
            return Continue(trial.number, fidelity, ranking.base_only(trial, fidelity))
        return None


def propose_again(
    spec: StudySpec, history: History, ask: Ask, next_replicate: Callable[[Run], int | None]
) -> Decision | None:
    """The decision that led to a question, made again from what was known then."""
    return Searcher(spec, next_replicate).decide(history.as_of(ask))


def propose(spec: StudySpec, number: int, trials: Sequence[Trial]) -> dict[str, Value]:
    """Values for the space's paths in trial `number` of a study without rungs, after these trials.

    Raises:
        ValueError: the sampler needs a package that is not installed.
    """
    if number < len(spec.planned):
        return planned_values(spec, number)
    search = Searcher(spec, lambda run: None)
    decided = search.next_point(History(list(trials)), number, number - len(spec.planned))
    assert isinstance(decided, Begin)
    return decided.params


def trial_seed(spec: StudySpec, number: int) -> int:
    """A stream for every trial of every study: no two share one."""
    return int(np.random.SeedSequence([spec.seed, number]).generate_state(1)[0])


def planned_values(spec: StudySpec, index: int) -> dict[str, Value]:
    """The value of a planned trial at every path of the space."""
    params = spec.planned[index].point.params
    defaults = spec.objective.values()
    return {path: params.get(path, defaults.get(path)) for path in spec.space}


def reported(spec: StudySpec, trials: Sequence[Trial]) -> list[int]:
    """Numbers of the front's trials."""
    return [trial.number for trial in front.front(Run.of(spec, trials)).trials]
