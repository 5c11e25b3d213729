"""What a paper found, as data: its round trip, its weights, and tables that name unknown points."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hpo.controller import Controller
from hpo.core.paper import (
    Contrast,
    Correlation,
    Match,
    Paper,
    Quantity,
    Shift,
    Table,
    difference,
    means,
    trend,
)
from hpo.core.spec import GridPoint
from hpo.storage.provenance import StudyChanged
from hpo.storage.record import url_of
from tests.hpo.toy_objective import spec

POINTS = ("a", "b", "c")


def table(**fields: Any) -> Table:
    return Table(**({"title": "t", "points": POINTS, "quantities": ()} | fields))


PAPER = Paper(
    arxiv="0000.00000",
    scale="large",
    ours="small",
    tables=(
        table(
            quantities=(Quantity(metric="gain", paper_name="score", paper={"a": 1.5}),),
            claims=(
                Contrast(text="x", metric="gain", weights=difference("a", "b"), sign=1, paper=2.0),
                Match(text="w", metric="gain", point="a", like="b", unlike="c"),
                Shift(text="y", points=POINTS, paper_before="a", paper_after="b"),
                Correlation(text="z", points=POINTS, x="gain", y="base_loss", sign=-1, paper=-0.7),
            ),
        ),
    ),
)


GRID = tuple(
    GridPoint(name=name, params={"pretrain.weight_decay": 0.1 * (place + 1)})
    for place, name in enumerate(POINTS)
)


def test_findings_come_back_from_json() -> None:
    assert Paper.from_dict(json.loads(json.dumps(PAPER.to_dict()))) == PAPER


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        (difference("a", "b"), {"a": 1, "b": -1}),
        (means(["a"], ["b", "c"]), {"a": 1, "b": -0.5, "c": -0.5}),
        (trend(["a", "b", "c"]), {"a": -1, "c": 1}),
        (trend(["a", "b", "c", "d"]), {"a": -1.5, "b": -0.5, "c": 0.5, "d": 1.5}),
    ],
)
def test_weights_add_up_to_nothing(weights: dict[str, float], expected: dict[str, float]) -> None:
    assert weights == expected
    assert sum(weights.values()) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"quantities": (Quantity(metric="gain", paper={"z": 1.0}),)},
        {"quantities": (Quantity(metric="gain", best_of=("z",)),)},
        {"claims": (Contrast(text="x", metric="g", weights=difference("a", "z"), sign=1),)},
        {"claims": (Shift(text="x", points=("a", "z")),)},
        {"claims": (Match(text="x", metric="g", point="a", like="b", unlike="z"),)},
    ],
)
def test_a_table_that_names_a_point_it_does_not_have_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="has no points"):
        table(**fields)


def test_a_study_has_every_point_that_its_paper_names() -> None:
    assert spec(baselines=(), grid=GRID, paper=PAPER).paper is PAPER
    with pytest.raises(ValueError, match=r"tables name points .* \['c'\]"):
        spec(grid=GRID[:2], paper=PAPER)


def test_a_papers_numbers_may_be_mended_while_a_study_runs_but_its_grid_may_not(
    tmp_path: Any,
) -> None:
    study = spec(grid=GRID, trials=5, paper=None)
    assert Controller(study, url_of(tmp_path)).run().paper is None
    run = Controller(spec(grid=GRID, trials=5, paper=PAPER), url_of(tmp_path)).run()
    assert run.paper == PAPER
    assert len(run.trials) == 5
    for changed in (spec(grid=GRID[::-1], trials=5), spec(grid=GRID, trials=5, replicates=2)):
        with pytest.raises(StudyChanged):
            Controller(changed, url_of(tmp_path))
