"""A store that machines share: what one has finished the others find, whatever the network does."""

from __future__ import annotations

import json
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from objectives.store import remote
from objectives.store.remote import Mirror
from objectives.store.store import Store, StoreError

KEY = "0" * 8


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSES_S", (0.0, 0.0, 0.0))


@pytest.fixture
def bucket() -> Iterator[str]:
    """An object store in this process."""
    yield "memory://bucket/stages"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


@pytest.fixture(params=["memory", "file", "folder"])
def url(request: pytest.FixtureRequest, bucket: str, tmp_path: Path) -> str:
    folder = tmp_path / "net" / "stages"
    return {"memory": bucket, "file": f"file://{folder}", "folder": str(folder)}[request.param]


def machine(folder: Path, url: str, **given: Any) -> Store:
    return Store(folder, mirror=Mirror(url), **given)


def write(folder: Path) -> None:
    (folder / "a.bin").write_bytes(bytes(range(256)) * 10)
    (folder / "info.json").write_text("{}")


def objects(url: str) -> list[str]:
    files, root = fsspec.core.url_to_fs(url)
    return sorted(path.removeprefix(str(root)) for path in files.find(root))


def test_what_one_machine_has_made_another_one_finds(url: str, tmp_path: Path) -> None:
    one, other = machine(tmp_path / "one", url), machine(tmp_path / "other", url)
    assert other.get("tune", KEY) is None
    assert list(other.keys("tune")) == []
    made = one.put("tune", KEY, write, seconds=7.5)
    assert list(other.keys("tune")) == [KEY]
    found = other.get("tune", KEY)
    assert found is not None
    assert found.is_relative_to(tmp_path / "other")
    for name in ("a.bin", "info.json"):
        assert (found / name).read_bytes() == (made / name).read_bytes()
    assert json.loads((found / "manifest.json").read_text()) == json.loads(
        (made / "manifest.json").read_text()
    )


def test_what_was_fetched_is_kept_here(bucket: str, tmp_path: Path) -> None:
    machine(tmp_path / "one", bucket).put("tune", KEY, write)
    other = machine(tmp_path / "other", bucket)
    other.get("tune", KEY)
    MemoryFileSystem.store.clear()
    assert other.get("tune", KEY) is not None
    assert list(other.keys("tune")) == [KEY]


def test_an_entry_is_sent_once_and_states_on_the_way_are_not(bucket: str, tmp_path: Path) -> None:
    one, other = machine(tmp_path / "one", bucket), machine(tmp_path / "other", bucket)
    one.put("tune", KEY, write)
    first = objects(bucket)
    assert len(first) == 3
    other.put("tune", KEY, write)
    one.put("checkpoint", KEY, write)
    assert objects(bucket) == first
    assert list(other.keys("checkpoint")) == []
    assert other.get("checkpoint", KEY) is None


def test_an_entry_without_a_manifest_does_not_exist(bucket: str, tmp_path: Path) -> None:
    one, other = machine(tmp_path / "one", bucket), machine(tmp_path / "other", bucket)
    one.put("tune", KEY, write)
    memory = MemoryFileSystem()
    memory.rm_file(f"/bucket/stages/tune/{KEY}/manifest.json")
    assert other.get("tune", KEY) is None
    assert list(other.keys("tune")) == [KEY]
    other.put("tune", KEY, write)
    assert machine(tmp_path / "third", bucket).get("tune", KEY) is not None


def test_two_writers_of_one_key_leave_one_that_is_whole(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = threading.Barrier(2, timeout=10)
    plain = Mirror.manifest

    def look_together(self: Mirror, stage: str, key: str) -> dict[str, Any] | None:
        found = plain(self, stage, key)
        both.wait()
        return found

    monkeypatch.setattr(Mirror, "manifest", look_together)
    stores = [machine(tmp_path / name, bucket) for name in ("one", "other")]
    writers = [
        threading.Thread(
            target=store.put,
            args=("tune", KEY, lambda folder, n=n: (folder / "a").write_text("x" * n)),
        )
        for n, store in enumerate(stores, 1)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    monkeypatch.undo()
    assert len(objects(bucket)) == 3
    found = machine(tmp_path / "third", bucket).get("tune", KEY)
    assert found is not None
    assert (found / "a").read_text() in ("x", "xx")


def damage_file(memory: MemoryFileSystem, entry: str) -> None:
    (path,) = memory.glob(f"{entry}/*/a.bin")
    memory.pipe_file(path, b"\1" + memory.cat_file(path)[1:])


def lose_file(memory: MemoryFileSystem, entry: str) -> None:
    (path,) = memory.glob(f"{entry}/*/a.bin")
    memory.rm_file(path)


@pytest.mark.parametrize("damage", [damage_file, lose_file])
def test_a_damaged_shared_entry_is_reported_computed_again_and_sent_again(
    damage: Callable[[MemoryFileSystem, str], None], bucket: str, tmp_path: Path
) -> None:
    one, other = machine(tmp_path / "one", bucket), machine(tmp_path / "other", bucket)
    one.put("tune", KEY, write)
    damage(MemoryFileSystem(), f"/bucket/stages/tune/{KEY}")
    with pytest.warns(UserWarning, match=r"a tune stage on the shared store memory:.* is damaged"):
        assert other.get("tune", KEY) is None
    assert list((tmp_path / "other" / "partial").iterdir()) == []
    other.put("tune", KEY, write)
    assert machine(tmp_path / "third", bucket).get("tune", KEY) is not None


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b'{"files": {}}',
        b'{"files": {}, "folder": "x", "seconds": 1}',
        b'{"files": {"../../a": {"bytes": 1, "sha256": "0"}}, "folder": "x", "seconds": 1}',
        b'{"files": {"a": {"bytes": 1, "sha256": "0"}}, "folder": "../x", "seconds": 1}',
        b'{"files": {"a": {"bytes": 1, "sha256": "0"}}, "folder": "..", "seconds": 1}',
        b'{"files": {"..": {"bytes": 1, "sha256": "0"}}, "folder": "x", "seconds": 1}',
        b'{"files": {"a": {"bytes": 1, "sha256": "0"}}, "folder": ["x"], "seconds": 1}',
        b'{"files": {"manifest.json": {"bytes": 1, "sha256": "0"}}, "folder": "x", "seconds": 1}',
        b'{"files": {"a": {"bytes": 1, "sha256": "0"}}, "folder": "x", "seconds": "?"}',
    ],
)
def test_a_manifest_that_makes_no_sense_is_none(
    manifest: bytes, bucket: str, tmp_path: Path
) -> None:
    MemoryFileSystem().pipe_file(f"/bucket/stages/tune/{KEY}/manifest.json", manifest)
    store = machine(tmp_path / "one", bucket)
    assert store.get("tune", KEY) is None
    store.put("tune", KEY, write)
    assert machine(tmp_path / "other", bucket).get("tune", KEY) is not None


class Fault(Exception):
    """What only this file system raises; its text holds a secret."""


def failing(
    monkeypatch: pytest.MonkeyPatch, method: str, times: int, error: Exception | None = None
) -> list[str]:
    """The file system's method fails so many times; the calls are noted."""
    plain: Callable[..., Any] = getattr(MemoryFileSystem, method)
    calls: list[str] = []

    def fails(self: MemoryFileSystem, *given: Any, **named: Any) -> Any:
        calls.append(method)
        if len(calls) <= times:
            raise error or Fault("https://host/x?signature=secret")
        return plain(self, *given, **named)

    monkeypatch.setattr(MemoryFileSystem, method, fails)
    return calls


def read_all(store: Store) -> list[Path | None]:
    """Every shared entry."""
    return [store.get("tune", key) for key in store.keys("tune")]


@pytest.mark.parametrize("method", ["cat_file", "get_file", "ls"])
def test_a_short_fault_while_reading_is_not_noticed(
    method: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(tmp_path / "one", bucket).put("tune", KEY, write)
    calls = failing(monkeypatch, method, 3)
    assert None not in read_all(machine(tmp_path / "other", bucket))
    assert len(calls) > 3


@pytest.mark.parametrize("method", ["cat_file", "get_file", "ls"])
def test_a_long_fault_while_reading_is_one_sentence_without_secrets(
    method: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(tmp_path / "one", bucket).put("tune", KEY, write)
    failing(monkeypatch, method, 99)
    other = machine(tmp_path / "other", bucket)
    with pytest.raises(StoreError) as caught:
        read_all(other)
    said = str(caught.value)
    assert said.startswith("the shared store memory://bucket/stages cannot be ")
    assert "(Fault): is it reachable" in said
    assert f"kept in {tmp_path / 'other'}; run the same command to go on" in said
    assert "secret" not in said
    assert caught.value.__cause__ is None
    assert list((tmp_path / "other" / "partial").iterdir()) == []


@pytest.mark.parametrize("method", ["makedirs", "put_file", "pipe_file"])
def test_a_fault_while_sending_is_reported_and_stops_no_work(
    method: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = machine(tmp_path / "one", bucket)
    with monkeypatch.context() as patch:
        failing(patch, method, 99)
        with pytest.warns(UserWarning, match=r"a tune stage was not shared: .*\(Fault\); it is"):
            entry = store.put("tune", KEY, write)
    assert store.get("tune", KEY) == entry
    assert machine(tmp_path / "other", bucket).get("tune", KEY) is None
    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")
        failing(patch, method, 3)
        store.put("tune", KEY, write)
    assert machine(tmp_path / "other", bucket).get("tune", KEY) is not None


def test_a_full_disk_while_fetching_is_reported_as_such_and_not_tried_again(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(tmp_path / "one", bucket).put("tune", KEY, write)
    calls = failing(monkeypatch, "get_file", 99, OSError(28, "No space left on device"))
    with pytest.raises(StoreError, match=r"No space left on device\); free some space"):
        machine(tmp_path / "other", bucket).get("tune", KEY)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "url", ["abacus://x", "s3a+nothing://x", "abacus://user:secret@x/y?k=secret"]
)
def test_an_unknown_kind_of_store_is_a_value_error_in_one_sentence(url: str) -> None:
    with pytest.raises(ValueError, match=r"^the shared store .* cannot be used \(") as caught:
        Mirror(url)
    assert "secret" not in str(caught.value)
    assert "s3://bucket/stages" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://bucket/x", "s3://bucket/x"),
        ("ftp://user:pass/word@host/x", "ftp://***@host/x"),
        ("https://host/x?signature=secret", "https://host/x"),
        ("https://host/x#secret", "https://host/x"),
        ("/net/a#b", "/net/a#b"),
        ("/net/folder", "/net/folder"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert remote._masked(url) == shown


def test_a_budget_holds_for_what_is_fetched_and_the_mirror_keeps_its_own(
    bucket: str, tmp_path: Path
) -> None:
    one = machine(tmp_path / "one", bucket)
    for key in ("a", "b"):
        one.put("tune", key, write, seconds=1.0)
    other = machine(tmp_path / "other", bucket, budget=0.0)
    for key in ("a", "b"):
        assert other.get("tune", key) is not None
    other.close()
    assert not any((tmp_path / "other" / "tune").iterdir())
    again = machine(tmp_path / "other", bucket, budget=0.0)
    assert again.get("tune", "a") is not None
