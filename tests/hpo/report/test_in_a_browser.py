"""The report in headless Chromium: no request, no error, linked selection, sorting, safe names."""

from __future__ import annotations

import csv
import functools
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpo.core.goals import BASE_LOSS_DOWN, Goal
from hpo.core.trial import Run, Trial
from hpo.report.html.page import write_report
from hpo.report.plots import draw
from hpo.report.results import Results
from tests import browser
from tests.hpo import toy
from tests.hpo.report.test_report import hostile

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser.chromium() is None, reason="no Chromium on the path"),
]


DRAWN = (
    "(async () => { const wait = () => new Promise((done) => setTimeout(done, 20));"
    " await wait(); while (drawing || [...stale].some(isOpen)) await wait();"
    " await wait(); })()"
)


@pytest.fixture(scope="module")
def page() -> Iterator[browser.Page]:
    with browser.page() as opened:
        opened.size(1280, 900)
        yield opened


@functools.cache
def mixed_report() -> str:
    """Of `toy.mixed()`, which most tests look at; written once."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_report(Results(toy.mixed()), Path(folder) / "report.html")
        return path.read_text(encoding="utf-8")


def show_mixed(page: browser.Page, folder: Path) -> None:
    path = folder / "report.html"
    path.write_text(mixed_report(), encoding="utf-8")
    page.open(path.as_uri())
    page.run(DRAWN)


def show(page: browser.Page, folder: Path, run: Run) -> None:
    page.open(write_report(Results(run), folder / "report.html").as_uri())
    page.run(DRAWN)


def scroll(page: browser.Page, section: str) -> None:
    page.run("folds.forEach((fold) => { fold.open = true; })")
    page.run(f"document.getElementById('{section}').scrollIntoView()")
    page.run("new Promise((done) => setTimeout(done, 100))")
    page.run(DRAWN)


def column(page: browser.Page, place: int) -> list[str]:
    found: list[str] = page.run(
        f"[...table.tBodies[0].rows].map((r) => r.cells[{place}].innerText)"
    )
    return found


def ink(page: browser.Page, figure: str, layer: str = "over") -> int:
    """Pixels painted over a figure."""
    found: int = page.run(
        f"(() => {{ const canvas = document.querySelector('#{figure} .{layer}');"
        " const pen = canvas.getContext('2d');"
        " return pen.getImageData(0, 0, canvas.width, canvas.height).data"
        ".filter((value, place) => place % 4 === 3 && value > 0).length; })()"
    )
    return found


def test_it_loads_without_request_or_error_at_every_width_and_theme(
    page: browser.Page, tmp_path: Path
) -> None:
    show_mixed(page, tmp_path)
    assert page.requests == [(tmp_path / "report.html").as_uri()]
    for width, dark, printed in ((1280, False, False), (390, True, False), (1280, False, True)):
        page.size(width, 900, phone=width < 600)
        page.media(dark=dark, printed=printed)
        page.run("folds.forEach((fold) => { fold.open = true; }); drawAll(); drawRest()")
        page.run(DRAWN)
        assert page.run("document.documentElement.scrollWidth") <= width
    page.size(1280, 900)
    page.media()
    assert page.errors == []
    assert len(page.requests) == 1
    drawn = page.run(
        "boxes.filter((box) => !box.querySelector('.plot-container')).map((b) => b.id)"
    )
    assert drawn == []


def test_losses_on_answers_are_drawn_and_told_where_the_study_is_read_by_them(
    page: browser.Page, tmp_path: Path
) -> None:
    goals = (BASE_LOSS_DOWN, Goal(metric="finetuned_loss_nats", direction="down"))
    losses = {"task.a.loss_before_nats": 3.25, "task.a.loss_after_nats": 2.5}
    scores = {"task.a.before": 0.0, "task.a.after": 0.125, "task.a.lr": 0.01}
    metrics = {"base_loss": 3.5, "finetuned_loss_nats": 2.5} | losses | scores
    trial = Trial.measured(number=0, state="complete", params={}, metrics=metrics)
    show(page, tmp_path, toy.run([trial], goals=goals))
    assert page.run("JSON.stringify(strokes([0]).map((each) => each.y))") == "[[3.25,2.5,null]]"
    assert "a: 3.25" in page.run("hover(0)")
    page.run("openTrial(0)")
    table = page.run("document.querySelector('dialog table.tasks').innerText").split()
    assert table == ["task", "before", "after", "rate", "a", "3.25", "2.5", "0.01"]
    assert page.errors == []


def test_a_click_marks_the_trial_in_every_view(page: browser.Page, tmp_path: Path) -> None:
    show_mixed(page, tmp_path)
    page.run("document.getElementById('select-none').click()")
    page.run(DRAWN)
    assert page.run("document.getElementById('count').textContent") == "0 of 10 trials"
    assert ink(page, "front", "under") == 0
    page.run(
        "document.getElementById('front').emit('plotly_click', { points: [{ customdata: 4 }] })"
    )
    assert ink(page, "front", "under") > 0
    assert page.run("document.querySelector('input[data-trial=\"4\"]').checked") is True
    assert page.run("document.querySelector('#bar .key').innerText.trim()") == "#4"
    scroll(page, "parameters")
    assert ink(page, "slice-0") > 0
    scroll(page, "curves")
    names = "document.getElementById('curve-1').data.map((trace) => trace.name).filter(Boolean)"
    assert page.run(names) == ["#4"]
    page.run("document.querySelector('input[data-trial=\"2\"]').click()")
    page.run(DRAWN)
    assert page.run(names) == ["#4", "#2"]
    assert page.errors == []


def test_a_dragged_box_selects_what_is_in_it(page: browser.Page, tmp_path: Path) -> None:
    show_mixed(page, tmp_path)
    script = "document.getElementById('front').emit('plotly_selected', {{ range: {0} }})"
    page.run(script.format("{ x: [3.4, 3.52], y: [0.1, 0.25] }"))
    assert page.run("[...selected]") == [2, 0]
    scroll(page, "parameters")
    assert page.run("[...document.getElementById('slice-0').shown.at(-1).x]")[:2] == [0.01, 0.02]
    page.run(script.replace("'front'", "'slice-0'").format("{ x: [0.015, 0.035], y: [3, 4] }"))
    assert page.run("[...selected]") == [1, 2]


def test_a_large_study_is_drawn_when_idle_and_on_paper_plotly_draws_what_is_painted(
    page: browser.Page, tmp_path: Path
) -> None:
    show(page, tmp_path, toy.large(400))
    late = "boxes.filter((box) => isOpen(box.id) && !box.shown && stale.has(box.id))"
    assert page.run(late) == []
    modes = "document.getElementById('slice-0').data.map((trace) => trace.mode)"
    scroll(page, "parameters")
    assert page.run(modes).count("none") == 1
    page.run("select([1, 2]); onPaper(true)")
    assert page.run(modes).count("none") == 0
    printed = page.run("document.getElementById('slice-0').data.at(-1).x.filter(Boolean).length")
    assert printed == 2
    page.run("onPaper(false)")
    page.run(DRAWN)
    assert page.run(modes).count("none") == 1
    assert page.errors == []


def test_points_of_a_choice_are_ringed_where_they_are(page: browser.Page, tmp_path: Path) -> None:
    trials = [
        toy.trial(n, 3.5 + n / 10, 0.2, params={"shape": ("0.25", "1")[n % 2]}) for n in range(4)
    ]
    show(page, tmp_path, toy.run(trials, space={}))
    scroll(page, "parameters")
    script = (
        "(() => {{ const box = document.getElementById('slice-0'); const {{ xaxis, yaxis }} ="
        " box._fullLayout; return position(box.shown[0], {0}, xaxis, yaxis)[0] - xaxis._offset -"
        " xaxis.l2p({1}); }})()"
    )
    assert page.run(script.format(0, 0)) == pytest.approx(0)
    assert page.run(script.format(1, 1)) == pytest.approx(0)


def test_columns_sort_both_ways_with_missing_values_last(
    page: browser.Page, tmp_path: Path
) -> None:
    show_mixed(page, tmp_path)
    click = "document.querySelectorAll('#trial-table th button')[{}].click()"
    page.run(click.format(2))  # gain
    assert column(page, 3)[:3] == ["0.100 ± 0.010", "0.150 ± 0.010", "0.200 ± 0.010"]
    assert column(page, 3)[-3:] == ["n/a"] * 3
    page.run(click.format(2))
    assert column(page, 1)[:3] == ["8", "4", "3"]
    assert column(page, 3)[-3:] == ["n/a"] * 3
    page.run(click.format(6))  # standing
    assert column(page, 7)[0] == "dominated"


def test_finding_and_selected_only_shorten_the_table(page: browser.Page, tmp_path: Path) -> None:
    show(page, tmp_path, toy.large(150))
    assert len(column(page, 1)) == 100
    page.run("document.getElementById('more').click()")
    assert len(column(page, 1)) == 150
    page.run("select([7, 9]); document.getElementById('only').click()")
    assert sorted(column(page, 1)) == ["7", "9"]
    page.run("document.getElementById('only').click()")
    page.run("const box = document.getElementById('find'); box.value = 'baseline 2'; showRows()")
    assert column(page, 1) == ["2 baseline 2"]


def test_axes_change_to_any_metric_or_parameter(page: browser.Page, tmp_path: Path) -> None:
    show_mixed(page, tmp_path)
    page.run(
        "const menu = document.getElementById('axis-x'); menu.value = 'pretrain.weight_decay';"
        " menu.dispatchEvent(new Event('change'))"
    )
    page.run(DRAWN)
    layout = page.run("(({ xaxis }) => [xaxis.title.text, xaxis.type])(front.layout)")
    assert layout == ["pretrain.weight_decay", "log"]
    assert page.run("front.data[0].x") == [0.02, 0.06]


def test_a_trials_page_tells_everything(page: browser.Page, tmp_path: Path) -> None:
    show_mixed(page, tmp_path)
    page.run("document.querySelector('#trial-table [data-open=\"6\"]').click()")
    assert "failed: loss is not finite at step 40" in page.run("dialog.innerText")
    page.run("openTrial(3)")
    page.run("new Promise((done) => setTimeout(done, 500))")
    text: str = page.run("dialog.innerText.replace(/\\s+/g, ' ')")
    for said in ("front, knee", "pretrain.weight_decay 0.04", "gain 0.3 ± 0.01",
                 "task before after gain rate chance arithmetic 0.2 0.5 ± 0.01 0.3 ± 0.01 n/a 0.1",
                 "hpo export toy --trial 3 --to trial-3", "time_s 12.5"):  # fmt: skip
        assert said in text
    assert page.run("dialog.querySelectorAll('.plot-container').length") == 4
    assert page.errors == []


def test_on_a_phone_a_trials_page_shows_every_column_of_its_tasks(
    page: browser.Page, tmp_path: Path
) -> None:
    page.size(390, 844, phone=True)
    show_mixed(page, tmp_path)
    page.run("openTrial(3)")
    hidden = page.run(
        "[dialog, dialog.querySelector('.scroll')].map((e) => e.scrollWidth - e.clientWidth)"
    )
    page.size(1280, 900)
    assert hidden == [0, 0]


def test_hostile_names_stay_text(page: browser.Page, tmp_path: Path) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(hostile(), encoding="utf-8")
    page.open(path.as_uri())
    page.run("window.alert = () => { throw new Error('hostile'); }; drawRest()")
    page.run(DRAWN)
    page.run("openTrial(0); front.data.forEach((trace) => trace.customdata?.map(hover))")
    page.run("new Promise((done) => setTimeout(done, 300))")
    assert page.run("document.querySelectorAll('img').length") == 0
    assert toy.HOSTILE in page.run("dialog.innerText")
    assert page.errors == []
    assert len(page.requests) == 1


def test_all_open_figures_are_drawn_without_scrolling_and_the_rest_when_opened(
    page: browser.Page, tmp_path: Path
) -> None:
    show_mixed(page, tmp_path)
    empty = "boxes.filter((box) => !box.querySelector('.plot-container')).map((b) => b.id)"
    waiting = page.run(empty)
    assert "curve-0" in waiting
    assert not [name for name in waiting if page.run(f"isOpen('{name}')")]
    assert page.run("boxes.filter((box) => isOpen(box.id)).length") <= 6
    page.run("document.querySelector('#curves details').open = true")
    page.run("new Promise((done) => setTimeout(done, 100))")
    page.run(DRAWN)
    assert set(waiting) - set(page.run(empty)) >= {"curve-0", "curve-1"}
    assert page.errors == []


def test_folded_parts_are_open_on_paper_alone(page: browser.Page, tmp_path: Path) -> None:
    show_mixed(page, tmp_path)
    is_open = "folds.map((fold) => fold.open)"
    before = page.run(is_open)
    assert not all(before)
    page.run("onPaper(true)")
    assert all(page.run(is_open))
    assert page.run("boxes.every((box) => box.querySelector('.plot-container') !== null)")
    page.run("onPaper(false)")
    assert page.run(is_open) == before


def test_a_phone_has_goals_first_one_line_of_selection_and_few_screens(
    page: browser.Page, tmp_path: Path
) -> None:
    page.size(390, 844, phone=True)
    show_mixed(page, tmp_path)
    assert page.run("document.documentElement.scrollHeight") < 12 * 844
    assert page.run("document.getElementById('bar').offsetHeight") < 50
    box = "table.rows[0].cells[{}].getBoundingClientRect()"
    assert page.run(f"{box.format(3)}.right") <= 390  # both goals, base_loss and gain
    page.run("document.querySelector('#trials .scroll').scrollLeft = 300")
    assert page.run(f"{box.format(1)}.left") < 20  # the trial's number stays
    page.size(1280, 900)


def test_on_a_dark_page_series_have_colours_of_their_own_and_on_paper_not(
    page: browser.Page, tmp_path: Path
) -> None:
    page.media(dark=True)
    show_mixed(page, tmp_path)
    colour = "front.data.find((trace) => trace.name.startsWith('front')).marker.color"
    assert page.run(colour) == draw.ON_DARK[draw.VERMILLION]
    page.run("onPaper(true)")
    assert page.run(colour) == draw.VERMILLION
    page.run("onPaper(false)")
    page.media()


def test_the_table_is_downloaded_as_csv_and_json_of_the_same_rows(
    page: browser.Page, tmp_path: Path
) -> None:
    path = tmp_path / "hostile.html"
    path.write_text(hostile(), encoding="utf-8")
    page.open(path.as_uri())
    rows = page.run("records()")
    read = list(csv.DictReader(io.StringIO(page.run("asCsv(records())"), newline="")))
    assert [row["trial"] for row in read] == [str(row["trial"]) for row in rows]
    assert float(read[0]["metrics.base_loss"]) == rows[0]["metrics.base_loss"]
    assert read[0]["label"] == f"#0 {toy.HOSTILE}"
    assert read[0][f"params.{toy.HOSTILE}"] == toy.HOSTILE
    cells = [page.run(f"csvCell({text!r})") for text in ("=1+1", "@x", "-1.5", 'a"b')]
    assert cells == ["'=1+1", "'@x", "-1.5", '"a""b"']
    assert page.errors == []


def test_a_live_page_reloads_itself_and_keeps_the_selection(
    page: browser.Page, tmp_path: Path
) -> None:
    results = Results(toy.mixed())
    page.open(write_report(results, tmp_path / "report.html", refresh_s=2).as_uri())
    page.run("select([5])")
    page.wait_for_load()
    assert page.run("[...selected]") == [5]
    show_mixed(page, tmp_path)
    assert page.run("[...selected]") == [0, 1, 2, 3, 4]
