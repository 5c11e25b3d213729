"""What to ask next by the model: a new point, a waiting trial's next rung, or a branch of a trial.

Each candidate is worth its expected gain in hypervolume over its expected cost
(hpo/search/cost_model.py): what it costs now, and what it costs to the end with the probability
that there is a gain.

A branch differs from a trial only in parameters that leave the beginning of its training as it is,
such as how the rate falls in the end, or in fine-tuning; what the trial leaves in the store makes
it cheap. It may be asked in full at once.

Only the base is asked for where fine-tuning at a rung would cost more than it can save.

What low rungs say of full fidelity is unknown until a trial was measured at both: as long as there
is no front every new point promises as much as a waiting one, and none would ever go on. So one is
sent to the end first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hpo.core.domains import inside
from hpo.core.history import Begin, Continue, History
from hpo.core.objective import Request, Value
from hpo.core.spec import StudySpec
from hpo.core.trial import Trial
from hpo.numerics import pareto
from hpo.numerics.gaussian_process import Points
from hpo.search import cost_model, initial_design, model, rungs
from hpo.search.cost_model import StepCost
from hpo.search.model import SurrogateModel
from hpo.search.training_data import TrainingData
from hpo.search.unit_cube import Array

PRIOR_TRIALS = 10.0
"""A prior multiplies a point's worth by its density to the power of this over the results: strong
at first, gone in the end (the form of Hvarfner et al. 2022, piBO; the number is assumed)."""


WEIGHED = 8
"""Waiting trials, and branches, whose exact cost is looked at: the most promising; assumed."""


WHOLE_LEAST = 1 / 3
"""Share of the lowest rung's questions that are whole whatever they cost, so that late goals are
fitted where the search goes, not only where it has been in full: without, a model that was sure of
itself was seen to stay in one corner. The number is assumed."""


ROOTS, VARIANTS = 8, 8
"""Trials of which branches are looked at, and branches of each; assumed."""


EXPLORE_BELOW = 0.01
"""Share of the front's volume: where no new point promises more, every other one explores. Surfaces
that are sure of themselves were seen to stay in one basin; the number is assumed."""


FIRST_FULL_AFTER = 6
"""Results after which a trial is sent to the end if none was measured in full; assumed."""


RECENT = 500
"""Trials among which these are looked for, the latest."""


Gain = Callable[[Array], tuple[Array, Array]]


@dataclass(frozen=True)
class Candidate:
    """A question and its worth."""

    worth: float
    asked: Request
    trial: Trial | None
    """The waiting trial that it goes on with; None begins one."""


class Ranking:
    """Every way to spend the next evaluation, by what it is worth."""

    def __init__(
        self,
        spec: StudySpec,
        data: TrainingData,
        known: SurrogateModel,
        history: History,
        usable: Callable[[float], bool] = lambda rung: True,
    ) -> None:
        """`usable`: whether trials can be measured at a rung that nobody asked for."""
        self.spec, self.data, self.known, self.history = spec, data, known, history
        self.coordinates = data.coordinates
        self.gain_of: Gain = known.gain()
        self.scale_G = known.scale_G
        self.prices = cost_model.learnt(history.trials, spec.currency)
        self.rungs = rungs.rungs_in_use(spec, self.prices, usable)
        self.best_gain = math.inf

    def best(self, number: int, varied: Sequence[int]) -> Candidate:
        """The one with the most worth, for trial `number`.

        `varied`: indices of the parameters that branches vary.
        """
        rng = np.random.default_rng([self.spec.seed, number])
        new = self._new(rng)
        branches = self._branches(varied, rng) if varied else []
        waiting = self._waiting()
        first = self._first_full_trial(waiting) or self._explored(number, rng)
        if first is not None:
            return first
        return max([*waiting, *branches, *new], key=lambda candidate: candidate.worth)

    def base_only(self, trial: Trial, fidelity: float) -> bool:
        """Whether a trial that goes on is asked for its base alone."""
        x_D = self.coordinates.of(trial.params)
        _, chance = self.gain_of(x_D[None])
        before = request_of(trial)
        step = cost_model.step_cost(
            self.spec.objective, self.prices, _request(trial, fidelity), before
        )
        return self._cost(x_D, float(chance[0]), step)[1]

    def _new(self, rng: np.random.Generator) -> list[Candidate]:
        """A new point, at the lowest rung and in full."""
        spec, first, price = self.spec, self.rungs[0], self.prices
        now = price.begun(first) + price.finetuning
        rest = price.begun(1 - first) + (price.finetuning if first < 1 else 0.0)
        weight = self._prior()

        def worth(X_MD: Array) -> Array:
            gain, chance = self.gain_of(X_MD)
            return np.asarray(gain / (now + chance * rest) * weight(X_MD))

        x_D, _ = model.search_best(self.coordinates, worth, self.known.seeds(), rng)
        self.best_gain = float(self.gain_of(x_D[None])[0][0])
        params = self.coordinates.values(x_D)
        return [
            self._candidate(Request(params=params, fidelity=rung, seed=spec.seed), None, None)
            for rung in sorted({first, 1.0})
        ]

    def _explored(self, number: int, rng: np.random.Generator) -> Candidate | None:
        """The point farthest from all that was measured, where no other promises much.

        Only where it can be had at a rung below full fidelity, and for every other new trial.
        """
        volume, lowest = self.known.volume(), self.rungs[0]
        if number % 2 or lowest == 1 or not self.best_gain < EXPLORE_BELOW * volume:
            return None
        X = self.coordinates.sample(rng, model.CANDIDATES)
        apart = np.abs(X[:, None] - self.known.seen_ND[None])
        choice = self.coordinates.is_choice_D
        apart[..., choice] = apart[..., choice] > 0
        x_D = X[int(np.argmax((apart**2).sum(axis=2).min(axis=1)))]
        params = self.coordinates.values(x_D)
        return self._candidate(
            Request(params=params, fidelity=lowest, seed=self.spec.seed), None, None
        )

    def _first_full_trial(self, waiting: Sequence[Candidate]) -> Candidate | None:
        """The waiting trial that is to be the first in full; None where one is, or on its way."""
        trials, lowest = self.history.trials, self.spec.fidelities[0]
        results = [answer for trial in trials for answer in trial.results]
        if len(results) < FIRST_FULL_AFTER or any(answer.fidelity == 1 for answer in results):
            return None
        if any(trial.in_flight and trial.asks[-1].fidelity > lowest for trial in trials):
            return None
        far = max((candidate.asked["fidelity"] for candidate in waiting), default=1.0)
        ahead = [candidate for candidate in waiting if candidate.asked["fidelity"] == far]
        return max(ahead, key=lambda candidate: candidate.worth) if ahead else None

    def _waiting(self) -> list[Candidate]:
        """Waiting trials at the next rung, and on their way to the end at once."""
        waiting = [trial for trial in self.history.trials if trial.waiting]
        if not waiting:
            return []
        price = self.prices
        now = np.array([trial.answers[-1].fidelity for trial in waiting])
        then = np.array([min(rung for rung in self.rungs if rung > at) for at in now])
        gain, chance = self.gain_of(np.stack([self.coordinates.of(e.params) for e in waiting]))
        rest = np.where(then < 1, price.pretraining * (1 - then) + price.finetuning, 0.0)
        values = gain / (price.pretraining * (then - now) + price.finetuning + chance * rest)
        top = np.argsort(-values, kind="stable")[:WEIGHED]
        return [
            self._candidate(_request(waiting[i], rung), request_of(waiting[i]), waiting[i])
            for i in top
            for rung in sorted({float(then[i]), 1.0})
        ]

    def _branches(self, varied: Sequence[int], rng: np.random.Generator) -> list[Candidate]:
        """Variants of the trials with the best expected values, at the lowest rung and in full."""
        measured = [
            trial for trial in self.history.trials
            if trial.answers and trial.state != "failed" and trial.seed == self.spec.seed
            and inside(self.spec.space, trial.params)
        ]  # fmt: skip
        measured = measured[-RECENT:]
        if not measured:
            return []
        X = np.stack([self.coordinates.of(trial.params) for trial in measured])
        rank = pareto.ranks(self.known.losses(X)[0])
        roots = np.lexsort((-np.arange(len(measured)), rank))[:ROOTS]
        X = np.repeat(X[roots], VARIANTS, axis=0)
        X[:, list(varied)] = rng.random((len(X), len(varied)))
        X = self.coordinates.rounded(X)
        gain, _ = self.gain_of(X)
        space = list(self.spec.space)
        asked_before = {tuple(e.params.get(p) for p in space) for e in self.history.trials}
        found = []
        for index in np.argsort(-gain, kind="stable")[:WEIGHED]:
            values = self.coordinates.values(X[index])
            if tuple(values[path] for path in space) in asked_before:
                continue
            before = request_of(measured[roots[index // VARIANTS]])
            for fidelity in sorted({self.rungs[0], 1.0}):
                asked = Request(params=values, fidelity=fidelity, seed=self.spec.seed)
                found.append(self._candidate(asked, before, None))
        return found

    def _candidate(self, asked: Request, before: Request | None, trial: Trial | None) -> Candidate:
        x_D = self.coordinates.of(asked["params"])
        gain, chance = (float(each[0]) for each in self.gain_of(x_D[None]))
        step = cost_model.step_cost(self.spec.objective, self.prices, asked, before)
        cost, base_only = self._cost(x_D, chance, step)
        if base_only:
            asked = {**asked, "base_only": True}
        least = 1e-6 * (self.prices.pretraining + self.prices.finetuning)
        weight = 1.0 if trial is not None else float(self._prior()(x_D[None])[0])
        return Candidate(gain / max(cost, least) * weight, asked, trial)

    def _cost(self, x_D: Array, chance: float, step: StepCost) -> tuple[float, bool]:
        """Expected cost to the end, and whether it is less if only the base is asked for now.

        A base that takes no training is as a rule another trial's, which is known: asked for alone
        it would tell nothing.
        """
        if step.rest == 0:
            return step.expected(chance, 1.0, base_only=False), False
        shown, shown_early = self._shown(x_D, self.data.u(step.request["fidelity"]))
        whole = step.expected(chance, shown, base_only=False)
        spec = self.spec
        always = spec.finetune_at_rungs == "always" or not rungs.has_late_goals(spec)
        due = step.request["fidelity"] == self.rungs[0] and self._whole_is_due()
        if not self.prices.separate or always or due or 0 in (step.now, step.finetuning):
            return whole, False
        alone = step.expected(chance, shown_early, base_only=True)
        return min(whole, alone), alone < whole

    def _shown(self, x_D: Array, u: float) -> tuple[float, float]:
        """Shares of what is unknown of a point in full that a result here takes away: all goals',
        and the early ones' alone."""
        goals, early = self.known.goals, self.spec.objective.early()
        here = Points(x_D[None], np.zeros(1))
        unknown_G = np.array([float(surface.at(here)[1][0]) for surface in goals]) / self.scale_G
        taken = np.array([surface.expected_sd_reduction(x_D, u) for surface in goals])
        taken_G = taken / self.scale_G / max(float(unknown_G.sum()), 1e-12)
        is_early = np.array([goal.metric in early for goal in self.spec.goals])
        return float(taken_G.sum()), float(taken_G[is_early].sum())

    def _whole_is_due(self) -> bool:
        lowest = self.rungs[0]
        if not self.prices.pays(lowest):
            return False
        low = [e.asks[0].base_only for e in self.history.trials if e.asks[0].fidelity == lowest]
        return low.count(False) < WHOLE_LEAST * (len(low) + 1)

    def _prior(self) -> Callable[[Array], Array]:
        density = initial_design.density(self.spec, self.coordinates)
        fade = PRIOR_TRIALS / (1 + self.history.num_answers)
        return lambda X_MD: np.asarray(density(X_MD) ** fade)


def branch_params(spec: StudySpec) -> list[int]:
    """Indices of the parameters that can leave the beginning of training as it is."""
    defaults = spec.objective.values()
    middle: dict[str, Value] = {
        path: defaults.get(path, domain.at(0.5)) for path, domain in spec.space.items()
    }

    def shared(path: str, one: Value, other: Value) -> bool:
        asked, done = (
            Request(params={**middle, path: value}, fidelity=1.0, seed=spec.seed)
            for value in (one, other)
        )
        return spec.objective.reused(asked, done) > 0

    return [
        index
        for index, (path, domain) in enumerate(spec.space.items())
        if any(
            shared(path, one, other)
            for one in domain.ends for other in domain.ends if one != other
        )
    ]  # fmt: skip


def decision(candidate: Candidate, number: int) -> Begin | Continue:
    """A candidate as a decision."""
    asked, base_only = candidate.asked, candidate.asked.get("base_only", False)
    if candidate.trial is not None:
        return Continue(candidate.trial.number, asked["fidelity"], base_only)
    return Begin(number, asked["params"], asked["seed"], asked["fidelity"], base_only=base_only)


def request_of(trial: Trial) -> Request:
    """What a trial was last asked for."""
    return _request(trial, trial.asks[-1].fidelity)


def _request(trial: Trial, fidelity: float) -> Request:
    return Request(params=dict(trial.params), fidelity=fidelity, seed=trial.seed)
