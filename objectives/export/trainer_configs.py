"""A pretraining recipe in the terms of other trainers, and what each of them cannot express.

A target is a function from a `Plan` to a file's text and to sentences about what is lost. Nothing
is approximated in silence: where a target lacks something, the file holds the nearest it has, or
leaves it out, and a sentence says which.

Fields were read in these versions; a later one may have renamed them:

    transformers   5.23.0: training_args.py, optimization.py, Trainer.get_decay_parameter_names
    torchtitan     torchtitan/config/job_config.py at 6404b93, read from TOML files; later versions
                   have configs in Python instead. The curve as in components/lr_scheduler.py
    nanochat       scripts/base_train.py at 00255c1
    LitGPT         litgpt/args.py at 02f2fca, litgpt/pretrain.py at 0363060,
                   config_hub/pretrain/tinystories.yaml at 1f7c459
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedConfig

from objectives.config.training import Pretrain
from objectives.export.training_plan import TrainingPlan, Written

Tables = dict[str, dict[str, Any]]


def hugging_face(plan: TrainingPlan) -> Written:
    """JSON for `TrainingArguments(**json)`."""
    pre, (kind, options, lost) = plan.pre, _hugging_face_schedule(plan)
    text = {
        "output_dir": "out",
        "max_steps": plan.steps,
        "per_device_train_batch_size": pre.batch_size // pre.accumulation,
        "gradient_accumulation_steps": pre.accumulation,
        "learning_rate": pre.lr,
        "lr_scheduler_type": kind,
        "lr_scheduler_kwargs": options,
        "warmup_steps": plan.warmup_steps,
        "weight_decay": plan.decay,
        "optim": "sgd" if pre.optimizer == "sgd" else "adamw_torch",
        "adam_beta1": pre.beta1,
        "adam_beta2": pre.beta2,
        "adam_epsilon": pre.eps,
        "max_grad_norm": 0.0 if pre.clip_norm is None else pre.clip_norm,
        "bf16": pre.precision == "bf16",
        "seed": plan.job.seed,
    }
    if pre.activation_checkpointing:
        text["activation_checkpointing"] = True
    lost += [
        f"sequences of {pre.seq_len} tokens are the data collator's matter",
        "the rate of step t is the recipe's of step t - 1: schedulers count from 0",
        "per_device_train_batch_size is that of one device",
    ]
    return Written(_json(text), plan.unsupported("matrices_and_embeddings") + lost)


def _hugging_face_schedule(plan: TrainingPlan) -> tuple[str, dict[str, Any], list[str]]:
    """The scheduler's name, its options, and what it cannot do."""
    schedule, floor = plan.schedule, plan.schedule.floor_ratio
    if not plan.decay_steps:
        return "constant_with_warmup", {}, []
    if schedule.shape == "inverse_sqrt":
        if plan.from_warmup and floor == 0 and plan.warmup_steps:
            return "inverse_sqrt", {}, []
        lost = ["inverse_sqrt after a hold or above a floor: here the rate stays at its peak"]
        return "constant_with_warmup", {}, lost
    if plan.from_warmup and schedule.shape == "cosine":
        return "cosine_with_min_lr", {"min_lr_rate": floor}, []
    if plan.from_warmup and schedule.shape == "linear" and floor == 0:
        return "linear", {}, []
    shape = "1-sqrt" if schedule.shape == "sqrt" else schedule.shape
    options = {"num_decay_steps": plan.decay_steps, "min_lr_ratio": floor, "decay_type": shape}
    lost = [f"the warmup starts at {floor:g} of the peak, the recipe's at 0"] if floor else []
    return "warmup_stable_decay", options, lost if plan.warmup_steps else []


def torchtitan(plan: TrainingPlan) -> Written:
    """A TOML job config."""
    pre, schedule = plan.pre, plan.schedule
    curve: dict[str, Any] = {"warmup_steps": plan.warmup_steps, "decay_ratio": 0.0}
    lost = plan.unsupported("all")
    if plan.decay_steps and schedule.shape == "inverse_sqrt":
        lost.append("the shape inverse_sqrt: here the rate stays at its peak")
    elif plan.decay_steps:
        curve["decay_ratio"] = plan.decay_steps / plan.steps
        curve |= {"decay_type": schedule.shape, "min_lr_factor": schedule.floor_ratio}
    training: dict[str, Any] = {
        "local_batch_size": pre.batch_size // pre.accumulation,
        "global_batch_size": pre.batch_size,
        "seq_len": pre.seq_len,
        "steps": plan.steps,
        "max_norm": _clip(pre),
        "mixed_precision_param": "bfloat16" if pre.precision == "bf16" else "float32",
        "seed": plan.job.seed,
    }
    tables: Tables = {
        "optimizer": {
            "name": "AdamW",
            "lr": pre.lr,
            "beta1": pre.beta1,
            "beta2": pre.beta2,
            "eps": pre.eps,
            "weight_decay": plan.decay,
        },
        "lr_scheduler": curve,
        "training": training,
    }
    lost.append("the model's shape is registered in code (model.flavor): take it of base/")
    lost += _clip_lost(pre)
    return Written(_headed(lost) + _toml(tables), lost)


def nanochat(plan: TrainingPlan) -> Written:
    """Flags of scripts.base_train."""
    pre, schedule, config = plan.pre, plan.schedule, plan.config
    layers, heads = config.num_hidden_layers, config.num_attention_heads
    lost = plan.unsupported(None)
    if plan.decay_steps and schedule.shape != "linear":
        lost.append(f"the shape {schedule.shape!r}: the rate falls linearly here")
    if plan.decay_steps:
        lost.append("the rate falls one step later than the recipe's")
    if config.hidden_size % layers:
        lost.append(f"width {config.hidden_size}: --aspect-ratio is rounded to whole numbers")
    flags = {
        "depth": layers,
        "aspect-ratio": config.hidden_size // layers,
        "head-dim": config.hidden_size // heads,
        "window-pattern": "L",
        "max-seq-len": pre.seq_len,
        "device-batch-size": pre.batch_size // pre.accumulation,
        "total-batch-size": plan.tokens_a_step,
        "num-iterations": plan.steps,
        "warmup-steps": plan.warmup_steps,
        "warmdown-ratio": plan.decay_steps / plan.steps,
        "final-lr-frac": schedule.floor_ratio,
    }
    lost += [
        f"rate {pre.lr:g} and decay {plan.decay:g} are AdamW's; nanochat trains matrices by Muon "
        "with cautious decay that falls to 0 and is rescaled by its own rule, so neither is set",
        "betas, epsilon, clipping, precision and seed have no flags",
        "its model has parts of its own (value embeddings, scalars), so only depth and width match",
    ]
    lines = [f"    --{name}={value}" for name, value in flags.items()]
    command = " \\\n".join(["python -m scripts.base_train", *lines])
    return Written(f"{_headed(lost)}{command}\n", lost)


def litgpt(plan: TrainingPlan) -> Written:
    """YAML for `litgpt pretrain --config`."""
    pre, config = plan.pre, plan.config
    lost = [*plan.unsupported("all"), *_litgpt_schedule_lost(plan)]
    floor = plan.schedule.floor_ratio if plan.decay_steps else 1.0
    found = {
        "model_config": _litgpt_model(config),
        "precision": "bf16-mixed" if pre.precision == "bf16" else "32-true",
        "train": {
            "global_batch_size": pre.batch_size,
            "micro_batch_size": pre.batch_size // pre.accumulation,
            "lr_warmup_steps": plan.warmup_steps,
            "max_tokens": plan.steps * plan.tokens_a_step,
            "max_seq_length": pre.seq_len,
            "tie_embeddings": bool(config.tie_word_embeddings),
            "max_norm": _clip(pre),
            "min_lr": pre.lr * floor,
        },
        "optimizer": {
            "class_path": "torch.optim.AdamW",
            "init_args": {
                "lr": pre.lr,
                "weight_decay": plan.decay,
                "betas": [pre.beta1, pre.beta2],
                "eps": pre.eps,
            },
        },
        "seed": plan.job.seed,
    }
    if found["model_config"] is None:
        del found["model_config"]
        lost.append(f"the shape of a {config.model_type} model: give model_name or model_config")
    lost += _clip_lost(pre)
    return Written(_headed(lost) + yaml.safe_dump(found, sort_keys=False), lost)


def _litgpt_schedule_lost(plan: TrainingPlan) -> list[str]:
    """What of the schedule LitGPT's cosine does not express."""
    lost = []
    shape = plan.schedule.shape
    if not plan.decay_steps:
        lost.append("Warmup-Stable-Only: written as a cosine whose floor is its peak")
    elif not plan.from_warmup or shape != "cosine":
        held = "" if plan.from_warmup else f" in the last {plan.decay_steps} of {plan.steps} steps"
        lost.append(
            f"a rate that falls by {shape}{held}: LitGPT only has a cosine from the warmup to the "
            "end, so that is here"
        )
    return [*lost, "the warmup counts from 0: one step later than the recipe's"]


def _litgpt_model(config: PreTrainedConfig) -> dict[str, Any] | None:
    """A Llama's shape as `litgpt.Config` names it; None for other models."""
    if config.model_type != "llama":
        return None
    heads = config.num_attention_heads
    return {
        "name": "exported",
        "hf_config": {},
        "block_size": config.max_position_embeddings,
        "vocab_size": config.vocab_size,
        "padded_vocab_size": config.vocab_size,
        "n_layer": config.num_hidden_layers,
        "n_head": heads,
        "n_query_groups": config.num_key_value_heads,
        "n_embd": config.hidden_size,
        "head_size": getattr(config, "head_dim", None) or config.hidden_size // heads,
        "rotary_percentage": 1.0,
        "parallel_residual": False,
        "bias": False,
        "norm_class_name": "RMSNorm",
        "norm_eps": config.rms_norm_eps,
        "mlp_class_name": "LLaMAMLP",
        "intermediate_size": config.intermediate_size,
    }


def plain_json(plan: TrainingPlan) -> Written:
    """The recipe itself."""
    found = {"recipe": plan.job.recipe.to_dict(), "seed": plan.job.seed, "steps": plan.job.steps}
    return Written(_json(found), [])


def course(plan: TrainingPlan) -> Written:
    """Rate and decay of every step, which any trainer can follow."""
    rows = zip(plan.job.lr, plan.job.decay, strict=True)
    lines = [f"{step},{float(lr)!r},{float(decay)!r}" for step, (lr, decay) in enumerate(rows, 1)]
    text = "\n".join(["step,lr,weight_decay", *lines]) + "\n"
    return Written(text, plan.not_the_rate)


def write_configs(plan: TrainingPlan, folder: Path) -> dict[str, list[str]]:
    """Write every target's file; returns file name -> what it cannot express."""
    folder.mkdir(parents=True, exist_ok=True)
    lost = {}
    for name, (_, target) in TARGETS.items():
        written = target(plan)
        (folder / name).write_text(written.text, encoding="utf-8")
        lost[name] = written.unsupported
    return lost


def _clip(pre: Pretrain) -> float:
    """Both trainers that take this must clip; no gradient of a sane run is as long."""
    return 1e9 if pre.clip_norm is None else pre.clip_norm


def _clip_lost(pre: Pretrain) -> list[str]:
    return ["no clipping: written as a norm that is never reached"] if pre.clip_norm is None else []


def _json(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=2) + "\n"


def _headed(lost: list[str]) -> str:
    return "".join(f"# Not expressed: {sentence}.\n" for sentence in lost) + "\n"


def _toml(tables: Tables) -> str:
    parts = []
    for table, items in tables.items():
        lines = [f"{name} = {json.dumps(value)}" for name, value in items.items()]
        parts.append("\n".join([f"[{table}]", *lines]) + "\n")
    return "\n".join(parts)


TARGETS: dict[str, tuple[str, Callable[[TrainingPlan], Written]]] = {
    "recipe.json": ("the recipe", plain_json),
    "course.csv": ("rate and decay of every step", course),
    "training_arguments.json": ("for TrainingArguments of transformers", hugging_face),
    "torchtitan.toml": ("for torchtitan", torchtitan),
    "nanochat.sh": ("for nanochat", nanochat),
    "litgpt.yaml": ("for litgpt pretrain", litgpt),
}
"""File -> what it is, and what writes it."""
