"""The store: whole entries or none, every kind of damage, full disks, keys that stay inside."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from objectives.store import entries, maintenance, partials
from objectives.store import store as store_module
from objectives.store.entries import MANIFEST, Signature, read_json, write_json
from objectives.store.leases import in_use
from objectives.store.remote import Mirror
from objectives.store.store import Store, StoreError, key_of


def writer(content: str = "hello", name: str = "a.txt") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_text(content)
        save_file({"x": torch.arange(100.0)}, folder / "x.safetensors")

    return write


def left_behind(store: Store) -> list[Path]:
    return list((store.root / "partial").iterdir())


def test_what_was_put_is_got_again_also_by_another_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    assert store.get("stage", "key1") is None
    entry = store.put("stage", "key1", writer())
    assert store.get("stage", "key1") == entry
    again = Store(tmp_path / "store").get("stage", "key1")
    assert again is not None
    assert (again / "a.txt").read_text() == "hello"
    assert torch.equal(load_file(again / "x.safetensors")["x"], torch.arange(100.0))
    assert store.get("stage", "key2") is None
    assert store.get("other", "key1") is None
    assert left_behind(store) == []


def test_keys_are_listed_by_stage_and_removed_one_by_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for key in ("b", "a", "c"):
        store.put("stage", key, writer(key))
    assert list(store.keys("stage")) == ["a", "b", "c"]
    assert list(store.keys("none")) == []
    store.remove("stage", "b")
    store.remove("stage", "b")
    assert list(store.keys("stage")) == ["a", "c"]
    assert store.get("stage", "b") is None


PRELUDE = """
import os, resource, signal, sys
from pathlib import Path
import numpy as np
from safetensors.numpy import save_file
from objectives.store.store import Store, StoreError
root = Path(sys.argv[1])
"""


def in_a_process(code: str, root: Path) -> subprocess.CompletedProcess[str]:
    """Code that sees the store's module, without the package and its long import."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", PRELUDE + code, str(root)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(store_module.__file__).parents[2])},
    )


def running(code: str, root: Path) -> subprocess.Popen[str]:
    """The same, at work."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PRELUDE + code, str(root)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(store_module.__file__).parents[2])},
    )  # fmt: skip


KILLED = """
def write(folder):
    (folder / "a.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
Store(root).put("stage", "key", write)
"""


def test_what_a_dead_process_left_is_no_entry(tmp_path: Path) -> None:
    done = in_a_process(KILLED, tmp_path)
    assert done.returncode == -9, done.stderr
    store = Store(tmp_path)
    assert left_behind(store) != []
    assert store.get("stage", "key") is None
    assert list(store.keys("stage")) == []
    entry = store.put("stage", "key", writer("whole"))
    assert (entry / "a.txt").read_text() == "whole"


def truncate(entry: Path) -> None:
    path = entry / "x.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(entry: Path) -> None:
    with (entry / "a.txt").open("a") as file:
        file.write("x")


def flip(entry: Path) -> None:
    path = entry / "x.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def lose_file(entry: Path) -> None:
    (entry / "a.txt").unlink()


def lose_manifest(entry: Path) -> None:
    (entry / MANIFEST).unlink()


def tear_manifest(entry: Path) -> None:
    (entry / MANIFEST).write_text((entry / MANIFEST).read_text()[:20])


def empty_manifest(entry: Path) -> None:
    (entry / MANIFEST).write_text("{}")


def odd_manifest(entry: Path) -> None:
    (entry / MANIFEST).write_text('["files"]')


def gain_a_file(entry: Path) -> None:
    (entry / "foreign").write_text("?")


def lose_everything(entry: Path) -> None:
    for path in entry.iterdir():
        path.unlink()


def list_manifest(entry: Path) -> None:
    (entry / MANIFEST).write_text('{"files": []}')


def become_a_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("?")


DAMAGE = [
    truncate, lengthen, flip, lose_file, lose_manifest, tear_manifest, empty_manifest, odd_manifest,
    list_manifest, gain_a_file, lose_everything, become_a_file,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_is_set_aside_with_a_warning_and_can_be_made_again(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    store = Store(tmp_path)
    entry = store.put("stage", "key", writer())
    whole = store.put("stage", "whole", writer())
    damage(entry)
    with pytest.warns(UserWarning, match="a stored stage stage is damaged"):
        assert store.get("stage", "key") is None
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    assert store.get("stage", "key") is None
    assert store.get("stage", "whole") == whole
    assert store.put("stage", "key", writer("new")) == entry
    assert store.get("stage", "key") == entry


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_entry_in_the_place_of_a_new_one_is_set_aside(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    store = Store(tmp_path)
    entry = store.put("stage", "key", writer())
    damage(entry)
    with pytest.warns(UserWarning, match="a stored stage stage is damaged"):
        assert store.put("stage", "key", writer("new")) == entry
    assert store.get("stage", "key") == entry
    assert (entry / "a.txt").read_text() == "new"
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    assert left_behind(store) == []


@pytest.mark.parametrize("other", ["sets it aside", "sets it aside and fixes it"])
def test_two_that_find_the_same_damage_do_no_harm(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process comes between this one's look and its move."""
    store = Store(tmp_path)
    flip(store.put("stage", "key", writer()))
    look, looks = entries.verify, 0

    def looking(*given: Any, **named: Any) -> Signature:
        nonlocal looks
        looks += 1
        try:
            return look(*given, **named)
        finally:
            if looks == 1:
                others_turn()

    def others_turn() -> None:
        with pytest.warns(UserWarning, match="damaged"):
            assert Store(tmp_path).get("stage", "key") is None
        if other == "sets it aside and fixes it":
            Store(tmp_path).put("stage", "key", writer("mended"))

    monkeypatch.setattr(entries, "verify", looking)
    found = store.get("stage", "key")
    assert len(list((tmp_path / "damaged").iterdir())) == 1
    if other == "sets it aside":
        assert found is None
    else:
        assert found is not None
        assert (found / "a.txt").read_text() == "mended"


def old_form(folder: Path, content: str = "half") -> None:
    """A half-written entry as earlier versions left it."""
    folder.mkdir()
    (folder / "a.txt").write_text(content)


def new_form(folder: Path) -> None:
    folder.mkdir()
    (folder / "lock").write_bytes(partials.MARK)
    old_form(folder / "entry")


@pytest.mark.parametrize("half_written", [old_form, new_form])
def test_what_the_dead_left_half_written_is_removed_when_nobody_can_be_writing_it(
    half_written: Callable[[Path], None], tmp_path: Path
) -> None:
    partial = Store(tmp_path).root / "partial"
    old, young, written = (letter * 32 for letter in "abc")
    for name, age in ((old, 90_000), (young, 80_000), (written, 90_000)):
        half_written(partial / name)
        inside = sorted((partial / name).rglob("*"), reverse=True)
        for path in [*inside, partial / name]:
            fresh = path.name == "a.txt" and name == written
            os.utime(path, (time.time() - (0 if fresh else age),) * 2)
    left = partial / f"probe-{'d' * 32}"
    left.write_text("")
    os.utime(left, (time.time() - 90_000,) * 2)
    Store(tmp_path)
    assert {path.name for path in partial.iterdir()} == {young, written}


WRITING = """
def write(folder):
    for path in [folder, folder.parent, folder.parent / "lock"]:
        os.utime(path, (1, 1))
    print("writes", flush=True)
    sys.stdin.readline()
    (folder / "a.txt").write_text("whole")
Store(root).put("stage", "key", write)
"""


def test_an_entry_that_is_being_written_stays_however_far_clocks_differ(tmp_path: Path) -> None:
    """To this process all that the other one writes is decades old."""
    with running(WRITING, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writes\n"
        Store(tmp_path)
        maintenance.main(["prune", str(tmp_path), "--damaged"])
        _, error = process.communicate("\n")
        assert process.returncode == 0, error
    entry = Store(tmp_path).get("stage", "key")
    assert entry is not None
    assert (entry / "a.txt").read_text() == "whole"


MANY = """
import random, warnings
warnings.simplefilter("ignore")
children = []
for number in range(6):
    child = os.fork()
    if not child:
        drawn = random.Random(number)
        for turn in range(150):
            name = f"key{drawn.randrange(6)}"
            store = Store(root)
            def write(folder):
                (folder / "a.txt").write_text(name)
                (folder / "b.txt").write_text(name * 1000)
            act = drawn.random()
            if act < 0.2:
                try:
                    os.truncate(root / "stage" / name / "b.txt", 3)
                except OSError:
                    pass
            elif act < 0.3:
                store.remove("stage", name)
            elif act < 0.4:
                store.put("own", f"{name}-{number}-{turn}", write)
            elif store.get("stage", name) is None:
                store.put("stage", name, write)
        os._exit(0)
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children])
"""


def test_many_processes_that_read_write_damage_and_drop_the_same_keys_all_go_on(
    tmp_path: Path,
) -> None:
    done = in_a_process(MANY, tmp_path)
    assert done.stdout == "[0, 0, 0, 0, 0, 0]\n", done.stderr
    store = Store(tmp_path)
    own = list(store.keys("own"))
    assert len(own) > 30
    for key in own:
        entry = store.get("own", key)
        assert entry is not None
        assert (entry / "b.txt").read_text() == key.split("-")[0] * 1000
    for key in store.keys("stage"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            entry = store.get("stage", key)
        assert entry is None or (entry / "a.txt").read_text() == key
    assert left_behind(store) == []


TWO_WRITERS = """
children = []
for number in range(2):
    child = os.fork()
    if not child:
        for number in range(30):
            write = lambda folder: (folder / "a.txt").write_text(str(number))
            Store(root).put("stage", f"key{number}", write)
        os._exit(0)
    children.append(child)
print([os.waitpid(child, 0)[1] for child in children])
"""


def test_two_processes_that_write_the_same_keys_do_no_harm(tmp_path: Path) -> None:
    done = in_a_process(TWO_WRITERS, tmp_path)
    assert done.stdout == "[0, 0]\n", done.stderr
    store = Store(tmp_path)
    for number in range(30):
        entry = store.get("stage", f"key{number}")
        assert entry is not None
        assert (entry / "a.txt").read_text() == str(number)
    assert left_behind(store) == []


def test_the_second_writer_of_a_key_gets_the_first_ones_entry(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("stage", "key", writer("first"))
    entry = store.put("stage", "key", writer("second"))
    assert (entry / "a.txt").read_text() == "first"
    assert left_behind(store) == []


def test_an_exception_while_writing_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def write(folder: Path) -> None:
        (folder / "a.txt").write_text("half")
        raise ValueError("no text")

    with pytest.raises(ValueError, match="no text"):
        store.put("stage", "key", write)
    assert store.get("stage", "key") is None
    assert left_behind(store) == []


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"^cannot write to the store [^\n]*--out\.$"):
        Store(tmp_path / "file" / "store")


def test_a_stage_whose_folder_is_a_file_is_a_store_error(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "stage").write_text("")
    with pytest.raises(StoreError, match="cannot keep a stage stage"):
        store.put("stage", "key", writer())
    assert left_behind(store) == []


FULL_DISK = """
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
big = np.zeros(1_000_000)
for write in (
    lambda folder: (folder / "a").write_bytes(bytes(1_000_000)),
    lambda folder: big.tofile(folder / "a"),
    lambda folder: save_file({"x": big}, folder / "a"),
):
    try:
        Store(root).put("stage", "key", write)
    except StoreError as error:
        print(error)
"""


def test_a_write_that_does_not_fit_is_a_store_error_whoever_writes(tmp_path: Path) -> None:
    done = in_a_process(FULL_DISK, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert line.startswith(f"cannot keep a stage stage in {tmp_path} (")
        assert "free some space" in line
        assert "None" not in line
    store = Store(tmp_path)
    assert store.get("stage", "key") is None
    assert left_behind(store) == []


@pytest.mark.parametrize(
    ("stage", "key"),
    [
        ("stage", ".."),
        ("stage", "../x"),
        ("stage", "a/b"),
        ("stage", "/etc"),
        ("stage", ""),
        ("stage", "."),
        ("stage", "a.b"),
        ("stage", "a\0"),
        ("..", "key"),
        ("a/../b", "key"),
        ("/tmp", "key"),
        ("", "key"),
        ("-", "-"),
    ],
)
def test_keys_that_lead_out_of_the_store_are_refused(stage: str, key: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    for use in (
        lambda: store.get(stage, key),
        lambda: store.put(stage, key, writer()),
        lambda: store.remove(stage, key),
    ):
        with pytest.raises(ValueError, match="stage and key are letters, digits"):
            use()


def test_keys_are_equal_exactly_when_their_parts_are() -> None:
    parts = [{"a": 1, "b": [0.1, None, "x"]}, 2]
    assert key_of(*parts) == key_of({"b": [0.1, None, "x"], "a": 1}, 2)
    others = [
        key_of({"a": 1, "b": [0.1, None, "x"]}, 3),
        key_of({"a": 1, "b": [0.1 + 1e-17 + 1e-16, None, "x"]}, 2),
        key_of(parts),
        key_of({"a": "1", "b": [0.1, None, "x"]}, 2),
        key_of(*parts, None),
    ]
    assert len({key_of(*parts), *others}) == 6


def test_json_keeps_every_bit_of_a_number(tmp_path: Path) -> None:
    data = {"x": [0.1, 1e-300, math.pi, math.inf], "y": {"z": "é"}}
    write_json(tmp_path / "a.json", data)
    assert read_json(tmp_path / "a.json") == data


def test_reading_a_whole_entry_warns_of_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put("stage", "key", writer())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert store.get("stage", "key") is not None


def swap(folder: Path, one: str, other: str) -> None:
    """Put each of two entries in the other's place."""
    (folder / one).rename(folder / "between")
    (folder / other).rename(folder / one)
    (folder / "between").rename(folder / other)


def test_an_entry_in_the_place_of_another_is_damaged(tmp_path: Path) -> None:
    """Sizes and checksums are right: only the key is not the one it was computed for."""
    share = tmp_path / "share"
    for root, mirror in ((tmp_path / "here", None), (tmp_path / "there", Mirror(str(share)))):
        store = Store(root, mirror=mirror)
        for key in ("k1", "k2"):
            store.put("tune", key, lambda folder, key=key: (folder / "a").write_text(key))
        store.close()
    swap(tmp_path / "here" / "tune", "k1", "k2")
    swap(share / "tune", "k1", "k2")
    assert [each.whole for each in maintenance.scan(tmp_path / "here")] == [False, False]
    for mirror in (None, Mirror(str(share))):
        store = Store(tmp_path / "here", mirror=mirror)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert store.get("tune", "k1") is None
            assert store.get("tune", "k2") is None
        store.close()


def test_an_entry_of_an_earlier_version_names_no_key_and_counts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = store.put("tune", "k1", lambda folder: entries.write_json(folder / "a", 1))
    manifest = entries.read_json(entry / MANIFEST)
    assert manifest.pop("entry") == "tune/k1"
    (entry / MANIFEST).write_text(json.dumps(manifest))
    assert store.get("tune", "k1") == entry


def test_a_process_that_ends_with_an_open_store_says_nothing(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom objectives.store import leases\n"
        "sys.kept = leases.Lease(Path(sys.argv[1]))\nsys.kept.use('tune/k1')\n"
        "leases.os = None"  # as Python leaves modules at its end
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert in_use(tmp_path) == set()
