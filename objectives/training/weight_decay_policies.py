"""Where weight decay acts: a factor on its strength for every parameter of every lane.

    policy        factor of parameter x in module m at step t
    uniform       1
    alpha_decay   map of PL_Alpha_Hill of m over all modules                   (arXiv 2506.14562)
    ada_decay     2 / (1 + exp(-4 z)), z = norm of m's gradient, standardised inside its layer
    awd           c_t <- 0.1 c_{t-1} + 0.9 * 100 |g| / (|w| + 1e-8), norms over all parameters
    cautious      1 where u x >= 0, else 0; u the optimizer's step             (arXiv 2510.12402)
    adam_c        lr_t / lr where a norm follows, else 1                       (arXiv 2506.02285)
    stable        1 / sqrt(mean over all parameters of v / (1 - b2^t))         (arXiv 2011.11152)
                  with gradient descent 1 / (1 - momentum), as there without dampening

ada_decay and awd are as the code of arXiv 2506.14562 has them among its baselines; the original of
AdaDecay was not read. How often ada_decay looks, that its z takes the deviation over n and not over
n - 1, and that c_0 = 0, is assumed. Gradients are those after clipping.

K lanes, P parameters of a lane, M modules, D numbers that a policy remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from objectives.config.training import Optimization
from objectives.config.weight_decay import ScoreMap
from objectives.models import causal_lm, parameter_roles
from objectives.training import spectral
from objectives.training.sharding import REPLICATED, Sharding
from objectives.training.weight_decay_schedule import SCORED_POLICIES

SLOPE = 4.0
"""Of the sigmoid map; the paper's."""


AWD_SCALE, AWD_KEPT = 100.0, 0.1
"""c over the nominal strength, and the share of it that stays; the code of arXiv 2506.14562."""


@dataclass(frozen=True)
class Update:
    """A step as a policy sees it: gradients clipped, moments renewed, weights not moved yet."""

    t: int
    """Counts from 1."""
    values_KP: Tensor
    grads_KP: Tensor
    memory_KD: Tensor
    """What the policy remembers; changed in place."""
    lr_K1: Tensor
    step_KP: Tensor | None = None
    """What the optimizer will subtract; None before it is known, with coupling l2."""
    mean_square_K1: Tensor | None = None
    """Mean over all parameters of the bias-corrected second moment; None likewise."""


Factor = Callable[[Update], Tensor]
"""Factors that broadcast to [K, P]."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How the decay of a program's lanes is spread over their parameters."""

    multipliers: Tensor | None = None
    """[P] or [K, P], what stays the same over the run; None is 1."""
    factor: Factor | None = None
    """The policy; None is 1."""
    coupled: bool = False
    """Whether decay is part of the gradient, as in torch's Adam."""
    needs_moments: bool = False
    """Whether the policy asks for the mean second moment."""
    policy_state_size: int = 0
    """D"""

    def scaled(self, decay_K1: Tensor, update: Update) -> Tensor:
        """The decay of every parameter; broadcasts to [K, P]."""
        found = decay_K1
        if self.multipliers is not None:
            found = found * self.multipliers
        return found if self.factor is None else found * self.factor(update)


UNIFORM = Rule()


def rule(
    module: nn.Module, pres: Sequence[Optimization], device: str, sharding: Sharding = REPLICATED
) -> Rule:
    """The rule of K lanes of one program, one a recipe.

    Raises:
        ValueError: the module has parameters of unknown role or no module to score, where that
            matters.
    """
    decay = pres[0].weight_decay
    return Rule(
        multipliers=_multipliers(module, pres, device, sharding),
        factor=POLICIES[decay.policy](module, pres, device, sharding),
        coupled=decay.coupling == "l2",
        needs_moments=decay.policy == "stable" and pres[0].optimizer == "adamw",
        policy_state_size=policy_state_size(module, pres[0]),
    )


def policy_state_size(module: nn.Module, pre: Optimization) -> int:
    """Numbers that a lane's policy remembers from step to step."""
    if pre.weight_decay.policy in SCORED_POLICIES:
        return len(scored_matrices(module, pre.weight_decay.scores.min_eigenvalues))
    return int(pre.weight_decay.policy == "awd")


def scored_matrices(module: nn.Module, min_eigenvalues: int) -> list[parameter_roles.Matrix]:
    """Linear modules but the first and the last of the model, and but small ones.

    That is what the code of arXiv 2506.14562 leaves: for a LLaMA without the first layer's queries
    and the output layer. All other parameters keep the plain decay.

    Raises:
        ValueError: none is left.
    """
    linear = parameter_roles.linear_matrices(module)[1:-1]
    found = [matrix for matrix in linear if min(matrix.shape) >= min_eigenvalues]
    if not found:
        widest = max((min(matrix.shape) for matrix in linear), default=0)
        raise ValueError(
            f"pretrain.weight_decay.scores.min_eigenvalues is {min_eigenvalues} but the model's "
            f"linear modules have at most {widest}; lower it or take a wider model."
        )
    return found


def _multipliers(
    module: nn.Module, pres: Sequence[Optimization], device: str, sharding: Sharding
) -> Tensor | None:
    """Each lane's factors by decayed set and role; [P] where all lanes are alike, None if all 1."""
    kinds = [(pre.weight_decay.decayed, pre.weight_decay.multipliers) for pre in pres]
    rows: dict[object, Tensor | None] = {}
    for pre, kind in zip(pres, kinds, strict=True):
        if kind not in rows:
            rows[kind] = _row(module, pre)
    if all(row is None for row in rows.values()):
        return None
    size = causal_lm.num_parameters(module)
    filled = {kind: torch.ones(size) if row is None else row for kind, row in rows.items()}
    if len(filled) == 1:
        return sharding.shard(filled[kinds[0]]).to(device)
    return sharding.shard(torch.stack([filled[kind] for kind in kinds])).to(device)


def _row(module: nn.Module, pre: Optimization) -> Tensor | None:
    decayed = causal_lm.decayed_mask(module, pre.weight_decay.decayed)
    factors = [getattr(pre.weight_decay.multipliers, role) for role in parameter_roles.ROLES]
    if all(factor == 1 for factor in factors):
        return decayed
    row = torch.tensor(factors)[parameter_roles.of_parameters(module).long()]
    return row if decayed is None else row * decayed


@dataclass
class _ByModule:
    """Factors of modules, looked at again every so many steps and remembered in between.

    The row is a copy of what the memory says, spread over the parameters; a run that resumes makes
    it from the stored memory.
    """

    matrices: Sequence[parameter_roles.Matrix]
    every: int
    look: Callable[[Update], Tensor]
    """Factors of the modules; [K, M]."""
    sharding: Sharding
    row_KP: Tensor | None = None

    def __call__(self, update: Update) -> Tensor:
        if (update.t - 1) % self.every == 0:
            update.memory_KD.copy_(self.look(update))
            self.row_KP = None
        if self.row_KP is None:
            self.row_KP = torch.ones_like(update.values_KP)
            for place, matrix in enumerate(self.matrices):
                here = self.sharding.local_slice(matrix.span)
                self.row_KP[:, here] = update.memory_KD[:, place, None]
        return self.row_KP


def _by_score(
    module: nn.Module, pres: Sequence[Optimization], device: str, sharding: Sharding
) -> Factor:
    """alpha_decay and ada_decay."""
    decay = pres[0].weight_decay
    scores = decay.scores
    kind = scores.map if decay.policy == "alpha_decay" else "sigmoid"
    matrices = scored_matrices(module, scores.min_eigenvalues)
    layers = [each.layer for each in matrices]
    interval = [[pre.weight_decay.scores.low, pre.weight_decay.scores.high] for pre in pres]
    interval_K2 = torch.tensor(interval, dtype=torch.float64, device=device)
    sizes_M = torch.tensor([each.shape.numel() for each in matrices], device=device).double()

    def look(update: Update) -> Tensor:
        scores_KM = SCORES[decay.policy](update, matrices, sharding)
        factors_KM = map_scores(scores_KM, kind, layers, interval_K2)
        return mean_kept(factors_KM, sizes_M) if scores.preserve_mean else factors_KM

    return _ByModule(matrices, scores.every, look, sharding)


def _hill_alphas(
    update: Update, matrices: Sequence[parameter_roles.Matrix], sharding: Sharding
) -> Tensor:
    spans, shapes = [each.span for each in matrices], [each.shape for each in matrices]
    return spectral.hill_alphas(update.values_KP, spans, shapes, sharding)


def _gradient_norms(
    update: Update, matrices: Sequence[parameter_roles.Matrix], sharding: Sharding
) -> Tensor:
    parts = (update.grads_KP[:, sharding.local_slice(each.span)] for each in matrices)
    return torch.stack([sharding.norm(part.double()) for part in parts], 1)


SCORES: dict[str, Callable[[Update, Sequence[parameter_roles.Matrix], Sharding], Tensor]] = {
    "alpha_decay": _hill_alphas,
    "ada_decay": _gradient_norms,
}
"""Policy -> scores of modules in double precision; [K, M]."""


def _awd(
    module: nn.Module, pres: Sequence[Optimization], device: str, sharding: Sharding
) -> Factor:
    def factor(update: Update) -> Tensor:
        grad_K1, weight_K1 = (
            sharding.norm(x)[:, None] for x in (update.grads_KP, update.values_KP)
        )
        now_K1 = AWD_SCALE * grad_K1 / (weight_K1 + 1e-8)
        return update.memory_KD.mul_(AWD_KEPT).add_((1 - AWD_KEPT) * now_K1)

    return factor


def _cautious(
    module: nn.Module, pres: Sequence[Optimization], device: str, sharding: Sharding
) -> Factor:
    def factor(update: Update) -> Tensor:
        assert update.step_KP is not None
        return (update.step_KP * update.values_KP >= 0).to(update.values_KP.dtype)

    return factor


def _adam_c(
    module: nn.Module, pres: Sequence[Optimization], device: str, sharding: Sharding
) -> Factor:
    normalised_P = sharding.shard(parameter_roles.is_normalised(module)).to(device)
    peak_K1 = torch.tensor([pre.lr for pre in pres], device=device)[:, None]

    def factor(update: Update) -> Tensor:
        return torch.where(normalised_P, update.lr_K1 / peak_K1, 1.0)

    return factor


def _stable(
    module: nn.Module, pres: Sequence[Optimization], device: str, sharding: Sharding
) -> Factor:
    if pres[0].optimizer == "sgd":
        momenta_K1 = torch.tensor([pre.beta1 for pre in pres], device=device)[:, None]
        return lambda update: 1 / (1 - momenta_K1)

    def factor(update: Update) -> Tensor:
        assert update.mean_square_K1 is not None
        tiny = torch.finfo(update.values_KP.dtype).tiny  # no gradient yet, and none to balance
        return update.mean_square_K1.sqrt().clamp(min=tiny).reciprocal()

    return factor


MakeFactor = Callable[[nn.Module, Sequence[Optimization], str, Sharding], Factor | None]


POLICIES: dict[str, MakeFactor] = {
    "uniform": lambda module, pres, device, sharding: None,
    "alpha_decay": _by_score,
    "awd": _awd,
    "ada_decay": _by_score,
    "cautious": _cautious,
    "adam_c": _adam_c,
    "stable": _stable,
}


def map_scores(
    scores_KM: Tensor, kind: ScoreMap, layers: Sequence[str], interval_K2: Tensor
) -> Tensor:
    """Factors of modules from their scores; 1 where a score is NaN. [K, M].

    linear: low + (high - low) (s - min) / (max - min), 1 where all scores are equal; sqrt and log2:
    over their mean; sigmoid: 2 / (1 + exp(-4 z)) with z standardised inside each layer.
    """
    known = ~scores_KM.isnan()
    factors = MAPS[kind](scores_KM, layers, interval_K2)
    return torch.where(known & torch.isfinite(factors), factors, 1.0)


def mean_kept(factors_KM: Tensor, sizes_M: Tensor) -> Tensor:
    """Factors rescaled so that their mean, weighted by parameters, is 1."""
    return factors_KM * sizes_M.sum() / (factors_KM * sizes_M).sum(1, keepdim=True)


def _linear(scores_KM: Tensor, layers: Sequence[str], interval_K2: Tensor) -> Tensor:
    low = scores_KM.nan_to_num(nan=torch.inf).amin(1, keepdim=True)
    high = scores_KM.nan_to_num(nan=-torch.inf).amax(1, keepdim=True)
    share = (scores_KM - low) / (high - low)
    return interval_K2[:, :1] + (interval_K2[:, 1:] - interval_K2[:, :1]) * share


def _over_mean(transformed_KM: Tensor) -> Tensor:
    return transformed_KM / transformed_KM.nanmean(1, keepdim=True)


def _sigmoid(scores_KM: Tensor, layers: Sequence[str], interval_K2: Tensor) -> Tensor:
    z_KM = torch.zeros_like(scores_KM)
    for layer in dict.fromkeys(layers):
        members = [place for place, each in enumerate(layers) if each == layer]
        part = scores_KM[:, members]
        centred = part - part.nanmean(1, keepdim=True)
        spread = (centred**2).nanmean(1, keepdim=True).sqrt()
        z_KM[:, members] = torch.where(spread > 0, centred / spread, 0.0)
    return 2 * torch.sigmoid(SLOPE * z_KM)


MAPS: dict[str, Callable[[Tensor, Sequence[str], Tensor], Tensor]] = {
    "linear": _linear,
    "sqrt": lambda scores, layers, interval: _over_mean(scores.sqrt()),
    "log2": lambda scores, layers, interval: _over_mean(scores.log2()),
    "sigmoid": _sigmoid,
}
