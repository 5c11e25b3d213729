"""A run judged by a larger model: whether the proxy ordered its recipes rightly, and which rule of
transfer carries weight decay best.

The recipes were chosen at the proxy, so the larger model's results are fresh. At it every recipe is
trained at the same seeds, and only seeds that all recipes have are compared. Significance is that
of `hpo.front.significance`:

- Two recipes differ significantly as any two settings of a run do. Those that a rule makes the
  same, as they differed in weight decay alone, are no pair.
- The regret of the proxy's pick is its difference there from the best, likewise. The best of
  several looks better than it is, so the regret is on average a little too large.
- Two rules differ by the mean over recipes of their difference, whose error is that between
  recipes; it is significant beyond the largest of as many rules that are truly equal (Tukey).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hpo.analysis.proxy_agreement import FEWEST, Agreement, agreement
from hpo.core.goals import Goal
from hpo.core.trial import Run, Trial
from hpo.core.verification_plan import VerificationPlan
from hpo.front.errors import CONFIDENCE, Estimate
from hpo.front.front import counted_points, front
from hpo.front.replicates import Setting
from hpo.front.significance import Leads, null_quantile

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class GoalVerdict:
    """One goal at the larger model, under one rule."""

    goal: Goal
    agreement: Agreement
    pick: int
    """Number of the run's trial that the proxy takes for the best of the recipes."""
    best: int
    """The one that is best at the larger model."""
    place: int
    """Of the pick there; 1 is the best."""
    regret: Estimate
    """By how much the pick is worse there, in the goal's unit; not below 0."""
    mean: float
    """At the larger model, over the recipes that are measured under all rules; NaN without any."""


@dataclass(frozen=True, kw_only=True)
class RuleVerdict:
    """The larger model under one rule of transfer."""

    rule: str
    goals: tuple[GoalVerdict, ...]
    """None with fewer than three recipes."""
    stayed: tuple[int, ...]
    """Trials of the run's front that are on the front there too."""
    left: tuple[int, ...]
    entered: tuple[int, ...]
    unmeasured: tuple[int, ...]
    """Recipes without a result, such as where training diverged."""


@dataclass(frozen=True, kw_only=True)
class RuleDifference:
    """Two rules in one goal."""

    goal: Goal
    better: str
    other: str
    num_recipes: int
    lead: Estimate
    """By how much the first is better, in the goal's unit, mean over recipes."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """A run at one size."""

    plan: VerificationPlan
    run: Run
    """What was measured there."""
    names: Mapping[int, str]
    """Number of a trial -> its name, of those that have one."""
    rules: tuple[RuleVerdict, ...]
    differences: tuple[RuleDifference, ...]
    num_seeds: int
    """That all recipes have, under every rule."""

    @property
    def is_complete(self) -> bool:
        """Whether all of the plan has ended."""
        ended = sum(trial.ended for trial in self.run.trials)
        return ended >= len(self.plan.points) * self.plan.seeds


def verify(
    proxy: Mapping[int, Trial], on_front: Sequence[int], target: Run, plan: VerificationPlan
) -> Verification:
    """Judge the proxy by what was measured at the larger model.

    Args:
        proxy: Number of a trial -> its setting at the proxy, means over seeds.
        on_front: Numbers of those that the run's front reports.
        target: What was measured of the plan so far.
    """
    goals = target.goals
    found = {rule: _settings(target, plan.of_rule(rule)) for rule in plan.rules}
    return Verification(
        plan=plan,
        run=target,
        names={number: name for number in plan.recipes if (name := proxy[number].name)},
        rules=tuple(_rule(rule, proxy, {*on_front}, target, found, plan) for rule in found),
        differences=tuple(each for goal in goals for each in _differences(goal, found, len(goals))),
        num_seeds=min((len(_shared([*each.values()])) for each in found.values()), default=0),
    )


def _settings(target: Run, trials: Mapping[str, int]) -> dict[int, Setting]:
    """Number of the run's trial -> its setting at the larger model, as far as it is measured."""
    some = replace(target, trials=[t for t in target.trials if t.point in trials])
    return {trials[str(each.trial.point)]: each for each in counted_points(some)}


def _shared(settings: Sequence[Setting]) -> list[int]:
    """Seeds that all of them have."""
    each = [{trial.seed for trial in setting.seeds} for setting in settings]
    return sorted(set.intersection(*each)) if each else []


def _values(settings: Sequence[Setting], metric: str, seeds: Sequence[int]) -> Array:
    """y_RS: the metric of each at these seeds."""
    by_seed = [{t.seed: t.metrics[metric] for t in setting.seeds} for setting in settings]
    return np.array([[each[seed] for seed in seeds] for each in by_seed])


def _rule(
    rule: str,
    proxy: Mapping[int, Trial],
    on_front: set[int],
    target: Run,
    found: Mapping[str, Mapping[int, Setting]],
    plan: VerificationPlan,
) -> RuleVerdict:
    settings = found[rule]
    numbers = [number for number in plan.of_rule(rule).values() if number in settings]
    unmeasured = tuple(number for number in plan.of_rule(rule).values() if number not in settings)
    seeds = _shared([settings[number] for number in numbers])
    if len(numbers) < FEWEST or not seeds:
        return RuleVerdict(
            rule=rule, goals=(), stayed=(), left=(), entered=(), unmeasured=unmeasured
        )
    measured = {number: settings[number] for number in numbers}
    leads = Leads([*measured.values()], len(target.goals))
    there = _front(target, measured)
    before = on_front & set(numbers)
    common = set.intersection(*(set(each) for each in found.values()))
    return RuleVerdict(
        rule=rule,
        goals=tuple(_goal(goal, proxy, measured, seeds, leads, common) for goal in target.goals),
        stayed=tuple(sorted(before & there)),
        left=tuple(sorted(before - there)),
        entered=tuple(sorted(there - before)),
        unmeasured=unmeasured,
    )


def _front(target: Run, measured: Mapping[int, Setting]) -> set[int]:
    """Numbers of the run's trials whose recipes are on the front at the larger model.

    What is the same as one of them is there too.
    """
    number_of = {setting.trial.number: number for number, setting in measured.items()}
    names = {setting.trial.point for setting in measured.values()}
    some = replace(target, trials=[t for t in target.trials if t.point in names])
    found = {number_of[trial.number] for trial in front(some).trials}
    alike_RR, numbers = _alike([*measured.values()]), [*measured]
    with_front_R = alike_RR @ np.array([number in found for number in numbers])
    return {number for number, is_on in zip(numbers, with_front_R, strict=True) if is_on}


def _goal(
    goal: Goal,
    proxy: Mapping[int, Trial],
    measured: Mapping[int, Setting],
    seeds: Sequence[int],
    leads: Leads,
    common: set[int],
) -> GoalVerdict:
    numbers, settings = [*measured], [*measured.values()]
    x_R = goal.sign * np.array([proxy[number].metrics[goal.metric] for number in numbers])
    alike_RR = _alike(settings)
    y_RS = _pooled(goal.sign * _values(settings, goal.metric, seeds), alike_RR)
    y_R = y_RS.mean(axis=1)
    pick, best = int(x_R.argmin()), int(y_R.argmin())
    if alike_RR[pick, best]:
        best = pick
    compared = [row for row, number in enumerate(numbers) if number in common]
    return GoalVerdict(
        goal=goal,
        agreement=agreement(x_R, y_RS, _decided(settings, goal, leads) & ~alike_RR, ~alike_RR),
        pick=numbers[pick],
        best=numbers[best],
        mean=goal.sign * float(y_RS[compared].mean()) if compared else math.nan,
        place=int((y_R < y_R[pick]).sum()) + 1,
        regret=_positive(
            leads.between(measured[numbers[pick]].trial, measured[numbers[best]].trial, goal.metric)
        ),
    )


def _alike(settings: Sequence[Setting]) -> npt.NDArray[np.bool_]:
    """Which recipes a rule has made the same, such as those that differed in decay alone."""
    params = [setting.trial.params for setting in settings]
    return np.array([[one == other for other in params] for one in params])


def _pooled(y_RS: Array, alike_RR: npt.NDArray[np.bool_]) -> Array:
    """One value for recipes that are the same, whatever noise their trainings have."""
    return np.asarray(alike_RR @ y_RS / alike_RR.sum(axis=1, keepdims=True))


def _decided(settings: Sequence[Setting], goal: Goal, leads: Leads) -> npt.NDArray[np.bool_]:
    """Pairs that the larger model tells apart."""
    found = np.zeros((len(settings), len(settings)), dtype=np.bool_)
    for one, other in itertools.combinations(range(len(settings)), 2):
        lead = leads.between(settings[one].trial, settings[other].trial, goal.metric)
        found[one, other] = found[other, one] = lead.significant is True
    return found


def _differences(
    goal: Goal, found: Mapping[str, Mapping[int, Setting]], num_goals: int
) -> list[RuleDifference]:
    """Every two rules, over the recipes that both have."""
    level = 1 - (1 - CONFIDENCE) / num_goals
    differences = []
    for one, other in itertools.combinations(found, 2):
        numbers = [number for number in found[one] if number in found[other]]
        pairs = [(found[one][number], found[other][number]) for number in numbers]
        apart = [_apart(goal, *pair) for pair in pairs]
        known = np.array([each for each in apart if math.isfinite(each)])
        if len(known) < FEWEST:
            continue
        lead = _mean(known)
        if lead.error > 0:
            least = null_quantile(len(found), lead.freedom, level, given=False)
            lead = replace(lead, significant=abs(lead.value) / lead.error > least)
        # Losses: below 0 the first is the better one.
        better, worse = (one, other) if lead.value <= 0 else (other, one)
        differences.append(
            RuleDifference(
                goal=goal,
                better=better,
                other=worse,
                num_recipes=len(known),
                lead=_positive(lead),
            )
        )
    return differences


def _apart(goal: Goal, one: Setting, other: Setting) -> float:
    """The first minus the second in the goal's loss, over the seeds of both; NaN without any."""
    seeds = _shared([one, other])
    if not seeds:
        return math.nan
    first, second = (_values([each], goal.metric, seeds)[0] for each in (one, other))
    return goal.sign * float((first - second).mean())


def _mean(values: Array) -> Estimate:
    """Over recipes."""
    return Estimate(
        value=float(values.mean()),
        error=float(values.std(ddof=1)) / math.sqrt(len(values)),
        freedom=len(values) - 1.0,
        pretraining_seeds=True,
        rows=False,
    )


def _positive(estimate: Estimate) -> Estimate:
    """The size of a difference whose direction is known."""
    return replace(estimate, value=abs(estimate.value))
