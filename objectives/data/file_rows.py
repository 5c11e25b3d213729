"""What is in local files: lines, rows and documents, of every kind and packed in every way.

A file counts as packed if its content is, whatever its name says. Every error names the file, and
the line or row where there is one.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from objectives.data.file_paths import ROWS, TEXT, kind_of

TEXT_PIECE = 20_000
"""Characters of a document cut from a text file; assumed: a long chapter."""


PACKED_BYTES = 2**16


MOST_CHARACTERS = 2**29
"""Of a line, which is held in memory; assumed: five times text8, the longest corpus on one line
that is known. A packed file of a few MB may hold more than any machine's memory."""


PARQUET_ROWS, PARQUET_BYTES = 256, 2**31
"""Of a .parquet file that are held in memory at a time, if a row is not larger."""


POINTER_BYTES = 8
"""What an item of a list takes at least once it is read, however it is packed."""


MOST_JSON = 2**31
"""Of a .json file that is no JSON Lines, which is held in memory with all its objects; assumed."""


CELL_BYTES = 2**31 - 1
"""Longest cell of a .csv file; the csv module's own limit is 128 KiB."""


UNREADABLE = (
    OSError, EOFError, UnicodeDecodeError,
    zlib.error, lzma.LZMAError, zstandard.ZstdError, pa.ArrowException,
)  # fmt: skip
"""What reading a damaged file raises."""


REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


_SURROGATE = re.compile("[\ud800-\udfff]")


_UTF16 = (b"\xff\xfe", b"\xfe\xff")


Row = dict[str, Any]


Numbered = Iterator[tuple[str, Row]]
"""Where a row is, such as "a.jsonl line 3", and the row."""


def whole_text(text: str) -> str:
    """The text with each half of a surrogate pair, which UTF-8 has no bytes for, as U+FFFD."""
    return _SURROGATE.sub(REPLACEMENT, text)


def open_text(path: Path, *, newline: str | None = None) -> IO[str]:
    """A UTF-8 text file, unpacked, without a byte order mark."""
    return io.TextIOWrapper(_open(path), encoding="utf-8-sig", newline=newline)


def _open(path: Path) -> Any:
    with path.open("rb") as file:
        magic = file.read(6)
    for mark, unpacking in _UNPACK.items():
        if magic.startswith(mark):
            return unpacking(path)
    return path.open("rb")


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


def _unzip(path: Path) -> Any:
    raise ValueError(f"{path} is a zip archive; unpack it.")


_UNPACK: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x28\xb5\x2f\xfd": lambda path: io.BufferedReader(_Unzstd(path)),
    b"PK\x03\x04": _unzip,
}
"""First bytes of a packed file -> how it is opened."""


def lines(path: Path, *, newline: str | None = None) -> Iterator[str]:
    """The lines of a text file.

    Raises:
        ValueError: it cannot be read, is not UTF-8, or has a line that is too long.
    """
    number = 0
    try:
        with open_text(path, newline=newline) as file:
            while line := file.readline(MOST_CHARACTERS):
                number += 1
                if len(line) == MOST_CHARACTERS:
                    raise ValueError(
                        f"{path} line {number} has {MOST_CHARACTERS:,} characters or more, which "
                        "is too long for one document; cut it into lines or files."
                    )
                yield line
    except UnicodeDecodeError as error:
        raise ValueError(_not_utf8(path, error)) from None
    except UNREADABLE as error:
        raise ValueError(unreadable(path, error)) from None


def unreadable(path: Path, error: Exception) -> str:
    """The sentence for what `UNREADABLE` are."""
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())
    if isinstance(error, PermissionError | IsADirectoryError | FileNotFoundError):
        return f"cannot read {path} ({reason})."
    return f"cannot read {path} ({reason}); is the file whole?"


def _not_utf8(path: Path, error: UnicodeDecodeError) -> str:
    """The sentence for the first line that is not UTF-8, which is looked for from the start."""
    with _open(path) as file:
        if file.read(2) in _UTF16:
            return f"cannot read {path} (it is UTF-16); save it as UTF-8."
    with _open(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(MOST_CHARACTERS), b""), 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as first:
                byte = line[first.start]
                return (
                    f"cannot read {path} line {number} (byte {byte:#04x} is not UTF-8); is the "
                    "file whole, and UTF-8?"
                )
    return f"cannot read {path} ({error.reason}); is the file whole, and UTF-8?"


def rows(path: Path, columns: list[str] | None = None) -> Numbered:
    """Rows of a .jsonl, .json, .csv, .tsv (all also packed) or .parquet file.

    Of a .parquet file only `columns`, where they are given and there.

    Raises:
        ValueError: a row that is no JSON object, or a file that cannot be read.
    """
    kind = kind_of(path)
    if kind == ".parquet":
        return _parquet(path, columns)
    if kind not in _READ:
        raise ValueError(
            f"{path} has no ending that is known; rows are read from {', '.join(sorted(ROWS))}, "
            "also packed: convert it."
        )
    return _READ[kind](path)


def _parquet(path: Path, columns: list[str] | None) -> Numbered:
    try:
        with pq.ParquetFile(path) as file:
            known = file.schema_arrow.names
            some = [name for name in known if name in columns] if columns else []
            number = 0
            for group in range(file.num_row_groups):
                for batch in _batches(path, file, group, some or known):
                    for row in batch.to_pylist():
                        number += 1
                        where = f"{path} row {number}"
                        yield where, _of_some_length(where, row)
    except UNREADABLE as error:
        raise ValueError(unreadable(path, error)) from None


def _batches(
    path: Path, file: pq.ParquetFile, group: int, columns: list[str]
) -> Iterator[pa.RecordBatch]:
    """The rows of a row group, as many at a time as take little memory.

    A few bytes may say that a long text of a dictionary is in every row, so that a row may be as
    large as its columns' chunks. The sizes in the file are compared with the first row.
    """
    about = file.metadata.row_group(group)
    chunks = [about.column(place) for place in range(about.num_columns)]
    chunks = [each for each in chunks if each.path_in_schema.split(".")[0] in columns]
    total = sum(each.total_uncompressed_size for each in chunks)
    items = sum(each.num_values for each in chunks)
    mean = max(total, POINTER_BYTES * items) // max(1, about.num_rows)
    if mean > MOST_CHARACTERS:
        raise ValueError(
            f"{path} has rows of {mean:,} bytes, which is too long for one document; cut them."
        )
    for row in file.iter_batches(1, row_groups=[group], columns=columns):
        if row.nbytes > 2 * total + PARQUET_ROWS:
            raise ValueError(f"{path} has more bytes than it says; is the file whole?")
        break
    size = max(1, min(PARQUET_ROWS, PARQUET_BYTES // max(1, total)))
    yield from file.iter_batches(size, row_groups=[group], columns=columns)


def _of_some_length(where: str, row: Row) -> Row:
    """The row, unless a text in it is too long."""
    for value in row.values():
        if isinstance(value, str | bytes) and len(value) >= MOST_CHARACTERS:
            raise ValueError(
                f"{where} has {MOST_CHARACTERS:,} characters or more, which is too long for one "
                "document; cut it into rows."
            )
    return row


def _json_lines(path: Path) -> Numbered:
    for number, line in enumerate(lines(path), 1):
        if text := line.strip("\ufeff \t\r\n"):
            where = f"{path} line {number}"
            yield where, _object(_loads(text, where), where)


def _json(path: Path) -> Numbered:
    """JSON Lines, one array of objects, or one object."""
    first = next((line for line in lines(path) if line.strip("\ufeff \t\r\n")), "")
    if first.lstrip("\ufeff \t")[:1] == "{" and _is_json(first.strip("\ufeff")):
        yield from _json_lines(path)
        return
    text = "".join(_at_most(MOST_JSON, path)).strip("\ufeff")
    if not text.strip():
        return
    data = _loads(text, str(path))
    if not isinstance(data, list):
        yield str(path), _object(data, str(path))
        return
    for number, item in enumerate(data, 1):
        where = f"{path} item {number}"
        yield where, _object(item, where)


def _at_most(most: int, path: Path) -> Iterator[str]:
    """The lines of a file with at most so many characters in all."""
    size = 0
    for line in lines(path):
        size += len(line)
        if size > most:
            raise ValueError(
                f"{path} has more than {most:,} characters, and is read whole as it is no JSON "
                "Lines; write one object a line."
            )
        yield line


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    except (ValueError, RecursionError):  # said with its line when it is read
        return True
    return True


def _loads(text: str, where: str) -> Any:
    try:
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            place = where if error.lineno == 1 else f"{where} line {error.lineno}"
            raise ValueError(f"{place} is not JSON ({error.msg}).") from None
        except ValueError:  # more digits than Python makes a number of
            return json.loads(text, parse_int=str)
    except RecursionError:
        raise ValueError(f"{where} has too many brackets inside one another.") from None


def _object(row: Any, where: str) -> Row:
    if not isinstance(row, dict):
        raise ValueError(f"{where} must be a JSON object, got {type(row).__name__}.")
    return row


def _table(path: Path) -> Numbered:
    """Rows of a .csv or .tsv file by its header; empty ones are left out."""
    csv.field_size_limit(CELL_BYTES)
    content = lines(path, newline="")
    first = next(content, "")
    marks = "\t" if kind_of(path) == ".tsv" else ",;\t"
    reader = csv.reader(
        itertools.chain([first], content), delimiter=max(marks, key=first.count), strict=True
    )
    header: list[str] = []
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"{path} line {reader.line_num} is no table row ({error}).") from None
        if cells is None:
            return
        where = f"{path} line {reader.line_num}"
        if not header:
            header = [name.strip() for name in cells]
        elif len(cells) > len(header):
            raise ValueError(
                f"{where} has {len(cells)} cells, but the header {len(header)}; put quotes around "
                "text that holds the separator."
            )
        elif any(cells):
            yield where, dict(zip(header, cells, strict=False))


_READ: dict[str, Callable[[Path], Numbered]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json,
    ".csv": _table,
    ".tsv": _table,
}


def texts(path: Path, *, alone: bool) -> Iterator[str]:
    """The documents of a text file.

    A file is one document up to about TEXT_PIECE characters; a longer one is cut at blank lines
    into documents of about that length. Where there are no blank lines, each line is a document of
    a longer file, and of one that is the only one (`alone`), which else could not be split.
    """
    assert kind_of(path) in TEXT
    piece: list[str] = []
    size, cut_at_lines, has_blank = 0, False, False
    for line in lines(path):
        if cut_at_lines:
            yield line.rstrip("\n")
            continue
        blank = not line.strip()
        has_blank |= not blank and any(map(str.strip, piece[:1])) and not piece[-1].strip()
        piece.append(line)
        size += len(line)
        if size >= TEXT_PIECE and blank:
            yield "".join(piece)
            piece, size, has_blank = [], 0, True
        elif size >= TEXT_PIECE and not has_blank:
            yield from (each.rstrip("\n") for each in piece)
            piece, cut_at_lines = [], True
    if alone and not has_blank and len(piece) > 1:
        yield from (each.rstrip("\n") for each in piece)
    else:
        yield "".join(piece)
