"""Trackio: a local database with W&B's interface; a run for each trial, grouped by study.

Where it is kept, or which Space it goes to, are Trackio's own environment variables.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hpo.trackers.tracker import TrackedStudy, TrackedTrial

PROJECT = "plasticity-hpo"
"""Where TRACKIO_PROJECT names none."""


class Trackio:
    """Starts and finishes runs."""

    def __init__(self, folder: Path) -> None:
        import trackio

        self.trackio = trackio

    def trial(self, trial: TrackedTrial) -> None:
        """Params as config, curves by step, metrics as the last step."""
        config = {**trial.params, "trial": trial.number, "state": trial.state}
        self._begin(trial.study, f"{trial.study}/{trial.name}", config)
        by_step: dict[int, dict[str, float]] = {}
        for name, points in trial.curves.items():
            for step, value in points:
                by_step.setdefault(step, {})[f"curves/{name}"] = value
        last = max(by_step, default=0)
        by_step[last] = {**by_step.get(last, {}), **trial.metrics}
        for step, values in sorted(by_step.items()):
            self.trackio.log(values, step=step)
        self.trackio.finish()

    def study(self, study: TrackedStudy) -> None:
        """The front as a table, the report as an artifact."""
        self._begin(study.study, f"{study.study}/study", {"description": study.description})
        rows = [list(row) for row in study.rows]
        self.trackio.log({"front": self.trackio.Table(columns=list(study.columns), data=rows)})
        if study.report is not None:
            name = re.sub(r"[^\w.-]+", "_", study.study)
            self.trackio.log_artifact(str(study.report), name=f"{name}-report", type="report")
        self.trackio.finish()

    def _begin(self, study: str, name: str, config: dict[str, Any]) -> None:
        self.trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=name,
            group=study,
            config=config,
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
