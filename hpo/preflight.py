"""What can be known of a study before its first trial: what is wrong with it, and what it asks for.

An objective that has a method `preflight(requests)` checks them and raises ValueError in one
sentence; one without it is taken at its word.
"""

from __future__ import annotations

from collections.abc import Iterator

from hpo.spec import Params, Request, StudySpec, ends


def check(spec: StudySpec) -> None:
    """Have the objective check what the study will ask for.

    Raises:
        ValueError: something is not there or does not go together.
    """
    method = getattr(spec.objective, "preflight", None)
    if method is not None:
        method(requests(spec))


def requests(spec: StudySpec) -> list[Request]:
    """The recipe as it is, every baseline and grid point, and both ends of each domain.

    What is searched is asked for at every rung, the whole horizon first; named points in full.
    """
    named = [(point.params, (1.0,)) for point in spec.points]
    searched = [(params, tuple(reversed(spec.rungs))) for params in _searched(spec)]
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
        for value in ends(domain):
            yield {path: value}
