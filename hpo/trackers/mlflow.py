"""MLflow: an experiment for each study, a run for each trial.

The server or database is MLflow's own setting (`MLFLOW_TRACKING_URI`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from hpo.trackers.tracker import TrackedStudy, TrackedTrial

MOST = 1000
"""Metrics of one call, MLflow's limit."""


MOST_PARAMS = 100
"""Params of one call, MLflow's limit."""


STATES = {"failed": "FAILED", "pruned": "KILLED"}


class MLflow:
    """Logs by a client, which leaves the user's active run alone."""

    def __init__(self, folder: Path) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient()

    def trial(self, trial: TrackedTrial) -> None:
        """Params, metrics at step 0 and curves, notes as a tag."""
        from mlflow.entities import Metric, Param

        tags = {"hpo.trial": str(trial.number), "hpo.state": trial.state}
        if trial.text:
            tags["mlflow.note.content"] = trial.text
        run = self._begin(trial.study, trial.name, tags)
        now = int(time.time() * 1000)
        metrics = [Metric(_key(name), value, now, 0) for name, value in trial.metrics.items()]
        for name, points in trial.curves.items():
            metrics += [Metric(_key(f"curves/{name}"), value, now, step) for step, value in points]
        params = [Param(_key(name), str(value)) for name, value in trial.params.items()]
        for start in range(0, len(params), MOST_PARAMS):
            self.client.log_batch(run, params=params[start : start + MOST_PARAMS])
        for start in range(0, len(metrics), MOST):
            self.client.log_batch(run, metrics=metrics[start : start + MOST])
        self.client.set_terminated(run, STATES.get(trial.state, "FINISHED"))

    def study(self, study: TrackedStudy) -> None:
        """The front as a table, the report as an artifact."""
        tags = {"mlflow.note.content": study.description} if study.description else {}
        run = self._begin(study.study, "study", tags)
        columns = {
            name: [_cell(row[place]) for row in study.rows]
            for place, name in enumerate(study.columns)
        }
        self.client.log_table(run, columns, "front.json")
        if study.report is not None:
            self.client.log_artifact(run, str(study.report))
        self.client.set_terminated(run)

    def _begin(self, study: str, name: str, tags: dict[str, str]) -> str:
        """The id of a new run."""
        found = self.client.get_experiment_by_name(study)
        experiment = found.experiment_id if found else self.client.create_experiment(study)
        run_id: str = self.client.create_run(experiment, run_name=name, tags=tags).info.run_id
        return run_id


def _key(name: str) -> str:
    """A name with the characters that MLflow takes."""
    return "".join(each if each.isalnum() or each in "_-./ " else "_" for each in name)


def _cell(value: Any) -> Any:
    return value if isinstance(value, int | float | str | bool) else str(value)
