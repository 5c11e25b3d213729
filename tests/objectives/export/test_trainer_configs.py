"""Recipes in other trainers' terms: their files parse, and their curves are the recipe's."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from transformers import TrainingArguments, get_scheduler

from objectives.config.data import Stdlib
from objectives.config.recipe import Recipe
from objectives.config.training import MidTraining, Pretrain, Schedule
from objectives.config.weight_decay import EffectiveLrOf, Multipliers, WeightDecay
from objectives.export import trainer_configs
from objectives.export.training_plan import TrainingPlan, Written
from objectives.pretraining.job import PretrainJob
from objectives.training import lr_schedule
from tests.objectives import toy

STEPS = 40


WSO = Schedule(warmup_steps=4, decay_frac=0.0)


COSINE = Schedule(warmup_steps=4, floor_ratio=0.1)


LINEAR = Schedule(warmup_steps=4, shape="linear", floor_ratio=0.0)


SHARE = Schedule(warmup_frac=0.2)


WSD = Schedule(warmup_steps=4, decay_frac=0.25, shape="linear", floor_ratio=0.0)


WSD_SQRT = Schedule(warmup_steps=0, decay_frac=0.25, shape="sqrt", floor_ratio=0.1)


INVERSE = Schedule(warmup_steps=4, shape="inverse_sqrt", floor_ratio=0.0)


HELD_INVERSE = Schedule(warmup_steps=4, decay_frac=0.5, shape="inverse_sqrt")


def plan(schedule: Schedule = COSINE, model: str = "llama", **fields: Any) -> TrainingPlan:
    pre = Pretrain(steps=STEPS, schedule=schedule, **fields)
    return TrainingPlan(PretrainJob(Recipe(pretrain=pre), seed=3, steps=STEPS), toy.CONFIGS[model])


def curve(schedule: Schedule) -> np.ndarray[Any, Any]:
    return lr_schedule.multipliers(schedule, STEPS)


@pytest.mark.parametrize(
    "schedule", [WSO, COSINE, SHARE, LINEAR, WSD, WSD_SQRT, INVERSE], ids=lambda s: s.shape
)
def test_training_arguments_give_the_recipes_curve_a_step_later(
    schedule: Schedule, tmp_path: Path
) -> None:
    data = json.loads(trainer_configs.hugging_face(plan(schedule)).text)
    given = TrainingArguments(**{**data, "output_dir": str(tmp_path)}, use_cpu=True)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = get_scheduler(
        given.lr_scheduler_type, optimizer, int(given.warmup_steps), given.max_steps,
        dict(given.lr_scheduler_kwargs or {}),
    )  # fmt: skip
    rates = [scheduler.get_last_lr()[0]]
    for _ in range(STEPS - 1):
        optimizer.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr()[0])
    assert rates[1:] == pytest.approx(list(curve(schedule)[:-1]), abs=1e-12)


def test_training_arguments_hold_the_optimizer(tmp_path: Path) -> None:
    pre = {"lr": 2e-3, "weight_decay": WeightDecay(value=0.3), "beta2": 0.97, "clip_norm": None,
           "batch_size": 12, "accumulation": 3}  # fmt: skip
    data = json.loads(trainer_configs.hugging_face(plan(**pre)).text)
    given = TrainingArguments(**{**data, "output_dir": str(tmp_path)}, use_cpu=True)
    assert (given.learning_rate, given.weight_decay, given.adam_beta2) == (2e-3, 0.3, 0.97)
    assert (given.max_grad_norm, given.seed, given.max_steps) == (0.0, 3, STEPS)
    assert (given.per_device_train_batch_size, given.gradient_accumulation_steps) == (4, 3)


def titan(file: dict[str, Any], t: int) -> float:
    """torchtitan's multiplier of step t = 1.. (components/lr_scheduler.py)."""
    given = file["lr_scheduler"]
    warmup, decay = given["warmup_steps"], round(STEPS * given["decay_ratio"])
    if t <= warmup:
        return float(t / warmup)
    if t <= STEPS - decay:
        return 1.0
    x = (t - STEPS + decay) / decay
    shape = {"linear": 1 - x, "sqrt": 1 - math.sqrt(x), "cosine": (1 + math.cos(math.pi * x)) / 2}
    floor = given["min_lr_factor"]
    return float(floor + (1 - floor) * shape[given["decay_type"]])


@pytest.mark.parametrize(
    "schedule", [WSO, COSINE, SHARE, LINEAR, WSD, WSD_SQRT], ids=lambda s: s.shape
)
def test_torchtitan_has_the_recipes_curve(schedule: Schedule) -> None:
    written = trainer_configs.torchtitan(plan(schedule))
    file = tomllib.loads(written.text)
    rates = [titan(file, t) for t in range(1, STEPS + 1)]
    assert rates == pytest.approx(list(curve(schedule)), abs=1e-12)
    assert file["optimizer"]["weight_decay"] == 0.1
    assert not any("rate" in sentence for sentence in written.unsupported)


def lit(file: dict[str, Any], t: int) -> float:
    """LitGPT's rate at iteration t = 0.. (pretrain.py, get_lr)."""
    peak, low = file["optimizer"]["init_args"]["lr"], file["train"]["min_lr"]
    warmup = file["train"]["lr_warmup_steps"]
    if t < warmup:
        return float(peak * t / warmup)
    x = (t - warmup) / (STEPS - warmup)
    return float(low + (1 + math.cos(math.pi * x)) / 2 * (peak - low))


@pytest.mark.parametrize("schedule", [WSO, COSINE])
def test_litgpt_has_a_cosine_and_by_it_a_constant_rate_a_step_later(schedule: Schedule) -> None:
    file = yaml.safe_load(trainer_configs.litgpt(plan(schedule)).text)
    rates = [lit(file, t) / 3e-3 for t in range(STEPS)]
    assert rates[1:] == pytest.approx(list(curve(schedule)[:-1]), abs=1e-12)
    assert file["train"]["max_tokens"] == STEPS * 16 * 64
    assert file["optimizer"]["init_args"]["eps"] == 1e-8


def nano(flags: dict[str, str], t: int) -> float:
    """nanochat's multiplier of iteration t = 0.. (base_train.py, get_lr_multiplier)."""
    warmup, down = int(flags["warmup-steps"]), round(float(flags["warmdown-ratio"]) * STEPS)
    if t < warmup:
        return (t + 1) / warmup
    if t <= STEPS - down:
        return 1.0
    left = (STEPS - t) / down
    return left + (1 - left) * float(flags["final-lr-frac"])


@pytest.mark.parametrize("schedule", [WSO, WSD])
def test_nanochat_has_the_recipes_curve_its_fall_a_step_later(schedule: Schedule) -> None:
    text = trainer_configs.nanochat(plan(schedule)).text
    flags = dict(
        line.strip(" \\-").split("=") for line in text.splitlines() if line.startswith("    --")
    )
    rates = [nano(flags, t) for t in range(STEPS)]
    fall = STEPS - plan(schedule).decay_steps
    assert rates[:fall] == pytest.approx(list(curve(schedule)[:fall]))
    assert rates[fall + 1 :] == pytest.approx(list(curve(schedule)[fall:-1]))
    assert int(flags["num-iterations"]) * int(flags["total-batch-size"]) == STEPS * 16 * 64


@pytest.mark.parametrize(
    ("schedule", "target", "said"),
    [
        (WSO, trainer_configs.litgpt,
         "Warmup-Stable-Only: written as a cosine whose floor is its peak"),
        (WSD, trainer_configs.litgpt, "in the last 10 of 40 steps: LitGPT only has a cosine"),
        (LINEAR, trainer_configs.litgpt, "falls by linear: LitGPT only has a cosine"),
        (COSINE, trainer_configs.nanochat, "the shape 'cosine': the rate falls linearly here"),
        (INVERSE, trainer_configs.torchtitan, "the shape inverse_sqrt"),
        (HELD_INVERSE, trainer_configs.hugging_face, "inverse_sqrt after a hold"),
        (dataclasses.replace(WSD, floor_ratio=0.1), trainer_configs.hugging_face,
         "the warmup starts at 0.1 of the peak"),
        (dataclasses.replace(WSD, decay="merged"), trainer_configs.torchtitan,
         "merged of checkpoints"),
    ],
)  # fmt: skip
def test_a_schedule_that_a_target_lacks_is_reported(
    schedule: Schedule, target: Callable[[TrainingPlan], Written], said: str
) -> None:
    assert any(said in sentence for sentence in target(plan(schedule)).unsupported)


@pytest.mark.parametrize(
    ("decay", "said"),
    [
        (WeightDecay(policy="alpha_decay"), "the decay policy 'alpha_decay'"),
        (WeightDecay(course="linear"), "the decay's course 'linear'"),
        (WeightDecay(multipliers=Multipliers(attn_qk=0.5)), "multipliers by role"),
        (WeightDecay(coupling="l2"), "part of the gradient"),
        (WeightDecay(coupling="independent"), "for this peak rate only"),
    ],
)
@pytest.mark.parametrize("target", ["hugging_face", "torchtitan", "nanochat", "litgpt"])
def test_a_decay_that_no_target_has_is_reported_by_all(
    target: str, decay: WeightDecay, said: str
) -> None:
    written = getattr(trainer_configs, target)(plan(weight_decay=decay))
    assert any(said in sentence for sentence in written.unsupported)


def test_decay_is_given_in_torchs_terms() -> None:
    independent = plan(lr=2e-3, weight_decay=WeightDecay(value=1e-4, coupling="independent"))
    timescale = plan(lr=1e-2, weight_decay=WeightDecay(value=None, tau_frac=0.5))
    assert independent.decay == pytest.approx(0.05)
    assert timescale.decay == pytest.approx(1 / (1e-2 * 0.5 * STEPS))
    assert plan(weight_decay=WeightDecay(value=1e-5, coupling="l2")).decay == 0.0


@pytest.mark.parametrize(
    ("decayed", "lost"),
    [("all", {"training_arguments.json"}),
     ("matrices_and_embeddings", {"torchtitan.toml", "litgpt.yaml"}),
     ("matrices", {"training_arguments.json", "torchtitan.toml", "litgpt.yaml"})],
)  # fmt: skip
def test_what_is_decayed_is_reported_where_it_differs(
    decayed: str, lost: set[str], tmp_path: Path
) -> None:
    found = trainer_configs.write_configs(plan(weight_decay=WeightDecay(decayed=decayed)), tmp_path)  # type: ignore[arg-type]
    assert {name for name, some in found.items() if any("decays" in each for each in some)} == lost
    assert {path.name for path in tmp_path.iterdir()} == set(trainer_configs.TARGETS)


def test_a_second_phase_and_sgd_are_reported() -> None:
    mid = MidTraining(sources=(Stdlib(),), steps=10)
    pre = Pretrain(steps=30, mid=mid, optimizer="sgd", schedule=Schedule(warmup_steps=2))
    made = TrainingPlan(PretrainJob(Recipe(pretrain=pre), seed=0, steps=40), toy.CONFIGS["gpt2"])
    written = trainer_configs.litgpt(made)
    assert made.steps == 30
    for said in ("pretrain.mid", "SGD", "the shape of a gpt2 model"):
        assert any(said in sentence for sentence in written.unsupported)
    assert "model_config" not in yaml.safe_load(written.text)


def test_a_rate_that_follows_another_run_is_reported_by_all_but_the_recipe(tmp_path: Path) -> None:
    found = trainer_configs.write_configs(
        plan(effective_lr_of=EffectiveLrOf(tau_frac=0.3)), tmp_path
    )
    said = "a rate that keeps lr / |w| of the run with another decay (pretrain.effective_lr_of)"
    for name, lost in found.items():
        assert any(sentence.startswith(said) for sentence in lost) == (name != "recipe.json")


def test_course_has_rate_and_decay_of_every_step() -> None:
    lines = trainer_configs.course(plan(WSD)).text.splitlines()
    rows = [[float(cell) for cell in line.split(",")] for line in lines[1:]]
    assert lines[0] == "step,lr,weight_decay"
    assert [row[1] for row in rows] == [*plan(WSD).job.lr]
    assert {row[2] for row in rows} == {0.1}


def test_plain_json_gives_the_recipe_back() -> None:
    data = json.loads(trainer_configs.plain_json(plan()).text)
    assert Recipe.from_dict(data["recipe"]) == plan().job.recipe
