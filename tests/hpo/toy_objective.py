"""An analytic objective: two goals that pull apart, known everywhere, no training.

With decay d and rate r (in tens): base_loss = 3 + d^2 + (log10 r + 2)^2 / 4 wants no decay, and
gain = 0.2 + 0.3 d / (d + 0.2) - ((layers - 3) / 10)^2 wants much of it.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpo.core.domains import Choice, Float, Int
from hpo.core.goals import BASE_LOSS_DOWN, GAIN_UP
from hpo.core.objective import Compute, Event, Params, Request, Value
from hpo.core.spec import Baseline, StudySpec

DEFAULTS: dict[str, Value] = {
    "pretrain.weight_decay": 0.1,
    "pretrain.lr": 0.01,
    "model.layers": 2,
    "pretrain.shape": "cosine",
}


SPACE = {
    "pretrain.weight_decay": Float(low=0.01, high=1.0, log=True),
    "pretrain.lr": Float(low=1e-3, high=1e-1, log=True),
}


FULL_SPACE = {
    **SPACE,
    "model.layers": Int(low=1, high=5),
    "pretrain.shape": Choice(options=("cosine", "linear")),
}


BASELINES = (
    Baseline(name="standard", params={}),
    Baseline(name="no decay", params={"pretrain.weight_decay": 0.0}),
)


@dataclass(frozen=True, kw_only=True)
class ToyResult:
    """What `hpo.core.spec.Result` asks for."""

    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    failure: str | None = None
    notes: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    row_scores: dict[str, list[list[float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class ToyExported:
    """What `hpo.core.spec.Exported` asks for."""

    files: dict[str, str]
    result: ToyResult
    unsupported: dict[str, list[str]]


@dataclass(frozen=True, kw_only=True)
class ToyObjective:
    """Deterministic; fails above a rate, and stops the process or raises where it is told to."""

    fixed: Params = field(default_factory=lambda: dict(DEFAULTS))
    fails_above_lr: float = math.inf
    time_s: float = 1.0
    """What each trial says it cost."""
    extra: Params = field(default_factory=dict)
    """Metrics that replace or join the measured ones; None takes one away."""
    rows: bool = False
    """Whether it gives its scores row by row."""
    before: Callable[[Sequence[Request]], None] = lambda requests: None
    """Called before each batch."""
    halfway: Callable[[], None] = lambda: None
    """Called in the middle of an export."""

    def check(self, params: Params) -> None:
        for path, value in params.items():
            if path not in DEFAULTS:
                near = difflib.get_close_matches(path, DEFAULTS, n=2, cutoff=0.4)
                raise ValueError(f"unknown hyperparameter {path!r}; did you mean {near}?")
            wanted = str if isinstance(DEFAULTS[path], str) else (int, float)
            if not isinstance(value, wanted):
                raise ValueError(f"{path} must be like {DEFAULTS[path]!r}, got {value!r}.")

    def values(self) -> Mapping[str, Value]:
        return self.fixed

    def with_params(self, params: Params) -> ToyObjective:
        self.check(params)
        return replace(self, fixed={**self.fixed, **params})

    def configure(self, compute: Compute) -> ToyObjective:
        device = compute.get("device", "cpu")
        if device != "cpu":
            raise ValueError(f"device {device!r} cannot be used; use cpu.")
        if "devices" in compute:
            raise ValueError("the toy objective does not know devices; leave it out.")
        return self

    def early(self) -> frozenset[str]:
        return frozenset({"base_loss"})

    def reused(self, request: Request, done: Request) -> float:
        same = request["params"] == done["params"] and request["seed"] == done["seed"]
        return min(1.0, done["fidelity"] / request["fidelity"]) if same else 0.0

    def describe(self) -> dict[str, Any]:
        return {"objective": "toy", "fixed": dict(self.fixed)}

    def machine(self) -> dict[str, Any]:
        return {"device": "toy"}

    def evaluate(
        self, requests: Sequence[Request], on_event: Callable[[Event], None] | None = None
    ) -> list[ToyResult]:
        self.before(requests)
        results = []
        for place, request in enumerate(requests):
            if on_event is not None:
                done = place / len(requests)
                on_event({"stage": "measure", "step": 1, "steps": 1, "done_frac": done})
            results.append(self._measure({**self.fixed, **request["params"]}))
        return results

    def export(
        self, request: Request, folder: Path, on_event: Callable[[Event], None] | None = None
    ) -> ToyExported:
        (result,) = self.evaluate([request], on_event)
        if result.failure is not None:
            raise ValueError(f"the trial has nothing to export: {result.failure}.")
        (folder / "half").mkdir(exist_ok=True)
        self.halfway()
        (folder / "params.json").write_text(json.dumps(request["params"]))
        return ToyExported({"params.json": "all there is"}, result, {"params.json": ["the rest"]})

    def _measure(self, params: Mapping[str, Any]) -> ToyResult:
        decay, lr, layers = (
            params[path] for path in ("pretrain.weight_decay", "pretrain.lr", "model.layers")
        )
        cost = {"time_s": self.time_s}
        if lr > self.fails_above_lr:
            return ToyResult(failure=f"diverged at lr {lr:.3g}", cost=cost)
        base = 3 + decay**2 + (math.log10(lr) + 2) ** 2 / 4
        gain = 0.2 + 0.3 * decay / (decay + 0.2) - ((layers - 3) / 10) ** 2
        metrics = {"base_loss": base, "gain": gain, "gain_sem": 0.01, "finetuned": 0.3 + gain}
        changed = {**metrics, **self.extra}
        return ToyResult(
            metrics={name: value for name, value in changed.items() if value is not None},
            curves={"train_loss": [[1.0, 5.0], [2.0, base]]},
            cost=cost,
            notes=["many layers"] if layers > 4 else [],
            labels=["deep"] if layers > 4 else [],
            row_scores={"gain": [[gain - 0.1, gain + 0.1]]} if self.rows else {},
        )


def spec(**fields: Any) -> StudySpec:
    """A study of the toy objective: two baselines, waves of three, GP after four Sobol points."""
    defaults: dict[str, Any] = {
        "name": "toy",
        "objective": ToyObjective(),
        "space": SPACE,
        "goals": (BASE_LOSS_DOWN, GAIN_UP),
        "baselines": BASELINES,
        "trials": 8,
        "wave": 3,
        "replicate_share": 0.0,
    }
    return StudySpec(**(defaults | fields))


@dataclass(frozen=True)
class Once:
    """Does something before the batch that holds this trial's turn, and never again.

    The mark in the file system outlives the process, as the trial does.
    """

    batch: int
    folder: Path
    act: Callable[[], None]

    def __call__(self, requests: Sequence[Request]) -> None:
        mark = self.folder / "batches"
        begun = len(mark.read_text()) if mark.exists() else 0
        mark.write_text("x" * (begun + 1))
        if begun == self.batch:
            self.act()


def kill() -> None:
    """End this process at once, as the kernel would."""
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt() -> None:
    """What Ctrl-C sends."""
    signal.raise_signal(signal.SIGINT)


class StoreError(RuntimeError):
    """Has the name of what ends a study, as no trial is to blame."""


def explode() -> None:
    raise StoreError("the machine caught fire")


@dataclass(frozen=True)
class Stumbles:
    """Raises before a batch that holds one of these rates; without any, before every batch."""

    error: BaseException
    rates: tuple[float, ...] = ()

    def __call__(self, requests: Sequence[Request]) -> None:
        found = {request["params"].get("pretrain.lr") for request in requests}
        if not self.rates or found & set(self.rates):
            raise self.error
