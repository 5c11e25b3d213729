"""What trains now, in a page that follows a run: a table, and the loss of each stage so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpo.core import format
from hpo.core.format import escape_controls
from hpo.report.html.elements import table
from hpo.report.html.templating import rendered

MARK = "<!-- running -->"
"""Where the section is in a report of a run that goes on; no text of a user holds a `<`."""


WIDTH, HEIGHT, EDGE = 440, 150, 6
"""Of a curve's drawing, and the space around its line."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The loss over the steps of one stage."""

    stage: str
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True, kw_only=True)
class Lane:
    """The batch of trials that a worker has."""

    worker: str
    numbers: tuple[int, ...]
    stage: str
    step: int
    steps: int
    loss: float | None
    curves: tuple[Curve, ...] = ()


def section(lanes: Sequence[Lane], finished: int, trials: int) -> str:
    """The section's markup, every text in it escaped."""
    heads = ("trials", "where", "stage", "step", "loss")
    return rendered(
        "running.html",
        finished=finished,
        trials=trials,
        table=table(heads, map(_row, lanes), numbers=(3, 4)) if lanes else None,
        curves=[_drawing(lane, curve) for lane in lanes for curve in lane.curves],
        width=WIDTH,
        height=HEIGHT,
    )


def _row(lane: Lane) -> Sequence[str]:
    step = f"{lane.step}/{lane.steps}" if lane.steps > 1 else ""
    loss = "" if lane.loss is None else format.number(lane.loss)
    return (_numbers(lane), escape_controls(lane.worker), escape_controls(lane.stage), step, loss)


def _numbers(lane: Lane) -> str:
    return ", ".join(f"#{number}" for number in lane.numbers)


def _drawing(lane: Lane, curve: Curve) -> dict[str, str]:
    """The loss as a line, with its ends in words."""
    (first, begun), (last, loss) = curve.points[0], curve.points[-1]
    places = _places(curve.points)
    x, y = places[-1]
    ends = f"loss {format.number(begun)} at step {first}, {format.number(loss)} at step {last}"
    return {
        "title": f"{escape_controls(curve.stage)}, {_numbers(lane)}",
        "text": ends,
        "line": " ".join(f"{x:.1f},{y:.1f}" for x, y in places),
        "x": f"{x:.1f}",
        "y": f"{y:.1f}",
    }


def _places(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """Pixels of steps and losses; the drawing holds the least and the greatest of both."""
    steps, losses = [step for step, _ in points], [loss for _, loss in points]
    wide, high = max(steps) - min(steps) or 1, max(losses) - min(losses) or 1.0
    return [
        (
            EDGE + (WIDTH - 2 * EDGE) * (step - min(steps)) / wide,
            EDGE + (HEIGHT - 2 * EDGE) * (max(losses) - loss) / high,
        )
        for step, loss in points
    ]
