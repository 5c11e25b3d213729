"""Where documents come from: the running Python, local files, Hugging Face datasets."""

from __future__ import annotations

import glob
import gzip
import hashlib
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from objectives import recipe, stdlib_text

TEXT_PIECE = 20_000
"""Characters of a document cut from a .txt file; assumed: a long chapter."""
PACKED_BYTES = 2**16
UNREADABLE = (
    OSError, EOFError, UnicodeDecodeError,
    zlib.error, lzma.LZMAError, zstandard.ZstdError, pa.ArrowException,
)  # fmt: skip
"""What reading a damaged file raises."""


def documents(source: recipe.Source) -> Iterator[str]:
    """The source's documents that hold any text, in a fixed order, up to its `max_bytes`.

    Raises:
        ValueError: no such file or dataset, or a row without the text field.
    """
    left = source.max_bytes
    for text in _OPEN[source.kind](source):
        if not text.strip():
            continue
        yield text
        if left is not None:
            left -= len(text.encode())
            if left <= 0:
                return


def fingerprint(source: recipe.Source) -> list[Any]:
    """JSON-able identity of the text that `documents` gives: checksums, or a hub revision."""
    if isinstance(source, recipe.Files):
        content = [[_kind(path), checksum(path)] for path in matching_files(source.paths)]
        return ["files", content, source.text_field, source.max_bytes]
    if isinstance(source, recipe.Stdlib):
        return ["stdlib", _digest(documents(source))]
    return ["hub", source.name, source.config, source.split, _revision(source), source.text_field,
            source.max_bytes]  # fmt: skip


def matching_files(patterns: tuple[str, ...]) -> list[Path]:
    """Files of all patterns, sorted, each once.

    Raises:
        ValueError: a pattern that matches nothing.
    """
    found: set[Path] = set()
    for pattern in patterns:
        matches = [Path(name) for name in glob.glob(pattern, recursive=True)]
        files = {path for path in matches if path.is_file()}
        if not files:
            raise ValueError(f"no file matches {pattern!r}; check the path.")
        found |= files
    return sorted(found)


def open_text(path: Path) -> IO[str]:
    """A text file, unpacked by its ending: .gz, .xz, .zst."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    if path.suffix == ".xz":
        return lzma.open(path, "rt", encoding="utf-8")
    if path.suffix == ".zst":
        return io.TextIOWrapper(io.BufferedReader(_Unzstd(path)), encoding="utf-8")
    return path.open("rt", encoding="utf-8")


class _Unzstd(io.RawIOBase):
    """Content of a .zst file over all its frames; zstandard's own reader takes a cut-off one."""

    def __init__(self, path: Path) -> None:
        self.file = path.open("rb")
        self.frame = zstandard.ZstdDecompressor().decompressobj()
        self.plain = io.BytesIO()
        self.whole = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not (size := self.plain.readinto(buffer)):
            packed = self.frame.unused_data or self.file.read(PACKED_BYTES)
            if not packed and not self.whole:
                raise EOFError("it ends within a frame")
            if not packed:
                return 0
            if self.frame.eof:
                self.frame = zstandard.ZstdDecompressor().decompressobj()
            self.plain = io.BytesIO(self.frame.decompress(packed))
            self.whole = self.frame.eof
        return size

    def close(self) -> None:
        self.file.close()
        super().close()


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a .jsonl (also packed) or .parquet file.

    Raises:
        ValueError: a line that is no JSON object, or a file that cannot be read.
    """
    try:
        if path.suffix == ".parquet":
            for batch in pq.ParquetFile(path).iter_batches(batch_size=256):
                yield from batch.to_pylist()
            return
        with open_text(path) as lines:
            for number, line in enumerate(lines, 1):
                yield _json_object(path, number, line)
    except UNREADABLE as error:
        raise ValueError(f"cannot read {path} ({error}); is the file whole?") from None


def _json_object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} line {number} is not JSON ({error.msg}).") from None
    if not isinstance(row, dict):
        raise ValueError(f"{path} line {number} must be a JSON object, got {type(row).__name__}.")
    return row


def _from_stdlib(source: recipe.Stdlib) -> Iterator[str]:
    """In the order of their hashes, so that a part of them is a sample of all of them."""
    texts = set(stdlib_text.documents())
    return iter(sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest()))


def _from_files(source: recipe.Files) -> Iterator[str]:
    for path in matching_files(source.paths):
        kind = _kind(path)
        if kind == ".txt":
            yield from _pieces(path)
        elif kind in (".jsonl", ".parquet"):
            for row in read_rows(path):
                yield _text(row, source.text_field, str(path))
        else:
            raise ValueError(f"{path} is neither .txt, .jsonl nor .parquet; convert it.")


def _kind(path: Path) -> str:
    """The ending that says how the content is read."""
    return next((s for s in reversed(path.suffixes) if s not in (".gz", ".xz", ".zst")), "")


def _pieces(path: Path) -> Iterator[str]:
    """A text file cut at blank lines into documents of about TEXT_PIECE characters."""
    piece: list[str] = []
    size = 0
    try:
        with open_text(path) as lines:
            for line in lines:
                piece.append(line)
                size += len(line)
                if size >= TEXT_PIECE and not line.strip():
                    yield "".join(piece)
                    piece, size = [], 0
    except UNREADABLE as error:
        raise ValueError(f"cannot read {path} ({error}); is it whole, and UTF-8?") from None
    yield "".join(piece)


def _from_hub(source: recipe.HubDataset) -> Iterator[str]:
    rows = load_dataset(
        source.name, source.config, source.split, source.revision, streaming=source.streaming
    )
    for row in rows:
        yield _text(row, source.text_field, source.name)


def load_dataset(
    name: str, config: str | None, split: str, revision: str | None, *, streaming: bool
) -> Any:
    """Rows of a hub dataset, or of a folder written by `save_to_disk`.

    Raises:
        ValueError: it cannot be loaded.
    """
    import datasets  # slow to import, and most runs do without

    try:
        if any((Path(name) / mark).exists() for mark in ("state.json", "dataset_dict.json")):
            loaded = datasets.load_from_disk(name)
            return loaded[split] if isinstance(loaded, datasets.DatasetDict) else loaded
        return datasets.load_dataset(
            name, config, split=split, revision=revision, streaming=streaming
        )
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"dataset {name!r} (split {split!r}) cannot be loaded: {reason}; check its name and "
            "the network, or give a local folder."
        ) from error


def _text(row: dict[str, Any], field: str, where: str) -> str:
    text = row.get(field)
    if not isinstance(text, str):
        raise ValueError(
            f"a row of {where} has no text under {field!r}; its fields are {', '.join(row)}: "
            "set text_field."
        )
    return text


def checksum(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(texts: Iterator[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()


def _revision(source: recipe.HubDataset) -> str | None:
    """The exact revision where it can be known: a disk folder's files, a pinned or resolved one."""
    folder = Path(source.name)
    if folder.is_dir():
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return _digest(iter(f"{path.relative_to(folder)}{checksum(path)}" for path in files))
    if source.revision is not None:
        return source.revision
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return str(HfApi().dataset_info(source.name, timeout=10).sha)
    except (HfHubHTTPError, OSError, ValueError):
        return None


_OPEN: dict[str, Any] = {"stdlib": _from_stdlib, "files": _from_files, "hub": _from_hub}
