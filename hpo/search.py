"""What to ask next: begin a trial, go on with one, or repeat one at another seed.

A decision is a function of the study, the trial's number and the ledger as it was then, so a
resumed study decides what the uninterrupted one would have, and any trial can be proposed again
(`propose_again`). The order of things:

1. Baselines and grid, in full.
2. A scrambled Sobol sequence at the lowest rung; where there are priors, every other point is drawn
   from them, and the front of an earlier study comes first.
3. A share of repetitions at other seeds, where it is asked for and the front is undecided.
4. With the sampler "gp", what promises most hypervolume for its cost: a new point or a waiting
   trial's next rung (hpo/beliefs.py); a point that was measured in full is repeated at another
   seed instead. With others, a trial that is among the better part of its rung (hpo/rungs.py),
   else a new point by Optuna's sampler (hpo/shadow.py).
5. When all trials are begun, waiting ones go on while they are in the better part of their rung.

What a `Searcher` keeps between decisions only saves time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hpo import beliefs, memory, priors, rungs, scoring, shadow
from hpo.beliefs import Beliefs
from hpo.ledger import Answer, Ask, Entry, Ledger, as_run
from hpo.priors import start_point, start_up
from hpo.record import Run, Trial
from hpo.space import Array, Coordinates
from hpo.spec import StudySpec, Value

PRIOR_TRIALS = 10.0
"""A prior multiplies a point's worth by its density to the power of this over the results: strong
at first, gone in the end (the form of Hvarfner et al. 2022, piBO; the number is assumed)."""


@dataclass(frozen=True)
class Begin:
    """Begin a trial."""

    number: int
    params: dict[str, Value]
    seed: int
    fidelity: float
    kind: Literal["planned", "searched", "repeated", "confirms"] = "searched"
    replicate_of: int | None = None


@dataclass(frozen=True)
class Continue:
    """Go on with a trial."""

    number: int
    fidelity: float


Decision = Begin | Continue


class Searcher:
    """Decides; remembers what it has computed.

    Raises ValueError, when it is made, if the sampler needs a package that is not installed.
    """

    def __init__(self, spec: StudySpec, next_replicate: Callable[[Run], int | None]) -> None:
        shadow.check(spec.sampler)
        self.spec, self.next_replicate = spec, next_replicate
        self.coordinates = Coordinates(spec.space)
        self.memory = memory.Memory(spec)

    def decide(self, ledger: Ledger) -> Decision | None:
        """The next question; None while there is none, or for good if nothing is under way."""
        number = len(ledger.entries)
        if number < self.spec.trials:
            if number < len(self.spec.planned):
                return self._planned(number)
            repeated = self._repeat(ledger)
            if repeated is not None:
                return repeated
            return self.next_point(ledger, number, ledger.kinds["searched"])
        for entry, fidelity in rungs.promotable(self.spec, ledger.entries):
            return Continue(entry.number, fidelity)
        return self._confirm(ledger)

    def _planned(self, number: int) -> Begin:
        planned = self.spec.planned[number]
        values = {**planned_values(self.spec, number), **planned.point.params}
        return Begin(number, values, self.spec.seed + planned.replicate, 1.0, "planned")

    def _repeat(self, ledger: Ledger) -> Begin | None:
        """A repetition, where its share of the training is not used up and one is wanted."""
        if not self.spec.replicate_share:
            return None
        asked = sum(entry.asks[-1].fidelity for entry in ledger.entries if entry.asks)
        if ledger.kinds["repeated"] + 1 > self.spec.replicate_share * (asked + 1):
            return None
        wanted = self.next_replicate(as_run(self.spec, ledger.entries))
        return None if wanted is None else self._again(ledger, wanted, "repeated")

    def _again(self, ledger: Ledger, number: int, kind: Literal["repeated", "confirms"]) -> Begin:
        """The trial at the first seed at which these params were not asked for."""
        params = dict(ledger.entries[number].params)
        used = {entry.seed for entry in ledger.entries if dict(entry.params) == params}
        seed = next(
            s for s in range(self.spec.seed, self.spec.seed + len(used) + 1) if s not in used
        )
        return Begin(len(ledger.entries), params, seed, 1.0, kind, number)

    def _confirm(self, ledger: Ledger) -> Begin | None:
        """The front at fresh seeds, when nothing else is left to do."""
        if not self.spec.confirm:
            return None
        found = [entry for entry in ledger.entries if entry.kind != "confirms"]
        if any(entry.flying for entry in found):
            return None
        for number in reported(self.spec, found):
            done = sum(e.kind == "confirms" and e.replicate_of == number for e in ledger.entries)
            if done < self.spec.confirm:
                return self._again(ledger, number, "confirms")
        return None

    def next_point(self, ledger: Ledger, number: int, place: int) -> Decision:
        """A new point as trial `number`, the place-th of the search, or a waiting trial."""
        spec = self.spec
        modelled = spec.sampler not in ("nsga2", "random")
        if not spec.space or (modelled and place < start_up(spec)):
            return self._begin(number, start_point(spec, place))
        if spec.sampler == "gp":
            known = self.memory.beliefs(ledger)
            if known is None:  # all that was measured failed, or lies outside
                return self._begin(number, start_point(spec, place))
            return self._best(ledger, number, known)
        for entry, fidelity in rungs.promotable(spec, ledger.entries):
            return Continue(entry.number, fidelity)
        return self._begin(number, shadow.ask(spec, trial_seed(spec, number), ledger.entries))

    def _begin(self, number: int, values: dict[str, Value]) -> Begin:
        return Begin(number, values, self.spec.seed, self.spec.rungs[0])

    def _best(self, ledger: Ledger, number: int, known: Beliefs) -> Decision:
        """The new point or waiting trial with the most expected gain for its expected cost."""
        spec, first = self.spec, self.spec.rungs[0]
        gain_of = known.gain()
        density = priors.density(spec, self.coordinates)
        fade = PRIOR_TRIALS / (1 + ledger.num_answers)

        def worth(X_MD: Array) -> Array:
            gain, chance = gain_of(X_MD)
            return np.asarray(gain / (first + chance * (1 - first)) * density(X_MD) ** fade)

        rng = np.random.default_rng([spec.seed, number])
        x_D, best = beliefs.search_best(self.coordinates, worth, known.seeds(), rng)
        waiting = [entry for entry in ledger.entries if entry.waiting]
        if waiting:
            now = np.array([entry.answers[-1].fidelity for entry in waiting])
            then = np.array([spec.rungs[spec.rungs.index(float(at)) + 1] for at in now])
            gain, chance = gain_of(np.stack([self.coordinates.of(e.params) for e in waiting]))
            values = gain / (then - now + chance * (1 - then))
            top = int(np.argmax(values))
            if values[top] >= best:
                return Continue(waiting[top].number, float(then[top]))
        return self._new(ledger, number, self.coordinates.values(x_D))

    def _new(self, ledger: Ledger, number: int, values: dict[str, Value]) -> Decision:
        """A new point; where the model asks for one a second time, what tells more of it.

        The same seed would only give the same result again, and the model take it for a second
        opinion.
        """
        for entry in ledger.entries:
            if dict(entry.params) != values or not entry.answers or entry.ended == "failed":
                continue
            if entry.waiting:
                at = self.spec.rungs.index(entry.answers[-1].fidelity)
                return Continue(entry.number, self.spec.rungs[at + 1])
            if entry.ended == "complete":
                return self._again(ledger, entry.number, "repeated")
        return self._begin(number, values)


def propose_again(
    spec: StudySpec, ledger: Ledger, ask: Ask, next_replicate: Callable[[Run], int | None]
) -> Decision | None:
    """The decision that led to a question, made again from what was known then."""
    return Searcher(spec, next_replicate).decide(ledger.as_of(ask))


def propose(spec: StudySpec, number: int, trials: Sequence[Trial]) -> dict[str, Value]:
    """Values for the space's paths in trial `number` of a study without rungs, after these trials.

    Raises:
        ValueError: the sampler needs a package that is not installed.
    """
    if number < len(spec.planned):
        return planned_values(spec, number)
    ledger = Ledger([_entry(spec, trial) for trial in trials])
    decided = Searcher(spec, lambda run: None).next_point(
        ledger, number, number - len(spec.planned)
    )
    assert isinstance(decided, Begin)
    return decided.params


def _entry(spec: StudySpec, trial: Trial) -> Entry:
    asks = (Ask(trial.number, 0, trial.fidelity, trial.number),)
    done = trial.state != "running"
    answers = (Answer(trial.fidelity, trial.number, trial.metrics, trial.cost),) if done else ()
    return Entry(
        number=trial.number,
        params=trial.params,
        seed=trial.seed,
        asks=asks,
        answers=answers,
        ended=None if trial.state == "running" else trial.state,
        kind="planned" if trial.number < len(spec.planned) else "searched",
        replicate_of=trial.replicate_of,
    )


def trial_seed(spec: StudySpec, number: int) -> int:
    """A stream for every trial of every study: no two share one."""
    return int(np.random.SeedSequence([spec.seed, number]).generate_state(1)[0])


def planned_values(spec: StudySpec, number: int) -> dict[str, Value]:
    """The value of a baseline or grid point at every path of the space."""
    params = spec.planned[number].point.params
    defaults = spec.objective.values()
    return {path: params.get(path, defaults.get(path)) for path in spec.space}


def reported(spec: StudySpec, entries: Sequence[Entry]) -> list[int]:
    """Numbers of the front's trials."""
    return [trial.number for trial in scoring.front(as_run(spec, entries)).trials]
