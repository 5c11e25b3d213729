"""What a command line asks of a study, as data: the same study loads here and in a worker."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from hpo import studies
from hpo.spec import Baseline, Point, StudySpec, ends

PointOrBaseline = TypeVar("PointOrBaseline", Point, Baseline)


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
    seed: int | None = None
    device: str | None = None
    lanes: int | None = None
    store_gb: float | None = None
    share: str | None = None

    def spec(self) -> StudySpec:
        """The study.

        Raises:
            ValueError: there is no such study, or an option does not fit it.
        """
        self._check()
        spec = studies.load(self.study, self.setting)
        given = {"trials": self.trials, "budget_s": self.budget_s, "seed": self.seed}
        changes: dict[str, Any] = {k: value for k, value in given.items() if value is not None}
        fixed = dict(self.settings)
        objective = spec.objective.with_params(fixed) if fixed else spec.objective
        for path, domain in spec.space.items():
            if path not in fixed:  # what is fixed may not be searched under another name
                spec.objective.check({**fixed, path: ends(domain)[0]})
        return dataclasses.replace(
            spec,
            **changes,
            objective=objective.configure(
                device=self.device,
                lanes=self.lanes,
                store=self.store,
                store_gb=self.store_gb,
                share=self.share,
            ),
            space={path: domain for path, domain in spec.space.items() if path not in fixed},
            baselines=tuple(_without(each, fixed) for each in spec.baselines),
            grid=tuple(_without(each, fixed) for each in spec.grid),
        )

    def message(self) -> dict[str, Any]:
        """JSON-able, with the folder that relative paths start from."""
        return {"launch": dataclasses.asdict(self), "folder": os.getcwd()}

    def _check(self) -> None:
        for name in ("trials", "lanes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}.")
        if self.store_gb is not None and not self.store_gb > 0:
            raise ValueError(f"--store-gb must be above 0, got {self.store_gb:g}.")


def received(message: Mapping[str, Any]) -> Launch:
    """The launch in a message."""
    data = dict(message["launch"])
    settings = tuple((path, value) for path, value in data.pop("settings"))
    return Launch(**data, settings=settings)


def _without(point: PointOrBaseline, fixed: Container[str]) -> PointOrBaseline:
    """The baseline or grid point without the params that are fixed for all trials."""
    params = {path: value for path, value in point.params.items() if path not in fixed}
    return dataclasses.replace(point, params=params)
