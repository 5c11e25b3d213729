"""Trials that were measured with other data or libraries are never compared without a word."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpo.analysis import run_comparison
from hpo.cli import trial_names
from hpo.controller import Controller
from hpo.core import conditions
from hpo.core.conditions import ConditionsChanged, GroupView
from hpo.core.history import Begin, Continue, History
from hpo.core.spec import StudySpec
from hpo.core.trial import Ask, Run, Trial
from hpo.front.front import front
from hpo.report import findings, terminal_tables
from hpo.report.results import Results
from hpo.storage.record import load_study, read_run, url_of
from tests.hpo.toy_objective import ToyObjective, spec

WIKI = {"corpus": "wiki", "numpy": "2.4"}


BOOKS = {"corpus": "books", "numpy": "2.4"}


@dataclass(frozen=True, kw_only=True)
class Stating(ToyObjective):
    """Says what it reads, and measures other losses with other text."""

    stated: dict[str, str] = field(default_factory=lambda: dict(WIKI))

    def conditions(self) -> dict[str, str]:
        return self.stated


def study(stated: dict[str, str], **fields: object) -> StudySpec:
    return spec(objective=Stating(stated=stated), **fields)


def run(folder: Path, stated: dict[str, str], accept: bool = False, **fields: object) -> Run:
    controller = Controller(study(stated, **fields), url_of(folder), accept_changes=accept)
    return controller.run()


def test_other_conditions_are_refused_with_what_changed_and_nothing_is_measured(
    tmp_path: Path,
) -> None:
    run(tmp_path, WIKI, trials=4)
    with pytest.raises(ConditionsChanged, match=r"corpus \(wiki -> books\).*--accept-changes"):
        run(tmp_path, BOOKS, trials=6)
    record = read_run(load_study(url_of(tmp_path), "toy"))
    assert len(record.trials) == 4
    assert record.conditions == [WIKI]


def test_accepted_changes_form_a_group_of_their_own_with_baselines_of_its_own(
    tmp_path: Path,
) -> None:
    first = run(tmp_path, WIKI, trials=5)
    second = run(tmp_path, BOOKS, accept=True, trials=10)
    assert [trial.number for trial in first.trials] == [0, 1, 2, 3, 4]
    assert [trial.number for trial in second.trials] == [5, 6, 7, 8, 9]
    assert [trial.baseline for trial in second.trials[:2]] == ["standard", "no decay"]
    assert second.num_others == 5
    assert {trial.number for trial in front(second).trials} <= set(range(5, 10))


def test_a_group_is_searched_as_a_study_of_its_own_would_be(tmp_path: Path) -> None:
    run(tmp_path, WIKI, trials=7)
    group = run(tmp_path, BOOKS, accept=True, trials=7 + 12)
    alone = Controller(study(BOOKS, trials=12), "sqlite://").run()
    assert [trial.params for trial in group.trials] == [trial.params for trial in alone.trials]
    assert [trial.metrics for trial in group.trials] == [trial.metrics for trial in alone.trials]


def test_conditions_that_come_back_go_on_with_their_group(tmp_path: Path) -> None:
    run(tmp_path, WIKI, trials=4)
    run(tmp_path, BOOKS, accept=True, trials=8)
    back = run(tmp_path, WIKI, trials=10)
    assert [trial.number for trial in back.trials] == [0, 1, 2, 3, 8, 9]
    study_of = load_study(url_of(tmp_path), "toy")
    assert [trial.number for trial in read_run(study_of, 1).trials] == [4, 5, 6, 7]
    with pytest.raises(ValueError, match="no group 2 of trials; its groups are 0 to 1"):
        read_run(study_of, 2)


def test_a_study_that_has_measured_nothing_takes_the_new_conditions(tmp_path: Path) -> None:
    Controller(study(WIKI, trials=2), url_of(tmp_path))
    record = Controller(study(BOOKS, trials=2), url_of(tmp_path)).run()
    assert record.conditions == [BOOKS]
    assert record.group == 0


def test_what_waits_at_a_rung_does_not_go_on_under_other_conditions(tmp_path: Path) -> None:
    rungs = (0.25, 1.0)
    controller = Controller(study(WIKI, trials=8, rungs=rungs), url_of(tmp_path))
    controller.record.stop_waiting = lambda: None  # type: ignore[method-assign]  # as if killed there
    before = controller.run()
    waiting = [trial.number for trial in before.trials if trial.state == "running"]
    assert waiting
    run(tmp_path, BOOKS, accept=True, trials=12, rungs=rungs)
    states = {t.number: t.state for t in read_run(load_study(url_of(tmp_path), "toy"), 0).trials}
    assert {states[number] for number in waiting} == {"pruned"}


def test_the_terminal_the_report_and_json_say_what_is_left_out(tmp_path: Path) -> None:
    run(tmp_path, WIKI, trials=4)
    record = run(tmp_path, BOOKS, accept=True, trials=8)
    (sentence,) = findings.other_groups(record)
    assert "4 more trials" in sentence
    assert "corpus (wiki -> books)" in sentence
    assert sentence in findings.summary(Results(record))
    data = json.loads(json.dumps(terminal_tables.run_json(Results(record))))
    assert (data["group"], data["other_groups"], data["conditions"]) == (1, 4, BOOKS)


def test_a_view_counts_from_zero_and_decisions_come_back_in_the_studys_numbers() -> None:
    ask = Ask(0, 0, 1.0, 0)
    groups, originals = (0, 1, 0, 1, 1), (None, None, 0, None, 1)
    entries = [
        Trial(number=n, params={}, seed=0, asks=(ask,), group=group, replicate_of=original)
        for n, (group, original) in enumerate(zip(groups, originals, strict=True))
    ]
    view = GroupView.of(History(entries), 1)
    assert view.numbers == (1, 3, 4)
    assert [entry.replicate_of for entry in view.history.trials] == [None, None, 0]
    assert view.in_study(Continue(1, 1.0), 5) == Continue(3, 1.0)
    again = view.in_study(Begin(3, {}, 1, 1.0, "replicate", 2), 5)
    assert again == Begin(5, {}, 1, 1.0, "replicate", 4)


@pytest.mark.parametrize(
    ("before", "now", "text"),
    [
        (WIKI, BOOKS, "corpus (wiki -> books)"),
        ({}, {"numpy": "2"}, "numpy (none -> 2)"),
        ({"a": "1"}, {}, "a (1 -> none)"),
        (dict.fromkeys("abcdef", "1"), {}, "a (1 -> none), b (1 -> none), c (1 -> none), "
         "d (1 -> none), and 2 more"),
        (WIKI, WIKI, ""),
    ],
)  # fmt: skip
def test_a_difference_names_what_changed(
    before: dict[str, str], now: dict[str, str], text: str
) -> None:
    assert conditions.difference(before, now) == text


def test_an_objective_that_states_nothing_has_one_group(tmp_path: Path) -> None:
    record = Controller(spec(trials=3), url_of(tmp_path)).run()
    assert record.conditions == [{}]
    assert record.num_others == 0


def test_runs_of_other_conditions_are_compared_with_a_note(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one = run(tmp_path / "one", WIKI, trials=4)
    other = run(tmp_path / "other", BOOKS, trials=4)
    (note,) = run_comparison.compare_runs({"one": one, "other": other}).notes
    assert "were measured under other conditions: corpus (wiki -> books)" in note
    assert run_comparison.compare_runs({"one": one, "same": one}).notes == ()


def test_what_reproduces_a_group_are_its_own_versions(tmp_path: Path) -> None:
    run(tmp_path, WIKI, trials=3)
    run(tmp_path, WIKI | {"numpy": "9.9"}, accept=True, trials=6)
    study = load_study(url_of(tmp_path), "toy")
    versions = [read_run(study, group).reproduce["versions"]["numpy"] for group in (0, 1)]
    assert versions == ["2.4", "9.9"]


def test_a_trial_of_another_group_is_no_trial_of_this_one(tmp_path: Path) -> None:
    run(tmp_path, WIKI, trials=3)
    record = run(tmp_path, BOOKS, accept=True, trials=6)
    said = r"has no trial 1; its trials are 3 to 5 \(3 more were measured under other conditions\)"
    with pytest.raises(ValueError, match=said):
        trial_names.pick(Results(record), "1")
