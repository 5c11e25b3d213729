"""The command line's parser, made of the table of commands.

What is wrong is one line with a near name, and exit code 2.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from hpo.cli.commands import COMMANDS, SECTIONS, STORE_HELP
from hpo.cli.options import OPTIONS, USAGE, Command, Option
from hpo.core.format import escape_controls
from hpo.core.passwords import mask, shown

DISTRIBUTION = "plasticity-hpo"


HELP_COLUMN = 26


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
        known = [
            each
            for each, action in self._option_string_actions.items()
            if each.startswith("--") and action.help != argparse.SUPPRESS
        ]
        return f"there is no option {name!r}{_near(name, known)}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(each) for each in action.choices]
            hint = _near(str(value), known) or f", choose one of {', '.join(known)}"
            raise argparse.ArgumentError(action, f"invalid choice: {shown(str(value))!r}{hint}")


def parser() -> Parser:
    """All commands and their options."""
    top = _parser(
        prog="hpo",
        usage="hpo COMMAND [options]",
        description="Searches pretraining hyperparameters for plasticity.",
        epilog=f"{_listing()}\n\nhpo COMMAND --help has the options and examples of a command.",
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = top.add_subparsers(
        required=True, metavar="COMMAND", help=argparse.SUPPRESS, prog="hpo"
    )
    actions: Any = None
    for command in COMMANDS.values():
        above, _, word = command.name.rpartition(" ")
        if above and actions is None:
            words = "|".join(each.split()[1] for each in COMMANDS if each.startswith(f"{above} "))
            store = commands.add_parser(above, usage=f"hpo {above} {words}", description=STORE_HELP)
            actions = store.add_subparsers(required=True, metavar=words, prog=f"hpo {above}")
        _add(actions if above else commands, word, command)
    return top


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *given: Any) -> NoReturn:
        print(f"hpo {version()}")
        parser.exit()


def version() -> str:
    """The version that is installed."""
    from importlib import metadata  # which takes as long as all the rest of the parser

    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def help_without_command(words: Sequence[str]) -> bool:
    """Print the help if there is nothing else to do."""
    if words:
        return False
    parser().print_help(sys.stderr)
    return True


def _listing() -> str:
    """The commands by section, for the help."""
    lines = []
    for title, section in SECTIONS.items():
        lines.append(f"{title}:")
        lines += [f"  {each.name:<14}{each.help}" for each in section]
    return "\n".join(lines)


def _parser(**given: Any) -> Parser:
    def formatter(prog: str) -> argparse.HelpFormatter:
        return argparse.RawDescriptionHelpFormatter(prog, max_help_position=HELP_COLUMN)

    return Parser(formatter_class=formatter, **given)


def _add(commands: Any, word: str, command: Command) -> None:
    arguments = [each for each in command.options if not each.name.startswith("-")]
    required = [f"{each.name} {each.metavar}" for each in command.options if each.required]
    usage = " ".join(["hpo", command.name, *map(_place, arguments), *required, "[options]"])
    added: Parser = commands.add_parser(
        word,
        help=command.help,
        usage=usage,
        description=f"{command.help[0].upper()}{command.help[1:]}.",
        epilog="\n".join(["examples:", *(f"  {line}" for line in command.examples)]),
        formatter_class=_parser().formatter_class,
    )
    added.set_defaults(command=command, parser=added)
    for group in command.groups:
        where: Any = added
        if group.title != OPTIONS:
            where = added.add_argument_group(group.title)
        where = where.add_mutually_exclusive_group(required=True) if group.exclusive else where
        for option in group.options:
            _add_option(where, option)


def _place(option: Option) -> str:
    """An argument in the usage."""
    name = option.metavar
    return {None: f"{name}", "?": f"[{name}]", "+": f"{name} [{name} ...]"}[option.nargs]


def _add_option(where: Any, option: Option) -> None:
    if option.metavar is None:
        where.add_argument(option.name, action="store_true", help=option.help)
        return
    given: dict[str, Any] = {"type": option.type, "default": option.default}
    if option.choices:
        given["choices"] = option.choices
    if option.nargs is not None:
        given["nargs"] = option.nargs
    if option.name.startswith("-"):
        given["dest"] = option.dest
        given["required"] = option.required
    if option.repeats:
        given |= {"action": "append", "default": []}
    where.add_argument(option.name, metavar=option.metavar, help=option.help, **given)
    if option.old is not None:
        where.add_argument(option.old, help=argparse.SUPPRESS, **given)


def _near(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f", did you mean {found[0]}?" if found else ""
