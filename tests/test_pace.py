"""The tests of `make check` are the cheapest that fit into its time."""

from __future__ import annotations

import math

import pytest

from tests import pace


@pytest.mark.parametrize(
    ("budget_s", "limit_s"), [(1.9, 1.0), (2.0, 4.0), (5.9, 4.0), (6.0, math.inf)]
)
def test_the_cheapest_tests_that_fit_are_in(budget_s: float, limit_s: float) -> None:
    """A file of 2 seconds: one of a test, one of tests too cheap to be noted; and one test of 4."""
    costs = {"a.py": 2.0, "a.py::cheap": 1.0, "b.py": 4.0, "b.py::other": 4.0, "b.py (slow)": 9.0}
    assert pace.limit(costs, budget_s) == limit_s


def test_what_is_noted_are_tests_and_files_in_order() -> None:
    costs = pace.known()
    assert list(costs) == sorted(costs)
    assert all(cost_s > 0 for cost_s in costs.values())
    assert {pace.file_of(name) for name in costs if "::" in name} <= set(costs)
