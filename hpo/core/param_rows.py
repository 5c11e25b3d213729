"""Params of recorded trials, held against the study's settings: a database may have been edited.

A searched trial's params are in its domains. A baseline or grid point has the params that the
settings name; those may be outside a range, but are no text where the range has numbers. A trial
that repeats another has its params, and what Optuna's own tables hold of a trial is the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hpo.core.domains import Domain
from hpo.core.objective import Params
from hpo.core.rows import DamagedRow
from hpo.core.trial import Trial

NEARLY = 1e-9
"""Relative; a server may print a float with fewer digits than it has."""


def check_params(
    trials: Sequence[Trial],
    indexed: Sequence[Params],
    space: Mapping[str, Domain],
    named: Mapping[str, Params],
) -> None:
    """Check the params of a study's trials.

    Args:
        indexed: Params of each trial as they are in Optuna's own table.
        named: Params of baselines and grid points by name.

    Raises:
        DamagedRow: a value, a name or a repeated trial is not one that the trial can have.
    """
    known: dict[int, Params] = {}
    named = dict(named)
    pairs = zip(trials, indexed, strict=True)
    for trial, own in sorted(pairs, key=lambda pair: pair[0].number):
        path = _odd(trial, space) or _other(trial.params, [own, *_expected(trial, named, known)])
        if path is not None:
            raise DamagedRow(f"trial {trial.number} has a value of {path} that it cannot have")
        known[trial.number] = trial.params
        if trial.name is not None and trial.asks:  # at its other seeds it has the same
            named[trial.name] = trial.params


def _expected(
    trial: Trial, named: Mapping[str, Params], known: Mapping[int, Params]
) -> Iterator[Params]:
    """Params that a trial of this program has by its name, and by the trial that it repeats."""
    if not trial.asks:  # another program has added it, in domains of its own
        return
    if trial.name is not None:
        if trial.name not in named:
            raise DamagedRow(f"the settings have no point named as trial {trial.number} is")
        yield named[trial.name]
    if trial.replicate_of is not None:
        if trial.replicate_of not in known:
            raise DamagedRow(f"trial {trial.number} cannot repeat trial {trial.replicate_of}")
        yield known[trial.replicate_of]


def _odd(trial: Trial, space: Mapping[str, Domain]) -> str | None:
    """A parameter of the space whose value the trial cannot have."""
    searched = bool(trial.asks) and trial.kind == "proposed"
    for path, domain in space.items():
        if path not in trial.params:
            if trial.asks:
                return path
            continue
        value = trial.params[path]
        if not domain.fits(value) or (searched and not domain.contains(value)):
            return path
    return None


def _other(params: Params, expected: Iterable[Params]) -> str | None:
    """A parameter that is something else than it is elsewhere."""
    for path, value in [item for each in expected for item in each.items()]:
        if path not in params or not _same(params[path], value):
            return path
    return None


def _same(found: Any, expected: Any) -> bool:
    if isinstance(found, float) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=NEARLY)
    return bool(found == expected)
