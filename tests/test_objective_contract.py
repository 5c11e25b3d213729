"""What a study asks of an objective is written twice, as neither package imports the other."""

from __future__ import annotations

import dataclasses
import inspect
from typing import get_type_hints

import pytest

from hpo.core import objective as asked
from objectives import Execution, PlasticityObjective, Result, VisionObjective
from objectives.config import execution
from objectives.export.bundle import ExportSummary
from objectives.types import Request
from tests.hpo.toy_objective import ToyObjective

OPTIONAL = {"export": asked.Objective, "metrics": asked.NamesMetrics,
            "conditions": asked.StatesConditions, "meanings": asked.ExplainsMetrics}  # fmt: skip


def call_of(kind: type, method: str) -> list[tuple[str, object, object]]:
    """How a method is called: each parameter's name, kind and default."""
    parameters = inspect.signature(getattr(kind, method)).parameters.values()
    return [(each.name, each.kind, each.default) for each in parameters]


@pytest.mark.parametrize("kind", [PlasticityObjective, VisionObjective, ToyObjective])
@pytest.mark.parametrize("method", asked.METHODS)
def test_each_method_is_called_as_the_study_calls_it(kind: type, method: str) -> None:
    assert call_of(kind, method) == call_of(asked.Objective, method)


@pytest.mark.parametrize("kind", [PlasticityObjective, VisionObjective])
@pytest.mark.parametrize("method", OPTIONAL)
def test_each_optional_method_is_called_as_the_study_calls_it(kind: type, method: str) -> None:
    assert call_of(kind, method) == call_of(OPTIONAL[method], method)


def test_both_packages_agree_on_requests_and_on_where_to_compute() -> None:
    assert get_type_hints(execution.Compute) == get_type_hints(asked.Compute)
    assert get_type_hints(Request) == get_type_hints(asked.Request)
    assert execution.Compute.__total__ == asked.Compute.__total__
    assert Request.__required_keys__ == asked.Request.__required_keys__


def test_every_field_of_compute_is_one_of_the_execution() -> None:
    fields = {field.name for field in dataclasses.fields(Execution)}
    assert set(get_type_hints(asked.Compute)) <= fields


@pytest.mark.parametrize(
    ("kind", "wanted"), [(Result, asked.Result), (ExportSummary, asked.Exported)]
)
def test_what_comes_back_has_what_the_study_reads(kind: type, wanted: type) -> None:
    fields = {field.name for field in dataclasses.fields(kind)}
    assert {name for name in vars(wanted) if name[0] != "_"} <= fields
