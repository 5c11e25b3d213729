"""`hpo init`: a study file that passes the checks, and nothing overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo import study_files
from hpo.cli import main
from hpo.search import preflight
from tests.hpo.cli.test_main import complaint
from tests.toy_size import small_inputs


def test_the_file_is_written_once_and_passes_the_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small_inputs(tmp_path)
    assert main.main(["init", "new/mine.py", "--corpus", "text-*.txt"]) == 0
    assert capsys.readouterr().out.startswith("Wrote new/mine.py. Next: hpo check new/mine.py")
    text = Path("new/mine.py").read_text()
    assert 'Files(paths=("../text-*.txt",)),' in text
    preflight.check(study_files.load("new/mine.py"))
    assert main.main(["init", "new/mine.py"]) == 2
    assert complaint(capsys).startswith("hpo: new/mine.py exists and is kept")
    assert Path("new/mine.py").read_text() == text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mine.yaml"], "a study file ends in .py, got 'mine.yaml'"),
        (["a b.py"], "a study's name holds letters"),
    ],
)
def test_a_mistake_writes_nothing(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main.main(["init", *words]) == 2
    assert message in complaint(capsys)
    assert list(tmp_path.iterdir()) == []
