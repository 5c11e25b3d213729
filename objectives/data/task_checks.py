"""How a task is scored, and what a reader of its score should know about its rows.

What makes a score meaningless is refused: labels or answers that differ only in white space. What
makes it mean something else is a note with its count: labels that are missing, test rows that were
trained on, a single label, repeated rows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from objectives.config import data
from objectives.data.builtin_tasks import Split
from objectives.data.examples import Example
from objectives.data.task_rows import Rows

Metric: TypeAlias = Literal["accuracy", "exact_match"]


MOST_NAMED, MOST_CHARS = 3, 40
"""Labels that a sentence names, and their characters."""


@dataclass(frozen=True)
class Scored:
    """A task's rows with the metric that they are scored by."""

    metric: Metric
    rows: Rows
    notes: list[str]


def scored(task: data.Task, rows: Rows) -> Scored:
    """The metric, and the rows that it is defined for.

    Raises:
        ValueError: accuracy is asked for where most rows have no label, or texts that should be
            equal differ in white space.
    """
    wanted = "auto" if isinstance(task, data.BuiltinTask) else task.metric
    name, notes = task.name, list[str]()
    total = sum(map(len, rows.values()))
    unlabelled = sum(row.label is None for row in _all(rows))
    accuracy = wanted != "exact_match" and 2 * unlabelled < total
    if wanted == "accuracy" and not accuracy:
        raise ValueError(
            f"task {name!r} asks for accuracy, but {unlabelled} of its rows have no 'label'; add "
            "the labels or set metric to 'exact_match'."
        )
    if accuracy and unlabelled:
        rows = {
            split: [row for row in some if row.label is not None] for split, some in rows.items()
        }
        notes.append(f"task {name}: rows left out as they have no label: {unlabelled} of {total}")
        empty = next((split for split, some in rows.items() if not some), None)
        if empty is not None:
            raise ValueError(
                f"task {name!r} has labels, but none in {empty}; add them, or set metric to "
                "'exact_match'."
            )
    elif wanted == "auto" and 0 < unlabelled < total:
        notes.append(
            f"task {name}: rows with a label, too few to score by: {total - unlabelled} of {total}"
        )
    if accuracy:
        _check_white_space(name, rows)
        unclear = list(_unclear(rows))
        notes += [f"task {name}: {each}" for each in unclear]
        accuracy = wanted == "accuracy" or not unclear
    if not accuracy:
        _check_edges(name, rows)
    metric: Metric = "accuracy" if accuracy else "exact_match"
    if not isinstance(task, data.BuiltinTask):
        labels = len({row.completion for row in rows["train"]})
        how = f"accuracy over {labels} labels" if accuracy else "exact match of the whole answer"
        notes.append(f"task {name} is scored by {how}")
    return Scored(metric, rows, notes)


def findings(name: str, metric: Metric, rows: Rows) -> list[str]:
    """What a reader of the score should know about the rows that are trained and scored on."""
    found = [*_overlaps(rows), *_repeats(rows)]
    labels = {row.completion for row in _all(rows)}
    if metric == "accuracy" and len(labels) == 1:
        found.append(
            f"all {sum(map(len, rows.values()))} rows have the one label "
            f"{labels.pop().strip()!r}, so that any model scores 1"
        )
    some: tuple[Split, ...] = ("train", "test")
    for split in some:
        if len(rows[split]) > 1 and len({row.prompt for row in rows[split]}) == 1:
            found.append(f"all {len(rows[split])} {split} rows have the same prompt")
    return [f"task {name}: {each}" for each in found]


def _overlaps(rows: Rows) -> Iterator[str]:
    """Rows that are in two splits."""
    meaning = {
        ("test", "train"): "training rows, so that the score tells what was memorized",
        ("test", "validation"): "validation rows, so that the learning rate is chosen on them",
        ("validation", "train"): "training rows, so that the learning rate is chosen on them",
    }
    pairs: tuple[tuple[Split, Split], ...] = tuple(meaning)  # type: ignore[arg-type]
    for one, other in pairs:
        answers = defaultdict(set)
        for row in rows[other]:
            answers[row.prompt.strip()].add(row.completion.strip())
        met = [row for row in rows[one] if row.prompt.strip() in answers]
        same = sum(row.completion.strip() in answers[row.prompt.strip()] for row in met)
        if same:
            yield f"{one} rows that are also {meaning[one, other]}: {same} of {len(rows[one])}"
        if len(met) > same and other == "train":
            yield (
                f"{one} rows with the prompt of a training row and another answer: "
                f"{len(met) - same} of {len(rows[one])}"
            )


def _repeats(rows: Rows) -> Iterator[str]:
    counts = {
        split: f"{len(some) - len(set(some))} of {len(some)} in {split}"
        for split, some in rows.items()
        if len(set(some)) < len(some)
    }
    if counts:
        yield f"repeated rows: {', '.join(counts.values())}"


def _unclear(rows: Rows) -> Iterator[str]:
    """Labels with several texts, and texts with several labels."""
    texts, labels = defaultdict(set), defaultdict(set)
    for row in _all(rows):
        texts[row.label].add(row.completion)
        labels[row.completion].add(row.label)
    for what, its, found in (("labels", "texts", texts), ("texts", "labels", labels)):
        several = {one: others for one, others in found.items() if len(others) > 1}
        if several:
            one = min(several, key=str)
            some = sorted(map(str, several[one]))[:MOST_NAMED]
            named = ", ".join(repr(each[:MOST_CHARS]) for each in some)
            yield (
                f"{what} with several {its}: {len(several)} of {len(found)}, such as "
                f"{str(one)[:MOST_CHARS]!r} with {named}"
            )


def _check_white_space(name: str, rows: Rows) -> None:
    """Raise ValueError if labels, or their texts, differ in white space alone."""
    spelled: dict[tuple[str, str], Counter[tuple[str | None, str]]] = defaultdict(Counter)
    for row in _all(rows):
        plain = (" ".join(str(row.label).split()), " ".join(row.completion.split()))
        spelled[plain][row.label, row.completion] += 1
    for counts in spelled.values():
        if len(counts) == 1:
            continue
        by_text = {text for _, text in counts}
        place = 1 if len(by_text) > 1 else 0
        number: Counter[str] = Counter()
        for pair, count in counts.items():
            number[str(pair[place])] += count
        (often, many), (seldom, few) = number.most_common(2)
        where = _splits_of(rows, place, seldom)
        what = "completion" if place else "label"
        raise ValueError(
            f"task {name!r}: the {what} {often!r} of {many} rows is {seldom!r} in {few} ({where}), "
            "which differ only in white space and would count as different answers; write them "
            "alike."
        )


def _splits_of(rows: Rows, place: int, text: str) -> str:
    return " and ".join(
        split
        for split, some in rows.items()
        if any(str((row.label, row.completion)[place]) == text for row in some)
    )


def _check_edges(name: str, rows: Rows) -> None:
    """Raise ValueError if no test answer begins and ends with the white space of training."""
    known = Counter(_edges(row) for row in rows["train"])
    others: tuple[Split, ...] = ("validation", "test")
    for split in others:
        found = Counter(_edges(row) for row in rows[split])
        if known and found and not known.keys() & found.keys():
            (often, _), (seldom, _) = known.most_common(1)[0], found.most_common(1)[0]
            raise ValueError(
                f"task {name!r}: completions begin and end with {often[0]!r} and {often[1]!r} in "
                f"train, but with {seldom[0]!r} and {seldom[1]!r} in {split}, so that no answer "
                "can match; write them alike."
            )


def _edges(row: Example) -> tuple[str, str]:
    text = row.completion
    return text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]


def _all(rows: Rows) -> Iterable[Example]:
    return (row for some in rows.values() for row in some)
