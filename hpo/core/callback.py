"""What programs beside a study may receive of it, such as experiment trackers.

Methods are called in the controller's process, one at a time. What one raises is a warning, given
once; a study is never stopped or changed by a callback.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hpo.core.objective import Params
from hpo.core.trial import Run, Trial


@dataclass(frozen=True, kw_only=True)
class TrialBegun:
    """A trial whose measuring begins, or goes on at a higher fidelity."""

    number: int
    params: Params
    seed: int
    fidelity: float


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """A loss while trials are trained, as their program reports it."""

    trials: Sequence[int]
    """Numbers of the trials that are measured together; the loss is that of their program."""
    stage: str
    """Such as "pretrain"."""
    step: int
    steps: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class StudyEnded:
    """A study that has measured all it was asked for, or reached a limit."""

    run: Run
    front: Sequence[Trial]
    """Metrics are means over the seeds of a setting."""
    report: Path | None
    """The HTML report; None where it could not be written."""


class Callback(Protocol):
    """Takes what happens in a study."""

    def study_begun(self, run: Run, folder: Path) -> None:
        """A study is started or continued; `run` is its record so far, `folder` the run's."""

    def trial_begun(self, trial: TrialBegun) -> None:
        """A trial begins."""

    def curve_point(self, point: CurvePoint) -> None:
        """A loss while trials are trained."""

    def trial_ended(self, trial: Trial) -> None:
        """A trial is complete, failed or stopped at a rung; it is recorded already."""

    def study_ended(self, ended: StudyEnded) -> None:
        """The study has ended; not called where it is interrupted, as it goes on then."""
