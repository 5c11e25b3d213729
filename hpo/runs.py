"""Runs on disk: one folder a run, with what is needed to find its record again."""

from __future__ import annotations

import errno
import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hpo.record import Run
from hpo.storage import DATABASE, StorageError, guarded, load_study, mask, read_run, url_of

NOTE = "run.json"
STORE = "store"
REPORT = "report.html"


@dataclass(frozen=True)
class Place:
    """A run's folder and the name and storage of its study."""

    folder: Path
    name: str
    url: str = field(repr=False)

    @property
    def report(self) -> Path:
        """Where the report goes."""
        return self.folder / REPORT


def make_place(out: Path, name: str, url: str | None) -> Place:
    """The run's folder, made and noted; without a URL the storage noted before, if any.

    Raises:
        ValueError: the folder cannot be written, or the noted storage has to be given.
        StorageError: the disk is full.
    """
    if name == STORE:
        raise ValueError(f"a study cannot be named {STORE!r}: stages are kept there; rename it.")
    folder = out / name
    if url is None and (folder / NOTE).is_file():
        return _read_place(folder, None, missing=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        note = {"name": name, "storage": None if url is None else mask(url)}
        partial = folder / f"{NOTE}.{os.getpid()}"
        with partial.open("w", encoding="utf-8") as file:
            file.write(json.dumps(note))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, folder / NOTE)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StorageError(
                f"the disk of {folder} is full; free some space, then run the same command."
            ) from None
        raise ValueError(
            f"cannot write to the output folder {folder} ({error.strerror}); choose another with "
            "--out."
        ) from None
    return Place(folder, name, url or url_of(folder))


def find_place(run: str, out: Path, url: str | None) -> Place:
    """A run by its name in the output folder, or by its path.

    Raises:
        ValueError: there is no such run, or its storage has to be given.
    """
    for folder in (out / run, Path(run)):
        if (folder / NOTE).is_file():
            return _read_place(folder, url)
    known = [place.name for place in all_places(out)]
    hint = f"runs there are {', '.join(known)}" if known else "there are none; start one: hpo run"
    raise ValueError(f"no run {run!r} in {out}; {hint}.")


def all_places(out: Path) -> list[Place]:
    """Runs in the output folder whose record can be opened without a password."""
    places = []
    for note in sorted(out.glob(f"*/{NOTE}")):
        try:
            places.append(_read_place(note.parent, None))
        except ValueError:
            continue
    return places


def read(place: Place) -> Run:
    """A run's record.

    Raises:
        StorageError: it cannot be read.
    """
    with guarded(place.url):
        return read_run(load_study(place.url, place.name))


def fork_names(name: str) -> Iterator[str]:
    """name, name-2, name-3, ..."""
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _read_place(folder: Path, url: str | None, missing: bool = False) -> Place:
    """A run's place; `missing`: its record need not be there yet."""
    try:
        note = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        name, stored = note["name"], note["storage"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(
            f"{folder / NOTE} cannot be read; delete it and run the study again."
        ) from None
    if url is None and stored is not None and "***" in stored:
        raise ValueError(f"this run's record is in {stored}; give it with --storage.")
    if url is None and stored is None and not missing and not (folder / DATABASE).is_file():
        raise ValueError(f"{folder} has no {DATABASE}; run the study again.")
    return Place(folder, name, url or stored or url_of(folder))
