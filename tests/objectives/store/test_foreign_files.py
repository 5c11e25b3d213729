"""A store whose folder holds what is not its own: none of it is removed, moved or followed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from objectives.store import entries, maintenance, partials
from objectives.store.entries import MANIFEST
from objectives.store.store import Store, StoreError

HEX = "0123456789abcdef" * 2


def write(folder: Path, content: str = "whole") -> None:
    (folder / "a.txt").write_text(content)


def fill(path: Path) -> None:
    """A folder of somebody else."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "photo.jpg").write_bytes(b"photo")
    (path / "more").mkdir()
    (path / "more" / "letter.txt").write_text("letter")
    os.utime(path, (1, 1))


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """All that is below a folder: kind, inode and content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(about.st_mode) else b""
        found[str(path.relative_to(folder))] = (about.st_mode, about.st_ino, content)
    return found


def folder_of_another_program(root: Path, home: Path) -> list[str]:
    fill(root / "modules" / "cart")
    return ["modules"]


def folder_among_entries(root: Path, home: Path) -> list[str]:
    fill(root / "tune" / "cart")
    return ["tune/cart"]


def folder_with_another_manifest(root: Path, home: Path) -> list[str]:
    fill(root / "tune" / "cart")
    (root / "tune" / "cart" / MANIFEST).write_text('{"name": "app", "icons": [], "files": {}}')
    return ["tune/cart"]


def folder_moved_to_partial(root: Path, home: Path) -> list[str]:
    fill(root / "partial" / "photos")
    fill(root / "partial" / HEX)
    return [f"partial/{HEX}", "partial/photos"]


def folder_moved_to_damaged(root: Path, home: Path) -> list[str]:
    fill(root / "damaged" / "photos")
    fill(root / "damaged" / f"tune-{HEX}-01234567")
    return ["damaged/photos", f"damaged/tune-{HEX}-01234567"]


def files_among_leases(root: Path, home: Path) -> list[str]:
    (root / "leases" / "notes.txt").write_text("notes")
    (root / "leases" / HEX).write_text("a letter,\nnot a lease")
    return [f"leases/{HEX}", "leases/notes.txt"]


def files_beside(root: Path, home: Path) -> list[str]:
    (root / "letter.txt").write_text("letter")
    (root / "tune" / "letter.txt").write_text("letter")
    return ["letter.txt", "tune/letter.txt"]


def folder_inside_an_entry(root: Path, home: Path) -> list[str]:
    fill(root / "tune" / "mine" / "photos")
    return ["tune/mine"]


def file_inside_an_entry(root: Path, home: Path) -> list[str]:
    (root / "tune" / "mine" / "letter.txt").write_text("letter")
    return ["tune/mine"]


def link_in_place_of_a_stage(root: Path, home: Path) -> list[str]:
    (root / "x").symlink_to(home)
    return ["x"]


def link_among_entries(root: Path, home: Path) -> list[str]:
    (root / "tune" / "x").symlink_to(home / "Documents")
    return ["tune/x"]


def links_in_partial_damaged_and_leases(root: Path, home: Path) -> list[str]:
    (root / "damaged").mkdir(exist_ok=True)
    for name in ("partial", "damaged", "leases"):
        (root / name / HEX).symlink_to(home / "Documents")
    (root / "partial" / f"probe-{HEX}").symlink_to(home / "Documents" / "a.txt")
    return [f"damaged/{HEX}", f"leases/{HEX}", f"partial/{HEX}", f"partial/probe-{HEX}"]


def damaged_is_a_link(root: Path, home: Path) -> list[str]:
    (root / "damaged").symlink_to(home)
    return ["damaged"]


def fifo_among_entries(root: Path, home: Path) -> list[str]:
    os.mkfifo(root / "tune" / "pipe")
    os.mkfifo(root / "leases" / HEX)
    return [f"leases/{HEX}", "tune/pipe"]


FOREIGN = [
    folder_of_another_program, folder_among_entries, folder_with_another_manifest,
    folder_moved_to_partial, folder_moved_to_damaged, files_among_leases, files_beside,
    folder_inside_an_entry, file_inside_an_entry, link_in_place_of_a_stage, link_among_entries,
    links_in_partial_damaged_and_leases, damaged_is_a_link, fifo_among_entries,
]  # fmt: skip


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of the user, to which links lead."""
    fill(tmp_path / "home" / "Documents")
    (tmp_path / "home" / "Documents" / "a.txt").write_text("a")
    (tmp_path / "home" / "Documents" / MANIFEST).write_text("{}")
    return tmp_path / "home"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with two entries that nobody uses."""
    store = Store(tmp_path / "store")
    for key in ("mine", "other"):
        store.put("tune", key, write)
    store.close()
    return store.root


@pytest.mark.parametrize("put", FOREIGN)
def test_what_is_foreign_is_named_and_survives_whatever_removes_entries(
    put: Callable[[Path, Path], list[str]], root: Path, home: Path
) -> None:
    names = put(root, home)
    assert [each.key for each in maintenance.foreign(root)] == names
    own = {f"{each.stage}/{each.key}" for each in maintenance.scan(root)}
    before, at_home = snapshot(root), snapshot(home)
    for words in ("--budget-gb=0", "--older-than-s=0", "--damaged", "--stage=tune", "--stage=x",
                  "--stage=modules", "--stage=damaged"):  # fmt: skip
        maintenance.main(["prune", str(root), words])
    store = Store(root, budget=0.0)
    store.put("tune", "new", write)
    store.close()
    after = snapshot(root)
    assert snapshot(home) == at_home
    kept = {
        path: what
        for path, what in before.items()
        if not any(path == name or path.startswith(f"{name}/") for name in own)
        and path not in ("partial", "damaged", "leases", "leases/lock")
    }
    assert kept.items() <= after.items()
    assert not any((root / name).exists() for name in own)


@pytest.mark.parametrize("put", FOREIGN)
def test_a_store_with_foreign_things_works(
    put: Callable[[Path, Path], list[str]], root: Path, home: Path
) -> None:
    put(root, home)
    at_home = snapshot(home)
    store = Store(root)
    assert store.get("tune", "other") is not None
    store.put("tune", "new", write)
    assert "new" in set(store.keys("tune"))
    store.remove("tune", "new")
    store.supersede("tune", "other")
    assert not {"new", "other"} & set(store.keys("tune"))
    assert snapshot(home) == at_home


@pytest.mark.parametrize("name", ["partial", "leases", "tune"])
def test_a_link_in_place_of_a_folder_of_the_store_is_refused_in_a_sentence(
    name: str, root: Path, home: Path
) -> None:
    (root / name).rename(root.parent / "moved")
    (root / name).symlink_to(home)
    before = snapshot(home)
    with pytest.raises(StoreError, match="symbolic link") as caught:
        Store(root).put("tune", "new", write)
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="symbolic link"):
        Store(root).get("tune", "mine")
    assert snapshot(home) == before


def test_the_stores_own_folder_may_be_a_link(root: Path) -> None:
    (root.parent / "link").symlink_to(root)
    store = Store(root.parent / "link")
    assert store.get("tune", "mine") is not None
    store.put("tune", "new", write)
    assert (root / "tune" / "new" / "a.txt").read_text() == "whole"
    store.close()
    assert len(maintenance.shrink(root.parent / "link", 0.0)) == 3


def test_a_lock_that_is_a_link_is_not_followed(root: Path, home: Path) -> None:
    (root / "leases" / "lock").unlink()
    (root / "leases" / "lock").symlink_to(home / "new")
    with pytest.raises(StoreError, match="cannot write to the store"):
        Store(root)
    assert not (home / "new").exists()


def test_what_is_in_the_place_of_an_entry_is_set_aside_and_its_target_stays(
    root: Path, home: Path
) -> None:
    before = snapshot(home)
    store = Store(root)
    (root / "tune" / HEX).symlink_to(home / "Documents")
    fill(root / "tune" / HEX[::-1])
    for key in (HEX, HEX[::-1]):
        with pytest.warns(UserWarning, match="a stored tune stage is damaged"):
            assert store.get("tune", key) is None
        store.put("tune", key, write)
        assert store.get("tune", key) is not None
    store.close()
    aside = snapshot(root / "damaged")
    maintenance.main(["prune", str(root), "--damaged"])
    maintenance.shrink(root, 0.0)
    assert snapshot(root / "damaged") == aside
    assert snapshot(home) == before


def test_entries_of_earlier_versions_count(root: Path) -> None:
    manifest = root / "tune" / "mine" / MANIFEST
    old = manifest.read_text().replace(f'"format": "{entries.FORMAT}", ', "")
    assert entries.FORMAT not in old
    manifest.write_text(old)
    assert Store(root).get("tune", "mine") is not None
    assert len(maintenance.scan(root)) == 2


def test_what_was_set_aside_can_be_pruned_and_its_size_is_reported(root: Path) -> None:
    (root / "tune" / "mine" / "a.txt").write_text("changed by somebody")
    with pytest.warns(UserWarning, match="damaged"):
        Store(root).get("tune", "mine")
    (aside,) = [each for each in maintenance.scan(root) if each.stage == "damaged"]
    assert aside.bytes > len("changed by somebody")
    assert maintenance.foreign(root) == []
    maintenance.main(["prune", str(root), "--damaged"])
    assert list((root / "damaged").iterdir()) == []


@pytest.mark.parametrize("mask", [0o077, 0o027, 0o022])
def test_all_files_and_folders_have_the_mode_that_umask_says(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        store = Store(tmp_path / "store")
        store.put("tune", "mine", write)
        (store.root / "tune" / "mine" / "a.txt").write_text("changed")
        with pytest.warns(UserWarning, match="damaged"):
            store.get("tune", "mine")
    finally:
        os.umask(before)
    for path in [store.root, *store.root.rglob("*")]:
        usual = 0o777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.lstat().st_mode) == usual & ~mask, path


def test_a_folder_that_this_program_is_writing_is_not_foreign(root: Path) -> None:
    store = Store(root)

    def look(folder: Path) -> None:
        write(folder)
        os.utime(folder, (1, 1))
        assert maintenance.foreign(root) == []
        assert partials.dead(root, 0.0) == []

    store.put("tune", "new", look)
    left = root / "partial" / HEX
    left.mkdir()
    (left / "lock").write_bytes(partials.MARK)
    (left / "entry").mkdir()
    write(left / "entry")
    assert [path.name for path in partials.dead(root, -1.0)] == [HEX]
    assert partials.dead(root, 3600.0) == []
    assert time.time() - partials.touched_at(left) < 3600


def test_files_that_are_as_they_were_are_not_read_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    plain = entries.checksum
    monkeypatch.setattr(entries, "checksum", lambda path: hashed.append(path.name) or plain(path))
    for path in (root / "tune" / "mine").iterdir():
        os.utime(path, (1, 1))
    store = Store(root)
    clock = time.time()
    monkeypatch.setattr(time, "time", lambda: clock + 60.0)  # all was written a minute ago
    for _ in range(3):
        assert store.get("tune", "mine") is not None
    assert hashed == ["a.txt"]
    path = root / "tune" / "mine" / "a.txt"
    path.write_text("WHOLE")
    with pytest.warns(UserWarning, match="wrong checksum"):
        assert store.get("tune", "mine") is None


def test_files_that_were_just_changed_are_read_again_as_clocks_have_ticks(root: Path) -> None:
    store = Store(root)
    assert store.get("tune", "mine") is not None
    path = root / "tune" / "mine" / "a.txt"
    about = path.stat()
    path.write_text("WHOLE")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    with pytest.warns(UserWarning, match="wrong checksum"):
        assert store.get("tune", "mine") is None


def test_a_store_that_was_removed_while_it_was_used_is_reported_as_such(root: Path) -> None:
    store = Store(root)
    root.rename(root.parent / "elsewhere")
    with pytest.raises(StoreError, match=r"was removed or moved while it was in use; run the same"):
        store.put("tune", "new", write)
    store.close()
    again = Store(root)
    again.put("tune", "new", write)
    assert again.get("tune", "new") is not None
