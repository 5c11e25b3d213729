"""A report that follows a run: what trains now, and the results so far; the page reloads itself.

1. Every event is passed on, and noted: which trials a worker has, their stage, step and loss.
2. At most every `PERIOD_S` the page is written. The report itself is rendered only when trials were
   recorded since, and again only after a time that keeps rendering within `MOST_SHARE`; in between
   the section of what runs is replaced in the page that was rendered last.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from hpo.core import files
from hpo.core.failures import StorageError
from hpo.core.objective import Event
from hpo.report.html import running
from hpo.report.html.page import render
from hpo.report.html.running import Curve, Lane
from hpo.report.results import Results
from hpo.storage import run_folder
from hpo.storage.run_folder import RunFolder

PERIOD_S = 10.0
"""Seconds between two versions of the page, and between its reloads; assumed: seldom enough to read
in between."""


MOST_SHARE = 0.02
"""Of a run's time that may go into rendering reports, and again into writing them; assumed."""


MOST_POINTS = 400
"""Points of a curve, of which every second is left out when there are more; even; assumed."""


MOST_CURVES = 8
"""Curves of a worker, the latest; assumed."""


UNNAMED = "this process"


@dataclass
class _Work:
    """What a worker is doing."""

    numbers: list[int]
    stage: str = ""
    step: int = 0
    steps: int = 1
    loss: float | None = None
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    """Stage -> (step, loss) so far."""

    def note(self, event: Event) -> None:
        self.stage, self.loss = event["stage"], event.get("loss")
        self.step, self.steps = event.get("step", 0), event.get("steps", 1)
        if self.loss is None or not math.isfinite(self.loss) or self.steps <= 1:
            return
        points = self.curves.pop(self.stage, [])
        if points and self.step <= points[-1][0]:
            points = points if self.step == points[-1][0] else []  # the stage of other trials
        if not points or self.step > points[-1][0]:
            points = [*points, (self.step, self.loss)]
        if len(points) > MOST_POINTS:
            points = points[::2]  # of an odd number, so that first and last stay
        self.curves[self.stage] = points
        for oldest in list(self.curves)[:-MOST_CURVES]:
            del self.curves[oldest]


class Following:
    """Passes events on, and writes the page that shows them."""

    def __init__(
        self,
        tell: Callable[[Event], None],
        place: RunFolder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tell, self.place, self.clock = tell, place, clock
        self.work: dict[str, _Work] = {}
        self.finished, self.trials = 0, 0
        self.page: tuple[str, str] | None = None
        """What is before and after the section in the report rendered last."""
        self.stale, self.next_s, self.next_render_s = True, -math.inf, -math.inf
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Pass an event on and note it; write the page if it is time."""
        self.tell(event)
        with self._lock:  # workers' threads and the controller's
            self._note(event)
            shows = self.work or "recorded" in event
            if shows and self.clock() >= self.next_s:
                with contextlib.suppress(OSError, StorageError):  # reported at the end of the run
                    self.write()

    def write(self) -> None:
        """Write the page.

        Raises:
            OSError: it cannot be written.
            StorageError: the record cannot be read.
        """
        begun = self.clock()
        self.next_s = begun + PERIOD_S
        if self.page is None or (self.stale and begun >= self.next_render_s):
            self._render()
        assert self.page is not None
        started = self.clock()
        before, after = self.page
        lanes = [_lane(name, work) for name, work in sorted(self.work.items())]
        middle = running.section(lanes, self.finished, self.trials)
        self.place.report.parent.mkdir(parents=True, exist_ok=True)
        files.write(self.place.report, before + middle + after)
        now = self.clock()
        self.next_s = now + max(PERIOD_S, (now - started) / MOST_SHARE)

    def _render(self) -> None:
        started = self.clock()
        record = run_folder.read(self.place)
        self.trials = self.trials or record.planned
        before, mark, after = render(Results(record), PERIOD_S).partition(running.MARK)
        assert mark
        self.page, self.stale = (before, after), False
        self.next_render_s = self.clock() + (self.clock() - started) / MOST_SHARE

    def _note(self, event: Event) -> None:
        self.finished = event.get("finished", self.finished)
        self.trials = event.get("trials", self.trials)
        worker = event.get("worker", UNNAMED)
        if "recorded" in event:
            self.stale = True
            done = set(event["recorded"])
            self.work = {
                name: each for name, each in self.work.items() if not done.issuperset(each.numbers)
            }
        elif "idle" in event:
            self.work.pop(worker, None)
        elif "stage" in event:
            numbers = sorted(event.get("numbers", []))
            if worker not in self.work or self.work[worker].numbers != numbers:
                self.work[worker] = _Work(numbers)
            self.work[worker].note(event)


def _lane(name: str, work: _Work) -> Lane:
    curves: Sequence[Curve] = [
        Curve(stage=stage, points=tuple(points)) for stage, points in work.curves.items()
    ]
    return Lane(
        worker=name,
        numbers=tuple(work.numbers),
        stage=work.stage,
        step=work.step,
        steps=work.steps,
        loss=work.loss,
        curves=tuple(curves),
    )
