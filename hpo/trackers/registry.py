"""The trackers by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line's parser, which names the trackers, is to load in no time
    from hpo.trackers.tracker import Tool, Tracker


def trackers(names: Iterable[str], folder: Path) -> list[Tracker]:
    """A tracker of each name for the run in this folder.

    Raises:
        ValueError: its package is not installed.
    """
    from hpo.trackers.tracker import Tracker

    found = []
    for name in dict.fromkeys(names):
        try:
            found.append(Tracker(name, TRACKERS[name](folder)))
        except ImportError as error:
            raise ValueError(
                f"--track {name} needs the package {name} ({error}); install it with pip install "
                f"'plasticity-hpo[{name}]'."
            ) from None
    return found


def _tensorboard(folder: Path) -> Tool:
    from hpo.trackers.tensorboard import TensorBoard

    return TensorBoard(folder)


def _wandb(folder: Path) -> Tool:
    from hpo.trackers.wandb import WeightsAndBiases

    return WeightsAndBiases(folder)


def _mlflow(folder: Path) -> Tool:
    from hpo.trackers.mlflow import MLflow

    return MLflow(folder)


def _trackio(folder: Path) -> Tool:
    from hpo.trackers.trackio import Trackio

    return Trackio(folder)


TRACKERS: dict[str, Callable[[Path], Tool]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio": _trackio,
}
"""Each is imported when it is used: the names alone are on the command line."""
