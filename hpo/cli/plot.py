"""`hpo plot`: a figure, or all of them, as pictures, pages, or data."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Mapping
from pathlib import Path

from rich.table import Table
from rich.text import Text

from hpo.cli.console import new_console, print_path
from hpo.cli.options import DONE
from hpo.core.format import escape_controls
from hpo.report.plots import files, registry
from hpo.report.plots.registry import Exhibit
from hpo.report.results import Results
from hpo.storage import run_folder

FORMAT = "png"


def run(arguments: argparse.Namespace) -> int:
    """Write the figure and print its path, or list the figures there are."""
    _check(arguments)
    place = run_folder.find_run(arguments.run, arguments.out, arguments.storage)
    results = Results(run_folder.read(place))
    ending = arguments.format or FORMAT
    if arguments.all:
        name = _file_name(results.run.name)
        _write_all(results, arguments.to or Path(f"{name}-figures"), ending)
        return DONE
    if arguments.figure is None:
        new_console().print(listed(registry.exhibits(results)))
        return DONE
    found = registry.exhibit(results, arguments.figure)
    path = arguments.to or Path(f"{_file_name(arguments.figure)}.{ending}")
    print_path(files.write(found, arguments.figure, path, results.run.name))
    return DONE


def _check(arguments: argparse.Namespace) -> None:
    """Raises ValueError where options contradict each other."""
    if arguments.all:
        if arguments.figure is not None:
            raise ValueError(
                f"--all writes every figure; leave out {arguments.figure!r}, or --all."
            )
        if arguments.to is not None and _ending(arguments.to) in files.WRITERS:
            raise ValueError(
                f"--all writes into a folder, got --to {arguments.to}; give a folder, and "
                f"--format {_ending(arguments.to)}."
            )
        return
    if arguments.figure is None and (arguments.to is not None or arguments.format is not None):
        raise ValueError("name a FIGURE to write, or give --all for every figure.")
    if arguments.format is not None and arguments.to is not None:
        raise ValueError("the ending of the file in --to is its format; leave out --format.")


def _ending(path: Path) -> str:
    return path.suffix.lower().removeprefix(".")


def listed(found: Mapping[str, Exhibit]) -> Table:
    table = Table("figure", "shows", title="Figures", title_justify="left")
    for name, each in found.items():
        table.add_row(Text(name), Text(each.what))
    return table


def _write_all(results: Results, folder: Path, ending: str) -> None:
    """Every figure that has data, a line for each, and why the others are left out."""
    found, taken, drawn = registry.exhibits(results), set[str](), False
    pictures = ending in files.PICTURES
    with files.one_browser() if pictures else contextlib.nullcontext():
        for name, each in found.items():
            if not each.rows:
                print(escape_controls(f"{name}: skipped, there is no data for it."))
                continue
            file = _file_name(name)
            while file in taken:  # names that differ in what no file has in its name
                file += "_"
            taken.add(file)
            try:
                path = files.write(each, name, folder / f"{file}.{ending}", results.run.name)
            except files.NoBrowser as error:
                if not drawn:  # nothing draws pictures here
                    raise
                print(escape_controls(f"{name}: skipped, {error}"))
                continue
            drawn = True
            print_path(path)
    for name, reason in registry.missing(results.run, found).items():
        print(f"{name}: skipped, {reason}")


def _file_name(figure: str) -> str:
    """The figure's name without what would lead out of the folder."""
    return "".join(each if each.isalnum() or each in "-_." else "_" for each in figure).lstrip(".")
