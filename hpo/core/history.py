"""What was asked of a study's trials and what came, and what a search can decide to ask next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from hpo.core.objective import Value
from hpo.core.trial import Ask, Kind, Trial


@dataclass(frozen=True)
class Begin:
    """Begin a trial."""

    number: int
    params: dict[str, Value]
    seed: int
    fidelity: float
    kind: Kind = "proposed"
    replicate_of: int | None = None
    base_only: bool = False
    planned: int | None = None
    """Index among the study's planned trials; None for another trial."""


@dataclass(frozen=True)
class Continue:
    """Go on with a trial."""

    number: int
    fidelity: float
    base_only: bool = False


Decision: TypeAlias = Begin | Continue


@dataclass
class History:
    """Trials by number.

    What each decision asks for is counted as trials are put, so that a decision takes no longer the
    more trials there are.
    """

    trials: list[Trial] = field(default_factory=list)
    """Changed by `put` alone."""
    num_answers: int = field(default=0, init=False, compare=False)
    num_ended: int = field(default=0, init=False, compare=False)
    kinds: Counter[Kind] = field(default_factory=Counter, init=False, compare=False)
    in_flight: set[int] = field(default_factory=set, init=False, compare=False)
    """Trials that are asked and not answered yet."""
    waves: dict[int, list[Ask]] = field(default_factory=dict, init=False, compare=False)
    """Wave -> its questions."""
    latest: int = field(default=-1, init=False, compare=False)

    def __post_init__(self) -> None:
        for trial in self.trials:
            self._count(trial, 1)
            self._count_asks(trial.asks)

    def put(self, trial: Trial) -> None:
        """A new trial, or a new state of one; its questions stay and new ones come after them."""
        old: tuple[Ask, ...] = ()
        if trial.number == len(self.trials):
            self.trials.append(trial)
        else:
            before = self.trials[trial.number]
            old = before.asks
            assert trial.asks[: len(old)] == old
            self._count(before, -1)
            self.trials[trial.number] = trial
        self._count(trial, 1)
        self._count_asks(trial.asks[len(old) :])

    def _count(self, trial: Trial, sign: Literal[1, -1]) -> None:
        self.num_answers += sign * len(trial.answers)
        self.num_ended += sign * trial.ended
        self.kinds[trial.kind] += sign
        change = set.add if sign == 1 else set.discard
        if trial.in_flight:
            change(self.in_flight, trial.number)

    def _count_asks(self, asks: Iterable[Ask]) -> None:
        for ask in asks:
            self.waves.setdefault(ask.wave, []).append(ask)
            self.latest = max(self.latest, ask.wave)

    def spent(self, name: str) -> float:
        """A cost over all trials."""
        return sum(trial.cost.get(name, 0.0) for trial in self.trials)

    def last_wave(self) -> int:
        """The latest wave that was begun; -1 before the first."""
        return self.latest

    def asked_in(self, wave: int) -> list[Ask]:
        """A wave's questions, in order."""
        return sorted(self.waves.get(wave, ()))

    def unanswered_in(self, wave: int) -> list[int]:
        """Numbers of a wave's trials that have no answer yet, in the order of its questions."""
        asked = [(self.trials[number].asks[-1], number) for number in self.in_flight]
        return [number for ask, number in sorted(asked) if ask.wave == wave]

    def unanswered_waves(self) -> list[list[int]]:
        """Waves that an earlier process was measuring; the last one may still have to be decided.

        A wave that was cut short while it was decided is recognised by no answer having come since,
        and is left out.
        """
        waves = {self.trials[number].asks[-1].wave for number in self.in_flight}
        last = self.last_wave()
        if last in waves and self.asked_in(last)[0].seen == self.num_answers:
            waves.remove(last)
        return [self.unanswered_in(wave) for wave in sorted(waves)]

    def as_of(self, at: Ask) -> History:
        """What was known when this question was decided."""
        found = []
        for trial in self.trials:
            asks = tuple(a for a in trial.asks if (a.wave, a.index) < (at.wave, at.index))
            if not asks:
                continue
            answers = tuple(a for a in trial.answers if a.order < at.seen)
            over = trial.state in ("complete", "failed") and len(answers) == len(trial.answers)
            stopped = trial.stopped_at is not None and trial.stopped_at <= at.wave
            state = trial.state if over or stopped else "running"
            found.append(replace(trial, asks=asks, answers=answers, state=state))
        return History(found)
