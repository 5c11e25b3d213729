"""The command line's parser: what is wrong is one line with a near name, and exit code 2."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from typing import Any, NoReturn

from hpo.core.format import escape_controls
from hpo.core.passwords import mask, shown

USAGE = 2


DISTRIBUTION = "plasticity-hpo"


class Parser(argparse.ArgumentParser):
    """A parser that complains in one line."""

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """As argparse does, with a suggestion for an option that there is not."""
        first = args[0] if args else ""
        if first.startswith("-") and not self._has(first):
            self.error(self._unknown([first]))
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            chosen: Parser = getattr(found, "parser", self)
            chosen.error(chosen._unknown(unknown))
        return found

    def error(self, message: str) -> NoReturn:
        """Print the message in one line and exit."""
        text = escape_controls(mask(" ".join(message.split())))
        self.exit(USAGE, f"hpo: {text}; see {self.prog} --help\n")

    def _has(self, option: str) -> bool:
        name = option.split("=")[0]
        return any(each.startswith(name) for each in self._option_string_actions)

    def _unknown(self, unknown: Sequence[str]) -> str:
        options = [each for each in unknown if each.startswith("-")]
        if not options:
            return f"unexpected argument {shown(unknown[0])!r}"
        name = shown(options[0].split("=")[0])
        known = [each for each in self._option_string_actions if each.startswith("--")]
        return f"there is no option {name!r}{_near(name, known)}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(each) for each in action.choices]
            hint = _near(str(value), known) or f", choose one of {', '.join(known)}"
            raise argparse.ArgumentError(action, f"invalid choice: {shown(str(value))!r}{hint}")


def top(description: str) -> Parser:
    """The parser of `hpo` itself."""
    made = Parser(prog="hpo", description=description)
    made.add_argument("--version", action="version", version=f"hpo {version()}")
    return made


def version() -> str:
    """The version that is installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def help_without_command(parser: argparse.ArgumentParser, words: Sequence[str]) -> bool:
    """Print the help if there is nothing else to do."""
    if words:
        return False
    parser.print_help(sys.stderr)
    return True


def _near(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {found[0]}?" if found else ""
