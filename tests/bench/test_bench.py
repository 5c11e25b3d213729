"""The benches run and give the shape that README's tables are made from; no speed is judged."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from hpo.core.objective import Request
from objectives.config.probes import ProbeName
from objectives.config.recipe import Recipe
from tests.bench import (
    calibration,
    control,
    decay,
    devices,
    lanes,
    lora,
    probes,
    race,
    race_arms,
    stages,
    tables,
    throughput,
)
from tests.bench import figures as bench_figures
from tests.bench.__main__ import BENCHES, main
from tests.bench.faults import run
from tests.bench.figures import Figure, Options
from tests.bench.race_arms import Raced, Setting
from tests.bench.search_problems import Analytic
from tests.objectives import toy

QUICK = Options(quick=True)


@pytest.mark.parametrize(
    ("goal", "value", "met"),
    [
        (">= 4", 4.0, True), (">= 4", 3.99, False), ("<= 0.01", 0.01, True),
        ("<= 0.01", 0.02, False), ("= 0", 0.0, True), ("= 0", 1.0, False), (None, 1.0, None),
    ],
)  # fmt: skip
def test_a_goal_is_a_comparison(goal: str | None, value: float, met: bool | None) -> None:
    assert bench_figures.is_met(Figure(value=value, unit="x", goal=goal)) is met


def test_a_mean_has_the_standard_error_of_its_repeats() -> None:
    figure = bench_figures.mean_of([1.0, 2.0, 3.0], "x")
    assert (figure.value, figure.n) == (2.0, 3)
    assert figure.sem == pytest.approx(1 / math.sqrt(3))
    assert bench_figures.mean_of([1.0], "x").sem is None


def test_lanes_are_timed_beside_a_plain_loop() -> None:
    found = lanes.run(QUICK)
    assert {name.split(".")[-1] for name in found} >= {
        "tokens_per_s_K1", "tokens_per_s_K2", "memory_gib_K2", "trials_per_hour_K2",
        "tokens_per_s_plain", "K1_over_plain_ratio",
    }  # fmt: skip
    assert all(figure.value > 0 for figure in found.values())


def test_every_probe_has_its_seconds_and_its_share_of_a_trial() -> None:
    found = probes.run(QUICK)
    for name in get_args(ProbeName):
        share = found[f"{name}.seconds"].value / found["trial_s"].value
        assert found[f"{name}.share"].value == pytest.approx(share)
        assert share > 0
    parts = [found[f"{name}.share"].value for name in Recipe().probes.run]
    assert found["default.share"].value == pytest.approx(sum(parts))


def test_bases_are_set_beside_a_control_without_pretraining() -> None:
    found = control.run(Options(quick=True, only="full", repeats=2))
    worth = found["full.code_module.over_scratch"]
    after, scratch = (found[f"full.code_module.{name}"].value for name in ("after", "scratch"))
    assert worth.value == pytest.approx(after - scratch)
    assert worth.n == 2


def test_alpha_decay_is_timed_at_its_looks_and_between_them() -> None:
    found = decay.run(QUICK)
    assert {name.split(".")[-1] for name in found} == {
        "step_s", "look_s", "look_share", "between_looks_share",
    }  # fmt: skip
    assert found["llama-0.2m.look_s"].value > 0


def test_calibration_holds_the_front_against_the_truth() -> None:
    found = calibration.run(Options(quick=True, only="few"))
    assert found["studies"].value == 8
    bins = [name for name in found if name.startswith("belong_of")]
    assert len(bins) == len(calibration.EDGES) - 1
    assert sum(found[name].n for name in bins) == 8 * calibration.NUM_POINTS
    assert found["belong_of_0_to_5"].value < 10 < 80 < found["belong_of_95_to_100"].value
    assert all(figure.goal is None for figure in found.values())
    for problem in calibration.PROBLEMS.values():
        assert (problem.front < problem.reference).all()


def test_throughput_times_the_controller_with_workers_that_answer_out_of_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(throughput, "QUICK_TRIALS", 20)
    found = throughput.run(Options(quick=True, only="workers"))
    for workers in throughput.WORKERS:
        assert found[f"workers_{workers}.ms_per_trial"].n == 20
        assert found[f"workers_{workers}.last_tenth_ms"].n == 2
    objective = Analytic(name="zdt1")
    with throughput.Simulated(objective, 8) as executor:
        params = objective.values()
        asked = [Request(params=dict(params), fidelity=1.0, seed=seed) for seed in range(8)]
        with executor.changed:  # none is answered before all are there
            due = [executor.submit([each], None) for each in asked]
            ends = [at for at, place, _, _ in sorted(executor.due, key=lambda each: each[1])]
        assert all(future.result(10) for future in due)
    assert ends != sorted(ends)


def test_throughput_times_an_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "ASKED_AT", (60,))
    found = throughput.run(Options(quick=True, only="ask"))
    assert {name.split(".")[1] for name in found} == {"seconds", "longest_s", "after_a_start_s"}
    assert found["ask_60.seconds"].goal is None  # a smoke check judges no speed
    assert 0 < found["ask_60.seconds"].value <= found["ask_60.longest_s"].value


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    ["worker_killed", "clock_jump", "disk_full", "network_cut", "checkpoint_damaged",
     "row_damaged", "note_damaged", "versions_changed", "database_replaced", "entry_damaged",
     "share_damaged"],
)  # fmt: skip
def test_faults_lose_nothing_record_nothing_twice_and_nothing_wrong(kind: str) -> None:
    of_store = kind in ("checkpoint_damaged", "entry_damaged", "share_damaged")
    found = run.run(Options(quick=True, only=kind, repeats=None if of_store else 2))
    assert found[f"{kind}.faults"].value >= 2
    assert all(bench_figures.is_met(figure) is not False for figure in found.values())
    noticed = found.get(f"{kind}.noticed")  # what is never read proves nothing
    assert noticed is None or noticed.value > 0


@pytest.mark.slow
def test_stages_write_their_figures_as_json(tmp_path: Path) -> None:
    path = tmp_path / "stages.json"
    assert main(["stages", "--quick", "--json", str(path)]) == 0
    data = json.loads(path.read_text(encoding="utf-8"))
    assert list(data) == ["name", "machine", "versions", "commit", "figures"]
    assert all(
        list(figure) == ["value", "sem", "n", "unit", "goal"] for figure in data["figures"].values()
    )
    assert data["figures"]["tokens_saved_ratio"]["value"] >= 4


def test_the_stages_grid_holds_nine_schedules_at_three_horizons() -> None:
    waves = [stages.jobs(stages.RECIPE, fidelity, "cpu") for fidelity in stages.FIDELITIES]
    assert [len(wave) for wave in waves] == [9, 9, 9]
    assert [wave[0].steps for wave in waves] == [100, 200, 400]


def test_an_unknown_setting_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lanes", "--quick", "--only", "nothing"]) == 2
    assert "--only must be one of llama-0.2m" in capsys.readouterr().err
    assert list(BENCHES)[:4] == ["peer", "lanes", "stages", "kills"]


def raced(arm: str, *volumes: float) -> race.Part:
    """Fronts of one point each, whose first loss falls as the volume grows."""
    fronts = [np.array([[1 - volume, 0.0]]) for volume in volumes]
    return race.Part(arm, len(volumes), fronts)


def test_a_race_compares_the_times_at_which_means_reach_the_better_peers_last_volume() -> None:
    rising = [(place + 1) / race.TIMES for place in range(race.TIMES)]
    flat = [0.5] * race.TIMES
    parts = [
        raced("this", *[min(1.0, 4 * y) for y in rising]),
        raced("this", *[min(1.0, 2 * y) for y in rising]),
        raced("optuna_gp", *[0.6 * y for y in rising]),
        raced("optuna_tpe", *[0.4 * y for y in rising]),
        raced("random", *flat),
    ]
    found = race.compare(parts, Options(quick=False))
    # the mean of this arm, 3 y up to y = 1/4, is at 0.6 in the fourth of twenty steps
    assert found["this.reaches_optuna_gp"].value == pytest.approx(0.2)
    assert found["this.reaches_optuna_gp"].goal == race.THIS_GOAL
    assert found["optuna_gp.reaches_optuna_gp"].value == 1.0
    assert found["optuna_tpe.reaches_optuna_gp"].value > 1
    assert found["random.reaches_optuna_gp"].value > 1
    assert found["this.reaches_random"].value == pytest.approx(0.2)
    shares = race.volumes(parts)
    assert shares["this"][0][-1] == max(curve[-1] for each in shares.values() for curve in each)


def test_parts_of_another_race_are_refused(tmp_path: Path) -> None:
    setting = Setting(Recipe(), 60.0, tmp_path)
    race._write_part(tmp_path, setting, "this", 0, Raced([[]], 0))
    path = tmp_path / "this-0.json"
    assert race._read(path, setting)["num_trials"] == 0
    with pytest.raises(ValueError, match=r"this-0.json was raced with another recipe .* as 60;"):
        race._read(path, Setting(Recipe(), 61.0, tmp_path))


def test_a_race_takes_text_and_a_task_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("some text", encoding="utf-8")
    (tmp_path / "rows").mkdir()
    for split in ("train", "test"):
        rows = [json.dumps({"prompt": f"{split} {n}", "completion": "b"}) for n in range(30)]
        (tmp_path / "rows" / f"{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    options = Options(quick=True, corpus=tmp_path / "text.txt", task=tmp_path / "rows")
    recipe = race._recipe(options)
    assert recipe.to_dict()["corpus"]["sources"][0]["paths"] == [str(tmp_path / "text.txt")]
    assert [task.name for task in recipe.finetune.tasks] == ["rows"]


@pytest.mark.slow
def test_all_arms_race_and_what_is_there_is_not_raced_again(tmp_path: Path) -> None:
    quick = Options(quick=True, parts=tmp_path)
    found = race.run(quick)
    assert {name.split(".")[0] for name in found} == set(race_arms.ARMS)
    assert all(found[f"{arm}.trials"].value == 2 for arm in race_arms.ARMS)
    assert max(found[f"{arm}.volume_at_100"].value for arm in race_arms.ARMS) > 0
    said: list[str] = []
    again = race.run(Options(quick=True, parts=tmp_path, say=said.append))
    assert again == found
    assert said == ["judging 0 points of 0 parts"]


def test_a_clock_counts_the_steps_between_what_it_was_told_after_the_first_ones() -> None:
    clock = devices.Clock(warm=3, told=[(3, 10.0), (5, 12.0), (9, 13.0)])
    assert clock.steps_per_s == 2.0
    for step in (1, 2, 4):
        clock({"step": step, "loss": torch.zeros(1)})
    assert [step for step, _ in clock.told] == [3, 5, 9, 4]


def test_devices_are_compared_where_there_are_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert main(["devices", "--device", "cuda"]) == 2
    assert "needs at least 2 GPUs, found 1" in capsys.readouterr().err


def test_a_table_names_command_machine_and_commit() -> None:
    result = {
        "name": "lanes",
        "machine": {"cpu": "a processor", "cores": 2, "threads": 1, "gpu": None},
        "commit": "0123abc",
        "versions": {"torch": "2.13.0"},
        "figures": {"speed": {"value": 1234.5, "sem": 6.0, "n": 3, "unit": "x", "goal": ">= 4"}},
    }
    text = tables.table(result)
    assert "| speed | 1234 x | 6 | 3 | >= 4 |" in text
    assert text.endswith(
        "`python -m tests.bench lanes`; a processor, 2 cores, 1 threads; commit 0123abc; "
        "torch 2.13.0."
    )


@pytest.mark.parametrize(
    ("value", "text"), [(1081, "1081"), (1081.5, "1.08e+03"), (0.975, "0.975")]
)
def test_counts_are_shown_whole(value: float, text: str) -> None:
    assert tables.shown(value) == text


def test_a_wide_table_has_a_row_for_what_shares_a_name_up_to_its_last_part() -> None:
    def figure(value: float, sem: float | None, goal: str | None = None) -> dict[str, object]:
        return {"value": value, "sem": sem, "n": 5, "unit": "of best", "goal": goal}

    figures = {
        "park.noise_0.0.ours.at_50": figure(0.97531, 0.00391, ">= 0.85"),
        "park.noise_0.15.ours.at_50": figure(0.25, None),
        "park.noise_0.15.ours.overstated": figure(-3.0, 2.61),
    }
    assert tables.wide(figures) == [
        "| | at_50 | overstated | n |",
        "|---|---|---|---|",
        "| park.noise_0.0.ours | 0.975 ± 0.0039 (goal >= 0.85) |  | 5 |",
        "| park.noise_0.15.ours | 0.25 | -3 ± 2.6 | 5 |",
    ]


@pytest.mark.parametrize(("one", "other"), [([1.0, 2.0, 4.0], [3.0, 9.0]), ([1.0], [5.0])])
def test_two_parts_of_a_measurement_are_one(one: list[float], other: list[float]) -> None:
    both = bench_figures.mean_of(one + other, "s")
    found = bench_figures.pooled(bench_figures.mean_of(one, "s"), bench_figures.mean_of(other, "s"))
    assert (found.value, found.n) == (pytest.approx(both.value), both.n)
    assert found.sem == pytest.approx(both.sem)


def test_settings_of_lora_are_compared_with_full_fine_tuning_of_the_same_bases(
    tmp_path: Path,
) -> None:
    text = toy.write_jsonl(tmp_path / "text.jsonl", [{"text": each} for each in toy.text(60)])
    (tmp_path / "task").mkdir()
    for place, split in enumerate(("train", "validation", "test")):
        rows = [{"prompt": each[:9], "completion": each[9:20]} for each in toy.text(20, seed=place)]
        toy.write_jsonl(tmp_path / "task" / f"{split}.jsonl", rows)
    only = Options(quick=True, only="rank 8, norms", corpus=text, task=tmp_path / "task")
    found = lora.run(only)
    named = {name.rpartition(".")[0] for name in found}
    assert named == {lora.FULL, lora.ALONE, "rank 8, norms"}
    behind = found["rank 8, norms.behind_full_nats"].value
    full, own = (found[f"{name}.loss_nats"].value for name in (lora.FULL, "rank 8, norms"))
    assert behind == pytest.approx(own - full)
    low, value, high = (
        found[f"rank 8.rank_correlation{end}"].value for end in ("_low", "", "_high")
    )
    assert -1 <= low <= value <= high <= 1


@pytest.mark.parametrize("seed", range(4))
def test_rank_correlation_is_scipys(seed: int) -> None:
    x, y = np.random.default_rng(seed).integers(5, size=(2, 9)).astype(float)
    assert lora.spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
