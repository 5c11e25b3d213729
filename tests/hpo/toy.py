"""Synthetic runs: plain values, no training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hpo.core.domains import Float
from hpo.core.goals import BASE_LOSS_DOWN, GAIN_UP, Goal, Limit
from hpo.core.paper import Contrast, Paper, Quantity, Table, difference
from hpo.core.trial import Run, Trial

HOSTILE = "</script><img src=x onerror=alert(1)>{{}}%{x}$name${data}"


TASKS = ("arithmetic", "grammar")


def trial(number: int, base_loss: float, gain: float, **fields: Any) -> Trial:
    """A complete trial with these two goals, standard errors of `gain` and two tasks."""
    metrics = {
        "base_loss": base_loss,
        "gain": gain,
        "gain_sem": 0.01,
        "finetuned": 0.2 + gain,
        "finetuned_sem": 0.01,
    } | fields.pop("metrics", {})
    for task in TASKS:
        metrics |= {
            f"task.{task}.before": 0.2,
            f"task.{task}.after": 0.2 + gain,
            f"task.{task}.after_sem": 0.01,
            f"task.{task}.gain": gain,
            f"task.{task}.gain_sem": 0.01,
            f"task.{task}.chance": 0.1,
        }
    defaults: dict[str, Any] = {
        "state": "complete",
        "params": {"pretrain.weight_decay": round(0.01 * (number + 1), 4), "pretrain.lr": 0.003},
        "curves": curves(base_loss),
        "cost": {"tokens": 1e6, "flops": 1e12, "time_s": 12.5, "peak_memory_gib": 0.4},
    }
    return Trial.measured(number=number, metrics=metrics, **(defaults | fields))


def curves(end: float, points: int = 8) -> dict[str, list[list[float]]]:
    """Falling losses with these ends, one fine-tuning curve a task."""
    steps = range(0, 10 * points, 10)
    fall = [[float(step), end + 4 * math.exp(-step / 20)] for step in steps]
    tasks = {f"finetune.{task}": [[s, v - 1] for s, v in fall] for task in TASKS}
    return {"train_loss": fall, "val_loss": fall[::2]} | tasks


def run(
    trials: list[Trial],
    goals: tuple[Goal, ...] = (BASE_LOSS_DOWN, GAIN_UP),
    limits: tuple[Limit, ...] = (),
    **fields: Any,
) -> Run:
    """A run of these trials."""
    defaults: dict[str, Any] = {
        "name": "toy",
        "description": "A synthetic run.",
        "planned": len(trials),
        "space": {"pretrain.weight_decay": Float(low=0.01, high=1.0, log=True)},
        "reproduce": {"seed": 0, "versions": {"python": "3.11"}},
    }
    return Run(goals=goals, limits=limits, trials=trials, **(defaults | fields))


def beside_paper(name: str = "a", text: str = "b is above a") -> Run:
    """Two points at two seeds, and a paper's table of them."""
    table = Table(
        title=text,
        points=(name, "b"),
        quantities=(
            Quantity(metric="base_loss", paper_name=text, paper={name: 2.5, "b": 2.4}),
            Quantity(metric="gain", better="up"),
        ),
        claims=(
            Contrast(text=text, metric="gain", weights=difference("b", name), sign=1),
            Contrast(text=text, metric="base_loss", weights=difference("b", name), sign=-1),
        ),
    )
    trials = [
        trial(0, 3.50, 0.20, baseline=name),
        trial(1, 3.40, 0.30, point="b"),
        trial(2, 3.60, 0.25, baseline=name, seed=1),
        trial(3, 3.52, 0.36, point="b", seed=1),
        trial(4, math.nan, math.nan, state="failed", failure="diverged", point="b", seed=2),
    ]
    paper = Paper(arxiv="0000.00000", scale="a large model", ours="a toy", tables=(table,))
    return run(trials, paper=paper)


def mixed() -> Run:
    """Two baselines, a front of four with a knee, dominated, failed, running and partial trials."""
    return run(
        [
            trial(0, 3.50, 0.20, baseline="standard"),
            trial(1, 3.70, 0.22, baseline="constant rate"),
            trial(2, 3.45, 0.15),
            trial(3, 3.55, 0.30),
            trial(4, 3.80, 0.33),
            trial(5, 3.90, 0.10),
            trial(6, math.nan, math.nan, state="failed", failure="loss is not finite at step 40"),
            trial(7, math.nan, math.nan, state="running"),
            trial(8, 3.00, 0.90, fidelity=0.5),
            trial(9, 3.40, math.nan),
        ],
        planned=12,
    )


def large(num_trials: int, seed: int = 0, points: int = 40) -> Run:
    """A run whose two goals conflict on average."""
    rng = np.random.default_rng(seed)
    decay = rng.uniform(0, 1, num_trials)
    base = 3.4 + 0.6 * decay**2 + rng.normal(0, 0.03, num_trials)
    gain = 0.2 + 0.2 * np.sqrt(decay) + rng.normal(0, 0.02, num_trials)
    return run(
        [
            trial(
                number,
                float(base[number]),
                float(gain[number]),
                params={"pretrain.weight_decay": float(decay[number]), "pretrain.shape": "cosine"},
                curves=curves(float(base[number]), points),
                baseline=f"baseline {number}" if number < 3 else None,
            )
            for number in range(num_trials)
        ]
    )
