"""A study file with a task and a corpus of your own.

    hpo run examples/own_task.py

The corpus is text files, one document each. One task is JSON Lines with `prompt`, `completion` and
`label`; the other has rows with `messages`, as dialogues, instructions and summaries often do: the
last turn of the assistant is learned. Here all are made up: reports of what some animals eat, and
questions what one eats. They are written to a temporary folder when the study is loaded; for files
of your own, give their paths to `Files` and `FileTask` and leave out `write_data`.
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

from hpo import Baseline, Float, StudySpec
from objectives import Corpus, Files, FileTask, Finetune, PlasticityObjective, Pretrain, Recipe

DATA = Path(tempfile.gettempdir()) / "plasticity-hpo-example"


FOOD = {"cow": "grass", "cat": "fish", "bear": "honey", "horse": "hay", "owl": "mice"}


def write_data(folder: Path = DATA) -> None:
    """The files, if they are not there."""
    draw = random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(100):
        if not (path := folder / f"report-{number}.txt").exists():
            seen = [draw.choice([*FOOD.items()]) for _ in range(40)]
            path.write_text("".join(f"We saw a {one} that ate {food}. " for one, food in seen))
    for split, places in {"train": 60, "test": 30}.items():
        path = folder / f"{split}.jsonl"
        if not (folder / f"chats-{split}.jsonl").exists():
            rows = [
                {"prompt": f"{split} {n}: what does a {one} eat?", "completion": f" {food}"}
                for n in range(places)
                for one, food in FOOD.items()
            ]
            path.write_text(
                "".join(json.dumps(r | {"label": r["completion"]}) + "\n" for r in rows)
            )
            chats = [
                {
                    "messages": [
                        {"role": "system", "content": "Answer in one word."},
                        {"role": "user", "content": row["prompt"]},
                        {"role": "assistant", "content": row["completion"]},
                    ]
                }
                for row in rows
            ]
            lines = "".join(json.dumps(chat) + "\n" for chat in chats)
            (folder / f"chats-{split}.jsonl").write_text(lines)


write_data()


RECIPE = Recipe(
    corpus=Corpus(sources=(Files(paths=(f"{DATA}/report-*.txt",)),), vocab_size=300),
    pretrain=Pretrain(steps=150, lr=1e-2),
    finetune=Finetune(
        tasks=(
            FileTask(name="diet", train=f"{DATA}/train.jsonl", test=f"{DATA}/test.jsonl"),
            FileTask(
                name="chat", train=f"{DATA}/chats-train.jsonl", test=f"{DATA}/chats-test.jsonl"
            ),
        ),
        lrs=(1e-2, 3e-2),
        max_extensions=0,
        steps=50,
        batch_size=8,
    ),
)


STUDY = StudySpec(
    name="own-task",
    description="Which decay lets a model of our reports answer questions about them?",
    objective=PlasticityObjective(RECIPE),
    space={"pretrain.weight_decay": Float(low=0.003, high=3.0, log=True)},
    baselines=(Baseline(name="standard", params={}),),
    trials=6,
    wave=3,
)
