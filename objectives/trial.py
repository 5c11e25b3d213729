"""The record of one request as it goes through the pipeline; each step fills in its part."""

from __future__ import annotations

from dataclasses import dataclass, field

from objectives.config.probes import ProbeName
from objectives.data.tasks import Task
from objectives.data.token_dataset import TokenDataset
from objectives.finetuning.checkpoints import NOTHING, Work
from objectives.finetuning.lr_search import Outcome
from objectives.finetuning.measured import Measures
from objectives.models import causal_lm
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.job import PretrainJob
from objectives.probes.runner import CachedProbe


@dataclass(frozen=True, eq=False)
class Data:
    """What trials are trained and measured on."""

    corpus: TokenDataset
    tasks: list[Task]


@dataclass(eq=False)
class Trial:
    """One request, from its job to what its result is made of.

    A trial without a `failure` at the end has `data`, `base` and `measures`.
    """

    job: PretrainJob
    base_only: bool
    """Whether fine-tuning and probes are left out."""
    data: Data | None = None
    base: BaseModel | None = None
    measures: Measures | None = None
    work: Work = NOTHING
    """Of its fine-tunes, what was done in this call."""
    finetune_s: float = 0.0
    """Its share of the seconds that fine-tuning and scoring took in this call."""
    probes: dict[ProbeName, CachedProbe] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Of its model."""
    failure: str | None = None
    control: Trial | None = None
    """The same fine-tunes from the initial weights, where they are asked for."""
    control_share: float = 1.0
    """This trial's part of what its control took in this call; trials of one seed share it."""

    @property
    def corpus(self) -> TokenDataset:
        """The text it is pretrained on."""
        assert self.data is not None
        return self.data.corpus

    @property
    def tasks(self) -> list[Task]:
        """The tasks it is fine-tuned on; none where only the base is measured."""
        assert self.data is not None
        return [] if self.base_only else self.data.tasks

    @property
    def model(self) -> BaseModel:
        """The base, once it is pretrained."""
        assert self.base is not None
        return self.base

    @property
    def measured(self) -> Measures:
        """What was measured of the base, and of its fine-tunes where they are asked for."""
        found = self.measures
        assert found is not None
        if not self.base_only:
            return found
        return Measures(found.losses, rows=found.rows)

    @property
    def outcomes(self) -> list[Outcome]:
        """One a task."""
        return self.measured.outcomes

    @property
    def num_params(self) -> int:
        """Parameters of the base, tied ones once."""
        return sum(p.numel() for p in self.model.params.values())

    @property
    def flops_per_token(self) -> float:
        """Of training the base: 6 N + attention."""
        config = causal_lm.build_config(self.job.recipe.model, self.corpus.vocab_size)
        seq_len = self.job.recipe.pretrain.seq_len
        return causal_lm.flops_per_token(config, self.num_params, seq_len)
