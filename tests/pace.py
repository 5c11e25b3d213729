"""What tests cost: the most expensive ones are marked `slow`, and files start with the longest.

`tests/pace.json` holds CPU seconds, those of ended children included, of every file and of every
test that takes more than `NOTED_S`. `make pace` measures them again; a test that is not in it is
counted as fast. They are CPU seconds because tests wait, but compute no more, on a busy machine.
What fixtures of a module or session take is divided among the tests of the file that they began in.
"""

from __future__ import annotations

import json
import math
import os
import resource
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


PATH = ROOT / "tests" / "pace.json"


CHECK_S = 110.0
"""CPU seconds for the tests of `make check`: 90 s on two cores, less what lint, types, imports and
collection take; the cheapest tests that fit are in it."""


NOTED_S = 0.1


OWN, SHARED = "own_s", "shared_s"
"""Properties of a test's reports."""


def known() -> dict[str, float]:
    """CPU seconds of tests and of files."""
    found: dict[str, float] = json.loads(PATH.read_text(encoding="utf-8"))
    return found


def spent() -> float:
    """CPU seconds of this process and of its children that have ended."""
    own, others = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


def file_of(node: str) -> str:
    return node.split("::")[0]


def limit(costs: dict[str, float], budget_s: float = CHECK_S) -> float:
    """The cost from which on tests do not fit into a budget, the cheapest first."""
    tests = sorted(s for name, s in costs.items() if "::" in name)
    left = budget_s - (sum(costs.values()) - 2 * sum(tests))  # files hold what is not noted
    for cost_s in tests:
        left -= cost_s
        if left < 0:
            return cost_s
    return math.inf


class Pace:
    """Marks and orders tests by what they are known to cost."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        costs = known()
        slow_s = limit(costs)
        for item in items:
            if costs.get(item.nodeid, 0.0) >= slow_s:
                item.add_marker(pytest.mark.slow)
        items.sort(key=lambda item: -costs.get(file_of(item.nodeid), 0.0))  # keeps files together


class Meter:
    """Measures what tests cost; by xdist the workers measure and their controller writes."""

    def __init__(self) -> None:
        self.shared, self.before = 0.0, 0.0
        self.own_s: defaultdict[str, float] = defaultdict(float)
        self.shared_s: defaultdict[str, float] = defaultdict(float)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> Generator[None, object, object]:
        before = spent()
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function":
                self.shared += spent() - before

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        self.before = spent()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        now = spent()
        costs = [(OWN, now - self.before - self.shared), (SHARED, self.shared)]
        report.user_properties.extend(costs)
        self.before, self.shared = now, 0.0
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        costs = dict(report.user_properties)
        self.own_s[report.nodeid] += costs.get(OWN, 0.0)
        self.shared_s[file_of(report.nodeid)] += costs.get(SHARED, 0.0)

    def pytest_sessionfinish(self) -> None:
        if "PYTEST_XDIST_WORKER" in os.environ:
            return
        files: defaultdict[str, list[str]] = defaultdict(list)
        for node in self.own_s:
            files[file_of(node)].append(node)
        found = {
            name: cost_s
            for name, cost_s in known().items()
            if file_of(name) not in files and (ROOT / file_of(name)).is_file()
        }
        for file, nodes in files.items():
            part = self.shared_s[file] / len(nodes)
            found |= {node: self.own_s[node] + part for node in nodes}
            found[file] = sum(found[node] for node in nodes)
        kept = {name: round(found[name], 2) for name in sorted(found) if found[name] > NOTED_S}
        PATH.write_text(json.dumps(kept, indent=0) + "\n", encoding="utf-8")
