"""A study runs from any folder: its paths start from its file, those that are typed from where."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hpo import cli, runs
from hpo.launch import Launch, received
from tests.hpo.test_cli import complaint
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
        "from hpo.spec import *\nfrom objectives import *\n"
        f"STUDY = StudySpec(name='lm', objective=PlasticityObjective(Recipe().with_params("
        f"{settings!r})), space={{'pretrain.lr': Float(low=1e-3, high=1e-2)}}, trials=1)"
    )
    return folder


def test_a_study_runs_and_is_exported_from_any_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", "project/lm.py", "--device", "cpu"]) == 0
    read = runs.load("lm")
    recipe = read.reproduce["study"]["objective"]["recipe"]
    assert recipe["corpus"]["sources"][0]["paths"] == ["data/text-*.txt"]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli.main(["run", str(project / "lm.py"), "--out", "../runs", "--device", "cpu"]) == 0
    assert runs.load("lm", "../runs").trials == read.trials
    assert cli.main(["export", "../runs/lm", "--trial", "0", "--to", "out"]) == 0
    assert Path("out/base/config.json").is_file()


def test_typed_paths_start_from_the_working_folder(
    project: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = ["--set", "corpus.sources=" + SOURCES.format("project/data/text-1*.txt")]
    assert cli.main(["check", "project/lm.py", "--device", "cpu", *typed, "--json"]) == 0
    monkeypatch.chdir(project)
    assert cli.main(["check", "lm.py", "--device", "cpu", *typed]) == 2
    assert f"{project}/project/data/text-1*.txt" in complaint(capsys)


def test_a_path_that_leads_nowhere_is_told_whole(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "data").rename(project / "moved")
    monkeypatch.chdir(project.parent)
    assert cli.main(["run", "project/lm.py", "--device", "cpu"]) == 2
    assert f"{project}/data/text-*.txt" in complaint(capsys)


def test_a_worker_reads_what_the_controller_would(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sources = json.loads(SOURCES.format("project/data/text-1*.txt"))
    launch = Launch(
        study="project/lm.py", store="runs/store", settings=(("corpus.sources", sources),)
    )
    message = json.loads(json.dumps(launch.message()))
    os.chdir(message["folder"])
    one, other = launch.spec().objective, received(message).spec().objective
    assert one.located == other.located  # type: ignore[attr-defined]
    assert one.describe() == other.describe()
