"""Decides what to measure next and shows what came out; `objectives` measures.

The names below are what studies and notebooks need. Each is imported when it is first used, so that
`import hpo` loads nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpo.core.callback import Callback
    from hpo.core.contrasts import PlannedContrast, PlannedContrasts
    from hpo.core.domains import Choice, Float, Int
    from hpo.core.goals import BASE_LOSS_DOWN, GAIN_UP, Goal, Limit
    from hpo.core.objective import Compute, Event, Params, Request, Value
    from hpo.core.spec import Baseline, GridPoint, Prior, StudySpec, WarmStartTrial
    from hpo.notebook import load_run
    from hpo.search.plasticity_sampler import PlasticitySampler
    from hpo.study_runs import run_study

__all__ = [
    "BASE_LOSS_DOWN",
    "GAIN_UP",
    "Baseline",
    "Callback",
    "Choice",
    "Compute",
    "Event",
    "Float",
    "Goal",
    "GridPoint",
    "Int",
    "Limit",
    "Params",
    "PlannedContrast",
    "PlannedContrasts",
    "PlasticitySampler",
    "Prior",
    "Request",
    "StudySpec",
    "Value",
    "WarmStartTrial",
    "load_run",
    "run_study",
]
_HOMES = {
    "hpo.core.callback": ("Callback",),
    "hpo.core.contrasts": ("PlannedContrast", "PlannedContrasts"),
    "hpo.core.domains": ("Choice", "Float", "Int"),
    "hpo.core.objective": ("Compute", "Event", "Params", "Request", "Value"),
    "hpo.core.goals": ("BASE_LOSS_DOWN", "GAIN_UP", "Goal", "Limit"),
    "hpo.core.spec": ("Baseline", "GridPoint", "Prior", "StudySpec", "WarmStartTrial"),
    "hpo.search.plasticity_sampler": ("PlasticitySampler",),
    "hpo.notebook": ("load_run",),
    "hpo.study_runs": ("run_study",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
