"""Seeded draws: the numbers of the global generator, without it, and in any company."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, vmap
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM

from objectives.config.training import Lora
from objectives.config.vision import ResNet
from objectives.finetuning import lora
from objectives.models import draws
from objectives.vision import resnet
from tests.objectives import toy

OPERATIONS = {
    "rand": lambda: torch.rand(5),
    "randn": lambda: torch.randn(5),
    "randint": lambda: torch.randint(3, 99, (5,)),
    "randperm": lambda: torch.randperm(9),
    "rand_like": lambda: torch.rand_like(torch.zeros(5)),
    "randint_like": lambda: torch.randint_like(torch.zeros(5), 3, 99),
    "normal": lambda: torch.normal(torch.zeros(5), torch.ones(5)),
    "bernoulli": lambda: torch.bernoulli(torch.full((9,), 0.5)),
    "multinomial": lambda: torch.multinomial(torch.ones(9), 4),
    "exponential": lambda: torch.empty(5).exponential_(),
    "trunc_normal": lambda: nn.init.trunc_normal_(torch.empty(5)),
    "orthogonal": lambda: nn.init.orthogonal_(torch.empty(4, 4)),
    "dropout": lambda: F.dropout(torch.ones(9), 0.5),
    "linear": lambda: nn.Linear(3, 2).weight.detach(),
}


@pytest.fixture(autouse=True)
def global_generator_is_left_alone() -> Iterator[None]:
    """Each test restores what it draws itself; the code under test must not change anything."""
    state = torch.get_rng_state()
    yield
    torch.set_rng_state(state)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_draw_what_the_global_generator_would_and_leave_it_alone(name: str) -> None:
    torch.manual_seed(3)
    expected = [OPERATIONS[name]() for _ in range(2)]
    before = torch.get_rng_state()
    with draws.seeded(3):
        found = [OPERATIONS[name]() for _ in range(2)]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("family", toy.CONFIGS)
def test_initial_weights_are_transformers_own_after_manual_seed(family: str) -> None:
    torch.manual_seed(5)
    module = AutoModelForCausalLM.from_config(
        copy.deepcopy(toy.CONFIGS[family]), dtype=torch.float32
    )
    assert toy.same(toy.initial(toy.CONFIGS[family], 5), dict(module.named_parameters()))


def test_no_draw_of_a_model_an_adapter_or_a_classifier_touches_the_global_generator() -> None:
    before = torch.get_rng_state()
    adapted = lora.Adapted(toy.CONFIGS["llama"], Lora(rank=2), "cpu")
    adapted.initial(3)
    shape = (1, 8, 8)
    config = resnet.build_resnet_config(ResNet(widths=(4, 8), depths=(1, 1)), shape, 10)
    resnet.Classifier(config, shape, "cpu")
    resnet.initial_resnet_parameters(config, 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_drawn_beside_threads_that_draw_and_seed_are_those_drawn_alone() -> None:
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            torch.manual_seed(0)
            torch.rand(100)

    expected = [toy.initial(toy.CONFIGS["llama"], seed) for seed in range(4)]
    found: dict[int, list[bool]] = {seed: [] for seed in range(4)}

    def draw(seed: int) -> None:
        for _ in range(10):
            drawn = toy.initial(toy.CONFIGS["llama"], seed)
            found[seed].append(toy.same(drawn, expected[seed]))

    disturber = threading.Thread(target=disturb)
    drawing = [threading.Thread(target=draw, args=(seed,)) for seed in range(4)]
    for thread in (disturber, *drawing):
        thread.start()
    for thread in drawing:
        thread.join()
    stop.set()
    disturber.join()
    assert found == {seed: [True] * 10 for seed in range(4)}


def dropping() -> tuple[nn.Module, dict[str, torch.Tensor], torch.Tensor]:
    module = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5), nn.Linear(6, 2))
    draw = draws.generator(1)
    params = {
        name: torch.randn(3, *p.shape, generator=draw).requires_grad_()
        for name, p in module.named_parameters()
    }
    return module, params, torch.randn(4, 6, generator=draw)


def test_dropout_under_vmap_is_that_of_the_global_generator() -> None:
    module, params, x = dropping()
    run = vmap(lambda lane: functional_call(module, lane, (x,)), randomness="same")
    torch.manual_seed(7)
    expected = run(params)
    with draws.drawing_from(draws.generator(7)):
        found = run(params)
    assert torch.equal(found, expected)
    with draws.drawing_from(draws.generator(8)):
        assert not torch.equal(run(params), expected)


def test_a_repeated_pass_drops_the_same_units_so_gradients_are_those_without_repetition() -> None:
    module, params, x = dropping()
    lane = {name: p[0] for name, p in params.items()}

    def run(*tensors: torch.Tensor) -> torch.Tensor:
        return functional_call(module, dict(zip(lane, tensors, strict=True)), (x,)).square().sum()

    def gradients(again: bool) -> tuple[torch.Tensor, ...]:
        with draws.drawing_from(draws.generator(7)):
            torch.rand(3)  # something before it
            loss = (
                checkpoint(
                    run,
                    *lane.values(),
                    use_reentrant=False,
                    preserve_rng_state=False,
                    context_fn=draws.repeated,
                )
                if again
                else run(*lane.values())
            )
            loss = loss + torch.rand(())
        return torch.autograd.grad(loss, list(lane.values()))

    pairs = zip(gradients(True), gradients(False), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_native_dropout_keeps_the_expected_share_and_scales_it(p: float) -> None:
    x = torch.ones(10_000)
    with draws.seeded(0):
        out, mask = torch.native_dropout(x, p, True)
        assert torch.equal(torch.native_dropout(x, p, False)[0], x)
    assert mask.float().mean() == pytest.approx(1 - p, abs=0.02)
    assert torch.equal(out, mask / (1 - p) if p < 1 else torch.zeros_like(x))


def test_an_operation_without_a_generator_is_seeded_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(draws, "_with_generator", lambda func: None)
    before = torch.get_rng_state()
    found = []
    for seed in (1, 1, 2):
        with draws.seeded(seed):
            found.append(torch.cat([torch.rand(3), torch.rand(3)]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0][:3], found[0][3:])
    assert torch.equal(torch.get_rng_state(), before)
