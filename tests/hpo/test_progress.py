"""What a person sees while a study runs, and what a signal does."""

from __future__ import annotations

import io
import signal

import pytest
from rich.console import Console

from hpo import progress
from hpo.core.format import duration
from hpo.executors import interrupts
from hpo.executors.interrupts import Interrupted
from hpo.progress import Display

STEP = {
    "stage": "pretrain", "step": 20, "steps": 100, "lanes": 3, "loss": 4.56789,
    "tokens_per_s": 12345.6, "done_frac": 0.25,
}  # fmt: skip


def display(terminal: bool = False, trials: int = 12, finished: int = 0) -> Display:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    return Display(console, trials, finished)


def printed(shown: Display) -> str:
    assert isinstance(shown.console.file, io.StringIO)
    return shown.console.file.getvalue()


def test_a_line_names_trials_stage_step_lanes_loss_and_speed() -> None:
    shown = display()
    shown({"wave": [3, 4, 5], "trials": 12, "finished": 3})
    expected = "trials 3-5 of 12 | pretrain | step 20/100 | 3 lanes | loss 4.568 | 12,346 tokens/s"
    assert shown.line(STEP) == expected


def test_a_line_tells_the_speed_in_the_unit_that_is_trained_on() -> None:
    event = {name: value for name, value in STEP.items() if name != "tokens_per_s"}
    assert display().line(event | {"images_per_s": 2500.0}).endswith("| 2,500 images/s")


def test_a_line_leaves_out_what_an_event_does_not_say() -> None:
    shown = display()
    shown({"wave": [7], "finished": 7})
    assert shown.line({"stage": "prepare", "step": 0, "steps": 1}) == "trial 7 of 12 | prepare"


@pytest.mark.parametrize(
    ("finished", "events", "left"),
    [
        (0, [{"wave": [0, 1, 2], "finished": 0}, STEP | {"done_frac": 0.5}], "3m30s left"),
        (3, [{"wave": [3, 4, 5], "finished": 3}, STEP | {"done_frac": 0.5}], "2m30s left"),
        (0, [{"wave": [0, 1, 2], "finished": 0}, {"recorded": [0, 1, 2], "finished": 3}], "1m30s"),
    ],
)
def test_time_left_follows_from_the_pace_of_this_process(
    finished: int, events: list[dict[str, object]], left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """30 s went by; half a wave of three, or a whole one, was done in them, of 12 trials."""
    monkeypatch.setattr(Display, "elapsed_s", 30.0)
    shown = display(finished=finished)
    for event in events:
        shown(event)
    assert f"| {left}" in shown.line(STEP)


def test_done_never_goes_back_within_a_wave() -> None:
    shown = display()
    shown({"wave": [0], "finished": 0})
    shown(STEP | {"done_frac": 0.5})
    shown(STEP | {"done_frac": 0.2})
    assert shown.under_way == {None: 0.5}
    shown({"recorded": [0], "finished": 1})
    assert shown.under_way == {}


def test_without_a_terminal_a_stage_is_a_line() -> None:
    shown = display()
    with shown:
        for stage in ("pretrain", "pretrain", "fine-tune", "pretrain"):
            shown(STEP | {"stage": stage})
    lines = printed(shown).splitlines()
    assert [line.split(" | ")[1] for line in lines] == ["pretrain", "fine-tune", "pretrain"]
    assert "\x1b" not in printed(shown)


def test_without_a_terminal_a_long_stage_gives_signs_of_life() -> None:
    shown = display()
    with shown:
        shown(STEP)
        shown.reported[None] = ("pretrain", -60.0)
        shown(STEP | {"step": 90})
    assert [line.split(" | ")[2] for line in printed(shown).splitlines()] == [
        "step 20/100", "step 90/100",
    ]  # fmt: skip


def test_in_a_terminal_one_line_lives() -> None:
    shown = display(terminal=True)
    with shown:
        shown(STEP)
    assert "loss 4.568" in printed(shown)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [([4], "trial 4 of"), ([5, 3, 4], "trials 3-5 of"), ([14, 3, 5], "trials 3, 5, 14 of")],
)
def test_a_line_names_its_trials_also_where_they_lie_apart(numbers: list[int], said: str) -> None:
    assert display().line(STEP | {"numbers": numbers}).startswith(said)


def test_every_worker_has_a_line_until_it_is_idle() -> None:
    shown = display(terminal=True)
    shown({"wave": [0, 1, 2, 3], "finished": 0})
    shown(STEP | {"worker": "worker 1", "batch": 2, "numbers": [2, 3]})
    shown(STEP | {"worker": "worker 0", "batch": 2, "done_frac": 0.5})
    assert shown.lines["worker 1"].startswith("worker 1 | trials 2-3 of 12 | pretrain")
    assert list(shown.lines) == ["worker 1", "worker 0"]
    assert shown.under_way == {"worker 1": 0.5, "worker 0": 1.0}
    shown({"beat": True, "worker": "worker 1", "batch": 2})
    shown({"idle": True, "worker": "worker 1", "batch": 2})
    assert (list(shown.lines), shown.under_way) == (["worker 0"], {"worker 0": 1.0})


def test_names_that_look_like_markup_stay_text() -> None:
    shown = display()
    with shown:
        shown(STEP | {"stage": "[red]fine-tune[/] x"})
    assert "[red]fine-tune[/] x" in printed(shown)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_raised_from_the_next_event_and_the_handlers_come_back(number: int) -> None:
    before = signal.getsignal(number)
    shown = display()
    with shown:
        shown(STEP)
        signal.raise_signal(number)
        assert "Stopping at the end of this step" in printed(shown)
        with pytest.raises(Interrupted):
            shown(STEP)
    assert signal.getsignal(number) is before


def test_a_second_signal_stops_at_once() -> None:
    with display():
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGINT)


def test_a_signal_that_meets_no_event_stops_after_a_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "GRACE_S", 0.05)
    before = signal.getsignal(signal.SIGALRM)
    with display():
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Interrupted):
            signal.pause()
    assert signal.getsignal(signal.SIGALRM) is before


def test_what_is_kept_after_a_signal_is_kept_to_its_end() -> None:
    with display() as shown:
        signal.raise_signal(signal.SIGTERM)
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= interrupts.GRACE_S
        with pytest.raises(Interrupted):
            shown(STEP)
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_sigterm_interrupts_where_nothing_is_shown_yet() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted), interrupts.interrupts():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (0.4, "0s"), (59.4, "59s"), (59.6, "1m00s"), (200, "3m20s"),
        (3599.6, "1h00m"), (3720, "1h02m"), (90000, "25h00m"),
    ],
)  # fmt: skip
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text
