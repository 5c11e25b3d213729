"""Tables of trials beside the front."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from hpo.core.trial import Run
from hpo.front.front import front
from hpo.report import terminal_tables, trial_tables
from hpo.report.results import Results
from tests.hpo import toy


def printed(metric: str | None = None, top: int | None = None) -> list[list[str]]:
    """Cells of the rows of every trial."""
    console = Console(file=io.StringIO(), width=300)
    trial_tables.print_trials(Results(toy.mixed()), console, metric, top)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]


def shown(run: Run) -> str:
    console = Console(file=io.StringIO(), width=300)
    terminal_tables.print_run(Results(run), console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_show_has_the_baselines_below_a_rule_and_differences_from_the_first() -> None:
    run = toy.mixed()
    found = front(run)
    below = [each for each in trial_tables.baselines(found) if each not in found.trials]
    assert [each.baseline for each in below] == ["constant rate"]
    lines = shown(run).splitlines()
    (rule,) = [place for place, line in enumerate(lines) if line.startswith("├")][:1]
    assert "constant rate" in lines[rule + 1]
    assert all("constant rate" not in line for line in lines[:rule])
    assert "Differences from #0 standard" in shown(run)
    (row,) = [line for line in lines if "│ #3" in line]
    assert [cell.strip() for cell in row.split("│")[2:4]] == ["+0.0500", "+0.100 ± 0.014"]


def test_show_counts_dominated_trials_and_says_what_was_noted() -> None:
    run = toy.run([toy.trial(0, 3.5, 0.2, notes=["few rows"]), toy.trial(1, 3.6, 0.1)])
    text = shown(run)
    assert "1 more is dominated; hpo show toy --all shows every trial." in text
    assert "Note (#0): few rows" in text


def test_all_shows_every_trial_with_the_reason_of_a_failure() -> None:
    rows = printed()
    assert [row[0].split()[0] for row in rows] == [f"#{number}" for number in range(10)]
    assert rows[6][1] == "failed"
    assert rows[6][-1] == "loss is not finite at step 40"


@pytest.mark.parametrize(
    ("metric", "first"), [("base_loss", "#8"), ("gain", "#8"), ("task.grammar.after", "#5")]
)
def test_trials_are_sorted_by_a_metric_the_best_first_and_the_unmeasured_last(
    metric: str, first: str
) -> None:
    rows = printed(metric)
    assert rows[0][0] == first
    assert {row[0].split()[0] for row in rows[-2:]} <= {"#6", "#7", "#9"}
    assert [row[0] for row in printed(metric, 2)] == [row[0] for row in rows[:2]]


def test_an_unknown_metric_names_the_near_ones() -> None:
    with pytest.raises(ValueError, match=r"no trial has a metric 'base_los'; did you mean base_l"):
        printed("base_los")
