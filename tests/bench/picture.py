"""Pictures for README, drawn by the report's own code and photographed in headless Chromium.

python -m tests.bench.picture front RUN_FOLDER OUT.png
python -m tests.bench.picture report RUN_FOLDER OUT.png
python -m tests.bench.picture lanes RESULT.json OUT.png
python -m tests.bench.picture reliability RESULT.json OUT.png
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from hpo.report.html.page import write_report
from hpo.report.plots import draw, figure_data
from hpo.report.results import Results
from hpo.storage import run_folder
from tests import browser as tests_browser
from tests.bench.tables import where

WIDTH, HEIGHT = 900, 480


REPORT_SIZE = 1280, 1590


CHROMIUM = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--virtual-time-budget=4000",
]  # fmt: skip


def front_figure(folder: Path) -> go.Figure:
    """The front of a run."""
    run = run_folder.read(run_folder.find_run(str(folder), folder.parent, None))
    data = figure_data.front_data(Results(run), *figure_data.plane(run))
    return draw.draw_front(data)


def lanes_figure(result: Path) -> go.Figure:
    """Tokens a second against the number of lanes, one line a model."""
    found = json.loads(result.read_text(encoding="utf-8"))
    lines: dict[str, list[tuple[int, float]]] = {}
    for name, figure in found["figures"].items():
        match = re.fullmatch(r"(.+)\.tokens_per_s_K(\d+)", name)
        if match:
            lines.setdefault(match[1], []).append((int(match[2]), figure["value"]))
    drawn = go.Figure()
    for place, (name, points) in enumerate(lines.items()):
        points.sort()
        colour = draw.CYCLE[place % len(draw.CYCLE)]
        x, y = zip(*points, strict=True)
        drawn.add_trace(go.Scatter(x=x, y=y, name=name, line={"color": colour}))
    drawn.update_layout(
        title=where(found["machine"]),
        xaxis={"title": "lanes", "type": "log", "tickvals": [2**power for power in range(11)]},
        yaxis={"title": "tokens a second, all lanes", "rangemode": "tozero"},
    )
    return drawn


def reliability_figure(result: Path) -> go.Figure:
    """Share of points that belong to the front against the membership they were given."""
    found = json.loads(result.read_text(encoding="utf-8"))["figures"]
    drawn = go.Figure()
    diagonal = {"color": draw.GREY, "dash": "dot"}
    drawn.add_trace(go.Scatter(x=[0, 100], y=[0, 100], mode="lines", name="exact", line=diagonal))
    sides = (
        ("naive.", "observed ± its error", draw.ORANGE, "diamond-open"),
        ("", "as reported", draw.BLUE, "circle"),
    )
    for side, label, colour, symbol in sides:
        bins = [
            (int(match[1]), int(match[2]), figure)
            for name, figure in found.items()
            if (match := re.fullmatch(rf"{re.escape(side)}belong_of_(\d+)_to_(\d+)", name))
        ]
        drawn.add_trace(
            go.Scatter(
                x=[(low + high) / 2 for low, high, _ in bins],
                y=[figure["value"] for _, _, figure in bins],
                error_x={"array": [(high - low) / 2 for low, high, _ in bins], "thickness": 1},
                error_y={"array": [2 * figure["sem"] for _, _, figure in bins]},
                text=[f"{figure['n']:,}" for _, _, figure in bins] if not side else None,
                textposition="bottom right",
                mode="lines+markers" if side else "lines+markers+text",
                name=label,
                line={"color": colour, "width": 1},
                marker={"symbol": symbol, "size": 9},
            )
        )
    drawn.update_layout(
        title=f"{found['studies']['value']:,.0f} noisy studies, truth known; numbers count points",
        xaxis={"title": "stated probability of belonging to the front, %", "range": [-4, 110]},
        yaxis={"title": "truly belong, % (± 2 standard errors)", "range": [-9, 108]},
        legend={"x": 0.98, "y": 0.05, "xanchor": "right", "yanchor": "bottom"},
    )
    return drawn


def photograph(figure: go.Figure, out: Path) -> None:
    """The figure as PNG.

    Raises:
        RuntimeError: there is no Chromium.
    """
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise RuntimeError("no chromium on the path; install it to make pictures.")
    figure.update_layout(template="plotly_white", width=WIDTH, height=HEIGHT)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "figure.html"
        figure.write_html(page, config={"displayModeBar": False})
        size = [f"--window-size={WIDTH + 16},{HEIGHT + 16}", f"--user-data-dir={folder}/profile"]
        command = [browser, *CHROMIUM, *size, f"--screenshot={out}", page.as_uri()]
        subprocess.run(command, check=True, capture_output=True, timeout=120)


def photograph_report(folder: Path, out: Path) -> None:
    """The first screens of a run's report as PNG.

    Raises:
        RuntimeError: there is no Chromium.
    """
    run = run_folder.read(run_folder.find_run(str(folder), folder.parent, None))
    with tempfile.TemporaryDirectory() as made, tests_browser.page() as page:
        page.size(*REPORT_SIZE)
        page.open(write_report(Results(run), Path(made) / "report.html").as_uri())
        page.run("new Promise((done) => setTimeout(done, 1500))")  # figures are drawn one a frame
        page.photograph(out)


def main(arguments: list[str]) -> None:
    """Draw what is asked for."""
    kinds: dict[str, Any] = {
        "front": front_figure,
        "lanes": lanes_figure,
        "reliability": reliability_figure,
    }
    if len(arguments) != 3 or arguments[0] not in {*kinds, "report"}:
        sys.exit(__doc__)
    kind, source, out = arguments
    if kind == "report":
        photograph_report(Path(source), Path(out))
    else:
        photograph(kinds[kind](Path(source)), Path(out))
    print(out)


if __name__ == "__main__":
    main(sys.argv[1:])
