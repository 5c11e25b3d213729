"""A recipe's schedule and weight decay in a plain `transformers.Trainer`, without copying numbers.

    callback = RecipeCallback(Recipe.from_file("recipe/recipe.json"))
    args = TrainingArguments(max_steps=..., **callback.training_arguments())
    Trainer(model, args, callbacks=[callback], optimizers=callback.optimizers(model), ...)

1. `optimizers` makes AdamW with the recipe's betas and eps, without decay of its own, and a
   schedule that leaves the rate to the callback.
2. Before each optimizer step the rate of that step is set, by the recipe's schedule over the
   Trainer's number of steps, and weights are shrunk by lr_t * decay_t * factor, the same numbers as
   in this package's own loop (`objectives.training.loop`).
3. `factor` is the decayed set and multipliers by role, and the policies that look at weights and
   gradients alone: uniform, alpha_decay, ada_decay, awd, adam_c.

Clipping is the Trainer's own, `max_grad_norm`. What needs the optimizer's step or moments before
they are applied (cautious, stable), coupled decay, gradient descent, merged decays, a second phase
and rates that follow another run are refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from objectives.config.recipe import Recipe
from objectives.training import lr_schedule, weight_decay_policies, weight_decay_schedule
from objectives.training.weight_decay_policies import Rule, Update

NEED_THE_STEP = ("cautious", "stable")
"""Policies that a callback, which sees a step before or after it, cannot give."""


class RecipeCallback(TrainerCallback):  # type: ignore[misc]
    """Sets the rate and applies the decay of a recipe at every step of a Trainer."""

    def __init__(self, recipe: Recipe) -> None:
        """Take a recipe's `pretrain`.

        Raises:
            ValueError: it asks for what a Trainer's callback cannot do.
        """
        _check(recipe)
        self.recipe = recipe
        self.rates: NDArray[np.float64] = np.empty(0)
        """Rate of every step; [S]."""
        self.decays: NDArray[np.float64] = np.empty(0)
        """Strength of decay at every step, in torch's terms; [S]."""
        self.rule: Rule | None = None
        self.memory_KD = torch.empty(1, 0)
        self.step = 0

    def training_arguments(self) -> dict[str, Any]:
        """What of the recipe a Trainer takes by itself."""
        pre = self.recipe.pretrain
        return {
            "per_device_train_batch_size": pre.batch_size // pre.accumulation,
            "gradient_accumulation_steps": pre.accumulation,
            "max_grad_norm": 0.0 if pre.clip_norm is None else pre.clip_norm,
            "bf16": pre.precision == "bf16",
        }

    def optimizers(
        self, model: nn.Module
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """For the Trainer's `optimizers`: AdamW without decay, and a schedule that sets no rate."""
        pre = self.recipe.pretrain
        optimizer = torch.optim.AdamW(
            model.parameters(), pre.lr, (pre.beta1, pre.beta2), pre.eps, weight_decay=0.0
        )
        return optimizer, _SetElsewhere(optimizer)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Compute the rates and decays of all steps."""
        pre, steps, model = self.recipe.pretrain, state.max_steps, kwargs["model"]
        self.rates = pre.lr * lr_schedule.multipliers(pre.schedule, steps, "pretrain.schedule")
        self.decays = weight_decay_schedule.strengths(pre, self.rates)
        device = str(next(model.parameters()).device)
        self.rule = weight_decay_policies.rule(model, [pre], device)
        self.memory_KD = torch.zeros(1, self.rule.policy_state_size, device=device)
        if state.global_step and self.rule.policy_state_size:
            raise ValueError(
                f"a Trainer cannot resume with the policy {pre.weight_decay.policy!r}, whose state "
                "is not in its checkpoints; train from the start."
            )

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Set the rate, and shrink the weights; gradients are clipped by now."""
        step, model = state.global_step, kwargs["model"]
        rate, decay = float(self.rates[step]), float(self.decays[step])
        for group in kwargs["optimizer"].param_groups:
            group["lr"] = rate
        self._shrink(model, step, rate, decay)

    @torch.no_grad()
    def _shrink(self, model: nn.Module, step: int, rate: float, decay: float) -> None:
        """w <- w - lr decay factor w, as in `objectives.training.optimizers`."""
        assert self.rule is not None
        params = list(model.parameters())
        if self.rule.multipliers is None and self.rule.factor is None:
            for param in params:
                param.mul_(1 - rate * decay)
            return
        values_KP = torch.cat([param.reshape(-1) for param in params])[None]
        grads = [param.grad if param.grad is not None else param * 0 for param in params]
        grads_KP = torch.cat([grad.reshape(-1) for grad in grads])[None]
        column = values_KP.new_full((1, 1), rate)
        update = Update(step + 1, values_KP, grads_KP, self.memory_KD, column)
        factor_KP = self.rule.scaled(values_KP.new_full((1, 1), decay), update)
        shrunk_P: Tensor = (values_KP * (1 - column * factor_KP))[0]
        for param, part in zip(params, shrunk_P.split([p.numel() for p in params]), strict=True):
            param.copy_(part.view_as(param))


class _SetElsewhere(torch.optim.lr_scheduler.LRScheduler):
    """Changes no rate, and gives those that the optimizer has now, which a Trainer logs."""

    def get_lr(self) -> list[float | Tensor]:
        """Those that the optimizer has."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def get_last_lr(self) -> list[float | Tensor]:
        """Those that the optimizer has now, not those of the last call."""
        return self.get_lr()


def _check(recipe: Recipe) -> None:
    """Raise ValueError for what the callback cannot do."""
    pre = recipe.pretrain
    decay = pre.weight_decay
    lacking = {
        f"pretrain.weight_decay.policy {decay.policy!r}": decay.policy in NEED_THE_STEP,
        "pretrain.weight_decay.coupling 'l2'": decay.coupling == "l2",
        f"pretrain.optimizer {pre.optimizer!r}": pre.optimizer != "adamw",
        "pretrain.schedule.decay 'merged'": pre.schedule.decay == "merged",
        "pretrain.mid": pre.mid is not None,
        "pretrain.effective_lr_of": pre.effective_lr_of.given,
    }
    for what, asked in lacking.items():
        if asked:
            raise ValueError(
                f"a Trainer's callback cannot do {what}; export the trial and train it with hpo, "
                "or choose another value."
            )
