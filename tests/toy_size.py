"""Settings that make any recipe take a second or two: a few steps, a few rows."""

from __future__ import annotations

from typing import Any

TOY: dict[str, Any] = {
    "pretrain.steps": 6,
    "pretrain.batch_size": 4,
    "pretrain.seq_len": 32,
    "pretrain.eval_tokens": 256,
    "pretrain.evals": 2,
    "pretrain.schedule.warmup_steps": 1,
    "probes.forgetting_tokens": 128,
    "finetune.lrs": [1e-2],
    "finetune.max_extensions": 0,
    "finetune.steps": 3,
    "finetune.batch_size": 2,
    "finetune.schedule.warmup_steps": 1,
    "finetune.train_rows": 64,
    "finetune.validation_rows": 4,
    "finetune.test_rows": 4,
}
SMALL_CORPUS = {"corpus.sources.0.max_bytes": 200_000, "corpus.vocab_size": 300}
