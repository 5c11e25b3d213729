"""The terminal's tables and the documented JSON."""

from __future__ import annotations

import io
import json
import math

from rich.console import Console
from rich.table import Table

from hpo.analysis.paper_claims import sides
from hpo.core import format
from hpo.core.goals import Limit
from hpo.front.front import front
from hpo.report.claim_tables import paper_table
from hpo.report.results import Results
from hpo.report.terminal_tables import failed_table, front_table, print_run, run_json
from tests.hpo import noisy, toy


def text_of(table: Table) -> str:
    out = io.StringIO()
    Console(width=160, file=out).print(table)
    return out.getvalue()


def test_front_table_lists_scores_with_errors_and_marks_the_knee() -> None:
    text = text_of(front_table(Results(toy.mixed())))
    rows = [line for line in text.splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in row.strip("│").split("│")] for row in rows]
    assert cells == [
        ["2", "", "3.450", "0.150 ± 0.010", "0.350 ± 0.010", "0.03", "0.003"],
        ["0", "standard", "3.500", "0.200 ± 0.010", "0.400 ± 0.010", "0.01", "0.003"],
        ["3*", "", "3.550", "0.300 ± 0.010", "0.500 ± 0.010", "0.04", "0.003"],
        ["4", "", "3.800", "0.330 ± 0.010", "0.530 ± 0.010", "0.05", "0.003"],
        ["1", "constant rate", "3.700", "0.220 ± 0.010", "0.420 ± 0.010", "0.02", "0.003"],
    ]
    for word in ("base_loss", "gain", "finetuned", "weight_decay", "* knee"):
        assert word in text
    assert "toy: 7 of 12 trials complete, 1 failed, 1 running." in text


def test_a_label_is_beside_the_number_in_tables_and_in_json() -> None:
    merged = toy.trial(0, 3.5, 0.2, labels=["merged"])
    lost = toy.trial(1, math.nan, math.nan, state="failed", failure="lost", labels=["merged"])
    run = toy.run([merged, lost, toy.trial(2, 3.4, 0.1)])
    assert "0 (merged)" in text_of(front_table(Results(run)))
    assert "2 (merged)" not in text_of(front_table(Results(run)))
    failed = failed_table(run)
    assert failed is not None
    assert "#1 (merged)" in text_of(failed)
    assert [row["labels"] for row in run_json(Results(run))["trials_all"]] == [
        ["merged"],
        ["merged"],
        [],
    ]


def test_a_papers_table_puts_its_numbers_before_ours() -> None:
    run = toy.beside_paper()
    assert run.paper is not None
    (side,) = sides(run, run.paper)
    text = text_of(paper_table(side))
    rows = [line for line in text.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row.strip("│").split("│")] for row in rows] == [
        ["a", "2.5", "3.550 ± 0.050 (2)", "0.225 ± 0.025 (2)", "0"],
        ["b", "2.4", "3.460 ± 0.060 (2)", "0.330 ± 0.030 (2)", "1"],
    ]
    for word in ("b is above a", "paper: b is above a", "base_loss (nats/token)", "failed"):
        assert word in text
    assert "point" in text_of(front_table(Results(run)))
    (table,) = run_json(Results(run))["paper"]["tables"]
    assert table["quantities"][1] == {"metric": "gain", "paper": ""}
    assert table["rows"][1]["cells"][0]["paper"] == 2.4
    assert [each["verdict"] for each in table["findings"]] == ["agree", "not significant"]
    assert run_json(Results(toy.mixed()))["paper"] is None


def test_an_empty_front_says_so() -> None:
    assert "No complete trial counts for the front yet." in text_of(
        front_table(Results(toy.run([])))
    )


def test_failed_trials_are_listed_with_their_reasons() -> None:
    table = failed_table(toy.mixed())
    assert table is not None
    assert "loss is not finite at step 40" in text_of(table)
    assert failed_table(toy.run([])) is None


def test_names_that_look_like_console_markup_stay_text() -> None:
    name = "[bold red]x[/] [link=file:///]y"
    run = toy.run([toy.trial(0, 3.5, 0.2, baseline=name, params={name: name})])
    assert text_of(front_table(Results(run))).count(name) == 3


def test_json_has_the_documented_shape() -> None:
    data = run_json(Results(toy.mixed()))
    assert list(data) == [
        "name", "goals", "limits", "group", "other_groups", "conditions", "trials",
        "hypervolume", "reference", "knee", "front",
        "trials_all", "disagreement", "pretraining_worth", "best_values", "contrasts",
        "verifications", "paper",
        "hypervolume_range", "knee_region", "undecided",
        "differences", "from_baselines", "leads",
    ]  # fmt: skip
    assert data["goals"] == [
        {"metric": "base_loss", "direction": "down"},
        {"metric": "gain", "direction": "up"},
    ]
    assert data["trials"] == {"complete": 7, "failed": 1, "running": 1, "planned": 12}
    assert data["reference"] == {"base_loss": 3.9, "gain": 0.10}
    assert [(row["trial"], row["knee"]) for row in data["front"]] == [
        (2, False), (0, False), (3, True), (4, False),
    ]  # fmt: skip
    assert list(data["front"][1]) == [
        "trial", "baseline", "point", "state", "standing", "knee", "params", "metrics", "cost",
        "failure", "notes", "labels", "seed", "fidelity", "replicate_of", "confirms", "membership",
        "estimates", "confirmed",
    ]  # fmt: skip
    assert data["front"][1]["baseline"] == "standard"
    assert data["front"][1]["metrics"]["gain_sem"] == 0.01
    assert [row["trial"] for row in data["trials_all"]] == list(range(10))


def test_the_table_says_how_probable_each_point_of_the_front_is() -> None:
    run = noisy.curve(noise=0.15)
    found = front(run)
    text = text_of(front_table(Results(run)))
    assert "on the front" in text
    rows = [line for line in text.splitlines() if line.startswith("│")]
    for trial, row in zip(found.trials, rows, strict=True):
        cells = [cell.strip() for cell in row.strip("│").split("│")]
        assert cells[0].rstrip("*") == str(trial.number)
        assert cells[2] == format.percent(found.membership[trial.number])
    assert "on the front" not in text_of(front_table(Results(toy.mixed())))


def test_what_is_printed_says_what_is_open_and_what_is_inconclusive() -> None:
    out = io.StringIO()
    print_run(Results(noisy.curve(noise=0.15)), Console(width=400, file=out))
    for words in ("Candidates, not shown on it and", "The knee may be at", "Inconclusive (95 %)"):
        assert words in out.getvalue()


def test_json_says_how_sure_the_front_is() -> None:
    run = noisy.curve(noise=0.15)
    found, data = front(run), run_json(Results(run))
    low, high = data["hypervolume_range"]
    assert low < data["hypervolume"] < high
    assert data["undecided"] == [trial.number for trial in found.undecided]
    assert data["knee_region"][0] == {
        "trial": found.knee_region[0][0], "probability": found.knee_region[0][1],
    }  # fmt: skip
    assert list(data["differences"][0]) == [
        "metric", "better", "other", "value", "error", "significant",
    ]  # fmt: skip
    assert data["from_baselines"] == []
    row = data["front"][0]
    assert row["membership"] == found.membership[row["trial"]]
    assert list(row["estimates"]) == ["a", "a_sem", "b", "b_sem"]
    again = data["trials_all"][12]
    assert (again["replicate_of"], again["standing"], again["membership"]) == (0, "replicate", None)
    unknown = run_json(Results(toy.mixed()))
    assert (unknown["front"][0]["membership"], unknown["hypervolume_range"]) == (None, None)
    json.dumps(data, allow_nan=False)


def test_numbers_that_json_cannot_say_become_null() -> None:
    trial = toy.trial(0, math.inf, math.nan, params={"x": math.nan}, cost={"time_s": math.inf})
    data = run_json(Results(toy.run([trial], limits=(Limit(metric="gain", low=0.1),))))
    parsed = json.loads(json.dumps(data, allow_nan=False))
    assert parsed["trials_all"][0]["metrics"]["gain"] is None
    assert parsed["trials_all"][0]["params"] == {"x": None}
    assert parsed["limits"] == [{"metric": "gain", "low": 0.1, "high": None}]
    assert parsed["disagreement"]["kendall_tau"] is None
