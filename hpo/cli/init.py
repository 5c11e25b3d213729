"""`hpo init`: a commented study file for somebody's text and tasks."""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

from hpo.cli.options import DONE
from hpo.core import files
from hpo.core.spec import plain_name

WRITER = "objectives.scaffold"
"""Module that knows recipes, run as a program since this package imports none of them."""


def run(arguments: argparse.Namespace) -> int:
    """Write the file, print what to do with it; nothing is asked or overwritten."""
    path = Path(arguments.file)
    if path.suffix != ".py":
        raise ValueError(f"a study file ends in .py, got {arguments.file!r}; add the ending.")
    exists = f"{path} exists and is kept; give another name, as hpo init NAME.py."
    if path.exists():
        raise ValueError(exists)
    name = plain_name(path.stem if arguments.name is None else arguments.name)
    text = _written({
        "name": name, "file": str(path), "corpus": arguments.corpus, "tasks": arguments.tasks,
    })  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        files.write_new(path, text)
    except FileExistsError:
        raise ValueError(exists) from None
    print(f"Wrote {path}. Next: hpo check {path}, then hpo run {path}")
    return DONE


def _written(wanted: dict[str, object]) -> str:
    if importlib.util.find_spec("objectives") is None:
        raise ValueError("the package `objectives` is not installed; run pip install -e . again.")
    line = [sys.executable, "-P", "-m", WRITER]
    done = subprocess.run(
        line, input=json.dumps(wanted), capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ValueError(reason)
    return done.stdout
