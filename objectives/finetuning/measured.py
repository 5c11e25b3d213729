"""What was measured of a base and its fine-tunes, and its stage of the store, one a request."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pydantic

from objectives.data.tasks import Task
from objectives.data.token_dataset import TokenDataset
from objectives.finetuning.checkpoints import NOTHING, Work
from objectives.finetuning.lr_search import Outcome
from objectives.finetuning.runs import described_adapter
from objectives.models import library_fingerprints
from objectives.pretraining.job import PretrainJob
from objectives.store import contents, entries
from objectives.store.contents import Finite, Point
from objectives.store.entries import DamagedError, write_json
from objectives.store.stages import Stages
from objectives.store.store import key_of
from objectives.training import lr_schedule

STAGE = "finetune"


FILE = "measures.json"


LOSSES = ("base_loss", "train_loss", "curve_loss", "sample_loss", "mid_loss")
"""On validation text, on training text, on the sample of the curve, on that of forgetting, and on
the text of the second phase."""


Rows = Annotated[str, pydantic.Field(pattern="^[01]*$")]
"""A score of each test row."""


@dataclass(frozen=True)
class _Outcome:
    """`finetune.Outcome` as it is stored."""

    lr: float
    tried: list[tuple[Finite, float]]
    before: Finite
    loss_before: float
    after: list[Finite] = field(default_factory=list)
    loss_after: list[float] = field(default_factory=list)
    base_loss_after: list[float] = field(default_factory=list)
    rows_before: Rows = ""
    rows_after: list[Rows] = field(default_factory=list)
    loss_rows_before: list[Finite] = field(default_factory=list)
    loss_rows_after: list[list[Finite]] = field(default_factory=list)
    base_loss_rows_after: list[list[Finite]] = field(default_factory=list)
    curve: list[Point] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)

    def fits(self, seeds: int) -> bool:
        """Whether it is one of so many seeds, or one of which every rate diverged."""
        lists: list[list[Any]] = [self.after, self.loss_after, self.rows_after]
        lists.append(self.loss_rows_after)
        if {len(rows) for rows in self.rows_after} - {len(self.rows_before)}:
            return False
        if {len(rows) for rows in self.loss_rows_after} - {len(self.loss_rows_before)}:
            return False
        if len(self.base_loss_rows_after) != len(self.base_loss_after):
            return False
        if not self.tried or not all(map(entries.is_key, self.stages)):
            return False
        if math.isnan(self.lr):
            return not any(lists)
        if not self.stages or not self.curve:
            return False
        lengths = {len(each) for each in lists} | {len(self.base_loss_after) or seeds}
        return lengths == {seeds} and self.lr in dict(self.tried)


@dataclass(frozen=True)
class _Measures:
    base_loss: Finite
    train_loss: Finite
    curve_loss: Finite
    tuning: Work
    outcomes: list[_Outcome]
    sample_loss: Finite | None = None
    mid_loss: Finite | None = None
    rows: dict[contents.Name, list[Finite]] = field(default_factory=dict)


@dataclass(frozen=True)
class Measures:
    """What was measured of a base, and of its fine-tunes on each task."""

    losses: dict[str, float]
    """Nats a token on the fixed samples, by the names of `LOSSES`."""
    tuning: Work = NOTHING
    """What the fine-tunes took, whenever that was."""
    outcomes: list[Outcome] = field(default_factory=list)
    """One a task; none where only the base was measured."""
    rows: dict[str, list[float]] = field(default_factory=dict)
    """The same of each sequence, or of groups of them (`objectives.row_errors`)."""


def measures_key(job: PretrainJob, base_key: str, corpus: TokenDataset, tasks: list[Task]) -> str:
    """The stage of a base's measures and fine-tunes."""
    data = job.recipe.to_dict()
    fine = job.recipe.finetune
    for name in ("tasks", "from_scratch", *(() if fine.refine else ("refine",))):
        data["finetune"].pop(name)
    data["finetune"]["lora"] = described_adapter(data["finetune"]["lora"])
    data["finetune"]["schedule"] = lr_schedule.as_trained(fine.schedule, fine.steps)
    forgetting, pre = job.recipe.probes.forgetting_tokens, job.recipe.pretrain
    samples = [forgetting, pre.eval_tokens, pre.curve_tokens]
    return key_of(
        "finetune-5", base_key, data["finetune"], samples, job.seed,
        [_described(task) for task in tasks], corpus.key,
        library_fingerprints.of_finetuning(fine.method),
    )  # fmt: skip


def _described(task: Task) -> list[Any]:
    """A task in a key: its name, its rows, and its own settings where it has any."""
    own = [] if task.override is None else [dataclasses.asdict(task.override)]
    return [task.name, task.key, *own]


def load_measures(
    store: Stages, key: str, *, tasks: int, seeds: int, second: bool
) -> Measures | None:
    """What was measured of a base; None if it is not stored.

    `tasks`: how many it was fine-tuned on; `second`: whether it had a second phase of training.
    """
    read = functools.partial(_read, tasks=tasks, seeds=seeds, second=second)
    return store.read(STAGE, key, read)


def save_measures(store: Stages, key: str, measures: Measures) -> None:
    """Keep what was measured."""
    data = {
        **measures.losses,
        "tuning": dataclasses.asdict(measures.tuning),
        "outcomes": [outcome.to_dict() for outcome in measures.outcomes],
        "rows": measures.rows,
    }
    seconds = measures.tuning.seconds
    store.put(STAGE, key, lambda folder: write_json(folder / FILE, data), seconds=seconds)


def _read(folder: Path, *, tasks: int, seeds: int, second: bool) -> Measures:
    found = contents.record(folder, FILE, _Measures)
    fits = len(found.outcomes) == tasks and all(each.fits(seeds) for each in found.outcomes)
    forgetting = {bool(each.base_loss_after) for each in found.outcomes if each.after}
    if not fits or ((True in forgetting) and (len(forgetting) > 1 or found.sample_loss is None)):
        raise DamagedError(f"{FILE} has other outcomes than it should")
    if second and found.mid_loss is None:
        raise DamagedError(f"{FILE} lacks mid_loss")
    losses = {name: getattr(found, name) for name in LOSSES}
    outcomes = [Outcome.from_dict(dataclasses.asdict(each)) for each in found.outcomes]
    known = {name: loss for name, loss in losses.items() if loss is not None}
    return Measures(known, found.tuning, outcomes, found.rows)
