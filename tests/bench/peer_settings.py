"""What is compared with the peer: recipes, trials and the ratio each should reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from objectives import BuiltinTask, Corpus, Finetune, Model, Pretrain, Recipe, Request, Schedule
from studies.quickstart import RECIPE as QUICKSTART
from tests.bench.short_study import RECIPE as SHORT

DECAYS = (0.1, 0.0, 0.3, 1.0, 0.03, 0.01)


RATES = (1.0, 0.5, 0.25)
"""Shares of the recipe's own rate."""


DECAY_FRACS = (1.0, 0.0, 0.25)


NO_CONTROL: dict[str, Any] = {"finetune.from_scratch": "off"}
"""A study measures it once a seed, the peer never."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One comparison."""

    recipe: Recipe
    trials: int
    """This project, as one wave."""
    peer_trials: int
    """The peer's in one repeat."""
    goal: str
    lanes: int | None = None
    """Trials at once here; None measures how many fit, as a study does."""
    loss_goal: str = "<= 0.01"
    """For the difference of the base losses, in nats; bf16 rounds more coarsely than fp32."""


def requests(recipe: Recipe, count: int) -> list[Request]:
    """Trials that differ in decay, rate and schedule; all of one seed, as in a study."""
    return [
        Request(
            params={
                "pretrain.weight_decay": DECAYS[index % len(DECAYS)] * (1 + index // len(DECAYS)),
                "pretrain.lr": recipe.pretrain.lr * RATES[index // 3 % len(RATES)],
                "pretrain.schedule.decay_frac": DECAY_FRACS[index % len(DECAY_FRACS)],
            },
            fidelity=1.0,
            seed=0,
        )
        for index in range(count)
    ]


def shrunk(recipe: Recipe) -> Recipe:
    """The same shapes for a few steps."""
    return recipe.with_params(
        {
            "pretrain.steps": 12,
            "pretrain.schedule.warmup_steps": 4,
            "finetune.steps": 4,
            "finetune.schedule.warmup_steps": 1,
            "finetune.max_extensions": 2,
            "pretrain.eval_tokens": 2048,
            "probes.forgetting_tokens": 1024,
        }
    )


def _recipe(
    preset: str, *, vocab_size: int, steps: int, seq_len: int, lr: float, bf16: bool = False
) -> Recipe:
    """The short study's kind of trial for a larger model, with fewer steps."""
    return Recipe(
        model=Model(preset=preset),
        corpus=Corpus(vocab_size=vocab_size),
        pretrain=Pretrain(
            steps=steps,
            batch_size=16,
            seq_len=seq_len,
            lr=lr,
            schedule=Schedule(warmup_steps=steps // 10),
            precision="bf16" if bf16 else "fp32",
        ),
        finetune=Finetune(
            tasks=(BuiltinTask(name="token_kind"), BuiltinTask(name="list_ops")),
            steps=50,
            batch_size=8,
            lrs=(1e-3, 3e-3, 1e-2),
            from_scratch="off",
        ),
    )


QUICK: dict[str, Any] = {
    "corpus.sources": [{"kind": "stdlib", "max_bytes": 1_000_000}],
    "corpus.vocab_size": 512,
    "finetune.tasks": [{"kind": "builtin", "name": "list_ops"}],
    "finetune.validation_rows": 8,
    "finetune.test_rows": 8,
}


CPU: dict[str, Setting] = {
    "quickstart": Setting(
        recipe=QUICKSTART.with_params(NO_CONTROL), trials=6, peer_trials=2, goal=">= 4"
    ),
    "0.2m": Setting(recipe=SHORT.with_params(NO_CONTROL), trials=6, peer_trials=2, goal=">= 4"),
    "1.3m": Setting(
        recipe=_recipe("llama-1m", vocab_size=2048, steps=150, seq_len=64, lr=6e-3),
        trials=6,
        peer_trials=2,
        goal=">= 2",
    ),
}


GPU: dict[str, Setting] = {
    "1m": Setting(
        recipe=_recipe("llama-1m", vocab_size=2048, steps=400, seq_len=128, lr=6e-3, bf16=True),
        trials=32,
        peer_trials=2,
        goal=">= 20",
        loss_goal="<= 0.03",
    ),
    "10m": Setting(
        recipe=_recipe("llama-10m", vocab_size=2048, steps=300, seq_len=256, lr=3e-3, bf16=True),
        trials=16,
        peer_trials=2,
        goal=">= 8",
        loss_goal="<= 0.03",
    ),
    "60m": Setting(
        recipe=_recipe("llama-60m", vocab_size=32000, steps=200, seq_len=512, lr=1e-3, bf16=True),
        trials=6,
        peer_trials=2,
        goal=">= 1.5",
        loss_goal="<= 0.03",
    ),
}
