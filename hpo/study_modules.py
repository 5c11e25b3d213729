"""Running a study file of Python, and saying in one sentence where it fails."""

from __future__ import annotations

import builtins
import contextlib
import difflib
import importlib
import importlib.util
import os
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path


def execute(path: Path) -> types.ModuleType:
    """The module that a study file makes.

    Raises:
        ValueError: it cannot be run; with the line and the reason.
    """
    name = f"_study_{path.stem}"
    loaded = importlib.util.spec_from_file_location(name, path)
    if loaded is None or loaded.loader is None:
        raise ValueError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(loaded)
    sys.modules[name] = module
    try:
        with _as_it_was(path.parent):
            loaded.loader.exec_module(module)
    except (Exception, SystemExit, GeneratorExit) as error:
        raise ValueError(f"the study file {path} is broken: {_where(error, path)}") from error
    return module


@contextlib.contextmanager
def _as_it_was(folder: Path) -> Iterator[None]:
    """Run a study file of this folder as `python` would, and set back what it may have changed.

    Modules beside it are found. What it prints goes to standard error, since commands print data;
    where it changes the working folder, the folders of the command line are still those meant.
    """
    added, here = str(folder), Path.cwd()
    sys.path.insert(0, added)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        with contextlib.suppress(ValueError):  # it has taken that out
            sys.path.remove(added)
        os.chdir(here)


def _where(error: BaseException, path: Path) -> str:
    """The error's kind, place in the file and first line."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == path:
            line = trace.tb_lineno
        trace = trace.tb_next
    text = error.msg if isinstance(error, SyntaxError) else " ".join(str(error).split())
    place = f"line {line}: " if line is not None else ""
    is_sentence = type(error) is ValueError and text  # raised by this program
    kind = "" if is_sentence else type(error).__name__
    return f"{place}{': '.join(filter(None, (kind, text)))}{_suggestion(error)}"


def _suggestion(error: BaseException) -> str:
    """The near one of the names that were there, after a name that was not."""
    name, known = "", list[str]()
    if isinstance(error, AttributeError):
        name, known = error.name or "", dir(error.obj)
    elif isinstance(error, NameError):
        name, known = error.name or "", list(_names_at(error))
    elif isinstance(error, ImportError) and error.name in sys.modules:
        found = re.match(r"cannot import name '(\w+)'", str(error))
        name, known = found[1] if found else "", dir(sys.modules[error.name])
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if name and near else ""


def _names_at(error: BaseException) -> set[str]:
    """The names that were defined where the error was raised."""
    trace, frame = error.__traceback__, None
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
    return set() if frame is None else {*frame.f_locals, *frame.f_globals, *dir(builtins)}
