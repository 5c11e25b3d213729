"""A study runs from any folder: its paths start from its file, those that are typed from where."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from hpo.cli import main
from hpo.storage import run_folder
from hpo.study_files import StudyRequest, received
from tests.hpo.cli.test_main import complaint
from tests.toy_size import TOY, small_inputs

SOURCES = '[{{"kind": "files", "paths": ["{}"]}}]'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a study and the text beside it; the working folder is another."""
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    small_inputs(folder / "data")
    settings = TOY | {
        "corpus.sources": [{"kind": "files", "paths": ["data/text-*.txt"]}],
        "corpus.vocab_size": 300,
        "finetune.tasks": [{"kind": "builtin", "name": "list_ops"}],
        "probes.run": [],
    }
    (folder / "lm.py").write_text(
        "from hpo import *\nfrom objectives import *\n"
        f"STUDY = StudySpec(name='lm', objective=PlasticityObjective(Recipe().with_params("
        f"{settings!r})), space={{'pretrain.lr': Float(low=1e-3, high=1e-2)}}, trials=1)"
    )
    return folder


def test_a_study_runs_and_is_exported_from_any_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.main(["run", "project/lm.py", "--device", "cpu"]) == 0
    read = run_folder.load("lm")
    recipe = read.reproduce["study"]["objective"]["recipe"]
    assert recipe["corpus"]["sources"][0]["paths"] == ["data/text-*.txt"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main.main(["run", str(project / "lm.py"), "--out", "../runs", "--device", "cpu"]) == 0
    assert run_folder.load("lm", "../runs").trials == read.trials
    assert main.main(["export", "../runs/lm", "--trial", "0", "--to", "out"]) == 0
    assert Path("out/base/config.json").is_file()


def test_typed_paths_start_from_the_working_folder(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = ["--set", "corpus.sources=" + SOURCES.format("project/data/text-1*.txt")]
    assert main.main(["check", "project/lm.py", "--device", "cpu", *typed, "--json"]) == 0
    monkeypatch.chdir(project)
    assert main.main(["check", "lm.py", "--device", "cpu", *typed]) == 2
    assert f"{project}/project/data/text-1*.txt" in complaint(capsys)


def test_a_path_that_leads_nowhere_is_shown_whole(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "data").rename(project / "moved")
    monkeypatch.chdir(project.parent)
    assert main.main(["run", "project/lm.py", "--device", "cpu"]) == 2
    assert f"{project}/data/text-*.txt" in complaint(capsys)


def test_a_worker_reads_what_the_controller_would(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sources = json.loads(SOURCES.format("project/data/text-1*.txt"))
    launch = StudyRequest(
        study="project/lm.py", store="runs/store", params={"corpus.sources": sources}
    )
    message = json.loads(json.dumps(launch.message()))
    os.chdir(message["folder"])
    one, other = launch.spec().objective, received(message).spec().objective
    assert one.located == other.located  # type: ignore[attr-defined]
    assert one.describe() == other.describe()


def test_a_trial_is_exported_without_its_text(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    study = ["project/lm.py", "--device", "cpu"]
    assert main.main(["run", *study]) == 0
    assert main.main(["export", "lm", "--trial", "0", "--to", "before"]) == 0
    (project / "data").rename(project / "gone")
    capsys.readouterr()
    assert main.main(["export", "lm", "--trial", "0", "--to", "after", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens_trained"] == 0
    for name in ("base/model.safetensors", "evaluation/validation.safetensors"):
        assert Path("before", name).read_bytes() == Path("after", name).read_bytes()
    shutil.rmtree("runs/store/pretrain")
    assert main.main(["export", "lm", "--trial", "0", "--to", "again"]) == 2
    assert "text-*.txt" in complaint(capsys)


def test_which_version_of_a_text_that_is_gone_is_never_guessed(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    first = Path("data/text-0.txt").read_text()
    for name, text in (("lm", first), ("edited", "another text " * 400)):
        Path("data/text-0.txt").write_text(text)
        assert main.main(["run", "lm.py", "--device", "cpu", "--name", name]) == 0
    Path("data").rename("gone")
    capsys.readouterr()
    assert main.main(["export", "lm", "--trial", "0", "--to", "out"]) == 2
    assert "the store has weights from 2 versions of it" in complaint(capsys)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("trials=1", 0),
        ("'pretrain.lr': Float(low=1e-3, high=1e-2)", 0),
        ("'pretrain.steps': 4", 2),
        ("'finetune.test_rows': 4", 2),
    ],
)
def test_an_export_is_refused_where_the_trial_would_be_another(
    change: str, code: int, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    assert main.main(["run", "lm.py", "--device", "cpu"]) == 0
    text = Path("lm.py").read_text()
    assert change in text
    Path("lm.py").write_text(text.replace(change, change.replace("1e-3", "2e-3").replace("4", "5")
                                          .replace("trials=1", "trials=3")))  # fmt: skip
    assert main.main(["export", "lm", "--trial", "0", "--to", "out"]) == code
