"""Probes as stages: every one runs, in lanes as alone, once, and says what it found."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, get_args

import pytest

from hpo.core.metrics import UNITS
from objectives import Execution, PlasticityObjective, Recipe
from objectives.config.probes import ProbeName
from objectives.probes import runner
from objectives.probes.registry import PROBES
from objectives.probes.runner import CachedProbe
from objectives.probes.types import ProbeBatch, ProbedModel, ProbeResult
from objectives.store.store import Store
from objectives.training.runtime import Runtime
from tests.objectives import toy
from tests.objectives.probes.subjects import group, recipe

EVERY: list[str] = list(get_args(ProbeName))


def measured(
    one: ProbeBatch, folder: Path, max_lanes: int | None = None, events: list[Any] | None = None
) -> list[dict[ProbeName, CachedProbe]]:
    """The probes that the group's recipe names."""
    report = (lambda event: None) if events is None else events.append
    runtime = Runtime(store=Store(folder), report=report, max_lanes=max_lanes)
    return runner.run_probes(one.subjects, one.corpus, one.tasks, runtime)


@pytest.fixture(scope="module")
def every(toy_folder: Path) -> ProbeBatch:
    """Three bases with all probes."""
    return group(toy_folder, EVERY, 3)


@pytest.fixture(scope="module")
def first(
    every: ProbeBatch, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[ProbeName, CachedProbe]]]:
    """A store, and the findings that filled it."""
    folder = tmp_path_factory.mktemp("probes")
    return folder, measured(every, folder)


First = tuple[Path, list[dict[ProbeName, CachedProbe]]]


def test_the_registry_has_the_recipes_names_in_order() -> None:
    assert list(PROBES) == EVERY


def test_units_are_given_for_metrics_that_exist() -> None:
    named = [name.split(".", 2) for name in UNITS if name.startswith("probe.")]
    assert named
    documented: dict[str, Any] = {name: probe.metrics for name, probe in PROBES.items()}
    assert all(metric in documented[name] for _, name, metric in named)


def test_every_probe_runs_and_gives_the_metrics_that_are_documented(first: First) -> None:
    for found in first[1]:
        assert list(found) == EVERY
        for name, probed in found.items():
            metrics = {
                metric.removesuffix("_sem").replace("token_kind.", "TASK.")
                for metric in probed.result.metrics
            }
            assert metrics <= set(PROBES[name].metrics), name
            # Twenty steps are too few to see a spike.
            assert metrics >= set(PROBES[name].metrics) - {"largest_rise_nats"}, name
            assert probed.result.notes == []
            assert probed.result.seconds > 0
            assert probed.now
        findings = {name: probed.result.to_dict() for name, probed in found.items()}
        json.dumps(findings, allow_nan=False)


def test_as_lanes_and_one_by_one_give_the_same(
    every: ProbeBatch, first: First, tmp_path: Path
) -> None:
    for alone, beside in zip(measured(every, tmp_path, max_lanes=1), first[1], strict=True):
        for name, probed in alone.items():
            finding, other = probed.result, beside[name].result
            assert finding.metrics == pytest.approx(other.metrics, rel=1e-4, abs=1e-6)
            assert finding.curves.keys() == other.curves.keys()


def test_what_is_stored_is_not_measured_again(every: ProbeBatch, first: First) -> None:
    events: list[Any] = []
    again = measured(every, first[0], events=events)
    assert events == []
    for one, other in zip(again, first[1], strict=True):
        assert {name: probed.result for name, probed in one.items()} == {
            name: probed.result for name, probed in other.items()
        }
        assert not any(probed.now for probed in one.values())


def test_a_twin_is_measured_once(toy_folder: Path, tmp_path: Path) -> None:
    one = group(toy_folder, ["norms"], 1)
    twins = dataclasses.replace(one, subjects=[*one.subjects, *one.subjects])
    found = measured(twins, tmp_path)
    assert [each["norms"].now for each in found] == [True, False]
    assert found[0]["norms"].result == found[1]["norms"].result


def changed(subject: ProbedModel, **settings: Any) -> ProbedModel:
    params = {f"probes.{name}": value for name, value in settings.items()}
    job = dataclasses.replace(subject.job, recipe=subject.job.recipe.with_params(params))
    return dataclasses.replace(subject, job=job)


def test_a_stage_depends_on_the_base_its_own_settings_and_its_data(every: ProbeBatch) -> None:
    one, other = every.subjects[:2]
    for name, probe in PROBES.items():
        key = runner._key(name, one, every.tasks)
        assert key != runner._key(name, other, every.tasks)
        for setting in ("tokens", "rows", "vectors", "noise_draws", "lost_batches", "tiny_frac"):
            value = getattr(every.recipe.probes, setting)
            other_value = value / 2 if isinstance(value, float) else value + 1
            moved = runner._key(name, changed(one, **{setting: other_value}), every.tasks)
            assert (moved != key) == (setting in probe.settings), (name, setting)
        fewer = runner._key(name, one, every.tasks[:1])
        assert (fewer != key) == (name == "separability")
    assert len({runner._key(name, one, every.tasks) for name in PROBES}) == len(PROBES)


def test_a_probe_that_does_not_fit_the_model_is_a_note(toy_folder: Path, tmp_path: Path) -> None:
    one = group(toy_folder, ["ranks", "alphas"], 1, family="neox")
    (found,) = measured(one, tmp_path)
    assert found["ranks"].result.metrics == {}
    assert found["alphas"].result.metrics["mean"] > 1
    assert found["ranks"].result.notes == [
        "not measured, no query, key, value and output projections of one shape in a gpt_neox model"
    ]


def test_what_is_not_finite_is_a_note_and_no_metric() -> None:
    finding = ProbeResult(
        metrics={"a": 1.0, "b": math.inf, "c": math.nan},
        curves={"d": [[0.0, math.nan], [1.0, 2.0]]},
    )
    kept = runner._finite(finding)
    assert (kept.metrics, kept.curves) == ({"a": 1.0}, {"d": [[1.0, 2.0]]})
    assert kept.notes == ["b is not finite", "c is not finite"]


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "neox"])
def test_other_families_are_probed_too(family: str, toy_folder: Path, tmp_path: Path) -> None:
    run = [name for name in EVERY if name not in ("separability", "lost_updates", "tiny_rate")]
    (found,) = measured(group(toy_folder, run, 1, family=family), tmp_path)
    empty = {name for name, probed in found.items() if not probed.result.metrics}
    assert empty == ({"ranks"} if family == "neox" else set())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"probes.run": ["rank"]},
            r"probes\.run\.0 must be norms, ranks, .*did you mean ranks",
        ),
        ({"probes.run": ["ranks", "ranks"]}, r"probes\.run must name each probe once"),
        ({"probes.vectors": 0}, r"probes\.vectors must be at least 1, got 0"),
        ({"probes.vector": 3}, r"did you mean probes\.vectors"),
    ],
)
def test_settings_that_make_no_sense_are_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe().with_params(params)


def test_a_result_has_the_probes_and_more_of_them_train_nothing_again(
    toy_folder: Path, tmp_path: Path
) -> None:
    small = {
        "finetune.lrs": [1e-2], "finetune.max_extensions": 0, "finetune.steps": 2,
        "finetune.batch_size": 2, "finetune.schedule.warmup_steps": 1, "finetune.seeds": 1,
        "pretrain.steps": 10,
    }  # fmt: skip
    objective = PlasticityObjective(
        recipe(toy_folder, ["ranks", "norms"]).with_params(small),
        Execution(device="cpu", store=tmp_path),
    )
    before = objective({})
    assert before.metrics["probe.ranks.qk_effective"] > 1
    norms = before.curves["probe.norms.weight_norm"]
    assert [step for step, _ in norms] == [point[0] for point in before.curves["val_loss"]]
    assert norms[-1][1] == before.metrics["probe.norms.weight_norm"]
    assert before.cost["probe.ranks_s"] > 0
    more = objective({"probes.run": ["ranks", "norms", "tiny_rate", "spikes"]})
    assert before.metrics.items() <= more.metrics.items()
    tokens = 2 * 4 * toy.SEQ_LEN
    assert more.cost["tokens"] == tokens
    assert more.cost["tokens_reused"] == before.cost["tokens"] + before.cost["tokens_reused"]
    drop = more.metrics["base_loss"] - more.metrics["probe.tiny_rate.loss_nats"]
    assert more.metrics["probe.tiny_rate.drop_nats"] == pytest.approx(drop)
    again = objective({"probes.run": ["tiny_rate"]})
    assert again.cost["tokens"] == 0
    assert again.cost["tokens_reused"] == before.cost["tokens"] + tokens
