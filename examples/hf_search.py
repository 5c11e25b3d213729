"""`Trainer.hyperparameter_search` with this project's sampler: base loss, and loss once fine-tuned.

    python examples/hf_search.py

The search's backends are a closed list in transformers, with Optuna among them, and what else is
given goes to `optuna.create_study`: so the sampler is `PlasticitySampler`, and the search itself is
transformers' own. It sets fields of TrainingArguments only; for schedules and decay policies take
`hf_trainer.py`, and for rungs and shared stages `hpo run`.
"""

from __future__ import annotations

import copy
import random
import tempfile
from typing import Any

import optuna
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from transformers.trainer_utils import BestRun

from hpo import PlasticitySampler


def texts(first: int, count: int) -> list[dict[str, torch.Tensor]]:
    """Rows that count up from a random start in steps of `first`, in place of your own text."""
    draw = random.Random(first)
    starts = [draw.randrange(64) for _ in range(count)]
    rows = [torch.tensor([(start + first * place) % 64 for place in range(32)]) for start in starts]
    return [{"input_ids": row, "labels": row} for row in rows]


def model() -> LlamaForCausalLM:
    """A small model with new weights."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
        )
    )


def arguments(folder: str, steps: int, lr: float) -> TrainingArguments:
    """The same for pretraining and fine-tuning, up to steps and rate."""
    return TrainingArguments(
        output_dir=folder, max_steps=steps, learning_rate=lr, save_strategy="no", report_to=[],
        disable_tqdm=True, use_cpu=not torch.cuda.is_available(), logging_strategy="no",
    )  # fmt: skip


def space(trial: optuna.Trial) -> dict[str, Any]:
    """Fields of TrainingArguments."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 3e-2, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 0.01, 3.0, log=True),
    }


def main(trials: int = 6, steps: int = 60) -> list[BestRun]:
    """Search for both goals; prints the front and returns it."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            args=arguments(folder, steps, 1e-3), model_init=model,
            train_dataset=texts(1, 256), eval_dataset=texts(1, 64),
        )  # fmt: skip

        def goals(metrics: dict[str, float]) -> tuple[float, float]:
            tuned = Trainer(
                copy.deepcopy(trainer.model), arguments(folder, steps // 3, 1e-3),
                train_dataset=texts(3, 64), eval_dataset=texts(3, 64),
            )  # fmt: skip
            tuned.train()
            return metrics["eval_loss"], tuned.evaluate()["eval_loss"]

        front: list[BestRun] = trainer.hyperparameter_search(
            space, goals, trials, ["minimize", "minimize"], backend="optuna",
            sampler=PlasticitySampler(seed=0),
        )  # fmt: skip
    for best in front:
        base, tuned = best.objective
        print(f"trial {best.run_id}: base loss {base:.3f}, fine-tuned {tuned:.3f}")
        print(f"    {best.hyperparameters}")
    return front


if __name__ == "__main__":
    main()
