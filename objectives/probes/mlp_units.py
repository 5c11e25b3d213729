"""Hidden units of the MLPs that do nothing: dormant, never active, saturated.

With h_i a unit's output (under a gate, the gated product) and E the mean over tokens of a fixed
validation text:

- dormant: E|h_i| / mean_k E|h_k| <= tau within its layer, tau 0.025 and 0.1 (ReDo's score);
- never active: max |h_i| over all tokens <= 1 % of mean_k E|h_k|. Not from a paper: gated units are
  never quite zero, so counting zeros says nothing of them;
- saturated: the activation function gets less than -4 on over 99 % of the tokens, where neither its
  value nor its slope passes much on. Not from a paper.

K lanes, N rows, T tokens, C units of a layer.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from objectives.probes.architecture import Mlp, mlps_of
from objectives.probes.types import ProbeBatch, ProbeResult, by_layer
from objectives.training.lanes import vmap_lanes

TAUS = (0.025, 0.1)


NEVER_RATIO = 0.01


FLAT_BELOW, FLAT_SHARE = -4.0, 0.99


@dataclass(frozen=True)
class Activity:
    """What the units of one layer did over a text; [C] or [K, C] each."""

    mean_abs: Tensor
    max_abs: Tensor
    flat_share: Tensor | None
    """Share of tokens where the activation function is flat; None if it was not seen."""


def shares(activity: Activity) -> dict[str, Tensor]:
    """Share of the layer's units that are idle, by the kinds above; [] or [K] each."""
    typical = activity.mean_abs.mean(-1, keepdim=True)
    found = {
        f"dormant_{tau:g}_frac": (activity.mean_abs <= tau * typical).float().mean(-1)
        for tau in TAUS
    }
    never = activity.max_abs <= NEVER_RATIO * typical
    found["never_active_frac"] = never.float().mean(-1)
    if activity.flat_share is not None:
        found["saturated_frac"] = (activity.flat_share > FLAT_SHARE).float().mean(-1)
    return found


def measure_mlp_units(group: ProbeBatch) -> list[ProbeResult]:
    """Shares of all units, and by layer."""
    layers = [shares(activity) for activity in observe(group)]
    found = []
    for lane in range(len(group.subjects)):
        lists = {name: [float(layer[name][lane]) for layer in layers] for name in layers[0]}
        # Layers have as many units each, so the mean over layers is that over units.
        metrics = {name: sum(each) / len(each) for name, each in lists.items()}
        curves = {f"{name}_by_layer": by_layer(each) for name, each in lists.items()}
        found.append(ProbeResult(metrics=metrics, curves=curves))
    return found


def observe(group: ProbeBatch) -> list[Activity]:
    """Activity of every layer on the validation sample; [K, C] each."""
    module, params, sample = group.module, group.stacked(), group.sample()
    mlps = mlps_of(module)

    def lane(own: dict[str, Tensor], _: dict[str, Tensor], ids_NT: Tensor) -> tuple[Tensor, ...]:
        return tuple(part for seen in _seen(module, own, ids_NT, mlps) for part in seen)

    with torch.no_grad():
        parts = [vmap_lanes(lane, params, None, (x[:, :-1],)) for x in group.batches(sample)]
    totals = functools.reduce(_join, parts)
    tokens = sample[:, 1:].size
    return [
        Activity(sum_KC / tokens, max_KC, flat_KC / tokens if mlp.activation is not None else None)
        for mlp, sum_KC, max_KC, flat_KC in zip(
            mlps, totals[::3], totals[1::3], totals[2::3], strict=True
        )
    ]


def _join(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Of two parts of a text: sums, maxima and sums in turn."""
    return tuple(
        torch.maximum(a, b) if place % 3 == 1 else a + b
        for place, (a, b) in enumerate(zip(one, other, strict=True))
    )


def _seen(
    module: nn.Module, own: dict[str, Tensor], ids_NT: Tensor, mlps: Sequence[Mlp]
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """One lane: sum |h|, max |h| and the number of flat tokens of each layer's units; [C] each."""
    parts = [part for mlp in mlps for part in (mlp.down, mlp.activation) if part is not None]
    inputs: dict[nn.Module, Tensor] = {}

    def keep(part: nn.Module, args: tuple[Tensor, ...]) -> None:
        inputs[part] = args[0]

    handles = [part.register_forward_pre_hook(keep) for part in parts]
    try:
        functional_call(module, own, (), {"input_ids": ids_NT})
    finally:
        for handle in handles:
            handle.remove()
    found = []
    for mlp in mlps:
        size_C = inputs[mlp.down].flatten(0, -2).abs()
        before = inputs[mlp.down if mlp.activation is None else mlp.activation].flatten(0, -2)
        found.append((size_C.sum(0), size_C.amax(0), (before < FLAT_BELOW).float().sum(0)))
    return found
