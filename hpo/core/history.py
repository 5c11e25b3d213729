"""What a search can decide to ask next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeAlias

from hpo.core.domains import domain_data
from hpo.core.objective import Value
from hpo.core.spec import StudySpec
from hpo.core.trial import Run, Rung, Trial


@dataclass(frozen=True)
class Begin:
    """Begin a trial."""

    number: int
    params: dict[str, Value]
    seed: int
    fidelity: float
    kind: Literal["planned", "searched", "repeated", "confirms"] = "searched"
    replicate_of: int | None = None
    base_only: bool = False
    planned: int | None = None
    """Place among the study's planned trials; None for another trial."""


@dataclass(frozen=True)
class Continue:
    """Go on with a trial."""

    number: int
    fidelity: float
    base_only: bool = False


Decision: TypeAlias = Begin | Continue


Ended: TypeAlias = Literal["complete", "pruned", "failed"]


Kind: TypeAlias = Literal["planned", "searched", "repeated", "confirms"]


@dataclass(frozen=True, order=True)
class Ask:
    """A question: measure the trial at this fidelity."""

    wave: int
    place: int
    fidelity: float
    seen: int
    """Answers that had come when it was decided."""
    base_only: bool = False
    """Without what comes after pretraining."""


@dataclass(frozen=True)
class Answer:
    """What a trial gave at a fidelity."""

    fidelity: float
    order: int
    metrics: Mapping[str, float]
    cost: Mapping[str, float]
    base_only: bool = False
    row_scores: Mapping[str, list[list[float]]] = field(default_factory=dict)
    """Of a trial that was measured in full; see `Trial.row_scores`."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A trial."""

    number: int
    params: Mapping[str, Value]
    seed: int
    asks: tuple[Ask, ...] = ()
    answers: tuple[Answer, ...] = ()
    ended: Ended | None = None
    group: int = 0
    """Number of the conditions that it is measured under; see `hpo.core.conditions`."""
    stopped_at: int | None = None
    """The wave before which it was pruned."""
    kind: Kind = "searched"
    replicate_of: int | None = None
    baseline: str | None = None
    """The baseline's name; None for another trial."""
    point: str | None = None
    """The grid point's name; None for a baseline or a proposed trial."""
    trial_id: int = -1
    """The storage's."""

    @property
    def flying(self) -> bool:
        """Asked and not answered yet."""
        return self.ended is None and len(self.asks) > len(self.answers)

    @property
    def waiting(self) -> bool:
        """Answered at its rung, and neither promoted nor ended."""
        return self.ended is None and 0 < len(self.asks) == len(self.answers)

    @property
    def results(self) -> tuple[Answer, ...]:
        """The answers, without the failure that ended it."""
        return self.answers[:-1] if self.ended == "failed" else self.answers

    @cached_property
    def cost(self) -> dict[str, float]:
        """Of all its rungs: added up, and of a peak the largest."""
        total: dict[str, float] = {}
        for answer in self.answers:
            for name, value in answer.cost.items():
                known = total.get(name, 0.0)
                total[name] = max(known, value) if "peak" in name else known + value
        return total


@dataclass
class History:
    """Trials by number.

    What each decision asks for is counted as trials are put, so that a decision takes no longer the
    more trials there are.
    """

    entries: list[Entry] = field(default_factory=list)
    """Changed by `put` alone."""
    num_answers: int = field(default=0, init=False, compare=False)
    num_ended: int = field(default=0, init=False, compare=False)
    kinds: Counter[Kind] = field(default_factory=Counter, init=False, compare=False)
    flying: set[int] = field(default_factory=set, init=False, compare=False)
    """Trials that are asked and not answered yet."""
    waves: dict[int, list[Ask]] = field(default_factory=dict, init=False, compare=False)
    """Wave -> its questions."""
    latest: int = field(default=-1, init=False, compare=False)

    def __post_init__(self) -> None:
        for entry in self.entries:
            self._count(entry, 1)
            self._count_asks(entry.asks)

    def put(self, entry: Entry) -> None:
        """A new trial, or a new state of one; its questions stay and new ones come after them."""
        old: tuple[Ask, ...] = ()
        if entry.number == len(self.entries):
            self.entries.append(entry)
        else:
            before = self.entries[entry.number]
            old = before.asks
            assert entry.asks[: len(old)] == old
            self._count(before, -1)
            self.entries[entry.number] = entry
        self._count(entry, 1)
        self._count_asks(entry.asks[len(old) :])

    def _count(self, entry: Entry, sign: Literal[1, -1]) -> None:
        self.num_answers += sign * len(entry.answers)
        self.num_ended += sign * (entry.ended is not None)
        self.kinds[entry.kind] += sign
        change = set.add if sign == 1 else set.discard
        if entry.flying:
            change(self.flying, entry.number)

    def _count_asks(self, asks: Iterable[Ask]) -> None:
        for ask in asks:
            self.waves.setdefault(ask.wave, []).append(ask)
            self.latest = max(self.latest, ask.wave)

    def spent(self, name: str) -> float:
        """A cost over all trials."""
        return sum(entry.cost.get(name, 0.0) for entry in self.entries)

    def last_wave(self) -> int:
        """The latest wave that was begun; -1 before the first."""
        return self.latest

    def asked_in(self, wave: int) -> list[Ask]:
        """A wave's questions, in order."""
        return sorted(self.waves.get(wave, ()))

    def in_flight(self, wave: int) -> list[int]:
        """Numbers of a wave's trials that have no answer yet, in the order of its questions."""
        asked = [(self.entries[number].asks[-1], number) for number in self.flying]
        return [number for ask, number in sorted(asked) if ask.wave == wave]

    def unanswered_waves(self) -> list[list[int]]:
        """Waves that an earlier process was measuring; the last one may still have to be decided.

        A wave that was cut short while it was decided is recognised by no answer having come since,
        and is left out.
        """
        waves = {self.entries[number].asks[-1].wave for number in self.flying}
        last = self.last_wave()
        if last in waves and self.asked_in(last)[0].seen == self.num_answers:
            waves.remove(last)
        return [self.in_flight(wave) for wave in sorted(waves)]

    def as_of(self, at: Ask) -> History:
        """What was known when this question was decided."""
        found = []
        for entry in self.entries:
            asks = tuple(a for a in entry.asks if (a.wave, a.place) < (at.wave, at.place))
            if not asks:
                continue
            answers = tuple(a for a in entry.answers if a.order < at.seen)
            over = entry.ended in ("complete", "failed") and len(answers) == len(entry.answers)
            stopped = entry.stopped_at is not None and entry.stopped_at <= at.wave
            ended = entry.ended if over or stopped else None
            found.append(replace(entry, asks=asks, answers=answers, ended=ended))
        return History(found)


def as_run(spec: StudySpec, entries: Sequence[Entry]) -> Run:
    """The trials as a record, for what reads one; without curves and notes."""
    return Run(
        name=spec.name,
        description="",
        goals=spec.goals,
        limits=spec.limits,
        trials=[_trial(spec, entry) for entry in entries],
        planned=spec.trials,
        space={path: domain_data(domain) for path, domain in spec.space.items()},
        reproduce={},
    )


def _trial(spec: StudySpec, entry: Entry) -> Trial:
    last = entry.answers[-1] if entry.answers else None
    return Trial(
        number=entry.number,
        state=entry.ended or "running",
        params=dict(entry.params),
        baseline=entry.baseline,
        point=entry.point,
        metrics={} if last is None else dict(last.metrics),
        row_scores={} if last is None else dict(last.row_scores),
        cost=entry.cost,
        seed=entry.seed,
        fidelity=entry.asks[0].fidelity if last is None else last.fidelity,
        rungs=[
            Rung(fidelity=each.fidelity, metrics=dict(each.metrics), cost=dict(each.cost))
            for each in entry.answers[:-1]
        ],
        replicate_of=entry.replicate_of,
        confirms=entry.kind == "confirms",
        group=entry.group,
    )
