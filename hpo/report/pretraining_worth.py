"""What pretraining is worth, in sentences. Plain text: whoever puts it into markup escapes it."""

from __future__ import annotations

from collections.abc import Sequence

from hpo.analysis.pretraining_worth import TaskWorth
from hpo.core.format import listed, number, title, with_sem


def warning(found: Sequence[TaskWorth]) -> str:
    """The tasks on which pretraining is worth nothing; empty where there is none."""
    empty = [each for each in found if not each.needs_pretraining]
    if not empty:
        return ""
    names = listed([each.task for each in empty])
    if len(empty) == len(found):
        return (
            f"Pretraining is worth nothing on {names}: no setting is better than "
            "fine-tuning the initial weights, so this front does not show plasticity."
        )
    return (
        f"Pretraining is worth nothing on {names}: no setting is better there than "
        "fine-tuning the initial weights, so that part of the gain does not show plasticity."
    )


def rows(found: Sequence[TaskWorth]) -> list[list[str]]:
    """A row a task, under `HEADS`."""
    return [
        [
            each.task,
            number(each.scratch, 3),
            title(each.best),
            with_sem(each.score.value, each.score.error, signed=True),
            with_sem(each.nats.value, each.nats.error, signed=True),
            "yes" if each.needs_pretraining else "no",
        ]
        for each in found
    ]


HEADS = (
    "task",
    "score from initial weights",
    "best setting",
    "its score above that",
    "its loss below that (nats/token)",
    "pretraining helps",
)
