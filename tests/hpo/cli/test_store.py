"""`hpo store`: what there is, what it saved, and what goes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hpo.cli import main
from hpo.controller import Controller
from hpo.core import format
from hpo.storage import run_folder
from objectives.store.store import Store
from tests.hpo.toy_objective import ToyObjective, ToyResult, spec


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output folder whose store holds five entries, one of them damaged and one in use."""
    monkeypatch.chdir(tmp_path)
    store = Store(Path("runs/store"))
    for stage, key, size, seconds in (
        ("pretrain", "9-a", 4000, 40.0),
        ("moments", "9-a", 8000, 40.0),
        ("tune", "b", 1000, 30.0),
        ("tune", "c", 1000, 20.0),
        ("tune", "d", 1000, 10.0),
    ):
        store.put(stage, key, lambda folder, n=size: fill(folder, n), seconds=seconds)
    store.close()
    (store.root / "tune" / "d" / "a.bin").write_bytes(b"short")
    return Path("runs")


def fill(folder: Path, size: int) -> None:
    (folder / "a.bin").write_bytes(bytes(size))


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `hpo store show --json` prints."""
    capsys.readouterr()
    assert main.main(["store", "show", "--json"]) == 0
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    return data


def counts(data: dict[str, Any]) -> dict[str, int]:
    return {row["stage"]: row["entries"] for row in data["stages"]}


def words(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


class Costly(ToyObjective):
    """Says what it found done."""

    def _measure(self, params: Any) -> ToyResult:
        found = super()._measure(params)
        found.cost.update(tokens=1.0, tokens_reused=1000.0, device_s_saved=2.5)
        return found


def test_show_tells_sizes_costs_damage_and_what_was_saved(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = run_folder.make_run_folder(out, "toy", None)
    Controller(spec(trials=4, objective=Costly()), place.url).run()
    user = Store(out / "store")
    user.get("tune", "b")
    data = shown(capsys)
    user.close()
    assert list(data) == [
        "folder", "entries", "bytes", "stages", "damaged", "left_over", "foreign", "saved",
    ]  # fmt: skip
    by_stage = {row.pop("stage"): row for row in data["stages"]}
    assert list(by_stage) == ["moments", "pretrain", "tune"]
    assert by_stage["tune"].pop("bytes") in range(2000, 2600)
    assert by_stage["tune"] == {"entries": 2, "device_s": 50.0, "in_use": 1}
    assert by_stage["pretrain"]["device_s"] == 40.0
    assert data["damaged"]["entries"] == 1
    assert data["left_over"] == {"entries": 0, "bytes": 0}
    assert data["saved"] == {"tokens_reused": 4000.0, "device_s_saved": 10.0}
    total = sum(path.stat().st_size for path in (out / "store").rglob("*") if path.is_file())
    assert data["bytes"] == total
    assert data["entries"] == 5
    assert main.main(["store", "show"]) == 0
    printed = words(capsys)
    assert "tune │ 2 │ 2." in printed
    assert "damaged │ 1 │" in printed
    assert "did without 4000 tokens and 10 s of the device" in printed


def test_what_is_not_of_this_program_is_counted_and_named_and_in_no_sum(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = shown(capsys)
    assert before["foreign"] == {"entries": 0, "names": []}
    (out / "store" / "modules" / "cart").mkdir(parents=True)
    (out / "store" / "modules" / "cart" / "index.js").write_text("code")
    (out / "store" / "x\x1b]0;owned\x07").symlink_to(out)
    data = shown(capsys)
    names = ["modules", "x\\x1b]0;owned\\x07"]
    assert data == before | {"foreign": {"entries": 2, "names": names}}
    assert main.main(["store", "show"]) == 0
    printed = words(capsys)
    assert f"Not of this program, and left alone: 2 ({', '.join(names)})." in printed
    for criterion in (["--store-gb", "0"], ["--damaged"], ["--older-than", "1s"]):
        main.main(["store", "prune", *criterion])
    assert (out / "store" / "modules" / "cart" / "index.js").read_text() == "code"
    assert shown(capsys)["foreign"] == data["foreign"]


@pytest.mark.parametrize(
    ("criterion", "left", "said"),
    [
        (["--store-gb", "0.0000075"], {"pretrain": 1, "tune": 2}, "2 entries (moments 1, tune 1)"),
        (["--store-gb", "0.0000035"], {"tune": 2}, "(moments 1, pretrain 1, tune 1)"),
        (["--store-gb", "1"], {"moments": 1, "pretrain": 1, "tune": 2}, "0 entries;"),
        (["--store-gb", "0"], {}, "5 entries"),
        (["--damaged"], {"moments": 1, "pretrain": 1, "tune": 2}, "1 entry (tune 1)"),
        (["--stage", "moments"], {"pretrain": 1, "tune": 2}, "1 entry (moments 1)"),
        (["--older-than", "7d"], {"moments": 1, "pretrain": 1, "tune": 1}, "1 entry (tune 1)"),
    ],
)
def test_prune_says_what_it_would_free_and_frees_it(
    criterion: list[str], left: dict[str, int], said: str, out: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if "--older-than" in criterion:
        entry = out / "store" / "tune" / "b"
        for path in [*entry.iterdir(), entry]:
            os.utime(path, (1e9, 1e9))
    before = shown(capsys)
    assert main.main(["store", "prune", *criterion, "--dry-run"]) == 0
    would = words(capsys)
    assert said in would
    assert would.startswith("Would free ")
    assert shown(capsys) == before
    assert main.main(["store", "prune", *criterion]) == 0
    assert words(capsys) == would.replace("Would free", "Freed")
    assert counts(shown(capsys)) == left


def test_what_a_living_process_uses_stays(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    user = Store(out / "store")
    user.get("tune", "c")
    assert main.main(["store", "prune", "--store-gb", "0"]) == 0
    assert "1 entry among them in use." in words(capsys)
    assert counts(shown(capsys)) == {"tune": 1}
    user.close()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["show", "--out", "nowhere"], "no store in nowhere; give the runs' folder with --out"),
        (["prune", "--damaged", "--out", "nowhere"], "no store in nowhere"),
        (["prune", "--stage", "x"], "no stage 'x' in runs/store; there are ['moments', 'pretrain'"),
    ],
)
def test_wrong_usage_is_one_line(
    line: list[str], said: str, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["store", *line]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert said in error


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ([], "the following arguments are required: show|prune"),
        (["prune"], "one of the arguments --store-gb --older-than --damaged --stage is required"),
        (["prune", "--store-gb", "-1"], "a size in GB such as 0.5 or 20, got '-1'"),
        (["prune", "--store-gb", "much"], "a size in GB such as 0.5 or 20, got 'much'"),
        (["prune", "--store-gb", "1", "--damaged"], "not allowed with argument"),
        (["prune", "--older-than", "soon"], "got 'soon'"),
    ],
)
def test_what_cannot_be_parsed_is_exit_code_2(
    line: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(["store", *line])
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_a_store_that_cannot_be_written_is_a_failure(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "store" / "leases" / "lock").unlink()
    (out / "store" / "leases").rmdir()
    (out / "store" / "leases").write_text("")
    assert main.main(["store", "prune", "--damaged"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hpo: the store runs/store cannot be used (")
    assert "Error" not in line


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e6, "2.5 MB"), (1.234e12, "1234 GB")],
)
def test_sizes_are_read_with_their_units(count: float, text: str) -> None:
    assert format.size(count) == text
