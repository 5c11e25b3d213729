"""The study that most faults disturb: 36 analytic trials in twelve waves.

A trial takes ten steps of a few milliseconds, each told of, so that faults fall into the measuring
as they would into training.
"""

import functools
import os
import threading
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


HANGS = "FAULTS_HANGS"
"""The same for a file that the next step takes away, to hang as if it prepared its data."""


class Stepping(ToyObjective):
    """The toy objective, as slow as something that trains."""

    def evaluate(
        self, requests: Sequence[Request], on_event: Callable[[Event], None] | None = None
    ) -> list[ToyResult]:
        steps = STEPS * len(requests)
        gate, hangs = os.environ.get(GATE), os.environ.get(HANGS)
        for step in range(1, steps + 1):
            time.sleep(STEP_S)
            if hangs is not None and on_event is not None and Path(hangs).exists():
                Path(hangs).unlink()
                on_event({"stage": "prepare", "preparing": True})
                threading.Event().wait()
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
