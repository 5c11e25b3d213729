"""What goes first when a store is too large, what stays whatever happens, and who is alive."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from objectives.store import leases, maintenance
from objectives.store.maintenance import Entry
from objectives.store.store import Store

KB = 1000


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Made by a process that is done."""
    made = Store(tmp_path)
    made.lease.close()
    return made


def put(
    store: Store, key: str, seconds: float, stage: str = "tune", size: int = KB, age: float = 0.0
) -> Path:
    """An entry of about this size, last used so long ago."""
    entry = store.put(
        stage, key, lambda folder: write(folder / "a.bin", bytes(size)), seconds=seconds
    )
    for path in [*entry.iterdir(), entry]:
        then = path.stat().st_mtime - age
        os.utime(path, (then, then))
    return entry


def write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def names(entries: list[Entry]) -> list[str]:
    return [entry.name for entry in entries]


def there(store: Store) -> list[str]:
    return sorted(names(maintenance.scan(store.root)))


def test_an_entry_tells_its_size_its_seconds_and_when_it_was_used(store: Store) -> None:
    path = put(store, "a", 2.5, size=5 * KB, age=100.0)
    (entry,) = maintenance.scan(store.root)
    assert (entry.stage, entry.key, entry.path, entry.seconds) == ("tune", "a", path, 2.5)
    assert entry.bytes == sum(file.stat().st_size for file in path.iterdir())
    assert entry.whole
    before = entry.used_at
    assert store.get("tune", "a") == path
    (entry,) = maintenance.scan(store.root)
    assert entry.used_at > before + 99


def test_what_no_one_says_the_cost_of_costs_what_writing_it_took(store: Store) -> None:
    store.put("tokens", "a", lambda folder: write(folder / "a", b"x"))
    (entry,) = maintenance.scan(store.root)
    assert 0 < entry.seconds < 60


def test_the_cheapest_a_byte_go_first_then_the_longest_unused(store: Store) -> None:
    put(store, "dear", 100.0)
    put(store, "dearbutlarge", 100.0, size=1000 * KB)
    put(store, "cheap", 1.0)
    put(store, "old", 10.0, age=50.0)
    put(store, "new", 10.0)
    order = [entry.key for entry in maintenance.eviction_order(maintenance.scan(store.root))]
    assert order == ["dearbutlarge", "cheap", "old", "new", "dear"]


def test_memory_goes_before_its_weights_and_first_where_they_are_gone(store: Store) -> None:
    put(store, "5-a", 9.0, "pretrain")
    put(store, "5-a", 9.0, "moments", size=2 * KB)
    put(store, "6-b", 1e6, "moments")
    put(store, "c", 0.001)
    order = names(maintenance.eviction_order(maintenance.scan(store.root)))
    assert order == ["moments/6-b", "tune/c", "moments/5-a", "pretrain/5-a"]


def test_what_is_damaged_goes_before_all_else(store: Store) -> None:
    broken = put(store, "broken", 1e6)
    put(store, "cheap", 0.001)
    (broken / "a.bin").write_bytes(b"short")
    with pytest.warns(UserWarning, match="damaged"):
        store.get("tune", "broken")
    shorter = put(store, "shorter", 1e6)
    (shorter / "a.bin").write_bytes(b"short")
    *first, last = maintenance.eviction_order(maintenance.scan(store.root))
    assert last.key == "cheap"
    assert sorted(entry.stage for entry in first) == ["damaged", "tune"]


@pytest.mark.parametrize(
    ("budget", "left"),
    [(1e9, ["a", "b", "c"]), (3.7 * KB, ["a", "b", "c"]), (2.5 * KB, ["b", "c"]),
     (1.5 * KB, ["c"]), (0, [])],
)  # fmt: skip
def test_a_store_shrinks_to_its_budget_and_no_further(
    budget: float, left: list[str], store: Store
) -> None:
    for key, seconds in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
        put(store, key, seconds)
    would = maintenance.shrink(store.root, budget, dry_run=True)
    assert there(store) == ["tune/a", "tune/b", "tune/c"]
    assert names(maintenance.shrink(store.root, budget)) == names(would)
    assert there(store) == [f"tune/{key}" for key in left]
    assert list((store.root / "partial").iterdir()) == []


def test_what_a_store_has_touched_stays_until_it_is_closed(tmp_path: Path) -> None:
    one, other = Store(tmp_path), Store(tmp_path, budget=0.0)
    put(one, "made", 1.0)
    made = one.get("tune", "made")
    put(other, "others", 1.0)
    assert there(one) == ["tune/made", "tune/others"]
    one.close()
    put(other, "more", 1.0)
    assert there(one) == ["tune/more", "tune/others"]
    assert made is not None
    assert not made.exists()
    other.close(keep=[("tune", "more")])
    assert there(one) == ["tune/more"]


def test_a_stage_that_is_asked_for_before_it_is_there_is_held(tmp_path: Path) -> None:
    waiting, writing = Store(tmp_path), Store(tmp_path, budget=0.0)
    assert waiting.get("tune", "a") is None
    put(writing, "a", 1.0)
    writing.close()
    assert waiting.get("tune", "a") is not None


def test_a_superseded_entry_goes_unless_another_process_uses_it(tmp_path: Path) -> None:
    one, other = Store(tmp_path), Store(tmp_path)
    put(one, "mine", 1.0)
    put(one, "ours", 1.0)
    other.get("tune", "ours")
    for key in ("mine", "ours", "none"):
        one.supersede("tune", key)
    assert there(one) == ["tune/ours"]
    other.close()
    one.supersede("tune", "ours")
    assert there(one) == []


ROOT = Path(maintenance.__file__).parents[2]
HOLDER = """
import sys
from pathlib import Path
from objectives.store.maintenance import Lease
lease = Lease(Path(sys.argv[1]))
lease.use("tune/a")
print("holds", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None])
def test_a_process_holds_what_it_uses_for_as_long_as_it_lives(
    end: signal.Signals | None, store: Store
) -> None:
    put(store, "a", 1.0)
    put(store, "b", 1.0)
    command = [sys.executable, "-c", HOLDER, str(store.root)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"holds\n"
        maintenance.shrink(store.root, 0.0)
        assert there(store) == ["tune/a"]
        if end is not None:
            process.send_signal(end)
        process.communicate()
    maintenance.shrink(store.root, 0.0)
    assert there(store) == []
    assert [path.name for path in (store.root / "leases").iterdir()] == ["lock"]


def test_a_lease_may_be_closed_twice_and_holds_nothing_then(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, "a", 1.0)
    store.close()
    store.close()
    store.use("tune", "a")
    assert leases.in_use(tmp_path) == set()


def test_a_forked_child_leaves_its_parents_lease(tmp_path: Path) -> None:
    store = Store(tmp_path)
    put(store, "a", 1.0)
    child = os.fork()
    if not child:
        store.lease.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert leases.in_use(tmp_path) == {"tune/a"}


def work(root: Path, seed: int) -> None:
    """Make, find and read stages within a budget that holds a few of them."""
    drawn = random.Random(seed)
    for _ in range(15):
        store = Store(root, budget=3.5 * KB)
        for _ in range(4):
            key = str(drawn.randrange(8))
            entry = store.get("tune", key) or put(store, key, float(key))
            assert len((entry / "a.bin").read_bytes()) == KB
        for name in store.lease.names:
            assert (root / name / "a.bin").is_file()
        store.close()


def test_processes_that_shrink_one_store_never_take_what_another_one_holds(tmp_path: Path) -> None:
    children = []
    for seed in range(4):
        child = os.fork()
        if not child:
            try:
                work(tmp_path, seed)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert sum(entry.bytes for entry in maintenance.scan(tmp_path)) <= 3.5 * KB
    assert leases.in_use(tmp_path) == set()


def asked(*words: str) -> list[dict[str, object]]:
    """What the command of the store prints."""
    line = [sys.executable, "-W", "error", "-m", "objectives.store", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=ROOT)
    found: list[dict[str, object]] = json.loads(done.stdout)
    return found


LEFT = "a" * 32


def flip(entry: Path) -> None:
    (entry / "a.bin").write_bytes(b"\1" + bytes(KB - 1))


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (["--budget-gb", "0.0000025"], ["moments/1-c"]),
        (["--older-than-s", "40"], ["tune/old"]),
        (["--stage", "moments"], ["moments/1-c"]),
        (["--damaged"], [f"partial/{LEFT}", "tune/flipped"]),
    ],
)
def test_the_file_runs_by_itself_and_drops_what_is_named(
    words: list[str], gone: list[str], store: Store
) -> None:
    put(store, "old", 9.0, age=60.0)
    put(store, "1-c", 1.0, "moments")
    flip(put(store, "flipped", 9.0))
    left = store.root / "partial" / LEFT
    left.mkdir()
    os.utime(left, (1, 1))
    written = store.root / "partial" / ("b" * 32)
    written.mkdir()
    shown = [f"{each['stage']}/{each['key']}" for each in asked("show", str(store.root))]
    assert sorted(shown) == ["moments/1-c", f"partial/{LEFT}", "tune/flipped", "tune/old"]
    for more in (["--dry-run"], []):
        found = asked("prune", str(store.root), *words, *more)
        assert sorted(f"{each['stage']}/{each['key']}" for each in found) == gone
    after = [f"{each['stage']}/{each['key']}" for each in asked("show", str(store.root))]
    assert sorted(after) == sorted(set(shown) - set(gone))
    assert written.is_dir()
