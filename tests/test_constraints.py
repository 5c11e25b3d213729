"""The exact versions in constraints.txt fit each other and pyproject.toml."""

from __future__ import annotations

import importlib.metadata
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests import docs


def pins() -> dict[str, Version]:
    lines = (docs.ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    return {canonicalize_name(n): Version(v) for n, v in (line.split("==") for line in lines)}


def unmet(whose: str, requirements: list[str], pinned: dict[str, Version]) -> list[str]:
    """Requirements that the pinned version of what they name does not meet."""
    found = []
    for each in map(Requirement, requirements):
        version = pinned.get(canonicalize_name(each.name))
        applies = each.marker is None or each.marker.evaluate({"extra": ""})
        if version is not None and applies and not each.specifier.contains(version, True):
            found.append(f"{whose} needs {each}, constraints.txt has {version}")
    return found


def test_every_dependency_and_extra_takes_its_pinned_version() -> None:
    project = tomllib.loads((docs.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(each for part in extras.values() for each in part)]
    assert unmet("pyproject.toml", asked, pins()) == []
    itself = canonicalize_name(str(project["name"]))
    assert {canonicalize_name(Requirement(each).name) for each in asked} - {itself} <= {*pins()}


def test_pinned_packages_that_are_installed_take_each_other() -> None:
    pinned, wrong, seen = pins(), list[str](), 0
    for package in importlib.metadata.distributions():
        name = canonicalize_name(package.name)
        if pinned.get(name) == Version(package.version):
            seen += 1
            wrong += unmet(name, package.requires or [], pinned)
    assert seen > 30
    assert wrong == []
