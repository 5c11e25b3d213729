"""Idle units on hand-made activity and on a model with units cut off; heads by their entropy."""

from __future__ import annotations

import math

import pytest
import torch

from objectives.probes import attention_heads, mlp_units
from objectives.probes.types import ProbeBatch
from tests.objectives.probes.subjects import group


def test_idle_units_by_hand() -> None:
    # Mean |h| is 1: one unit under both thresholds, one under the larger, one above both.
    activity = mlp_units.Activity(
        mean_abs=torch.tensor([0.02, 0.05, 1.93, 2.0]),
        max_abs=torch.tensor([0.009, 5.0, 5.0, 5.0]),
        flat_share=torch.tensor([1.0, 0.995, 0.99, 0.0]),
    )
    found = {name: float(share) for name, share in mlp_units.shares(activity).items()}
    assert found == {
        "dormant_0.025_frac": 0.25,
        "dormant_0.1_frac": 0.5,
        "never_active_frac": 0.25,
        "saturated_frac": 0.5,
    }


@pytest.fixture(scope="module")
def probed(toy_folder: object) -> ProbeBatch:
    return group(toy_folder, ["norms"], 2)


@pytest.mark.parametrize("part", ["up_proj", "gate_proj"])
def test_units_cut_off_by_either_side_of_the_gate_are_dormant(
    part: str, probed: ProbeBatch
) -> None:
    weight = probed.subjects[1].base.params[f"model.layers.1.mlp.{part}.weight"]
    before = weight[:10].clone()
    weight[:10] = 0.0
    try:
        found = mlp_units.measure_mlp_units(probed)
    finally:
        weight[:10] = before
    layers = [dict(each.curves["dormant_0.025_frac_by_layer"])[1.0] for each in found]  # type: ignore[arg-type]
    assert layers == [0.0, 0.25]
    assert found[1].metrics["never_active_frac"] == 0.125
    assert dict(found[1].curves["dormant_0.1_frac_by_layer"])[0.0] == 0.0  # type: ignore[arg-type]


def test_units_whose_gate_is_far_below_zero_are_saturated(probed: ProbeBatch) -> None:
    params = probed.subjects[0].base.params
    norm = params["model.layers.0.post_attention_layernorm.weight"]
    before = norm.clone()
    norm.mul_(1e3)
    try:
        found = mlp_units.measure_mlp_units(probed)
        seen = mlp_units.observe(probed)[0].flat_share
    finally:
        norm.copy_(before)
    # Large gates of random sign: about half of the tokens fall below, for few units nearly all do.
    assert seen is not None
    assert float(seen[0].mean()) > 0.3 > float(seen[1].mean())
    exact = float((seen[0] > 0.99).float().mean())
    assert dict(found[0].curves["saturated_frac_by_layer"])[0.0] == exact  # type: ignore[arg-type]


def test_entropy_of_even_one_sided_and_mixed_attention() -> None:
    tokens = 6
    even = torch.tril(torch.ones(tokens, tokens))
    even /= even.sum(-1, keepdim=True)
    single = torch.eye(tokens)
    share = attention_heads.entropy_share(torch.stack([even, single])[None].expand(3, -1, -1, -1))
    assert share.tolist() == pytest.approx([1.0, 0.0], abs=1e-6)
    two = torch.zeros(tokens, tokens)
    two[0, 0] = 1
    two[1:, :2] = 0.5
    most = sum(math.log(n) for n in range(2, tokens + 1)) / (tokens - 1)
    assert float(attention_heads.entropy_share(two[None, None])) == pytest.approx(
        math.log(2) / most
    )


def test_heads_without_query_are_lazy_and_with_a_huge_one_collapsed(probed: ProbeBatch) -> None:
    lazy, collapsed = (
        subject.base.params["model.layers.0.self_attn.q_proj.weight"] for subject in probed.subjects
    )
    before = [lazy.clone(), collapsed.clone()]
    lazy.zero_()
    collapsed.mul_(1e6)
    try:
        found = attention_heads.measure_attention_heads(probed)
    finally:
        lazy.copy_(before[0])
        collapsed.copy_(before[1])
    by_layer = [dict(each.curves["entropy_share_by_layer"]) for each in found]  # type: ignore[arg-type]
    assert by_layer[0][0.0] == pytest.approx(1.0, abs=1e-5)
    assert by_layer[1][0.0] < 0.1
    assert found[0].metrics["lazy_frac"] >= 0.5
    assert found[1].metrics["collapsed_frac"] >= 0.5
