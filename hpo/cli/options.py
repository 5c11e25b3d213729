"""What every command is made of: sub-commands, exit codes, and values with units."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from hpo.cli.values import count, gigabytes, rate, seconds, setting, share, whole

__all__ = [
    "DONE",
    "FAILED",
    "INTERRUPTED",
    "USAGE",
    "command",
    "count",
    "gigabytes",
    "rate",
    "seconds",
    "setting",
    "share",
    "whole",
]


DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def command(
    commands: Any, name: str, function: Callable[..., int], text: str
) -> argparse.ArgumentParser:
    """A new command that calls `function(arguments, console)` for its exit code."""
    added: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    added.set_defaults(command=function, parser=added)
    return added
