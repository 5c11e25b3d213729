"""What is drawn can be read: contrast with the page, names beside their points."""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go
import pytest

from hpo.core.trial import Run
from hpo.report.plots import draw, registry
from hpo.report.results import Results
from tests.hpo import toy
from tests.hpo.analysis.test_probes import probed
from tests.hpo.analysis.test_slices import searched

LIGHT, DARK = "#ffffff", "#14171b"
"""The pages, --paper in report.css."""


def channels(colour: str) -> list[float]:
    return [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]


def luminance(rgb: list[float]) -> float:
    """WCAG 2's relative luminance."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(colour: str, page: str, opacity: float) -> float:
    """WCAG 2's contrast of a colour that lets something of the page through."""
    behind = channels(page)
    shown = [opacity * c + (1 - opacity) * p for c, p in zip(channels(colour), behind, strict=True)]
    low, high = sorted([luminance(shown), luminance(behind)])
    return (high + 0.05) / (low + 0.05)


def clouds(figure: go.Figure) -> list[tuple[str, float]]:
    """Colour and opacity of each trace of points of one colour."""
    marked = [trace for trace in figure.data if "markers" in (trace.mode or "")]
    return [
        (trace.marker.color, trace.marker.opacity or 1.0)
        for trace in marked
        if isinstance(trace.marker.color, str)
    ]


@pytest.mark.parametrize("made", [toy.mixed, toy.beside_paper, searched, probed])
def test_points_have_a_contrast_of_3_on_white_and_of_4_and_a_half_on_dark(
    made: Callable[[], Run],
) -> None:
    found = [pair for e in registry.exhibits(Results(made())).values() for pair in clouds(e.draw())]
    assert found
    for colour, opacity in found:
        assert contrast(colour, LIGHT, opacity) >= 3, colour
        assert contrast(draw.ON_DARK[colour], DARK, opacity) >= 4.5, colour


def test_names_are_towards_the_middle_clear_of_rings_and_away_from_their_neighbours() -> None:
    trials = [
        toy.trial(0, 3.5, 0.20, baseline="low", params={"pretrain.lr": 0.001}),
        toy.trial(1, 3.6, 0.21, baseline="near", params={"pretrain.lr": 0.001}),
        toy.trial(2, 3.7, 0.30, baseline="high", params={"pretrain.lr": 0.1}),
        toy.trial(3, 3.8, 0.10, params={"pretrain.lr": 0.02}),
    ]
    figure = registry.exhibit(Results(toy.run(trials)), "slice.lr.gain").draw()
    (named,) = (trace for trace in figure.data if trace.text is not None)
    gap = 2 * "\N{NO-BREAK SPACE}"
    assert named.text == (f"{gap}low", f"{gap}near", f"high{gap}")
    assert named.textposition == ("bottom right", "top right", "top left")
