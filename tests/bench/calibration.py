"""Whether the front's probabilities mean what they say, on noisy studies whose truth is known.

A study: NUM_POINTS settings of analytic problems with two goals, a third drawn at random and the
rest by mutating what looked best so far, as a search does, so that lucky measurements draw others
after them. Each is measured with Gaussian noise, in half of the studies with a part that a seed
gives to all points alike. Then seeds are repeated by one of four policies:

- few: three settings, named as baselines, at three seeds each; nothing else is repeated;
- some: every third setting once more;
- all: every setting at three seeds;
- asked: REPLICATES times the trial that `hpo.front.reevaluation.next_replicate` names.

So far noise is Gaussian and equal. Three more kinds of study, in which it is not as the model has
it, repeat as "asked" does:

- unequal: its standard deviation differs from setting to setting, by a factor of about 1.6;
- heavy: it has Student's distribution with 3 degrees of freedom, of the same variance;
- rungs: settings were measured at a third of the fidelity too, with a deviation that is smooth in
  the params, and as many others at that fidelity only; of a run's noise 0.9 is its own, alike at
  both fidelities.

Membership is held against the truth: no other setting of the study has both true losses smaller (or
one, and the other equal). Reported is what `hpo.front.front.front` reports. Volumes are shares of
the problem's exact front's, under one reference a problem. "naive" is what is observed: the
non-dominated means, their volume, and memberships from means plus normal errors. `volume_kept` is
the true volume of what is reported as a share of that of all points: what caution costs. The four
policies repeat the same studies, so standard errors over all of them are somewhat too small; those
of one policy are not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hpo.core.domains import Float
from hpo.core.goals import Goal
from hpo.core.trial import Answer, Run, Trial
from hpo.front.front import Front, front
from hpo.front.losses import losses
from hpo.front.reevaluation import next_replicate
from hpo.front.reporting import central, volume
from hpo.numerics import pareto
from tests.bench.figures import Figure, Options, mean_of

Array = npt.NDArray[np.float64]


NUM_POINTS, NUM_PARAMS, REPLICATES = 30, 4, 8


REPEATS = 25
"""Studies of each problem, noise and policy."""


FRESH = 1000
"""First seed; those below were looked at when the priors of `hpo.numerics.noisy_values` were
chosen."""


NOISES = (0.05, 0.15)
"""Standard deviation against the exact front's range in each goal."""


LOW, OWN_NOISE = 1 / 3, 0.9
"""A rung's fidelity, and the correlation of a run's noise there with that in full."""


GOALS = (Goal(metric="first", direction="down"), Goal(metric="second", direction="down"))


EDGES = (0.0, 0.05, 0.15, 0.35, 0.65, 0.85, 0.95, 1.0)


NAIVE_DRAWS = 512


@dataclass(frozen=True, kw_only=True)
class Problem:
    """An analytic problem over the unit cube."""

    losses: Callable[[Array], Array]
    """N x params -> N x 2."""
    front: Array
    """Points along the exact front."""
    reference: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One study beside the truth."""

    membership: Array
    naive: Array
    truth: pareto.Mask
    reported: pareto.Mask
    observed: pareto.Mask
    overstated: float
    """Stated minus true volume of the reported points, in percent of the exact front's."""
    naive_overstated: float
    covered: bool
    """Whether the true volume is in the stated 95 % range."""
    kept: float
    """True volume of the reported points as a share of that of all points."""
    naive_kept: float


def run(options: Options) -> dict[str, Figure]:
    """All studies."""
    repeats = options.repeats or (1 if options.quick else REPEATS)
    found: dict[str, list[Outcome]] = {name: [] for name in options.picked(list(POLICIES))}
    first = FRESH + options.first_seed
    for policy, outcomes in found.items():
        for place, problem in enumerate(PROBLEMS.values()):
            for noise in NOISES:
                outcomes += [
                    outcome(problem, noise, policy, seed=[place, int(100 * noise), seed])
                    for seed in range(first, first + repeats)
                ]
        options.say(f"{policy}: {len(outcomes)} studies")
    every = [each for name, some in found.items() if name not in KINDS for each in some]
    every = every or [each for some in found.values() for each in some]
    figures = {"studies": Figure(value=len(every), unit="studies")}
    figures |= _promised(every, options.speed_goal) | _beside(every)
    for side in ("", "naive."):
        for low, high in itertools.pairwise(EDGES):
            name = f"{side}belong_of_{100 * low:.0f}_to_{100 * high:.0f}"
            figures[name] = _belonging(every, low, high, naive=bool(side))
    for policy, outcomes in found.items():
        kind = policy if policy in KINDS else None
        some = _promised(outcomes, options.speed_goal if kind else lambda goal: None)
        figures |= {f"{policy}.{name}": figure for name, figure in some.items()}
    return figures


def _promised(found: Sequence[Outcome], goal: Callable[[str], str | None]) -> dict[str, Figure]:
    """What issue and README name, with goals where they are judged."""
    near = _belonging(found, 0.85, 0.95)
    gap = Figure(
        value=abs(near.value - 90), unit="points", sem=near.sem, n=near.n, goal=goal("<= 5")
    )
    non_dominated = _pooled([each.truth[each.reported] for each in found])
    overstated = mean_of([each.overstated for each in found], "points", goal("<= 3"))
    return {
        "gap_at_90": gap,
        "truly_non_dominated": replace(non_dominated, goal=goal(">= 85")),
        "overstated": overstated,
    }


def _beside(found: Sequence[Outcome]) -> dict[str, Figure]:
    """What is naive, and what the front's caution costs."""
    return {
        "naive.truly_non_dominated": _pooled([each.truth[each.observed] for each in found]),
        "naive.overstated": mean_of([each.naive_overstated for each in found], "points"),
        "volume_in_range": mean_of([100.0 * each.covered for each in found], "%"),
        "volume_kept": mean_of([100 * each.kept for each in found], "%"),
        "naive.volume_kept": mean_of([100 * each.naive_kept for each in found], "%"),
        "points_reported": mean_of([float(each.reported.sum()) for each in found], "a front"),
        "naive.points_reported": mean_of([float(each.observed.sum()) for each in found], "a front"),
    }


def _belonging(found: Sequence[Outcome], low: float, high: float, naive: bool = False) -> Figure:
    """Of the points with a membership in [low, high), the last bin with 1, those that belong."""
    masks = []
    for each in found:
        stated = each.naive if naive else each.membership
        masks.append(each.truth[(stated >= low) & ((stated < high) | (high == 1.0))])
    return _pooled(masks)


def _pooled(masks: Sequence[pareto.Mask]) -> Figure:
    """Share of true in all masks together.

    Points of one study are not independent: the error is that of a ratio over studies.
    """
    hits = np.array([float(mask.sum()) for mask in masks])
    counts = np.array([float(len(mask)) for mask in masks])
    total = max(counts.sum(), 1.0)
    share = float(hits.sum() / total)
    error = float(np.linalg.norm(hits - share * counts) / total)
    return Figure(value=100 * share, unit="%", sem=100 * error, n=int(counts.sum()))


def outcome(problem: Problem, noise: float, policy: str, seed: Sequence[int]) -> Outcome:
    """A study of this kind, and what is said of it beside what is true."""
    rng = np.random.default_rng(seed)
    study = KINDS.get(policy, _Study)(problem, noise, rng)
    POLICIES[policy](study)
    run = study.run()
    said = front(run)
    true_N2 = problem.losses(study.x())
    return _judged(problem, said, true_N2)


def _judged(problem: Problem, said: Front, true_N2: Array) -> Outcome:
    assert said.draws is not None
    numbers = [trial.number for trial in said.points]
    true_N2 = true_N2[numbers]
    reported = np.isin(numbers, [trial.number for trial in said.trials])
    observed_N2 = losses(said.points, GOALS)
    observed = pareto.non_dominated(observed_N2)
    exact = pareto.hypervolume(problem.front, problem.reference)
    true = pareto.hypervolume(true_N2[reported], problem.reference)
    volumes = volume(said.draws[:, reported], problem.reference)
    low, high = central(volumes)
    naive = pareto.hypervolume(observed_N2[observed], problem.reference)
    naive_true = pareto.hypervolume(true_N2[observed], problem.reference)
    best = pareto.hypervolume(true_N2, problem.reference)
    sems_N2 = np.array(
        [[trial.metrics[f"{goal.metric}_sem"] for goal in GOALS] for trial in said.points]
    )
    normal = np.random.default_rng(0).normal(size=(NAIVE_DRAWS, *observed_N2.shape))
    return Outcome(
        membership=np.array([said.membership[number] for number in numbers]),
        naive=pareto.non_dominated_draws(observed_N2 + sems_N2 * normal).mean(axis=0),
        truth=pareto.non_dominated(true_N2),
        reported=reported,
        observed=observed,
        overstated=100 * (float(volumes.mean()) - true) / exact,
        naive_overstated=100 * (naive - naive_true) / exact,
        covered=low <= true <= high,
        kept=true / best if best else 1.0,
        naive_kept=naive_true / best if best else 1.0,
    )


class _Study:
    """A noisy study as it grows."""

    def __init__(self, problem: Problem, noise: float, rng: np.random.Generator) -> None:
        self.problem, self.rng = problem, rng
        self.noise_2 = noise * np.ptp(problem.front, axis=0)
        self.shared = rng.random() < 0.5
        self.trials: list[Trial] = []
        self.shifts: dict[int, Array] = {}
        for _ in range(NUM_POINTS):
            self.measure(self._proposal())

    def _proposal(self) -> Array:
        if len(self.trials) < NUM_POINTS // 3:
            return np.asarray(self.rng.random(NUM_PARAMS))
        best = pareto.non_dominated(losses(self.trials, GOALS))
        parent = self.x()[self.rng.choice(np.flatnonzero(best))]
        return np.clip(parent + self.rng.normal(0, 0.15, NUM_PARAMS), 0, 1)

    def measure(self, x: Array, seed: int = 0, replicate_of: int | None = None) -> None:
        """One more trial; a part of its noise, in some studies, is the seed's alone."""
        if seed not in self.shifts:
            self.shifts[seed] = self.rng.normal(0, self.noise_2) * self.shared
        off = self.shifts[seed] + self.noise_2 * self.noise(x)
        first, second = self.problem.losses(x[None])[0] + off
        self.trials.append(
            Trial.measured(
                number=len(self.trials),
                state="complete",
                params={f"x{place}": float(value) for place, value in enumerate(x)},
                metrics={"first": float(first), "second": float(second)},
                seed=seed,
                replicate_of=replicate_of,
            )
        )

    def noise(self, x: Array) -> Array:
        """Of one trial, in standard deviations."""
        return self.rng.standard_normal(2)

    def x(self) -> Array:
        """Params, trials x params."""
        return np.array([list(trial.params.values()) for trial in self.trials], dtype=float)

    def repeat(self, number: int) -> None:
        """A trial at its next seed."""
        again = sum(trial.replicate_of == number for trial in self.trials)
        self.measure(self.x()[number], seed=again + 1, replicate_of=number)

    def run(self) -> Run:
        """The record."""
        cube = Float(low=0.0, high=1.0)
        return Run(
            name="synthetic", description="", goals=GOALS, limits=(), trials=self.trials,
            planned=len(self.trials), space={f"x{place}": cube for place in range(NUM_PARAMS)},
            reproduce={},
        )  # fmt: skip


class _Unequal(_Study):
    def noise(self, x: Array) -> Array:
        return np.asarray(math.exp(0.5 * math.sin(9 * x.sum())) * self.rng.standard_normal(2))


class _Heavy(_Study):
    def noise(self, x: Array) -> Array:
        return np.asarray(self.rng.standard_t(3, 2) / math.sqrt(3))


class _Rungs(_Study):
    """Twice as many settings at the rung, of which the best went on."""

    def __init__(self, problem: Problem, noise: float, rng: np.random.Generator) -> None:
        super().__init__(problem, noise, rng)
        low = [self._low(trial) for trial in self.trials]
        self.trials = [
            replace(trial, answers=(rung, *trial.answers))
            for trial, rung in zip(self.trials, low, strict=True)
        ]
        full = len(self.trials)
        for number in range(full, 2 * full):
            x = rng.random(NUM_PARAMS)
            values = self._values(x, rng.standard_normal(2))
            self.trials.append(
                Trial.measured(
                    number=number, state="pruned", fidelity=LOW,
                    params={f"x{place}": float(value) for place, value in enumerate(x)},
                    metrics=dict(zip(("first", "second"), values, strict=True)),
                )
            )  # fmt: skip

    def _low(self, trial: Trial) -> Answer:
        x = np.array(list(trial.params.values()), dtype=float)
        true = self.problem.losses(x[None])[0]
        own = (np.array([trial.metrics["first"], trial.metrics["second"]]) - true) / self.noise_2
        mixed = OWN_NOISE * own + math.sqrt(1 - OWN_NOISE**2) * self.rng.standard_normal(2)
        values = self._values(x, mixed)
        return Answer(LOW, trial.number, dict(zip(("first", "second"), values, strict=True)))

    def _values(self, x: Array, noise: Array) -> list[float]:
        waves = np.array([math.sin(3 * x[0] + x[1]), math.cos(2 * x[1] - x[2])])
        true = self.problem.losses(x[None])[0]
        return [float(each) for each in true + 0.2 + 0.2 * waves + self.noise_2 * noise]


def _repeat_few(study: _Study) -> None:
    for number in (0, 1, 2, 0, 1, 2):
        study.repeat(number)


def _repeat_some(study: _Study) -> None:
    for number in range(0, NUM_POINTS, 3):
        study.repeat(number)


def _repeat_all(study: _Study) -> None:
    for number in [*range(NUM_POINTS), *range(NUM_POINTS)]:
        study.repeat(number)


def _repeat_asked(study: _Study) -> None:
    for _ in range(REPLICATES):
        number = next_replicate(study.run())
        if number is not None:
            study.repeat(number)


def _zdt1(x: Array) -> Array:
    """Zitzler, Deb and Thiele 2000."""
    g = 1 + 9 * x[:, 1:].mean(axis=1)
    return np.stack([x[:, 0], g * (1 - np.sqrt(x[:, 0] / g))], axis=1)


def _zdt3(x: Array) -> Array:
    g = 1 + 9 * x[:, 1:].mean(axis=1)
    ratio = x[:, 0] / g
    second = g * (1 - np.sqrt(ratio) - ratio * np.sin(10 * np.pi * x[:, 0]))
    return np.stack([x[:, 0], second], axis=1)


def _dtlz2(x: Array) -> Array:
    """Deb, Thiele, Laumanns and Zitzler 2002, two goals."""
    radius = 1 + ((x[:, 1:] - 0.5) ** 2).sum(axis=1)
    angle = x[:, 0] * np.pi / 2
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _linear(x: Array) -> Array:
    """A conflict along the first parameter, common slopes along the others."""
    common = x[:, 1:] @ np.array([0.5, 0.3, 0.1])
    return np.stack([x[:, 0] + common, 1 - x[:, 0] + 0.8 * common], axis=1)


def _problem(
    function: Callable[[Array], Array], best: float, reference: tuple[float, float]
) -> Problem:
    """Along the exact front the first parameter varies and the others are at their best."""
    x = np.full((1001, NUM_PARAMS), best)
    x[:, 0] = np.linspace(0, 1, 1001)
    along = function(x)
    return Problem(losses=function, front=along[pareto.non_dominated(along)], reference=reference)


PROBLEMS: dict[str, Problem] = {
    "zdt1": _problem(_zdt1, 0.0, (1.1, 4.0)),
    "zdt3": _problem(_zdt3, 0.0, (1.1, 4.0)),
    "dtlz2": _problem(_dtlz2, 0.5, (1.5, 1.5)),
    "linear": _problem(_linear, 0.0, (2.0, 2.0)),
}


POLICIES: dict[str, Callable[[_Study], None]] = {
    "few": _repeat_few,
    "some": _repeat_some,
    "all": _repeat_all,
    "asked": _repeat_asked,
    "unequal": _repeat_asked,
    "heavy": _repeat_asked,
    "rungs": _repeat_asked,
}


KINDS: dict[str, type[_Study]] = {"unequal": _Unequal, "heavy": _Heavy, "rungs": _Rungs}
"""Policy -> studies whose noise is not as the model has it."""
