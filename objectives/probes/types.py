"""What probes are given and what they find."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedConfig

from objectives.config import recipe
from objectives.data.tasks import Task
from objectives.data.token_dataset import TokenDataset
from objectives.models import causal_lm
from objectives.pretraining.checkpoints import BaseModel, Parameters
from objectives.pretraining.job import PretrainJob
from objectives.progress import Report
from objectives.training import batch, lanes
from objectives.types import Curve

ROWS = 32
"""Sequences that go through a model at once. Fixed, so that no result depends on the lanes."""


class NotApplicableError(Exception):
    """A probe does not fit a model or its data; the message says why."""


@dataclass(frozen=True)
class ProbedModel:
    """A base to be probed."""

    job: PretrainJob
    base: BaseModel
    loss: float
    """Its validation loss on the recipe's sample, nats a token."""


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What a probe found on one base; names are without the probe's own."""

    metrics: dict[str, float] = field(default_factory=dict)
    """`<name>_sem` is the standard error of `<name>` over the probe's random draws."""
    curves: dict[str, Curve] = field(default_factory=dict)
    """`..._by_layer` has points [layer, value], the others [step, value]."""
    notes: list[str] = field(default_factory=list)
    tokens: float = 0.0
    """Trained on."""
    seconds: float = 0.0
    """Of the device, a lane's share."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able data, the argument of the constructor."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class ProbeBatch:
    """Bases of one program and one set of probe settings, probed together; K lanes."""

    subjects: Sequence[ProbedModel]
    corpus: TokenDataset | None
    """None where a model was trained elsewhere."""
    tasks: Sequence[Task]
    report: Report
    built: dict[str, nn.Module] = field(default_factory=dict)
    """Modules that exist already, by the key of their program."""

    @property
    def recipe(self) -> recipe.Recipe:
        """Of the first base; other properties may differ between members."""
        return self.subjects[0].job.recipe

    @property
    def device(self) -> str:
        """Where to compute."""
        return self.subjects[0].job.device

    @property
    def params(self) -> list[Parameters]:
        """The parameters of each base, on the CPU."""
        return [subject.base.params for subject in self.subjects]

    @property
    def stream(self) -> TokenDataset:
        """The corpus that the bases were trained on, and may be trained on along.

        Raises:
            NotApplicableError: there is none.
        """
        if self.corpus is None:
            raise NotApplicableError("it trains on along a corpus of this package")
        return self.corpus

    @functools.cached_property
    def config(self) -> PreTrainedConfig:
        """The shape of all of them."""
        return causal_lm.build_config(self.recipe.model, self.stream.vocab_size)

    @property
    def module(self) -> nn.Module:
        """The model as a program without parameters."""
        key = self.subjects[0].job.program_key(self.stream)
        if key not in self.built:
            self.built[key] = causal_lm.build_module(self.config, self.device)
        return self.built[key]

    @functools.cached_property
    def program(self) -> lanes.LaneModel:
        """In the weights' own precision, whatever they were trained in."""
        return lanes.LaneModel(self.module)

    @functools.cached_property
    def shapes(self) -> dict[str, torch.Size]:
        """Of the parameters, in the order in which they are in a row."""
        return {name: p.shape for name, p in self.module.named_parameters()}

    def rows(self) -> Tensor:
        """A copy of the parameters as rows; [K, P]."""
        return batch.join_rows(self.params, self.shapes).to(self.device)

    def stacked(self) -> dict[str, Tensor]:
        """A copy of the parameters by name; [K, *shape]."""
        return {name: p.to(self.device) for name, p in batch.stack(self.params).items()}

    def sample(self, split: str = "validation") -> NDArray[np.int64]:
        """The fixed text of the probes; [N, T + 1]."""
        tokens, seq_len = self.recipe.probes.tokens, self.recipe.pretrain.seq_len
        return self.stream.sample("train" if split == "train" else "validation", tokens, seq_len)

    def batches(self, ids_NT1: NDArray[np.int64]) -> Iterator[Tensor]:
        """The rows, ROWS at a time, on the device."""
        for start in range(0, len(ids_NT1), ROWS):
            yield torch.from_numpy(ids_NT1[start : start + ROWS]).to(self.device)

    def with_progress(self, name: str, steps: int) -> Iterator[int]:
        """0, 1, ... steps - 1, reporting each when it is done."""
        for step in range(steps):
            yield step
            self.report({"stage": f"probe {name}", "step": step + 1, "steps": steps})


def by_layer(values: Sequence[float]) -> Curve:
    """A curve over layers, from 0."""
    return [[float(layer), float(value)] for layer, value in enumerate(values)]
