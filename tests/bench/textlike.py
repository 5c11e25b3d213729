"""A stand-in for a study on text that takes no training: formulas for what a trial gives and costs.

The space of the quickstart. With T the steps of a trial as a share of the full horizon, x and w the
decimal logarithms of rate and decay, d the share of the run in which the rate falls:

    base_loss = 2.4 + 1.2 T^-0.3 + 0.35 (x - x*)^2 + 0.12 max(0, w - w*)^2 + fall(d)
    gain = T^0.5 (0.10 exp(-((w - w* - 0.5) / 0.5)^2) - 0.10 (x - x* - 0.1)^2 + kept(d)) + 0.15

A power law in the steps; a best rate x* = -2.2 - 0.25 log T that is larger for short runs; a decay
w* = -log(200 T) - x at which lr wd steps = 2, beyond which the base gets worse and the fine-tune
better; a rate that stays constant costs base loss and keeps plasticity. The directions are those of
arXiv 2602.11137 and 2603.16127, the sizes are chosen here: a short run tells less of the gain, and
another optimum. Both goals have the noise of a training seed at every rung.

Costs are those of a trial on two CPU cores: in seconds, pretraining to what comes after it is 1 : 1
for the quickstart (measured) and 3 : 1 for one that pretrains three times as long; in tokens
fine-tuning looks half as expensive, as scoring has none.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from hpo.core.domains import Choice, Domain, Float
from hpo.core.goals import BASE_LOSS_DOWN, GAIN_UP
from hpo.core.objective import Compute, Event, Params, Request, Value
from hpo.core.spec import StudySpec
from hpo.numerics import pareto
from tests.bench.search_problems import Array, Measured

DECAY, RATE, FALL = "pretrain.weight_decay", "pretrain.lr", "pretrain.schedule.decay_frac"


SPACE: dict[str, Domain] = {
    DECAY: Float(low=0.003, high=3.0, log=True),
    RATE: Float(low=1e-3, high=3e-2, log=True),
    FALL: Choice(options=(0.0, 0.25, 1.0)),
}


BASE_NOISE, GAIN_NOISE = 0.01, 0.015
"""Standard deviations of a training seed; assumed."""


TOKENS_PER_SECOND = (100.0, 50.0)
"""Of pretraining, and of fine-tuning with its scoring; their ratio is measured."""


STEPS = 200.0
"""lr wd steps is STEPS lr wd T."""


def values(lr: Array, decay: Array, fall: Array, share: float) -> Array:
    """Base loss and gain without noise, a row a point."""
    x, w = np.log10(lr), np.log10(decay)
    x_best = -2.2 - 0.25 * math.log10(share)
    w_best = -math.log10(STEPS * share) - x
    annealed = np.select([fall == 0.0, fall == 0.25], [0.15, 0.0], 0.02)
    kept = np.select([fall == 0.0, fall == 0.25], [0.04, 0.02], 0.0)
    base = 2.4 + 1.2 * share**-0.3 + 0.35 * (x - x_best) ** 2
    base = base + 0.12 * np.maximum(0.0, w - w_best) ** 2 + annealed
    gain = 0.1 * np.exp(-(((w - w_best - 0.5) / 0.5) ** 2)) - 0.1 * (x - x_best - 0.1) ** 2 + kept
    return np.stack([base, 0.15 + math.sqrt(share) * gain], axis=1)


@dataclass(frozen=True, kw_only=True)
class TextLike:
    """An objective that continues what it has measured."""

    finetuning: float = 1.0
    """Seconds after pretraining, which takes 1."""
    draw: int = 0
    """Which noise."""
    reached: dict[str, float] = field(default_factory=dict)

    def check(self, params: Params) -> None:
        for path, value in params.items():
            if path not in SPACE or not isinstance(value, int | float):
                raise ValueError(f"{path} is no parameter, or {value!r} no number.")

    def values(self) -> Mapping[str, Value]:
        return {DECAY: 0.1, RATE: 3e-3, FALL: 1.0}

    def with_params(self, params: Params) -> TextLike:
        raise ValueError("the stand-in has no fixed params; leave --set out.")

    def configure(self, compute: Compute) -> TextLike:
        return self

    def early(self) -> frozenset[str]:
        return frozenset(["base_loss"])

    def reused(self, request: Request, done: Request) -> float:
        """Up to where the rate of the shorter run begins to fall."""
        if request["params"] != done["params"] or request["seed"] != done["seed"]:
            return 0.0
        if request["fidelity"] <= done["fidelity"]:
            return 1.0 if request["fidelity"] == done["fidelity"] else 0.0
        return (1 - float(str(request["params"][FALL]))) * done["fidelity"] / request["fidelity"]

    def describe(self) -> dict[str, Any]:
        return {"problem": "textlike", "finetuning": self.finetuning, "draw": self.draw}

    def machine(self) -> dict[str, Any]:
        return {"device": "analytic"}

    def evaluate(
        self, requests: Sequence[Request], on_event: Callable[[Event], None] | None = None
    ) -> list[Measured]:
        return [self.measure(request) for request in requests]

    def measure(self, request: Request) -> Measured:
        """One trial."""
        share, alone = request["fidelity"], request.get("base_only", False)
        key = json.dumps([sorted(request["params"].items()), request["seed"]])
        digest = hashlib.sha256(f"{key} {share} {self.draw}".encode()).digest()
        noise = np.random.default_rng(list(digest)).standard_normal(2)
        exact = values(*_columns([request["params"]]), share)[0]
        base, gain = exact + noise * (BASE_NOISE, GAIN_NOISE)
        done = {**request, "fidelity": self.reached.get(key, 0.0)}
        known = self.reused(request, done) if done["fidelity"] else 0.0  # type: ignore[arg-type]
        self.reached[key] = max(share, self.reached.get(key, 0.0))
        late = {} if alone else {"gain": float(gain), "gain_sem": GAIN_NOISE}
        return Measured(
            metrics={"base_loss": float(base)} | late,
            cost=self._cost(share, known, 0.0 if alone else self.finetuning),
        )

    def _cost(self, share: float, known: float, finetuning: float) -> dict[str, float]:
        pretrain, finetune = TOKENS_PER_SECOND
        here = share * (1 - known)
        tuned = finetune * finetuning
        return {
            "time_s": here + finetuning,
            "tokens": pretrain * here + tuned,
            "tokens_reused": pretrain * share * known,
            "pretrain_tokens": pretrain * here,
            "pretrain_tokens_reused": pretrain * share * known,
            "pretrain_s": here,
            "finetune_s": finetuning,
        }


def share_of_best(points: Sequence[Params]) -> float:
    """Hypervolume of these points' true values over that of the exact front."""
    reference, best = _exact()
    if not points:
        return 0.0
    return pareto.hypervolume(values(*_columns(points), 1.0) * (1, -1), reference) / best


def _columns(points: Sequence[Params]) -> tuple[Array, Array, Array]:
    rows = [[float(str(each[path])) for path in (RATE, DECAY, FALL)] for each in points]
    lr, decay, fall = np.array(rows).T
    return lr, decay, fall


@cache
def _exact() -> tuple[tuple[float, float], float]:
    """The reference, a quarter of the front's extent behind its ends, and the front's volume."""
    lr, decay, fall = np.meshgrid(
        np.geomspace(1e-3, 3e-2, 120), np.geomspace(0.003, 3.0, 240), (0.0, 0.25, 1.0)
    )
    losses = values(lr.ravel(), decay.ravel(), fall.ravel(), 1.0) * (1, -1)
    order = losses[np.lexsort((losses[:, 1], losses[:, 0]))]
    lowest = np.minimum.accumulate(np.concatenate([[np.inf], order[:-1, 1]]))
    front = order[order[:, 1] < lowest]
    worst = front.max(axis=0) + 0.25 * np.ptp(front, axis=0)
    reference = (float(worst[0]), float(worst[1]))
    return reference, pareto.hypervolume(front, reference)


def study(finetuning: float, seed: int, budget: float, **changes: Any) -> StudySpec:
    """Two questions at a time until the budget, in horizons, is spent."""
    fields: dict[str, Any] = {
        "name": "bench",
        "objective": TextLike(finetuning=finetuning, draw=seed),
        "space": SPACE,
        "goals": (BASE_LOSS_DOWN, GAIN_UP),
        "trials": 1000,
        "budget_s": budget,
        "wave": 2,
        "replicate_share": 0.0,
        "seed": seed,
    }
    return StudySpec(**(fields | changes))
