"""What the doctor looks at, and what it says of what will not work."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import pytest

from hpo.cli import doctor, main
from hpo.core import format
from hpo.executors import processes
from hpo.storage.provenance import PACKAGES


@pytest.fixture(autouse=True)
def _any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing torch in another process takes seconds; one test below does it."""
    monkeypatch.setattr(doctor, "DEVICE", "print('a device')")


def found(out: Path, storage: str | None = None) -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.checks(out, storage)}


def test_a_sound_machine_passes_every_check(tmp_path: Path) -> None:
    checks = found(tmp_path / "runs", f"sqlite:///{tmp_path / 'x.db'}")
    folder = f"folder {tmp_path / 'runs'}"
    expected = {"Python", *PACKAGES, "device", "load", "free disk", folder, "storage", "store"}
    assert set(checks) == expected | set(doctor.EXTRAS) | {"browser"}
    assert [check for check in checks.values() if check.ok is False] == []
    assert not (tmp_path / "runs").exists()


def test_no_file_of_the_current_folder_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "colorsys.py").write_text("print('hostile')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "DEVICE", "import colorsys; print('a device')")
    monkeypatch.setattr(processes, "DEVICES", "import colorsys; print(0)")
    assert doctor._device() == "a device"
    assert processes._gpus() == []


def test_the_device_is_asked_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    text = doctor._device()
    assert "GiB" in text or "CPU" in text


def test_what_a_broken_torch_says_last_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DEVICE", "raise OSError('libcuda.so is missing')")
    check = found(Path("runs"))["device"]
    assert (check.ok, check.found) == (False, "OSError: libcuda.so is missing")


def test_a_folder_below_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check = found(tmp_path / "file" / "runs")[f"folder {tmp_path / 'file' / 'runs'}"]
    assert not check.ok
    assert "Not a directory" in check.found


def test_too_little_disk_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE_GB", 1e9)
    assert "free at least 1e+09 GB" in found(tmp_path)["free disk"].found


def test_a_missing_package_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("nosuchpackage",))
    check = found(tmp_path)["nosuchpackage"]
    assert (check.ok, check.found) == (False, "not installed; run pip install -e .")


@pytest.mark.parametrize(
    "url", ["postgresql://user:secret@127.0.0.1:1/x", "nonsense:secret@", "sqlite:////no/x.db"]
)
def test_a_storage_out_of_reach_is_a_problem_without_its_password(url: str, tmp_path: Path) -> None:
    check = found(tmp_path, url)["storage"]
    assert not check.ok
    assert "cannot be used" in check.found
    assert "secret" not in check.found.replace("nonsense:secret@", "")


@pytest.mark.parametrize(("busy", "ok"), [(0.9, True), (3.9, None)])
def test_a_busy_machine_is_a_note(
    busy: float, ok: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (busy, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    check = found(Path("runs"))["load"]
    assert check.ok is ok
    assert ("busy" in check.found) is (ok is None)


def test_an_extra_that_is_missing_is_a_note_that_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"Ray": ("no_such_module", "ray", "--executor ray")})
    monkeypatch.setenv("PATH", str(tmp_path))
    checks = found(tmp_path)
    assert (checks["Ray"].ok, checks["browser"].ok) == (None, None)
    assert "pip install 'plasticity-hpo[ray]'" in checks["Ray"].found
    assert "install Chromium" in checks["browser"].found


def test_every_extra_is_one_of_the_package() -> None:
    known = metadata.metadata("plasticity-hpo").get_all("Provides-Extra") or []
    assert {extra for _, extra, _ in doctor.EXTRAS.values()} <= set(known)


def test_the_size_of_the_store_is_shown(tmp_path: Path) -> None:
    assert found(tmp_path)["store"].found == "empty"
    (tmp_path / "store" / "deep").mkdir(parents=True)
    (tmp_path / "store" / "deep" / "file").write_bytes(bytes(2_000_000))
    assert found(tmp_path)["store"].found.startswith(f"{format.size(2e6)}; ")


def test_notes_do_not_fail_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"Ray": ("no_such_module", "ray", "--executor ray")})
    assert main.main(["doctor", "--out", str(tmp_path)]) == 0
    (line,) = [each for each in capsys.readouterr().out.splitlines() if "Ray" in each]
    assert "note" in line
