"""Planned contrasts as part of a study: checks, the record, and whether they came before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpo.controller import Controller
from hpo.core.contrasts import PlannedContrast, PlannedContrasts
from hpo.core.trial import Run
from hpo.storage.record import url_of
from tests.hpo.toy_objective import spec


def contrast(**fields: Any) -> PlannedContrast:
    given = {"name": "decay", "metric": "base_loss", "arm": "standard", "minus": "no decay"}
    return PlannedContrast(**(given | {"expected": "up"} | fields))


PLANNED = PlannedContrasts(contrasts=(contrast(effect=0.01),), alpha=0.01)


def test_contrasts_come_back_from_json() -> None:
    assert PlannedContrasts.from_dict(json.loads(json.dumps(PLANNED.to_dict()))) == PLANNED


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"expected": "down "}, "expected of PlannedContrast 'decay' 'down ' is unknown"),
        ({"minus": "standard"}, "two different arms"),
        ({"effect": 0.0}, "effect of PlannedContrast 'decay' must be a size above 0, got 0"),
        ({"metrik": "x"}, "no field 'metrik'; did you mean metric"),
    ],
)
def test_a_contrast_that_cannot_be_judged_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        contrast(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"contrasts": ()}, "must be one or more, got none"),
        ({"contrasts": (contrast(), contrast())}, "different names, got"),
        ({"alpha": 1.0}, "from 1e-12 to 0.5, got 1"),
        ({"alpha": 0.9}, "from 1e-12 to 0.5, got 0.9"),
        ({"alpha": 1e-17}, "from 1e-12 to 0.5, got 1e-17"),
        ({"correction": "tukey"}, "'tukey' is unknown"),
    ],
)
def test_contrasts_need_names_a_level_and_a_correction(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PlannedContrasts(**({"contrasts": (contrast(),)} | fields))


def test_a_study_has_the_arms_and_the_metric_of_its_contrasts() -> None:
    assert spec(contrasts=PLANNED).contrasts is PLANNED
    with pytest.raises(ValueError, match=r"name arms .* \['decay 3'\]; there are \['standard'"):
        spec(contrasts=PlannedContrasts(contrasts=(contrast(arm="decay 3"),)))
    with pytest.raises(ValueError, match=r"contrasts must be a PlannedContrasts.* got 3"):
        spec(contrasts=3)


def test_the_record_keeps_how_many_results_came_before_the_contrasts(tmp_path: Path) -> None:
    def run(**fields: Any) -> Run:
        return Controller(spec(space={}, **fields), url_of(tmp_path)).run()

    before = run(name="before", contrasts=PLANNED)
    assert (before.contrasts, before.contrasts_after) == (PLANNED, 0)
    assert run(contrasts=None).contrasts is None
    after = run(contrasts=PLANNED)
    assert (after.contrasts, after.contrasts_after) == (PLANNED, 2)
    assert run(contrasts=PLANNED).contrasts_after == 2
