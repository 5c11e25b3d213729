"""Faults of what is in the store: entries whose checksums fit and whose content is wrong.

A study stops at a random step. A field of an entry's JSON then has a value of another type, tensors
have other names, shapes or dtypes, a file is no file of tensors or tokens, no regular file, or the
manifest says something else; each entry of the store, or of the share, may be hit. A new process
goes on and gives the same bits, as what is wrong is set aside and computed again.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from hpo.controller import Controller
from hpo.core.objective import Event
from hpo.core.spec import StudySpec
from hpo.executors.interrupts import Interrupted
from hpo.storage.record import url_of
from objectives import Execution, PlasticityObjective
from objectives.store import entries
from objectives.store.entries import MANIFEST
from tests.bench.faults.ledger import Ledger, Place, studies
from tests.bench.faults.training import NO_STAGES, STOP, restless, spec
from tests.objectives.store import test_hostile_entries as hostile

MOST_AT_ONCE = 4
"""Entries that are damaged at one stop."""


MOVED = (hostile.fifo, hostile.folder, hostile.link_to_nothing, hostile.a_socket)
"""What makes a file something else."""


def entry_damaged(place: Place, ledger: Ledger) -> None:
    """Entries of the study's own store."""
    with restless():
        for folder in studies(place, ledger):
            store = folder / "store"
            most = ledger.faults + place.left(ledger)
            damage = partial(_damaged, store, place, ledger, most)
            _run(partial(spec, folder), url_of(folder), damage, place, ledger, most)
            ledger.noticed = (ledger.noticed or 0) + len(list(store.glob("damaged/*")))


def share_damaged(place: Place, ledger: Ledger) -> None:
    """Entries of a share, from which one machine after another, each without a record and a store,
    takes all that it can; each loses its store at every stop, so that it reads the share again.

    A damaged entry was noticed where its manifest has been replaced.
    """
    with restless():
        for folder in studies(place, ledger):
            share, most = folder / "share", ledger.faults + place.left(ledger)
            first = folder / "first"
            first.mkdir()
            _run(partial(_sharing, first), url_of(first), dict, place, ledger, most=0)
            while ledger.faults < most:
                _next_machine(folder / f"machine-{ledger.faults}", share, place, ledger, most)


def _next_machine(folder: Path, share: Path, place: Place, ledger: Ledger, most: int) -> None:
    """A study of the machine's own, with entries damaged before it begins and while it runs."""
    folder.mkdir()
    struck = _damaged(share, place, ledger, most)
    ledger.studies += 1

    def damage() -> None:
        shutil.rmtree(folder / "store", ignore_errors=True)
        struck.update(_damaged(share, place, ledger, most))

    _run(partial(_sharing, folder), url_of(folder), damage, place, ledger, most)
    ledger.noticed = (ledger.noticed or 0) + sum(
        not path.exists() or path.read_bytes() != content for path, content in struck.items()
    )


def _sharing(folder: Path) -> StudySpec:
    """The study on a machine with a folder of its own beside the share."""
    study = spec(folder)
    assert isinstance(study.objective, PlasticityObjective)
    shared = Execution(device="cpu", store=folder / "store", share=str(folder.parent / "share"))
    return replace(study, objective=PlasticityObjective(study.objective.recipe, shared))


def _run(
    study: Callable[[], StudySpec],
    url: str,
    damage: Callable[[], object],
    place: Place,
    ledger: Ledger,
    most: int,
) -> None:
    """Run the study to its end; it stops now and then, as long as there may be more faults.

    Its objective is made again after each stop, as by a new process: token files are mapped while
    they are in use, and one that is cut then would end this process.
    """

    def on_event(event: Event) -> None:
        ledger.on_event(event)
        if ledger.faults < most and place.drawn.random() < STOP:
            raise Interrupted

    while True:
        try:
            trials = Controller(study(), url).run(on_event).trials
            break
        except Interrupted:
            damage()
    ledger.struck_at = None
    ledger.compare(trials, place.expected, ended=True)


def _damaged(store: Path, place: Place, ledger: Ledger, most: int) -> dict[Path, bytes]:
    """Damage some entries, as long as there may be more faults; their manifests as they are now."""
    found: dict[Path, bytes] = {}
    for _ in range(min(most - ledger.faults, place.drawn.randint(1, MOST_AT_ONCE))):
        entry = _damage(store, place.drawn, ledger)
        if entry is not None:
            found[entry / MANIFEST] = (entry / MANIFEST).read_bytes()
    return found


def _damage(store: Path, drawn: random.Random, ledger: Ledger) -> Path | None:
    """Damage one entry; None if none is whole."""
    found = [path.parent for path in sorted(store.glob(f"*/*/{MANIFEST}")) if _is_whole(path)]
    if not found:
        return None
    entry = drawn.choice(found)
    changes = [_json, _json, _tensors, _tensors, _raw, _tokens, _moved, _manifest]
    while not drawn.choice(changes)(entry, drawn):
        pass
    ledger.strike()
    return entry


def _is_whole(manifest: Path) -> bool:
    """Whether nothing was damaged there before, as far as the manifest shows."""
    if manifest.parts[-3] in NO_STAGES:
        return False
    try:
        names = entries.read_manifest(manifest.parent).sizes
    except entries.DamagedError:
        return False
    return {path.name for path in _files(manifest.parent)} >= set(names)


def _files(entry: Path, ending: str = "") -> list[Path]:
    """The entry's files, which on a share are in a folder of it."""
    found = (path for path in entry.rglob(f"*{ending}") if path.name != MANIFEST)
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def _reseal(entry: Path, path: Path) -> None:
    """Have the manifest name what the file holds now."""
    data = json.loads((entry / MANIFEST).read_text())
    data["files"][path.name] = {
        "bytes": path.stat().st_size, "sha256": entries.checksum(path)
    }  # fmt: skip
    (entry / MANIFEST).write_text(json.dumps(data))


def _json(entry: Path, drawn: random.Random) -> bool:
    """A field of another type."""
    files = _files(entry, ".json")
    if files:
        path, value = drawn.choice(files), drawn.choice(hostile.HOSTILE)
        with contextlib.suppress(RecursionError):  # it is so deep since an earlier fault
            path.write_text(hostile.with_wrong_field(path.read_text(), drawn.random(), value))
        _reseal(entry, path)
    return bool(files)


def _tensors(entry: Path, drawn: random.Random) -> bool:
    """Tensors of other names, shapes or dtypes."""
    files = _files(entry, ".safetensors")
    if files:
        path = drawn.choice(files)
        with contextlib.suppress(SafetensorError):  # it is none since an earlier fault
            found = load_file(path)
            save_file(drawn.choice(hostile.TENSORS)(found), path)
        _reseal(entry, path)
    return bool(files)


def _raw(entry: Path, drawn: random.Random) -> bool:
    """A header that lies, a pickle, nothing."""
    files = _files(entry, ".safetensors")
    if files:
        path = drawn.choice(files)
        path.write_bytes(drawn.choice(hostile.RAW))
        _reseal(entry, path)
    return bool(files)


def _tokens(entry: Path, drawn: random.Random) -> bool:
    """Tokens beyond the vocabulary, half a token, none."""
    files = _files(entry, ".bin")
    if files:
        path = drawn.choice(files)
        change = drawn.choice((hostile.odd, hostile.no_tokens, lambda content: b""))
        path.write_bytes(change(path.read_bytes()))
        _reseal(entry, path)
    return bool(files)


def _moved(entry: Path, drawn: random.Random) -> bool:
    """Something else in place of a file."""
    drawn.choice(MOVED)(drawn.choice(_files(entry)))
    return True


def _manifest(entry: Path, drawn: random.Random) -> bool:
    """A manifest with a wrong field."""
    name = drawn.choice(_files(entry)).name
    (entry / MANIFEST).write_text(drawn.choice(hostile.manifests(name)))
    return True
