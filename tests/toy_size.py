"""Settings that make any recipe take a second or two: a few steps, a few rows, a small corpus."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

TOY: dict[str, Any] = {
    "pretrain.steps": 4,
    "pretrain.batch_size": 4,
    "pretrain.seq_len": 32,
    "pretrain.eval_tokens": 128,
    "pretrain.curve_tokens": 128,
    "pretrain.evals": 1,
    "pretrain.schedule.warmup_steps": 1,
    "probes.forgetting_tokens": 0,
    "finetune.lrs": [1e-2],
    "finetune.max_extensions": 0,
    "finetune.steps": 2,
    "finetune.batch_size": 2,
    "finetune.schedule.warmup_steps": 1,
    "finetune.train_rows": 64,
    "finetune.validation_rows": 4,
    "finetune.test_rows": 4,
    "finetune.from_scratch": "off",
}


def small_inputs(folder: Path) -> dict[str, Any]:
    """A corpus of a few files written to the folder, and the built-in task that is made fastest."""
    draw = random.Random(0)
    words = (
        "the",
        "a",
        "model",
        "learns",
        "decay",
        "rate",
        "of",
        "weights",
        "loss",
        "falls",
        "text",
    )
    for number in range(40):
        text = " ".join(draw.choice(words) for _ in range(200))
        (folder / f"text-{number}.txt").write_text(text)
    return {
        "corpus.sources": [{"kind": "files", "paths": [f"{folder}/text-*.txt"]}],
        "corpus.vocab_size": 300,
        "finetune.tasks": [{"kind": "builtin", "name": "list_ops"}],
    }
