"""Probes of weights and losses alone: spectral exponents, spikes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from objectives.probes.loss_spikes import WINDOW, rises
from objectives.probes.spectral_exponents import exponents


def test_alpha_is_the_papers_formula_on_a_known_spectrum() -> None:
    eigenvalues = torch.tensor([1.0, 2.0, 3.0, 8.0, 16.0, 5.0]).double()
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    weights = torch.stack([turn @ torch.diag(eigenvalues.sqrt()), torch.diag(eigenvalues.sqrt())])
    alpha = 1 + 3 / (math.log(16 / 3) + math.log(8 / 3) + math.log(5 / 3))
    assert exponents(weights).tolist() == pytest.approx([alpha, alpha])


def test_alpha_does_not_depend_on_the_scale_and_has_no_value_without_a_tail() -> None:
    weights = torch.randn(1, 7, 5)
    torch.testing.assert_close(exponents(3 * weights), exponents(weights))
    assert math.isnan(float(exponents(torch.eye(4)[None])))


def test_a_spike_is_counted_once_however_long_and_noise_is_none() -> None:
    quiet = 3 + 0.05 * np.random.default_rng(0).standard_normal(200)
    assert rises(quiet)[1].sum() == 0
    spiky = quiet.copy()
    spiky[100:103] += 2.0
    spiky[150] += 1.0
    rise, spiking = rises(spiky)
    assert np.flatnonzero(spiking).tolist() == [100 - WINDOW, 101 - WINDOW, 102 - WINDOW, 118]
    assert rise.max() == pytest.approx(2.0, abs=0.2)


@pytest.mark.parametrize("steps", [0, 1, WINDOW])
def test_a_run_no_longer_than_the_window_has_no_spikes(steps: int) -> None:
    rise, spiking = rises(np.ones(steps))
    assert len(rise) == len(spiking) == 0
