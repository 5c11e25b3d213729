"""What a person sees while a study runs: trial, stage, step, loss, tokens a second, time left.

In a terminal one live line, or one for each worker; in a notebook one text that is replaced;
elsewhere a plain line every few seconds. An
interruption (Ctrl-C, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2) is noted by a signal handler and raised
from the next event, where the objective can keep what it has; a second Ctrl-C or SIGTERM stops at
once, and so does a long wait for that event. Stopping at once loses no more than kill -9 does: what
was done since it was last kept.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from hpo.core.format import duration, escape_controls, plural
from hpo.core.objective import Event
from hpo.executors.interrupts import GRACE_S, STOPS, Interrupted, _at_once, _heard

LINE_S = 10.0
"""Seconds between lines where there is no terminal."""


class Display:
    """A context that shows events and turns signals into `Interrupted`."""

    def __init__(self, console: Console, trials: int, finished: int) -> None:
        self.console, self.trials, self.finished = console, trials, finished
        self.started = time.monotonic()
        self.already = finished
        self.numbers: list[int] = []
        self.under_way: dict[str | None, float] = {}
        """Worker -> trials' worth of its batch that is done; None is this process itself."""
        self.lines: dict[str | None, str] = {}
        """Worker -> what it does."""
        self.reported: dict[str | None, tuple[str, float]] = {}
        """Worker -> the stage of its last printed line, and when that was."""
        self.waiting = ""
        self.stopped, self.quiet = False, False
        self.notebook = NotebookText() if console.is_jupyter else None
        self.live = Live(console=console, refresh_per_second=4, transient=True)
        self.old: dict[int, Any] = {}

    def __enter__(self) -> Display:
        if threading.current_thread() is threading.main_thread():  # no other hears signals
            for number in (*STOPS, *_heard()):
                self.old[number] = signal.signal(number, self._on_signal)
            self.old[signal.SIGALRM] = signal.signal(signal.SIGALRM, _at_once)
        if self.console.is_terminal and not self.quiet:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.old:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.live.stop()
        for number, handler in self.old.items():
            signal.signal(number, handler)

    def __call__(self, event: Event) -> None:
        """Show an event.

        Raises:
            Interrupted: a signal came since the last one.
        """
        if self.stopped:
            signal.setitimer(signal.ITIMER_REAL, 0)  # what is being kept now is kept to its end
            raise Interrupted
        if "waiting" in event:
            if event["waiting"] != self.waiting:
                self.waiting = event["waiting"]
                self.say(self.waiting)
        elif "wave" in event:
            self.numbers, self.finished = event["wave"], event["finished"]
            self.under_way.pop(None, None)
        elif "recorded" in event:
            self.finished = event["finished"]
            self.under_way.pop(None, None)
        elif "idle" in event:
            self.under_way.pop(event["worker"], None)
            self.lines.pop(event["worker"], None)
        elif "stage" in event:
            worker, trials = event.get("worker"), event.get("batch", len(self.numbers))
            done = event.get("done_frac", 0.0) * trials
            self.under_way[worker] = max(done, self.under_way.get(worker, 0.0))
            self._show(event)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stopped:
            if number in STOPS:  # a closed terminal sends SIGHUP twice, as its shell does too
                raise Interrupted
            return
        self.stopped = True
        signal.setitimer(signal.ITIMER_REAL, GRACE_S)
        self.say("Stopping at the end of this step; once more to stop at once.")

    def say(self, text: str) -> None:
        """Print a line."""
        if not self.quiet:
            self.console.print(Text(text), soft_wrap=True)

    def _show(self, event: Event) -> None:
        worker = event.get("worker")
        self.lines[worker] = self.line(event)
        stage, reported_at = self.reported.get(worker, ("", 0.0))
        lines = "\n".join(self.lines[each] for each in sorted(self.lines, key=str))
        if self.quiet:
            return
        if self.notebook is not None:
            self.notebook.show(lines)
        elif self.console.is_terminal:
            self.live.update(Text(lines, overflow="ellipsis", no_wrap=True))
        elif event["stage"] != stage or time.monotonic() - reported_at > LINE_S:
            self.reported[worker] = (event["stage"], time.monotonic())
            self.say(self.lines[worker])

    def line(self, event: Event) -> str:
        """One line for an event."""
        parts = [event["worker"]] if "worker" in event else []
        which = _named(event.get("numbers", self.numbers) or [0])
        parts += [f"{which} of {self.trials}", event["stage"]]
        if event.get("steps", 1) > 1:
            parts.append(f"step {event.get('step', 0)}/{event['steps']}")
        if "lanes" in event:
            parts.append(plural(event["lanes"], "lane"))
        if "loss" in event:
            parts.append(f"loss {event['loss']:.3f}")
        for unit in ("tokens", "images"):
            if event.get(f"{unit}_per_s"):
                parts.append(f"{event[f'{unit}_per_s']:,.0f} {unit}/s")
        left = self._left_s()
        if left is not None:
            parts.append(f"{duration(left)} left")
        return escape_controls(" | ".join(parts))

    def _left_s(self) -> float | None:
        """From the pace so far; unknown in the first moments."""
        done = self.finished - self.already + sum(self.under_way.values())
        elapsed = self.elapsed_s
        if done < 0.02 * max(1, len(self.numbers)) or elapsed < 2:
            return None
        return elapsed / done * max(0.0, self.trials - self.already - done)


class NotebookText:
    """A text in a notebook's output that is replaced, at most every `PERIOD_S`."""

    PERIOD_S = 0.5

    def __init__(self) -> None:
        self.handle: Any = None
        self.next_s = 0.0

    def show(self, text: str) -> None:
        """Show a text in place of the one before."""
        if time.monotonic() < self.next_s:
            return
        self.next_s = time.monotonic() + self.PERIOD_S
        from IPython.display import Pretty, display  # which every notebook has

        if self.handle is None:
            self.handle = display(Pretty(text), display_id=True)
        else:
            self.handle.update(Pretty(text))


def _named(numbers: Sequence[int]) -> str:
    """Such as trial 3, trials 3-5, or trials 3, 7: those that go on at a rung are separate."""
    first, *others = sorted(numbers)
    if not others:
        return f"trial {first}"
    if others[-1] - first == len(others):
        return f"trials {first}-{others[-1]}"
    return f"trials {', '.join(map(str, [first, *others]))}"
