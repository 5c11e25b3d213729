"""Ranks of the products that attention works with: W_QK of query and key, W_VO of value and output.

Larger weight decay lowers the pseudo-rank of W_QK (arXiv 2602.11137, section 4.2; arXiv 2410.23819
says why). Its formula was not found, so several are given, each under its own name. With singular
values s of a product and p_i = s_i / sum s:

- effective: exp(-sum p ln p), as the code of loss-of-plasticity (shibhansh) takes it;
- stable: sum s^2 / max s^2, the squared Frobenius norm over the squared spectral norm;
- over_5_percent: how many s are above 5 % of the largest. This project's;
- 95_of_sum: the least k whose k largest s make 95 % of sum s. This project's;
- 95_of_squares: the same of sum s^2. This project's.

A matrix of zeros has rank 0 under all of them. Each head has a product of its own, of width D and
of rank at most C: its singular values are those of the small product of the two factors' R, and no
D x D matrix is ever made.

L layers, H heads, D width, C channels of a head, N singular values.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from objectives.probes.architecture import attention_of
from objectives.probes.types import ProbeBatch, ProbeResult, by_layer

SHARE = 0.95


THRESHOLD = 0.05


def product_singular_values(left: Tensor, right: Tensor) -> Tensor:
    """Of left @ right.T, from largest to least; factors [..., D, C]."""
    left_r, right_r = (torch.linalg.qr(factor, mode="r")[1] for factor in (left, right))
    values: Tensor = torch.linalg.svdvals(left_r @ right_r.mT)
    return values


def effective_rank(values: Tensor) -> Tensor:
    """exp(-sum p ln p), p = s / sum s; [..., N] -> [...]."""
    total = values.sum(-1)
    shares = values / total.clamp(min=torch.finfo(values.dtype).tiny)[..., None]
    rank: Tensor = torch.special.entr(shares).sum(-1).exp() * (total > 0)
    return rank


def stable_rank(values: Tensor) -> Tensor:
    """sum s^2 / max s^2; [..., N] -> [...]."""
    shares = values / values[..., :1].clamp(min=torch.finfo(values.dtype).tiny)
    return shares.square().sum(-1)


def count_over(values: Tensor) -> Tensor:
    """How many values are above THRESHOLD of the largest; [..., N] -> [...]."""
    return (values > THRESHOLD * values[..., :1]).sum(-1).to(values.dtype)


def count_for_share(values: Tensor) -> Tensor:
    """The least k whose k largest values make SHARE of the sum; [..., N] -> [...]."""
    reached = values.cumsum(-1) >= SHARE * values.sum(-1, keepdim=True)
    count = values.shape[-1] - reached.sum(-1) + 1
    return count.to(values.dtype) * (values.sum(-1) > 0)


def measure_attention_ranks(group: ProbeBatch) -> list[ProbeResult]:
    """Means over heads and layers; by layer, means over its heads."""
    found = []
    for params in group.params:
        factors = attention_of(group.config, params)
        products = {"qk": (factors.query, factors.key), "vo": (factors.output, factors.value)}
        ranks = {
            f"{product}_{name}": rank(product_singular_values(*pair))
            for product, pair in products.items()
            for name, rank in RANKS.items()
        }
        curves = {
            f"{name}_by_layer": by_layer(rank_LH.mean(1).tolist())
            for name, rank_LH in ranks.items()
            if name.endswith(("effective", "over_5_percent"))
        }
        metrics = {name: float(rank_LH.mean()) for name, rank_LH in ranks.items()}
        found.append(ProbeResult(metrics=metrics, curves=curves))
    return found


RANKS: dict[str, Callable[[Tensor], Tensor]] = {
    "effective": effective_rank,
    "stable": stable_rank,
    "over_5_percent": count_over,
    "95_of_sum": count_for_share,
    "95_of_squares": lambda values: count_for_share(values.square()),
}
