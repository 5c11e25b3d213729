"""Lanes against what they represent: single runs, plain transformers, plain PEFT.

Tolerances, measured on an x86 CPU with the toy models of width 16: in float64 lanes equal single
runs to 1e-10 after 20 steps. In float32 the losses of 4 lanes differ from plain transformers by
less than 1e-5 relative, under bf16 autocast by less than 2e-2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from peft import get_peft_model
from torch import Tensor, nn
from transformers import MistralConfig, PreTrainedConfig

from objectives.config.training import Lora, Schedule
from objectives.finetuning import lora
from objectives.models import causal_lm
from objectives.training import batch as lanes
from objectives.training import loop, lr_schedule, optimizers
from objectives.training.batch import TokenBatch
from objectives.training.lanes import LaneModel
from tests.objectives import toy

STEPS, B, T = 20, 4, 12


LRS = [1e-2, 3e-3, 3e-2, 1e-3]


DECAYS = [0.0, 0.1, 1.0, 0.3]


SCHEDULES = [
    Schedule(warmup_steps=4),
    Schedule(decay_frac=0.0),
    Schedule(warmup_steps=2, decay_frac=0.25, shape="sqrt", floor_ratio=0.0),
    Schedule(warmup_steps=1, shape="linear"),
]


SEEDS = [0, 1, 2, 0]


CLIPS = [1.0, math.inf, 0.1, 1.0]


def curves(lr_lanes: Sequence[int]) -> np.ndarray:
    return np.stack(
        [LRS[lane] * lr_schedule.multipliers(SCHEDULES[lane], STEPS) for lane in lr_lanes], 1
    )


def batch_of(lane: int, step: int) -> Tensor:
    return toy.ids(B, T + 1, seed=1000 * SEEDS[lane] + step)


def train_lanes(
    config: PreTrainedConfig, which: Sequence[int], *, steps: int = STEPS
) -> list[dict[str, Tensor]]:
    """These lanes as one program; each lane's parameters."""
    module = causal_lm.build_module(config, "cpu")
    shapes = {name: p.shape for name, p in module.named_parameters()}
    values = lanes.join_rows([toy.initial(config, SEEDS[lane]) for lane in which])
    state = loop.State.fresh(shapes, values)
    plan = loop.Plan(
        lr_SK=torch.tensor(curves(which)),
        decay_SK=torch.tensor([[DECAYS[lane] for lane in which]] * STEPS),
        constants=optimizers.constants(len(which), "cpu", clip=[CLIPS[lane] for lane in which]),
    )
    loop.train(
        LaneModel(module),
        state,
        plan,
        lambda step: TokenBatch(torch.stack([batch_of(lane, step) for lane in which])),
        until=steps,
    )
    rows = lanes.split_rows(shapes, state.rows.values)
    return [{name: p[lane] for name, p in rows.items()} for lane in range(len(which))]


def train_plainly(config: PreTrainedConfig, lane: int) -> dict[str, Tensor]:
    """The same by transformers and torch alone."""
    module = toy.plain(config, toy.initial(config, SEEDS[lane])).train()
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=LRS[lane], betas=(0.9, 0.95), weight_decay=DECAYS[lane]
    )
    for step, lr in enumerate(curves([lane])[:, 0]):
        optimizer.param_groups[0]["lr"] = float(lr)
        optimizer.zero_grad()
        rows = batch_of(lane, step)
        plain_nats(module, rows).mean().backward()
        nn.utils.clip_grad_norm_(module.parameters(), CLIPS[lane])
        optimizer.step()
    return {name: p.detach() for name, p in module.named_parameters()}


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name, parameter in one.items():
        torch.testing.assert_close(parameter, other[name], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", toy.CONFIGS)
@pytest.mark.usefixtures("float64")
def test_lanes_equal_single_runs_and_plain_training(name: str) -> None:
    together = train_lanes(toy.CONFIGS[name], range(4))
    for lane in range(3):
        assert_close(together[lane], train_lanes(toy.CONFIGS[name], [lane])[0], 1e-10)
    assert_close(together[3], train_plainly(toy.CONFIGS[name], 3), 1e-10)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_on_the_cpu_a_lane_is_bitwise_the_same_whatever_runs_beside_it(name: str) -> None:
    config = toy.CONFIGS[name]
    together = train_lanes(config, [0, 1, 2, 3])
    for which in ([0], [1, 3], [3, 2, 1], [2, 2, 2, 2, 2]):
        for lane, found in zip(which, train_lanes(config, which), strict=True):
            assert toy.same(found, together[lane])


def plain_nats(module: nn.Module, rows: Tensor) -> Tensor:
    """Cross-entropy of every target, [B, T], by transformers and torch.

    transformers' own loss rounds to float32 on the way, which is too coarse for 1e-10.
    """
    logits = module(input_ids=rows[:, :-1]).logits
    logits = logits.float() if logits.dtype == torch.bfloat16 else logits
    return F.cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none")


@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-5), (True, 2e-2)])
@pytest.mark.parametrize("name", toy.CONFIGS)
def test_losses_equal_plain_transformers_within_the_documented_tolerance(
    name: str, bf16: bool, tolerance: float
) -> None:
    config = toy.CONFIGS[name]
    weights = [toy.initial(config, seed) for seed in range(4)]
    rows = torch.stack([toy.ids(B, T + 1, seed=seed) for seed in range(4)])
    program = LaneModel(causal_lm.build_module(config, "cpu"), bf16=bf16)
    found = program.losses(lanes.stack(weights), None, TokenBatch(rows))
    assert found.dtype == torch.float32
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        expected = torch.stack(
            [
                plain_nats(toy.plain(config, one), ids).mean()
                for one, ids in zip(weights, rows, strict=True)
            ]
        )
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=0)


def test_bf16_keeps_weights_gradients_and_losses_in_float32_and_is_near() -> None:
    config = toy.CONFIGS["llama"]
    values = lanes.join_rows([toy.initial(config, seed) for seed in range(2)])
    grads = []
    for bf16 in (False, True):
        module = causal_lm.build_module(config, "cpu")
        program = LaneModel(module, bf16=bf16)
        rows = lanes.StackedParams({n: p.shape for n, p in module.named_parameters()}, values)
        loop._gradient(program, rows, None, TokenBatch(toy.ids(B, T + 1)), 1)
        assert rows.grads.dtype == torch.float32
        grads.append(rows.grads)
    similar = F.cosine_similarity(grads[0], grads[1])
    assert (similar > 0.999).all()
    assert (similar < 1).all()


def gradient(
    config: PreTrainedConfig, batch: TokenBatch, *, parts: int = 1, checkpointing: bool = False
) -> tuple[Tensor, Tensor]:
    module = causal_lm.build_module(config, "cpu", checkpointing=checkpointing)
    shapes = {name: p.shape for name, p in module.named_parameters()}
    values = lanes.join_rows([toy.initial(config, seed) for seed in range(3)])
    rows = lanes.StackedParams(shapes, values)
    loss_K = loop._gradient(LaneModel(module), rows, None, batch, parts)
    return rows.grads, loss_K


@pytest.mark.parametrize("shape", [(B, T + 1), (3, B, T + 1)])
@pytest.mark.usefixtures("float64")
def test_accumulation_equals_one_big_batch(shape: tuple[int, ...]) -> None:
    config, batch = toy.CONFIGS["llama"], TokenBatch(toy.ids(*shape))
    whole = gradient(config, batch)
    for parts in (2, 4):
        for one, other in zip(gradient(config, batch, parts=parts), whole, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.usefixtures("float64")
def test_activation_checkpointing_gives_the_same_gradients(name: str) -> None:
    batch = TokenBatch(toy.ids(3, B, T + 1))
    plain = gradient(toy.CONFIGS[name], batch)
    again = gradient(toy.CONFIGS[name], batch, checkpointing=True)
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_activation_checkpointing_keeps_less_and_leaves_scores_and_bf16_alone() -> None:
    config, batch = toy.CONFIGS["llama"], TokenBatch(toy.ids(3, B, T + 1))
    params = lanes.stack([toy.initial(config, seed) for seed in range(3)])
    kept, losses, scores = [], [], []
    for checkpointing in (False, True):
        program = LaneModel(
            causal_lm.build_module(config, "cpu", checkpointing=checkpointing), bf16=True
        )
        saved: list[int] = []

        def keep(tensor: Tensor, saved: list[int] = saved) -> Tensor:
            saved.append(tensor.numel())
            return tensor

        trained = {name: p.clone().requires_grad_() for name, p in params.items()}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            losses.append(program.losses(trained, None, batch))
        kept.append(sum(saved))
        scores.append(program.scores(params, None, batch)[0])
    assert kept[1] < 0.6 * kept[0]
    assert torch.equal(*losses)
    assert torch.equal(*scores)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.usefixtures("float64")
def test_positions_and_weights_equal_computing_everything_and_masking(shared: bool) -> None:
    config = toy.CONFIGS["llama"]
    weights = [toy.initial(config, seed) for seed in range(3)]
    lead = () if shared else (3,)
    rows = toy.ids(*lead, B, T + 1)
    positions = torch.stack([torch.randperm(T)[:5] for _ in range(math.prod(lead) * B)])
    positions = positions.view(*lead, B, 5)
    counted = (torch.arange(5) < torch.arange(1, B + 1)[:, None]).double()
    counted = counted.expand(*lead, B, 5).contiguous()
    program = LaneModel(causal_lm.build_module(config, "cpu"))
    batch = TokenBatch(rows, positions, counted)
    loss_K = program.losses(lanes.stack(weights), None, batch)
    nats_KB, hits_KB = program.scores(lanes.stack(weights), None, batch)
    for lane, one in enumerate(weights):
        own = [x if shared else x[lane] for x in (rows, positions, counted)]
        module = toy.plain(config, one)
        mask = torch.zeros(B, T).scatter_(1, own[1], own[2])
        nats = plain_nats(module, own[0]) * mask
        hit = module(input_ids=own[0][:, :-1]).logits.argmax(-1) == own[0][:, 1:]
        torch.testing.assert_close(loss_K[lane], nats.sum() / mask.sum(), rtol=1e-11, atol=0)
        torch.testing.assert_close(nats_KB[lane], nats.sum(1), rtol=1e-11, atol=0)
        assert torch.equal(hits_KB[lane], (hit | (mask == 0)).all(1))


def test_a_row_is_a_hit_only_if_all_its_counted_targets_are_the_argmax() -> None:
    config = toy.CONFIGS["llama"]
    params = toy.initial(config, 0)
    module = toy.plain(config, params)
    rows = toy.ids(2, T + 1)
    for place in range(T):  # from here on both rows are the greedy answer
        rows[:, place + 1] = module(input_ids=rows[:, : place + 1]).logits[:, -1].argmax(-1)
    rows[1, 7] = (rows[1, 7] + 1) % toy.VOCAB
    program = LaneModel(causal_lm.build_module(config, "cpu"))
    stacked = lanes.stack([params])
    assert program.scores(stacked, None, TokenBatch(rows))[1].tolist() == [[True, False]]
    positions = torch.arange(6).expand(2, 6).contiguous()
    batch = TokenBatch(rows, positions, torch.ones(2, 6))
    assert program.scores(stacked, None, batch)[1].tolist() == [[True, True]]


BASES, ADAPTERS = 2, 3


def adapted_plainly(
    config: PreTrainedConfig,
    adapted: lora.Adapted,
    base: dict[str, Tensor],
    first: dict[str, Tensor],
    arm: int,
) -> dict[str, Tensor]:
    """A PEFT model of plain transformers, trained by torch; its adapters."""
    peft = get_peft_model(toy.plain(config, base), adapted.config_for_peft())  # type: ignore[arg-type]
    trained = {
        name.removeprefix("base_model.model.").replace(".modules_to_save.default", ""): p
        for name, p in peft.named_parameters()
        if p.requires_grad
    }
    assert trained.keys() == first.keys()
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(first[name])
    optimizer = torch.optim.AdamW(
        trained.values(), lr=LRS[arm], betas=(0.9, 0.95), weight_decay=DECAYS[arm]
    )
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = float(curves([arm])[step, 0])
        optimizer.zero_grad()
        plain_nats(peft, batch_of(arm, step)).mean().backward()
        nn.utils.clip_grad_norm_(trained.values(), CLIPS[arm])
        optimizer.step()
    return {name: p.detach() for name, p in trained.items()}


def nested_lanes(
    config: PreTrainedConfig, adapted: lora.Adapted, bases: Sequence[dict[str, Tensor]]
) -> list[list[dict[str, Tensor]]]:
    """ADAPTERS adapters on each base, trained as one program; [G][A]."""
    count = len(bases) * ADAPTERS
    arms = list(range(ADAPTERS))
    first = [adapted.initial(SEEDS[arm]) | adapted.saved_weights(base)
             for base in bases for arm in arms]  # fmt: skip
    state = loop.State.fresh(adapted.shapes, lanes.join_rows(first))
    plan = loop.Plan(
        lr_SK=torch.tensor(np.tile(curves(arms), len(bases))),
        decay_SK=torch.tensor([[DECAYS[arm] for arm in arms] * len(bases)] * STEPS),
        constants=optimizers.constants(
            count, "cpu", clip=[CLIPS[arm] for arm in arms] * len(bases)
        ),
    )
    loop.train(
        toy.adapted_program(config, adapted),
        state,
        plan,
        lambda step: TokenBatch(torch.stack([batch_of(arm, step) for arm in arms])),
        until=STEPS,
        frozen=adapted.frozen(lanes.stack(bases)),
    )
    rows = lanes.split_rows(adapted.shapes, state.rows.values)
    return [
        [{name: p[base * ADAPTERS + arm] for name, p in rows.items()} for arm in arms]
        for base in range(len(bases))
    ]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # in PEFT
@pytest.mark.parametrize("merged_below", [0.0, math.inf])
@pytest.mark.parametrize(
    ("name", "saved"),
    [("llama", ()), ("gpt2", ()), ("neox", ()), ("llama", ("norms", "head")),
     ("gpt2", ("embeddings", "norms")), ("neox", ("embeddings",))],
)  # fmt: skip
@pytest.mark.usefixtures("float64")
def test_adapters_and_saved_modules_on_shared_bases_equal_plain_peft_training(
    name: str, saved: tuple[Any, ...], merged_below: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lora, "MERGED_BELOW", merged_below)
    config = toy.CONFIGS[name]
    given = Lora(rank=3, alpha=6.0, modules_to_save=saved)
    adapted = lora.Adapted(config, given, "cpu")
    bases = [toy.initial(config, 10 + base) for base in range(BASES)]
    together = nested_lanes(config, adapted, bases)
    for base in range(BASES):
        alone = nested_lanes(config, adapted, [bases[base]])[0]
        for arm in range(ADAPTERS):
            assert_close(together[base][arm], alone[arm], 1e-10)
        arm = base + 1
        first = adapted.initial(SEEDS[arm]) | adapted.saved_weights(bases[base])
        expected = adapted_plainly(config, adapted, bases[base], first, arm)
        assert_close(together[base][arm], expected, 1e-10)
        assert not toy.same(first, together[base][arm])


def test_frozen_bases_are_shared_not_copied_and_stay_as_they_were() -> None:
    config = toy.CONFIGS["llama"]
    adapted = lora.Adapted(config, Lora(rank=2), "cpu")
    bases = [toy.initial(config, seed) for seed in range(BASES)]
    frozen = adapted.frozen(lanes.stack(bases))
    assert {p.shape[0] for p in frozen.values()} == {BASES}
    before = {name: p.clone() for name, p in frozen.items()}
    values = lanes.join_rows([adapted.initial(seed) for seed in range(BASES * ADAPTERS)])
    rows = lanes.StackedParams(adapted.shapes, values)
    program = toy.adapted_program(config, adapted)
    loop._gradient(program, rows, frozen, TokenBatch(toy.ids(B, T + 1)), 1)
    assert toy.same(before, frozen)
    assert all(p.grad is None for p in frozen.values())
    assert rows.values.shape == (BASES * ADAPTERS, sum(s.numel() for s in adapted.shapes.values()))
    assert rows.grads.abs().sum(1).min() > 0


def test_dropout_of_adapters_is_drawn_in_training_alike_for_all_and_left_out_of_scores() -> None:
    config = toy.CONFIGS["llama"]
    adapted = lora.Adapted(config, Lora(rank=4, dropout=0.5), "cpu")
    params = [adapted.initial(seed) for seed in range(2)]
    for one in params:
        for name in one:
            one[name] = torch.full_like(one[name], 0.1)
    stacked, frozen = lanes.stack(params), adapted.frozen(lanes.stack([toy.initial(config, 0)]))
    program = toy.adapted_program(config, adapted)
    batch = TokenBatch(toy.ids(B, T + 1))
    losses = [program.losses(stacked, frozen, batch) for _ in range(2)]
    assert not torch.equal(losses[0], losses[1])
    assert losses[0][0] == losses[0][1]
    alone = {name: p[1:] for name, p in stacked.items()}
    drawn = []
    for some in (stacked, alone):
        torch.manual_seed(0)
        drawn.append(program.losses(some, frozen, batch)[-1])
    assert torch.equal(drawn[0], drawn[1])
    scores = [program.scores(stacked, frozen, batch)[0] for _ in range(2)]
    assert torch.equal(scores[0], scores[1])
    assert torch.equal(scores[0][0], scores[0][1])
    assert not torch.equal(program.losses(stacked, frozen, batch), losses[1])


def test_rows_and_names_are_two_views_of_the_same_numbers() -> None:
    config = toy.CONFIGS["gpt2"]
    weights = [toy.initial(config, seed) for seed in range(3)]
    rows = lanes.join_rows(weights)
    shapes = {name: p.shape for name, p in weights[0].items()}
    split = lanes.split_rows(shapes, rows)
    for lane, one in enumerate(weights):
        assert toy.same(one, {name: p[lane] for name, p in split.items()})
    split["lm_head.weight" if "lm_head.weight" in split else "transformer.wte.weight"].zero_()
    assert (rows == 0).any(1).all()
    scalar = lanes.split_rows(
        {"a": torch.Size([]), "b": torch.Size([2])}, torch.arange(6.0).view(2, 3)
    )
    assert scalar["a"].tolist() == [0.0, 3.0]
    assert scalar["b"].tolist() == [[1.0, 2.0], [4.0, 5.0]]


def test_a_sliding_window_shorter_than_the_sequence_is_refused() -> None:
    config = MistralConfig(**{**toy.CONFIGS["llama"].to_dict(), "sliding_window": 8})
    program = LaneModel(causal_lm.build_module(config, "cpu"))
    params = lanes.stack([toy.initial(config, 0)])
    assert torch.isfinite(program.losses(params, None, TokenBatch(toy.ids(2, 9)))).all()
    with pytest.raises(ValueError, match="11 tokens exceed the model's sliding window of 8"):
        program.losses(params, None, TokenBatch(toy.ids(2, 12)))


LENGTHS = (T + 1, T - 1)


@pytest.mark.parametrize(
    ("name", "bf16", "lengths"),
    [("llama", False, LENGTHS), ("llama", True, LENGTHS[:1]), ("gpt2", False, LENGTHS[:1]),
     ("neox", False, LENGTHS[:1])],
)  # fmt: skip
def test_a_compiled_pass_over_lanes_is_one_graph_with_gradients_and_gives_the_same(
    name: str, bf16: bool, lengths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`fullgraph` raises where a graph would break; what a backend makes of it is torch's.

    Fused attention on CUDA leaves out what its backward pass needs where none is required.
    """
    attend, seen = F.scaled_dot_product_attention, list[bool]()

    def spied(query: Tensor, *given: Any, **named: Any) -> Tensor:
        seen.append(query.requires_grad)
        return attend(query, *given, **named)

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(F, "scaled_dot_product_attention", spied)
    config = toy.CONFIGS[name]
    shapes = {key: p.shape for key, p in causal_lm.build_module(config, "cpu").named_parameters()}
    found = []
    for compiling in (False, True):
        seen.clear()
        program = LaneModel(causal_lm.build_module(config, "cpu"), bf16=bf16, compiled=compiling)
        rows = lanes.StackedParams(
            shapes, lanes.join_rows([toy.initial(config, seed) for seed in range(3)], shapes)
        )
        for length in lengths:
            batch = TokenBatch(toy.ids(B, length))
            loss_K = loop._gradient(program, rows, None, batch, 1)
            found.append((loss_K, rows.grads.clone()))
    assert seen
    assert all(seen)
    tolerance = 2e-2 if bf16 else 1e-5
    for eager, graph in zip(found[: len(lengths)], found[len(lengths) :], strict=True):
        torch.testing.assert_close(graph[0], eager[0], rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(graph[1], eager[1], rtol=tolerance, atol=tolerance)
