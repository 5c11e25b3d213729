"""What a recipe measures on the base besides its losses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from objectives.config.config_class import config_class
from objectives.config.paths import Count, CountOrZero, Positive, Several, Unit

ProbeName = Literal[
    "norms",
    "ranks",
    "alphas",
    "spikes",
    "separability",
    "units",
    "heads",
    "sharpness",
    "noise",
    "tiny_rate",
    "lost_updates",
]


@config_class
class Probes:
    """What is measured on the base besides its losses; see `objectives.probes`.

    Sizes are this project's choice, for models of up to some millions of parameters.
    """

    run: Annotated[tuple[ProbeName, ...], Several] = ("norms", "ranks", "spikes")
    """The probes; the cheap ones by default. Each runs once for a base and its settings."""
    forgetting_tokens: Annotated[CountOrZero, Unit("tokens")] = 8192
    """Tokens on which the base loss after fine-tuning is compared with before; 0 leaves it out."""
    tokens: Annotated[Count, Unit("tokens")] = 2048
    """Tokens of the fixed sample for norms, units, heads, sharpness and noise."""
    rows: Annotated[Count, Unit("rows")] = 256
    """separability: training rows of each labelled task."""
    vectors: Annotated[Count, Unit("vectors")] = 16
    """sharpness: random vectors; arXiv 2603.16127 takes 50."""
    noise_draws: Annotated[Count, Unit("draws")] = 8
    """noise: random draws a scale."""
    noise_isotropic: Positive = 0.003
    """noise: standard deviation where it is the same for every weight."""
    noise_relative: Annotated[Positive, Unit("of the root mean square")] = 0.05
    """noise: standard deviation over each tensor's root mean square."""
    tiny_rate: Positive = 5e-5
    """tiny_rate: the constant rate; our default peak / 60 as in arXiv 2310.04415, 1e-5 at 6e-4."""
    tiny_frac: Annotated[float, Field(gt=0, le=1), Unit("share of the run")] = 0.2
    """tiny_rate: further steps over the run's; 10,000 of 50,000 in arXiv 2310.04415."""
    lost_batches: Annotated[Count, Unit("batches")] = 32
    """lost_updates: training batches from which AdamW's memory is gathered."""
