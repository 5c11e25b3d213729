"""Every trial as one flat row: for data frames, CSV files and trackers.

Columns are those of the report's download: `params.PATH`, `metrics.NAME`, `cost.NAME`.
"""

from __future__ import annotations

import math
from typing import Any

from hpo.core.trial import Trial
from hpo.report.results import Results


def trial_records(results: Results) -> list[dict[str, Any]]:
    """A row a trial, by number; all rows have the same columns, None where there is no value.

    `standing`: on the front, dominated, a replicate, ..., or the state of one that does not count;
    `on_the_front`: the probability that its setting belongs to the front, None where unknown.
    """
    rows = [_record(results, trial) for trial in results.run.trials]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    order = ["", "params", "metrics", "cost"]
    columns.sort(key=lambda name: order.index(_kind(name)))  # stable
    return [{name: row.get(name) for name in columns} for row in rows]


def _kind(column: str) -> str:
    first, dot, _ = column.partition(".")
    return first if dot else ""


def _record(results: Results, trial: Trial) -> dict[str, Any]:
    share = results.front.membership.get(trial.number, math.nan)
    return {
        "number": trial.number,
        "state": trial.state,
        "standing": results.front.standings.get(trial.number, trial.state),
        "on_the_front": None if math.isnan(share) else share,
        "name": trial.name,
        "seed": trial.seed,
        "fidelity": trial.fidelity,
        "replicate_of": trial.replicate_of,
        "group": trial.group,
        "failure": trial.failure,
        "notes": "; ".join([*trial.labels, *trial.notes]),
        **{f"params.{path}": value for path, value in trial.params.items()},
        **{f"metrics.{name}": _finite(value) for name, value in trial.metrics.items()},
        **{f"cost.{name}": _finite(value) for name, value in trial.cost.items()},
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
