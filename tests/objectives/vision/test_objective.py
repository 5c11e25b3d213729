"""The objective for images: lanes against single runs, determinism, the store, and bad input."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from objectives import Execution, VisionObjective, VisionRecipe
from objectives.config.training import Schedule
from objectives.config.vision import Cifar10, Digits, ResNet, Training, VisionProbes
from objectives.types import Request, Result
from objectives.vision.data import prepare_images
from objectives.vision.trainer import Job, Measured

STEPS = 8


PARAMS: list[dict[str, Any]] = [
    {},
    {"pretrain.lr": 0.02},
    {"pretrain.weight_decay": 0.1, "pretrain.beta1": 0.5},
    {"pretrain.clip_norm": 0.1, "pretrain.schedule.shape": "cosine"},
]


def recipe(**training: Any) -> VisionRecipe:
    given = {"steps": STEPS, "batch_size": 16, "evals": 2, "eval_rows": 64, **training}
    return VisionRecipe(
        model=ResNet(widths=(4, 8), depths=(1, 1)),
        images=Digits(train_rows=64),
        pretrain=Training(**given),
        probes=VisionProbes(
            points=2, vectors=3, rows=20, batch_size=16, flow_steps=2, flow_rate=0.01
        ),
    )


def objective(folder: Path, chosen: VisionRecipe | None = None, **given: Any) -> VisionObjective:
    return VisionObjective(
        chosen or recipe(), Execution(device="cpu", store=folder, lanes=8, **given)
    )


def requests(params: list[dict[str, Any]], seeds: tuple[int, ...] = (0,)) -> list[Request]:
    return [Request(params=p, fidelity=1.0, seed=seed) for seed in seeds for p in params]


def close(one: Result, other: Result) -> None:
    """Equal up to the rounding of convolutions in other company."""
    assert one.failure == other.failure is None
    assert one.metrics.keys() == other.metrics.keys()
    for name, value in one.metrics.items():
        assert value == pytest.approx(other.metrics[name], rel=2e-3, abs=1e-5), name
    for name, points in one.curves.items():
        np.testing.assert_allclose(points, other.curves[name], rtol=2e-3, atol=1e-5)


def test_lanes_of_rates_decays_and_seeds_equal_single_runs(tmp_path: Path) -> None:
    asked = [Request(params=p, fidelity=1.0, seed=n % 2) for n, p in enumerate(PARAMS)]
    together = objective(tmp_path / "together").evaluate(asked)
    for number, request in enumerate(asked):
        (alone,) = objective(tmp_path / "alone").evaluate([request])
        close(together[number], alone)
    losses = {result.metrics["training_loss"] for result in together}
    assert len(losses) == len(asked)


def test_the_same_batch_gives_the_same_bits_and_then_comes_from_the_store(tmp_path: Path) -> None:
    asked = requests(PARAMS[:2], seeds=(0, 1))
    first, second = (objective(tmp_path / name).evaluate(asked) for name in ("one", "two"))
    again = objective(tmp_path / "two").evaluate(asked[::-1])[::-1]
    for one, other, third in zip(first, second, again, strict=True):
        assert one.metrics == other.metrics == third.metrics
        assert one.curves == other.curves == third.curves
        assert (other.cost["images"], other.cost["images_reused"]) == (STEPS * 16, 0)
        assert (third.cost["images"], third.cost["images_reused"]) == (0, STEPS * 16)
        assert third.cost["device_s"] == 0 < third.cost["device_s_saved"]


def test_images_tell_the_error_of_losses_errors_and_their_gap(tmp_path: Path) -> None:
    (found,) = objective(tmp_path).evaluate(requests([{}]))
    (stored,) = objective(tmp_path).evaluate(requests([{}]))
    assert stored.row_scores == found.row_scores
    names = {f"{part}_{kind}" for part in ("training", "validation") for kind in ("loss", "error")}
    assert found.row_scores.keys() == names | {"generalisation_gap"}
    for name, samples in found.row_scores.items():
        assert np.mean([np.mean(y) for y in samples]) == pytest.approx(
            found.metrics[name], rel=1e-4, abs=1e-6
        )
        error = sum(np.var(y, ddof=1) / len(y) for y in samples) ** 0.5 / len(samples)
        assert found.metrics[f"{name}_rows_sem"] == pytest.approx(error, rel=1e-4)


def test_equal_requests_are_trained_once(tmp_path: Path) -> None:
    one, twin = objective(tmp_path).evaluate(requests([{}, {"pretrain.lr": 0.1}]))
    assert one.metrics == twin.metrics
    assert [each.cost["images"] for each in (one, twin)] == [STEPS * 16, 0]


def test_only_an_equal_request_needs_no_training(tmp_path: Path) -> None:
    asked, other = requests([{"pretrain.lr": 0.02}, {"pretrain.lr": 0.03}])
    given = objective(tmp_path)
    assert given.early() == frozenset()
    assert given.reused(asked, Request(**asked)) == 1.0
    assert given.reused(asked, other) == 0.0
    assert given.reused(asked, Request(**{**asked, "fidelity": 0.5})) == 0.0
    assert given.reused(asked, Request(**{**asked, "seed": 1})) == 0.0
    (wrong,) = requests([{"pretrain.schedule.decay": "merged"}])
    assert given.reused(wrong, wrong) == 0.0


def test_metrics_and_curves_are_these(tmp_path: Path) -> None:
    result = objective(tmp_path)({"pretrain.weight_decay": 0.5})
    metrics = result.metrics
    scores = {
        "training_loss", "training_error", "validation_loss", "validation_error",
        "generalisation_gap",
    }  # fmt: skip
    assert set(metrics) == scores | {f"{name}_rows_sem" for name in scores} | {
        "tau_frac",
        "probe.norms.weight_norm", "probe.norms.effective_lr_end",
        "probe.norms.effective_lr_peak",
        "probe.sharpness.trace", "probe.sharpness.trace_sem",
        "probe.sharpness.trace_relative", "probe.sharpness.trace_relative_sem",
    }  # fmt: skip
    gap = metrics["validation_loss"] - metrics["training_loss"]
    assert metrics["generalisation_gap"] == gap
    norm = metrics["probe.norms.weight_norm"]
    assert metrics["probe.norms.effective_lr_peak"] == pytest.approx(0.1 / norm)
    assert metrics["probe.norms.effective_lr_end"] == pytest.approx(1e-4 / norm)
    assert metrics["tau_frac"] == pytest.approx(1 / (0.1 * 0.5 * STEPS))
    assert 0 < metrics["validation_error"] <= 1
    steps = {name: [point[0] for point in points] for name, points in result.curves.items()}
    assert steps["validation_loss"] == steps["probe.sharpness.trace"] == [4, 8]
    assert steps["batch_loss"] == steps["lr"] == list(range(1, 9))
    assert [rate for _, rate in result.curves["lr"]] == pytest.approx([0.1] * 4 + [1e-4] * 4)
    assert result.curves["probe.sharpness.trace"][-1][1] == metrics["probe.sharpness.trace"]


def test_weights_without_rate_shrink_by_decay_alone(tmp_path: Path) -> None:
    """A rate too small to move the weights, and a decay whose product with it is a tenth."""
    flat = Schedule(decay_frac=0.0)
    run = objective(tmp_path, recipe(lr=1e-9, schedule=flat))
    plain, decayed = run.evaluate(requests([{}, {"pretrain.weight_decay": 1e8}]))
    before, after = (each.metrics["probe.norms.weight_norm"] for each in (plain, decayed))
    assert after / before == pytest.approx(0.9**STEPS, rel=1e-5)


def test_probes_that_are_not_asked_for_are_not_measured_and_change_nothing(tmp_path: Path) -> None:
    run = objective(tmp_path)
    full, bare = run.evaluate(requests([{}, {"probes.run": []}]))
    plain = {name: v for name, v in full.metrics.items() if not name.startswith("probe.")}
    assert bare.metrics.keys() == plain.keys()
    for name, value in plain.items():
        assert bare.metrics[name] == pytest.approx(value, rel=1e-4)


def test_a_lane_that_diverges_fails_with_its_step_and_the_others_go_on(tmp_path: Path) -> None:
    asked = requests([{}, {"pretrain.lr": 1e38}, {"pretrain.lr": 300.0}])
    fine, lost, hopeless = objective(tmp_path).evaluate(asked)
    close(fine, objective(tmp_path / "alone")({}))
    assert lost.failure is not None
    assert lost.failure.startswith("training diverged: loss not finite at step 2")
    assert lost.metrics == {}
    assert all(math.isfinite(value) for _, value in lost.curves["batch_loss"])
    assert hopeless.failure is not None
    assert "times that of guessing; lower pretrain.lr" in hopeless.failure


def test_a_shorter_fidelity_is_a_shorter_run_and_a_warmup_may_not_fit(tmp_path: Path) -> None:
    warm = recipe(schedule=Schedule(warmup_steps=5, decay_frac=0.0))
    half, whole = objective(tmp_path, warm).evaluate(
        [Request(params={}, fidelity=f, seed=0) for f in (0.5, 1.0)]
    )
    assert half.failure is not None
    assert half.failure.startswith("pretrain.schedule.warmup_steps is 5 but the run has 4 steps")
    assert whole.failure is None
    short = objective(tmp_path)({}, fidelity=0.25)
    assert [step for step, _ in short.curves["batch_loss"]] == [1, 2]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"pretrain.wd": 1.0}, "did you mean pretrain.weight_decay"),
        ({"pretrain.seq_len": 4}, "unknown hyperparameter 'pretrain.seq_len'"),
        ({"pretrain.lr": 0.0}, "pretrain.lr must be above 0, got 0.0"),
        ({"pretrain.lr": "big"}, "pretrain.lr must be a number, got 'big'"),
        ({"pretrain.batch_size": 1}, "pretrain.batch_size must be at least 2, got 1"),
        ({"pretrain.weight_decay.policy": "alpha_decay"}, "must be one of uniform, awd, cautious"),
        ({"pretrain.weight_decay.multipliers.norm": 0.0}, "must all be 1 for a classifier"),
        ({"pretrain.schedule.decay": "merged"}, "must be 'trained' for a classifier"),
        ({"model.depths": [1]}, "model.widths and model.depths must name the same stages"),
        ({"probes.run": ["norms", "norms"]}, "must name each probe once"),
        ({"images": {"kind": "mnist"}}, "images"),
        (
            {"pretrain.weight_decay": 0.1, "pretrain.weight_decay.value": 0.1},
            "name the same hyperparameter",
        ),
    ],
)
def test_params_that_cannot_be_set_are_refused_in_a_sentence(
    params: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        objective(tmp_path).check(params)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrain.batch_size": 65}, "batch_size is 65 but there are 64 training images"),
        ({"images": {"kind": "cifar10", "folder": "nowhere"}}, "'nowhere' holds no CIFAR-10"),
        ({"model.widths": [2] * 5, "model.depths": [1] * 5}, "has 5 stages"),
    ],
)
def test_what_only_the_data_tells_is_refused_when_it_is_measured(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        objective(tmp_path).evaluate(requests([changes]))


def test_fidelity_has_bounds(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fidelity must be in \(0, 1\], got 0"):
        objective(tmp_path)({}, fidelity=0)


def test_a_recipe_makes_the_round_trip_and_names_its_paths() -> None:
    chosen = VisionRecipe(images=Cifar10(folder="cifar"), pretrain=Training(weight_decay=0.3))
    assert VisionRecipe.from_dict(chosen.to_dict()) == chosen
    paths = chosen.paths()
    assert paths["pretrain.weight_decay.value"] == 0.3
    assert paths["images.folder"] == "cifar"
    assert VisionObjective(chosen).values()["pretrain.weight_decay"] == 0.3
    changed = chosen.with_params({"pretrain.weight_decay": 0.5, "model.widths.0": 4})
    assert changed.pretrain.weight_decay.value == 0.5
    assert changed.model.widths == (4, 16, 32)


def test_a_key_knows_the_recipe_and_the_seed_and_a_program_only_what_lanes_share() -> None:
    base = Job(recipe(), 0, STEPS, "cpu")
    others = {
        "seed": Job(recipe(), 1, STEPS, "cpu"),
        "rate": Job(recipe(lr=0.3), 0, STEPS, "cpu"),
        "momentum": Job(recipe(beta1=0.9), 0, STEPS, "cpu"),
        "batch": Job(recipe(batch_size=8), 0, STEPS, "cpu"),
        "steps": Job(recipe(), 0, 4, "cpu"),
        "optimizer": Job(recipe(optimizer="adamw"), 0, STEPS, "cpu"),
    }
    together = {name for name, job in others.items() if job.program_key() == base.program_key()}
    assert together == {"seed", "rate", "momentum"}


def test_adamw_and_a_policy_run_too(tmp_path: Path) -> None:
    run = objective(tmp_path, recipe(optimizer="adamw", lr=3e-3))
    plain, cautious = run.evaluate(
        requests([{"pretrain.weight_decay.policy": each} for each in ("uniform", "cautious")])
    )
    assert plain.failure is cautious.failure is None
    start = math.log(10)
    assert plain.curves["batch_loss"][-1][1] < start


def test_an_exception_of_the_listener_stops_the_work(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    told: list[dict[str, Any]] = []

    def listen(event: dict[str, Any]) -> None:
        if "preparing" not in event:
            told.append(event)
            raise Stop

    with pytest.raises(Stop):
        objective(tmp_path).evaluate(requests([{}]), listen)
    assert {"stage", "step", "steps", "lanes", "images_per_s", "done_frac"} <= told[0].keys()
    result = objective(tmp_path)({})
    assert result.cost["images_reused"] == 0


def test_what_is_not_finite_in_the_end_leaves_no_metric() -> None:
    measured = Measured()
    for step, value in ((1, 2.0), (2, 3.0), (3, math.inf)):
        measured.note("trace", step, value)
    assert measured.metrics == {}
    assert measured.curves == {"trace": [[1.0, 2.0], [2.0, 3.0]]}


def test_export_is_refused_with_the_reason(tmp_path: Path) -> None:
    asked = Request(params={}, fidelity=1.0, seed=0)
    with pytest.raises(ValueError, match="an image classifier is not exported"):
        VisionObjective(VisionRecipe()).export(asked, tmp_path)


def test_a_warmup_by_its_share_is_the_stage_of_as_many_steps() -> None:
    steps, frac, other = (
        Job(recipe(schedule=Schedule(**given)), 0, STEPS, "cpu")
        for given in ({"warmup_steps": 2}, {"warmup_frac": 0.25}, {"warmup_frac": 0.5})
    )
    data = prepare_images(Digits(train_rows=64), "cpu")
    assert (steps.lr == frac.lr).all()
    assert steps.key(data) == frac.key(data) != other.key(data)


def test_a_warmup_longer_than_the_whole_run_is_refused_when_the_objective_is_made(
    tmp_path: Path,
) -> None:
    with pytest.raises(
        ValueError, match=r"^pretrain\.schedule\.warmup_steps is 9 but the run has 8"
    ):
        objective(tmp_path, recipe(schedule=Schedule(warmup_steps=9)))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"model.widths": [4] * 5, "model.depths": [1] * 5}, "has 5 stages, each of which but"),
        (
            {"model.widths": [1, 2], "model.layer": "bottleneck"},
            "must be at least 4 with model.layer 'bottleneck'",
        ),
        ({"pretrain.batch_size": 65}, "is 65 but there are 64 training images"),
        ({"pretrain.schedule.warmup_steps": 99}, "warmup"),
        ({"images": {"kind": "cifar10", "folder": "nowhere"}}, "holds no CIFAR-10"),
    ],
)
def test_what_does_not_fit_the_images_is_found_before_anything_is_trained(
    params: dict[str, Any], message: str, tmp_path: Path
) -> None:
    tried = objective(tmp_path)
    tried.preflight(requests([{}, {"pretrain.lr": 0.02}]))
    with pytest.raises(ValueError, match=message):
        tried.preflight(requests([{}, params]))
    assert not list(tmp_path.glob("vision/*"))
