"""What a command line asks of a study, as data: the same study loads here and in a worker."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpo import studies
from hpo.spec import StudySpec

LIMITS = ("trials", "budget_s", "seed", "max_flops", "patience", "confirm")
"""Fields of a study that the command line sets under the same name."""
SEVERAL = ("devices", "sharding")
"""What an objective is told only where it is asked for; one may know a single device."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A study's name or file, and what differs from it."""

    study: str
    store: str
    """The folder of finished stages."""
    setting: str | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    """Hyperparameters that are fixed: path and value."""
    trials: int | None = None
    budget_s: float | None = None
    max_flops: float | None = None
    patience: int | None = None
    confirm: int | None = None
    seed: int | None = None
    device: str | None = None
    devices: int | None = None
    sharding: str | None = None
    lanes: int | None = None
    store_gb: float | None = None
    share: str | None = None
    folder: str = field(default_factory=os.getcwd)
    """Where relative paths of the command line start."""

    def spec(self) -> StudySpec:
        """The study.

        Raises:
            ValueError: there is no such study, or an option does not fit it.
        """
        fixed = dict(self.settings)
        spec = studies.load_fixed(self.study, self.setting, fixed, Path(self.folder))
        several = self._given(SEVERAL)
        known = inspect.signature(spec.objective.configure).parameters
        for name in several:
            if name not in known:
                raise ValueError(f"--{name} is not known to the study's objective; leave it out.")
        return dataclasses.replace(
            spec,
            **self._given(LIMITS),
            objective=spec.objective.configure(
                device=self.device,
                **several,
                lanes=self.lanes,
                store=self.store,
                store_gb=self.store_gb,
                share=self.share,
            ),
        )

    def message(self) -> dict[str, Any]:
        """JSON-able, with the folder that relative paths start from."""
        return {"launch": dataclasses.asdict(self), "folder": self.folder}

    def _given(self, names: Sequence[str]) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


def received(message: Mapping[str, Any]) -> Launch:
    """The launch in a message."""
    data = dict(message["launch"])
    settings = tuple((path, value) for path, value in data.pop("settings"))
    return Launch(**data, settings=settings)
