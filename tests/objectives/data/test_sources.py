"""Sources: every kind of file, in a fixed order, and one clear sentence for what cannot be read."""

from __future__ import annotations

import gzip
import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from objectives.config.data import Files, HubDataset, Stdlib
from objectives.data import file_rows, sources
from tests.objectives import toy

TEXTS = toy.text(5)


JSONL = "".join(json.dumps({"text": text, "other": 1}) + "\n" for text in TEXTS).encode()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


def read(*paths: Path | str, max_bytes: int | None = None, text_field: str = "text") -> list[str]:
    given = Files(paths=tuple(map(str, paths)), max_bytes=max_bytes, text_field=text_field)
    return list(sources.documents(given))


@pytest.mark.parametrize("ending", PACK)
def test_json_lines_are_read_packed_or_not(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(PACK[ending](JSONL))
    assert read(path) == TEXTS


@pytest.mark.parametrize("ending", PACK)
def test_text_files_are_one_document_packed_or_not(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.txt{ending}"
    path.write_bytes(PACK[ending]("Grüße\n\nwörld\n".encode()))
    assert read(path) == ["Grüße\n\nwörld\n"]


@pytest.mark.parametrize("ending", [".gz", ".xz", ".zst"])
def test_files_packed_in_several_pieces_are_read_to_the_end(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.jsonl{ending}"
    half = JSONL.index(b"\n", len(JSONL) // 2) + 1
    path.write_bytes(PACK[ending](JSONL[:half]) + PACK[ending](JSONL[half:]))
    assert read(path) == TEXTS


def test_parquet_is_read_and_another_field_can_be_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": TEXTS, "n": range(5)}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"body": TEXTS}), tmp_path / "b.parquet")
    assert read(tmp_path / "a.parquet") == TEXTS
    assert read(tmp_path / "b.parquet", text_field="body") == TEXTS


def test_globs_give_each_file_once_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "a.txt", "deep/c.txt"):
        (tmp_path / name).write_text(name)
    assert read(tmp_path / "*.txt", tmp_path / "a.txt") == ["a.txt", "b.txt"]
    assert read(tmp_path / "**" / "*.txt") == ["a.txt", "b.txt", "deep/c.txt"]
    assert read(tmp_path / "deep" / "c.txt", tmp_path / "?.txt") == ["a.txt", "b.txt", "deep/c.txt"]


def test_long_text_files_are_cut_at_blank_lines_and_nothing_is_lost(tmp_path: Path) -> None:
    content = "\n".join(f"{text}\n" for text in toy.text(1000))
    (tmp_path / "a.txt").write_text(content)
    pieces = read(tmp_path / "a.txt")
    assert "".join(pieces) == content
    assert len(pieces) > 3
    assert all(len(piece) >= file_rows.TEXT_PIECE for piece in pieces[:-1])
    assert all(piece.endswith("\n\n") for piece in pieces[:-1])


def test_max_bytes_ends_after_the_document_that_reaches_it(tmp_path: Path) -> None:
    path = toy.write_jsonl(tmp_path / "a.jsonl", [{"text": c * 10} for c in "aüc"])
    assert read(path, max_bytes=1) == ["a" * 10]
    assert read(path, max_bytes=10) == ["a" * 10]
    assert read(path, max_bytes=11) == ["a" * 10, "ü" * 10]
    assert read(path, max_bytes=30) == ["a" * 10, "ü" * 10]
    assert read(path, max_bytes=31) == ["a" * 10, "ü" * 10, "c" * 10]


def test_documents_without_text_are_left_out(tmp_path: Path) -> None:
    path = toy.write_jsonl(tmp_path / "a.jsonl", [{"text": t} for t in ("", " \n", "x", "\t")])
    assert read(path) == ["x"]


def test_the_standard_library_is_a_source_up_to_its_size() -> None:
    some = list(sources.documents(Stdlib(max_bytes=200_000)))
    more = list(sources.documents(Stdlib(max_bytes=400_000)))
    size = [len(text.encode()) for text in some]
    assert sum(size[:-1]) < 200_000 <= sum(size)
    assert more[: len(some)] == some


def hub(folder: Path, **given: object) -> HubDataset:
    return HubDataset(name=str(folder), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_dataset_saved_to_disk_is_a_source(streaming: bool, tmp_path: Path) -> None:
    saved = datasets.Dataset.from_dict({"text": TEXTS, "label": [0] * 5})
    saved.save_to_disk(tmp_path / "flat")
    datasets.DatasetDict({"train": saved, "test": saved.select([4])}).save_to_disk(
        tmp_path / "split"
    )
    assert list(sources.documents(hub(tmp_path / "flat", streaming=streaming))) == TEXTS
    assert list(sources.documents(hub(tmp_path / "split", streaming=streaming))) == TEXTS
    assert list(sources.documents(hub(tmp_path / "split", split="test"))) == TEXTS[4:]


def test_a_dataset_that_cannot_be_loaded_is_one_clear_error(tmp_path: Path) -> None:
    saved = datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": TEXTS})})
    saved.save_to_disk(tmp_path / "split")
    with pytest.raises(ValueError, match=r"^dataset .* \(split 'dev'\) cannot be loaded[^\n]*$"):
        list(sources.documents(hub(tmp_path / "split", split="dev")))
    with pytest.raises(ValueError, match="no text under 'body'; its fields are text"):
        list(sources.documents(hub(tmp_path / "split", text_field="body")))


def damaged(content: bytes, ending: str) -> list[bytes]:
    """Truncated, and with bytes changed in the middle."""
    packed = PACK[ending](content)
    middle = len(packed) // 2
    wrong = bytes(255 - byte for byte in packed[middle : middle + 8])
    return [packed[:middle], packed[:middle] + wrong + packed[middle + 8 :]]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("ending", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("kind", [".jsonl", ".txt"])
def test_a_damaged_packed_file_is_one_clear_error(
    kind: str, ending: str, which: int, tmp_path: Path
) -> None:
    path = tmp_path / f"a{kind}{ending}"
    path.write_bytes(damaged(JSONL, ending)[which])
    with pytest.raises(ValueError, match=rf"^[^\n]*a{kind}{ending}[^\n]*$"):
        read(path)


def test_a_damaged_parquet_file_is_one_clear_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "a.parquet")
    content = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"^cannot read [^\n]*a\.parquet[^\n]*$"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "a.jsonl line 2 is not JSON"),
        ("a.jsonl", b'{"text": "x"}\n\n{"te', "a.jsonl line 3 is not JSON"),
        ("a.jsonl", b'["x"]\n', "a.jsonl line 1 must be a JSON object, got list"),
        ("a.jsonl", b'{"body": "x", "n": 1}\n', "no text under 'text'; its fields are body, n"),
        ("a.jsonl", b'{"text": 3}\n', "no text under 'text'"),
        ("a.jsonl", b'{"text": "\xff"}\n', "cannot read .*a.jsonl"),
        ("a.txt", b"\xff\xfe", "cannot read .*a.txt"),
        ("a.csv", b"x,y\n1,2\n", "a.csv line 2 has no text under 'text'; its fields are x, y"),
        ("a.doc", b"x,y", "a.doc is none of .csv, .*; convert it"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_pattern_that_matches_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    for pattern in ("none.txt", "*.jsonl", "folder*"):
        with pytest.raises(ValueError, match=r"no file matches '.*'; check the path"):
            read(tmp_path / pattern)


def prints(*paths: Path, **given: object) -> list[object]:
    files = Files(paths=tuple(map(str, paths)), **given)  # type: ignore[arg-type]
    return sources.fingerprint(files)


def test_a_fingerprint_follows_the_content_and_not_the_name(tmp_path: Path) -> None:
    one, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for path in (one, other):
        path.write_bytes(JSONL)
    before = prints(one)
    assert prints(other) == before
    assert prints(one, other) != before
    assert prints(one, text_field="other") != before
    assert prints(one, max_bytes=3) != before
    one.write_bytes(JSONL + b'{"text": "more"}\n')
    assert prints(one) != before
    assert prints(other) == before


def test_a_fingerprint_knows_as_what_the_content_is_read(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.txt"):
        (tmp_path / name).write_bytes(JSONL)
    assert read(tmp_path / "a.jsonl") != read(tmp_path / "a.txt")
    assert prints(tmp_path / "a.jsonl") != prints(tmp_path / "a.txt")


def test_a_saved_dataset_is_the_same_wherever_it_is(tmp_path: Path) -> None:
    saved = datasets.Dataset.from_dict({"text": TEXTS})
    saved.save_to_disk(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    assert sources.fingerprint(hub(tmp_path / "a")) == sources.fingerprint(hub(tmp_path / "b"))


def test_a_saved_dataset_s_fingerprint_follows_its_files(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": TEXTS}).save_to_disk(tmp_path / "a")
    before = sources.fingerprint(hub(tmp_path / "a"))
    assert sources.fingerprint(hub(tmp_path / "a")) == before
    (tmp_path / "a" / "state.json").write_text("{}")
    assert sources.fingerprint(hub(tmp_path / "a")) != before
