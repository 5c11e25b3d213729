"""README tells what is there: its study loads; its commands, options and files exist."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path
from typing import Any

from hpo.cli.main import parser
from hpo.core.spec import StudySpec

ROOT = Path(__file__).parents[1]


README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_study_of_your_own_is_a_study() -> None:
    block = next(b for b in re.findall(r"```python\n(.*?)```", README, re.S) if "STUDY =" in b)
    names: dict[str, Any] = {}
    exec(block, names)
    assert isinstance(names["STUDY"], StudySpec)
    assert set(names["STUDY"].space) <= set(names["STUDY"].objective.values())


def test_every_command_and_option_in_the_table_exists() -> None:
    commands = {
        name: {option for action in each._actions for option in action.option_strings}
        for name, each in all_commands(parser(), "").items()
    }
    rows = re.findall(r"^\| `hpo ((?:store )?\w+)([^|]*)` \|(.*)\|$", README, re.M)
    assert {name for name, _, _ in rows} == set(commands)
    for name, usage, text in rows:
        assert set(re.findall(r"--[a-z-]+", usage + text)) <= commands[name]


def all_commands(above: argparse.ArgumentParser, name: str) -> dict[str, argparse.ArgumentParser]:
    """Words -> parser, for every command that can be run."""
    found = {}
    for action in above._actions:
        for word, each in action.choices.items() if isinstance(action.choices, dict) else ():
            found |= all_commands(each, f"{name} {word}".strip())
    return found or {name: above}


def test_every_command_line_in_the_text_can_be_parsed() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("hpo ")]
    assert lines
    for line in lines:
        parser().parse_args(shlex.split(line, comments=True)[1:])


def test_every_file_in_the_tree_exists() -> None:
    tree = re.search(r"## What lies where\n\n```\n(.*?)```", README, re.S)
    assert tree is not None
    folder = ""
    for line in tree[1].splitlines():
        if found := re.match(r"(\w+)/", line):
            folder = found[1]
        for name in re.findall(r"\b(\w+\.py)\b", line):
            assert (ROOT / folder / name).is_file(), f"{folder}/{name}"


def test_every_picture_and_folder_it_links_exists() -> None:
    for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README):
        assert (ROOT / target).is_file(), target
