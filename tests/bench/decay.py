"""What AlphaDecay costs: a look at the spectra every 500 steps, and its factors in every step.

1. Steps under uniform decay and under alpha_decay between two looks are timed in turn; one lane.
2. A look is timed alone: eigenvalues of all linear modules, their exponents and the row of factors.
3. `look_share` is a look over the 500 uniform steps that it is for.
"""

from __future__ import annotations

import torch

from objectives.config import recipe
from objectives.config.training import Pretrain
from objectives.config.weight_decay import WeightDecay
from objectives.models import causal_lm
from objectives.training import batch, weight_decay_policies
from objectives.training.weight_decay_policies import Update
from tests.bench import speed
from tests.bench.figures import Figure, Options, mean_of
from tests.bench.speed import Shape

ALPHA = WeightDecay(policy="alpha_decay")


SMALL_SHARE = "<= 0.03"


def run(options: Options) -> dict[str, Figure]:
    """The shares of each shape."""
    cuda = torch.device(options.device).type == "cuda"
    shapes = QUICK if options.quick else (GPU if cuda else CPU)
    found = {}
    for name in options.picked(list(shapes)):
        found |= _shares(name, shapes[name], options)
    return found


def _shares(name: str, shape: Shape, options: Options) -> dict[str, Figure]:
    repeats = options.repeats or (1 if options.quick else 3)
    steppers = [speed.lane_stepper(shape, 1, options.device, decay=d) for d in (None, ALPHA)]
    uniform, alpha = speed.rates(
        steppers, options.device, repeats=repeats, seconds=0.05 if options.quick else 5.0
    )
    looks = _look_seconds(shape, options.device, repeats)
    options.say(f"{name}: a step {1 / uniform[0]:.3g} s, a look {looks[0]:.3g} s")
    shares = [look * rate / ALPHA.scores.every for look, rate in zip(looks, uniform, strict=True)]
    between = [one / other - 1 for one, other in zip(uniform, alpha, strict=True)]
    return {
        f"{name}.step_s": mean_of([1 / rate for rate in uniform], "s"),
        f"{name}.look_s": mean_of(looks, "s"),
        f"{name}.look_share": mean_of(shares, "of step time", options.speed_goal(SMALL_SHARE)),
        f"{name}.between_looks_share": mean_of(between, "of step time"),
    }


def _look_seconds(shape: Shape, device: str, repeats: int) -> list[float]:
    model = recipe.Model(preset=shape.preset)
    config = causal_lm.build_config(model, shape.vocab_size)
    module = causal_lm.build_module(config, device)
    values = batch.join_rows([causal_lm.initial_parameters(model, config, seed=0)]).to(device)
    rule = weight_decay_policies.rule(module, [Pretrain(weight_decay=ALPHA)], device)
    one = torch.ones(1, 1, device=device)
    memory = torch.zeros(1, rule.policy_state_size, device=device)
    first = Update(1, values, values, memory, one)
    rule.scaled(one, first)
    return [speed.seconds(lambda: rule.scaled(one, first), device) for _ in range(repeats)]


QUICK = {"llama-0.2m": Shape(preset="llama-0.2m", vocab_size=512, batch_size=2, seq_len=16)}


CPU = {
    "llama-1m": Shape(preset="llama-1m", vocab_size=2048, batch_size=16, seq_len=64),
    "llama-10m": Shape(preset="llama-10m", vocab_size=2048, batch_size=8, seq_len=128),
}


GPU = {
    "llama-10m": Shape(preset="llama-10m", vocab_size=2048, batch_size=16, seq_len=256, bf16=True),
    "llama-60m": Shape(preset="llama-60m", vocab_size=32000, batch_size=16, seq_len=512, bf16=True),
    "llama-350m": Shape(
        preset="llama-350m", vocab_size=32000, batch_size=16, seq_len=512, bf16=True
    ),
}
