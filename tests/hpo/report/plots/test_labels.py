"""Names of points: apart from each other, towards the inside, left out where nothing is free."""

from __future__ import annotations

import pytest

from hpo.report.plots import labels

EXTENT = [(0.0, 0.0), (1.0, 1.0)]


def test_a_name_alone_is_at_the_side_where_no_edge_cuts_it() -> None:
    assert labels.corners([(0.0, 0.5)], ["standard"], EXTENT) == ["top right"]
    assert labels.corners([(1.0, 0.5)], ["standard"], EXTENT) == ["top left"]


def test_neighbours_names_are_apart_whichever_comes_first() -> None:
    points = [(0.4, 0.50), (0.4, 0.53)]
    names = ["standard", "no decay"]
    assert labels.corners(points, names, EXTENT) == ["bottom right", "top right"]
    assert labels.corners(points[::-1], names, EXTENT) == ["top right", "bottom right"]


@pytest.mark.parametrize("count", [5, 20])
def test_no_two_names_of_a_crowd_overlap_and_the_first_is_written(count: int) -> None:
    points = [(0.5, 0.5)] * count
    sides = labels.corners(points, ["a name"] * count, EXTENT)
    written = [side for side in sides if side is not None]
    assert sides[0] is not None
    assert len(set(written)) == len(written)


def test_the_seeds_of_one_baseline_have_one_name() -> None:
    assert labels.once(["decay 0", "decay 1", "decay 0"]) == ["decay 0", "decay 1", ""]


def test_values_that_are_all_one_have_a_place() -> None:
    assert labels.corners([(2.0, 3.0)], ["only"], [(2.0, 3.0)]) == ["top right"]
    assert labels.corners([], [], []) == []
