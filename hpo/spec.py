"""The names of a study under the path of earlier study files; `from hpo import ...` is the same."""

from hpo.core.domains import Choice, Domain, Float, Int
from hpo.core.goals import BASE_LOSS_DOWN, GAIN_UP, Goal, Limit
from hpo.core.objective import Compute, Event, Exported, Objective, Params, Request, Result, Value
from hpo.core.spec import Baseline, GridPoint, Prior, StudySpec, WarmStartTrial

Point = GridPoint
Earlier = WarmStartTrial

__all__ = [
    "BASE_LOSS_DOWN",
    "GAIN_UP",
    "Baseline",
    "Choice",
    "Compute",
    "Domain",
    "Earlier",
    "Event",
    "Exported",
    "Float",
    "Goal",
    "GridPoint",
    "Int",
    "Limit",
    "Objective",
    "Params",
    "Point",
    "Prior",
    "Request",
    "Result",
    "StudySpec",
    "Value",
    "WarmStartTrial",
]
