"""Which study files a run's note may have executed."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo import known_studies


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's state without any study."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / known_studies.LIST


def test_a_file_is_known_once_it_was_run_and_a_study_that_ships_always(
    state: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    odd = tmp_path / "a\nb \u202e\ud800.py"
    assert known_studies.is_known("quickstart")
    assert not known_studies.is_known(str(odd))
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        known_studies.remember(str(odd))
        known_studies.remember("mine.py")
        known_studies.remember("quickstart")
    assert known_studies.is_known(str(odd))
    assert known_studies.is_known(str(tmp_path / "mine.py"))
    assert not known_studies.is_known("mine.py")  # a note has absolute paths
    assert not known_studies.is_known(str(tmp_path / "b.py"))
    assert len(state.read_text().splitlines()) == 2


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 9999, b'"/a.py', b"{}\n1\n\n", b"\0"])
def test_a_list_that_is_damaged_knows_less_and_is_added_to(state: Path, content: bytes) -> None:
    state.parent.mkdir(parents=True)
    state.write_bytes(content)
    assert not known_studies.is_known("/a.py")
    known_studies.remember("/a.py")
    assert not known_studies.is_known("/other.py")


def test_without_a_place_nothing_is_remembered_and_nothing_fails(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.parent.parent.write_text("a file in place of the folder")
    known_studies.remember("/a.py")
    assert not known_studies.is_known("/a.py")
    victim = tmp_path / "victim"
    victim.write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    link = tmp_path / "other" / known_studies.LIST
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    known_studies.remember("/a.py")
    assert victim.read_text() == ""
