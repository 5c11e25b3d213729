"""What a kind of fault did to studies: the ledger, and what all kinds have in common."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from hpo.controller import Controller
from hpo.core.objective import Event
from hpo.core.trial import Trial

MOST = 12
"""Faults a study at most, so that each ends."""


@dataclass
class Ledger:
    """What one kind of fault did."""

    faults: int = 0
    studies: int = 0
    lost: int = 0
    twice: int = 0
    wrong: int = 0
    recover_s: list[float] = field(default_factory=list)
    noticed: int | None = None
    """Faults that were found out before they did harm, where that is counted."""
    struck_at: float | None = None
    complaints: list[str] = field(default_factory=list)
    """What was wrong, in words."""
    sign: str = "stage"
    """What an event tells of once a fault is over: a step of training, or a recorded wave."""

    def strike(self) -> None:
        """Note a fault that happens now."""
        self.faults += 1
        self.struck_at = time.monotonic()

    def on_event(self, event: Event) -> None:
        """Note the first sign of work after a fault."""
        works = self.sign in event and event.get("stage", "pretrain") == "pretrain"
        if works and self.struck_at is not None:
            self.recover_s.append(time.monotonic() - self.struck_at)
            self.struck_at = None

    def judge(self, fine: bool, complaint: str) -> None:
        """Count an answer that is wrong without a word, or that no person would understand."""
        if not fine:
            self.wrong += 1
            self.complaints.append(complaint)

    def compare(self, trials: list[Trial], expected: list[Trial], *, ended: bool) -> None:
        """Hold a record against the undisturbed one; one that has not ended may be shorter.

        What a trial took is no part of that.
        """
        done = {each.number: bare(each) for each in trials if each.state != "running"}
        wanted = expected if ended else [each for each in expected if each.number in done]
        self.lost += sum(each.number not in done for each in wanted)
        self.wrong += sum(done.get(each.number, each) != each for each in wanted)
        self.twice += (
            max(0, len(trials) - len(expected))
            + len(trials)
            - len({each.number for each in trials})
        )


@dataclass(frozen=True)
class Place:
    """Where a kind of fault works, and what it should come to."""

    folder: Path
    wanted: int
    drawn: random.Random
    expected: list[Trial]
    """The trials of the study without a fault, but for what they took."""

    def left(self, ledger: Ledger) -> int:
        """Faults that a further study may have."""
        return min(MOST, self.wanted - ledger.faults)


def bare(trial: Trial) -> Trial:
    """A trial without what it took and when it was asked for."""
    answers = tuple(replace(each, cost={}, order=0) for each in trial.answers)
    return replace(trial, asks=(), answers=answers)


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    strike: Callable[[Place, Ledger], None]
    count: int
    """Faults in the bench."""
    few: int
    """In a smoke check."""
    expected: Callable[[], list[Trial]]
    """The trials of its study without a fault."""


def studies(place: Place, ledger: Ledger) -> Iterator[Path]:
    """Folders, until there were faults enough."""
    while ledger.faults < place.wanted:
        folder = place.folder / f"study-{ledger.studies}"
        folder.mkdir()
        ledger.studies += 1
        yield folder


def ended(controller: Controller, place: Place, ledger: Ledger) -> None:
    """Run the study to its end and hold it against the undisturbed one."""
    ledger.compare(controller.run(ledger.on_event).trials, place.expected, ended=True)


@contextlib.contextmanager
def struck(
    strike: Callable[[], bool], place: Place, ledger: Ledger, gap_s: tuple[float, float]
) -> Iterator[None]:
    """Faults at random instants while the context lasts, each after work is seen again.

    On a busy machine a worker may take longer to start than faults are apart, and a batch that
    loses three in a row without getting further is given up, as it should be.
    """
    over = threading.Event()

    def body() -> None:
        most = ledger.faults + place.left(ledger)
        while ledger.faults < most and not over.wait(place.drawn.uniform(*gap_s)):
            if ledger.struck_at is None and strike():
                ledger.strike()

    thread = threading.Thread(target=body)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
