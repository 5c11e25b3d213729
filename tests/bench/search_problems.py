"""Analytic problems with two goals and a fidelity, and their exact fronts' hypervolume.

MOMFBraninCurrin and MOMFPark are those of Irshad, Karsch and Doepp (arXiv 2112.13901) with the
constants and the largest hypervolumes that BoTorch documents, written again. ZDT1, ZDT3 (Zitzler,
Deb and Thiele 2000) and DTLZ2 (Deb et al. 2002) get a smooth deviation that vanishes at full
fidelity; its size is chosen here. All goals are made small. X has the shape (points, parameters).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from hpo.core.domains import Float
from hpo.core.objective import Compute, Event, Params, Request, Value
from hpo.numerics import pareto

Array = npt.NDArray[np.float64]


GOALS = ("first", "second")


MOVED = 0.4
"""Where the front of the moved problems is in all parameters but the first."""


def branin_currin(X: Array, s: float) -> Array:
    x, y = 15 * X[:, 0] - 5, 15 * X[:, 1]
    b = 5.1 / (4 * math.pi**2) - 0.01 * (1 - s)
    c = 5 / math.pi - 0.1 * (1 - s)
    t = 1 / (8 * math.pi) + 0.05 * (1 - s)
    branin = (y - b * x**2 + c * x - 6) ** 2 + 10 * (1 - t) * np.cos(x) + 10
    x, y = X[:, 0], X[:, 1]
    ratio = (2300 * x**3 + 1900 * x**2 + 2092 * x + 60) / (100 * x**3 + 500 * x**2 + 4 * x + 20)
    damp = 1 - 0.1 * (1 - s) * np.exp(-1 / (2 * np.maximum(y, 1e-9)))
    return np.stack([(branin - 21) / 22, (damp * ratio - 14) / 15], axis=1)


def park(X: Array, s: float) -> Array:
    p, q = 1 - 2 * (X[:, 0] - 0.6) ** 2, X[:, 1]
    r, w = 1 - 3 * (X[:, 2] - 0.5) ** 2, 1 - (X[:, 3] - 0.8) ** 2
    a, b = 0.9 + 0.1 * s, 0.1 * (1 - s)
    root = (p + 1e-3 * (1 - s)) / 2 * np.sqrt(1 + (q + r**2) * w / (p**2 + 1e-4))
    first = a * (root + (p + 3 * w) * np.exp(1 + np.sin(r)) - b) / 22 - 0.8
    second = a * (5 - 2 / 3 * np.exp(p + q) + w * np.sin(r) * a - r + b) / 4 - 0.7
    return np.stack([-first, -second], axis=1)


def zdt1(X: Array, s: float) -> Array:
    g = 1 + 9 * X[:, 1:].mean(axis=1)
    return np.stack([X[:, 0], g - np.sqrt(X[:, 0] * g)], axis=1) + _deviation(X, s)


def zdt3(X: Array, s: float) -> Array:
    g = 1 + 9 * X[:, 1:].mean(axis=1)
    second = g - np.sqrt(X[:, 0] * g) - X[:, 0] * np.sin(10 * math.pi * X[:, 0])
    return np.stack([X[:, 0], second], axis=1) + _deviation(X, s)


def zdt1_moved(X: Array, s: float) -> Array:
    """ZDT1 whose front is inside of the cube: at a corner a model that extrapolates is lucky."""
    g = 1 + 9 * (((X[:, 1:] - MOVED) / 0.6) ** 2).mean(axis=1)
    return np.stack([X[:, 0], g - np.sqrt(X[:, 0] * g)], axis=1) + _deviation(X, s)


def zdt3_moved(X: Array, s: float) -> Array:
    g = 1 + 9 * (((X[:, 1:] - MOVED) / 0.6) ** 2).mean(axis=1)
    second = g - np.sqrt(X[:, 0] * g) - X[:, 0] * np.sin(10 * math.pi * X[:, 0])
    return np.stack([X[:, 0], second], axis=1) + _deviation(X, s)


def dtlz2(X: Array, s: float) -> Array:
    g = ((X[:, 1:] - 0.5) ** 2).sum(axis=1)
    angle = X[:, 0] * math.pi / 2
    return ((1 + g) * np.stack([np.cos(angle), np.sin(angle)])).T + _deviation(X, s)


def _deviation(X: Array, s: float) -> Array:
    waves = np.stack([np.sin(3 * X[:, 0] + X[:, 1]), np.cos(2 * X[:, 1] - X[:, 2])], axis=1)
    return np.asarray((1 - s) * (0.2 + 0.3 * waves))


@dataclass(frozen=True)
class Problem:
    """Values of points at a fidelity, and what a perfect front is worth."""

    values: Callable[[Array, float], Array]
    parameters: int
    reference: tuple[float, float]
    best: float
    """Hypervolume of the exact front below the reference."""

    @property
    def space(self) -> dict[str, Float]:
        return {f"x{place}": Float(low=0.0, high=1.0) for place in range(self.parameters)}

    def points(self, params: Sequence[Mapping[str, Any]]) -> Array:
        """Points as a matrix."""
        rows = [[float(each[name]) for name in self.space] for each in params]
        return np.array(rows).reshape(len(rows), self.parameters)

    def share(self, losses: Array) -> float:
        """Hypervolume over that of the exact front."""
        return pareto.hypervolume(losses, self.reference) / self.best if len(losses) else 0.0


def _front(values: Callable[[Array, float], Array], rest: float) -> float:
    X = np.full((20_001, 6), rest)
    X[:, 0] = np.linspace(0, 1, len(X))
    Y = values(X, 1.0)
    Y = Y[np.argsort(Y[:, 0], kind="stable")]
    lowest = np.minimum.accumulate(np.concatenate([[np.inf], Y[:-1, 1]]))
    return pareto.hypervolume(Y[Y[:, 1] < lowest][::4], (1.1, 1.1))


PROBLEMS = {
    "branin-currin": Problem(branin_currin, 2, (0.0, 0.0), 0.5235514158034145),
    "park": Problem(park, 4, (0.0, 0.0), 0.08551927363087991),
    "zdt1": Problem(zdt1, 6, (1.1, 1.1), _front(zdt1, 0.0)),
    "zdt3": Problem(zdt3, 6, (1.1, 1.1), _front(zdt3, 0.0)),
    "zdt1-moved": Problem(zdt1_moved, 6, (1.1, 1.1), _front(zdt1_moved, MOVED)),
    "zdt3-moved": Problem(zdt3_moved, 6, (1.1, 1.1), _front(zdt3_moved, MOVED)),
    "dtlz2": Problem(dtlz2, 6, (1.1, 1.1), _front(dtlz2, 0.5)),
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What `hpo.core.spec.Result` asks for."""

    metrics: dict[str, float]
    cost: dict[str, float]
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    failure: str | None = None
    notes: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Analytic:
    """An objective that takes a horizon's time_s of 1, and continues what it has measured."""

    name: str
    noise: float = 0.0
    """Standard deviation of each goal at every fidelity."""
    draw: int = 0
    """Which noise."""
    correlation: float = 0.0
    """Of a run's noise between its fidelities, which share seed, data and trajectory."""
    finetuning: float = 0.0
    """What the second goal costs at any fidelity, on top of the horizon's 1; without, both come at
    once."""
    reached: dict[str, float] = field(default_factory=dict)
    """Point and seed -> fidelity, so that going on costs only the rest."""

    def check(self, params: Params) -> None:
        for path, value in params.items():
            if path not in PROBLEMS[self.name].space or not isinstance(value, int | float):
                raise ValueError(f"{path} is no parameter of {self.name}, or {value!r} no number.")

    def values(self) -> Mapping[str, Value]:
        return dict.fromkeys(PROBLEMS[self.name].space, 0.5)

    def with_params(self, params: Params) -> Analytic:
        raise ValueError("an analytic problem has no fixed params; leave --set out.")

    def configure(self, compute: Compute) -> Analytic:
        return self

    def early(self) -> frozenset[str]:
        return frozenset(GOALS[:1] if self.finetuning else ())

    def reused(self, request: Request, done: Request) -> float:
        same = request["params"] == done["params"] and request["seed"] == done["seed"]
        return min(1.0, done["fidelity"] / request["fidelity"]) if same else 0.0

    def describe(self) -> dict[str, Any]:
        dear = {"finetuning": self.finetuning} if self.finetuning else {}
        return {"problem": self.name, "noise": self.noise, "draw": self.draw, **dear}

    def machine(self) -> dict[str, Any]:
        return {"device": "analytic"}

    def evaluate(
        self, requests: Sequence[Request], on_event: Callable[[Event], None] | None = None
    ) -> list[Measured]:
        return [self.measure(**request) for request in requests]

    def measure(
        self, params: Mapping[str, Value], fidelity: float, seed: int, *, base_only: bool = False
    ) -> Measured:
        """One point."""
        problem = PROBLEMS[self.name]
        key = json.dumps([sorted(params.items()), seed])
        digest = hashlib.sha256(f"{key} {fidelity} {self.draw}".encode()).digest()
        rng = np.random.default_rng(list(digest))
        values = problem.values(problem.points([params]), fidelity)[0]
        shared = hashlib.sha256(f"{key} {self.draw}".encode()).digest()
        own = np.random.default_rng(list(shared)).standard_normal(2)
        fresh = math.sqrt(1 - self.correlation) * rng.standard_normal(2)
        values = values + self.noise * (math.sqrt(self.correlation) * own + fresh)
        reused = min(fidelity, self.reached.get(key, 0.0))
        self.reached[key] = max(fidelity, self.reached.get(key, 0.0))
        metrics = dict(zip(GOALS, map(float, values), strict=True))
        if not self.finetuning:
            return Measured(metrics=metrics, cost={"time_s": fidelity - reused})
        spent = fidelity - reused + (0.0 if base_only else self.finetuning)
        return Measured(
            metrics={name: metrics[name] for name in GOALS[: 1 if base_only else 2]},
            cost={"time_s": spent, "tokens": spent, "tokens_reused": reused},
        )
