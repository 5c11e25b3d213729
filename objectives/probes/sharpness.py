"""Sharpness of the loss: the trace of its Hessian, and its rise under random noise on the weights.

    trace = mean_z z' H z,  z of random signs (Hutchinson; arXiv 2603.16127)
    rise  = mean_e [ L(w + g e) - L(w) ]  (arXiv 2503.19206)

Where H is diagonal, signs give its trace exactly. For small g the rise of equal noise is
g^2 trace / 2. Whether the paper's noise is the same for all weights or scaled
by tensor was not found: both are given. Losses are those of a fixed validation text; the random
draws are the same for every base, so bases are compared under the same noise.

Fused attention has no second derivative; torch's plain attention has, and is taken for the trace.

K lanes, P parameters of a lane, N draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from objectives.probes.types import ProbeBatch, ProbeResult
from objectives.training import batch

SEED = 0
"""Of the random draws; the same for all bases, whatever their own seed."""


Losses = Callable[[Tensor], Tensor]
"""Rows of parameters [K, P] -> losses [K]."""


def signs(vectors: int, like_P: Tensor) -> Iterator[Tensor]:
    """Vectors of random signs; [P] each."""
    draw = torch.Generator().manual_seed(SEED)
    for _ in range(vectors):
        yield (2 * torch.randint(0, 2, like_P.shape, generator=draw) - 1).to(like_P)


def curvatures(losses: Losses, values_KP: Tensor, vectors: Iterable[Tensor]) -> Tensor:
    """z' H z of each lane for each vector, [P] or each lane's own [K, P]; [K, N]."""
    leaf = values_KP.detach().clone().requires_grad_()
    (grads_KP,) = torch.autograd.grad(losses(leaf).sum(), leaf, create_graph=True)
    found = []
    for vector in vectors:
        # Lanes are independent: the product of the sum's Hessian is that of each lane's own.
        (product_KP,) = torch.autograd.grad((grads_KP * vector).sum(), leaf, retain_graph=True)
        found.append((product_KP * vector).sum(1))
    return torch.stack(found, 1)


def noise_rises(
    losses: Losses, values_KP: Tensor, scale_KP: Tensor, draws: int
) -> Iterator[Tensor]:
    """L(w + scale e) - L(w) for `draws` normal vectors e; [K] each. A scale may be [K, 1]."""
    draw = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        before_K = losses(values_KP)
        for _ in range(draws):
            noise_P = torch.randn(values_KP.shape[1], generator=draw).to(values_KP)
            yield losses(values_KP + scale_KP * noise_P) - before_K


def measure_trace(group: ProbeBatch) -> list[ProbeResult]:
    """The trace with its standard error over the vectors."""
    values_KP, sample = group.rows(), group.sample()
    count = group.recipe.probes.vectors
    total_KN = torch.zeros(len(values_KP), count, device=values_KP.device, dtype=values_KP.dtype)
    parts = list(group.batches(sample))
    for place in group.with_progress("sharpness", len(parts)):
        ids = parts[place]
        with sdpa_kernel(SDPBackend.MATH):
            part_KN = curvatures(_losses(group, [ids]), values_KP, signs(count, values_KP[0]))
        total_KN += part_KN * (len(ids) / len(sample))
    return [ProbeResult(metrics=with_error("trace", total_N)) for total_N in total_KN]


def measure_noise(group: ProbeBatch) -> list[ProbeResult]:
    """Both rises, nats a token, with their standard errors over the draws."""
    values_KP, probes = group.rows(), group.recipe.probes
    losses = _losses(group, list(group.batches(group.sample())))
    scales = {
        "isotropic_nats": torch.full_like(values_KP[:, :1], probes.noise_isotropic),
        "relative_nats": probes.noise_relative * tensor_scales(group.shapes, values_KP),
    }
    rises = {}
    for name, scale_KP in scales.items():
        each = noise_rises(losses, values_KP, scale_KP, probes.noise_draws)
        rises[name] = torch.stack(
            [next(each) for _ in group.with_progress("noise", probes.noise_draws)], 1
        )
    return [
        ProbeResult(
            metrics={
                k: v for name, r in rises.items() for k, v in with_error(name, r[lane]).items()
            }
        )
        for lane in range(len(values_KP))
    ]


def tensor_scales(shapes: dict[str, torch.Size], values_KP: Tensor) -> Tensor:
    """Each tensor's root mean square, for each of its elements; [K, P]."""
    views = batch.split_rows(shapes, values_KP).values()
    return torch.cat(
        [
            view.flatten(1).square().mean(1, keepdim=True).sqrt().expand(-1, view[0].numel())
            for view in views
        ],
        1,
    )


def _losses(group: ProbeBatch, batches: list[Tensor]) -> Losses:
    """Mean loss on all rows of the batches, nats a token."""
    total = sum(len(ids) for ids in batches)

    def losses(values_KP: Tensor) -> Tensor:
        params = batch.split_rows(group.shapes, values_KP)
        parts = [
            group.program.losses(params, None, batch.TokenBatch(ids)) * (len(ids) / total)
            for ids in batches
        ]
        return torch.stack(parts).sum(0)

    return losses


def with_error(name: str, values_N: Tensor) -> dict[str, float]:
    """The mean under this name, and its standard error where there is more than one value."""
    found = {name: float(values_N.mean())}
    if len(values_N) > 1:
        found[f"{name}_sem"] = float(values_N.std()) / math.sqrt(len(values_N))
    return found
