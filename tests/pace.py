"""What tests cost: the most expensive ones are marked `slow`, and files start with the longest.

`tests/pace.json` holds the seconds of every file and of every test that takes more than `NOTED_S`.
`make pace`, on a machine that does nothing else, measures them again; a test that is not in it is
counted as fast. What fixtures of a module or session take is divided among the tests of the file
that they began in.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


PATH = ROOT / "tests" / "pace.json"


CHECK_S = 55.0
"""Seconds for the tests of `make check`: 90 s on two cores, less what lint, types, imports and
collection take; the cheapest tests that fit are in it."""


NOTED_S = 0.1


OWN, SHARED = "own_s", "shared_s"
"""Properties of a test's reports."""


def known() -> dict[str, float]:
    """Seconds of tests and of files."""
    found: dict[str, float] = json.loads(PATH.read_text(encoding="utf-8"))
    return found


def file_of(node: str) -> str:
    return node.split("::")[0]


SLOW = " (slow)"
"""Ends the name under which a file has what its tests take that are marked `slow` by hand."""


def limit(costs: dict[str, float], budget_s: float = CHECK_S) -> float:
    """The cost from which on tests do not fit into a budget, the cheapest first."""
    costs = {name: cost_s for name, cost_s in costs.items() if not name.endswith(SLOW)}
    tests = sorted(cost_s for name, cost_s in costs.items() if "::" in name)
    left = budget_s - (sum(costs.values()) - 2 * sum(tests))  # files hold what is not noted
    for cost_s in tests:
        left -= cost_s
        if left < 0:
            return cost_s
    return math.inf


def files(items: list[pytest.Item]) -> set[str]:
    """Those that tests are in."""
    return {file_of(item.nodeid) for item in items}


class Pace:
    """Orders tests by what they are known to cost and, if told to, marks the slow ones."""

    def __init__(self, *, mark: bool) -> None:
        self.mark = mark

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        costs = known()
        slow_s = limit(costs)
        for item in items:
            if self.mark and costs.get(item.nodeid, 0.0) >= slow_s:
                item.add_marker(pytest.mark.slow)
        total = {name: costs.get(name, 0.0) + costs.get(name + SLOW, 0.0) for name in files(items)}
        items.sort(key=lambda item: -total[file_of(item.nodeid)])  # keeps files together


class Meter:
    """Measures what tests cost; by xdist the workers measure and their controller writes."""

    def __init__(self) -> None:
        self.shared, self.before = 0.0, 0.0
        self.own_s: defaultdict[str, float] = defaultdict(float)
        self.shared_s: defaultdict[str, float] = defaultdict(float)
        self.by_hand: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> Generator[None, object, object]:
        before = time.perf_counter()
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                self.shared += time.perf_counter() - before

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        self.before = time.perf_counter()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        now = time.perf_counter()
        costs = [(OWN, now - self.before - self.shared), (SHARED, self.shared)]
        report.user_properties.extend(costs)
        self.before, self.shared = now, 0.0
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        costs: dict[str, Any] = dict(report.user_properties)
        if "slow" in report.keywords:
            self.by_hand.add(report.nodeid)
        self.own_s[report.nodeid] += costs.get(OWN, 0.0)
        self.shared_s[file_of(report.nodeid)] += costs.get(SHARED, 0.0)

    def pytest_sessionfinish(self) -> None:
        if "PYTEST_XDIST_WORKER" in os.environ:
            return
        nodes: defaultdict[str, list[str]] = defaultdict(list)
        for node in self.own_s:
            nodes[file_of(node)].append(node)
        found = {
            name: cost_s
            for name, cost_s in known().items()
            if (file := file_of(name.removesuffix(SLOW))) not in nodes and (ROOT / file).is_file()
        }
        for file, inside in nodes.items():
            part = self.shared_s[file] / len(inside)
            cost = {node: self.own_s[node] + part for node in inside}
            marked = self.by_hand & set(inside)
            found[file + SLOW] = sum(cost.pop(node) for node in marked)
            found |= {file: sum(cost.values()), **cost}
        kept = {name: round(found[name], 2) for name in sorted(found) if found[name] > NOTED_S}
        PATH.write_text(json.dumps(kept, indent=0) + "\n", encoding="utf-8")
