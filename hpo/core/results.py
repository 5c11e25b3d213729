"""What an objective gives, turned into plain data at one place; what is no number fails the trial.

An objective may be anybody's. Its numbers may be NumPy's scalars, arrays and tensors without axes,
Decimal, Fraction or booleans (1 and 0): all become floats. Anything else as a metric, such as None,
text, a list or an integer beyond the range of floats, fails that trial with a sentence that names
the metric, so that nothing in a record is ever anything but a number. A metric beyond 1e100 counts
as infinite: what is computed from metrics, such as variances and volumes, would not fit floats. A
curve or a cost that is not as it should be is left out with a note: it is no trial's fault.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Real
from typing import Any

from hpo.core.checks import shown

FIELDS = ("metrics", "curves", "cost", "failure", "notes", "labels", "row_scores")


MOST_SIZE = 1e100
"""Of a metric: the product of three of its size is still a float."""


MOST_TEXT = 2000
"""Characters of a note, label or reason."""


MOST_NAMED = 5
"""Things of one kind that a note names."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """What came of one request, in plain data; see `hpo.core.objective.Result`."""

    metrics: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[list[float]]] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    failure: str | None = None
    notes: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    row_scores: dict[str, list[list[float]]] = field(default_factory=dict)


class ResultsError(ValueError):
    """An objective gave something else than one result a request."""


def results(given: object, count: int) -> list[TrialResult]:
    """What an objective gave for so many requests.

    Raises:
        ResultsError: it is no list of so many.
    """
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ResultsError(
            f"the objective gave {described(given)} instead of a list of results, one a request"
        )
    found = list(given)
    if len(found) != count:
        raise ResultsError(f"the objective gave {len(found)} results for {count} requests")
    return [result(each) for each in found]


def result(given: object) -> TrialResult:
    """One result in plain data; a failed one where it is none or a metric is no number."""
    parts = {name: _attribute(given, name) for name in FIELDS}
    if parts["metrics"] is None and parts["failure"] is None:
        return TrialResult(
            failure=f"the objective gave {described(given)} instead of a result, which has "
            "metrics, curves, cost, failure, notes and labels (hpo.core.objective.Result)"
        )
    metrics, broken = numbers(parts["metrics"])
    curves, no_curves = curves_of(parts["curves"])
    cost, no_cost = costs(parts["cost"])
    notes = [*texts(parts["notes"]), *left_out("curves", no_curves), *left_out("cost", no_cost)]
    failure = failure_text(parts["failure"])
    if failure is None and broken:
        failure = f"the objective gave {_named(broken)}; a metric must be one number"
    elif broken:
        notes += left_out("metrics", broken)
    labels = texts(parts["labels"])
    row_scores, no_rows = row_scores_of(parts["row_scores"])
    notes += left_out("row scores", no_rows)
    return TrialResult(
        metrics=metrics,
        curves=curves,
        cost=cost,
        failure=failure,
        notes=notes,
        labels=labels,
        row_scores=row_scores,
    )


def number(value: object) -> float:
    """A single number as a float; NaN and infinities stay.

    Raises:
        ValueError: it is none, or beyond the range of floats.
    """
    if type(value) is float:  # of long curves nearly all
        return value
    try:
        item = getattr(value, "item", None)
        plain = item() if callable(item) and getattr(value, "shape", None) == () else value
        if not isinstance(plain, Real | Decimal):
            raise ValueError("not a number")
        found = float(plain)
        if math.isinf(found) and plain != found:
            raise OverflowError
    except Exception as error:  # conversions of anybody's types may raise anything
        raise ValueError(f"{described(value)} is no number within the range of floats") from error
    return found


def bounded(value: float) -> float:
    """The value, infinite where it is too large to compute with."""
    return math.copysign(math.inf, value) if abs(value) > MOST_SIZE else value


def numbers(given: object) -> tuple[dict[str, float], dict[str, object]]:
    """Metrics by name, and those that are no numbers."""
    if given is None:
        return {}, {}
    if not isinstance(given, Mapping):
        return {}, {"all metrics": given}
    found: dict[str, float] = {}
    broken: dict[str, object] = {}
    for name, value in given.items():
        try:
            if not isinstance(name, str):
                raise ValueError("not a name")
            found[text(name)] = bounded(number(value))
        except ValueError:
            broken[text(name)] = value if isinstance(name, str) else name
    return found, broken


def costs(given: object) -> tuple[dict[str, float], dict[str, object]]:
    """Costs by name, and those that are no finite numbers of at least 0."""
    found, broken = numbers(given)
    wrong = {name: value for name, value in found.items() if not 0 <= value < math.inf}
    kept = {name: value for name, value in found.items() if name not in wrong}
    return kept, broken | wrong


def texts(given: object) -> list[str]:
    """Notes or labels; a single one is a list of one."""
    if given is None:
        return []
    if isinstance(given, str) or not isinstance(given, Iterable):
        return [text(given)]
    return [text(each) for each in given]


def text(value: object) -> str:
    """Anything as text of some length that every file and terminal can be given."""
    try:
        found = str(value)
    except Exception:  # of anybody's types
        found = f"a {type(value).__name__}"
    found = found.encode("utf-8", "backslashreplace").decode("utf-8")  # half of a surrogate pair
    return found if len(found) <= MOST_TEXT else f"{found[:MOST_TEXT]}..."


def described(value: object) -> str:
    """A value in a message."""
    try:
        return text(shown(value))
    except Exception:  # a repr of anybody's types
        return f"a {type(value).__name__}"


def _attribute(given: object, name: str) -> Any:
    try:
        return getattr(given, name, None)
    except Exception:  # a property of anybody's
        return None


def curves_of(given: object) -> tuple[dict[str, list[list[float]]], dict[str, object]]:
    """Curves of points [step, value], and those that are none."""
    if given is None:
        return {}, {}
    if not isinstance(given, Mapping):
        return {}, {"all curves": given}
    found: dict[str, list[list[float]]] = {}
    broken: dict[str, object] = {}
    for name, points in given.items():
        try:
            found[text(name)] = [[number(x), number(y)] for x, y in points]
        except Exception:
            broken[text(name)] = points
    return found, broken


def row_scores_of(given: object) -> tuple[dict[str, list[list[float]]], dict[str, object]]:
    """Scores of test rows, a list a task of finite numbers, and those that are none."""
    if given is None:
        return {}, {}
    if not isinstance(given, Mapping):
        return {}, {"all row scores": given}
    found: dict[str, list[list[float]]] = {}
    broken: dict[str, object] = {}
    for name, tasks in given.items():
        try:
            rows = [[number(each) for each in task] for task in tasks]
            if not all(math.isfinite(bounded(each)) for task in rows for each in task):
                raise ValueError("not finite")
            found[text(name)] = rows
        except Exception:
            broken[text(name)] = tasks
    return found, broken


def failure_text(given: object) -> str | None:
    """Why a trial failed, None if it did not."""
    if given is None or given is False:
        return None
    reason = " ".join(text(given).split())
    return "no reason given" if given is True or not reason else reason


def _named(broken: Mapping[str, object]) -> str:
    """Such as `None for 'gain' and 'x' for 'loss'`."""
    parts = [f"{described(value)} for {name!r}" for name, value in broken.items()]
    more = [f"{len(parts) - MOST_NAMED} more"] if len(parts) > MOST_NAMED else []
    return " and ".join([*parts[:MOST_NAMED], *more])


def left_out(kind: str, broken: Mapping[str, object]) -> list[str]:
    """A note of what is no number, if anything is."""
    return [f"left out of the {kind}, as not numbers: {_named(broken)}"] if broken else []
