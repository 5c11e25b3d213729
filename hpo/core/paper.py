"""What a paper found, as data beside a study: its numbers, and claims that a study can test.

A study names points of its grid after the paper's; `hpo.analysis.paper_claims` puts the two side by
side. The scales differ by orders of magnitude, so numbers are shown and never subtracted: what is
compared is the direction of each claim.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

PLAIN = ConfigDict(extra="forbid")


Direction: TypeAlias = Literal["down", "up"]


@dataclass(frozen=True, kw_only=True, config=PLAIN)
class Quantity:
    """A metric of the study and what the paper reports in its place."""

    metric: str
    paper_name: str = ""
    """The paper's quantity with its unit; empty where its numbers were not found."""
    paper: Mapping[str, float] = field(default_factory=dict)
    """Point -> the paper's number."""
    best_of: tuple[str, ...] = ()
    """The study's value as the difference from the best of these points; empty leaves it
    absolute."""
    better: Direction = "down"


@dataclass(frozen=True, kw_only=True, config=PLAIN)
class Contrast:
    """A weighted sum of a metric over points has this sign."""

    kind: Literal["contrast"] = "contrast"
    text: str
    metric: str
    weights: Mapping[str, float]
    """Point -> weight; they add up to 0."""
    sign: Literal[-1, 1]
    paper: float | None = None
    """The paper's value of the sum, in its own quantity."""


@dataclass(frozen=True, kw_only=True, config=PLAIN)
class Match:
    """A point has the metric of another one, from which a third one is apart."""

    kind: Literal["match"] = "match"
    text: str
    metric: str
    point: str
    like: str
    """The point whose metric it has."""
    unlike: str
    """The point that differs from `like` by the effect which `point` is to have."""

    @property
    def points(self) -> tuple[str, ...]:
        """All three."""
        return self.point, self.like, self.unlike


@dataclass(frozen=True, kw_only=True, config=PLAIN)
class Shift:
    """The point that is best by `after` comes later among the points than the best by `before`."""

    kind: Literal["shift"] = "shift"
    text: str
    points: tuple[str, ...]
    before: str = "base_loss"
    """A metric that should be small."""
    after: str = "finetuned"
    after_better: Direction = "up"
    """down where `after` is a loss."""
    paper_before: str | None = None
    paper_after: str | None = None
    """The paper's best points."""


@dataclass(frozen=True, kw_only=True, config=PLAIN)
class Correlation:
    """Over points, two metrics correlate with this sign (Pearson)."""

    kind: Literal["correlation"] = "correlation"
    text: str
    points: tuple[str, ...]
    x: str
    y: str
    sign: Literal[-1, 1]
    paper: float | None = None
    """The paper's coefficient."""


Claim: TypeAlias = Contrast | Match | Shift | Correlation


AnyClaim: TypeAlias = Annotated[Claim, Field(discriminator="kind")]


@dataclass(frozen=True, kw_only=True, config=PLAIN)
class Table:
    """Points of a study, quantities of each, and what the paper says of them."""

    title: str
    points: tuple[str, ...]
    """Names of baselines and grid points, in the paper's order."""
    quantities: tuple[Quantity, ...]
    claims: tuple[AnyClaim, ...] = ()

    def __post_init__(self) -> None:
        named = [name for each in self.quantities for name in (*each.paper, *each.best_of)]
        named += [name for claim in self.claims for name in points_of(claim)]
        unknown = sorted(set(named) - set(self.points))
        if unknown:
            raise ValueError(
                f"table {self.title!r} has no points {unknown}; its points are {self.points}."
            )


@dataclass(frozen=True, kw_only=True, config=PLAIN)
class Paper:
    """A paper's findings."""

    arxiv: str
    scale: str
    """At which its numbers were taken: model, tokens, runs a point."""
    ours: str = ""
    """What is chosen otherwise here, where the table alone does not say so."""
    tables: tuple[Table, ...]

    @property
    def points(self) -> set[str]:
        """All points that its tables name."""
        return {name for table in self.tables for name in table.points}

    def to_dict(self) -> dict[str, Any]:
        """The findings as JSON-able data."""
        data: dict[str, Any] = TypeAdapter(Paper).dump_python(self, mode="json")
        return data

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> Paper:
        """The findings from `to_dict`'s data."""
        return TypeAdapter(Paper).validate_json(json.dumps(data))


def points_of(claim: Claim) -> tuple[str, ...]:
    """The points that a claim is about."""
    return tuple(claim.weights) if isinstance(claim, Contrast) else claim.points


def difference(first: str, second: str) -> dict[str, float]:
    """Weights of first minus second."""
    return {first: 1.0, second: -1.0}


def means(first: Sequence[str], second: Sequence[str]) -> dict[str, float]:
    """Weights of the mean over the first points minus the mean over the second ones."""
    return {name: 1 / len(first) for name in first} | {name: -1 / len(second) for name in second}


def trend(points: Sequence[str]) -> dict[str, float]:
    """Weights whose sum is above 0 where a metric rises along the points."""
    middle = (len(points) - 1) / 2
    return {name: place - middle for place, name in enumerate(points) if place != middle}
