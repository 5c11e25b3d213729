"""The report as a file: whole, offline, and safe against what users name things."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from dataclasses import fields
from datetime import datetime
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError
from plotly.offline import get_plotlyjs

from hpo.core import format
from hpo.core.domains import Choice
from hpo.core.goals import Limit
from hpo.core.trial import Answer, Trial
from hpo.notebook import NotebookRun
from hpo.report.html.cards import budget_rows, facts
from hpo.report.html.page import in_script, packed_plotly, render, write_report
from hpo.report.html.page_data import MOST_POINTS, most_points, thinned
from hpo.report.html.templating import breakable, rendered
from hpo.report.html.trial_table import trial_table
from hpo.report.model_card import card
from hpo.report.plots import draw
from hpo.report.results import Results
from tests.hpo import noisy, toy
from tests.hpo.toy_objective import ToyExported, ToyResult


class Page(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts.append(data)
        elif self.cdata_elem is None:
            self.text += data

    def data(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self.scripts[0])
        return parsed


def hostile() -> str:
    name = toy.HOSTILE
    metrics = {f"task.{name}.{key}": 0.3 for key in ("before", "after", "chance")} | {name: 1.0}
    trials = [
        toy.trial(0, 3.5, 0.2, baseline=name, params={name: name}, metrics=metrics, notes=[name]),
        toy.trial(1, 3.4, 0.1, curves={name: [[0, 1.0]]}),
        toy.trial(2, math.nan, math.nan, state="failed", failure=name, params={name: name}),
    ]
    limits = (Limit(metric=name, low=0),)
    run = toy.run(
        [*trials, *toy.beside_paper(name, name).trials],
        limits=limits,
        name=name,
        description=name,
        reproduce={name: name},
        space={name: Choice(options=[name, "b"])},
        paper=toy.beside_paper(name, name).paper,
    )
    return render(Results(run))


def test_report_is_written_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    assert write_report(Results(toy.mixed()), path) == path
    first = path.read_text(encoding="utf-8")
    assert first.rstrip().endswith("</html>")
    write_report(Results(toy.run([])), path)
    assert path.read_text(encoding="utf-8") != first
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_a_report_that_cannot_be_placed_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OSError, match=r"report\.html"):
        write_report(Results(toy.run([])), tmp_path / "report.html")
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_a_label_is_beside_the_number_and_is_escaped() -> None:
    trial = toy.trial(0, 3.5, 0.2, labels=["merged", "<b>x"], notes=["merged, not trained: why"])
    page = Page(render(Results(toy.run([trial]))))
    assert page.text.count("0 (merged, <b>x)") >= 2
    assert "merged, not trained: why" in page.text


def test_hostile_names_stay_text() -> None:
    page = Page(hostile())
    assert "img" not in {tag for tag, _ in page.tags}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert page.text.count(toy.HOSTILE) > 10
    kinds = [attrs.get("type") for tag, attrs in page.tags if tag == "script"]
    assert kinds == ["application/json", "text/plain", None]
    assert len(page.scripts) == 3


def test_what_would_turn_or_hide_other_text_is_spelled_out_in_page_card_and_notebook() -> None:
    """A name that is read from right to left would change how what is beside it is read."""
    name = "a\u202eb\x1b[2Jc\u200bd"
    run = toy.run(
        [toy.trial(0, 3.5, 0.2, baseline=name, params={name: name}, labels=[name], notes=[name])],
        name=name, description=name, reproduce={name: name},
    )  # fmt: skip
    exported = ToyExported({name: name}, ToyResult(notes=[name]), {name: [name]})
    shown = NotebookRun(**{each.name: getattr(run, each.name) for each in fields(run)})
    results = Results(run)
    for text in (render(results), shown._repr_html_(), card(results, run.trials[0], exported)):
        assert not set("\u202e\x1b\u200b") & set(text)
        assert "u202eb" in text


def test_hostile_names_reach_plotly_escaped() -> None:
    figures = json.dumps(Page(hostile()).data()["figures"])
    assert "<img" not in figures
    assert "&lt;img" in figures


def test_data_in_a_script_cannot_end_it_and_parses_back() -> None:
    data = {toy.HOSTILE: [toy.HOSTILE, "<!--<script>", "\u2028", math.nan, math.inf, 1.5]}
    text = in_script(data)
    assert not set("<>&") & set(text)
    assert json.loads(text) == {toy.HOSTILE: [*data[toy.HOSTILE][:3], None, None, 1.5]}


def test_report_makes_no_request() -> None:
    html = render(Results(toy.mixed()))
    page = Page(html)
    assert html.count(packed_plotly()) == 1
    assert gzip.decompress(base64.b64decode(packed_plotly())).decode() == get_plotlyjs()
    requesting = {"link", "img", "iframe", "object", "embed", "base", "form", "source"}
    assert not requesting & {tag for tag, _ in page.tags}
    assert not [attrs for _, attrs in page.tags if "src" in attrs]
    links = [attrs["href"] or "" for _, attrs in page.tags if "href" in attrs]
    assert links
    assert all(link.startswith("#") for link in links)
    own = html.replace(packed_plotly(), "")
    namespace = "http://www.w3.org/2000/svg"
    assert re.findall(r"https?://[^\"']*|url\(|@import", own) == [namespace]
    policy = next(a["content"] for t, a in page.tags if "Content-Security-Policy" in a.values())
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_summary_says_what_the_search_won_and_what_it_costs() -> None:
    text = Page(render(Results(toy.mixed()))).text
    assert "7 of 12 trials complete, 1 failed, 1 running" in text
    assert (
        "Best gain: #4 with 0.330 ± 0.010, against 0.220 ± 0.010 of #1 constant rate, the best "
        "baseline: +0.110 ± 0.014 (95 %: +0.080 to +0.140, without pretraining seeds, so "
        "significance is unknown), paid with +0.100 base_loss nats/token."
    ) in text
    assert "Knee, where a little of one goal stops buying much of another: #3" in text
    assert "loss is not finite at step 40" in text


@pytest.mark.parametrize("trials", [[], [toy.trial(0, math.nan, math.nan, curves={})]])
def test_a_run_without_a_front_has_a_report(trials: list[Any]) -> None:
    assert (
        "No complete trial counts for the front yet." in Page(render(Results(toy.run(trials)))).text
    )


def test_a_papers_table_is_beside_the_runs_with_what_follows() -> None:
    page = Page(render(Results(toy.beside_paper())))
    assert "Paper and this study: arXiv 0000.00000, a large model. Another scale" in page.text
    assert "This study: a toy" in page.text
    assert "here +0.105 ± 0.005 gain over 2 seeds: same direction." in page.text
    assert "paper -0.1; here -0.09 ± 0.01 base_loss over 2 seeds: not significant" in page.text
    assert "b is above a: the paper" in page.text
    assert "Paper and this study" not in Page(render(Results(toy.mixed()))).text
    assert drawn(page) == places(page)
    assert {"paper-0", "paper-1", "paper-2"} < places(page)


def places(page: Page) -> set[str | None]:
    """Where figures are drawn."""
    return {a["id"] for _, a in page.tags if "figure" in (a.get("class") or "").split()}


def drawn(page: Page) -> set[str]:
    """What there is to draw in those places."""
    data = page.data()
    return {*data["figures"], *data["layouts"], *(["gain-by-task"] if data["gain"] else [])}


def test_every_figure_has_its_place_and_every_trial_its_row() -> None:
    page = Page(render(Results(toy.mixed())))
    assert drawn(page) == places(page)
    rows = [attrs["data-trial"] for _, attrs in page.tags if "data-trial" in attrs]
    assert rows == ["2", "0", "3", "4", "1", "5", "6", "7", "8", "9"]
    assert page.data()["selected"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("trials", [toy.mixed().trials, toy.mixed().trials[:4]])
def test_the_table_has_a_column_of_notes_where_a_trial_has_one(trials: list[Trial]) -> None:
    noted = any(trial.failure or trial.notes for trial in trials)
    assert noted == (len(trials) > 4)
    made = trial_table(Results(toy.run(trials)))
    assert [head.text for head in made.heads].count("failure and notes") == noted
    assert {len(row.cells) for row in made.rows} == {len(made.heads)}


def test_columns_and_details_hold_what_was_recorded() -> None:
    run = toy.mixed()
    data = Page(render(Results(run))).data()
    assert data["columns"]["base_loss"][:3] == [3.5, 3.7, 3.45]
    assert data["columns"]["base_loss"][6] is None
    assert data["columns"]["gain_sem"][0] == 0.01
    assert data["columns"]["pretrain.weight_decay"][:2] == [0.01, 0.02]
    details = data["details"]
    assert details["standing"][3] == "front, knee"
    assert details["cost"]["time_s"][0] == 12.5
    assert details["params"]["pretrain.lr"][0] == "0.003"
    assert details["said"]["6"] == ["failed: loss is not finite at step 40"]


def test_rungs_and_replicates_are_shown_of_a_trial() -> None:
    rung = Answer(0.25, 0, {"base_loss": 4.0})
    trials = [toy.trial(0, 3.5, 0.2, rungs=[rung]), toy.trial(1, 3.5, 0.2, replicate_of=0)]
    details = Page(render(Results(toy.run(trials)))).data()["details"]
    assert details["rungs"] == {"0": [[0.25, {"base_loss": 4.0}]]}
    assert details["said"]["1"] == ["measures #0 at another seed"]


def test_curves_store_equal_steps_once() -> None:
    run = toy.run(
        [toy.trial(0, 3.5, 0.2), toy.trial(1, 3.6, 0.2), toy.trial(2, 3.7, 0.2, curves={})]
    )
    (curve,) = [
        each for each in Page(render(Results(run))).data()["curves"] if each["name"] == "val_loss"
    ]
    assert curve["steps"] == [[0, 20, 40, 60]]
    assert curve["of"] == [0, 0, None]
    assert curve["values"][0] == [float(f"{v:.6g}") for _, v in run.trials[0].curves["val_loss"]]
    assert curve["values"][2] is None


def test_curves_are_thinned_evenly_only_where_they_do_not_fit() -> None:
    curve = [[float(step), 0.0] for step in range(100)]
    assert thinned(curve, None) == thinned(curve, 100) == curve
    assert [point[0] for point in thinned(curve, 4)] == [0, 33, 66, 99]
    few, many = toy.run([toy.trial(0, 3.5, 0.2)]), toy.large(1500, points=60)
    assert most_points(few) is None
    # Three curves of 60 points a trial, and validation's 30, which all fit.
    assert most_points(many) == (MOST_POINTS - 1500 * 30) // (1500 * 3)


def test_the_first_screen_says_what_to_use_what_it_gives_and_how_sure_that_is() -> None:
    page = Page(render(Results(toy.mixed())))
    text = " ".join(page.text.split())
    assert (
        "Use #3: weight_decay 0.04, lr 0.003 (knee). Against #0 standard it has base_loss 3.550 "
        "(+0.0500, worse) and gain 0.300 ± 0.010 (+0.100 ± 0.014, better). How certain: one "
        "pretraining seed a setting, so the noise between seeds is not known; hpo run toy "
        "--confirm 3 measures the front at 3 more. Cost: one trial of it took 12s for 1M tokens."
    ) in text
    cards = [attrs for tag, attrs in page.tags if "card" in (attrs.get("class") or "").split()]
    assert [attrs["class"] for attrs in cards] == ["card chosen", "card", "card"]
    assert len([tag for tag, _ in page.tags if tag == "li"]) < 15


def test_with_known_noise_the_probability_of_the_choice_is_reported() -> None:
    results = Results(noisy.curve(0.05, seeds=2, num_points=4))
    assert results.choice is not None
    share = format.percent(results.front.membership[results.choice.trial.number])
    assert f"on the front with a probability of {share}" in Page(render(results)).text


def test_the_top_says_when_where_and_with_what_the_run_was_measured() -> None:
    run = toy.run(
        [toy.trial(0, 3.5, 0.2)],
        begun=datetime(2026, 1, 2, 3, 4),
        ended=datetime(2026, 1, 2, 4, 5),
        study="mine.py",
        reproduce={
            "versions": {"plasticity-hpo": "0.1.0", "torch": "2.13.0"},
            "machine": {"device": "cpu", "system": "Linux", "cpus": 2},
        },
    )
    assert facts(Results(run)) == [
        "2026-01-02 03:04", "took 1h01m", "1 of 1 trial complete", "study mine.py",
        "cpu, Linux, 2 CPUs", "plasticity-hpo 0.1.0, torch 2.13.0",
    ]  # fmt: skip
    assert facts(Results(toy.run([], reproduce={}))) == ["0 of 0 trials complete"]


def test_what_an_objective_says_of_its_metrics_is_on_the_page() -> None:
    run = toy.run(
        [toy.trial(0, 3.5, 0.2)],
        reproduce={"meanings": {"gain": toy.HOSTILE, "never measured": "x"}},
    )
    page = Page(render(Results(run)))
    assert page.data()["meanings"] == {"gain": toy.HOSTILE}
    assert "img" not in {tag for tag, _ in page.tags}


def test_templates_escape_everything_but_what_the_page_marks_itself() -> None:
    folder = resources.files("hpo.report.html") / "templates"
    names = sorted(each.name for each in folder.iterdir())
    assert "page.html" in names
    for name in names:
        text = (folder / name).read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe|autoescape", text), name
    with pytest.raises(UndefinedError, match="'c' is undefined"):
        rendered("reproduce.html")
    assert str(breakable("a.b_<c>")) == "a.<wbr>b_&lt;c&gt;"


@pytest.mark.parametrize(
    ("colours", "page", "least"),
    [
        (draw.ON_DARK.values(), "#14171b", 4.5),
        (draw.ON_DARK.keys(), "#ffffff", 3.0),
        (draw.SCALE_ON_DARK, "#14171b", 2.5),
    ],
)
def test_series_stand_out_from_the_page(colours: list[str], page: str, least: float) -> None:
    """Contrast as in WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for colour in colours:
        low, high = sorted([luminance(colour), luminance(page)])
        assert (high + 0.05) / (low + 0.05) >= least, colour


def test_a_live_report_loads_itself_again() -> None:
    page = Page(render(Results(toy.mixed()), refresh_s=10.0))
    assert page.data()["refresh_s"] == 10
    assert "Live: this page" in page.text
    still = Page(render(Results(toy.mixed())))
    assert still.data()["refresh_s"] is None
    assert "Live: this page" not in still.text


def test_budget_adds_up_by_state() -> None:
    cost = {"tokens": 100.0, "tokens_reused": 50.0, "device_s": 2.0, "device_s_saved": 1.0}
    trials = [toy.trial(n, 3.5, 0.2, cost=cost) for n in range(2)]
    pruned = toy.trial(2, 3.5, 0.2, cost=cost, state="pruned")
    assert budget_rows(toy.run([*trials, pruned])) == [
        ("complete", "2", "200", "100", "4", "2"),
        ("pruned", "1", "100", "50", "2", "1"),
        ("all", "3", "300", "150", "6", "3"),
    ]


def test_few_trials_are_reported_as_too_few_for_importance() -> None:
    text = Page(render(Results(toy.mixed()))).text
    assert "Importance for gain needs 20 measured settings inside the space; there are 6." in text


def test_five_hundred_trials_fit_and_keep_every_point() -> None:
    html = render(Results(toy.large(500)))
    assert len(html) - len(packed_plotly()) < 3e6
    (curve,) = [each for each in Page(html).data()["curves"] if each["name"] == "train_loss"]
    assert [len(values) for values in curve["values"]] == [40] * 500


def test_how_sure_the_front_is_is_in_table_and_details_where_noise_is_known() -> None:
    page = Page(render(Results(noisy.curve(0.05, seeds=2, num_points=4))))
    assert "on the front" in page.text
    membership = page.data()["details"]["membership"]
    assert all(share.endswith("%") for share in membership[:4])
    assert membership[4:] == [None] * 4
    mean = page.data()["columns"]["a"][0]
    run = noisy.curve(0.05, seeds=2, num_points=4)
    both = [run.trials[number].metrics["a"] for number in (0, 4)]
    assert mean == pytest.approx(sum(both) / 2, rel=1e-5)
    unknown = Page(render(Results(toy.mixed())))
    assert set(unknown.data()["details"]["membership"]) == {None}


def test_a_figure_without_data_is_left_out_of_the_page() -> None:
    """Scores before fine-tuning, and none after it."""
    trials = [
        Trial.measured(
            number=n, state="complete", params={"x": 0.1 * n},
            metrics={
                "base_loss": 3.0 + n, "gain": 0.1, "task.a.before": 0.2, "task.a.after": math.nan,
            },
        )
        for n in range(3)
    ]  # fmt: skip
    page = render(Results(toy.run(trials)))
    assert 'id="gain-by-task"' not in page
    assert 'id="gain-by-task"' in render(Results(toy.mixed()))


def test_a_curve_without_points_ends_no_report() -> None:
    trials = [
        toy.trial(n, 3.5 + n, 0.2, curves={"val_loss": [], "train_loss": []}) for n in range(2)
    ]
    assert "<h1>toy</h1>" in render(Results(toy.run(trials)))
