"""`hpo dashboard`: optuna-dashboard on a run's storage."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from hpo import runs
from hpo.commands.words import DONE, command, whole
from hpo.dashboard import serve


def add(commands: Any) -> list[argparse.ArgumentParser]:
    """`hpo dashboard`."""
    added = command(commands, "dashboard", run, "optuna-dashboard on the run, on this machine")
    added.add_argument("run", metavar="RUN", help="a run's name or folder")
    added.add_argument(
        "--port", type=whole(1, 65535), default=8080, metavar="N", help="8080 by default"
    )
    added.add_argument("--writable", action="store_true", help="allow changes from the page")
    return [added]


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Serve until interrupted."""
    place = runs.find_place(arguments.run, arguments.out, arguments.storage)
    serve(
        place.url,
        place.name,
        arguments.port,
        lambda text: print(text, flush=True),
        writable=arguments.writable,
    )
    return DONE
