"""The wheel holds all that the command needs, outside of the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import docs
from tests.toy_size import TOY, small_inputs

pytestmark = pytest.mark.slow


BUILD = "from setuptools import build_meta; print(build_meta.build_wheel({!r}))"


OTHERS = os.environ.get("HPO_TEST_PYTHONS", "python3.11:python3.12:python3.13:python3.14")
"""Interpreters that have the dependencies, where they are there."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of what is in the checkout."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    source, built = folder / "source", folder / "dist"
    listed = subprocess.run(
        ["git", "-C", str(docs.ROOT), "ls-files", "-co", "--exclude-standard"],
        capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    tops = ("hpo", "objectives", "studies", "hydra_plugins")
    wanted = [name for name in listed if name.split("/")[0] in tops or "/" not in name]
    for name in filter(None, wanted):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((docs.ROOT / name).read_bytes())
    built.mkdir()
    run([sys.executable, "-W", "ignore", "-c", BUILD.format(str(built))], source)
    (found,) = built.glob("*.whl")
    return found


def installed(wheel: Path, python: str, home: Path) -> Path:
    """The python of a new virtual environment, with the wheel and `python`'s dependencies."""
    run([python, "-m", "venv", "--without-pip", str(home)], home.parent)
    (packages,) = home.glob("lib/python*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    paths = run([python, "-c", "import sys; print(*sys.path, sep='\\n')"], home.parent).split("\n")
    others = [path for path in paths if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(others))
    return home / "bin" / "python"


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment of this interpreter."""
    return installed(wheel, sys.executable, tmp_path_factory.mktemp("this") / "venv")


def run(words: list[str], folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_runs_outside_of_the_checkout(environment: Path, tmp_path: Path) -> None:
    def hpo(*words: str) -> str:
        return run([str(environment), "-m", "hpo", *words], tmp_path)

    site = str(environment.parents[1])
    assert run([str(environment), "-c", "import hpo; print(hpo.__file__)"], tmp_path).startswith(
        site
    )
    assert "usage: hpo run STUDY" in hpo("run", "quickstart", "--help")
    assert "quickstart" in hpo("list")
    fixed = [f"--set={path}={json.dumps(v)}" for path, v in (TOY | small_inputs(tmp_path)).items()]
    assert "Checked: quickstart can be run" in hpo("check", "quickstart", *fixed)


@pytest.mark.parametrize("python", OTHERS.split(":"))
def test_it_runs_on_other_versions_of_python(python: str, wheel: Path, tmp_path: Path) -> None:
    path = shutil.which(python)
    if path is None:
        pytest.skip(f"there is no {python}")
    there = subprocess.run(
        [path, "-c", "import optuna, peft, sys, torch; print(sys.version_info[:2])"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    if there.returncode != 0:
        pytest.skip(f"{python} lacks the dependencies; name one that has them in HPO_TEST_PYTHONS")
    if there.stdout.strip() == str(sys.version_info[:2]):
        pytest.skip(f"{python} is the version that runs these tests")
    hpo = [str(installed(wheel, path, tmp_path / "venv")), "-m", "hpo"]
    fixed = [f"--set={path}={json.dumps(v)}" for path, v in (TOY | small_inputs(tmp_path)).items()]
    printed = run(
        [*hpo, "run", "quickstart", "--trials", "3", "--executor", "inline", *fixed], tmp_path
    )
    assert "3 of 3 trials complete" in printed
    assert (tmp_path / "runs" / "quickstart" / "report.html").is_file()


def test_it_has_the_pages_templates_and_the_hydra_plugin(environment: Path) -> None:
    (packages,) = environment.parents[1].glob("lib/python*/site-packages")
    for top in ("hpo", "objectives", "studies", "hydra_plugins"):
        wanted = {
            path.relative_to(docs.ROOT)
            for path in (docs.ROOT / top).rglob("*")
            if path.suffix in (".py", ".js", ".css", ".html", ".typed")
        }
        assert wanted
        assert {path for path in wanted if not (packages / path).is_file()} == set()
