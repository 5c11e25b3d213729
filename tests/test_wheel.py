"""The wheel holds all that the command needs, outside of the checkout."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import docs
from tests.toy_size import TOY, small_inputs

pytestmark = pytest.mark.slow


BUILD = "from setuptools import build_meta; print(build_meta.build_wheel({!r}))"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment's python, with the wheel, and the dependencies of this one."""
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    source, built, home = folder / "source", folder / "dist", folder / "venv"
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
    run([sys.executable, "-m", "venv", "--without-pip", str(home)], folder)
    (packages,) = home.glob("lib/python*/site-packages")
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(packages)
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(others))
    return home / "bin" / "python"


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
