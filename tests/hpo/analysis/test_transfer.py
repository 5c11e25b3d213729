"""Rules of transfer against the papers' own numbers, and `hpo transfer`."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from typing import Any

import pytest

from hpo.analysis import transfer
from hpo.analysis.transfer import Scale
from hpo.cli import main
from hpo.cli import transfer as transfer_command
from hpo.core import metrics as wording
from hpo.core.trial import Run
from hpo.front.front import front
from hpo.report.results import Results
from hpo.storage import run_folder
from objectives import PlasticityObjective, Recipe
from tests.hpo import toy
from tests.hpo.cli.test_main import complaint

RECIPE = PlasticityObjective(Recipe()).describe()


STEPS, BATCH, TPP = 400, 16 * 64, 2.0


def trial(number: int, base_loss: float = 3.5, gain: float = 0.2, **params: Any) -> Any:
    """A trial of the default recipe with these params, and the timescale it would have."""
    decay = params.get("pretrain.weight_decay", 0.1)
    lr = params.get("pretrain.lr", 3e-3)
    tau = {"tau_frac": 1 / (lr * decay * STEPS)} if decay else {}
    metrics = {"tokens_per_param": TPP, **tau}
    return toy.trial(number, base_loss, gain, params=params, metrics=metrics)


def run(*trials: Any, recipe: dict[str, Any] | None = None) -> Run:
    return toy.run(list(trials), reproduce={"study": {"objective": recipe or RECIPE}})


def advice(run: Run, target: Scale, number: int = 0) -> dict[str, transfer.Advice]:
    proxy = transfer.read_proxy(run, run.trials[number])
    return {each.rule: each for each in transfer.advise(proxy, target)}


def test_power_lines_gives_the_papers_numbers() -> None:
    """papers.md 1.2: tau 0.224 at 20 tokens a parameter, and decay 1.9, 1.17, 0.78 of its sizes."""
    sizes = {  # parameters: peak rate, sequences of 2048 a step, decay
        0.5e9: (2.5e-4, 512, 1.9), 1e9: (2e-4, 512, 1.17), 4e9: (1.5e-4, 1024, 0.78),
    }  # fmt: skip
    for params, (lr, batch, decay) in sizes.items():
        target = Scale(params=params, tokens=20 * params, batch=batch * 2048.0, lr=lr)
        found = advice(run(trial(0)), target)["power_lines"]
        assert found.tau == pytest.approx(0.224, abs=5e-4)
        assert found.decay == pytest.approx(decay, rel=0.02)


def test_more_tokens_a_parameter_lower_the_decay_as_the_law_says() -> None:
    """papers.md 6: from 20 to 140 at fixed rate, batch and parameters the decay falls to 0.40."""
    decays = [
        advice(run(trial(0)), Scale(params=1e9, tokens=tpp * 1e9, batch=1e6, lr=2e-4))
        for tpp in (20, 140)
    ]
    for rule in ("power_lines", "power_lines_slope"):
        few, many = (found[rule].decay for found in decays)
        assert many / few == pytest.approx(7 ** (0.527 - 1))  # type: ignore[operator]
        assert many / few == pytest.approx(0.40, abs=5e-3)  # type: ignore[operator]


@pytest.mark.parametrize("tokens", [1e9, 7e10])
@pytest.mark.parametrize("batch", [5e5, 4e6])
@pytest.mark.parametrize("lr", [1e-4, 3e-3])
def test_each_rule_keeps_what_it_says_it_keeps(tokens: float, batch: float, lr: float) -> None:
    record = run(trial(0, **{"pretrain.weight_decay": 0.3}))
    proxy = transfer.read_proxy(record, record.trials[0])
    target = Scale(params=1e9, tokens=tokens, batch=batch, lr=lr)
    found = advice(record, target)
    assert found["carry_over"].decay == pytest.approx(0.3)
    assert found["tau_share"].tau == proxy.tau == pytest.approx(1 / (3e-3 * 0.3 * STEPS))
    for each in found.values():
        assert each.decay is not None
        assert target.tau(each.decay) == pytest.approx(each.tau)


def test_at_the_proxys_own_size_the_rules_that_read_it_change_nothing() -> None:
    record = run(trial(0, **{"pretrain.weight_decay": 0.3}))
    proxy = transfer.read_proxy(record, record.trials[0])
    found = advice(record, proxy.scale)
    for rule in ("tau_share", "power_lines_slope", "carry_over"):
        assert found[rule].decay == pytest.approx(0.3)
    assert proxy.scale.tokens == STEPS * BATCH
    assert proxy.scale.tokens_per_param == pytest.approx(TPP)
    assert {ratio for *_, ratio in transfer.ratios(proxy.scale, proxy.scale).values()} == {1.0}


def test_without_decay_the_timescale_has_no_end() -> None:
    found = advice(run(trial(0, **{"pretrain.weight_decay": 0.0})), Scale(
        params=1e9, tokens=2e10, batch=1e6, lr=1e-3))  # fmt: skip
    for rule in ("tau_share", "power_lines_slope", "carry_over"):
        assert (found[rule].decay, found[rule].tau) == (0.0, math.inf)
    assert found["power_lines"].decay > 0  # type: ignore[operator]


def test_a_decay_without_a_timescale_leaves_only_the_law_that_does_not_read_it() -> None:
    one = toy.trial(0, 3.5, 0.2, metrics={"tokens_per_param": 2.0}, params={
        "pretrain.weight_decay": 1e-5, "pretrain.weight_decay.coupling": "l2"})  # fmt: skip
    target = Scale(params=1e9, tokens=2e10, batch=1e6, lr=1e-3)
    proxy = transfer.read_proxy(run(one), one)
    found = advice(run(one), target)
    assert {rule for rule, each in found.items() if each.decay is None} == {
        "tau_share", "power_lines_slope", "carry_over"}  # fmt: skip
    assert "no timescale" in " ".join(transfer.warnings(proxy, target))
    assert "Adam with L2" in " ".join(proxy.notes)


def test_a_rate_that_followed_another_run_is_reported() -> None:
    plain, following = trial(0), trial(1, **{"pretrain.effective_lr_of.value": 0.3})
    assert "another decay" not in " ".join(transfer.read_proxy(run(plain), plain).notes)
    assert "another decay" in " ".join(transfer.read_proxy(run(following), following).notes)


def test_use_outside_of_what_a_law_was_fitted_on_is_reported() -> None:
    one = trial(0)
    proxy = transfer.read_proxy(run(one), one)
    large = " ".join(transfer.warnings(proxy, Scale(params=7e9, tokens=1e11, batch=1e6, lr=1e-3)))
    assert "the large run has 7e+09 parameters" in large
    assert "the proxy has 2.05e+05 parameters" in large
    assert "linear decay to zero" in large


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Run:
    record = run(
        trial(0, 3.50, 0.20), trial(1, 3.55, 0.30, **{"pretrain.weight_decay": 1.0}),
        trial(2, 3.90, 0.10), trial(3, 3.80, 0.33, **{"pretrain.schedule.decay_frac": 0.0}),
        toy.trial(4, math.nan, math.nan, state="failed", failure="lost"),
    )  # fmt: skip
    monkeypatch.setattr(run_folder, "find_run", lambda *given: None)
    monkeypatch.setattr(run_folder, "read", lambda place: record)
    return record


LARGE = ["--params", "1B", "--tokens", "20B", "--batch", "256", "--seq-len", "2048", "--lr", "1e-3"]


def test_the_front_and_the_knee_stand_under_each_rule(
    recorded: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["transfer", "toy", "--trial", "front", *LARGE]) == 0
    printed = capsys.readouterr().out
    for part in (*transfer.RULES, "#1*", "#3", "hold the rate to the end", "10.00%"):
        assert part in printed
    assert "4.88e4" in printed


@pytest.mark.parametrize(
    ("recorded", "params", "frac"),
    [
        ({"warmup_steps": 40}, {}, 0.1),  # from before there were shares
        ({"warmup_steps": None, "warmup_frac": 0.25}, {}, 0.25),
        ({"warmup_steps": None, "warmup_frac": None}, {}, 0.0),
        ({"warmup_steps": 40, "warmup_frac": None}, {"warmup_frac": 0.2}, 0.2),
        ({"warmup_steps": None, "warmup_frac": 0.25}, {"warmup_steps": 20}, 0.05),
        ({"warmup_steps": None, "warmup_frac": 0.25}, {"warmup_steps": None}, 0.25),
    ],
)
def test_a_warmup_goes_over_as_its_share_of_the_run(
    recorded: dict[str, Any], params: dict[str, Any], frac: float
) -> None:
    recipe = copy.deepcopy(RECIPE)
    schedule = recipe["recipe"]["pretrain"]["schedule"]
    for name in ("warmup_steps", "warmup_frac"):
        del schedule[name]
    schedule |= recorded
    one = trial(0, **{f"pretrain.schedule.{name}": value for name, value in params.items()})
    assert transfer.read_proxy(run(one, recipe=recipe), one).schedule.warmup_frac == frac


def test_json_has_the_documented_keys(recorded: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["transfer", "toy", "--json", *LARGE]) == 0
    data = json.loads(capsys.readouterr().out)
    assert list(data) == ["run", "target", "rules", "trials"]
    (knee,) = data["trials"]
    assert (knee["trial"], knee["knee"]) == (1, True)
    assert list(knee) == [
        "trial", "knee", "proxy", "weight_decay", "tau_frac", "schedule", "advice", "ratios",
        "notes", "warnings",
    ]  # fmt: skip
    assert data["target"] == {"params": 1e9, "tokens": 2e10, "batch": 524288.0, "lr": 1e-3}
    assert knee["advice"].keys() == data["rules"].keys() == transfer.RULES.keys()
    assert knee["schedule"]["warmup_steps"] == round(0.1 * 2e10 / 524288)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--trial", "9"], "has no trial 9"),
        (["--trial", "4"], "trial 4 failed (lost)"),
        (["--tokens", "1M", "--batch", "2M"], "--tokens must be at least a step's"),
    ],
)
def test_wrong_usage_is_exit_code_2(
    arguments: list[str], said: str, recorded: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["transfer", "toy", *LARGE, *arguments]) == 2
    assert said in complaint(capsys)


SIZES = ["--params", "1B", "--tokens", "20B", "--lr", "1e-3"]


@pytest.mark.parametrize(
    ("batch", "tokens"),
    [
        (["--batch", "256", "--seq-len", "2048"], 524288.0),
        (["--batch", "2m"], 2e6),
        (["--batch-tokens", "2048"], 2048.0),
        (["--batch", "1", "--seq-len", "64"], 64.0),
    ],
)
def test_a_batch_is_of_sequences_or_of_tokens(
    batch: list[str], tokens: float, recorded: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["transfer", "toy", "--json", *SIZES, *batch]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["target"]["batch"] == tokens
    few = [each for each in data["trials"][0]["warnings"] if "tokens a step are few" in each]
    assert bool(few) == (tokens < 1e4)


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (["--batch", "256"], "--batch 256 counts sequences or tokens? Add --seq-len"),
        (["--batch-tokens", "2M", "--seq-len", "2048"], "--seq-len has no effect"),
    ],
)
def test_a_batch_whose_unit_is_not_clear_is_asked_for(
    batch: list[str], said: str, recorded: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["transfer", "toy", *SIZES, *batch]) == 2
    assert said in complaint(capsys)


def test_more_steps_than_anybody_trains_are_questioned() -> None:
    one = trial(0)
    proxy = transfer.read_proxy(run(one), one)
    many = transfer.warnings(proxy, Scale(params=1e9, tokens=2e13, batch=1e4, lr=1e-3))
    assert any("2e+09 steps are many" in each for each in many)
    few = transfer.warnings(proxy, Scale(params=1e9, tokens=2e10, batch=1e6, lr=1e-3))
    assert not any("steps are" in each for each in few)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "warm up over 10.00% (3815 steps), then fall by cosine to 0.1 of the peak over the"),
        (
            {"decay_frac": 0.5},
            "(3815 steps), hold the rate, then fall by cosine to 0.1 of the peak",
        ),
        ({"decay_frac": 0.0}, "then hold the rate to the end"),
        ({"warmup_steps": 267}, "over 66.75% (25463 steps), then fall by cosine to 0.1 of the pe"),
        ({"warmup_steps": 400}, "over 100.00% (38147 steps), then hold the rate to the end"),
    ],
)
def test_the_parts_of_a_schedule_make_a_whole_run(
    params: dict[str, Any],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {f"pretrain.schedule.{name}": value for name, value in params.items()}
    record = run(trial(0, **given))
    monkeypatch.setattr(run_folder, "find_run", lambda *given: None)
    monkeypatch.setattr(run_folder, "read", lambda place: record)
    assert main.main(["transfer", "toy", "--trial", "0", *LARGE]) == 0
    printed = capsys.readouterr().out
    assert said in printed
    assert "last 100%" not in printed
    assert ("needs a smaller share" in printed) == ("warmup_steps" in params)


def test_a_warmup_that_is_a_share_stays_one() -> None:
    recipe = PlasticityObjective(Recipe()).describe()
    recipe["recipe"]["pretrain"]["schedule"] |= {"warmup_steps": 0, "warmup_frac": 0.02}
    one = trial(0)
    assert transfer.read_proxy(run(one, recipe=recipe), one).schedule.warmup_frac == 0.02


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "many", "", "B", "1e999"])
@pytest.mark.parametrize("option", ["--params", "--tokens", "--batch", "--seq-len", "--lr"])
def test_sizes_are_numbers_above_0(option: str, text: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main.main(["transfer", "toy", *LARGE, f"{option}={text}"])
    assert caught.value.code == 2


@pytest.mark.parametrize(
    "record",
    [
        toy.mixed(),
        run(toy.trial(0, 3.5, 0.2)),
        toy.run([trial(0)], reproduce={"study": {"objective": {"recipe": {"pretrain": {}}}}}),
    ],
)
def test_a_record_without_sizes_is_refused(record: Run) -> None:
    with pytest.raises(ValueError, match="does not tell trial 0's tokens"):
        transfer.read_proxy(record, record.trials[0])


def test_the_table_shows_a_settings_means_over_seeds_as_the_front_does() -> None:
    seen = [
        dataclasses.replace(
            trial(2 * seed + point, 3.4 + point + shift, 0.2 + point + shift),
            seed=seed, replicate_of=point if seed else None,
        )
        for seed, shift in enumerate((0.0, 0.06, -0.03)) for point in range(2)
    ]  # fmt: skip
    found = run(*seen)
    proxy = transfer.read_proxy(found, found.trials[0])
    table = transfer_command._table(
        Results(found), [proxy], Scale(params=1e9, tokens=2e10, batch=1e6, lr=1e-3)
    )
    cells = {str(each.header): str(next(iter(each.cells))) for each in table.columns}
    (point,) = [each for each in front(found).points if each.number == 0]
    assert cells["gain"] == wording.measured(point, "gain")
    assert cells["gain"] != wording.measured(found.trials[0], "gain")
    assert cells["seeds"] == "3"
