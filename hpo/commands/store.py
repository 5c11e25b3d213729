"""`hpo store`: what finished stages there are, and which go."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich.console import Console
from rich.text import Text

from hpo import runs, stages
from hpo.commands.words import DONE, command, gigabytes, seconds


def add(commands: Any) -> list[argparse.ArgumentParser]:
    """`hpo store show` and `hpo store prune`."""
    text = "finished stages: what is there, what should go"
    store = commands.add_parser("store", help=text, description=text)
    actions = store.add_subparsers(required=True, metavar="show|prune")
    shown = command(actions, "show", show, "sizes, and what was saved")
    shown.add_argument("--json", action="store_true", help="for programs")
    pruned = command(actions, "prune", prune, "free space; what is in use stays")
    one = pruned.add_mutually_exclusive_group(required=True)
    one.add_argument("--budget", type=gigabytes, metavar="GB", help="the least useful go first")
    one.add_argument(
        "--older-than", type=seconds, metavar="TIME", help="unused for so long, such as 12h, 7d"
    )
    one.add_argument("--damaged", action="store_true", help="read all, drop what is not whole")
    one.add_argument("--stage", metavar="NAME", help="all of one stage that store show lists")
    pruned.add_argument("--dry-run", action="store_true", help="only say what would go")
    return [shown, pruned]


def show(arguments: argparse.Namespace, console: Console) -> int:
    """Print sizes, as a table or for programs."""
    folder = arguments.out / runs.STORE
    data = stages.store_json(folder, stages.found(folder), stages.saved(arguments.out))
    if arguments.json:
        print(json.dumps(data, indent=1, allow_nan=False))
    else:
        console.print(stages.store_table(data))
    return DONE


def prune(arguments: argparse.Namespace, console: Console) -> int:
    """Drop stages, and say which."""
    folder = arguments.out / runs.STORE
    if arguments.stage is not None:
        there = sorted(
            {each.stage for each in stages.found(folder)} - {stages.LEFT_OVER, stages.FOREIGN}
        )
        if arguments.stage not in there:
            raise ValueError(f"no stage {arguments.stage!r} in {folder}; there are {there}.")
        criterion = [f"--stage={arguments.stage}"]
    elif arguments.budget is not None:
        criterion = [f"--budget-gb={arguments.budget}"]
    elif arguments.older_than is not None:
        criterion = [f"--older-than-s={arguments.older_than}"]
    else:
        criterion = ["--damaged"]
    gone = stages.pruned(folder, criterion, dry_run=arguments.dry_run)
    left = stages.found(folder)
    console.print(
        Text(stages.prune_sentence(gone, left, dry_run=arguments.dry_run)), soft_wrap=True
    )
    return DONE
