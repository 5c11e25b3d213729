"""Where the names of points are written: clear of each other, of their neighbours and of the edges.

Point by point, and once more when all have a place: of the four corners of a point the one where a
name covers least. A name that would still cover another one is left out. Figures are assumed to be
as small as the report draws them, so that names are clear in larger ones too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 250.0, 180.0
"""Plotting area of the report's smallest figures, in pixels."""
CHARACTER, LINE = 6.0, 12.0
"""Width and height of a character of size 10, in pixels; assumed."""
RADIUS = 9.0
"""Of a ring around a point, in pixels."""
REACH = 14.0
"""Around a point, in pixels: a name that begins so near is read as the point's; assumed."""
SWEEPS = 3
CORNERS = ("top right", "bottom right", "top left", "bottom left")

Rectangle = tuple[float, float, float, float]
"""Left, bottom, right, top, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """From values to pixels of one axis."""

    low: float
    high: float
    length: float

    def at(self, value: float) -> float:
        """Pixels from the axis' start; the middle where all values are one."""
        extent = self.high - self.low
        share = (value - self.low) / extent if extent > 0 and math.isfinite(extent) else 0.5
        return self.length * (0.06 + 0.88 * share)


def once(names: Sequence[str]) -> list[str]:
    """The names, empty for further points of one name, such as a baseline's other seeds."""
    return [name if name not in names[:place] else "" for place, name in enumerate(names)]


def corners(
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    extent: Sequence[tuple[float, float]],
) -> list[str | None]:
    """At which corner of its point each name is written; None where it is left out.

    `points` are places on the axes, logarithms where these are logarithmic; `extent`: places that
    the axes reach to.
    """
    xs, ys = zip(*points, *extent, strict=True) if points else ((), ())
    x = Axis(low=min(xs, default=0), high=max(xs, default=0), length=WIDTH)
    y = Axis(low=min(ys, default=0), high=max(ys, default=0), length=HEIGHT)
    at = [(x.at(left), y.at(up)) for left, up in points]
    boxes: dict[int, Rectangle] = {}
    chosen: dict[int, str] = {}
    for _ in range(SWEEPS):
        for row, (place, name) in enumerate(zip(at, names, strict=True)):
            others = [box for other, box in boxes.items() if other != row]
            around = [_surroundings(other) for other in at if other != place]
            costs = {each: _cost(_box(place, name, each), others, around) for each in CORNERS}
            chosen[row] = min(costs, key=costs.__getitem__)
            boxes[row] = _box(place, name, chosen[row])
    for row in reversed(range(len(at))):
        if any(_overlap(boxes[row], box) for other, box in boxes.items() if other != row):
            del boxes[row]
    return [chosen[row] if row in boxes else None for row in range(len(at))]


def _surroundings(at: tuple[float, float]) -> Rectangle:
    return at[0] - REACH, at[1] - REACH, at[0] + REACH, at[1] + REACH


def _box(at: tuple[float, float], name: str, corner: str) -> Rectangle:
    """What a name covers."""
    left = at[0] + RADIUS if corner.endswith("right") else at[0] - RADIUS - CHARACTER * len(name)
    bottom = at[1] + 4 if corner.startswith("top") else at[1] - 4 - LINE
    return left, bottom, left + CHARACTER * len(name), bottom + LINE


def _cost(box: Rectangle, written: Sequence[Rectangle], around: Sequence[Rectangle]) -> float:
    """What a name covers or loses, in square pixels; other names are worse than points."""
    area = (box[2] - box[0]) * (box[3] - box[1])
    cut = area - _overlap(box, (0, -LINE, WIDTH, HEIGHT + LINE))
    return (
        10 * sum(_overlap(box, other) for other in written)
        + 5 * cut
        + sum(_overlap(box, each) for each in around)
    )


def _overlap(one: Rectangle, other: Rectangle) -> float:
    """The area that both cover."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
