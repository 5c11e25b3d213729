"""The peer: the same trials with plain Optuna, the Hugging Face Trainer and PEFT.

Written as a careful user would who does not use this package, one trial after the other:

1. Tokens are ready as tensors on the device; a batch is one slice, without a collator's work.
2. The Trainer saves, logs and evaluates nothing on the way, and filters no NaN (which would wait
   for the GPU at every step); torch's fused AdamW, clipping and a LambdaLR schedule.
3. Fine-tuning rows are padded to the longest of their batch, and logits are computed only from the
   first completion token of the batch on. PEFT wraps the base once; adapters are drawn again for
   each fine-tune.
4. Scoring runs in large batches of rows of like length; all labels of all rows go through together.

Model, initial weights, tokens, order of the data, steps, grid of rates with its extensions, seeds
and scored rows are those of `PlasticityObjective`, so the metrics must agree; they go by its names.
It leaves out the validation curve and the loss on training text, which this project measures as
well; the control from initial weights, once a seed in a study, is left out by both.
"""

from __future__ import annotations

import gc
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM, PrinterCallback, Trainer, TrainingArguments

from objectives import WeightDecay
from objectives.config.recipe import Recipe
from objectives.config.training import Schedule
from objectives.data.orders import Orders
from objectives.finetuning.lr_refinement import refined_rates
from objectives.finetuning.modules_to_save import saved_modules
from objectives.models import causal_lm
from objectives.training import lr_schedule
from objectives.types import Request
from tests.bench.peer_data import IGNORED, Material, Rows, mean_loss, task_score


class Batches(Dataset[Any]):
    """Batches in the order of training, each made beforehand."""

    def __init__(self, batches: list[dict[str, Any]]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, step: int) -> dict[str, Any]:
        return dict(self.batches[step])


def run_study(
    material: Material, requests: Sequence[Request], say: Callable[[str], None]
) -> list[dict[str, float]]:
    """An Optuna study of these trials; their metrics, in order."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    for request in requests:
        study.enqueue_trial(request["params"])

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        params = {
            "pretrain.weight_decay": trial.suggest_float("pretrain.weight_decay", 0.0, 10.0),
            "pretrain.lr": trial.suggest_float("pretrain.lr", 1e-6, 1.0, log=True),
            "pretrain.schedule.decay_frac": trial.suggest_float(
                "pretrain.schedule.decay_frac", 0.0, 1.0
            ),
        }
        metrics = run_trial(material, params, requests[trial.number]["seed"])
        trial.set_user_attr("metrics", metrics)
        say(f"peer trial {trial.number + 1} of {len(requests)} done")
        return metrics["base_loss"], metrics["gain"]

    # Every Trainer collects garbage; without this it would walk through all of torch each time.
    gc.collect()
    gc.freeze()
    try:
        study.optimize(objective, n_trials=len(requests))
    finally:
        gc.unfreeze()
    return [trial.user_attrs["metrics"] for trial in study.trials]


def run_trial(material: Material, params: Mapping[str, Any], seed: int) -> dict[str, float]:
    """Pretrain, fine-tune on every task, score."""
    recipe = material.recipe.with_params(params)
    model = pretrain(material, recipe, seed)
    metrics = {
        "base_loss": mean_loss(material, model, material.sample),
    }
    sample_loss = mean_loss(material, model, material.kept_sample)
    before = [task_score(material, model, place) for place in range(len(material.tasks))]
    lora = recipe.finetune.lora
    targets = "all-linear" if lora.targets == ("all-linear",) else list(lora.targets)
    saved = saved_modules(model, lora.modules_to_save)
    config = LoraConfig(task_type="CAUSAL_LM", r=lora.rank, lora_alpha=lora.alpha,
                        lora_dropout=lora.dropout, target_modules=targets,
                        modules_to_save=list(saved.modules) or None,
                        ensure_weight_tying=saved.shared)  # fmt: skip
    adapted = get_peft_model(model, config)
    tuned = [_finetune(material, adapted, place, seed) for place in range(len(material.tasks))]
    score_before, loss_before = np.mean(before, axis=0)
    # over tasks and seeds: score, completion loss, loss on pretraining text
    score, loss, kept = np.mean(tuned, axis=(0, 1))
    return metrics | {
        "finetuned": float(score),
        "gain": float(score - score_before),
        "finetuned_loss_nats": float(loss),
        "loss_gain_nats": float(loss_before - loss),
        "forgetting_nats": float(kept - sample_loss),
    }


def pretrain(material: Material, recipe: Recipe, seed: int) -> nn.Module:
    """A trained base model."""
    pre = recipe.pretrain
    torch.manual_seed(seed)
    config = causal_lm.build_config(recipe.model, material.corpus.vocab_size)
    model: nn.Module = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    steps = range(pre.steps)
    ids = [material.corpus.batch(seed, step, pre.batch_size, pre.seq_len) for step in steps]
    rows = [Rows.of_text(each, material.device) for each in ids]
    batches = [{"input_ids": each.ids, "labels": each.labels} for each in rows]
    assert pre.optimizer == "adamw"
    assert pre.weight_decay == WeightDecay(value=pre.weight_decay.value)
    fit(
        material,
        model.to(material.device),
        batches,
        schedule=pre.schedule,
        lr=pre.lr,
        betas=(pre.beta1, pre.beta2),
        eps=pre.eps,
        weight_decay=pre.weight_decay.value,
        clip=pre.clip_norm,
    )
    return model


def _finetune(
    material: Material, model: nn.Module, place: int, seed: int
) -> list[tuple[float, float, float]]:
    """One task: score, completion loss and loss on pretraining text after; one a seed."""
    fine = material.recipe.finetune
    seeds = [seed * 1000 + index for index in range(fine.seeds)]
    tried: dict[float, float] = {}
    best: dict[float, list[dict[str, Tensor]]] = {}
    grid = sorted(fine.lrs)
    for number in range(fine.max_extensions + 1 + fine.refine):
        if number > fine.max_extensions:
            rates = refined_rates(tried)
        else:
            rates = _next_rates(grid, tried) if number else grid
        for lr in rates:
            kept, losses = [], []
            for each in seeds[: fine.selection_seeds]:
                _fit_adapter(material, model, place, lr, each)
                kept.append(_adapter(model))
                losses.append(mean_loss(material, model, material.validation[place]))
            loss = float(np.mean(losses))
            tried[lr] = loss if math.isfinite(loss) else math.inf
            best[lr] = kept
    chosen = min(tried, key=lambda lr: (tried[lr], lr))
    adapters = best[chosen]
    for each in seeds[fine.selection_seeds :]:
        _fit_adapter(material, model, place, chosen, each)
        adapters.append(_adapter(model))
    found = []
    for adapter in adapters:
        model.load_state_dict(adapter, strict=False)
        kept_loss = mean_loss(material, model, material.kept_sample)
        found.append((*task_score(material, model, place), kept_loss))
    return found


def _next_rates(grid: list[float], tried: Mapping[float, float]) -> list[float]:
    """One rate beyond the edge at which the best one is."""
    rates = sorted(tried)
    best = min(tried, key=lambda lr: (tried[lr], lr))
    if len(grid) > 1 and best == rates[-1] and math.isfinite(tried[best]):
        return [best * grid[-1] / grid[-2]]
    return [best * grid[0] / grid[1]] if len(grid) > 1 and best == rates[0] else []


def _fit_adapter(material: Material, model: nn.Module, place: int, lr: float, seed: int) -> None:
    """Fine-tune a fresh adapter."""
    fine, task, rows = material.recipe.finetune, material.tasks[place], material.train[place]
    torch.manual_seed(seed)
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.reset_lora_parameters("default", True)
        if isinstance(layer, ModulesToSaveWrapper):
            layer.modules_to_save["default"].load_state_dict(layer.original_module.state_dict())
    count = len(task.train.ids)
    steps = fine.steps or max(1, round((fine.epochs or 0) * count / fine.batch_size))
    slots, orders = range(steps * fine.batch_size), Orders()
    order = [
        orders.of(seed, int(task.key[:8], 16), slot // count, count)[slot % count] for slot in slots
    ]
    picked = torch.tensor(np.array(order), device=material.device).view(steps, fine.batch_size)
    fit(
        material,
        model,
        [rows.take(each) for each in picked],
        schedule=fine.schedule,
        lr=lr,
        betas=(fine.beta1, fine.beta2),
        eps=1e-8,
        weight_decay=fine.weight_decay,
        clip=fine.clip_norm,
    )


def _adapter(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the trained parameters."""
    named = model.named_parameters()
    return {name: p.detach().clone() for name, p in named if p.requires_grad}


def fit(
    material: Material,
    model: nn.Module,
    batches: list[dict[str, Any]],
    *,
    schedule: Schedule,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    clip: float | None,
) -> None:
    """One run of the Trainer over the batches."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        trained, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, fused=True
    )
    curve = [*lr_schedule.multipliers(schedule, len(batches)), 0.0]
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=_arguments(folder, material, len(batches), clip),
            train_dataset=Batches(batches),
            data_collator=lambda items: items[0],
            optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, curve.__getitem__)),
            compute_loss_func=_loss,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    # The Trainer leaves the model wrapped for mixed precision; the next one would wrap it again.
    trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)


def _arguments(
    folder: str, material: Material, steps: int, clip: float | None
) -> TrainingArguments:
    """As quiet and as quick as the Trainer goes; a dataset's item is a whole batch."""
    return TrainingArguments(
        output_dir=folder,
        max_steps=steps,
        per_device_train_batch_size=1,
        train_sampling_strategy="sequential",
        max_grad_norm=clip or 0.0,
        bf16=material.bf16,
        use_cpu=material.device == "cpu",
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )


def _loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """Mean nats of the targets that count."""
    logits = outputs.logits.flatten(0, 1).float()
    return F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED)
