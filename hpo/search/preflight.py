"""What can be known of a study before its first trial: what is wrong with it, and what it asks for.

Both are asked of the objective by methods that it need not have; one without them is taken at its
word.

    preflight(requests)                            raises ValueError in one sentence
    estimate(requests, together=N, timed=True)     JSON-able: `tokens` and `stored` ({"pretraining",
                                                   "finetuning"}), `tokens_per_second`, `seconds`,
                                                   `disk_bytes`, `parameters`, `device`, `notes`
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpo.core.objective import Params, Request
from hpo.core.spec import StudySpec
from hpo.search.unit_cube import sobol_point

MOST = 256
"""Requests that an objective is asked to estimate; assumed: enough for a mean."""


def check(spec: StudySpec) -> None:
    """Have the objective check what the study will ask for.

    Raises:
        ValueError: something is not there or does not go together.
    """
    method = getattr(spec.objective, "preflight", None)
    if method is not None:
        method(requests(spec))


def usable(spec: StudySpec, rung: float) -> bool:
    """Whether trials can be measured at a rung, such as that no warmup is longer than it."""
    method = getattr(spec.objective, "preflight", None)
    if method is None:
        return True
    try:
        method([
            Request(params=dict(params), fidelity=rung, seed=spec.seed)
            for params in _searched(spec)
        ])  # fmt: skip
    except ValueError:
        return False
    return True


def requests(spec: StudySpec) -> list[Request]:
    """The recipe as it is, every baseline and grid point, and both ends of each domain.

    What is searched is asked for at every rung, the whole horizon first; named points in full. A
    rung that nobody asked for is not checked here, as it is left out where it cannot be used.
    """
    named = [(point.params, (1.0,)) for point in spec.points]
    rungs = (1.0,) if spec.rungs == "auto" else tuple(reversed(spec.rungs))
    searched = [(params, rungs) for params in _searched(spec)]
    found: list[Request] = []
    for params, fidelities in [*named, *searched]:
        for fidelity in fidelities:
            request = Request(params=dict(params), fidelity=fidelity, seed=spec.seed)
            if request not in found:
                found.append(request)
    return found


def _searched(spec: StudySpec) -> Iterator[Params]:
    """Values of the space, one at a time; none where the named points are all there is."""
    if len(spec.planned) >= spec.trials:
        return
    yield {}
    for path, domain in spec.space.items():
        for value in domain.ends:
            yield {path: value}


def estimate(spec: StudySpec, finished: int, *, timed: bool = True) -> dict[str, Any] | None:
    """What the trials that are left would cost, by an objective's own `estimate`.

    It is asked for the named points that are left, and for points spread over the space in place of
    those that the search will choose; of many, for `MOST`, and what that takes is scaled up.
    None where the objective has no such method.
    """
    method = getattr(spec.objective, "estimate", None)
    left = _left(spec, finished)
    if method is None or not left:
        return None
    asked = left[:MOST]
    found: dict[str, Any] = method(asked, together=min(spec.wave, len(left)), timed=timed)
    return _scaled(found, len(left) / len(asked))


def _left(spec: StudySpec, finished: int) -> list[Request]:
    planned = [
        Request(params=dict(each.point.params), fidelity=1.0, seed=spec.seed + each.replicate)
        for each in spec.planned[finished : spec.trials]
    ]
    begun = max(finished, len(spec.planned))
    searched = [
        Request(params=sobol_point(spec.space, spec.seed, place), fidelity=1.0, seed=spec.seed)
        for place in range(begun, spec.trials)
    ]
    return [*planned, *searched]


def _scaled(found: dict[str, Any], factor: float) -> dict[str, Any]:
    """The amounts in an estimate, so many times; a rate or a size of the model stays."""
    if factor == 1:
        return found
    scaled = dict(found)
    for name in ("tokens", "stored"):
        scaled[name] = {part: amount * factor for part, amount in found.get(name, {}).items()}
    for name in ("seconds", "disk_bytes"):
        if found.get(name) is not None:
            scaled[name] = found[name] * factor
    return scaled
