"""An analytic objective of models of several sizes, with a recipe as `hpo transfer` reads it.

With N parameters, decay d and rate r, and noise of a seed beside:
base_loss = 3 - 0.1 log10 N + (d - 0.3)^2 + (log10 r + 2)^2 / 4 and gain = d / (d + 1).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from hpo.core.objective import Compute, Event, Params, Request, Value
from tests.hpo.toy_objective import ToyExported, ToyResult

SIZES = {"small": 1e4, "middle": 4e4, "large": 1.6e5}


BATCH = 64


DEFAULTS: dict[str, Value] = {
    "model.preset": "small",
    "pretrain.steps": 1000,
    "pretrain.lr": 0.01,
    "pretrain.weight_decay.value": 0.1,
    "pretrain.schedule.warmup_frac": 0.1,
}


@dataclass(frozen=True, kw_only=True)
class SizedObjective:
    """Counts in `measured` what it was asked for; fails above a decay."""

    fixed: Params = field(default_factory=lambda: dict(DEFAULTS))
    measured: Callable[[Sequence[Request]], None] = lambda requests: None
    fails_above_decay: float = math.inf

    def check(self, params: Params) -> None:
        for path in params:
            if path not in DEFAULTS:
                raise ValueError(f"unknown hyperparameter {path!r}.")
        preset = params.get("model.preset", "small")
        if preset not in SIZES:
            near = difflib.get_close_matches(str(preset), SIZES) or [*SIZES]
            raise ValueError(f"model.preset {preset!r} is unknown; did you mean {near[0]}?")

    def values(self) -> Mapping[str, Value]:
        return self.fixed

    def with_params(self, params: Params) -> SizedObjective:
        self.check(params)
        return replace(self, fixed={**self.fixed, **params})

    def configure(self, compute: Compute) -> SizedObjective:
        return self

    def early(self) -> frozenset[str]:
        return frozenset()

    def reused(self, request: Request, done: Request) -> float:
        return 0.0

    def estimate(
        self, requests: Sequence[Request], *, together: int = 1, timed: bool = True
    ) -> dict[str, Any]:
        tokens = sum(BATCH * self._whole(each)["pretrain.steps"] for each in requests)
        size = SIZES[self._whole(requests[0])["model.preset"]]
        return {"parameters": size, "tokens": {"pretraining": tokens}, "seconds": tokens / 1e4}

    def describe(self) -> dict[str, Any]:
        fixed = self.fixed
        decay = {
            "value": fixed["pretrain.weight_decay.value"], "multipliers": {"mlp": 1.0},
            "coupling": "decoupled", "policy": "uniform", "course": "constant", "decayed": "all",
        }  # fmt: skip
        schedule = {
            "warmup_frac": fixed["pretrain.schedule.warmup_frac"], "warmup_steps": None,
            "decay_frac": 1.0, "shape": "cosine", "floor_ratio": 0.1, "decay": "trained",
        }  # fmt: skip
        pretrain = {
            "steps": fixed["pretrain.steps"], "batch_size": 1, "seq_len": BATCH,
            "lr": fixed["pretrain.lr"], "weight_decay": decay, "schedule": schedule, "mid": None,
            "optimizer": "adamw",
        }  # fmt: skip
        return {"recipe": {"model": {"preset": fixed["model.preset"]}, "pretrain": pretrain}}

    def machine(self) -> dict[str, Any]:
        return {"device": "toy"}

    def evaluate(
        self, requests: Sequence[Request], on_event: Callable[[Event], None] | None = None
    ) -> list[ToyResult]:
        self.measured(requests)
        return [self._measure(self._whole(each), each["seed"]) for each in requests]

    def export(
        self, request: Request, folder: Path, on_event: Callable[[Event], None] | None = None
    ) -> ToyExported:
        raise ValueError("there is nothing to export.")

    def _whole(self, request: Request) -> dict[str, Any]:
        return {**self.fixed, **request["params"]}

    def _measure(self, params: Mapping[str, Any], seed: int) -> ToyResult:
        decay, lr = params["pretrain.weight_decay.value"], params["pretrain.lr"]
        steps, size = params["pretrain.steps"], SIZES[params["model.preset"]]
        cost = {"time_s": steps * BATCH / 1e4, "tokens": float(steps * BATCH)}
        if decay > self.fails_above_decay:
            return ToyResult(failure=f"diverged at decay {decay:.3g}", cost=cost)
        noise = 0.001 * np.random.default_rng([seed, round(1e6 * decay), steps]).normal(size=2)
        base = 3 - 0.1 * math.log10(size) + (decay - 0.3) ** 2 + (math.log10(lr) + 2) ** 2 / 4
        metrics = {
            "base_loss": base + noise[0],
            "gain": decay / (decay + 1) + noise[1],
            "tokens_per_param": steps * BATCH / size,
        }
        if decay > 0:
            metrics["tau_frac"] = 1 / (lr * decay * steps)
        return ToyResult(metrics=metrics, cost=cost)
