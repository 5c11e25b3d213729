"""Params of recorded trials, held against the study's settings: a database may have been edited.

A searched trial's params are in its domains. A baseline or grid point has the params that the
settings name; those may be outside a range, but are no text where the range has numbers. A trial
that repeats another has its params, and what Optuna's own tables hold of a trial is the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpo.core.domains import fits, within
from hpo.core.rows import DamagedRow

NEARLY = 1e-9
"""Relative; a server may print a float with fewer digits than it has."""


@dataclass(frozen=True)
class Recorded:
    """What a database holds of a trial's params."""

    number: int
    params: Mapping[str, Any]
    asked: bool
    """Whether this program began it; another may have added one, in domains of its own."""
    name: str | None = None
    """Of a baseline or grid point."""
    replicate_of: int | None = None
    indexed: Mapping[str, Any] = field(default_factory=dict)
    """Those in Optuna's table of params."""


def check_params(trials: Iterable[Recorded], settings: Mapping[str, Any]) -> None:
    """Check the params of a study's trials, in order; `settings` is what `spec_data` has made.

    Raises:
        DamagedRow: a value, a name or a repeated trial is not one that the trial can have.
    """
    known: dict[int, Mapping[str, Any]] = {}
    named = _named(settings)
    for trial in trials:
        expected = [trial.indexed, *_expected(trial, named, known)]
        path = _odd(trial, settings["space"]) or _other(trial.params, expected)
        if path is not None:
            raise DamagedRow(f"trial {trial.number} has a value of {path} that it cannot have")
        known[trial.number] = trial.params


def _expected(
    trial: Recorded,
    named: Mapping[str, Mapping[str, Any]],
    known: Mapping[int, Mapping[str, Any]],
) -> Iterator[Mapping[str, Any]]:
    """Params that a trial of this program has by its name, and by the trial that it repeats."""
    if not trial.asked:
        return
    if trial.name is not None:
        if trial.name not in named:
            raise DamagedRow(f"the settings have no point named as trial {trial.number} is")
        yield named[trial.name]
    if trial.replicate_of is not None:
        if trial.replicate_of not in known:
            raise DamagedRow(f"trial {trial.number} cannot repeat trial {trial.replicate_of}")
        yield known[trial.replicate_of]


def _named(settings: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The params of baselines and grid points by name."""
    return dict([*settings.get("baselines", []), *settings.get("grid", [])])


def _odd(trial: Recorded, space: Mapping[str, Mapping[str, Any]]) -> str | None:
    """A parameter of the space whose value the trial cannot have."""
    searched = trial.asked and trial.name is None and trial.replicate_of is None
    for path, domain in space.items():
        if path not in trial.params:
            if trial.asked:
                return path
            continue
        value = trial.params[path]
        if not fits(domain, value) or (searched and not within(domain, value)):
            return path
    return None


def _other(params: Mapping[str, Any], expected: Iterable[Mapping[str, Any]]) -> str | None:
    """A parameter that is something else than it is elsewhere."""
    for path, value in [item for each in expected for item in each.items()]:
        if path not in params or not _same(params[path], value):
            return path
    return None


def _same(found: Any, expected: Any) -> bool:
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=NEARLY)
    return bool(found == expected)
