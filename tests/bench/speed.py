"""How fast a training step is: lanes, a plain loop, and the device's own matrix products.

A stepper is a function that runs a number of steps; `rates` times it. Tokens are random: the
arithmetic of a step does not depend on them.

K lanes, B batch, T tokens.
"""

from __future__ import annotations

import contextlib
import itertools
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM

from objectives.config import recipe, training, weight_decay
from objectives.models import causal_lm
from objectives.training import batch, device_memory, lanes, loop, optimizers, weight_decay_policies

LR, DECAY, CLIP = 1e-4, 0.1, 1.0


MAX_STEPS = 1_000_000


BATCHES = 4
"""Different batches that a stepper goes round."""


Stepper = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is trained."""

    preset: str
    vocab_size: int
    batch_size: int
    seq_len: int
    bf16: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of a step of one lane."""
        return self.batch_size * self.seq_len

    def flops_per_token(self) -> float:
        """Training operations a token, as `models.flops_per_token` counts them."""
        config = causal_lm.build_config(recipe.Model(preset=self.preset), self.vocab_size)
        size = causal_lm.num_parameters(causal_lm.build_module(config, "cpu"))
        return causal_lm.flops_per_token(config, size, self.seq_len)


def lane_stepper(
    shape: Shape,
    num_lanes: int,
    device: str,
    *,
    compiled: bool = False,
    decay: weight_decay.WeightDecay | None = None,
) -> Stepper:
    """Steps of K lanes as a study trains them: `objectives.training.loop` on shared rows.

    `decay` is who decays how; the strength is always the same.
    """
    pre = training.Pretrain(weight_decay=decay or weight_decay.WeightDecay())
    model = recipe.Model(preset=shape.preset)
    config = causal_lm.build_config(model, shape.vocab_size)
    module = causal_lm.build_module(config, device)
    program = lanes.LaneModel(module, bf16=shape.bf16, compiled=compiled)
    initial = batch.join_rows([causal_lm.initial_parameters(model, config, seed=0)])
    shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
    values = initial.to(device).expand(num_lanes, -1).clone()
    rule = weight_decay_policies.rule(module, [pre] * num_lanes, device)
    moments = optimizers.Moments.zeros_like(values, rule.policy_state_size)
    state = loop.State.fresh(shapes, values, moments)
    every_step = torch.ones(1, num_lanes, device=device).expand(MAX_STEPS, -1)
    plan = loop.Plan(
        lr_SK=(every_step[:1] * LR).expand(MAX_STEPS, -1),
        decay_SK=(every_step[:1] * DECAY).expand(MAX_STEPS, -1),
        constants=optimizers.constants(num_lanes, device, clip=CLIP, decay=rule),
    )
    batches = [batch.TokenBatch(ids) for ids in _random_ids(shape, device)]

    def steps(count: int) -> None:
        until = state.step + count
        loop.train(program, state, plan, lambda step: batches[step % BATCHES], until=until)

    return steps


def plain_stepper(shape: Shape, device: str) -> Stepper:
    """Steps of an ordinary loop: the transformers module, torch's fused AdamW, clipping."""
    config = causal_lm.build_config(recipe.Model(preset=shape.preset), shape.vocab_size)
    module = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").to(device)
    parameters = list(module.parameters())
    optimizer = torch.optim.AdamW(
        parameters, lr=LR, betas=(0.9, 0.95), weight_decay=DECAY, fused=True
    )
    batches = itertools.cycle(_random_ids(shape, device))
    kind = torch.device(device).type

    def steps(count: int) -> None:
        for _ in range(count):
            ids = next(batches)
            with torch.autocast(kind, torch.bfloat16) if shape.bf16 else contextlib.nullcontext():
                logits = module(ids[:, :-1]).logits
            F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten()).backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            optimizer.zero_grad()

    return steps


def rates(
    steppers: list[Stepper], device: str, *, repeats: int, seconds: float
) -> list[list[float]]:
    """Steps a second of each stepper, `repeats` times in turn, each for at least `seconds`."""
    counts = []
    for stepper in steppers:
        stepper(2)
        took = _time(stepper, 1, device)
        counts.append(max(1, round(seconds / took)))
    found: list[list[float]] = [[] for _ in steppers]
    for _ in range(repeats):
        for stepper, count, row in zip(steppers, counts, found, strict=True):
            row.append(count / _time(stepper, count, device))
    return found


def matmul_flops(device: str, *, quick: bool = False) -> float:
    """Operations a second of large matrix products: 8192^3 in bf16 on a GPU, 2048^3 in fp32 else.

    The best of five, each of several products.
    """
    cuda = torch.device(device).type == "cuda"
    size = 512 if quick else (8192 if cuda else 2048)
    dtype = torch.bfloat16 if cuda else torch.float32
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))

    def products(count: int) -> None:
        for _ in range(count):
            torch.mm(one, other)

    products(3)
    count = 50 if cuda else 5
    return max(2 * size**3 * count / _time(products, count, device) for _ in range(5))


def reset_peak_memory(device: str) -> None:
    """Forget the peak so far, and hand unused memory back to the system first."""
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        device_memory.trim_malloc()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_gib(device: str) -> float:
    """Most memory in use since the reset: the GPU's, or the whole process's on a CPU.

    Outside Linux the process's peak cannot be reset and is that of its whole life.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        (peak,) = [line.split()[1] for line in lines if line.startswith("VmHWM")]
        return int(peak) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30


def _time(stepper: Stepper, count: int, device: str) -> float:
    return seconds(lambda: stepper(count), device)


def seconds(work: Callable[[], object], device: str) -> float:
    """How long the device takes."""
    _finish(device)
    started = time.perf_counter()
    work()
    _finish(device)
    return time.perf_counter() - started


def _finish(device: str) -> None:
    """Wait for what the GPU still has to do."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def _random_ids(shape: Shape, device: str) -> list[Tensor]:
    drawn = torch.Generator().manual_seed(0)
    size = (BATCHES, shape.batch_size, shape.seq_len + 1)
    return list(torch.randint(shape.vocab_size, size, generator=drawn).to(device))
