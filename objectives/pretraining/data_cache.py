"""Corpora and tasks as tokens, read once in an objective's life."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from objectives.config.recipe import Recipe
from objectives.data import tasks, token_dataset
from objectives.data.tasks import Task
from objectives.data.token_dataset import TokenDataset
from objectives.pretraining.job import PretrainJob
from objectives.progress import Event
from objectives.store.maintenance import PRETRAIN
from objectives.store.store import Store, key_of

ROWS = ("tasks", "max_length", "train_rows", "validation_rows", "test_rows")
"""The fields of `recipe.Finetune` that decide what is read of tasks."""


@dataclass(frozen=True)
class DataCache:
    """What was read, by what it depends on."""

    data: dict[str, tuple[TokenDataset, list[Task]]] = field(default_factory=dict)
    second: dict[str, TokenDataset] = field(default_factory=dict)
    """Texts of second phases."""
    weights_of: Callable[[TokenDataset], str] | None = None
    """Where the text of a first phase may be gone: the key of the weights that were trained on it
    to a phase's end."""

    def stages(self) -> list[tuple[str, str]]:
        """Stage and key of the tokens, whose files stay mapped."""
        read = [*(corpus for corpus, _ in self.data.values()), *self.second.values()]
        return [(token_dataset.TOKENS, corpus.key) for corpus in read]

    def corpus_and_tasks(
        self, recipe: Recipe, store: Store, on_event: Callable[[Event], None]
    ) -> tuple[TokenDataset, list[Task]]:
        """The corpus and the tasks of a recipe."""
        key = data_key(recipe)
        if key not in self.data:
            on_event = _preparing(on_event)
            on_event({"stage": "prepare corpus and tasks", "step": 0, "steps": 1})
            seq_len = recipe.pretrain.seq_len
            try:
                corpus = token_dataset.prepare(recipe.corpus, seq_len, store, on_event)
            except ValueError:
                if self.weights_of is None:
                    raise
                known = token_dataset.stored(recipe.corpus, seq_len, store)
                found = _trained_on(known, self.weights_of, store)
                if found is None:
                    raise
                corpus = found
            self.data[key] = (corpus, tasks.load(recipe.finetune, corpus.tokenizer))
        return self.data[key]

    def with_second_text(
        self,
        job: PretrainJob,
        corpus: TokenDataset,
        store: Store,
        on_event: Callable[[Event], None],
    ) -> PretrainJob:
        """The job with the text of its second phase, if it has one."""
        pre = job.recipe.pretrain
        if pre.mid is None:
            return job
        text = dataclasses.replace(job.recipe.corpus, sources=pre.mid.sources)
        key = key_of(corpus.key, pre.seq_len, [dataclasses.asdict(each) for each in text.sources])
        if key not in self.second:
            report = _preparing(on_event)
            try:
                second = token_dataset.prepare(text, pre.seq_len, store, report, first=corpus)
            except ValueError:
                if self.weights_of is None:
                    raise
                known = token_dataset.stored(text, pre.seq_len, store, first=corpus)
                found = _trained_on(known, lambda each: _weights(job, corpus, each), store)
                if found is None:
                    raise
                second = found
            self.second[key] = second
        return dataclasses.replace(job, second=self.second[key])


def _preparing(on_event: Callable[[Event], None]) -> Callable[[Event], None]:
    """Tells of preparation: whoever waits need not be as patient as in training."""
    return lambda event: on_event({**event, "preparing": True})


def _trained_on(
    known: Sequence[TokenDataset], weights_of: Callable[[TokenDataset], str], store: Store
) -> TokenDataset | None:
    """The text on which weights in the store were trained, None if there are no such weights.

    Raises:
        ValueError: they were trained on several versions of it.
    """
    found = [text for text in known if store.get(PRETRAIN, weights_of(text)) is not None]
    if len(found) > 1:
        raise ValueError(
            f"the text of the corpus is gone, and the store has weights from {len(found)} versions "
            "of it; put the one that is meant back in its place."
        )
    return found[0] if found else None


def _weights(job: PretrainJob, corpus: TokenDataset, second: TokenDataset) -> str:
    return dataclasses.replace(job, second=second).key(corpus, job.steps)


def data_key(recipe: Recipe) -> str:
    """Equal for recipes with the same corpus and the same rows of tasks."""
    data = recipe.to_dict()
    rows = [data["finetune"][name] for name in ROWS]
    return key_of(data["corpus"], recipe.pretrain.seq_len, rows)
