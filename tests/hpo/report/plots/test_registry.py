"""The figures of a run and their rows, by equality."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from hpo.analysis.slices import DECAY, RATE
from hpo.core.trial import Run
from hpo.front.front import front
from hpo.report.plots import draw, registry
from hpo.report.plots.figure_data import Curve
from hpo.report.plots.rows import rows
from hpo.report.results import Results
from tests.hpo import toy
from tests.hpo.analysis.test_probes import PROBE, probed
from tests.hpo.analysis.test_slices import searched
from tests.hpo.analysis.test_training_tree import run_of


def small() -> Run:
    return toy.run([toy.trial(0, 3.5, 0.2, baseline="standard"), toy.trial(1, 3.4, 0.3)])


def test_a_run_has_these_figures() -> None:
    assert list(registry.exhibits(Results(toy.beside_paper()))) == [
        "front", "curve.val_loss", "curve.train_loss", "curve.finetune.arithmetic",
        "curve.finetune.grammar", "gain", "paper.0", "paper.1", "paper.2",
        "slice.weight_decay.base_loss", "slice.weight_decay.gain", "parallel",
    ]  # fmt: skip
    assert list(registry.exhibits(Results(toy.run([])))) == ["front"]


def test_the_fronts_rows_are_its_points() -> None:
    first, second = registry.exhibit(Results(small()), "front").rows
    assert first == {
        "trial": 0, "baseline": "standard", "standing": "dominated", "knee": False,
        "base_loss": 3.5, "base_loss_sem": None, "gain": 0.2, "gain_sem": 0.01,
    }  # fmt: skip
    assert (second["trial"], second["standing"], second["knee"]) == (1, "front", True)


def test_a_curve_has_a_row_for_each_trial_and_step() -> None:
    found = registry.exhibit(Results(small()), "curve.val_loss").rows
    run = small()
    assert [(row["trial"], row["steps"], row["values"]) for row in found] == [
        (trial.number, step, float(f"{value:.6g}"))
        for trial in run.trials
        for step, value in trial.curves["val_loss"]
    ]
    assert {row["label"] for row in found} == {"#0 standard", "#1"}


def test_gain_has_a_row_for_each_trial_and_task() -> None:
    found = registry.exhibit(Results(small()), "gain").rows
    assert found[0] == {
        "trial": 0, "label": "#0 standard", "task": "arithmetic", "before": 0.2, "after": 0.4,
        "error": 0.01, "chance": 0.1,
    }  # fmt: skip
    assert len(found) == 2 * len(toy.TASKS)


def test_a_papers_figure_has_a_row_for_each_point() -> None:
    paper, ours = (registry.exhibit(Results(toy.beside_paper()), f"paper.{n}").rows for n in (0, 1))
    assert [(row["points"], row["values"], row["paper"]) for row in paper] == [
        ("a", 2.5, True), ("b", 2.4, True)]  # fmt: skip
    assert [row["points"] for row in ours] == ["a", "b"]
    assert all(row["errors"] > 0 for row in ours)


@dataclass(frozen=True)
class Leaf:
    name: str
    x: tuple[float, ...]
    y: tuple[float | None, ...]
    words: tuple[str, ...]


@dataclass(frozen=True)
class Stem:
    title: str
    leaves: tuple[Leaf, ...]


def test_rows_unfold_records_and_columns_of_one_length() -> None:
    leaf = Leaf("a", (1.0, 2.0), (3.0, None), ("u", "v"))
    assert (
        rows(Stem("t", (leaf, leaf)))
        == [
            {"title": "t", "name": "a", "x": 1.0, "y": 3.0, "words": "u"},
            {"title": "t", "name": "a", "x": 2.0, "y": None, "words": "v"},
        ]
        * 2
    )
    uneven = Leaf("b", (1.0,), (3.0, None), ())
    assert rows((uneven,)) == [{"name": "b", "x": "1.0", "y": "3.0; None", "words": ""}]


def test_parameters_have_slices_interactions_and_parallel_coordinates() -> None:
    found = registry.exhibits(Results(searched()))
    names = [name for name in found if name.startswith(("slice", "interaction", "parallel"))]
    assert names == [
        *(f"slice.{name}.{goal}" for name in ("weight_decay", "lr", "shape", "tau_frac")
          for goal in ("base_loss", "gain")),
        "interaction.base_loss", "interaction.gain", "parallel",
    ]  # fmt: skip
    assert found["slice.shape.base_loss"].rows == [
        {"trial": 0, "pretrain.shape": "cosine", "base_loss": 3.5},
        {"trial": 1, "pretrain.shape": "linear", "base_loss": 3.6},
        {"trial": 2, "pretrain.shape": "cosine", "base_loss": 3.7},
    ]
    assert found["interaction.gain"].rows[1] == {"trial": 1, RATE: 0.01, DECAY: 1.0, "gain": 0.2}
    assert [row["base_loss"] for row in found["parallel"].rows] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("made", [toy.beside_paper, searched, probed])
def test_a_figure_by_its_name_is_that_of_the_list_and_computes_no_other(
    made: Callable[[], Run],
) -> None:
    for name, listed in registry.exhibits(Results(made())).items():
        results = Results(made())
        one = registry.exhibit(results, name)
        assert (one.what, one.rows) == (listed.what, listed.rows)
        computed = vars(results).keys() & {"slices", "interactions", "mechanism", "tree"}
        assert {each.rstrip("s") for each in computed} <= {registry.kind(name)}


def test_what_probes_measured_has_rows_over_decay_and_under_goals() -> None:
    found = registry.exhibits(Results(probed()))
    assert found[f"mechanism.weight_decay.{PROBE}"].rows[2] == {
        "trial": 2, DECAY: 0.03, PROBE: 3.0,
    }  # fmt: skip
    assert found[f"mechanism.{PROBE}.base_loss"].rows[0] == {
        "trial": 0, PROBE: 5.0, "base_loss": 3.5,
    }  # fmt: skip


def test_the_tree_has_a_row_for_each_stretch() -> None:
    found = registry.exhibits(Results(run_of("aab", "aac", "z")))["tree"].rows
    assert found == [
        {"start": 0, "end": 20, "trials": "0 1", "row": 0.5, "parent_row": None},
        {"start": 20, "end": 30, "trials": "0", "row": 0, "parent_row": 0.5},
        {"start": 20, "end": 30, "trials": "1", "row": 1, "parent_row": 0.5},
    ]


def test_every_figure_can_be_drawn() -> None:
    for run in (searched(), probed(), run_of("aab", "aac"), toy.beside_paper()):
        for name, each in registry.exhibits(Results(run)).items():
            assert each.draw().data, name


RUNS = {
    "searched": searched, "probed": probed, "paper": toy.beside_paper, "mixed": toy.mixed,
    "tree": lambda: run_of("aab", "aac", "z"),
}  # fmt: skip


@pytest.mark.parametrize("made", RUNS.values(), ids=RUNS)
def test_every_trace_of_every_figure_has_a_name(made: Callable[[], Run]) -> None:
    for name, each in registry.exhibits(Results(made())).items():
        for trace in each.draw().data:
            assert trace.name, (name, trace)


def test_no_two_entries_of_a_legend_are_the_same() -> None:
    for made in RUNS.values():
        for name, each in registry.exhibits(Results(made())).items():
            entries = [trace.name for trace in each.draw().data if trace.showlegend is not False]
            assert len(entries) == len(set(entries)), name


def test_slices_and_parallel_lines_mark_the_front_and_the_baselines() -> None:
    run = toy.mixed()
    found = registry.exhibits(Results(run))
    wanted = {
        "front": {trial.number for trial in front(run).trials},
        "baseline": {trial.number for trial in run.trials if trial.baseline is not None},
    }
    for name in ("slice.weight_decay.gain", "parallel"):
        drawn = {trace.name.split(" (")[0]: trace for trace in found[name].draw().data}
        for group, numbers in wanted.items():
            assert set(drawn[group].customdata) == numbers & set(drawn["trials"].customdata)
            assert drawn[group].customdata


@pytest.mark.parametrize(("layers", "distance"), [(2, 1), (12, 1), (48, 4)])
def test_layers_are_counted_by_whole_numbers(layers: int, distance: int) -> None:
    steps = tuple(map(float, range(layers + 1)))
    curve = Curve(trial=0, label="#0", shown=True, baseline=False, steps=steps, values=steps)
    drawn = draw.draw_curves((curve,), "probe.rank_by_layer").layout.xaxis
    assert (drawn.title.text, drawn.tick0, drawn.dtick) == ("layer", 0, distance)
    assert draw.draw_curves((curve,), "val_loss").layout.xaxis.dtick is None


def test_titles_of_axes_keep_their_distance() -> None:
    for made in RUNS.values():
        for each in registry.exhibits(Results(made())).values():
            layout = each.draw().layout
            assert layout.yaxis.title.standoff > 0
            assert layout.yaxis.automargin
