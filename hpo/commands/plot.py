"""`hpo plot`: a figure as a picture, a page, or data."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpo import exhibits, gallery, runs
from hpo.commands.words import DONE, command


def add(commands: Any) -> list[argparse.ArgumentParser]:
    """`hpo plot`."""
    added = command(commands, "plot", run, "a figure as picture, page or data")
    added.add_argument("run", metavar="RUN", help="a run's name or folder")
    added.add_argument("figure", metavar="FIGURE", nargs="?", help="without one they are listed")
    added.add_argument(
        "--to", type=Path, metavar="FILE", help="ends in .png, .svg, .pdf, .html, .csv, .parquet "
        "or .json; FIGURE.png by default",
    )  # fmt: skip
    return [added]


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Write the figure and print its path, or list the figures there are."""
    record = runs.read(runs.find_place(arguments.run, arguments.out, arguments.storage))
    if arguments.figure is None:
        table = Table("figure", "shows", title="Figures", title_justify="left")
        for name, each in exhibits.exhibits(record).items():
            table.add_row(Text(name), Text(each.what))
        console.print(table)
        return DONE
    found = exhibits.exhibit(record, arguments.figure)
    path = arguments.to or Path(f"{_file_name(arguments.figure)}.png")
    print(gallery.write(found, arguments.figure, path).absolute())
    return DONE


def _file_name(figure: str) -> str:
    """The figure's name without what would lead out of the folder."""
    return "".join(each if each.isalnum() or each in "-_." else "_" for each in figure).lstrip(".")
