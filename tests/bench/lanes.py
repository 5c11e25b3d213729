"""Scaling of lanes: tokens a second, trials an hour and memory for K = 1, 2, 4, ... lanes.

1. For each preset and K, training steps with the optimizer on random tokens are timed: repeats of
   two seconds after a warm-up. K grows to a cap, or until the GPU's memory is used up.
2. At K = 1 an ordinary loop (transformers module, fused AdamW) is timed in turn with one lane:
   their ratio is what lanes cost where there is nothing to fuse.
3. The share of the device's limit is tokens a second times operations a token over the measured
   rate of a large matrix product.

Trials an hour are of TRIAL_STEPS pretraining steps each, without fine-tuning. On a CPU memory is
the peak of the whole process.
"""

from __future__ import annotations

import torch

from tests.bench import speed
from tests.bench.figures import Figure, Options, mean_of
from tests.bench.speed import Shape

TRIAL_STEPS = 400
"""Pretraining steps of a trial of `short_study.py`."""


NO_PENALTY = ">= 0.95"
"""One lane against the plain loop; within the spread of such timings."""


def run(options: Options) -> dict[str, Figure]:
    """The scaling table."""
    cuda = torch.device(options.device).type == "cuda"
    shapes = QUICK if options.quick else (GPU if cuda else CPU)
    matmul = speed.matmul_flops(options.device, quick=options.quick)
    found = {"matmul_flops": Figure(value=matmul, unit="operations/s")}
    for name in options.picked(list(shapes)):
        found |= _against_plain(name, shapes[name], options)
        num_lanes = 1
        while num_lanes <= (2 if options.quick else 1024 if cuda else 64):
            try:
                found |= _at(name, shapes[name], num_lanes, matmul, options)
            except torch.OutOfMemoryError:
                options.say(f"{name}: {num_lanes} lanes do not fit")
                break
            num_lanes *= 2
    return found


def _against_plain(name: str, shape: Shape, options: Options) -> dict[str, Figure]:
    """K = 1 and the plain loop in turn."""
    one = speed.lane_stepper(shape, 1, options.device)
    plain = speed.plain_stepper(shape, options.device)
    lane_rates, plain_rates = _rates([one, plain], options)
    ratios = [mine / other for mine, other in zip(lane_rates, plain_rates, strict=True)]
    tokens = [rate * shape.tokens for rate in plain_rates]
    options.say(f"{name}: plain loop {sum(tokens) / len(tokens):,.0f} tokens/s")
    return {
        f"{name}.tokens_per_s_plain": mean_of(tokens, "tokens/s"),
        f"{name}.K1_over_plain_ratio": mean_of(ratios, "x", options.speed_goal(NO_PENALTY)),
    }


def _at(
    name: str, shape: Shape, num_lanes: int, matmul: float, options: Options
) -> dict[str, Figure]:
    speed.reset_peak_memory(options.device)
    (rates,) = _rates([speed.lane_stepper(shape, num_lanes, options.device)], options)
    memory = speed.peak_memory_gib(options.device)
    tokens = [rate * shape.tokens * num_lanes for rate in rates]
    rate = sum(tokens) / len(tokens)
    share = rate * shape.flops_per_token() / matmul
    options.say(f"{name}: K = {num_lanes}: {rate:,.0f} tokens/s, {memory:.2f} GiB, {share:.1%}")
    an_hour = [3600 * each / (TRIAL_STEPS * shape.tokens) for each in tokens]
    return {
        f"{name}.tokens_per_s_K{num_lanes}": mean_of(tokens, "tokens/s"),
        f"{name}.trials_per_hour_K{num_lanes}": mean_of(an_hour, "trials/h"),
        f"{name}.memory_gib_K{num_lanes}": Figure(value=memory, unit="GiB"),
        f"{name}.limit_share_K{num_lanes}": Figure(value=share, unit="of matmul rate"),
    }


def _rates(steppers: list[speed.Stepper], options: Options) -> list[list[float]]:
    repeats = options.repeats or (1 if options.quick else 3)
    seconds = 0.05 if options.quick else 2.0
    return speed.rates(steppers, options.device, repeats=repeats, seconds=seconds)


QUICK = {"llama-0.2m": Shape(preset="llama-0.2m", vocab_size=512, batch_size=2, seq_len=16)}


CPU = {
    "llama-0.2m": Shape(preset="llama-0.2m", vocab_size=1024, batch_size=16, seq_len=64),
    "llama-1m": Shape(preset="llama-1m", vocab_size=2048, batch_size=16, seq_len=64),
}


GPU = {
    "llama-0.2m": Shape(preset="llama-0.2m", vocab_size=1024, batch_size=16, seq_len=64),
    "llama-1m": Shape(preset="llama-1m", vocab_size=2048, batch_size=16, seq_len=128, bf16=True),
    "llama-10m": Shape(preset="llama-10m", vocab_size=2048, batch_size=16, seq_len=256, bf16=True),
    "llama-60m": Shape(preset="llama-60m", vocab_size=32000, batch_size=16, seq_len=512, bf16=True),
}
