"""Which recipes of a run a verification carries to a larger model, and what they are there.

A recipe keeps its batch, its shares of the schedule and its fine-tuning. Tokens follow from the
parameters, the weight decay from a rule of `hpo.analysis.transfer`, and the peak rate is the
proxy's times a factor: no rule for it is known that holds without muP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from hpo.analysis import transfer
from hpo.analysis.proxy_agreement import FEWEST
from hpo.analysis.transfer import Proxy, Scale
from hpo.core.checks import MOST_WHOLE
from hpo.core.format import number, title
from hpo.core.objective import Value
from hpo.core.trial import Run, Trial
from hpo.core.verification_plan import CarriedRecipe, VerificationPlan
from hpo.front.front import Front
from hpo.front.losses import losses

DECAY = "pretrain.weight_decay"


STEPS = ("pretrain.steps", "pretrain.mid.steps")


PRESET = "model.preset"


T = TypeVar("T")


def chosen(front: Front, num: int) -> list[Trial]:
    """Recipes of the front, baselines and dominated ones, about so many, by number.

    At most a third are baselines off the front, at least a quarter (two where there are so many)
    are dominated: without bad recipes no order could be tested. Each kind is spread evenly, the
    front from end to end, dominated ones from those that the fewest dominate.

    Raises:
        ValueError: fewer than three recipes were measured in full.
    """
    if len(front.points) < FEWEST:
        raise ValueError(
            f"a verification compares {FEWEST} recipes or more, and {len(front.points)} of this "
            "run are measured in full; measure more trials first."
        )
    on_front = {trial.number for trial in front.trials}
    others = [trial for trial in _by_dominance(front) if trial.number not in on_front]
    baselines = spread([each for each in others if each.baseline is not None], num // 3)
    kept = {trial.number for trial in baselines}
    dominated = [trial for trial in others if trial.number not in kept]
    least = min(len(dominated), max(2, num // 4))
    best = spread(front.trials, max(1, num - len(baselines) - least))
    worst = spread(dominated, max(0, num - len(baselines) - len(best)))
    return sorted([*baselines, *best, *worst], key=lambda trial: trial.number)


def spread(items: Sequence[T], count: int) -> list[T]:
    """So many of them, evenly, from the first to the last."""
    if count >= len(items):
        return list(items)
    places = np.linspace(0, len(items) - 1, count).round().astype(int) if count > 1 else [0]
    return [items[int(place)] for place in places[:count]]


def _by_dominance(front: Front) -> list[Trial]:
    """All that compete, those that the fewest others dominate first."""
    Y_NG = losses(front.points, front.goals)
    better_NN = (Y_NG[:, None] <= Y_NG).all(axis=2) & (Y_NG[:, None] < Y_NG).any(axis=2)
    order = np.argsort(better_NN.sum(axis=0), kind="stable")
    return [front.points[int(row)] for row in order]


def plan(
    run: Run,
    trials: Sequence[Trial],
    *,
    size: str,
    num_params: float,
    tokens_per_param: float,
    rules: Sequence[str],
    lr_factor: float = 1.0,
    seeds: int = 2,
) -> VerificationPlan:
    """These recipes at a size by each rule; rules that give one decay share a point.

    Raises:
        ValueError: the record does not tell a trial's size and schedule, or the size gives a rate,
            a decay or steps that no training has.
    """
    points = list[CarriedRecipe]()
    for trial in trials:
        proxy = transfer.read_proxy(run, trial)
        target = Scale(
            params=num_params,
            tokens=num_params * tokens_per_param,
            batch=proxy.scale.batch,
            lr=proxy.scale.lr * lr_factor,
        )
        points += _points(run, proxy, target, rules)
    return VerificationPlan(
        run=run.name,
        size=size,
        num_params=num_params,
        tokens_per_param=tokens_per_param,
        lr_factor=lr_factor,
        seeds=seeds,
        points=tuple(points),
    )


def _points(run: Run, proxy: Proxy, target: Scale, rules: Sequence[str]) -> list[CarriedRecipe]:
    """A point for each different decay."""
    by_decay: dict[float | None, list[str]] = {}
    for each in transfer.advise(proxy, target):
        # No rule is about decay in the gradient, whose value is then carried over as it is.
        if each.rule in rules and (proxy.decay is not None or each.rule == "carry_over"):
            decay = each.decay if proxy.decay is not None else None
            rounded = None if decay is None else float(f"{decay:.6g}")
            by_decay.setdefault(rounded, []).append(each.rule)
    return [
        CarriedRecipe(
            name=f"{title(proxy.trial)}, decay {'as it is' if decay is None else number(decay)}",
            trial=proxy.trial.number,
            rules=tuple(names),
            decay=decay,
            params=_params(run, proxy, target, decay),
        )
        for decay, names in by_decay.items()
    ]


def _params(run: Run, proxy: Proxy, target: Scale, decay: float | None) -> dict[str, Value]:
    """The trial's params with what the size changes."""
    recipe = transfer.recipe(run, proxy.trial)
    pre: dict[str, Any] = recipe["pretrain"]
    replaced = {PRESET, "pretrain.schedule.warmup_steps", *STEPS}
    if decay is not None:
        replaced |= {DECAY, f"{DECAY}.value"}
    found = {path: each for path, each in proxy.trial.params.items() if path not in replaced}
    growth = target.steps / proxy.scale.steps
    found["pretrain.steps"] = _steps(pre["steps"], growth, target)
    if pre.get("mid"):
        found["pretrain.mid.steps"] = _steps(pre["mid"]["steps"], growth, target)
    found["pretrain.schedule.warmup_frac"] = proxy.schedule.warmup_frac
    found["pretrain.lr"] = target.lr
    if decay is not None:
        independent = pre["weight_decay"]["coupling"] == "independent"
        found[f"{DECAY}.value"] = decay * target.lr if independent else decay
    return found


def _steps(proxy_steps: int, growth: float, target: Scale) -> int:
    steps = proxy_steps * growth
    if not 0.5 < steps <= MOST_WHOLE:
        raise ValueError(
            f"{target.tokens_per_param:g} tokens a parameter are {steps:.3g} steps of training, "
            f"which must be from 1 to 2^53; give {'more' if steps < 1 else 'fewer'} tokens a "
            "parameter."
        )
    return round(steps)
