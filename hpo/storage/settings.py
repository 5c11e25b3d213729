"""A study's settings as its record has them: what decides its proposals and results.

The number of trials and budgets do not, so that a study can be extended.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from hpo.core.domains import Domain
from hpo.core.goals import Goal, Limit
from hpo.core.objective import Params
from hpo.core.rows import DamagedRow
from hpo.core.spec import StudySpec


def spec_data(spec: StudySpec) -> dict[str, Any]:
    """The settings as they come back from a record."""
    limits = [[limit.metric, _bound(limit.low), _bound(limit.high)] for limit in spec.limits]
    data = {
        "objective": spec.objective.describe(),
        "space": {path: domain.to_dict() for path, domain in spec.space.items()},
        "goals": [[goal.metric, goal.direction] for goal in spec.goals],
        "limits": limits,
        "baselines": [[each.name, dict(each.params)] for each in spec.baselines],
        **_unless_default(spec),
        "wave": spec.wave,
        "sampler": spec.sampler,
        "seed": spec.seed,
    }
    return dict(json_roundtrip(data))


def _unless_default(spec: StudySpec) -> dict[str, Any]:
    """Absent where it is the default, as in records from before there was any."""
    found: dict[str, Any] = {}
    if spec.grid:
        found["grid"] = [[each.name, dict(each.params)] for each in spec.grid]
    if spec.replicates > 1:
        found["replicates"] = spec.replicates
    if spec.rungs != "auto":
        found["rungs"] = spec.rungs
    if spec.finetune_at_rungs != "where it pays":
        found["finetune_at_rungs"] = spec.finetune_at_rungs
    if spec.priors:
        found["priors"] = {path: [prior.centre, prior.width] for path, prior in spec.priors.items()}
    if spec.replicate_share:  # records from before it was the default lack it
        found["replicate_share"] = spec.replicate_share
    return found


def _bound(value: float) -> float | None:
    return value if math.isfinite(value) else None


def space_of(settings: Mapping[str, Any]) -> dict[str, Domain]:
    """The space that settings name.

    Raises:
        DamagedRow: a domain is none.
    """
    try:
        return {path: Domain.from_dict(data) for path, data in settings["space"].items()}
    except ValueError as error:
        raise DamagedRow(f"in its settings: {error}") from None


def named_params(settings: Mapping[str, Any]) -> dict[str, Params]:
    """The params of baselines and grid points by name."""
    return dict([*settings.get("baselines", []), *settings.get("grid", [])])


def goals_of(settings: Mapping[str, Any]) -> tuple[Goal, ...]:
    """The goals that settings name."""
    return tuple(Goal(metric=metric, direction=way) for metric, way in settings["goals"])


def limits_of(settings: Mapping[str, Any]) -> tuple[Limit, ...]:
    """The limits that settings name."""
    return tuple(
        Limit(
            metric=metric,
            low=-math.inf if low is None else low,
            high=math.inf if high is None else high,
        )
        for metric, low, high in settings["limits"]
    )


def json_roundtrip(data: Any) -> Any:
    """JSON-able data as it comes back from the storage (tuples as lists)."""
    return json.loads(json.dumps(data))
