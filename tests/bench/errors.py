"""Whether stated errors mean what they say, on a hierarchy whose truth is known.

A study has settings, some of them at further pretraining seeds, chosen as a search does: those
that look best are repeated, with a fifth of the trials. A trial is scored on TASKS x ROWS test rows
after fine-tuning with FINETUNES seeds. A row is right where a sum of normal effects is above 0: of
the setting, its pretraining seed, the fine-tuning seed, the row (alike for all trials of the
study), and of row with setting, with pretraining seed and with fine-tuning seed. So the true score
of a setting over all seeds and rows is a normal probability. The base loss is such a sum over
validation sequences. Rows, seeds and settings are drawn for each study, from the seeds that are
named; an interval of `hpo.front.errors` is held against the truth.

- `level`, `difference`: share of the stated 95 % intervals that hold the truth, over all settings
  and all pairs with the first one.
- `estimate`: the same of what is stated as corrected for selection bias (`hpo.front.front`), within
  2 of its standard errors.
- `false_best`: studies without any true difference in which the best is called significantly better
  than the baseline by some goal, of 12 and 24 trials.
- `false_pair`: of the same studies, those in which any two settings of the front are called
  significantly different.
- `found_best`: studies whose settings differ in truth in which the best is called significantly
  better than the baseline; what caution leaves.
- `naive`: with 2 standard errors over fine-tuning seeds alone, as errors were stated before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from hpo.core.goals import Goal
from hpo.core.metrics import sem
from hpo.core.trial import Run, Trial
from hpo.front.errors import Estimate, errors_of
from hpo.front.front import front
from hpo.front.losses import losses
from hpo.front.replicates import Setting, points
from hpo.front.significance import Leads
from hpo.numerics import pareto
from objectives import row_errors
from tests.bench import real_errors
from tests.bench.figures import Figure, Options, mean_of

Array = npt.NDArray[np.float64]


TASKS, ROWS, FINETUNES, SEQUENCES = 3, 100, 2, 256


SIZES = (12, 24)


REPEATED = 0.2


STUDIES = 20
"""Of each seed and size."""


SEEDS = 10


FRESH = 500
"""First seed."""


GOALS = (Goal(metric="base_loss", direction="down"), Goal(metric="gain", direction="up"))


METRICS = ("base_loss", "gain", "finetuned")


ROW, SETTING_ROW, SEED_ROW, FINETUNE_ROW = 1.0, 0.3, 0.5, 0.5
"""Standard deviations of effects on whether a row is right, beside a normal of 1; assumed, such
that a fresh base and fresh rows move a gain by about 0.03, as in `short_study.py`."""


SEED, SEED_COMMON, FINETUNE = 0.06, 0.03, 0.05


LOSS_SEQUENCE, LOSS_SETTING, LOSS_SEED = 0.5, 0.05, 0.05
"""Of a sequence's loss, alike for all trials, of it with the setting, and with the seed."""


LOSS_BETWEEN = 0.004
"""Between pretraining seeds."""


BEFORE = -1.0
"""Of the base before it is fine-tuned, in the same unit."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One study beside the truth."""

    levels: tuple[bool, ...]
    estimates: tuple[bool, ...]
    differences: tuple[bool, ...]
    naive_levels: tuple[bool, ...]
    naive_differences: tuple[bool, ...]
    false_best: bool
    false_pair: bool
    naive_best: bool


class World:
    """Settings, rows and seeds of one study."""

    def __init__(self, num_settings: int, spread: float, rng: np.random.Generator) -> None:
        """`spread`: standard deviation of the settings' true scores, in the unit of rows."""
        self.rng = rng
        self.after_P = spread * rng.standard_normal(num_settings)
        self.before_P = BEFORE + 0.3 * spread * rng.standard_normal(num_settings)
        self.loss_P = 4.0 + 0.1 * spread * rng.standard_normal(num_settings)
        self.row_KN = ROW * rng.standard_normal((TASKS, ROWS))
        self.setting_PKN = SETTING_ROW * rng.standard_normal((num_settings, TASKS, ROWS))
        self.sequence_N = LOSS_SEQUENCE * rng.standard_normal(SEQUENCES)
        self.loss_PN = LOSS_SETTING * rng.standard_normal((num_settings, SEQUENCES))
        self.common: dict[int, float] = {}

    def truth(self, metric: str) -> Array:
        """Of each setting, over all seeds and rows."""
        if metric == "base_loss":
            return self.loss_P
        before = ROW**2 + SETTING_ROW**2 + SEED_ROW**2 + SEED**2 + SEED_COMMON**2 + 1
        after = before + FINETUNE_ROW**2 + FINETUNE**2
        finetuned = ndtr(self.after_P / math.sqrt(after))
        if metric == "finetuned":
            return np.asarray(finetuned)
        return np.asarray(finetuned - ndtr(self.before_P / math.sqrt(before)))

    def measure(
        self, setting: int, seed: int
    ) -> tuple[dict[str, float], dict[str, list[list[float]]]]:
        """Metrics and row scores as an objective gives them."""
        rng = self.rng
        common = self.common.setdefault(seed, SEED_COMMON * float(rng.standard_normal()))
        base = common + SEED * rng.standard_normal()
        base_KN = base + self.row_KN + self.setting_PKN[setting]
        base_KN = base_KN + SEED_ROW * rng.standard_normal((TASKS, ROWS))
        before_KN = self.before_P[setting] + base_KN + rng.standard_normal((TASKS, ROWS)) > 0
        shape = (FINETUNES, TASKS, ROWS)
        after_SKN = (
            self.after_P[setting] + base_KN + FINETUNE * rng.standard_normal((FINETUNES, 1, 1))
        )
        noise_SKN = math.hypot(FINETUNE_ROW, 1.0) * rng.standard_normal(shape)
        right_SKN = (after_SKN + noise_SKN > 0).astype(float)
        by_task = {
            "finetuned": [right_SKN[:, k] for k in range(TASKS)],
            "gain": [right_SKN[:, k] - before_KN[k] for k in range(TASKS)],
        }
        metrics: dict[str, float] = {}
        for name, tasks in by_task.items():
            scores_S = np.mean([y_SN.mean(1) for y_SN in tasks], axis=0)
            metrics[name] = float(scores_S.mean())
            metrics[f"{name}_sem"] = float(scores_S.std(ddof=1) / math.sqrt(FINETUNES))
            metrics[f"{name}_rows_sem"] = row_errors.rows_error(tasks)
        loss_N = self.loss_P[setting] + LOSS_BETWEEN * rng.standard_normal() + self.sequence_N
        loss_N = loss_N + self.loss_PN[setting] + LOSS_SEED * rng.standard_normal(SEQUENCES)
        metrics["base_loss"] = float(loss_N.mean())
        metrics["base_loss_rows_sem"] = row_errors.rows_error([loss_N[None]])
        rows = {name: [row_errors.grouped(y.mean(0)) for y in ys] for name, ys in by_task.items()}
        return metrics, {**rows, "base_loss": [row_errors.grouped(loss_N)]}


def study(num_trials: int, spread: float, rng: np.random.Generator) -> tuple[Run, World]:
    """A study of so many trials, the first setting a baseline."""
    repeats = round(REPEATED * num_trials)
    world = World(num_trials - repeats, spread, rng)
    trials: list[Trial] = []

    def measure(setting: int, seed: int, replicate_of: int | None = None) -> None:
        metrics, rows = world.measure(setting, seed)
        trials.append(
            Trial.measured(
                number=len(trials), state="complete", params={"x": float(setting)}, seed=seed,
                metrics=metrics, row_scores=rows, replicate_of=replicate_of,
                baseline="standard" if setting == 0 and replicate_of is None else None,
            )
        )  # fmt: skip

    for setting in range(num_trials - repeats):
        measure(setting, 0)
    run = Run(
        name="simulated", description="", goals=GOALS, limits=(), trials=trials,
        planned=num_trials, space={}, reproduce={},
    )  # fmt: skip
    for _ in range(repeats):  # the front's, those with the fewest seeds first
        found = points(run, trials)
        best = np.flatnonzero(pareto.non_dominated(losses([p.trial for p in found], GOALS)))
        row = min(best, key=lambda row: (len(found[row].seeds), row))
        measure(int(row), len(found[row].seeds), replicate_of=int(row))
    return run, world


def outcome(num_trials: int, spread: float, rng: np.random.Generator) -> Outcome:
    """One study judged."""
    run, world = study(num_trials, spread, rng)
    found = points(run, run.trials)
    levels, differences, naive_levels, naive_differences = [], [], [], []
    for metric in METRICS:
        errors, truth = errors_of(found, metric), world.truth(metric)
        for row, point in enumerate(found):
            levels.append(_holds(errors.level(point), float(truth[row])))
            if metric != "base_loss":
                value, error = point.seeds[0].metrics[metric], sem(point.seeds[0], metric)
                naive_levels.append(abs(value - truth[row]) <= 2 * error)
            if row:
                gap = float(truth[row] - truth[0])
                differences.append(_holds(errors.difference(point, found[0]), gap))
            if row and metric != "base_loss":
                one, other = point.seeds[0], found[0].seeds[0]
                error = math.hypot(sem(one, metric), sem(other, metric))
                lead = one.metrics[metric] - other.metrics[metric]
                naive_differences.append(abs(lead - gap) <= 2 * error)
    leads = Leads(found, len(GOALS))
    return Outcome(
        levels=tuple(levels),
        estimates=_estimates(run, found, world),
        differences=tuple(differences),
        naive_levels=tuple(naive_levels),
        naive_differences=tuple(naive_differences),
        false_best=any(_best(found, leads, goal) for goal in GOALS),
        false_pair=_pair(found, leads),
        naive_best=_naive_best(found),
    )


def _estimates(run: Run, found: Sequence[Setting], world: World) -> tuple[bool, ...]:
    """Whether each goal's corrected estimate of each setting holds the truth."""
    stated = front(run).estimates
    return tuple(
        abs(stated[point.trial.number][goal.metric] - float(world.truth(goal.metric)[row]))
        <= 2 * stated[point.trial.number][f"{goal.metric}_sem"]
        for row, point in enumerate(found)
        for goal in GOALS
    )


def _holds(stated: Estimate, truth: float) -> bool:
    low, high = stated.interval
    return low <= truth <= high


def _best(found: Sequence[Setting], leads: Leads, goal: Goal) -> bool:
    """Whether the best is called significantly better than the baseline."""
    ranked = sorted(found, key=lambda point: goal.sign * point.trial.metrics[goal.metric])
    return bool(leads.between(ranked[0].trial, found[0].trial, goal.metric).significant)


def _pair(found: Sequence[Setting], leads: Leads) -> bool:
    """Whether two settings of the front as observed are called significantly different."""
    best = pareto.non_dominated(losses([point.trial for point in found], GOALS))
    chosen = [found[row].trial for row in np.flatnonzero(best)]
    return any(
        leads.between(one, other, goal.metric).significant
        for one, other in itertools.combinations(chosen, 2)
        for goal in GOALS
    )


def _naive_best(found: Sequence[Setting]) -> bool:
    """By 2 standard errors over fine-tuning seeds."""
    best = max(found, key=lambda point: point.seeds[0].metrics["gain"]).seeds[0]
    first = found[0].seeds[0]
    error = math.hypot(sem(best, "gain"), sem(first, "gain"))
    return best is not first and best.metrics["gain"] - first.metrics["gain"] > 2 * error


def run(options: Options) -> dict[str, Figure]:
    """All studies; `--only real` trains those of `tests.bench.real_errors` instead."""
    if options.picked(["simulated", "real"]) == ["real"]:
        return real_errors.run(options)
    count = options.repeats or (2 if options.quick else SEEDS)
    each = 2 if options.quick else STUDIES
    found: dict[str, Figure] = {}
    for size in SIZES:
        differing = _seeds(count, each, size, 0.15, options)
        same = _seeds(count, each, size, 0.0, options)
        key = f"trials_{size}"
        judged = options.speed_goal
        for name, of in _SHARES.items():
            goal = judged(">= 90") if not name.startswith("naive") else None
            found[f"{key}.{name}"] = _share(differing, of, goal)
        for name, of in _RATES.items():
            goal = judged("<= 5") if not name.startswith("naive") else None
            found[f"{key}.{name}"] = _share(same, of, goal)
        found[f"{key}.found_best"] = _share(differing, lambda o: (o.false_best,), None)
        options.say(f"studies of {size} trials")
    return found


def _seeds(
    count: int, each: int, size: int, spread: float, options: Options
) -> list[list[Outcome]]:
    """A list of studies a seed."""
    first = options.first_seed or FRESH
    return [
        [outcome(size, spread, np.random.default_rng([seed, size, place])) for place in range(each)]
        for seed in range(first, first + count)
    ]


def _share(
    seeds: Sequence[Sequence[Outcome]], of: Callable[[Outcome], Sequence[bool]], goal: str | None
) -> Figure:
    """Mean over seeds, in percent, with its standard error over them."""
    shares = [100 * float(np.mean([hit for one in some for hit in of(one)])) for some in seeds]
    return mean_of(shares, "%", goal)


_RATES: dict[str, Callable[[Outcome], Sequence[bool]]] = {
    "false_best": lambda o: (o.false_best,),
    "naive.false_best": lambda o: (o.naive_best,),
    "false_pair": lambda o: (o.false_pair,),
}


_SHARES: dict[str, Callable[[Outcome], Sequence[bool]]] = {
    "level": lambda o: o.levels,
    "estimate": lambda o: o.estimates,
    "difference": lambda o: o.differences,
    "naive.level": lambda o: o.naive_levels,
    "naive.difference": lambda o: o.naive_differences,
}
