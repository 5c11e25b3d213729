"""A study as data: a .yaml, .yml or .json file in place of a Python file.

It has the fields of `StudySpec` by the same names, and `recipe` in place of the objective:
`space`, `limits` and `priors` are mappings by path or metric, `goals` one of metric to direction,
`baselines` and `grid` of name to params, `contrasts` within `contrasts` of name to the rest of a
planned contrast. Nothing in it is executed. What only Python can say, such as a paper's tables or
an objective of one's own, is left to study files in Python.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpo.core import checks
from hpo.core.contrasts import PlannedContrast, PlannedContrasts
from hpo.core.domains import Choice, Domain, Float, Int
from hpo.core.goals import Goal, Limit
from hpo.core.spec import Baseline, GridPoint, Prior, StudySpec
from objectives import PlasticityObjective, Recipe, VisionObjective, VisionRecipe
from objectives.config.data_files import DataFile, read

OBJECTIVES: dict[str, tuple[Any, Any]] = {
    "plasticity": (Recipe, PlasticityObjective),
    "vision": (VisionRecipe, VisionObjective),
}
"""The word under `objective` -> kind of recipe, and what measures it."""


PYTHON_ONLY = ("warm", "paper")
"""Fields of a study that a file cannot have."""


def study(path: Path) -> StudySpec:
    """The study in a file.

    Raises:
        ValueError: the file cannot be read or something in it is wrong, with its line.
    """
    file = read(path)
    data = file.data
    if not isinstance(data, Mapping):
        raise ValueError(
            f"{path} must be a mapping with name, recipe and space, got {checks.shown(data)}."
        )
    fields = {each.name for each in dataclasses.fields(StudySpec)} - {"objective", *PYTHON_ONLY}
    known = sorted({*fields, "objective", "recipe"})
    for name in data:
        if name in PYTHON_ONLY:
            raise file.error(f"{name} can be set in a study file in Python only.", (name,))
        if name not in known:
            hint = checks.near(name, known)
            raise file.error(f"a study has no field {name!r}; {hint}", (name,))
    given = {name: _read(file, name, value) for name, value in data.items() if name in fields}
    given.setdefault("name", path.stem)
    given.setdefault("space", {})
    objective = _objective(file, data)
    try:
        return StudySpec(objective=objective, **given)
    except ValueError as error:
        raise _where(file, str(error)) from None


def _objective(file: DataFile, data: Mapping[str, Any]) -> Any:
    kind = data.get("objective", "plasticity")
    if not isinstance(kind, str) or kind not in OBJECTIVES:
        raise file.error(
            f"objective must be {' or '.join(OBJECTIVES)}, got {checks.shown(kind)}.",
            ("objective",),
        )
    recipe, objective = OBJECTIVES[kind]
    if "recipe" not in data:
        return objective(recipe())
    return objective(recipe.from_data_file(file, ("recipe",)))


def _read(file: DataFile, name: str, value: Any) -> Any:
    """A field's value as `StudySpec` has it."""
    if name == "contrasts":
        return _contrasts(file, value)
    if name not in READERS:
        return value
    example, make = READERS[name]
    if not isinstance(value, Mapping):
        raise file.error(
            f"{name} must be a mapping such as {example}, got {checks.shown(value)}.", (name,)
        )
    made = {}
    for key, each in value.items():
        try:
            made[key] = make(key, each)
        except ValueError as error:
            raise file.error(str(error), (name, key)) from None
    return made if name in ("space", "priors") else tuple(made.values())


def _contrasts(file: DataFile, given: Any) -> PlannedContrasts:
    """Contrasts by name, and beside them the level and the correction."""
    place: tuple[str, ...] = ("contrasts",)
    try:
        fields = _fields("contrasts", given, CONTRASTS)
        planned = []
        for name, each in _fields("contrasts", fields.get("contrasts"), CONTRASTS).items():
            place = ("contrasts", "contrasts", name)
            own = _fields(f"contrast {name!r}", each, CONTRAST)
            planned.append(PlannedContrast(**{"name": name, **own}))
        place = place[:1]
        return PlannedContrasts(**{**fields, "contrasts": tuple(planned)})
    except ValueError as error:
        raise file.error(str(error), place) from None


def _domain(path: str, given: Any) -> Domain:
    if isinstance(given, list):
        return Choice(options=tuple(given))
    fields = dict(_fields(f"space[{path!r}]", given, "{kind: float, low: 0.1, high: 1}, or a list"))
    kind = fields.pop("kind", "choice" if "options" in fields else None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            f"space[{path!r}] needs a kind, one of {', '.join(KINDS)}, got {checks.shown(kind)}."
        )
    domain: Domain = KINDS[kind](**fields)
    return domain


def _fields(rule: str, given: Any, example: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise ValueError(f"{rule} must be {example}, got {checks.shown(given)}.")
    return given


def _limit(metric: str, given: Any) -> Limit:
    return Limit(metric=metric, **_fields(f"limits[{metric!r}]", given, "{low: 0.1}"))


def _prior(path: str, given: Any) -> Prior:
    return Prior(**_fields(f"priors[{path!r}]", given, "{centre: 0.01, width: 0.5}"))


def _where(file: DataFile, message: str) -> ValueError:
    """The sentence, with the line of the field or part of the study that it names first."""
    places: list[tuple[str, ...]] = [(name,) for name in file.data]
    for name in ("space", "baselines", "grid", "priors", "goals", "limits"):
        places += [(name, key) for key in file.data.get(name) or {}]
    named = [(at, place) for place in places if (at := _named_at(place, message)) is not None]
    return file.error(message, *(place for _, place in sorted(named)[:1]))


def _named_at(place: tuple[str, ...], message: str) -> int | None:
    """Where a message names a field, or a part, whose name is in quotes unless it is a path."""
    *parents, name = place
    pattern = rf"(?<![\w.]){re.escape(name)}(?!\w|\.\w)"
    if parents and "." not in name:
        pattern = re.escape(repr(name))
    found = re.search(pattern, message)
    return None if found is None else found.start()


CONTRAST = "{metric: base_loss, arm: decay, minus: no decay, expected: up}"


CONTRASTS = f"{{alpha: 0.01, contrasts: {{NAME: {CONTRAST}}}}}"


KINDS: dict[str, Any] = {"float": Float, "int": Int, "choice": Choice}
READERS: dict[str, tuple[str, Callable[[str, Any], Any]]] = {
    "space": ("{pretrain.lr: {kind: float, low: 0.001, high: 0.1, log: true}}", _domain),
    "goals": ("{base_loss: down, gain: up}", lambda key, each: Goal(metric=key, direction=each)),
    "limits": ("{base_loss: {high: 4.5}}", _limit),
    "priors": ("{pretrain.lr: {centre: 0.01, width: 0.5}}", _prior),
    "baselines": ("{standard: {}}", lambda key, each: Baseline(name=key, params=each)),
    "grid": ("{low rate: {pretrain.lr: 0.001}}", lambda key, each: GridPoint(key, each)),
}
"""Field of a study -> an example of it, and what makes an item of its key and value."""
