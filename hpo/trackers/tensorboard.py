"""TensorBoard: event files below the run's folder, a folder for each trial.

`tensorboard --logdir RUN/tensorboard` shows the curves, and the trials with their parameters and
goals under HParams.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from hpo.trackers.tracker import TrackedStudy, TrackedTrial

FOLDER = "tensorboard"


class TensorBoard:
    """Writes event files."""

    def __init__(self, folder: Path) -> None:
        """`folder`: the run's."""
        import tensorboard.summary.writer.event_file_writer  # noqa: F401 - absent: reported at once

        self.folder = folder / FOLDER

    def trial(self, trial: TrackedTrial) -> None:
        """Curves as scalars; metrics at step 0; params and goals for the tab HParams."""
        from tensorboard.plugins.hparams import summary_v2

        params = {name: _plain(value) for name, value in trial.params.items()}
        with _Writer(self.folder / _file_name(trial.name)) as writer:
            writer.add(summary_v2.hparams_pb(params, trial_id=trial.name))
            for name, value in trial.metrics.items():
                writer.scalar(name, value, 0)
            for name, points in trial.curves.items():
                for step, value in points:
                    writer.scalar(f"curves/{name}", value, step)
            if trial.text:
                writer.text("notes", trial.text)

    def study(self, study: TrackedStudy) -> None:
        """The front as a table, and the path of the report."""
        lines = [study.columns, ["---"] * len(study.columns), *study.rows]
        table = "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)
        with _Writer(self.folder / "study") as writer:
            writer.text("front", table)
            if study.report is not None:
                writer.text("report", str(study.report.absolute()))


class _Writer:
    """An event file."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self.file = EventFileWriter(str(folder))

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def add(self, summary: Any, step: int = 0) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self.file.add_event(Event(wall_time=time.time(), step=step, summary=summary))

    def scalar(self, tag: str, value: float, step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self.add(Summary(value=[Summary.Value(tag=tag, simple_value=value)]), step)

    def text(self, tag: str, text: str) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING

        metadata = SummaryMetadata(
            plugin_data=SummaryMetadata.PluginData(plugin_name="text", content=b"")
        )
        tensor = TensorProto(dtype=DT_STRING, string_val=[text.encode()])
        self.add(Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)]))


def _plain(value: Any) -> Any:
    """A value that HParams takes."""
    return value if isinstance(value, bool | int | float | str) else str(value)


def _cell(value: Any) -> str:
    return " ".join(str(value).replace("|", "\\|").split())


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)
