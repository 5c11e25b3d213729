"""The metrics that a recipe may give, known before anything is measured.

A metric that depends on the outcome, such as a timescale where there is decay, is among them.
"""

from __future__ import annotations

from collections.abc import Iterable

from objectives.config.recipe import Recipe
from objectives.config.vision import VisionRecipe
from objectives.probes.registry import PROBES
from objectives.results import BY_TASK, EARLY, OVER_SCRATCH

OVER_SEEDS = (
    "finetuned", "gain", "finetuned_loss_nats", "loss_gain_nats", "forgetting_nats",
    *OVER_SCRATCH,
)  # fmt: skip


TASK_ONCE = ("before", "chance", "lr", "lr_error_nats", "loss_before_nats")


TASK_OVER_SEEDS = ("after", "gain", "loss_after_nats")


TASK_FROM_SCRATCH = ("scratch", "scratch_loss_nats", *OVER_SCRATCH)


def plasticity_metrics(recipe: Recipe) -> frozenset[str]:
    """All metrics of a language model's trial at full fidelity, with their standard errors."""
    tasks = [task.name for task in recipe.finetune.tasks]
    over_seeds = {name for name in OVER_SEEDS if _is_measured(recipe, name)}
    of_task = TASK_OVER_SEEDS + (() if recipe.finetune.from_scratch == "off" else TASK_FROM_SCRATCH)
    over_seeds |= {f"task.{task}.{name}" for task in tasks for name in of_task}
    once = {name for name in EARLY if _is_measured(recipe, name)}
    once |= {f"task.{task}.{name}" for task in tasks for name in TASK_ONCE}
    errors = _errors(over_seeds) if recipe.finetune.seeds > 1 else frozenset()
    errors |= _errors(f"{name}_rows" for name in OVER_SEEDS if _is_measured(recipe, name))
    errors |= _errors(f"task.{task}.{name}_rows" for task in tasks for name in BY_TASK.values())
    if recipe.finetune.from_scratch != "off":
        errors |= _errors(f"task.{task}.{name}_rows" for task in tasks for name in OVER_SCRATCH)
    return frozenset(once | over_seeds | errors | _of_probes(recipe, tasks))


def vision_metrics(recipe: VisionRecipe) -> frozenset[str]:
    """All metrics of an image classifier's trial at full fidelity."""
    found = {f"{part}_{kind}" for part in ("training", "validation") for kind in ("loss", "error")}
    found |= {"generalisation_gap", "tau_frac"}
    found |= {f"{name}_rows_sem" for name in found - {"tau_frac"}}
    if "norms" in recipe.probes.run:
        names = ("weight_norm", "effective_lr_end", "effective_lr_peak")
        found |= {f"probe.norms.{name}" for name in names}
    if "sharpness" in recipe.probes.run:
        traces = {f"probe.sharpness.{name}" for name in ("trace", "trace_relative")}
        found |= traces | _errors(traces)
    return frozenset(found)


MEANINGS = {
    "base_loss": "validation loss of the pretrained model",
    "base_bits_per_byte": "that loss per byte of text",
    "base_perplexity": "exp of that loss",
    "train_loss": "loss of the pretrained model on text it was trained on",
    "train_validation_gap": "base_loss minus train_loss",
    "mid_loss": "loss on the second phase's text",
    "tokens_per_param": "tokens trained on per parameter of the model",
    "tau_frac": "AdamW timescale 1 / (lr · decay) as a share of the run",
    "finetuned": "score after fine-tuning, mean over tasks",
    "gain": "score after fine-tuning minus before, mean over tasks",
    "finetuned_loss_nats": "loss on answers after fine-tuning, mean over tasks",
    "loss_gain_nats": "fall of the loss on answers by fine-tuning, mean over tasks",
    "forgetting_nats": "rise of the base loss by fine-tuning",
    "over_scratch": "score after fine-tuning minus that of fine-tuned initial weights",
    "over_scratch_nats": "loss on answers that pretraining takes off, mean over tasks",
}


VISION_MEANINGS = {
    "training_loss": "cross-entropy on the images that were trained on",
    "training_error": "share of training images that are classified wrongly",
    "validation_loss": "cross-entropy on other images",
    "validation_error": "share of other images that are classified wrongly",
    "generalisation_gap": "validation loss minus training loss",
    "tau_frac": "timescale 1 / (lr · decay) as a share of the run",
    "probe.norms.weight_norm": "Euclidean norm of all weights",
    "probe.norms.effective_lr_end": "last learning rate / weight norm",
    "probe.norms.effective_lr_peak": "greatest learning rate / weight norm",
    "probe.sharpness.trace": "trace of the Hessian of the training loss",
    "probe.sharpness.trace_relative": "that trace over weights taken in units of their norm",
}


def meanings(recipe: Recipe) -> dict[str, str]:
    """Metric of a language model's trial -> what it is; those of tasks are named by themselves."""
    found = {name: text for name, text in MEANINGS.items() if _is_measured(recipe, name)}
    for probe in recipe.probes.run:
        for name, text in PROBES[probe].metrics.items():
            tasks = [task.name for task in recipe.finetune.tasks] if "TASK" in name else [""]
            found |= {f"probe.{probe}.{name.replace('TASK', task)}": text for task in tasks}
    return found


def _is_measured(recipe: Recipe, name: str) -> bool:
    if name.startswith("mid_loss"):
        return recipe.pretrain.mid is not None
    if name.startswith("over_scratch"):
        return recipe.finetune.from_scratch != "off"
    return name != "forgetting_nats" or recipe.probes.forgetting_tokens > 0


def _of_probes(recipe: Recipe, tasks: Iterable[str]) -> frozenset[str]:
    """With the standard errors of those that draw at random."""
    found = set()
    for probe in recipe.probes.run:
        for name in PROBES[probe].metrics:
            filled = [name.replace("TASK", task) for task in tasks] if "TASK" in name else [name]
            found |= {f"probe.{probe}.{each}" for each in filled}
    drawn = {name for name in found if name.split(".")[1] in ("sharpness", "noise")}
    return frozenset(found | _errors(drawn))


def _errors(names: Iterable[str]) -> frozenset[str]:
    return frozenset(f"{name}_sem" for name in names)
