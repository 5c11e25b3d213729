"""A report that follows a run: written anew as results are recorded; the page reloads itself."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from hpo import runs
from hpo.report import write_report
from hpo.runs import Place
from hpo.spec import Event

REFRESH_S = 10.0  # Assumed: seldom enough to read in between.
MOST_SHARE = 0.02  # Of a run's time that may go into writing reports; assumed.


def following(tell: Callable[[Event], None], place: Place) -> Callable[[Event], None]:
    """Tells on what it is told, and writes the report when trials were recorded."""
    next_s = 0.0

    def told(event: Event) -> None:
        nonlocal next_s
        tell(event)
        if "recorded" not in event or time.monotonic() < next_s:
            return
        started = time.monotonic()
        with contextlib.suppress(OSError):  # the report at the end says what is wrong with the disk
            write(place)
        next_s = started + (time.monotonic() - started) / MOST_SHARE

    return told


def write(place: Place) -> None:
    """The report of what is recorded so far, which loads itself anew."""
    write_report(runs.read(place), place.report, REFRESH_S)
