"""The first study file for somebody's text and tasks: `python -m objectives.scaffold`.

What the files hold decides what is written: the field of the text, the templates of a task. A file
that would not be understood is refused in one sentence, so that what is written passes the checks.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objectives.config.data import Files, FileTask
from objectives.data import file_paths, file_rows, sources, tasks

PROMPTS = ("prompt", "question", "text", "sentence", "input", "instruction", "review", "document")
"""Names of a field that is asked, the likeliest first; assumed, as all names here."""


ANSWERS = ("completion", "answer", "response", "output")


LABELS = ("label", "sentiment", "category", "intent", "target", "class")
"""Names of a field that is one of a few answers."""


TEXTS = ("text", "content", "document", "body", "story", "article")


SPLITS = {"train": ("train", "training"), "validation": ("validation", "valid", "val", "dev"),
          "test": ("test", "eval", "evaluation")}  # fmt: skip
"""Split -> names of its file, without endings."""


@dataclass(frozen=True)
class Wanted:
    """What `hpo init` was given."""

    name: str
    """Of the study."""
    file: str
    """The study file to be, whose folder relative paths start from."""
    corpus: Sequence[str] = ()
    tasks: Sequence[str] = ()


def study_file(wanted: Wanted) -> str:
    """The text of the study file.

    Raises:
        ValueError: a file is not there, cannot be read or has no field that is known.
    """
    folder = Path(wanted.file).absolute().parent
    named = [task_at(path) for path in wanted.tasks]
    names = [task.name for task in named]
    if len(set(names)) < len(names):
        raise ValueError(f"tasks need different names, got {', '.join(names)}; rename a folder.")
    corpus = _corpus_lines(wanted.corpus, folder)
    lines = [_task_line(task, folder) for task in named]
    classes = ["Corpus", "FileTask", "Files", "Finetune", "Lora", "Model", "PlasticityObjective",
               "Pretrain", "Recipe", "Schedule"]  # fmt: skip
    if not lines:
        classes = ["BuiltinTask" if each == "FileTask" else each for each in classes]
        lines = [f'BuiltinTask(name="{each}"),' for each in ("token_kind", "code_module")]
    if not wanted.corpus:
        classes = ["Stdlib" if each == "Files" else each for each in classes]
    file = os.path.basename(wanted.file)
    return TEMPLATE.format(
        show=f"hpo show {wanted.name}".ljust(len(f"hpo check {file}    ")),
        name=wanted.name,
        file=file,
        classes="\n".join(f"    {each}," for each in sorted(classes)),
        corpus=corpus,
        tasks="\n".join(f"            {line}" for line in lines),
    )


def _corpus_lines(given: Sequence[str], folder: Path) -> str:
    """The sources of the corpus."""
    if not given:
        return (
            "            Stdlib(),  # text that ships with Python; yours: "
            'Files(paths=("corpus/*.txt",)),'
        )
    lines = []
    for pattern in given:
        field = _text_field(pattern)
        sources.check(Files(paths=(pattern,), text_field=field or "text"))
        extra = "" if field in (None, "text") else f", text_field={json.dumps(field)}"
        lines.append(f"            Files(paths=({_literal(pattern, folder)},){extra}),")
    return "\n".join(lines)


def _text_field(pattern: str) -> str | None:
    """The field of the rows' text; None where there are no rows."""
    for path in file_paths.matching_files((pattern,)):
        if file_paths.kind_of(path) in file_paths.ROWS:
            for where, row in file_rows.rows(path):
                texts = [name for name, value in row.items() if isinstance(value, str)]
                known = [name for name in TEXTS if name in texts]
                if not texts:
                    raise ValueError(
                        f"{where} has no field with text; its fields are {_names(row)}."
                    )
                return known[0] if known else max(texts, key=lambda name: len(row[name]))
    return None


def task_at(given: str) -> FileTask:
    """The task of a folder with a file for each split, or of a file of training rows."""
    path = Path(given).expanduser()
    if path.is_dir():
        found = {split: _in_folder(path, names) for split, names in SPLITS.items()}
        name = path.resolve().name
    else:
        found = {split: _beside(path, names) for split, names in SPLITS.items()}
        found["train"] = path
        stem = path.name.split(".")[0]
        name = path.resolve().parent.name if stem in SPLITS["train"] else stem
    train, test = found["train"], found["test"]
    if train is None or not train.is_file():
        raise ValueError(
            f"--task {given!r} is no folder with a file of training rows, such as train.jsonl, and "
            "no such file; check the path."
        )
    if test is None or test == train:
        raise ValueError(
            f"--task {given!r} has no test rows beside {train.name}; put them there as "
            f"test{''.join(train.suffixes)}."
        )
    held = found["validation"]
    task = FileTask(
        name=_plain(name), train=str(train), test=str(test),
        validation=None if held is None else str(held), **_templates(train),
    )  # fmt: skip
    tasks.check(task)
    return task


def _in_folder(folder: Path, names: Sequence[str]) -> Path | None:
    """The file of a split, the first of its names that is there."""
    readable = [path for path in sorted(folder.iterdir()) if path.is_file()]
    for name in names:
        for path in readable:
            if path.name.split(".")[0].lower() == name and (
                file_paths.kind_of(path) in file_paths.ROWS
            ):
                return path
    return None


def _beside(train: Path, names: Sequence[str]) -> Path | None:
    """The file of another split beside the training rows, whose name has its name in its place."""
    for word in sorted(SPLITS["train"], key=len, reverse=True):
        for name in names:
            other = train.with_name(train.name.replace(word, name))
            if word in train.name and other != train and other.is_file():
                return other
    return None


def _templates(train: Path) -> dict[str, Any]:
    """How a row becomes prompt and completion; nothing where it has the usual fields."""
    where, row = next(file_rows.rows(train), (str(train), {}))
    if {"prompt", "completion"} <= set(row) or "messages" in row:
        return {}
    prompt = next((name for name in PROMPTS if name in row), None)
    answer = next((name for name in (*ANSWERS, *LABELS) if name in row and name != prompt), None)
    if prompt is None or answer is None:
        raise ValueError(
            f"{where} has the fields {_names(row) or '(none)'}, of which none is known as "
            f"{'a prompt' if prompt is None else 'an answer'}; rename one to "
            f"{'prompt' if prompt is None else 'completion or label'}."
        )
    label = answer if answer in LABELS else ("label" if "label" in row else None)
    return {"prompt": f"{{{prompt}}}\n", "completion": f" {{{answer}}}", "label_field": label}


def _task_line(task: FileTask, folder: Path) -> str:
    """The task as Python has it."""
    given = {
        "name": json.dumps(task.name),
        "train": _literal(task.train, folder),
        "validation": None if task.validation is None else _literal(task.validation, folder),
        "test": _literal(task.test, folder),
        "prompt": None if task.prompt == "{prompt}" else json.dumps(task.prompt),
        "completion": None if task.completion == "{completion}" else json.dumps(task.completion),
        "label_field": None if task.label_field == "label" else repr(task.label_field),
    }
    fields = [f"{name}={value}," for name, value in given.items() if value is not None]
    inner = "".join(f"\n                {each}" for each in fields)
    return f"FileTask({inner}\n            ),"


def _literal(path: str, folder: Path) -> str:
    """A path as it is written in the study file."""
    fixed = os.path.isabs(path) or path.startswith("~")
    return json.dumps(path if fixed else os.path.relpath(path, folder), ensure_ascii=False)


def _plain(name: str) -> str:
    """A task's name without what a metric's name cannot have."""
    return "".join(each if each.isalnum() or each in "-_" else "_" for each in name) or "task"


def _names(row: Mapping[str, Any]) -> str:
    return ", ".join(map(str, row))


TEMPLATE = '''\
"""Which weight decay and schedule make the better base model, and the better fine-tune?

    hpo check {file}    # checks everything here and estimates the cost; trains nothing
    hpo run {file}      # measures; Ctrl-C keeps what is finished, the same command goes on
    {show}# the front: the best trade-offs of base loss and gain

`hpo params` lists every hyperparameter with type, unit and default. A hyperparameter's name is its
path in the recipe, such as pretrain.schedule.decay_frac. Relative paths start from this folder.
"""

from hpo import Baseline, Choice, Float, StudySpec
from objectives import (
{classes}
)

RECIPE = Recipe(
    # A preset of 0.06M to 1B parameters, or config="FOLDER" with a Hugging Face config.
    model=Model(preset="llama-0.2m"),
    corpus=Corpus(
        sources=(
{corpus}
        ),
        # A byte-level BPE of this size is trained on the text; or tokenizer="FOLDER or hub name".
        vocab_size=1024,
        # Share of documents to validate on; or validation=Files(paths=("held_out.txt",)).
        validation_frac=0.05,
    ),
    pretrain=Pretrain(
        steps=400,
        batch_size=16,  # sequences
        seq_len=64,  # tokens
        lr=3e-3,
        weight_decay=0.1,
        # cosine to a tenth over the whole run; decay_frac=0 holds the rate to the end
        schedule=Schedule(warmup_frac=0.1, decay_frac=1.0, shape="cosine", floor_ratio=0.1),
    ),
    finetune=Finetune(
        tasks=(
{tasks}
        ),
        # Low-rank adapters, and embeddings and norms in full: without these, bases of this size are
        # ordered otherwise than by full fine-tuning. For larger models leave them out.
        lora=Lora(modules_to_save=("embeddings", "norms")),
        lrs=(3e-3, 1e-2, 3e-2),  # each is tried for each base and task, the best is reported
        steps=120,
        seeds=2,
    ),
)


STUDY = StudySpec(
    name="{name}",
    objective=PlasticityObjective(RECIPE),
    # What is searched: Float, Int or Choice of any path.
    space={{
        "pretrain.weight_decay": Float(low=0.003, high=3.0, log=True),
        "pretrain.lr": Float(low=1e-3, high=3e-2, log=True),
        "pretrain.schedule.decay_frac": Choice(options=(0.0, 0.25, 1.0)),
    }},
    # Measured first, to compare with.
    baselines=(Baseline(name="standard", params={{}}),),
    trials=12,  # in all; a fifth of the training repeats settings at another seed
)
'''


def main() -> None:
    """Read `Wanted` as JSON from standard input, print the study file."""
    try:
        print(study_file(Wanted(**json.load(sys.stdin))), end="")
    except (ValueError, OSError) as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
