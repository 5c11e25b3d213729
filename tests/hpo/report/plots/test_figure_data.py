"""The data behind the figures, by equality, and what drawing must keep."""

from __future__ import annotations

import math

import pytest

from hpo.core import format, metrics
from hpo.core.goals import BASE_LOSS_DOWN, GAIN_UP, Goal
from hpo.core.trial import Run, Trial
from hpo.front.front import front
from hpo.report.plots import draw, figure_data
from hpo.report.results import Results
from tests.hpo import noisy, toy


def plane_of(run: Run) -> figure_data.FrontData:
    return figure_data.front_data(Results(run), *figure_data.plane(run))


def test_front_data_places_every_measured_trial_with_its_errors() -> None:
    data = plane_of(toy.mixed())
    rows = [(p.trial, p.group, p.x, p.y, p.x_error, p.y_error, p.baseline) for p in data.points]
    assert rows == [
        (1, "dominated", 3.7, 0.22, None, 0.01, "constant rate"),
        (5, "dominated", 3.9, 0.1, None, 0.01, None),
        (8, "partial", 3.0, 0.9, None, 0.01, None),
        (2, "front", 3.45, 0.15, None, 0.01, None),
        (0, "front", 3.5, 0.2, None, 0.01, "standard"),
        (3, "front", 3.55, 0.3, None, 0.01, None),
        (4, "front", 3.8, 0.33, None, 0.01, None),
    ]
    assert (data.knee, data.missing, data.joined) == (3, (6, 7, 9), True)


def test_a_failed_trial_with_both_numbers_is_drawn_as_failed() -> None:
    data = plane_of(toy.run([toy.trial(0, 3.5, 0.2, state="failed")]))
    assert [(point.trial, point.group) for point in data.points] == [(0, "failed")]
    assert [trace.name for trace in draw.draw_front(data).data] == ["failed (1)"]


def test_hover_tells_all_params_and_metrics() -> None:
    point = next(p for p in plane_of(toy.mixed()).points if p.trial == 3)
    assert point.hover == (
        "#3 (front, knee)",
        "pretrain.weight_decay = 0.04",
        "pretrain.lr = 0.003",
        "base_loss: 3.550",
        "gain: 0.300 ± 0.010",
        "finetuned: 0.500 ± 0.010",
        "arithmetic: 0.2 → 0.500 ± 0.010",
        "grammar: 0.2 → 0.500 ± 0.010",
    )


def test_a_single_goal_is_drawn_against_what_it_leaves_open() -> None:
    assert figure_data.plane(toy.run([], goals=(BASE_LOSS_DOWN,))) == ("base_loss", "gain")
    assert figure_data.plane(toy.run([], goals=(GAIN_UP,))) == ("gain", "base_loss")
    three = (BASE_LOSS_DOWN, GAIN_UP, Goal(metric="finetuned", direction="up"))
    data = plane_of(toy.run(toy.mixed().trials, goals=three))
    assert (data.x, data.y, data.joined) == ("base_loss", "gain", False)


def test_front_figure_names_groups_baselines_and_knee() -> None:
    traces = draw.draw_front(plane_of(toy.mixed())).data
    assert [trace.name for trace in traces] == [
        "dominated (2)", "partial (1)", "front (4)", "baseline", "knee",
    ]  # fmt: skip
    by_name = {trace.name: trace for trace in traces}
    assert list(by_name["front (4)"].customdata) == [2, 0, 3, 4]
    assert list(by_name["front (4)"].error_y.array) == [0.01] * 4
    assert list(by_name["baseline"].text) == ["standard", "constant rate"]
    assert list(by_name["knee"].customdata) == [3]


def test_a_label_is_in_every_figure_that_names_the_trial() -> None:
    run = toy.run([toy.trial(0, 3.5, 0.2, baseline="a" * 40, labels=["merged"])])
    (point,) = plane_of(run).points
    assert point.hover[0].startswith(f"#0 {'a' * 40} (merged)")
    (text,) = next(t for t in draw.draw_front(plane_of(run)).data if t.name == "baseline").text
    assert text.endswith("… (merged)")
    (curve,) = figure_data.curve_data(Results(run), "train_loss")
    assert curve.label.endswith("(merged)")
    (stroke, _) = draw.draw_gain(figure_data.gain_data(Results(run))).data
    assert stroke.name.endswith("(merged)")


def test_an_empty_run_draws_empty_figures() -> None:
    run = toy.run([])
    assert draw.draw_front(plane_of(run)).data == ()
    assert figure_data.curve_names(run) == []
    assert draw.draw_gain(figure_data.gain_data(Results(run))).data == ()


def test_curves_keep_every_point_and_show_the_front_and_baselines_first() -> None:
    run = toy.mixed()
    curves = figure_data.curve_data(Results(run), "train_loss")
    assert [curve.trial for curve in curves if curve.shown] == [0, 1, 2, 3, 4]
    assert [curve.trial for curve in curves if not curve.shown] == [5, 6, 7, 8, 9]
    assert [curve.label for curve in curves][:3] == ["#0 standard", "#1 constant rate", "#2"]
    steps, values = zip(*run.trials[0].curves["train_loss"], strict=True)
    assert curves[0].steps == steps
    assert all(
        math.isclose(a, b, rel_tol=1e-5) for a, b in zip(curves[0].values, values, strict=True)
    )
    visible = [trace.visible for trace in draw.draw_curves(curves, "train_loss").data]
    assert visible == [True] * 5 + ["legendonly"] * 5


def test_curve_names_start_with_validation_and_end_with_probes() -> None:
    more = {
        "lr": [[0, 0.1]],
        "finetune_lr.grammar": [[1e-3, 2.0], [1e-2, 1.5]],
        "probe.ranks.qk_effective_by_layer": [[0, 3.0], [1, 2.0]],
    }
    run = toy.run([toy.trial(0, 3.5, 0.2, curves=toy.curves(3.5) | more)])
    names = figure_data.curve_names(run)
    assert names == [
        "val_loss", "train_loss", "lr", "finetune.arithmetic", "finetune.grammar",
        "finetune_lr.grammar", "probe.ranks.qk_effective_by_layer",
    ]  # fmt: skip
    layouts = [draw.draw_curves((), name).layout for name in names]
    axes = [layout.xaxis.title.text for layout in layouts]
    assert axes == ["step"] * 5 + ["fine-tuning rate", "layer"]
    assert [layout.xaxis.type for layout in layouts] == [None] * 5 + ["log", None]
    assert layouts[5].yaxis.title.text == "validation loss (nats/token)"


def test_a_diverged_curve_has_a_gap_where_it_is_not_finite() -> None:
    points = [[0, 5.0], [1, math.inf], [2, math.nan]]
    run = toy.run([toy.trial(0, 3.5, 0.2, curves={"train_loss": points})])
    data = figure_data.curve_data(Results(run), "train_loss")
    assert list(draw.draw_curves(data, "train_loss").data[0].y) == [5.0, None, None]


def in_loss(number: int, before: float, after: float) -> Trial:
    """A trial whose task is generated text: its scores are 0, its loss on answers falls."""
    task = {"task.turns.before": 0.0, "task.turns.after": 0.0, "task.turns.chance": 0.0}
    task |= {"task.turns.loss_before_nats": before, "task.turns.loss_after_nats": after}
    means = {"finetuned_loss_nats": after, "loss_gain_nats": before - after}
    metrics = {"base_loss": 3.5, "gain": 0.0, "finetuned": 0.0} | means | task
    return Trial.measured(number=number, state="complete", params={}, metrics=metrics)


def test_a_study_whose_goal_is_the_loss_on_answers_is_read_in_nats() -> None:
    goals = (BASE_LOSS_DOWN, Goal(metric="finetuned_loss_nats", direction="down"))
    run = toy.run([in_loss(0, 3.0, 2.5), in_loss(1, 3.6, 2.6)], goals=goals)
    data = figure_data.gain_data(Results(run))
    assert (data.tasks, data.chance) == (("turns",), {})
    assert [list(stroke.y) for stroke in draw.draw_gain(data).data] == [
        [3.0, 2.5, None],
        [3.6, 2.6, None],
    ]
    assert metrics.score_names(run) == ["base_loss", "finetuned_loss_nats", "loss_gain_nats"]
    apart = Results(run).rank_agreement  # 1 gains more and ends worse
    assert (apart.num_pairs, apart.pairs) == (1, ((1, 0),))
    assert [trial.number for trial in apart.top_by_finetuned] == [0, 1]


def test_gain_by_task_goes_from_before_to_after_with_chance() -> None:
    run = toy.mixed()
    data = figure_data.gain_data(Results(run))
    assert data.tasks == toy.TASKS
    assert data.chance == {"arithmetic": 0.1, "grammar": 0.1}
    trial, shown, gains = data.trials[0]
    assert (trial.number, shown) == (0, True)
    assert gains[0] == figure_data.TaskGain(task="arithmetic", before=0.2, after=0.4, error=0.01)
    figure = draw.draw_gain(data)
    assert list(figure.data[0].y) == [0.2, 0.4, None, 0.2, 0.4, None]
    assert len(figure.layout.shapes) == 2


def test_names_that_look_like_markup_are_escaped_in_figures() -> None:
    run = toy.run([toy.trial(0, 3.5, 0.2, baseline=toy.HOSTILE, params={toy.HOSTILE: toy.HOSTILE})])
    data = figure_data.curve_data(Results(run), "val_loss")
    for figure in (draw.draw_front(plane_of(run)), draw.draw_curves(data, "val_loss")):
        text = figure.to_json()
        assert "<img" not in text.replace("\\u003c", "<")
        assert "&lt;img" in text.replace("\\u0026", "&")


def test_a_quantity_of_a_paper_is_drawn_on_both_sides_where_both_are_known() -> None:
    dots = figure_data.paper_dots(Results(toy.beside_paper()))
    assert [(each.paper, each.axis) for each in dots] == [
        (True, "b is above a"),
        (False, "base_loss (nats/token)"),
        (False, "gain"),
    ]
    for each, expected in zip(dots, [(2.5, 2.4), (3.55, 3.46), (0.225, 0.33)], strict=True):
        assert each.values == pytest.approx(expected)
    assert dots[0].errors == (None, None)
    assert dots[1].errors == pytest.approx((0.05, 0.06))
    (drawn,) = draw.draw_dots(dots[1]).data
    assert drawn.x == ("a", "b")
    assert figure_data.paper_dots(Results(toy.mixed())) == ()


def test_a_repeated_point_is_drawn_at_its_mean_with_its_membership() -> None:
    run = noisy.run(
        [
            noisy.trial(0, 1.0, 2.0),
            noisy.trial(1, 2.0, 1.0),
            noisy.trial(2, 1.2, 2.2, seed=1, replicate_of=0),
            noisy.trial(3, 2.2, 1.2, seed=1, replicate_of=1),
        ]
    )
    found = front(run)
    data = figure_data.front_data(Results(run), "a", "b")
    assert {(p.trial, p.group): (p.x, p.y) for p in data.points} == {
        (2, "replicate"): (1.2, 2.2),
        (3, "replicate"): (2.2, 1.2),
        (0, "front"): pytest.approx((1.1, 2.1)),
        (1, "front"): pytest.approx((2.1, 1.1)),
    }
    shares = {p.trial: p.membership for p in data.points}
    assert shares == {2: None, 3: None, 0: found.membership[0], 1: found.membership[1]}
    drawn = next(t for t in draw.draw_front(data).data if t.name == "front (2)")
    assert list(drawn.text) == [format.percent(found.membership[n]) for n in (0, 1)]
    assert next(p for p in data.points if p.trial == 0).hover[1].startswith("on the front: ")


def test_without_known_noise_nothing_is_stated_of_membership() -> None:
    data = plane_of(toy.mixed())
    assert {point.membership for point in data.points} == {None}
    assert all(trace.mode != "lines+markers+text" for trace in draw.draw_front(data).data)
