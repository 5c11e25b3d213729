"""A plain Trainer with the callback has the rates, decays and weights of the training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM, PrinterCallback, Trainer, TrainingArguments

from objectives.config.recipe import Recipe
from objectives.config.training import MidTraining, Pretrain, Schedule
from objectives.config.weight_decay import ModuleScores, Multipliers, WeightDecay
from objectives.export.trainer_callback import RecipeCallback
from objectives.models import draws
from objectives.pretraining.job import PretrainJob
from objectives.training import loop, optimizers
from objectives.training.optimizers import Moments
from tests.objectives import toy

STEPS, ROWS, T = 6, 4, 16


SCORES = ModuleScores(every=2, min_eigenvalues=4)


DECAYS = {
    "uniform": WeightDecay(value=0.5),
    "independent, linear": WeightDecay(value=0.01, coupling="independent", course="linear"),
    "by role": WeightDecay(
        value=0.5, decayed="matrices", multipliers=Multipliers(mlp=3.0, embed=0.0)
    ),
    "alpha_decay": WeightDecay(value=0.5, policy="alpha_decay", scores=SCORES),
    "ada_decay": WeightDecay(value=0.5, policy="ada_decay", scores=SCORES),
    "awd": WeightDecay(value=0.01, policy="awd"),
    "adam_c": WeightDecay(value=0.5, policy="adam_c"),
}


def recipe(decay: WeightDecay, **fields: Any) -> Recipe:
    given = {
        "steps": STEPS, "batch_size": ROWS, "seq_len": T, "lr": 0.02, "clip_norm": 0.5,
        "schedule": Schedule(warmup_steps=2, decay_frac=0.5, shape="linear", floor_ratio=0.1),
    }  # fmt: skip
    return Recipe(pretrain=Pretrain(**{**given, "weight_decay": decay, **fields}))  # type: ignore[arg-type]


def model() -> LlamaForCausalLM:
    with draws.seeded(3):
        return LlamaForCausalLM(toy.CONFIGS["llama"])


def batches() -> Tensor:
    """[S, B, T]"""
    return torch.randint(0, toy.VOCAB, (STEPS, ROWS, T), generator=torch.Generator().manual_seed(1))


class Alone:
    """One lane of a model, for the loop."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module

    def losses(self, params: Any, frozen: Any, batch: Any) -> Tensor:
        single = {name: rows[0] for name, rows in params.items()}
        given = {"input_ids": batch.ids, "labels": batch.ids}
        return torch.func.functional_call(self.module, single, (), given).loss[None]


class Batch:
    """Rows that are not split."""

    def __init__(self, ids: Tensor) -> None:
        self.ids = ids

    def split(self, parts: int) -> list[Batch]:
        return [self]


def by_our_loop(asked: Recipe) -> tuple[PretrainJob, Tensor]:
    """The job, and the weights after it; [P]."""
    module, job, ids = model(), PretrainJob(asked, seed=0, steps=STEPS), batches()
    values_KP = torch.cat([p.detach().reshape(-1) for p in module.parameters()])[None]
    constants = optimizers.of_recipes([asked.pretrain], module, "cpu")
    moments = Moments.zeros_like(values_KP, constants.decay.policy_state_size)
    shapes = {name: p.shape for name, p in module.named_parameters()}
    state = loop.State.fresh(shapes, values_KP, moments)
    plan = loop.Plan(
        lr_SK=torch.from_numpy(job.lr)[:, None], decay_SK=torch.from_numpy(job.decay)[:, None],
        constants=constants,
    )  # fmt: skip
    loop.train(Alone(module), state, plan, lambda step: Batch(ids[step]), until=STEPS)
    return job, state.rows.values.detach()[0]


def by_trainer(asked: Recipe, folder: Path) -> tuple[RecipeCallback, list[float], Tensor]:
    """The callback, the rates in the Trainer's log, and the weights; [S], [P]."""
    module, callback, ids = model(), RecipeCallback(asked), batches()
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=STEPS, logging_steps=1, report_to=[], use_cpu=True,
        save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
        **callback.training_arguments(),
    )  # fmt: skip
    trainer = Trainer(
        module, arguments, train_dataset=list(range(STEPS * ROWS)), callbacks=[callback],
        data_collator=None, optimizers=callback.optimizers(module),
    )  # fmt: skip
    rows = iter(ids)
    trainer.data_collator = lambda items: (lambda x: {"input_ids": x, "labels": x})(next(rows))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    rates = [each["learning_rate"] for each in trainer.state.log_history if "loss" in each]
    return callback, rates, torch.cat([p.detach().reshape(-1) for p in module.parameters()])


@pytest.mark.parametrize("name", DECAYS)
def test_rates_decays_and_weights_are_those_of_our_loop(name: str, tmp_path: Path) -> None:
    asked = recipe(DECAYS[name])
    job, wanted = by_our_loop(asked)
    callback, logged, found = by_trainer(asked, tmp_path)
    assert np.array_equal(callback.rates, job.lr)
    assert logged == pytest.approx(job.lr)
    assert np.array_equal(callback.decays, job.decay)
    start = torch.cat([p.detach().reshape(-1) for p in model().parameters()])
    moved = (wanted - start).norm()
    assert moved > 0.1
    assert (found - wanted).norm() < 1e-4 * moved


def test_what_a_callback_cannot_do_is_refused() -> None:
    plain = WeightDecay(value=0.1)
    for asked in (
        recipe(WeightDecay(value=0.1, policy="cautious")),
        recipe(WeightDecay(value=0.1, policy="stable")),
        recipe(WeightDecay(value=0.1, coupling="l2")),
        recipe(plain, optimizer="sgd"),
        recipe(plain, mid=MidTraining(sources=Recipe().corpus.sources, steps=2)),
        recipe(plain, schedule=Schedule(decay="merged", decay_frac=0.5)),
    ):
        with pytest.raises(ValueError, match="a Trainer's callback cannot do pretrain"):
            RecipeCallback(asked)
