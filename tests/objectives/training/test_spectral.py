"""PL_Alpha_Hill against its formula, exact Pareto samples and the singular values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from objectives.training import spectral


def by_the_papers_formula(ascending: list[float]) -> float:
    """alpha = 1 + k / sum_{i=1..k} ln(e_{n-i+1} / e_{n-k}), indices from 1 as printed."""
    n = len(ascending)
    k = n // 2

    def e(index: int) -> float:
        return ascending[index - 1]

    return 1 + k / sum(math.log(e(n - i + 1) / e(n - k)) for i in range(1, k + 1))


def by_the_papers_code(ascending: Tensor) -> float:
    """The tail includes its own reference."""
    at = len(ascending) // 2
    m = len(ascending) - at
    logs = ascending.log()
    return float(1 + m / (logs[at:].sum() - m * logs[at]))


@pytest.mark.parametrize("n", [2, 3, 4, 7, 50, 51])
def test_hill_is_the_papers_formula_and_not_its_codes(n: int) -> None:
    drawn = torch.rand(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    ascending = drawn.sort().values + 0.1
    expected = by_the_papers_formula(ascending.tolist())
    assert float(spectral.hill_alpha(ascending)) == pytest.approx(expected, rel=1e-12)
    if n > 3:
        assert abs(by_the_papers_code(ascending) - expected) > 1e-3


@pytest.mark.parametrize("alpha", [1.5, 2.0, 4.0])
def test_hill_finds_the_exponent_of_exact_pareto_quantiles(alpha: float) -> None:
    n = 20_000
    upper = (torch.arange(n, 0, -1, dtype=torch.float64) - 0.5) / n  # survival, falling
    pareto = upper ** (-1 / (alpha - 1))  # density ~ x^-alpha
    assert float(spectral.hill_alpha(pareto)) == pytest.approx(alpha, rel=1e-3)
    assert float(spectral.hill_alpha(7 * pareto)) == pytest.approx(alpha, rel=1e-3)


@pytest.mark.parametrize(
    "eigenvalues",
    [
        [1.0],
        [0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 1.0, 2.0],
        [3.0, 3.0, 3.0, 3.0],
        [1.0, 2.0, 3.0, math.inf],
        [math.nan] * 4,
    ],
)
def test_a_degenerate_spectrum_has_no_exponent(eigenvalues: list[float]) -> None:
    assert math.isnan(float(spectral.hill_alpha(torch.tensor(eigenvalues, dtype=torch.float64))))


def test_an_orthogonal_matrix_has_no_exponent() -> None:
    q, _ = torch.linalg.qr(torch.randn(32, 32, generator=torch.Generator().manual_seed(0)))
    row = q.reshape(1, -1)
    assert spectral.hill_alphas(row, [slice(0, 1024)], [q.shape]).isnan().all()


def test_a_few_zeros_below_the_tail_do_not_matter() -> None:
    alpha = float(spectral.hill_alpha(torch.tensor([0.0, 1.0, 2.0, 4.0])))
    assert alpha == pytest.approx(1 + 2 / (math.log(2) + math.log(4)))


def test_eigenvalues_are_squared_singular_values_whatever_the_shape() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [torch.Size((6, 6)), torch.Size((6, 9)), torch.Size((9, 6)), torch.Size((4, 5))]
    rows = torch.randn(3, sum(shape.numel() for shape in shapes), generator=generator)
    starts = [sum(shape.numel() for shape in shapes[:place]) for place in range(len(shapes))]
    spans = [slice(at, at + s.numel()) for at, s in zip(starts, shapes, strict=True)]
    found = spectral.hill_alphas(rows, spans, shapes)
    for lane, row in enumerate(rows):
        for place, (span, shape) in enumerate(zip(spans, shapes, strict=True)):
            singular = torch.linalg.svdvals(row[span].view(shape).double())
            expected = by_the_papers_formula(sorted((singular**2).tolist()))
            assert float(found[lane, place]) == pytest.approx(expected, rel=1e-9)


def test_lanes_in_company_are_bitwise_what_they_are_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = torch.randn(5, 2 * 40 * 40, generator=torch.Generator().manual_seed(0))
    spans, shapes = [slice(0, 1600), slice(1600, 3200)], [torch.Size((40, 40))] * 2
    together = spectral.hill_alphas(rows, spans, shapes)
    alone = torch.cat([spectral.hill_alphas(row[None], spans, shapes) for row in rows])
    assert torch.equal(together, alone)
    monkeypatch.setattr(spectral, "BATCH_ELEMENTS", 2 * 2 * 40**2)
    assert torch.equal(spectral.hill_alphas(rows, spans, shapes), together)


def test_a_lane_that_is_not_finite_is_nan_and_the_others_feel_nothing() -> None:
    rows = torch.randn(2, 100, generator=torch.Generator().manual_seed(0))
    spans, shapes = [slice(0, 100)], [torch.Size((10, 10))]
    expected = spectral.hill_alphas(rows, spans, shapes)
    rows[0, 3] = math.inf
    found = spectral.hill_alphas(rows, spans, shapes)
    assert found[0].isnan().all()
    assert torch.equal(found[1], expected[1])
