"""Pictures for README, drawn by the report's own code and photographed in headless Chromium.

python -m tests.bench.picture front RUN_FOLDER OUT.png
python -m tests.bench.picture lanes RESULT.json OUT.png
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

from hpo import drawing, figures, runs
from hpo.scoring import front
from tests.bench.readme import where

WIDTH, HEIGHT = 900, 480
CHROMIUM = [
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--virtual-time-budget=4000",
]  # fmt: skip


def front_figure(folder: Path) -> go.Figure:
    """The front of a run."""
    run = runs.read(runs.find_place(str(folder), folder.parent, None))
    data = figures.front_data(run, front(run), *figures.plane(run))
    return drawing.draw_front(data)


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
        colour = drawing.CYCLE[place % len(drawing.CYCLE)]
        x, y = zip(*points, strict=True)
        drawn.add_trace(go.Scatter(x=x, y=y, name=name, line={"color": colour}))
    drawn.update_layout(
        title=where(found["machine"]),
        xaxis={"title": "lanes", "type": "log", "tickvals": [2**power for power in range(11)]},
        yaxis={"title": "tokens a second, all lanes", "rangemode": "tozero"},
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


def main(arguments: list[str]) -> None:
    """Draw what is asked for."""
    kinds: dict[str, Any] = {"front": front_figure, "lanes": lanes_figure}
    if len(arguments) != 3 or arguments[0] not in kinds:
        sys.exit(__doc__)
    kind, source, out = arguments
    photograph(kinds[kind](Path(source)), Path(out))
    print(out)


if __name__ == "__main__":
    main(sys.argv[1:])
