"""AdamW over lanes: each lane has its own rate, decay and clipping norm.

    m <- b1 m + (1 - b1) g,   v <- b2 v + (1 - b2) g^2
    w <- w - lr wd w - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

the decoupled form of torch.optim.AdamW, to which it is equal. With coupled decay g is g + wd w and
the second line lacks its decay: torch.optim.Adam. Either comes after clipping, as it does in torch.
wd may differ from parameter to parameter (`objectives.training.weight_decay_policies`).

Gradient descent is m <- b1 m + g, w <- w - lr m instead: torch.optim.SGD with momentum b1.

K lanes, P parameters of a lane.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from objectives.config.training import Optimization
from objectives.training import weight_decay_policies
from objectives.training.sharding import REPLICATED, Sharding
from objectives.training.weight_decay_policies import UNIFORM, Rule, Update


@dataclass
class Moments:
    """What optimizer and decay policy remember, of K lanes or of one without the axis K."""

    first: Tensor
    """[K, P]"""
    second: Tensor
    """[K, P]; [K, 0] for gradient descent."""
    policy: Tensor
    """[K, D]; D is 0 where the policy remembers nothing."""

    @staticmethod
    def zeros_like(values_KP: Tensor, policy_size: int = 0, *, sgd: bool = False) -> Moments:
        """Moments before the first step."""

        def zeros(size: int) -> Tensor:
            return values_KP.new_zeros((*values_KP.shape[:-1], size))

        parameters = values_KP.shape[-1]
        return Moments(zeros(parameters), zeros(0 if sgd else parameters), zeros(policy_size))

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """First and second moments and the policy's state."""
        return self.first, self.second, self.policy

    def lane(self, place: int) -> Moments:
        """One lane's."""
        return Moments(*(part[place] for part in self.parts))


@dataclass(frozen=True, kw_only=True)
class Constants:
    """What stays the same over a run; per lane where shape [K, 1] is given."""

    beta1: Tensor
    """[K, 1]"""
    beta2: Tensor
    """[K, 1]"""
    eps: Tensor
    """[K, 1]"""
    clip: Tensor
    """[K, 1]; inf leaves the gradient as it is."""
    decay: Rule = UNIFORM
    """How decay is spread over the parameters."""
    sgd: bool = False
    """Gradient descent with momentum beta1 instead of AdamW."""
    sharding: Sharding = REPLICATED
    """How the parameters are placed on devices."""


def constants(
    lanes: int,
    device: str,
    *,
    beta1: float | Sequence[float] = 0.9,
    beta2: float | Sequence[float] = 0.95,
    eps: float | Sequence[float] = 1e-8,
    clip: float | Sequence[float] = math.inf,
    decay: Rule = UNIFORM,
    sgd: bool = False,
    sharding: Sharding = REPLICATED,
) -> Constants:
    """Constants for K lanes, from one value for all or one a lane."""

    def column(value: float | Sequence[float]) -> Tensor:
        filled = torch.as_tensor(value, dtype=torch.get_default_dtype(), device=device)
        return filled.expand(lanes)[:, None].clone()

    return Constants(
        beta1=column(beta1),
        beta2=column(beta2),
        eps=column(eps),
        clip=column(clip),
        decay=decay,
        sgd=sgd,
        sharding=sharding,
    )


def of_recipes(
    pres: Sequence[Optimization], module: nn.Module, device: str, sharding: Sharding = REPLICATED
) -> Constants:
    """Constants for lanes of one program, one a recipe.

    Raises:
        ValueError: the decay's policy does not fit the module.
    """
    return constants(
        len(pres),
        device,
        beta1=[pre.beta1 for pre in pres],
        beta2=[pre.beta2 for pre in pres],
        eps=[pre.eps for pre in pres],
        clip=[math.inf if pre.clip_norm is None else pre.clip_norm for pre in pres],
        decay=weight_decay_policies.rule(module, pres, device, sharding),
        sgd=pres[0].optimizer == "sgd",
        sharding=sharding,
    )


@torch.no_grad()
def step_(
    values_KP: Tensor,
    grads_KP: Tensor,
    moments: Moments,
    constants: Constants,
    *,
    t: int,
    lr_K1: Tensor,
    decay_K1: Tensor,
) -> None:
    """Update `values_KP` and `moments` in place; t counts from 1; `grads_KP` is used up."""
    c, rule, memory = constants, constants.decay, moments.policy
    clip_(grads_KP, c.clip, c.sharding)
    update = Update(t, values_KP, grads_KP, memory, lr_K1)
    if rule.coupled:
        grads_KP.add_(rule.scaled(decay_K1, update) * values_KP)
    if _fits_fused(values_KP, c):
        decay_KP = None if rule.coupled else rule.scaled(decay_K1, update)
        _fused_adamw(values_KP, grads_KP, moments, c, t, lr_K1, decay_KP)
        return
    step_KP = (_descend if c.sgd else _adam)(grads_KP, moments, c, t, lr_K1)
    if not rule.coupled:
        mean_square_K1 = _mean_square(moments, c, t) if rule.needs_moments else None
        update = dataclasses.replace(update, step_KP=step_KP, mean_square_K1=mean_square_K1)
        values_KP.mul_(1 - lr_K1 * rule.scaled(decay_K1, update))
    values_KP.sub_(step_KP)


def _fits_fused(values_KP: Tensor, c: Constants) -> bool:
    """Whether torch's fused AdamW can do it: on a CPU, and where no policy sees the step."""
    return values_KP.device.type == "cpu" and c.decay.factor is None and not c.sgd


def _fused_adamw(
    values_KP: Tensor,
    grads_KP: Tensor,
    moments: Moments,
    c: Constants,
    t: int,
    lr_K1: Tensor,
    decay: Tensor | None,
) -> None:
    """The whole update in one pass, a lane at a time, so that a lane's bits are its own.

    `decay` is [K, 1], or [K, P] or [1, P] where it differs between parameters.
    """
    one_each = decay is not None and decay.shape[-1] == 1
    if decay is not None and not one_each:
        values_KP.mul_(1 - lr_K1 * decay)
    decays = decay.flatten().tolist() if decay is not None and one_each else [0.0] * len(values_KP)
    step = torch.tensor(float(t))
    each = (lr_K1, c.beta1, c.beta2, c.eps)
    numbers = zip(*(column.flatten().tolist() for column in each), decays, strict=True)
    for lane, (lr, beta1, beta2, eps, weight_decay) in enumerate(numbers):
        torch._fused_adamw_(
            [values_KP[lane]], [grads_KP[lane]], [moments.first[lane]], [moments.second[lane]],
            [], [step], lr=lr, beta1=beta1, beta2=beta2, weight_decay=weight_decay, eps=eps,
            amsgrad=False, maximize=False,
        )  # fmt: skip


def _adam(grads_KP: Tensor, moments: Moments, c: Constants, t: int, lr_K1: Tensor) -> Tensor:
    """Renew the moments; returns what to subtract from the weights."""
    moments.first.lerp_(grads_KP, 1 - c.beta1)
    moments.second.mul_(c.beta2).addcmul_(grads_KP, grads_KP * (1 - c.beta2))
    denominator = moments.second.sqrt().div_((1 - c.beta2**t).sqrt()).add_(c.eps)
    return (lr_K1 / (1 - c.beta1**t)) * moments.first / denominator


def _descend(grads_KP: Tensor, moments: Moments, c: Constants, t: int, lr_K1: Tensor) -> Tensor:
    """Renew the momentum of gradient descent; returns what to subtract from the weights."""
    return lr_K1 * moments.first.mul_(c.beta1).add_(grads_KP)


def _mean_square(moments: Moments, c: Constants, t: int) -> Tensor:
    """Mean over the parameters of the bias-corrected second moment; [K, 1]."""
    return c.sharding.mean(moments.second) / (1 - c.beta2**t)


def clip_(grads_KP: Tensor, norm_K1: Tensor, sharding: Sharding = REPLICATED) -> Tensor:
    """Scale each lane's gradient to at most its norm, in place; returns the norms before.

    [K, 1].
    """
    total = sharding.norm(grads_KP)[:, None]
    scale_K1 = (norm_K1 / (total + 1e-6)).clamp(max=1.0)
    if scale_K1.is_cuda or not bool((scale_K1 == 1).all()):
        grads_KP.mul_(scale_K1)
    return total
