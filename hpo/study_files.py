"""Which study, and what differs from its file, as data: it loads here, in a worker and later."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib
import importlib.util
import os
import types
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hpo.core import checks
from hpo.core.spec import Baseline, GridPoint, StudySpec
from hpo.core.trial import Run
from hpo.storage.settings import json_roundtrip
from hpo.study_modules import execute

SPEC_OVERRIDES = ("name", "trials", "budget_s", "seed", "max_flops", "patience", "confirm")
"""Fields of a study that the command line sets under the same name."""


NOTED: dict[str, Any] = {
    "study": str,
    "variant": str | None,
    "params": dict,
    "folder": str | None,
    "device": str | None,
    "devices": int | None,
    "sharding": str | None,
}
"""Fields that decide what a trial gives, which a run's folder keeps, and their types there."""


COMPUTE_OPTIONS = ("device", "devices", "sharding", "lanes", "store", "store_gb", "share")
"""What an objective receives only where it is asked for; one may know a single device."""


DATA_ENDINGS = (".yaml", ".yml", ".json")
"""Of study files that are data; those of Python end in .py."""


DATA_READER = "studies._study_data"
"""Module whose `study(path)` makes a study of data: it knows the recipes, which this package does
not."""


@dataclass(frozen=True, kw_only=True)
class StudyRequest:
    """A study's name or file, and what differs from it."""

    study: str
    store: str
    """The folder of finished stages."""
    variant: str | None = None
    """A name among the study file's VARIANTS."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Hyperparameters that are fixed."""
    name: str | None = None
    trials: int | None = None
    budget_s: float | None = None
    max_flops: float | None = None
    patience: int | None = None
    confirm: int | None = None
    seed: int | None = None
    device: str | None = None
    devices: int | None = None
    sharding: str | None = None
    lanes: int | None = None
    store_gb: float | None = None
    share: str | None = None
    folder: str = field(default_factory=os.getcwd)
    """Where relative paths of the command line start."""

    def spec(self) -> StudySpec:
        """The study.

        Raises:
            ValueError: there is no such study, or an option does not fit it.
        """
        return self.applied(load_fixed(self.study, self.variant, self.params, Path(self.folder)))

    def applied(self, spec: StudySpec) -> StudySpec:
        """A study with what is set beside its hyperparameters."""
        compute: Any = self._given(COMPUTE_OPTIONS)
        objective = spec.objective.configure(compute)
        return dataclasses.replace(spec, **self._given(SPEC_OVERRIDES), objective=objective)

    def message(self) -> dict[str, Any]:
        """JSON-able, with the folder that relative paths start from."""
        return {"launch": dataclasses.asdict(self), "folder": self.folder}

    def note(self) -> dict[str, Any]:
        """What has to be known to load the study again, from any folder; JSON-able."""
        data = {name: getattr(self, name) for name in NOTED}
        if is_file(self.study):
            data["study"] = str(Path(self.folder, self.study))
        return data | {"folder": self.folder if self.params else None}

    @classmethod
    def noted(cls, note: Mapping[str, Any], store: str) -> StudyRequest:
        """The request of a note.

        Raises:
            ValueError: the note has another shape.
        """
        data = {"variant" if name == "setting" else name: each for name, each in note.items()}
        for name, value in data.items():
            if not isinstance(value, NOTED.get(name, ())):
                raise ValueError(
                    f"the run's note says {name} {checks.shown(value)} of its study; run the study "
                    "again, which writes the note."
                )
        return cls(**{name: each for name, each in data.items() if each is not None}, store=store)

    def _given(self, names: Sequence[str]) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


def received(message: Mapping[str, Any]) -> StudyRequest:
    """The request in a message."""
    return StudyRequest(**message["launch"])


STUDY_NAME = "STUDY"


VARIANTS, SETTINGS = "VARIANTS", "SETTINGS"
"""The name in a study file, and its earlier name."""


PointOrBaseline = TypeVar("PointOrBaseline", GridPoint, Baseline)


def load(study: str, variant: str | None = None) -> StudySpec:
    """The study of this name or file: its STUDY, or the one its VARIANTS have under this name.

    Raises:
        ValueError: there is none, or the file does not give one.
    """
    path = file_of(study)
    if path.suffix in DATA_ENDINGS:
        return _load_data(path, variant)
    module = execute(path)
    spec = getattr(module, STUDY_NAME, None) if variant is None else _variants(module).get(variant)
    if isinstance(spec, StudySpec):
        return _in_folder(spec, path.parent)
    if variant is None:
        raise ValueError(f"{path} defines no {STUDY_NAME}; {_remedy(module)}")
    hint = checks.near(variant, _variants(module))
    raise ValueError(f"{path} has no variant {variant!r} in its {VARIANTS}; {hint}")


def is_file(study: str) -> bool:
    """Whether a study is given by its file, not by its name."""
    return study.endswith((".py", *DATA_ENDINGS))


def _load_data(path: Path, variant: str | None) -> StudySpec:
    if variant is not None:
        raise ValueError(f"{path} has no variant {variant!r}; only files in Python have variants.")
    folder()  # which says what to do where the package is not installed
    spec: StudySpec = importlib.import_module(DATA_READER).study(path)
    return _in_folder(spec, path.parent)


def file_of(study: str) -> Path:
    """The file of the study of this name or path.

    Raises:
        ValueError: there is none.
    """
    path = Path(study).absolute()
    if is_file(study):
        if path.is_file():
            return path
        beside = [each.name for each in path.parent.glob("*.*") if is_file(each.name)]
        found = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.7)
        hint = f"did you mean {path.stem}?" if path.stem in shipped() else "check the path."
        if found:
            hint = f"did you mean {path.parent / found[0]}?"
        raise ValueError(f"no study file {study!r}; {hint}")
    if study in shipped():
        return folder() / f"{study}.py"
    if path.with_name(f"{path.name}.py").is_file():
        raise ValueError(f"no study {study!r}; did you mean the file {study}.py?")
    if path.is_dir():
        raise ValueError(
            f"{study!r} is a folder, not a study; give a .py or .yaml file, or a study's name."
        )
    if path.exists():
        raise ValueError(f"{study!r} is no study; a study's file ends in .py, .yaml or .json.")
    hint = checks.near(study, shipped())
    if not hint.endswith("?"):
        hint = f"{hint.rstrip('.')}, or give a path ending in .py, .yaml or .json."
    raise ValueError(f"no study {study!r}; {hint}")


def _remedy(module: types.ModuleType) -> str:
    """What to do in a file without a study."""
    given = getattr(module, STUDY_NAME, None)
    if given is not None:
        return f"it is {checks.shown(given)} there, and must be a StudySpec."
    names = [name for name, each in vars(module).items() if isinstance(each, StudySpec)]
    if names:
        return f"rename {names[0]} to {STUDY_NAME}."
    return f"add a line {STUDY_NAME} = StudySpec(...)."


def load_fixed(
    study: str, variant: str | None, fixed: Mapping[str, Any], given_in: Path
) -> StudySpec:
    """`load` and `with_params`.

    Relative paths of the study's file start from its folder, those of `fixed` from `given_in`.

    Raises:
        ValueError: as there.
    """
    spec = load(study, variant)
    if not fixed:
        return spec
    given = _in_folder(with_params(spec, fixed), given_in)
    return _in_folder(given, file_of(study).parent)


def _in_folder(spec: StudySpec, folder: Path) -> StudySpec:
    """The study whose objective reads relative paths from this folder."""
    return dataclasses.replace(spec, objective=spec.objective.configure({"folder": str(folder)}))


def with_params(spec: StudySpec, fixed: Mapping[str, Any]) -> StudySpec:
    """The study with hyperparameters fixed for all trials, and so taken out of its space.

    Raises:
        ValueError: one cannot be set, or is searched under another name.
    """
    if not fixed:
        return spec
    objective = spec.objective.with_params(fixed)
    for path, domain in spec.space.items():
        if path not in fixed:
            spec.objective.check({**fixed, path: domain.ends[0]})
    return dataclasses.replace(
        spec,
        objective=objective,
        space={path: domain for path, domain in spec.space.items() if path not in fixed},
        priors={path: prior for path, prior in spec.priors.items() if path not in fixed},
        baselines=tuple(_without(each, fixed) for each in spec.baselines),
        grid=tuple(_without(each, fixed) for each in spec.grid),
    )


def _without(point: PointOrBaseline, fixed: Container[str]) -> PointOrBaseline:
    """The baseline or grid point without the params that are fixed for all trials."""
    params = {path: value for path, value in point.params.items() if path not in fixed}
    return dataclasses.replace(point, params=params)


def reload(run: Run, request: StudyRequest) -> StudySpec:
    """The study that a run was made from, with an objective that measures as it did then.

    What decides the result of a recorded trial is compared: the objective's description, beside the
    trial's own params, seed and fidelity. Space, goals, trials and budget may have changed.

    Raises:
        ValueError: it is not there any more, or its trials would give something else now.
    """
    spec = request.spec()
    if json_roundtrip(spec.objective.describe()) != run.reproduce["study"]["objective"]:
        raise ValueError(
            f"{request.study} describes another objective than the one that run {run.name!r} was "
            "measured by; undo the change, or give the unchanged file with --study."
        )
    return spec


def shipped() -> dict[str, str]:
    """Names of the studies that ship, and the first line of each one's docstring."""
    found = {}
    for path in sorted(folder().glob("*.py")):
        if not path.stem.startswith("_"):
            text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            found[path.stem] = text.split("\n")[0]
    return found


def folder() -> Path:
    """Where the studies that ship are."""
    found = importlib.util.find_spec("studies")
    if found is None or not found.submodule_search_locations:
        raise ValueError("the package `studies` is not installed; run pip install -e . again.")
    return Path(next(iter(found.submodule_search_locations)))


def _variants(module: types.ModuleType) -> dict[str, StudySpec]:
    found = getattr(module, VARIANTS, getattr(module, SETTINGS, {}))
    return found if isinstance(found, dict) else {}
