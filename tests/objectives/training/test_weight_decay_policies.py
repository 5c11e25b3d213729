"""Each policy against its formula by hand, torch's optimizers, and the steady states it is for."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from objectives.config.recipe import Recipe
from objectives.config.training import Pretrain
from objectives.config.weight_decay import Multipliers, WeightDecay
from objectives.models import causal_lm, parameter_roles
from objectives.training import optimizers, spectral, weight_decay_policies, weight_decay_schedule
from objectives.training.sharding import REPLICATED
from objectives.training.weight_decay_policies import Rule, Update
from tests.objectives import toy

LR = 0.02


@functools.cache
def module(name: str = "llama") -> nn.Module:
    return causal_lm.build_module(toy.CONFIGS[name], "cpu")


@functools.cache
def size(name: str = "llama") -> int:
    return causal_lm.num_parameters(module(name))


def pre(lr: float = LR, **decay: Any) -> Pretrain:
    dotted = {f"pretrain.weight_decay.{path.replace('__', '.')}": v for path, v in decay.items()}
    return Recipe().with_params({"pretrain.lr": lr, **dotted}).pretrain


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weights(lanes: int = 1, name: str = "llama") -> Tensor:
    initial = [toy.initial(toy.CONFIGS[name], seed) for seed in range(lanes)]
    return torch.stack([torch.cat([p.flatten() for p in lane.values()]) for lane in initial])


def update(rule: Rule, values_KP: Tensor, grads_KP: Tensor, t: int = 1, **more: Any) -> Update:
    memory = torch.zeros(len(values_KP), rule.policy_state_size)
    given = {"lr_K1": torch.full((len(values_KP), 1), LR), "memory_KD": memory, **more}
    return Update(t, values_KP, grads_KP, **given)


def factors(
    pres: Sequence[Pretrain], values_KP: Tensor, grads_KP: Tensor | None = None, **more: Any
) -> Tensor:
    """What multiplies the decay, for every parameter; [K, P]."""
    rule = weight_decay_policies.rule(module(), pres, "cpu")
    grads = torch.zeros_like(values_KP) if grads_KP is None else grads_KP
    ones = torch.ones(len(values_KP), 1)
    return rule.scaled(ones, update(rule, values_KP, grads, **more)).expand_as(values_KP)


def scored(minimum: int = 4) -> list[parameter_roles.Matrix]:
    return weight_decay_policies.scored_matrices(module(), minimum)


def outside(matrices: Sequence[parameter_roles.Matrix]) -> Tensor:
    """Which parameters are in none of the matrices."""
    mask = torch.ones(size(), dtype=torch.bool)
    for matrix in matrices:
        mask[matrix.span] = False
    return mask


def run(
    rule: Rule,
    start_KP: Tensor,
    grads: Callable[[int, Tensor], Tensor],
    *,
    steps: int,
    decay: Sequence[float],
    lr: Callable[[int], float] = lambda t: LR,
    clip: float = math.inf,
) -> tuple[Tensor, optimizers.Moments]:
    """AdamW steps under a rule."""
    values, moments = (
        start_KP.clone(),
        optimizers.Moments.zeros_like(start_KP, rule.policy_state_size),
    )
    constants = optimizers.constants(
        len(values), "cpu", beta1=0.9, beta2=0.95, decay=rule, clip=clip
    )
    for t in range(1, steps + 1):
        rate_K1 = torch.full((len(values), 1), lr(t))
        optimizers.step_(values, grads(t, values), moments, constants, t=t, lr_K1=rate_K1,
                    decay_K1=torch.tensor(decay)[:, None])  # fmt: skip
    return values, moments


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("clip", [0.5, math.inf])
@pytest.mark.usefixtures("float64")
def test_coupled_decay_is_torchs_adam_and_decoupled_its_adamw(coupled: bool, clip: float) -> None:
    start, decays, steps = drawn(3, 20), [0.0, 0.3, 2.0], 25
    grads = drawn(steps, 3, 20, seed=1)
    found, _ = run(
        Rule(coupled=coupled), start, lambda t, values: grads[t - 1].clone(),
        steps=steps, decay=decays, clip=clip,
    )  # fmt: skip
    for lane, decay in enumerate(decays):
        parameter = nn.Parameter(start[lane].clone())
        kind = torch.optim.Adam if coupled else torch.optim.AdamW
        optimizer = kind([parameter], lr=LR, betas=(0.9, 0.95), weight_decay=decay)
        for grad in grads:
            parameter.grad = grad[lane].clone()
            nn.utils.clip_grad_norm_([parameter], clip)
            optimizer.step()
        torch.testing.assert_close(found[lane], parameter.detach(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("way", ["decoupled", "l2", "stable"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.usefixtures("float64")
def test_gradient_descent_is_torchs_sgd_with_any_decay(way: str, momentum: float) -> None:
    """SGDS shrinks by lr wd / (1 - momentum) first (arXiv 2011.11152)."""
    start, grads, wd = drawn(1, 20), drawn(25, 1, 20, seed=1), 0.3
    lane = Recipe().with_params({"pretrain.optimizer": "sgd", "pretrain.beta1": momentum}).pretrain
    factor = (
        weight_decay_policies.POLICIES["stable"](module(), [lane], "cpu", REPLICATED)
        if way == "stable"
        else None
    )
    rule = Rule(coupled=way == "l2", factor=factor)
    values, moments = start.clone(), optimizers.Moments.zeros_like(start, sgd=True)
    constants = optimizers.constants(1, "cpu", beta1=momentum, clip=0.5, decay=rule, sgd=True)
    parameter = nn.Parameter(start.clone())
    optimizer = torch.optim.SGD(
        [parameter], lr=LR, momentum=momentum, weight_decay=wd if way == "l2" else 0.0
    )
    shrink = {"decoupled": LR * wd, "l2": 0.0, "stable": LR * wd / (1 - momentum)}[way]
    for t, grad in enumerate(grads, 1):
        optimizers.step_(values, grad.clone(), moments, constants, t=t, lr_K1=torch.tensor([[LR]]),
                    decay_K1=torch.tensor([[wd]]))  # fmt: skip
        parameter.grad = grad.clone()
        nn.utils.clip_grad_norm_([parameter], 0.5)
        parameter.data.mul_(1 - shrink)
        optimizer.step()
    torch.testing.assert_close(values, parameter.detach(), rtol=1e-10, atol=1e-10)
    assert moments.second.numel() == 0


@pytest.mark.usefixtures("float64")
def test_coupled_decay_is_not_clipped() -> None:
    """The weights' part joins after clipping: with a zero gradient the clip does not see it."""
    start, zero = 100 * drawn(1, 20), lambda t, values: torch.zeros(1, 20)
    tight, _ = run(Rule(coupled=True), start, zero, steps=3, decay=[1.0], clip=1e-3)
    loose, _ = run(Rule(coupled=True), start, zero, steps=3, decay=[1.0])
    assert torch.equal(tight, loose)
    assert not torch.equal(tight, start)


def test_lanes_of_one_program_have_their_own_sets_and_role_multipliers() -> None:
    pres = [
        pre(),
        pre(decayed="matrices"),
        pre(multipliers__attn_qk=0.25, multipliers__norm=0.0),
        pre(decayed="matrices_and_embeddings", multipliers__mlp=3.0),
    ]
    found = factors(pres, weights(4))
    role = parameter_roles.of_parameters(module())
    assert (found[0] == 1).all()
    assert torch.equal(found[1], causal_lm.decayed_mask(module(), "matrices"))
    expected = torch.tensor([0.25, 1.0, 1.0, 1.0, 1.0, 0.0])[role.long()]
    assert torch.equal(found[2], expected)
    both = torch.tensor([1.0, 1.0, 3.0, 1.0, 1.0, 0.0])[role.long()]
    assert torch.equal(found[3], both)
    alone = torch.cat([factors([each], weights(1)) for each in pres])
    assert torch.equal(alone, found)


def test_a_plain_program_has_no_rule_at_all() -> None:
    assert (
        weight_decay_policies.rule(module(), [pre(), pre(lr=1.0)], "cpu")
        == weight_decay_policies.UNIFORM
    )


def test_a_fused_projection_is_decayed_element_by_element() -> None:
    gpt2 = pre(multipliers__attn_qk=0.0)
    row = weight_decay_policies.rule(module("gpt2"), [gpt2], "cpu").multipliers
    assert row is not None
    fused = next(
        m for m in parameter_roles.linear_matrices(module("gpt2")) if m.name.endswith("c_attn")
    )
    part = row[fused.span].view(fused.shape)
    assert (part[:, :32] == 0).all()
    assert (part[:, 32:] == 1).all()
    assert set(Multipliers.__dataclass_fields__) == set(parameter_roles.ROLES)


def test_modules_are_scored_but_the_first_the_last_and_the_small() -> None:
    names = [matrix.name for matrix in scored()]
    assert "model.layers.0.self_attn.q_proj" not in names
    assert "lm_head" not in names
    assert len(names) == 13
    assert len(scored(16)) == 13 - 4  # keys and values have 8 outputs
    with pytest.raises(ValueError, match=r"min_eigenvalues is 50 but .* at most 16; lower it"):
        weight_decay_policies.rule(module(), [pre(policy="alpha_decay")], "cpu")


@pytest.mark.parametrize("interval", [(0.67, 3.0), (2.0, 0.5)])
def test_alpha_decay_maps_the_smallest_exponent_low_and_the_largest_high(
    interval: tuple[float, float],
) -> None:
    low, high = interval
    lane = pre(policy="alpha_decay", scores__low=low, scores__high=high,
               scores__min_eigenvalues=4)  # fmt: skip
    values = weights()
    found = factors([lane], values)[0]
    alphas = [alpha(values[0, m.span].view(m.shape)) for m in scored()]
    for matrix, each in zip(scored(), alphas, strict=True):
        share = (each - min(alphas)) / (max(alphas) - min(alphas))
        part = found[matrix.span]
        assert float(part[0]) == pytest.approx(low + (high - low) * share, rel=1e-5)
        assert (part == part[0]).all()
    assert (found[outside(scored())] == 1).all()


def alpha(matrix: Tensor) -> float:
    ascending = (torch.linalg.svdvals(matrix.double()) ** 2).flip(0)
    return float(spectral.hill_alpha(ascending))


@pytest.mark.parametrize("kind", ["sqrt", "log2", "sigmoid"])
def test_the_other_maps_are_their_formulas(kind: Any) -> None:
    layers, interval = ["0", "0", "0", "1", "1", "2"], torch.tensor([[0.0, 0.0]])
    scores = torch.tensor([[2.0, 3.0, 7.0, 5.0, 5.0, 4.0]], dtype=torch.float64)
    found = weight_decay_policies.map_scores(scores, kind, layers, interval)[0].tolist()
    s = scores[0].tolist()
    if kind == "sqrt":
        mean = sum(map(math.sqrt, s)) / 6
        expected = [math.sqrt(each) / mean for each in s]
    elif kind == "log2":
        mean = sum(map(math.log2, s)) / 6
        expected = [math.log2(each) / mean for each in s]
    else:
        spread = math.sqrt(((2 - 4) ** 2 + (3 - 4) ** 2 + (7 - 4) ** 2) / 3)
        z = [*((each - 4) / spread for each in s[:3]), 0, 0, 0]
        expected = [2 / (1 + math.exp(-4 * each)) for each in z]
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["linear", "sqrt", "log2", "sigmoid"])
def test_a_module_without_a_score_keeps_the_plain_decay(kind: Any) -> None:
    layers, interval = ["0"] * 4, torch.tensor([[0.5, 2.0]])
    scores = torch.tensor([[2.0, math.nan, 6.0, 3.0]])
    found = weight_decay_policies.map_scores(scores, kind, layers, interval)[0]
    without = weight_decay_policies.map_scores(scores[:, [0, 2, 3]], kind, layers[:3], interval)[0]
    assert found[1] == 1
    torch.testing.assert_close(found[[0, 2, 3]], without)


@pytest.mark.parametrize("kind", ["linear", "sigmoid"])
@pytest.mark.parametrize("score", [3.0, math.nan])
def test_equal_scores_leave_the_plain_decay(kind: Any, score: float) -> None:
    scores, interval = torch.full((1, 3), score), torch.tensor([[0.5, 2.0]])
    found = weight_decay_policies.map_scores(scores, kind, ["0", "0", "1"], interval)
    assert found.tolist() == [[1.0, 1.0, 1.0]]


def test_the_mean_factor_by_parameters_can_be_kept_at_one() -> None:
    lane = pre(policy="alpha_decay", scores__preserve_mean=True, scores__min_eigenvalues=4)
    free = pre(policy="alpha_decay", scores__min_eigenvalues=4)
    kept_row, free_row = (factors([each], weights())[0] for each in (lane, free))
    inside = ~outside(scored())
    assert float(kept_row[inside].mean()) == pytest.approx(1, rel=1e-5)
    assert float(free_row[inside].mean()) > 1
    ratio = kept_row[inside] / free_row[inside]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))


def test_modules_are_looked_at_again_every_so_many_steps() -> None:
    lane = pre(policy="alpha_decay", scores__every=3, scores__min_eigenvalues=4)
    rule = weight_decay_policies.rule(module(), [lane], "cpu")
    memory = torch.zeros(1, rule.policy_state_size)
    seen = []
    for t in range(1, 8):
        values = weights(t)[-1:]
        factor = rule.scaled(torch.ones(1, 1), update(rule, values, values, t, memory_KD=memory))
        seen.append(factor.clone())
        fresh = factors([lane], values)
        assert torch.equal(factor, fresh) == (t in (1, 4, 7))
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[3], seen[5])
    other = weight_decay_policies.rule(module(), [lane], "cpu")
    resumed = other.scaled(torch.ones(1, 1), update(other, values, values, 8, memory_KD=memory))
    assert torch.equal(resumed, seen[6])


def test_lanes_share_a_program_with_their_own_intervals() -> None:
    pres = [
        pre(policy="alpha_decay", scores__low=low, scores__min_eigenvalues=4) for low in (0.2, 0.9)
    ]
    together = factors(pres, weights(2))
    for lane, each in enumerate(pres):
        assert torch.equal(together[lane : lane + 1], factors([each], weights(2)[lane : lane + 1]))


def test_ada_decay_is_the_sigmoid_of_gradient_norms_inside_each_layer() -> None:
    lane = pre(policy="ada_decay", scores__min_eigenvalues=4)
    grads = drawn(1, size())
    found = factors([lane], weights(), grads)[0]
    for layer in ("0", "1"):
        members = [matrix for matrix in scored() if matrix.layer == layer]
        norms = [float(grads[0, matrix.span].norm()) for matrix in members]
        mean = sum(norms) / len(norms)
        spread = math.sqrt(sum((norm - mean) ** 2 for norm in norms) / len(norms))
        for matrix, norm in zip(members, norms, strict=True):
            expected = 2 / (1 + math.exp(-4 * (norm - mean) / spread))
            assert float(found[matrix.span][0]) == pytest.approx(expected, rel=1e-4)
    assert (found[outside(scored())] == 1).all()


def test_awd_is_a_running_mean_of_the_ratio_of_norms() -> None:
    rule = weight_decay_policies.rule(module(), [pre(policy="awd")], "cpu")
    values, memory, expected = weights(), torch.zeros(1, 1), 0.0
    for t in range(1, 6):
        grads = t * drawn(1, size(), seed=t)
        found = rule.scaled(torch.ones(1, 1), update(rule, values, grads, t, memory_KD=memory))
        ratio = float(grads.norm()) / (float(values.norm()) + 1e-8)
        expected = 0.1 * expected + 0.9 * 100 * ratio
        assert found.shape == (1, 1)
        assert float(found) == pytest.approx(expected, rel=1e-5)
    assert float(memory) == pytest.approx(expected, rel=1e-5)


def test_cautious_decay_acts_where_the_step_already_shrinks_the_weight() -> None:
    lane, values = pre(policy="cautious"), torch.zeros(1, size())
    step = torch.zeros(1, size())
    values[0, :5] = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0])
    step[0, :5] = torch.tensor([0.1, 0.1, -0.1, -0.1, 0.0])
    found = factors([lane], values, step_KP=step)[0]
    assert found[:5].tolist() == [1.0, 0.0, 0.0, 1.0, 1.0]


@pytest.mark.usefixtures("float64")
def test_a_cautious_step_is_the_papers() -> None:
    """x <- x - lr (u + wd 1[u x >= 0] x) with Adam's u."""
    start, grads = drawn(1, 50), drawn(1, 50, seed=1)
    rule = Rule(
        factor=weight_decay_policies.POLICIES["cautious"](module(), [pre()], "cpu", REPLICATED)
    )
    found, _ = run(rule, start, lambda t, values: grads.clone(), steps=1, decay=[0.5])
    u = grads / (grads.abs() + 1e-8)
    expected = start - LR * (u + 0.5 * (u * start >= 0) * start)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_adam_c_follows_the_rate_once_more_where_a_norm_follows() -> None:
    found = factors([pre(lr=2 * LR, policy="adam_c"), pre(lr=8 * LR, policy="adam_c")], weights(2))
    normalised = parameter_roles.is_normalised(module())
    assert normalised.any()
    for row, share in zip(found, (0.5, 0.125), strict=True):
        assert row[normalised].unique().tolist() == pytest.approx([share])
        assert (row[~normalised] == 1).all()


@pytest.mark.usefixtures("float64")
def test_stable_decay_is_adams_with_the_mean_second_moment_under_the_root() -> None:
    """p <- p (1 - lr wd / sqrt(mean v)), then Adam's step."""
    start, grads = drawn(2, 30), drawn(10, 2, 30, seed=1)
    rule = Rule(
        factor=weight_decay_policies.POLICIES["stable"](module(), [pre()] * 2, "cpu", REPLICATED),
        needs_moments=True,
    )
    decays = [0.1, 0.7]
    found, _ = run(rule, start, lambda t, v: grads[t - 1].clone(), steps=10, decay=decays)
    values, m, v = start.clone(), torch.zeros(2, 30), torch.zeros(2, 30)
    for t, grad in enumerate(grads, 1):
        m, v = 0.9 * m + 0.1 * grad, 0.95 * v + 0.05 * grad**2
        corrected = v / (1 - 0.95**t)
        values = values * (1 - LR * torch.tensor(decays)[:, None]
                           / corrected.mean(1, keepdim=True).sqrt())  # fmt: skip
        values = values - LR * m / (1 - 0.9**t) / (corrected.sqrt() + 1e-8)
    torch.testing.assert_close(found, values, rtol=1e-12, atol=1e-12)


def test_stable_decay_without_any_gradient_yet_stays_finite_for_a_lost_lane() -> None:
    rule = Rule(
        factor=weight_decay_policies.POLICIES["stable"](module(), [pre()], "cpu", REPLICATED),
        needs_moments=True,
    )
    start = drawn(1, 10)
    found, _ = run(rule, start, lambda t, v: torch.zeros(1, 10), steps=1, decay=[1.0],
                   lr=lambda t: 0.0)  # fmt: skip
    assert torch.equal(found, start)


EPS = 1e8
"""So large that Adam without momentum is gradient descent with rate lr / EPS."""


def descent(
    rule: Rule, steps: int, lr: Callable[[int], float], decay: Callable[[int], float]
) -> list[float]:
    """|g| / |x| at each step of gradient descent on the parameters that a norm follows."""
    inside = parameter_roles.is_normalised(module()).double()
    values = (drawn(1, size()) * inside) / 50
    moments, ratios = optimizers.Moments.zeros_like(values), []
    constants = optimizers.constants(1, "cpu", beta1=0.0, beta2=0.0, eps=EPS, decay=rule)
    for t in range(1, steps + 1):
        noise = drawn(1, size(), seed=t) * inside
        noise -= (noise * values).sum() / values.norm() ** 2 * values
        grads = noise / noise.norm() / values.norm()
        ratios.append(float(grads.norm() / values.norm()))
        optimizers.step_(values, grads, moments, constants, t=t,
         lr_K1=torch.tensor([[lr(t) * EPS]]),
                    decay_K1=torch.tensor([[decay(t) / EPS]]))  # fmt: skip
    return ratios


@pytest.mark.usefixtures("float64")
def test_gradients_climb_as_the_rate_falls_and_adam_c_mends_it() -> None:
    """|g| / |x| settles at sqrt(2 wd / lr_t), under AdamC at sqrt(2 wd / lr) (arXiv 2506.02285)."""
    peak, wd, held, steps = 0.02, 0.5, 300, 1500

    def lr(t: int) -> float:
        return peak if t <= held else peak * (1 - 0.9 * (t - held) / (steps - held))

    plain = descent(weight_decay_policies.UNIFORM, steps, lr, lambda t: wd)
    lane = pre(lr=peak * EPS, policy="adam_c")
    mended = descent(weight_decay_policies.rule(module(), [lane], "cpu"), steps, lr, lambda t: wd)
    at_peak = math.sqrt(2 * wd / peak)
    assert plain[held] == pytest.approx(at_peak, rel=0.01)
    assert mended[held] == pytest.approx(at_peak, rel=0.01)
    assert mended[-1] == pytest.approx(at_peak, rel=0.02)
    assert 2 * at_peak < plain[-1] < math.sqrt(2 * wd / lr(steps))  # it lags behind the rate


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("peak", [0.01, 0.04])
def test_independent_decay_moves_weights_by_the_same_share_at_every_rate(peak: float) -> None:
    """lr |g| / |x| settles at sqrt(2 wd), wd the independent strength, whatever the rate."""
    wd = 0.01
    lane = Pretrain(lr=peak, weight_decay=WeightDecay(value=wd, coupling="independent"))
    strength = weight_decay_schedule.strengths(lane, np.full(1, peak))[0]
    ratios = descent(weight_decay_policies.UNIFORM, 500, lambda t: peak, lambda t: strength)
    assert peak * ratios[-1] == pytest.approx(math.sqrt(2 * wd), rel=0.01)
