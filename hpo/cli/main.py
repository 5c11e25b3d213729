"""The command line: parses it, imports the command's work, and turns errors into exit codes.

Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted with its state kept.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from hpo.cli import streams
from hpo.cli.options import FAILED, INTERRUPTED, USAGE, Command
from hpo.cli.parser import help_without_command, parser
from hpo.core import files
from hpo.core.failures import ObjectiveError, StorageError
from hpo.core.format import escape_controls
from hpo.core.passwords import mask, shown
from hpo.executors.interrupts import Interrupted

SENTENCES = (ValueError, StorageError, MemoryError, ObjectiveError)
"""Errors whose text is a sentence for the user; of others the kind is shown too."""


OBJECTIVES_SENTENCES = ("StoreError", "RanksError")
"""The same, of a package that is not imported here."""


NO_MEMORY = (
    "there is not enough memory; end other programs, raise the limit (ulimit -v, or the "
    "container's), or make the input or the model smaller. What is finished is kept."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    with streams.lasting() as out, streams.plain_warnings():
        if help_without_command(words):
            return USAGE
        arguments = parser().parse_args(words)
        measures = arguments.command.name == "run"
        if out is not None:
            out.tells_of_pipe = measures
        code = _do(arguments, words)
        if out is None or measures:
            return code
        out.flush()
        cut = out.error is not None and not isinstance(out.error, BrokenPipeError)
        return FAILED if cut else code


def _do(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    arguments.command_line = shlex.join(["hpo", *map(shown, words)])
    try:
        return _work(arguments.command)(arguments)
    except ValueError as error:
        return _complain(error, USAGE)
    except OSError as error:
        return _complain(RuntimeError(files.sentence(error)), FAILED, expected=True)
    except (RuntimeError, MemoryError) as error:
        return _complain(error, FAILED)
    except (Interrupted, KeyboardInterrupt):
        return INTERRUPTED


def _work(command: Command) -> Callable[[argparse.Namespace], int]:
    """What the command does, imported now."""
    module, _, name = command.work.partition(":")
    found: Callable[[argparse.Namespace], int] = getattr(import_module(module), name)
    if "optuna" in sys.modules:  # which tells of each trial otherwise
        optuna_logging = import_module("optuna.logging")
        optuna_logging.set_verbosity(optuna_logging.ERROR)
    return found


def _complain(error: Exception, code: int, *, expected: bool = False) -> int:
    kind = type(error).__name__
    expected = expected or isinstance(error, SENTENCES) or kind in OBJECTIVES_SENTENCES
    reason = str(error) or (NO_MEMORY if isinstance(error, MemoryError) else kind)
    text = escape_controls(mask(" ".join(reason.split())))
    print(f"hpo: {text}" if expected else f"hpo: {kind}: {text}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
