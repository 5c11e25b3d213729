"""Faults between two runs of a command: other versions of libraries, other data under its name.

The same command then refuses in a sentence and measures nothing; with `--accept-changes`, here on a
copy of the record, new trials are a group of their own and what was finished stays as it is. What
was changed is restored, and the study goes on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

from hpo.controller import Controller
from hpo.core.conditions import ConditionsChanged
from hpo.core.objective import Event
from hpo.core.spec import StudySpec
from hpo.core.trial import Trial
from hpo.executors.interrupts import Interrupted
from hpo.storage.record import DATABASE, load_study, read_run, url_of
from tests.bench.faults import training
from tests.bench.faults.ledger import Ledger, Place, bare, ended, studies
from tests.bench.faults.rows import SHORT, STOP, Instant

VERSIONS = {"torch": "2.13.0", "numpy": "2.4.6", "corpus": "3f2a91bc"}


class Versioned(Instant):
    """The study's objective with conditions, which are of all its objects."""

    now: dict[str, str] = {}  # noqa: RUF012

    def conditions(self) -> dict[str, str]:
        return dict(self.now)


def versions_changed(place: Place, ledger: Ledger) -> None:
    """A version or a checksum is another one, is missing, or is one more."""
    study = replace(SHORT, objective=Versioned())
    for folder in studies(place, ledger):
        for _ in range(place.left(ledger)):
            Versioned.now = dict(VERSIONS)
            if _stopped(study, folder, place, ledger, STOP) == study.trials:
                break
            how = place.drawn.choice(("other", "missing", "more"))
            name = place.drawn.choice(sorted(VERSIONS))
            if how == "missing":
                del Versioned.now[name]
            else:
                Versioned.now[name if how == "other" else "another"] = "9.9"
            ledger.strike()
            _refused(study, folder, place, ledger)
            _accepted(study, folder, ledger)
        Versioned.now = dict(VERSIONS)
        ended(Controller(study, url_of(folder)), place, ledger)


def corpus_changed(place: Place, ledger: Ledger) -> None:
    """A file of the corpus has other text of the same size and time of change."""
    (text,) = sorted(Path(training.corpus_folder()).glob("text-0.txt"))
    content, about = text.read_text(), text.stat()

    def put(changed: str) -> None:
        text.write_text(changed)
        os.utime(text, ns=(about.st_atime_ns, about.st_mtime_ns))

    with training.restless():
        for folder in studies(place, ledger):
            study = training.spec(folder)
            for _ in range(place.left(ledger)):
                if _stopped(study, folder, place, ledger, training.STOP) == study.trials:
                    break
                at = place.drawn.randrange(len(content))
                put(content[:at] + ("x" if content[at] != "x" else "y") + content[at + 1 :])
                ledger.strike()
                _refused(study, folder, place, ledger)
                put(content)
            ended(Controller(study, url_of(folder)), place, ledger)


def _stopped(study: StudySpec, folder: Path, place: Place, ledger: Ledger, chance: float) -> int:
    """Go on with the study until a random step once something is finished; how many trials are."""
    controller = Controller(study, url_of(folder))

    def on_event(event: Event) -> None:
        ledger.on_event(event)
        if controller.finished and "stage" in event and place.drawn.random() < chance:
            raise Interrupted

    with contextlib.suppress(Interrupted):
        controller.run(on_event)
    return controller.finished


def _refused(study: StudySpec, folder: Path, place: Place, ledger: Ledger) -> None:
    try:
        Controller(study, url_of(folder)).run()
        ledger.judge(False, "measured under other conditions without a word")
    except ConditionsChanged as error:
        ledger.judge("--accept-changes" in str(error), f"not a helpful sentence: {error}")


def _accepted(study: StudySpec, folder: Path, ledger: Ledger) -> None:
    """Go on with a copy: every trial of the old group is what it was, and no new one is in it."""
    copy = folder / "copy"
    copy.mkdir()
    shutil.copy(folder / DATABASE, copy / DATABASE)
    before = {
        each.number: bare(each)
        for each in _group(study, folder, 0)
        if each.state in ("complete", "failed")
    }
    Controller(study, url_of(copy), accept_changes=True).run()
    after = {each.number: bare(each) for each in _group(study, copy, 0) if each.state != "running"}
    ledger.lost += len(before.keys() - after.keys())
    for number in sorted(before.keys() & after.keys()):
        ledger.judge(before[number] == after[number], f"trial {number} has changed")
    measured = {number for number, each in after.items() if each.state == "complete"}
    ledger.judge(measured == {n for n, each in before.items() if each.state == "complete"},
                 "a trial of other conditions is in the old group")  # fmt: skip
    shutil.rmtree(copy)


def _group(study: StudySpec, folder: Path, group: int) -> list[Trial]:
    return read_run(load_study(url_of(folder), study.name, "read"), group).trials
