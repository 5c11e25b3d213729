"""The metrics that an objective names beforehand are those that it then gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from hpo.core.domains import Float
from hpo.core.goals import Goal, Limit
from hpo.core.spec import StudySpec
from objectives import (
    BuiltinTask,
    Digits,
    Execution,
    Finetune,
    Lora,
    MidTraining,
    PlasticityObjective,
    Probes,
    Recipe,
    ResNet,
    Schedule,
    Training,
    VisionObjective,
    VisionProbes,
    VisionRecipe,
)
from objectives.config.probes import ProbeName
from tests.objectives import toy


def recipe(folder: Path, probes: Probes, seeds: int = 2, **pretrain: Any) -> Recipe:
    base = toy.recipe(folder, steps=6, schedule=Schedule(warmup_steps=1), **pretrain)
    fine = Finetune(
        tasks=(BuiltinTask(name="list_ops"),), lora=Lora(rank=2), lrs=(1e-2,), max_extensions=0,
        steps=2, batch_size=2, seeds=seeds, schedule=Schedule(warmup_steps=1), train_rows=64,
        validation_rows=4, test_rows=6,
    )  # fmt: skip
    return Recipe(
        model=base.model, corpus=base.corpus, pretrain=base.pretrain, finetune=fine, probes=probes
    )


def test_a_trial_with_every_probe_and_a_second_phase_gives_what_was_named(tmp_path: Path) -> None:
    probes = Probes(
        run=get_args(ProbeName), forgetting_tokens=96, tokens=48, rows=16, vectors=2,
        noise_draws=2, lost_batches=1,
    )  # fmt: skip
    corpus = toy.corpus_recipe(tmp_path)
    mid = MidTraining(sources=corpus.sources, steps=2)
    objective = PlasticityObjective(
        recipe(tmp_path, probes, mid=mid), Execution(device="cpu", store=tmp_path / "store")
    )
    result = objective({})
    assert result.failure is None
    assert result.metrics.keys() <= objective.metrics()
    lacking = {"probe.spikes.largest_rise_nats", "probe.alphas.", "probe.separability."}
    for name in objective.metrics() - result.metrics.keys():  # of probes that do not fit the toy
        assert any(name.startswith(each) for each in lacking), name


def test_without_probes_seeds_and_phases_their_metrics_are_not_named(tmp_path: Path) -> None:
    probes = Probes(run=(), forgetting_tokens=0)
    objective = PlasticityObjective(
        recipe(tmp_path, probes, seeds=1), Execution(device="cpu", store=tmp_path / "store")
    )
    result = objective({})
    assert result.failure is None
    assert result.metrics.keys() == objective.metrics()


def test_a_classifier_gives_what_was_named(tmp_path: Path) -> None:
    objective = VisionObjective(
        VisionRecipe(
            model=ResNet(widths=(4, 8), depths=(1, 1)),
            images=Digits(train_rows=64),
            pretrain=Training(steps=4, batch_size=16, evals=1, eval_rows=64, weight_decay=0.1),  # type: ignore[arg-type]
            probes=VisionProbes(points=1, vectors=2, rows=20, batch_size=16, flow_steps=0),
        ),
        Execution(device="cpu", store=tmp_path),
    )
    assert objective({}).metrics.keys() == objective.metrics()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"goals": [Goal("base_los", "down")]}, "goal 'base_los' .* did you mean base_loss"),
        ({"goals": [Goal("task.snips.gain", "up")]}, "did you mean task"),
        ({"limits": [Limit("forgeting_nats", high=1)]}, "did you mean forgetting_nats"),
        ({"goals": [Goal("probe.sharpness.trace", "down")]}, "goal 'probe.sharpness.trace' is no"),
    ],
)
def test_a_study_with_a_misspelt_metric_is_refused_before_it_starts(
    fields: dict[str, Any], said: str
) -> None:
    objective = PlasticityObjective(Recipe())
    with pytest.raises(ValueError, match=said):
        StudySpec(name="s", objective=objective, space={"pretrain.lr": Float(0.1, 1)}, **fields)


def test_goals_of_probes_and_tasks_are_known_where_a_setting_gives_them() -> None:
    objective = PlasticityObjective(Recipe().with_params({"probes.run": "sharpness"}))
    goals = [Goal("probe.sharpness.trace", "minimize"), Goal("task.list_ops.gain", "up")]  # type: ignore[arg-type]
    study = StudySpec(
        name="s", objective=objective, space={"pretrain.lr": Float(0.1, 1)}, goals=goals
    )  # type: ignore[arg-type]
    assert [goal.direction for goal in study.goals] == ["down", "up"]
