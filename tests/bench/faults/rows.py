"""Faults of the record: a value in any column of any table that this program does not write.

A study stops at a random instant, and somebody edits its database. The same command, `hpo show` and
`hpo list` then end in one sentence or go on with the right numbers; a trial may differ only where
its notes say what was left out. A copy of the database from before is restored after each fault, as
the sentence asks for, and the study goes on to the record of an undisturbed one.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import random
import shutil
import sqlite3
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from hpo.cli import main
from hpo.controller import Controller
from hpo.core.failures import StorageError
from hpo.core.objective import Event, Request
from hpo.core.trial import Trial
from hpo.executors.interrupts import Interrupted
from hpo.storage.record import DATABASE, url_of
from hpo.storage.run_folder import NOTE
from tests.bench.faults.ledger import Ledger, Place, bare, ended, studies
from tests.hpo.toy_objective import ToyObjective, ToyResult, spec

STOP = 0.3
"""Chance at a batch that the study is stopped."""


HOSTILE: Sequence[Any] = (
    None, "", "x", "\x1b[2J", "\u202e", "null", "true", "{}", "[]", "[[]]", '{"x": {}}', "{", "\0",
    "[" * 50_000, "9" * 5_000, -1, 2**62, 1e400, b"\xff\xfe", b"",
)  # fmt: skip
"""SQLite keeps values of any type in any column."""


ATTRIBUTES = ("study_user_attributes", "trial_user_attributes")


class Instant(ToyObjective):
    """The toy objective, which tells of its batches."""

    def evaluate(
        self, requests: Sequence[Request], on_event: Callable[[Event], None] | None = None
    ) -> list[ToyResult]:
        if on_event is not None:
            on_event({"stage": "pretrain", "step": 1, "steps": 1})
        return super().evaluate(requests)


SHORT = spec(name="faults", objective=Instant(), trials=12, wave=3, sampler="random")
"""A study that takes no time but that of its record."""


@functools.cache
def undisturbed() -> list[Trial]:
    """Its trials without a fault."""
    return Controller(SHORT, "sqlite://").run().trials


def row_damaged(place: Place, ledger: Ledger) -> None:
    """A value of a column of every table, and a field within the JSON of an attribute."""
    for folder in studies(place, ledger):
        run = folder / SHORT.name
        run.mkdir()
        (run / NOTE).write_text(json.dumps({"name": SHORT.name, "storage": None}))
        for _ in range(place.left(ledger)):
            _until_stopped(run, place, ledger)
            kept = shutil.copy(run / DATABASE, folder / "kept.db")
            edit = _edit(run / DATABASE, place.drawn)
            ledger.strike()
            _look(run, place, ledger, edit)
            _forget(run)
            shutil.copy(kept, run / DATABASE)
        ended(Controller(SHORT, url_of(run)), place, ledger)


def note_damaged(place: Place, ledger: Ledger) -> None:
    """The note beside a record with a field of another type, cut, emptied, or no file at all."""
    for folder in studies(place, ledger):
        run, note = folder / SHORT.name, folder / SHORT.name / NOTE
        run.mkdir()
        whole = {"name": SHORT.name, "storage": None, "origin": None}
        for _ in range(place.left(ledger)):
            note.write_text(json.dumps(whole))
            _until_stopped(run, place, ledger)
            note.write_text(_wrong(whole, place.drawn))
            ledger.strike()
            _say(["show", SHORT.name, "--out", str(folder)], ledger)
            _say(["list", "--out", str(folder)], ledger)
        ended(Controller(SHORT, url_of(run)), place, ledger)


def _until_stopped(run: Path, place: Place, ledger: Ledger) -> None:
    """Go on with the study until a random batch."""

    def on_event(event: Event) -> None:
        ledger.on_event(event)
        if "stage" in event and place.drawn.random() < STOP:
            raise Interrupted

    with contextlib.suppress(Interrupted):
        Controller(SHORT, url_of(run)).run(on_event)


def _edit(path: Path, drawn: random.Random) -> str:
    """Put a hostile value in a column of a row or of all rows, or a field into an attribute."""
    with contextlib.closing(sqlite3.connect(path)) as opened, opened:
        opened.execute("pragma foreign_keys = off")
        names = "select name from sqlite_master where type = 'table' order by name"
        filled = [
            name
            for (name,) in opened.execute(names).fetchall()
            if opened.execute(f"select count(*) from {name}").fetchone()[0]
        ]
        table = drawn.choice([*filled, *ATTRIBUTES * 3])
        rows = [row for (row,) in opened.execute(f"select rowid from {table}")]
        columns = [row[1] for row in opened.execute(f"pragma table_info({table})")]
        column = "value_json" if table in ATTRIBUTES else drawn.choice(columns)
        empty = ("{}", "[]") if table in ATTRIBUTES else ()  # as of a trial without curves
        value = drawn.choice([each for each in HOSTILE if each not in empty])
        chosen = drawn.choice(rows)
        if table in ATTRIBUTES and drawn.random() < 0.5:
            query = f"select value_json from {table} where rowid = ?"
            value = _wrong(json.loads(opened.execute(query, (chosen,)).fetchone()[0]), drawn)
        where = f"where rowid = {chosen}" if drawn.random() < 0.7 else ""
        with contextlib.suppress(sqlite3.IntegrityError):  # refused: an edit of nothing
            opened.execute(f"update or ignore {table} set {column} = ? {where}", (value,))
    return f"{table}.{column} {where} = {value!r:.80}"


def _wrong(data: Any, drawn: random.Random) -> str:
    """JSON with one of its fields of another type."""
    path = drawn.choice(_places(data))
    value = drawn.choice([None, "x", [], {}, True, [[0]], "9" * 5_000, {"x": {}}, "\x1b]0;x\x07"])
    if not path:
        return json.dumps([[value]] if _kind(data) == _kind(value) else value)
    data = json.loads(json.dumps(data))
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    same = _kind(inner[path[-1]]) == _kind(value)
    inner[path[-1]] = [[value]] if same else value
    return json.dumps(data)


def _places(data: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """All places in JSON."""
    found = [before]
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(data, dict | list):
        items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        found += _places(value, (*before, key))
    return found


def _kind(value: Any) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


def _look(run: Path, place: Place, ledger: Ledger, edit: str) -> None:
    """Ask of the damaged record what a person would; nothing of it is wrong without a word."""
    before = len(ledger.complaints)
    _ask(run, place, ledger)
    ledger.complaints[before:] = [f"{edit}: {each}" for each in ledger.complaints[before:]]


def _ask(run: Path, place: Place, ledger: Ledger) -> None:
    for words in (["show", run.name], ["show", run.name, "--json"], ["list"]):
        _say([*words, "--out", str(run.parent)], ledger)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            trials = Controller(SHORT, url_of(run)).run().trials
        except (StorageError, ValueError) as error:
            ledger.judge("\n" not in str(error), f"not one sentence: {error!r}")
            return
        except Exception as error:
            ledger.judge(False, f"no sentence of this program: {error!r}")
            return
    expected = {each.number: each for each in place.expected}
    for each in trials:
        right = expected.get(each.number)
        ledger.judge(
            right is not None and (bare(each) == right or _admits(each, right)),
            f"trial {each} instead of {right}",
        )


def _admits(found: Trial, right: Trial) -> bool:
    """Whether the notes of a trial say that something is missing."""
    return len(found.notes) > len(right.notes) or found.failure is not None


def _say(words: list[str], ledger: Ledger) -> None:
    """Run a command; it ends well, or in one sentence without the name of an error."""
    out, complaint = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(complaint):
        try:
            code = main.main(words)
        except Exception as error:
            ledger.judge(False, f"{words}: {error!r}")
            return
    lines = complaint.getvalue().splitlines()
    fine = code in (0, 1, 2) and len(lines) == (code != 0) and "Error:" not in "".join(lines)
    shown = out.getvalue() + complaint.getvalue()
    ledger.judge(fine and "\x1b" not in shown and "\u202e" not in shown, f"{words}: {lines}")


def _forget(run: Path) -> None:
    """Remove the damaged database."""
    for path in run.glob(f"{DATABASE}*"):
        path.unlink()
