"""Where documents come from: the running Python, local files, Hugging Face datasets."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objectives.config import data
from objectives.data import file_paths, file_rows, python_stdlib
from objectives.data.file_paths import TEXT, kind_of, matching_files
from objectives.models import hub
from objectives.store.stages import Stages

__all__ = ["checksum", "documents", "fingerprint", "load_dataset", "matching_files"]


NAMELESS_ROWS = 1000
"""Rows of a file without the text field after which it is taken to be misnamed; assumed."""


TEXT_READING = ".txt-2"
"""How text files are cut into documents, in their identity: 2 for one document a line where there
are no blank lines."""


@dataclass
class Counts:
    """What was changed or left out in reading, by documents."""

    without_text: int = 0
    repaired: int = 0

    def notes(self, where: str) -> list[str]:
        """What a reader of the result should know."""
        found = []
        if self.without_text:
            found.append(f"{where}: rows left out as they have no text: {self.without_text}")
        if self.repaired:
            found.append(
                f"{where}: documents with half a surrogate pair, read as U+FFFD: {self.repaired}"
            )
        return found


def documents(source: data.Source, counts: Counts | None = None) -> Iterator[str]:
    """The source's documents that hold any text, in a fixed order, up to its `max_bytes`.

    Raises:
        ValueError: no such file or dataset, or rows without the text field.
    """
    left = source.max_bytes
    counts = Counts() if counts is None else counts
    for raw in _OPEN[source.kind](source, counts):
        text = file_rows.whole_text(raw)
        counts.repaired += text != raw
        if not text.strip():
            continue
        yield text
        if left is not None:
            left -= len(text.encode())
            if left <= 0:
                return


def all_of(corpus: data.Corpus) -> tuple[data.Source, ...]:
    """Every source of a corpus: those of the training text, then that of validation if given."""
    return (*corpus.sources, *corpus.validation)


def fingerprint(source: data.Source) -> list[Any]:
    """JSON-able identity of the text that `documents` gives: checksums, or a hub revision.

    Raises:
        ValueError: no such file or dataset, or a hub that cannot be reached.
    """
    if isinstance(source, data.Files):
        content = [[_reading(path), checksum(path)] for path in matching_files(source.paths)]
        return ["files", content, source.text_field, source.max_bytes]
    if isinstance(source, data.Stdlib):
        return ["stdlib", _digest(documents(source))]
    # A folder is its content, wherever it is.
    name = None if Path(source.name).expanduser().is_dir() else source.name
    return ["hub", name, source.config, source.split, _revision(source), source.text_field,
            source.max_bytes]  # fmt: skip


def pinned(source: data.Source, notes: Stages | None) -> data.Source:
    """The source with the commit of a dataset on the hub as its revision.

    Raises:
        ValueError: there is no such dataset, or its commit cannot be known without a network.
    """
    if not isinstance(source, data.HubDataset) or folder_of(source.name) is not None:
        return source
    return dataclasses.replace(source, revision=hub.commit_of(source.name, source.revision, notes))


def state(source: data.Source) -> list[Any]:
    """What changes with every write to the source's files; empty where it has none."""
    if isinstance(source, data.Files):
        return file_paths.state(matching_files(source.paths))
    if isinstance(source, data.HubDataset):
        folder = folder_of(source.name)
        return [] if folder is None else file_paths.state(_folder_files(folder))
    return []


def check_unchanged(before: list[list[Any]], given: Iterable[data.Source]) -> None:
    """Raise ValueError if files changed since their `state` was taken: their identity is unsure."""
    for old, source in zip(before, given, strict=True):
        now = state(source)
        if old != now:
            changed = [one[0] for one in [*old, *now] if (one in old) != (one in now)]
            raise ValueError(
                f"{changed[0]} was changed while it was read; run again when it is complete."
            )


def check(source: data.Source, notes: Stages | None = None) -> None:
    """Raise ValueError for what can be seen without reading a source to its end.

    Files are there and can be opened, the first row of each has its text, and any has some; the
    commit of a dataset on the hub can be known. Nothing is tokenized.
    """
    if isinstance(source, data.Files):
        paths = matching_files(source.paths)
        found = [
            any(
                map(
                    str.strip, _file_texts(path, source.text_field, Counts(), alone=len(paths) == 1)
                )
            )
            for path in paths
        ]
        if not any(found):
            raise ValueError(f"{source.paths} hold no text; give documents that are not empty.")
    elif isinstance(source, data.HubDataset):
        exact = pinned(source, notes)
        if folder_of(source.name) is not None and not any(documents(exact)):
            raise ValueError(f"{source.name} holds no text; give documents that are not empty.")


def _from_stdlib(source: data.Stdlib, counts: Counts) -> Iterator[str]:
    """In the order of their hashes, so that a part of them is a sample of all of them."""
    texts = set(python_stdlib.documents())
    return iter(sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest()))


def _from_files(source: data.Files, counts: Counts) -> Iterator[str]:
    paths = matching_files(source.paths)
    for path in paths:
        yield from _file_texts(path, source.text_field, counts, alone=len(paths) == 1)


def _file_texts(path: Path, field: str, counts: Counts, *, alone: bool) -> Iterator[str]:
    if kind_of(path) in TEXT:
        return file_rows.texts(path, alone=alone)
    if kind_of(path) not in file_paths.ROWS:
        raise ValueError(
            f"{path} is none of {', '.join(sorted(TEXT | file_paths.ROWS))}, also packed; "
            "convert it."
        )
    return _row_texts(file_rows.rows(path, [field]), field, counts)


def _reading(path: Path) -> str:
    return TEXT_READING if kind_of(path) in TEXT else kind_of(path)


def _from_hub(source: data.HubDataset, counts: Counts) -> Iterator[str]:
    rows = load_dataset(
        source.name, source.config, source.split, source.revision, streaming=source.streaming
    )
    numbered = ((f"row {number} of {source.name}", row) for number, row in enumerate(rows, 1))
    return _row_texts(numbered, source.text_field, counts)


def _row_texts(
    rows: Iterable[tuple[str, dict[str, Any]]], field: str, counts: Counts
) -> Iterator[str]:
    """The texts of rows; null and missing ones are counted, but a field none has is an error."""
    nameless = ""
    named = False
    for number, (where, row) in enumerate(rows, 1):
        value = row.get(field)
        named = named or field in row
        if isinstance(value, str):
            yield value
        elif value is None or (isinstance(value, float) and math.isnan(value)):
            counts.without_text += 1
            if not named:
                nameless = nameless or _no_text(where, field, row)
                if number >= NAMELESS_ROWS:
                    break
        else:
            raise ValueError(f"{_no_text(where, field, row)} It is {type(value).__name__}.")
    if nameless and not named:
        raise ValueError(nameless)


def _no_text(where: str, field: str, row: dict[str, Any]) -> str:
    return (
        f"{where} has no text under {field!r}; its fields are {', '.join(map(str, row))}: "
        "set text_field."
    )


def load_dataset(
    name: str, config: str | None, split: str, revision: str | None, *, streaming: bool
) -> Any:
    """Rows of a hub dataset, or of a folder, as it is now.

    Raises:
        ValueError: it cannot be loaded.
    """
    folder = folder_of(name)
    if folder is not None:
        load = functools.partial(_load_folder, folder, config, split, streaming=streaming)
    else:
        hub.check_name(name)
        reason = hub.why_unreachable(name, "dataset")
        if reason is not None:
            return _load_cached(name, config, split, revision, reason)
        commit = hub.commit_of(name, revision)
        load = functools.partial(_load_from_hub, name, config, split, commit, streaming=streaming)
    try:
        return load()
    except Exception as error:
        raise ValueError(_not_loaded(name, config, split, error)) from error


def _load_folder(folder: Path, config: str | None, split: str, *, streaming: bool) -> Any:
    import datasets  # slow to import, and most runs do without

    if file_paths.is_saved_dataset(folder):
        loaded = datasets.load_from_disk(str(folder))
        return loaded[split] if isinstance(loaded, datasets.DatasetDict) else loaded
    # The cache of `datasets` knows files by their times; what is edited in place may keep those.
    cache = Path(datasets.config.HF_DATASETS_CACHE) / "by-content" / folder_digest(folder)
    return datasets.load_dataset(
        str(folder), config, split=split, streaming=streaming, cache_dir=str(cache)
    )


def _load_from_hub(
    name: str, config: str | None, split: str, commit: str, *, streaming: bool
) -> Any:
    import datasets

    return datasets.load_dataset(name, config, split=split, revision=commit, streaming=streaming)


def _load_cached(
    name: str, config: str | None, split: str, revision: str | None, reason: str
) -> Any:
    """Rows that `datasets` has loaded before; they are there whole, and so are no stream."""
    import datasets

    try:
        with hub.offline():
            found = datasets.load_dataset(name, config, split=split, revision=revision)
    except Exception:
        raise ValueError(
            f"dataset {name!r} (split {split!r}) cannot be loaded: the hub cannot be reached "
            f"({reason}) and the cache of `datasets` has no such rows; load it once with a network "
            "and streaming=False, or give a local folder."
        ) from None
    at = [Path(file["filename"]).parts for file in found.cache_files]
    if revision is not None and not all(revision in parts for parts in at):
        raise ValueError(
            f"dataset {name!r} (split {split!r}) cannot be loaded: the hub cannot be reached "
            f"({reason}) and the cache of `datasets` holds another commit than {revision}; load it "
            "once with a network and streaming=False."
        )
    return found


def _not_loaded(name: str, config: str | None, split: str, error: Exception) -> str:
    """The sentence for what `datasets` raises."""
    reason = " ".join((str(error).splitlines() or [type(error).__name__])[0].split()).rstrip(".")
    what = f"dataset {name!r} (split {split!r})"
    if "scripts are no longer supported" in reason:
        return (
            f"{what} cannot be loaded: it is made by a script, and `datasets` runs none since "
            "version 4; give a dataset of data files, such as its parquet version."
        )
    if "Config name is missing" in reason or ("BuilderConfig" in reason and "not found" in reason):
        message = " ".join(str(error).split())
        return f"{what} cannot be loaded with config={config!r}: {message[:300]}; set config."
    return (
        f"{what} cannot be loaded: {reason}; check its name, config and split and the network, or "
        "give a local folder."
    )


def checksum(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(file_rows.unreadable(path, error)) from None


def _digest(texts: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()


def _revision(source: data.HubDataset) -> str:
    """The exact revision: a digest of a folder's files, or a commit."""
    folder = folder_of(source.name)
    if folder is not None:
        return folder_digest(folder)
    return hub.commit_of(source.name, source.revision)


def folder_of(name: str) -> Path | None:
    """The local folder that a dataset's name is of; None if it is none."""
    path = Path(name).expanduser()
    return path if name and path.is_dir() else None


def _folder_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def folder_digest(folder: Path) -> str:
    """Of the names and bytes of all files below it.

    Raises:
        ValueError: one cannot be read.
    """
    files = _folder_files(folder)
    return _digest(iter(f"{path.relative_to(folder)}{checksum(path)}" for path in files))


_OPEN: dict[str, Any] = {"stdlib": _from_stdlib, "files": _from_files, "hub": _from_hub}
