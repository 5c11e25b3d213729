"""`hpo params`: the hyperparameters of a recipe, or of a study's own objective."""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import json
import subprocess
import sys
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from hpo import study_files
from hpo.cli.console import new_console
from hpo.cli.options import DONE
from hpo.core import checks
from hpo.core.objective import ListsParameters, Objective, Parameter


def run(arguments: argparse.Namespace) -> int:
    """Print the hyperparameters whose path matches."""
    if arguments.variant is not None and arguments.study is None:
        raise ValueError("--variant names a variant of a study; give the study with --study.")
    found = matching(parameters(arguments.study, arguments.variant), arguments.pattern)
    if arguments.json:
        print(json.dumps(found, indent=1, allow_nan=False))
    else:
        new_console().print(table(found))
    return DONE


def parameters(study: str | None, variant: str | None) -> Sequence[Parameter]:
    """Those of a study's objective, or of the recipe of language models.

    Raises:
        ValueError: there is no such study.
    """
    if study is not None:
        return of_objective(study_files.load(study, variant).objective)
    if importlib.util.find_spec("objectives") is None:
        raise ValueError("the package `objectives` is not installed; run pip install -e . again.")
    line = [sys.executable, "-P", "-m", "objectives.config"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise RuntimeError(f"the hyperparameters cannot be listed: {reason}")
    listed: list[Parameter] = json.loads(done.stdout)
    return listed


def of_objective(objective: Objective) -> Sequence[Parameter]:
    """What the objective lists; otherwise its values and their types."""
    if isinstance(objective, ListsParameters):
        return objective.parameters()
    return [
        Parameter(
            path=path, owner="", type=type(value).__name__, unit="", default=value, allowed="",
            meaning="",
        )
        for path, value in objective.values().items()
    ]  # fmt: skip


def matching(found: Sequence[Parameter], pattern: str) -> list[Parameter]:
    """Those whose path contains the pattern, or matches it as a glob.

    Raises:
        ValueError: there is none.
    """
    text = pattern.lower()
    is_glob = any(each in text for each in "*?[")
    chosen = [
        each
        for each in found
        if (fnmatch.fnmatchcase(each["path"].lower(), text) if is_glob else text in each["path"])
    ]
    if not chosen:
        words = {part for each in found for part in (each["path"], *each["path"].split("."))}
        raise ValueError(f"no hyperparameter matches {pattern!r}; {_hint(text, sorted(words))}")
    return chosen


def _hint(text: str, words: Sequence[str]) -> str:
    hint = checks.near(text, words)
    return hint if hint.startswith("did you mean") else "`hpo params` lists all."


def table(found: Sequence[Parameter]) -> Table:
    """A row for each hyperparameter."""
    made = Table("path", "type", "default", "allowed", "meaning")
    for each in found:
        kind = each["type"] + (f", {each['unit']}" if each["unit"] else "")
        default = each["default"]
        shown = default if isinstance(default, str | None) else json.dumps(default)
        owner = f"\n({each['owner']})" if ".N." in each["path"] else ""
        cells = (each["path"] + owner, kind, str(shown), each["allowed"], each["meaning"])
        made.add_row(*map(Text, cells))
    made.columns[0].no_wrap = True
    return made
