"""Files as people have them: every kind is read, every error names file and line."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from objectives.config.data import Files
from objectives.data import file_paths, file_rows, sources
from objectives.data.sources import Counts
from tests.objectives import toy

TEXTS = toy.text(5)


LINES = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)


def read(*paths: Path | str, counts: Counts | None = None) -> list[str]:
    return list(sources.documents(Files(paths=tuple(map(str, paths))), counts))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom.jsonl", b"\xef\xbb\xbf" + LINES.encode()),
        (
            "boms.jsonl",
            b"".join(b"\xef\xbb\xbf" + line for line in LINES.encode().splitlines(True)),
        ),
        ("blank.jsonl", ("\n" + LINES.replace("\n", "\n\n  \n") + "\n").encode()),
        ("crlf.jsonl", LINES.replace("\n", "\r\n").encode()),
        ("cr.jsonl", LINES.replace("\n", "\r").encode()),
        ("noend.jsonl", LINES.rstrip().encode()),
        ("upper.JSONL", LINES.encode()),
        ("a.ndjson", LINES.encode()),
        ("lines.json", LINES.encode()),
        ("array.json", json.dumps([{"text": t} for t in TEXTS], indent=1).encode()),
        ("flat.json", json.dumps([{"text": t} for t in TEXTS]).encode()),
        ("c4-train.00000-of-01024.json.gz", gzip.compress(LINES.encode())),
        ("a.jsonl.bz2", bz2.compress(LINES.encode())),
        ("a.jsonl.XZ", lzma.compress(LINES.encode())),
        ("a.jsonl.zst", zstandard.compress(LINES.encode())),
        ("unpacked.jsonl.gz", LINES.encode()),
        ("packed.jsonl", gzip.compress(LINES.encode())),
        ("bom.jsonl.gz", gzip.compress(b"\xef\xbb\xbf" + LINES.encode())),
        ("a.csv", ("id,text\n" + "".join(f'{n},"{t}"\n' for n, t in enumerate(TEXTS))).encode()),
        ("bom.csv", ("\ufefftext\r\n" + "\r\n".join(TEXTS) + "\r\n\r\n").encode()),
        ("a.tsv", ("text\tid\n" + "".join(f"{t}\t1\n" for t in TEXTS)).encode()),
        ("semicolon.csv", ("id;text\n" + "".join(f"1;{t}\n" for t in TEXTS)).encode()),
        ("line-a-document.txt", "\n".join(TEXTS).encode()),
        ("last-empty.txt", ("\n" + "\n".join(TEXTS) + "\n\n").encode()),
        ("lines.txt.gz", gzip.compress("\n".join(TEXTS).encode())),
        ("lines.md", ("\ufeff" + "\r\n".join(TEXTS)).encode()),
    ],
)
def test_files_are_read_as_people_have_them(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert read(tmp_path / name) == TEXTS


def test_one_object_is_one_row(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"text": "one", "n": [1]}, indent=2))
    (tmp_path / "b.json").write_text("")
    assert read(tmp_path / "a.json", tmp_path / "b.json") == ["one"]


def test_long_cells_and_line_breaks_in_cells_are_read(tmp_path: Path) -> None:
    long = "x" * 300_000 + '\nwith a "quote", and more'
    quoted = long.replace('"', '""')
    (tmp_path / "a.csv").write_text(f'text,n\n"{quoted}",1\n')
    assert read(tmp_path / "a.csv") == [long]


def test_a_long_text_file_without_blank_lines_is_a_document_a_line(tmp_path: Path) -> None:
    lines = toy.text(300)
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("\n".join(lines))
    assert len("\n".join(lines)) > file_rows.TEXT_PIECE
    assert read(tmp_path / "a.txt") == lines
    assert read(tmp_path / "a.txt", tmp_path / "b.txt") == lines * 2
    (tmp_path / "a.txt").write_text("one\ntwo")
    (tmp_path / "b.txt").write_text("three\nfour")
    assert read(tmp_path / "a.txt", tmp_path / "b.txt") == ["one\ntwo", "three\nfour"]


def test_nulls_and_missing_texts_are_left_out_and_counted(tmp_path: Path) -> None:
    rows = [{"text": "a"}, {"text": None}, {"other": 1}, {"text": float("nan")}, {"text": "b"}]
    path = toy.write_jsonl(tmp_path / "a.jsonl", rows)
    pq.write_table(pa.table({"text": [None, "c", None], "n": [1, 2, 3]}), tmp_path / "b.parquet")
    counts = Counts()
    assert read(path, tmp_path / "b.parquet", counts=counts) == ["a", "b", "c"]
    assert counts.notes("corpus") == ["corpus: rows left out as they have no text: 5"]


def test_half_an_emoji_is_replaced_and_a_whole_one_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x\\ud83d"}\n{"text": "y\\ud83d\\ude00"}\n')
    counts = Counts()
    assert read(tmp_path / "a.jsonl", counts=counts) == ["x\ufffd", "y\U0001f600"]
    assert counts.repaired == 1


DEEP = '{"text": ' + "[" * 200_000 + "]" * 200_000 + "}"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "x"}\n' + DEEP, "a.jsonl line 2 has too many brackets inside"),
        ("a.json", "[" * 3_000, "a.json has too many brackets inside"),
        ("a.json", '{"text": "x"}\n{"text": \n', "a.json line 2 is not JSON"),
        ("a.json", '[\n{"text": "x"},\n{"text": ]', "a.json line 3 is not JSON"),
        ("a.json", '[{"text": "x"}, 3]', "a.json item 2 must be a JSON object, got int"),
        ("a.csv", 'text\nfine\n"open', "a.csv line 3 is no table row"),
        ("a.csv", "text,n\nfine,1\nx,y,z\n", "a.csv line 3 has 3 cells, but the header 2"),
        ("a.jsonl", '{"text": 3}\n', "a.jsonl line 1 has no text under 'text'.* It is int"),
        ("a.doc", "x", r"a.doc is none of .*\.txt.*; convert it"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(
    name: str, content: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"fine\n" * 9 + b"gr\xfc\xdfe\n")
    with pytest.raises(ValueError, match=r"a.txt line 10 \(byte 0xfc is not UTF-8\)"):
        read(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_bytes("x".encode("utf-16"))
    with pytest.raises(ValueError, match=r"it is UTF-16\); save it as UTF-8"):
        read(tmp_path / "a.txt")
    (tmp_path / "a.jsonl").write_bytes(b"PK\x03\x04rest")
    with pytest.raises(ValueError, match=r"a.jsonl is a zip archive; unpack it"):
        read(tmp_path / "a.jsonl")


def test_a_number_of_many_digits_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x", "id": ' + "7" * 5_000 + "}\n")
    assert read(tmp_path / "a.jsonl") == ["x"]


def test_a_folder_gives_the_files_in_it_that_hold_data(tmp_path: Path) -> None:
    (tmp_path / "deep" / ".git").mkdir(parents=True)
    for name in ("b.txt", "a.md", "deep/c.text", "README.md", "LICENSE.txt", ".hidden.txt",
                 "deep/.git/x.txt", "picture.png"):  # fmt: skip
        (tmp_path / name).write_text(name)
    assert read(tmp_path) == ["a.md", "b.txt", "deep/c.text"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"folder .*empty holds no file to read; endings are"):
        read(tmp_path / "empty")


def test_a_folder_of_save_to_disk_names_the_right_source(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(ValueError, match=r"was written by save_to_disk; read it as HubDataset"):
        read(tmp_path)


def test_a_path_that_exists_is_no_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run[1]").mkdir()
    for name in ("run[1]/a*.txt", "run[1]/ab.txt"):
        (tmp_path / name).write_text(name)
    assert read(tmp_path / "run[1]" / "a*.txt") == ["run[1]/a*.txt"]
    assert read(tmp_path / "run[1]" / "*b.txt") == ["run[1]/ab.txt"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read("~/run[1]/ab.txt") == ["run[1]/ab.txt"]


@pytest.mark.parametrize("links", [1, 2, 5])
def test_links_that_lead_back_end_and_count_nothing_twice(links: int, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    for number in range(links):
        (tmp_path / f"latest{number}").symlink_to(".")
    (tmp_path / "again").symlink_to("real")
    assert sorted(read(tmp_path / "**" / "*.txt")) == ["a", "b"]
    assert sorted(read(tmp_path / "**")) == ["a", "b"]
    assert sorted(read(tmp_path)) == ["a", "b"]
    assert read(tmp_path / "again" / "*.txt") == ["a"]


def test_a_file_counts_once_however_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("a.txt").write_text("a")
    Path("link.txt").symlink_to("a.txt")
    assert read("a.txt", tmp_path / "here" / "a.txt", "*.txt", "./a.txt", "../*/a.txt") == ["a"]


def test_what_is_no_file_is_one_clear_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "gone.jsonl").symlink_to("nowhere")
    for given, message in {
        tmp_path / "pipe.jsonl": r"pipe.jsonl is a pipe, not a regular file",
        tmp_path / "p*.jsonl": r"pipe.jsonl is a pipe, not a regular file",
        tmp_path / "gone.jsonl": r"gone.jsonl is a link to 'nowhere', which cannot be opened",
        tmp_path / "g*": r"gone.jsonl is a link to 'nowhere', which cannot be opened",
        Path("/dev/zero"): r"/dev/zero is a device, not a regular file",
        Path("nothing.txt"): rf"check the path \(looked for {Path('nothing.txt').absolute()}\)",
    }.items():
        with pytest.raises(ValueError, match=message):
            read(given)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs /proc")
def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").symlink_to("/proc/self/mem")
    for use in (sources.fingerprint, lambda source: list(sources.documents(source))):
        with pytest.raises(ValueError, match=r"cannot read .*a.txt \(Input/output error\)"):
            use(Files(paths=(str(tmp_path / "a.txt"),)))


def test_thousands_of_files_are_found_in_order(tmp_path: Path) -> None:
    for number in range(3_000):
        (tmp_path / f"{number:05}.txt").touch()
    found = file_paths.matching_files((f"{tmp_path}/*.txt", f"{tmp_path}/**", str(tmp_path)))
    assert [path.name for path in found] == [f"{number:05}.txt" for number in range(3_000)]


def test_a_check_reads_the_beginning_of_each_file(tmp_path: Path) -> None:
    good = toy.write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}] * 3)
    sources.check(Files(paths=(str(good),)))
    bad = toy.write_jsonl(tmp_path / "b.jsonl", [{"body": "a"}] * 3)
    with pytest.raises(ValueError, match=r"b.jsonl line 1 has no text under 'text'"):
        sources.check(Files(paths=(str(good), str(bad))))
    empty = toy.write_jsonl(tmp_path / "c.jsonl", [{"text": " "}])
    with pytest.raises(ValueError, match="hold no text"):
        sources.check(Files(paths=(str(empty),)))


def test_a_wrong_field_is_found_before_a_large_file_is_read(tmp_path: Path) -> None:
    count = sources.NAMELESS_ROWS
    rows = [{"body": "x"}] * count
    text = "".join(json.dumps(row) + "\n" for row in rows) + "no JSON"
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(ValueError, match="no text under 'text'; its fields are body"):
        read(tmp_path / "a.jsonl")


def test_the_recursion_limit_is_not_touched(tmp_path: Path) -> None:
    before = sys.getrecursionlimit()
    (tmp_path / "a.jsonl").write_text(DEEP)
    with pytest.raises(ValueError, match="too many brackets"):
        read(tmp_path / "a.jsonl")
    assert sys.getrecursionlimit() == before


@pytest.mark.parametrize("name", ["a.txt.gz", "a.jsonl.gz", "a.json.gz", "a.csv.gz"])
def test_a_line_that_no_memory_would_hold_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few kB can unpack to any size."""
    monkeypatch.setattr(file_rows, "MOST_CHARACTERS", 1000)
    with gzip.open(tmp_path / name, "wb") as file:
        file.write(b'{"text": "' + b"a" * 5000)
    with pytest.raises(ValueError, match=r"line 1 has 1,000 characters or more, which is too long"):
        list(sources.documents(Files(paths=(str(tmp_path / name),)), Counts()))


def test_json_that_is_read_whole_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_rows, "MOST_JSON", 1000)
    rows = [{"text": "a" * 100} for _ in range(20)]
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=0))
    with pytest.raises(ValueError, match=r"more than 1,000 characters, .* write one object a line"):
        list(file_rows.rows(tmp_path / "a.json"))
    toy.write_jsonl(tmp_path / "a.json", rows)
    assert len(list(file_rows.rows(tmp_path / "a.json"))) == 20


def bomb(path: Path, count: int = 1000, size: int = 10_000) -> Path:
    """A file of a few kB that has one long text in every row."""
    texts = pa.DictionaryArray.from_arrays(
        pa.array([0] * count, pa.int32()), pa.array(["a" * size])
    )
    pq.write_table(pa.table({"text": texts}), path, compression="zstd")
    return path


def test_a_parquet_file_with_one_text_in_every_row_is_read_in_small_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_rows, "PARQUET_BYTES", 50_000)
    path = bomb(tmp_path / "a.parquet")
    assert path.stat().st_size < 10_000
    with pq.ParquetFile(path) as file:
        sizes = [each.nbytes for each in file_rows._batches(path, file, 0, ["text"])]
    assert max(sizes) < 50_000 < sum(sizes)
    assert sum(len(row["text"]) for _, row in file_rows.rows(path)) == 1000 * 10_000


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (pa.array(["a" * 2000]), r"rows of [\d,]+ bytes, which is too long"),
        (pa.array(["a", "a" * 1000, *"abcdefgh" * 9]), "row 2 has 1,000 characters or more"),
        (pa.array([[None] * 200], pa.list_(pa.int8())), r"rows of [\d,]+ bytes, which is too long"),
    ],
)
def test_a_row_of_a_parquet_file_that_no_memory_would_hold_is_refused(
    rows: pa.Array, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows too long on average before any is read, a single one when it is."""
    monkeypatch.setattr(file_rows, "MOST_CHARACTERS", 1000)
    pq.write_table(pa.table({"text": rows}), tmp_path / "a.parquet", compression="zstd")
    with pytest.raises(ValueError, match=said):
        list(file_rows.rows(tmp_path / "a.parquet"))


def varint(number: int, length: int) -> bytes:
    """A signed number in Thrift's compact form, filled up with empty bytes."""
    number *= 2
    parts = [(number >> 7 * place) & 127 for place in range(length)]
    return bytes([*(part | 128 for part in parts[:-1]), parts[-1]])


def test_a_parquet_file_that_says_it_is_smaller_than_it_is_is_refused(tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.parquet")
    total = pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size
    content = path.read_bytes()
    assert varint(total, 3) in content[-1000:]
    path.write_bytes(content.replace(varint(total, 3), varint(9, 3)))
    assert pq.read_metadata(path).row_group(0).column(0).total_uncompressed_size == 9
    with pytest.raises(ValueError, match="has more bytes than it says"):
        list(file_rows.rows(path))
