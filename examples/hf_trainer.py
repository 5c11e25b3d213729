"""A recipe in a plain `transformers.Trainer`: its schedule, weight decay and probes by callbacks.

`hpo export RUN --trial knee --to best` writes best/recipe/recipe.json, which this reads; without an
argument a recipe with a constant rate is used. Rates and decays are the same numbers as here, and
the recipe's probes are in the Trainer's log as `probe.norms.weight_norm` and so on.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from objectives import Pretrain, Recipe, Schedule, WeightDecay
from objectives.export.probe_callback import ProbeCallback
from objectives.export.trainer_callback import RecipeCallback

RECIPE = Recipe(
    pretrain=Pretrain(
        batch_size=8,
        lr=3e-3,
        weight_decay=WeightDecay(value=0.5),
        schedule=Schedule(warmup_frac=0.1, decay_frac=0.0),
    )
)


def main(recipe: Recipe, steps: int = 40) -> list[float]:
    """Train a small model on random bytes; returns its losses."""
    config = LlamaConfig(
        vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    draw = random.Random(0)
    rows = [torch.tensor([draw.randrange(64) for _ in range(32)]) for _ in range(256)]
    callback = RecipeCallback(recipe)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, max_steps=steps, logging_steps=1, save_strategy="no", report_to=[],
            disable_tqdm=True, use_cpu=not torch.cuda.is_available(),
            **callback.training_arguments(),
        )  # fmt: skip
        trainer = Trainer(
            model, arguments, train_dataset=[{"input_ids": row, "labels": row} for row in rows],
            callbacks=[callback], optimizers=callback.optimizers(model),
        )  # fmt: skip
        trainer.add_callback(
            ProbeCallback(trainer, rows[:16], probes=recipe.probes, every=steps // 2)
        )
        trainer.train()
    logged = [each for each in trainer.state.log_history if "loss" in each]
    for probed in [each for each in trainer.state.log_history if "probe.norms.weight_norm" in each]:
        print(f"step {probed['step']}: norm of the weights {probed['probe.norms.weight_norm']:.2f}")
    print(f"rates: {[each['learning_rate'] for each in logged][:8]} ...")
    return [each["loss"] for each in logged]


if __name__ == "__main__":
    found = Recipe.from_file(Path(sys.argv[1])) if len(sys.argv) > 1 else RECIPE
    losses = main(found)
    print(f"loss: {losses[0]:.3f} to {losses[-1]:.3f}")
