"""What results depend on beyond the recipe: the content of files and the versions of libraries.

A recipe names its corpus, tasks and model; the files can change under the same names, and another
version of a library may draw other initial weights or round differently. Each condition is a short
text, equal exactly when the thing is, so that a study can keep trials apart that were measured with
different ones.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from objectives.config.data import BuiltinTask, FileTask, HubDataset, HubTask, Source, Task
from objectives.config.recipe import Recipe
from objectives.config.vision import Cifar10, HubImages, VisionRecipe
from objectives.data import sources, task_rows
from objectives.models import hub
from objectives.pretraining import stage_keys
from objectives.store.stages import Stages
from objectives.store.store import key_of

LIBRARIES = ("torch", "transformers", "peft", "tokenizers", "datasets", "numpy")


IDENTITY_CHARACTERS = 12


def asks_hub(recipe: Recipe) -> bool:
    """Whether a corpus or a task of the recipe is a dataset on the hub."""
    mid = recipe.pretrain.mid
    given = (*sources.all_of(recipe.corpus), *(() if mid is None else mid.sources))
    names = [source.name for source in given if isinstance(source, HubDataset)]
    names += [task.dataset for task in recipe.finetune.tasks if isinstance(task, HubTask)]
    return any(not Path(name).expanduser().is_dir() for name in names)


def of_recipe(recipe: Recipe, notes: Stages | None = None) -> dict[str, str]:
    """Name of each condition of a language model's trials -> its identity.

    `notes` is the store, which knows commits of the hub where there is no network.

    Raises:
        ValueError: a file cannot be read, or a commit of the hub cannot be known.
    """
    found = {"corpus": _corpus_identity(sources.all_of(recipe.corpus), notes)}
    if recipe.pretrain.mid is not None:
        found["second corpus"] = _corpus_identity(recipe.pretrain.mid.sources, notes)
    found |= {f"task {task.name}": _task_identity(task, notes) for task in recipe.finetune.tasks}
    if recipe.model.preset is None or recipe.model.weights is not None:
        found["model"] = _identity(stage_keys.model_content(recipe.model))
    return found | library_versions()


def of_vision(recipe: VisionRecipe) -> dict[str, str]:
    """What an image classifier's trials depend on; data of the hub is taken to stay as it is."""
    images = recipe.images
    if isinstance(images, HubImages) and (folder := sources.folder_of(images.name)) is not None:
        return {"images": _identity(sources.folder_digest(folder))} | library_versions()
    if not isinstance(images, Cifar10):
        return library_versions()
    files = sorted(path for path in Path(images.folder).glob("*.bin") if path.is_file())
    return {"images": _identity([sources.checksum(path) for path in files])} | library_versions()


def library_versions() -> dict[str, str]:
    """Library -> version, and Python's, whose own text and built-in tasks come with it."""
    versions = {name: metadata.version(name) for name in LIBRARIES}
    return versions | {"python": platform.python_version()}


def _corpus_identity(given: Sequence[Source], notes: Stages | None) -> str:
    return _identity([sources.fingerprint(sources.pinned(each, notes)) for each in given])


def _task_identity(task: Task, notes: Stages | None) -> str:
    """Of a task's rows in any order; a built-in task is made by this version of Python."""
    if isinstance(task, BuiltinTask):
        return task.name
    if isinstance(task, HubTask) and not Path(task.dataset).expanduser().is_dir():
        commit = hub.commit_of(task.dataset, task.revision, notes)
        return _identity([task.dataset, task.config, commit])
    assert isinstance(task, FileTask | HubTask)
    rows = task_rows.read(task).rows
    return _identity(
        {split: sorted(task_rows.digest(row).hex() for row in each) for split, each in rows.items()}
    )


def _identity(content: Any) -> str:
    return key_of(content)[:IDENTITY_CHARACTERS]
