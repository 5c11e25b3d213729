"""Spectra of weight matrices, and how heavy their tails are (PL_Alpha_Hill of arXiv 2506.14562).

K lanes, M modules, n eigenvalues.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from objectives.training.sharding import REPLICATED, Sharding

BATCH_ELEMENTS = 2**25
"""Elements of Gram matrices held at once, a quarter of a GiB; assumed."""


FLAT = 1e-6
"""Mean log-ratio of a tail up to which its eigenvalues count as equal: single precision weights
tell no smaller difference; assumed."""


def hill_alpha(eigenvalues: Tensor) -> Tensor:
    """The tail exponent of ascending eigenvalues [..., n] by Hill's estimator; [...].

        alpha = 1 + k / sum_{i=1..k} ln(e_{n-i+1} / e_{n-k}),   k = n // 2

    as the paper writes it. Its code counts the reference eigenvalue itself among the tail (for even
    n the tail e_{n/2+1}..e_n over e_{n/2+1}), one term more than the sum has that are not zero.

    NaN where it is not defined: fewer than two eigenvalues, a reference that is not above 0, a tail
    of equal eigenvalues, an eigenvalue that is not finite. The paper's code has no such guard.
    """
    n = eigenvalues.shape[-1]
    k = n // 2
    if k == 0:
        return torch.full_like(eigenvalues[..., :1].sum(-1), torch.nan)
    reference = eigenvalues[..., n - k - 1]
    logs = (eigenvalues[..., n - k :] / reference[..., None]).log().sum(-1)
    known = (reference > 0) & (logs > FLAT * k) & torch.isfinite(logs)
    return torch.where(known, 1 + k / logs, torch.nan)


def eigenvalues(grams: Tensor) -> Tensor:
    """Ascending eigenvalues [..., n] of Gram matrices [..., n, n], not below 0; NaN where these are
    not finite.

    Raises:
        torch.linalg.LinAlgError: they do not converge, which finite symmetric matrices do.
    """
    finite = torch.isfinite(grams).all(-1).all(-1)
    safe = torch.where(finite[..., None, None], grams, 0.0)
    found = torch.linalg.eigvalsh(safe).clamp(min=0)
    return torch.where(finite[..., None], found, torch.nan)


def hill_alphas(
    values_KP: Tensor,
    spans: Sequence[slice],
    shapes: Sequence[torch.Size],
    sharding: Sharding = REPLICATED,
) -> Tensor:
    """PL_Alpha_Hill of matrices that are in the lanes' rows; [K, M] in double precision.

    The eigenvalues of W^T W that are not zero by shape are those of the smaller Gram matrix. In
    double precision it resolves all that single precision weights hold. Matrices with equally many
    are one batch, for as many lanes as the memory is meant for. Sharded ones are gathered one by
    one.
    """
    by_size: dict[int, list[int]] = {}
    for module, shape in enumerate(shapes):
        by_size.setdefault(min(shape), []).append(module)
    alphas_KM = values_KP.new_empty((len(values_KP), len(spans)), dtype=torch.float64)
    for size, members in by_size.items():
        lanes = max(1, BATCH_ELEMENTS // (len(members) * size**2))
        for rows, out in zip(values_KP.split(lanes), alphas_KM.split(lanes), strict=True):
            grams = [
                _grams(sharding.unshard(rows, spans[each]).unflatten(1, shapes[each]))
                for each in members
            ]
            out[:, members] = hill_alpha(eigenvalues(torch.stack(grams, 1)))
    return alphas_KM


def _grams(weights_Kmn: Tensor) -> Tensor:
    """The smaller Gram matrix of each; [K, s, s]."""
    wide = weights_Kmn.double()
    if wide.shape[1] > wide.shape[2]:
        wide = wide.mT
    return wide @ wide.mT
