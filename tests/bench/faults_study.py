"""The study that the bench `faults` disturbs: 36 analytic trials in twelve waves.

A trial takes ten steps of a few milliseconds, each told of, so that faults fall into the measuring
as they would into training.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from hpo.spec import Event, Request
from tests.hpo.toy_objective import ToyObjective, ToyResult, spec

STEPS, STEP_S = 10, 0.01


class Stepping(ToyObjective):
    """The toy objective, as slow as something that trains."""

    def evaluate(
        self, requests: Sequence[Request], on_event: Callable[[Event], None] | None = None
    ) -> list[ToyResult]:
        for step in range(1, STEPS * len(requests) + 1):
            time.sleep(STEP_S)
            if on_event is not None:
                event: dict[str, Any] = {"stage": "pretrain", "step": step}
                on_event(event | {"steps": STEPS * len(requests)})
        return super().evaluate(requests)


STUDY = spec(name="faults", objective=Stepping(), trials=36, wave=3, sampler="random")
