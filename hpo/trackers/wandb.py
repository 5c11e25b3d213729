"""Weights & Biases: a run for each trial, grouped by study; `WANDB_MODE=offline` keeps it here.

Project, entity and mode are W&B's own environment variables (`WANDB_PROJECT`, ...).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hpo.trackers.tracker import TrackedStudy, TrackedTrial

PROJECT = "plasticity-hpo"
"""Where WANDB_PROJECT names none."""


class WeightsAndBiases:
    """Starts and finishes runs."""

    def __init__(self, folder: Path) -> None:
        """`folder`: the run's, which gets the local files unless WANDB_DIR names another."""
        import wandb

        self.wandb, self.folder = wandb, folder

    def trial(self, trial: TrackedTrial) -> None:
        """Params as config, curves over their own step, metrics as the summary."""
        run = self._begin(trial.study, trial.name, "trial", dict(trial.params), trial.text)
        run.define_metric("step")
        by_step: dict[int, dict[str, float]] = {}
        for name, points in trial.curves.items():
            run.define_metric(f"curves/{name}", step_metric="step")
            for step, value in points:
                by_step.setdefault(step, {})[f"curves/{name}"] = value
        for step, values in sorted(by_step.items()):
            run.log({"step": step, **values})
        run.summary.update({**trial.metrics, "trial": trial.number, "state": trial.state})
        run.finish(exit_code=1 if trial.state == "failed" else 0)

    def study(self, study: TrackedStudy) -> None:
        """The front as a table, the report as an artifact."""
        run = self._begin(study.study, "study", "study", {}, study.description)
        rows = [[_cell(value) for value in row] for row in study.rows]
        run.log({"front": self.wandb.Table(columns=list(study.columns), data=rows)})
        if study.report is not None:
            artifact = self.wandb.Artifact(f"{_plain(study.study)}-report", type="report")
            artifact.add_file(str(study.report))
            run.log_artifact(artifact)
        run.finish()

    def _begin(self, study: str, name: str, kind: str, config: dict[str, Any], notes: str) -> Any:
        folder = os.environ.get("WANDB_DIR", str(self.folder))
        return self.wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            group=study,
            name=name,
            job_type=kind,
            config=config,
            notes=notes or None,
            dir=folder,
            reinit="create_new",
            settings=self.wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )


def _cell(value: Any) -> Any:
    """A table's columns have one type each: choices may mix texts and numbers."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _plain(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)
