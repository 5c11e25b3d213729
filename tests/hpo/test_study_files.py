"""Finding studies, and saying where a broken one is broken."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from hpo import study_files

GOOD = "from tests.hpo.toy_objective import spec\nSTUDY = spec()\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nSTUDY = (\n", "line 2: SyntaxError: '(' was never closed"),
        ("x = 1\n\nSTUDY = 1 / 0\n", "line 3: ZeroDivisionError: division by zero"),
        (
            "def make():\n    raise KeyError('x')\n\nSTUDY = make()\n",
            "line 2: KeyError: 'x'",
        ),
        ("import nosuchmodule\n", "line 1: ModuleNotFoundError: No module named 'nosuchmodule'"),
        (
            "from tests.hpo.toy_objective import spec\n\nSTUDY = spec(trials=0)\n",
            "line 3: a study's trials must be a whole number of at least 1, got 0.",
        ),
        ("raise ValueError('two\\nlines')", "line 1: two lines"),
    ],
)
@pytest.mark.parametrize("relative", [True, False])
def test_a_broken_study_file_is_reported_with_its_line(
    text: str, said: str, relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"mine\.py is broken: " + re.escape(said)):
        study_files.load("mine.py" if relative else str(tmp_path / "mine.py"))


@pytest.mark.parametrize("text", ["", "STUDY = None\n", "study = 1\n"])
def test_a_file_without_a_study_is_reported(text: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ValueError, match=r"mine\.py defines no STUDY; add a line STUDY ="):
        study_files.load(str(tmp_path / "mine.py"))


def test_an_unknown_name_lists_the_studies_that_ship() -> None:
    with pytest.raises(ValueError, match=r"no study 'nothing'; choose one of .*quickstart.*\.py"):
        study_files.load("nothing")


@pytest.mark.parametrize("name", ["missing.py", "a/b/missing.py"])
def test_a_missing_file_is_reported(name: str) -> None:
    with pytest.raises(ValueError, match=f"no study file '{name}'; check the path"):
        study_files.load(name)


def test_a_good_file_gives_its_study_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(GOOD)
    assert study_files.load(str(path)).trials == 8
    path.write_text(GOOD.replace("spec()", "spec(trials=12)"))
    assert study_files.load(str(path)).trials == 12


def test_studies_that_ship_have_a_line_and_load() -> None:
    assert "quickstart" in study_files.shipped()
    for name, line in study_files.shipped().items():
        assert line.endswith(".")
        assert study_files.load(name).name == name


def test_a_study_file_finds_the_modules_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_me.py").write_text("from tests.hpo.toy_objective import spec\n")
    (tmp_path / "mine.py").write_text("from beside_me import spec\nSTUDY = spec()\n")
    assert study_files.load(str(tmp_path / "mine.py")).name
    assert str(tmp_path) not in sys.path


def test_a_study_file_leaves_working_folder_and_standard_output_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "mine.py"
    path.write_text(GOOD + "import os, sys\nprint('noise')\nos.chdir('/')\nsys.path.clear()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    study_files.load(str(path))
    assert Path.cwd() == tmp_path
    assert capsys.readouterr() == ("", "noise\n")


@pytest.mark.parametrize("error", ["SystemExit(3)", "GeneratorExit", "RuntimeError"])
def test_whatever_a_study_file_raises_is_one_sentence(error: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(f"raise {error}\n")
    kind = error.split("(")[0]
    with pytest.raises(ValueError, match=rf"mine\.py is broken: line 1: {kind}(: 3)?$"):
        study_files.load(str(tmp_path / "mine.py"))
