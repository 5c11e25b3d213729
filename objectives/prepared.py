"""Corpora and tasks as tokens, read once in an objective's life."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

from objectives import corpus as corpora
from objectives import tasks as task_loading
from objectives.corpus import Corpus
from objectives.jobs import Job
from objectives.progress import Event
from objectives.recipe import Recipe
from objectives.store import Store, key_of
from objectives.tasks import Task

ROWS = ("tasks", "max_length", "train_rows", "validation_rows", "test_rows")
"""The fields of `recipe.Finetune` that decide what is read of tasks."""


@dataclass(frozen=True)
class Prepared:
    """What was read, by what it depends on."""

    data: dict[str, tuple[Corpus, list[Task]]] = field(default_factory=dict)
    second: dict[str, Corpus] = field(default_factory=dict)
    """Texts of second phases."""

    def stages(self) -> list[tuple[str, str]]:
        """Stage and key of the tokens, whose files stay mapped."""
        read = [*(corpus for corpus, _ in self.data.values()), *self.second.values()]
        return [(corpora.TOKENS, corpus.key) for corpus in read]

    def of(
        self, recipe: Recipe, store: Store, on_event: Callable[[Event], None]
    ) -> tuple[Corpus, list[Task]]:
        """The corpus and the tasks of a recipe."""
        key = data_key(recipe)
        if key not in self.data:
            on_event = _preparing(on_event)
            on_event({"stage": "prepare corpus and tasks", "step": 0, "steps": 1})
            corpus = corpora.prepare(recipe.corpus, recipe.pretrain.seq_len, store, on_event)
            self.data[key] = (corpus, task_loading.load(recipe.finetune, corpus.tokenizer))
        return self.data[key]

    def with_second(
        self, job: Job, corpus: Corpus, store: Store, on_event: Callable[[Event], None]
    ) -> Job:
        """The job with the text of its second phase, if it has one."""
        pre = job.recipe.pretrain
        if pre.mid is None:
            return job
        text = dataclasses.replace(job.recipe.corpus, sources=pre.mid.sources)
        key = key_of(corpus.key, pre.seq_len, [dataclasses.asdict(each) for each in text.sources])
        if key not in self.second:
            report = _preparing(on_event)
            self.second[key] = corpora.prepare(text, pre.seq_len, store, report, first=corpus)
        return dataclasses.replace(job, second=self.second[key])


def _preparing(on_event: Callable[[Event], None]) -> Callable[[Event], None]:
    """Tells of preparation: whoever waits need not be as patient as in training."""
    return lambda event: on_event({**event, "preparing": True})


def data_key(recipe: Recipe) -> str:
    """Equal for recipes with the same corpus and the same rows of tasks."""
    data = recipe.to_dict()
    rows = [data["finetune"][name] for name in ROWS]
    return key_of(data["corpus"], recipe.pretrain.seq_len, rows)
