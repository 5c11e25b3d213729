"""What a command line is described with: options, groups of them, and commands.

Plain data, so that the parser, the help and the completion of shells are made of the same, and
nothing of what a command does is imported before it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes."""


OPTIONS = "options"
"""Title of the group of options that need no other."""


@dataclass(frozen=True)
class Option:
    """One option, a flag, or an argument without dashes."""

    name: str
    """Such as --trials; without dashes it is an argument that is given by its place."""
    metavar: str | None
    """None for a flag. RUN and STUDY are completed with the names that there are."""
    help: str
    type: Callable[[str], Any] = str
    field: str | None = None
    """Attribute of the parsed arguments; in `hpo run` the field of StudyRequest or of an executor's
    Options that is set. None: the name."""
    default: Any = None
    required: bool = False
    repeats: bool = False
    """Whether it may be given several times; its value is a list."""
    nargs: str | None = None
    """Of an argument: "?" for one that may be left out, "+" for several."""
    choices: Sequence[str] = ()
    suggests: Sequence[str] = ()
    """Words that completion offers, among others that are allowed."""
    old: str | None = None
    """An earlier spelling, which still works and is not shown."""

    @property
    def dest(self) -> str:
        """The attribute of the parsed arguments."""
        return self.field or self.name.removeprefix("--").replace("-", "_")

    @property
    def words(self) -> Sequence[str]:
        """What completion offers."""
        return (*self.choices, *self.suggests)


@dataclass(frozen=True)
class Group:
    """Options under a title in the help."""

    title: str
    options: tuple[Option, ...]
    exclusive: bool = False
    """Whether exactly one of them has to be given."""


@dataclass(frozen=True)
class Command:
    """A command, its options and where its work is."""

    name: str
    """Two words for an action of a command, such as `store show`."""
    work: str
    """MODULE:FUNCTION, which takes the parsed arguments and returns an exit code."""
    help: str
    groups: tuple[Group, ...]
    examples: tuple[str, ...]

    @property
    def options(self) -> list[Option]:
        """Those of all groups."""
        return [option for group in self.groups for option in group.options]
