"""Probes in a plain Trainer are those of a base with the same weights, and change no training."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, LlamaForCausalLM, PrinterCallback, Trainer, TrainingArguments
from transformers import GPT2LMHeadModel as Gpt2

from objectives.config.probes import ProbeName, Probes
from objectives.export.probe_callback import ProbeCallback
from objectives.models import draws
from objectives.probes import runner
from objectives.probes.registry import PROBES
from objectives.probes.types import ProbeBatch
from tests.objectives import toy
from tests.objectives.probes import subjects

STEPS, ROWS, T = 36, 4, 16


STUDY_ONLY = {"separability", "tiny_rate", "lost_updates"}


FITTING: tuple[ProbeName, ...] = tuple(name for name in PROBES if name not in STUDY_ONLY)


def token_rows(count: int, seed: int) -> Tensor:
    """[N, T]"""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, toy.VOCAB, (count, T), generator=draw)


def model() -> LlamaForCausalLM:
    with draws.seeded(3):
        return LlamaForCausalLM(toy.CONFIGS["llama"])


def trainer(folder: Path, module: Any, steps: int = STEPS, **arguments: Any) -> Trainer:
    given = {
        "output_dir": str(folder), "max_steps": steps, "logging_steps": 1, "report_to": [],
        "use_cpu": True, "save_strategy": "no", "disable_tqdm": True, "learning_rate": 0.01,
        "dataloader_pin_memory": False, "per_device_train_batch_size": ROWS, **arguments,
    }  # fmt: skip
    rows = [{"input_ids": row, "labels": row} for row in token_rows(64, 1)]
    made = Trainer(module, TrainingArguments(**given), train_dataset=rows)
    made.remove_callback(PrinterCallback)
    return made


def logged(made: Trainer) -> list[dict[str, float]]:
    return [each for each in made.state.log_history if any("probe." in name for name in each)]


def flat(module: torch.nn.Module) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


def test_values_are_those_of_a_base_with_these_weights_and_text(tmp_path: Path) -> None:
    group = subjects.group(tmp_path, FITTING, lanes=1)
    module = model()
    made = trainer(tmp_path, module, per_device_train_batch_size=1, weight_decay=0.0)
    probes = dataclasses.replace(group.recipe.probes, run=FITTING)
    text = {"rows": group.sample(), "train_rows": group.sample("train")}
    made.add_callback(ProbeCallback(made, probes=probes, every=STEPS, **text))
    made.train()
    (found,) = logged(made)
    steps = [each for each in made.state.log_history if "loss" in each]
    wanted = _of_base(group, module, steps)
    values = {name: value for name, value in found.items() if name.startswith("probe.")}
    assert values.keys() == wanted.keys()
    assert {name.split(".")[1] for name in values} == set(FITTING)
    assert found["step"] == STEPS
    for name, value in values.items():
        assert value == pytest.approx(wanted[name], rel=1e-5, abs=1e-7), name


def _of_base(group: ProbeBatch, module: Any, steps: list[dict[str, Any]]) -> dict[str, float]:
    """By the code that probes bases of studies."""
    (subject,) = group.subjects
    base = dataclasses.replace(
        subject.base,
        params={name: p.detach() for name, p in module.named_parameters()},
        losses=np.array([each["loss"] for each in steps[:-1]]),  # the last is logged after
        rates=np.array([each["learning_rate"] for each in steps]),
    )
    one = dataclasses.replace(group, subjects=[dataclasses.replace(subject, base=base)])
    found = {name: runner.CachedProbe(runner.measure(name, one)[0], now=True) for name in FITTING}
    return runner.metrics(found)


def test_training_is_bit_for_bit_what_it_is_without_probes(tmp_path: Path) -> None:
    """A model with dropout: what probes would draw or switch off shows in its weights."""
    config = GPT2Config(vocab_size=toy.VOCAB, n_embd=16, n_layer=2, n_head=2, n_positions=T)
    weights, losses = [], []
    for run in ((), FITTING):
        with draws.seeded(3):
            module = Gpt2(config)
        made = trainer(tmp_path, module, 6)
        probes = Probes(run=run, tokens=64, vectors=2, noise_draws=2)
        made.add_callback(ProbeCallback(made, token_rows(4, 2), probes=probes, every=2))
        made.train()
        weights.append(flat(module))
        losses.append([each["loss"] for each in made.state.log_history if "loss" in each])
    assert torch.equal(*weights)
    assert len(losses[0]) == 6
    assert losses[0] == losses[1]
    assert [each["step"] for each in logged(made)] == [2, 4, 6]


def test_what_needs_a_study_or_each_loss_is_a_warning_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = trainer(tmp_path, model(), 4, logging_steps=2)
    probes = Probes(run=("ranks", "spikes", "separability", "tiny_rate", "lost_updates"))
    made.add_callback(ProbeCallback(made, token_rows(4, 2), probes=probes, every=1))
    with caplog.at_level(logging.WARNING, "objectives.export.probe_callback"):
        made.train()
    assert len(logged(made)) == 4
    said = [record.message for record in caplog.records]
    assert len(said) == 4
    assert any("logging_steps=1" in each for each in said)
    assert sum("it trains on along a corpus" in each for each in said) == 2


def test_other_text_and_other_models_are_refused_in_a_sentence(tmp_path: Path) -> None:
    module = model()
    made = trainer(tmp_path, module, 2)
    for rows in ([[1, 2], [3]], [1, 2], [[0.5, 1.0]], [[1], [2]], []):
        with pytest.raises(ValueError, match=r"rows must be token ids \[N, T\]"):
            ProbeCallback(made, rows)
    with pytest.raises(ValueError, match="every must be at least 0 steps, got -1"):
        ProbeCallback(made, [[1, 2]], every=-1)
    module.lm_head = torch.nn.Linear(16, toy.VOCAB)  # as a change by somebody else
    made.add_callback(ProbeCallback(made, token_rows(4, 2)))
    with pytest.raises(ValueError, match="parameters of a plain LlamaForCausalLM"):
        made.train()
