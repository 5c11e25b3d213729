"""Runs on disk: one folder a run, with what is needed to find its record again."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpo.core import files
from hpo.core.failures import StorageError
from hpo.core.passwords import shown
from hpo.core.spec import plain_name
from hpo.core.trial import Run
from hpo.storage.addresses import check_options, checked, is_inside
from hpo.storage.record import DATABASE, closing, guarded, load_study, read_run, url_of

NOTE = "run.json"


NOTE_BYTES = 1_000_000
"""A note has at most; assumed: it holds a study's fixed params."""


STORE = "store"


STORAGE_ENV = "HPO_STORAGE"
"""The environment's name for a storage URL: unlike an option, no list of processes shows it."""


REPORT = "report.html"


@dataclass(frozen=True)
class RunFolder:
    """A run's folder and the name and storage of its study."""

    folder: Path
    name: str
    url: str = field(repr=False)

    @property
    def report(self) -> Path:
        """Where the report goes."""
        return self.folder / REPORT


def make_run_folder(out: Path, name: str, url: str | None, default: str | None = None) -> RunFolder:
    """The run's folder, made and noted; without a URL the storage noted before, or the default's.

    Raises:
        ValueError: the URL is none, the folder cannot be written, or the noted storage has to be
            given.
        StorageError: the disk is full.
    """
    place = place_of(out, name, url, default)
    if url is None and (place.folder / NOTE).is_file():
        return place
    url = default if url is None else url
    _write_note(place.folder, {"name": name, "storage": None if url is None else shown(url)})
    return place


def place_of(out: Path, name: str, url: str | None, default: str | None = None) -> RunFolder:
    """The place that `make_place` gives, without making anything.

    Raises:
        ValueError: the noted storage has to be given.
    """
    if name == STORE:
        raise ValueError(f"a study cannot be named {STORE!r}: stages are kept there; rename it.")
    folder = out / name
    if url is None and (folder / NOTE).is_file():
        return _read_place(folder, None, default, missing=True, anywhere=True)
    return RunFolder(folder, name, _given(url, default) or url_of(folder))


def was_recorded(place: RunFolder, url: str | None) -> bool:
    """Whether the run's folder notes that its study was recorded in this storage.

    `url`: the storage that was asked for, which may be another than the one noted.
    """
    if not (place.folder / NOTE).is_file():
        return False
    note = _read_note(place.folder)
    return "origin" in note and (url is None or note["storage"] == shown(url))


def note_study(place: RunFolder, study: Mapping[str, Any]) -> None:
    """Write beside the run which study it is of, in place of what was noted before.

    Raises:
        ValueError: the folder cannot be written.
        StorageError: the disk is full.
    """
    note = _read_note(place.folder)
    changed = note | {"origin": dict(study)}
    if changed != note:
        _write_note(place.folder, changed)


def read_study(place: RunFolder) -> dict[str, Any] | None:
    """Which study the run is of, as it was noted; None for one from before this was noted.

    Raises:
        ValueError: the note cannot be read.
    """
    noted = _read_note(place.folder).get("origin")
    if noted is not None and not (isinstance(noted, dict) and isinstance(noted.get("study"), str)):
        raise _unreadable(place.folder)
    return noted


def load(
    run: str, out: str | Path = "runs", storage: str | None = None, group: int | None = None
) -> Run:
    """A run's record by its name in the output folder, or by its path; a notebook shows its front.

    Raises:
        ValueError: there is no such run, or its storage has to be given.
        StorageError: it cannot be read.
    """
    return read(find_run(run, Path(out), storage), group)


def find_run(run: str, out: Path, url: str | None) -> RunFolder:
    """A run by its name in the output folder, or by its path, to be read.

    Raises:
        ValueError: there is no such run, or its storage has to be given: a record outside of the
            run's folder is not opened because a note names it, which anybody may have written.
    """
    return _find(run, out, url, missing=False)


def find_any(run: str, out: Path, url: str | None) -> RunFolder:
    """As `find_place`, also where the run's record is not there any more."""
    return _find(run, out, url, missing=True)


def _find(run: str, out: Path, url: str | None, *, missing: bool) -> RunFolder:
    url = _given(url, None)
    for folder in (out / run, Path(run)):
        if (folder / NOTE).is_file():
            return _read_place(folder, url, os.environ.get(STORAGE_ENV), missing=missing)
    known = [place.name for place in all_runs(out)]
    hint = f"runs there are {', '.join(known)}" if known else "there are none; start one: hpo run"
    raise ValueError(f"no run {run!r} in {out}; {hint}.")


def all_runs(out: Path) -> list[RunFolder]:
    """Runs in the output folder whose record is known."""
    return [place for _, place in listed(out) if isinstance(place, RunFolder)]


def listed(out: Path, url: str | None = None) -> list[tuple[str, RunFolder | str]]:
    """Every run in the output folder by its folder's name, or why its record cannot be read.

    `url`: a storage that may be opened where a run's note names it.
    """
    found: list[tuple[str, RunFolder | str]] = []
    for note in sorted(out.glob(f"*/{NOTE}")):
        default = os.environ.get(STORAGE_ENV) if url is None else url
        try:
            found.append((note.parent.name, _read_place(note.parent, None, default)))
        except ValueError as error:
            found.append((note.parent.name, str(error)))
    return found


def read(place: RunFolder, group: int | None = None) -> Run:
    """A run's record, of a group of its trials (`hpo.core.conditions`); None is the last.

    Nothing of it is changed.

    Raises:
        StorageError: it cannot be read.
    """
    with guarded(place.url), closing(load_study(place.url, place.name, "read")) as study:
        run = read_run(study, group)
    return replace(run, study=_study(place))


def _study(place: RunFolder) -> str | None:
    """Which study the run is of, where its folder tells."""
    try:
        noted = read_study(place)
    except ValueError:
        return None
    study = None if noted is None else noted.get("study")
    return study if isinstance(study, str) else None


def fork_names(name: str) -> Iterator[str]:
    """name, name-2, name-3, ..."""
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def forks_in(out: Path, name: str) -> list[str]:
    """Names of forks that have a folder, in the order of their numbers."""
    start = f"{name}-"
    found = [note.parent.name for note in out.glob(f"*/{NOTE}")]
    numbers = [each.removeprefix(start) for each in found if each.startswith(start)]
    return [f"{start}{each}" for each in sorted(filter(str.isdecimal, numbers), key=int)]


def _given(url: str | None, default: str | None) -> str | None:
    """The URL of the option, or of the environment, if it can be one."""
    if url is not None:
        return checked(url, "--storage")
    return None if default is None else checked(default, STORAGE_ENV)


def _read_place(
    folder: Path,
    url: str | None,
    default: str | None,
    *,
    missing: bool = False,
    anywhere: bool = False,
) -> RunFolder:
    """A run's place. `missing`: its record need not be there; `anywhere`: nor in its folder.

    `default`: a URL that is taken if it is the one that was noted, maybe without its password.
    """
    note = _read_note(folder)
    name, stored = note["name"], note["storage"]
    if url is not None:
        return RunFolder(folder, name, url)
    if stored is not None and default is not None and shown(default) == shown(stored):
        return RunFolder(folder, name, default)
    found = url_of(folder) if stored is None else stored
    if "***" in found or not (anywhere or is_inside(found, folder)):
        raise ValueError(
            f"this run's record is in {shown(found)}; give it with --storage, or in the "
            f"environment as {STORAGE_ENV}."
        )
    if stored is None and not missing and not os.path.lexists(folder / DATABASE):
        raise ValueError(f"{folder} has no {DATABASE}; run the study again.")
    check_options(found, f"{folder / NOTE}, which names the record's storage")
    return RunFolder(folder, name, found)


def _read_note(folder: Path) -> dict[str, Any]:
    try:
        if not (folder / NOTE).is_file():  # opening a FIFO would wait for a writer
            raise TypeError
        with (folder / NOTE).open("rb") as file:
            content = file.read(NOTE_BYTES + 1)
        if len(content) > NOTE_BYTES:
            raise TypeError
        note: dict[str, Any] = json.loads(content)
        plain_name(note["name"])  # it is also that of a folder, to which it must not lead
        if not isinstance(note["storage"], str | None):
            raise TypeError
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise _unreadable(folder) from None
    return note


def _unreadable(folder: Path) -> ValueError:
    return ValueError(f"{folder / NOTE} cannot be read; delete it and run the study again.")


def _write_note(folder: Path, note: dict[str, Any]) -> None:
    """All of it or nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files.write(folder / NOTE, json.dumps(note))
    except OSError as error:
        if error.errno in files.FULL:
            raise StorageError(
                f"the disk of {folder} is full; free some space, then run the same command."
            ) from None
        raise ValueError(
            f"cannot write to the output folder {folder} ({error.strerror}); choose another with "
            "--out."
        ) from None
