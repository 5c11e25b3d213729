"""Draws of a normal law by Sobol points have its moments, in every coordinate and between them."""

from __future__ import annotations

import numpy as np
import pytest

from hpo.numerics.normal_points import normal_points


@pytest.mark.parametrize("dims", [1, 3, 9])
def test_moments_are_those_of_the_standard_normal_law(dims: int) -> None:
    draws = normal_points(512, dims)
    assert draws.shape == (512, dims)
    assert np.abs(draws.mean(0)).max() < 0.01  # independent draws: 0.04 each
    assert draws.T @ draws / 512 == pytest.approx(np.eye(dims), abs=0.06)


def test_they_are_always_the_same_and_more_of_them_begin_alike() -> None:
    assert np.array_equal(normal_points(8, 4), normal_points(16, 4)[:8])
