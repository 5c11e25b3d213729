"""A worker's side: what it says once it has loaded a study."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.executors.worker import Message, beat, loaded
from hpo.study_files import StudyRequest

STUDY = """
from dataclasses import dataclass
from tests.hpo.toy_objective import ToyObjective, spec

@dataclass(frozen=True, kw_only=True)
class Versioned(ToyObjective):
    def conditions(self):
        return {"corpus": "wiki"}

STUDY = spec(objective=Versioned())
"""


@pytest.mark.parametrize(
    ("expected", "measures"),
    [(None, True), ({"corpus": "wiki"}, True), ({"corpus": "books"}, False), ({}, False)],
)
def test_a_worker_under_other_conditions_says_so_and_has_nothing_to_measure_with(
    expected: dict[str, str] | None, measures: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(STUDY)
    request, sent = StudyRequest(study="mine.py", store="store"), list[Message]()
    found = loaded(request.message(), expected, sent.append)
    assert sent == [{"ready": True, "conditions": {"corpus": "wiki"}}]
    assert (found is not None) == measures


def test_a_sign_of_life_says_how_much_was_computed() -> None:
    before = beat()["cpu_s"]
    sum(range(10**6))
    assert beat()["cpu_s"] > before
