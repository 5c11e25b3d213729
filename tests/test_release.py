"""Version, changelog, citation and tags agree."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import yaml

from tests import docs


def project() -> dict[str, object]:
    text = (docs.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found: dict[str, object] = tomllib.loads(text)["project"]
    return found


def changelog() -> str:
    return (docs.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_citation_and_command_have_the_version_of_the_package() -> None:
    cited = yaml.safe_load((docs.ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    wanted = project()
    assert (cited["title"], cited["version"]) == (wanted["name"], wanted["version"])
    assert cited["license"] == wanted["license"]
    assert {"cff-version", "message", "authors"} <= cited.keys()
    words = [sys.executable, "-m", "hpo", "--version"]
    done = subprocess.run(words, cwd=docs.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"hpo {wanted['version']}\n"


def test_every_tag_is_a_version_of_the_changelog() -> None:
    words = ["git", "-C", str(docs.ROOT), "tag", "--list", "v*"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    tagged = {each.removeprefix("v") for each in done.stdout.split()}
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", changelog(), re.M)
    assert tagged <= {*released}
    assert ("nothing has been released yet" in changelog()) == (not released)


def test_the_changelog_has_the_form_of_keep_a_changelog() -> None:
    first, *_ = (line for line in changelog().splitlines() if line.startswith("## "))
    assert first == "## [Unreleased]"
    for section in changelog().split("\n## ")[1:]:
        heads = re.findall(r"^### (.+)$", section, re.M)
        known = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
        assert heads == [each for each in known if each in heads]
