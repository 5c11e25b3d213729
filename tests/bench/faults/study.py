"""The study that most faults disturb: 36 analytic trials in twelve waves.

A trial takes ten steps of a few milliseconds, each told of, so that faults fall into the measuring
as they would into training.
"""

import functools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hpo.controller import Controller
from hpo.core.objective import Event, Request
from hpo.core.trial import Trial
from tests.hpo.toy_objective import ToyObjective, ToyResult, spec

STEPS, STEP_S = 10, 0.01


FILE = Path(__file__)


GATE = "FAULTS_GATE"
"""The environment's name for a file; while it is there, a step does not end."""


class Stepping(ToyObjective):
    """The toy objective, as slow as something that trains."""

    def evaluate(
        self, requests: Sequence[Request], on_event: Callable[[Event], None] | None = None
    ) -> list[ToyResult]:
        steps = STEPS * len(requests)
        gate = os.environ.get(GATE)
        for step in range(1, steps + 1):
            time.sleep(STEP_S)
            while True:
                if on_event is not None:
                    on_event({"stage": "pretrain", "step": step, "steps": steps})
                if gate is None or not Path(gate).exists():
                    break
                time.sleep(STEP_S)
        return super().evaluate(requests)


STUDY = spec(name="faults", objective=Stepping(), trials=36, wave=3, sampler="random")


@functools.cache
def undisturbed() -> list[Trial]:
    """Its trials without a fault."""
    return Controller(STUDY, "sqlite://").run().trials
