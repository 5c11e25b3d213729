"""Every probe on models that are built otherwise: a figure or a note, never an exception."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from transformers.utils import logging

from objectives.config.probes import ProbeName
from objectives.probes.registry import PROBES
from objectives.probes.runner import measure
from tests.objectives import tiny_configs, toy
from tests.objectives.probes import subjects

pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")  # of vmap in torch


TYPES = ("mamba", "rwkv", "mixtral", "falcon_h1", "openai-gpt", "deepseek_v3", "gemma4_text")


@pytest.mark.slow
@pytest.mark.parametrize("model", TYPES)
def test_a_probe_gives_figures_or_a_note_on_every_kind_of_model(
    model: str, toy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logging.set_verbosity_error()
    monkeypatch.setitem(toy.CONFIGS, model, tiny_configs.tiny_config(model))
    group = subjects.group(toy_folder, list(PROBES), 1, family=model)
    for name in PROBES:
        (finding,) = measure(name, group)
        assert finding.metrics or finding.notes, name
        assert not any("\n" in note for note in finding.notes)


def test_a_probe_that_breaks_on_a_model_is_a_note_and_one_that_is_stopped_stops(
    toy_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name: ProbeName = "norms"
    group = subjects.group(toy_folder, [name], 1)

    def breaks(given: Any) -> Any:
        return given.config.no_such_attribute

    def reports(given: Any) -> Any:
        given.report({"stage": "stop"})

    monkeypatch.setitem(PROBES, name, _with(name, breaks))
    (finding,) = measure(name, group)
    assert "does not apply to this model (AttributeError" in finding.notes[0]
    monkeypatch.setitem(PROBES, name, _with(name, reports))

    def stop(event: dict[str, Any]) -> None:
        if event["stage"] == "stop":
            raise RuntimeError("stop now")

    with pytest.raises(RuntimeError, match="stop now"):
        measure(name, dataclasses.replace(group, report=stop))


def _with(name: ProbeName, measure: Any) -> Any:
    return dataclasses.replace(PROBES[name], measure=measure)
