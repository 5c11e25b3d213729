"""A shared store that anybody may write to: nothing hangs, grows or leads elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from objectives.store import entries, remote
from objectives.store.entries import MANIFEST, DamagedError
from objectives.store.remote import Mirror
from objectives.store.sharing import StoreError
from objectives.store.store import Store

KEY = "0" * 8


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PAUSES_S", (0.0,))


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """A share with one good entry, made by another machine."""
    Store(tmp_path / "first", mirror=Mirror(str(tmp_path / "share"))).put("tune", KEY, write)
    return tmp_path / "share"


def write(folder: Path, content: str = "whole") -> None:
    (folder / "a.bin").write_text(content)


def entry(share: Path) -> Path:
    return share / "tune" / KEY


def data(share: Path) -> Path:
    (found,) = entry(share).glob("*/a.bin")
    return found


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "letter").write_text("letter")


def link(path: Path) -> None:
    (share,) = (each for each in path.parents if each.name == "share")
    path.rename(share.parent / "moved")
    path.symlink_to(share.parent / "moved")


def huge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(3 * 10**12)


def nested(path: Path) -> None:
    path.write_text("[" * 100_000 + "]" * 100_000)


def link_in_place_of(name: str) -> Callable[[Path], None]:
    def damage(share: Path) -> None:
        place = {"stage": share / "tune", "key": entry(share), "folder": data(share).parent}[name]
        place.rename(share.parent / "moved")
        place.symlink_to(share.parent / "moved")

    return damage


def file_in_place_of(name: str) -> Callable[[Path], None]:
    def damage(share: Path) -> None:
        place = {"stage": share / "tune", "key": entry(share), "folder": data(share).parent}[name]
        shutil.rmtree(place)
        place.write_text("a file")

    return damage


DAMAGE: dict[str, Callable[[Path], None]] = {
    **{
        f"{change.__name__} in place of the manifest": lambda share, change=change: change(
            entry(share) / MANIFEST
        )
        for change in (fifo, folder, link, huge, nested)
    },
    **{
        f"{change.__name__} in place of a file": lambda share, change=change: change(data(share))
        for change in (fifo, folder, link, huge)
    },
    **{
        f"link in place of the {name}": link_in_place_of(name)
        for name in ("stage", "key", "folder")
    },
    **{
        f"file in place of the {name}": file_in_place_of(name)
        for name in ("stage", "key", "folder")
    },
}


@pytest.mark.parametrize("kind", list(DAMAGE))
def test_whatever_is_in_the_share_the_stage_is_computed_again(
    kind: str, share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DAMAGE[kind](share)
    copied: list[str] = []
    plain = LocalFileSystem.cp_file
    monkeypatch.setattr(
        LocalFileSystem,
        "cp_file",
        lambda self, source, target, **named: (
            copied.append(source),
            plain(self, source, target, **named),
        ),
    )
    store = Store(tmp_path / "here", mirror=Mirror(str(share)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert store.get("tune", KEY) is None
        assert copied == []
        found = store.put("tune", KEY, lambda folder: write(folder, "again"))
        assert (found / "a.bin").read_text() == "again"
        assert list(store.keys("tune")) == [KEY]
    if (share.parent / "moved").is_file():
        assert (share.parent / "moved").read_text() != "again"
    assert list((tmp_path / "here" / "partial").iterdir()) == []


def read(folder: Path) -> str:
    content = (folder / "a.bin").read_text()
    if content != "again":
        raise DamagedError("it is of no use")
    return content


@pytest.mark.parametrize("writable", [True, False])
def test_content_of_no_use_with_checksums_that_fit_is_computed_again_and_replaced(
    writable: bool, share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "here", mirror=Mirror(str(share)))
    if not writable:

        def refuse(*given: Any, **named: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(LocalFileSystem, "rm_file", refuse)
    with pytest.warns(UserWarning, match="damaged"):
        assert store.read("tune", KEY, read) is None
    assert store.read("tune", KEY, read) is None  # and no warning
    found = store.cached("tune", KEY, lambda folder: write(folder, "again"), read)
    assert found == "again"
    other = Store(tmp_path / "other", mirror=Mirror(str(share)))
    if writable:
        assert other.read("tune", KEY, read) == "again"


def test_an_entry_damaged_here_is_fetched_where_the_share_has_a_good_one(tmp_path: Path) -> None:
    share = str(tmp_path / "share")
    Store(tmp_path / "first", mirror=Mirror(share)).put(
        "tune", KEY, lambda folder: write(folder, "again")
    )
    alone = Store(tmp_path / "here")
    alone.put("tune", KEY, lambda folder: write(folder, "bad"))
    store = Store(tmp_path / "here", mirror=Mirror(share))
    with pytest.warns(UserWarning, match="it is of no use"):
        assert store.read("tune", KEY, read) == "again"


def test_names_in_the_share_reach_no_path_and_no_terminal(share: Path, tmp_path: Path) -> None:
    escape = "\x1b]0;owned\x07"
    shutil.copytree(entry(share), share / "tune" / escape)
    (share / "tune" / ("9" * 5000)[:200]).mkdir()
    (share / "tune" / "\u00b2-x").mkdir()
    store = Store(tmp_path / "here", mirror=Mirror(str(share)))
    assert list(store.keys("tune")) == [KEY]
    for name in (escape, "../../x", "/etc/x", MANIFEST, "a/b", ""):
        manifest = json.loads((entry(share) / MANIFEST).read_text())
        manifest["files"] = {name: manifest["files"].popitem()[1]}
        (entry(share) / MANIFEST).write_text(json.dumps(manifest))
        assert Mirror(str(share)).manifest("tune", KEY) is None
    assert not (tmp_path / "x").exists()


def test_a_file_whose_server_tells_no_size_is_not_copied_beyond_its_own(tmp_path: Path) -> None:
    at_most = remote._AtMost(100)
    at_most.relative_update(60)
    at_most.relative_update(40)
    with pytest.raises(DamagedError, match="larger than its manifest says"):
        at_most.relative_update(1)


def test_a_manifest_of_the_share_has_the_form_of_one_here(share: Path) -> None:
    found = Mirror(str(share)).manifest("tune", KEY)
    assert found is not None
    assert entries.parse(json.dumps(found.to_json()).encode()) == found
    assert set(found.sizes) == {"a.bin"}


def test_an_entry_that_does_not_fit_is_not_copied(
    share: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparse file takes no room there, and all of the disk here."""
    manifest = json.loads((entry(share) / MANIFEST).read_text())
    manifest["files"]["a.bin"]["bytes"] = 10**15
    (entry(share) / MANIFEST).write_text(json.dumps(manifest))
    monkeypatch.setattr(LocalFileSystem, "cp_file", None)
    store = Store(tmp_path / "here", mirror=Mirror(str(share)))
    with pytest.raises(StoreError, match=r"1,000,000,000,000,000 bytes of one .* do not fit"):
        store.get("tune", KEY)


def test_the_store_itself_and_nothing_are_no_shared_store(share: Path, tmp_path: Path) -> None:
    (tmp_path / "also").symlink_to(share)
    with pytest.raises(StoreError, match=r"is the store .* itself; give another folder"):
        Store(tmp_path / "also", mirror=Mirror(str(share)))
    with pytest.raises(ValueError, match="has no name; give a folder"):
        Mirror(" ")
