"""Probes of bases, from the store or measured, and their part of a result."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from objectives.config.probes import ProbeName
from objectives.data.tasks import Task
from objectives.data.token_dataset import TokenDataset
from objectives.models import huggingface
from objectives.pretraining.job import PretrainJob
from objectives.probes import continued_training
from objectives.probes.registry import PROBES, Probe
from objectives.probes.types import NotApplicableError, ProbeBatch, ProbedModel, ProbeResult
from objectives.progress import Event, Report
from objectives.store import contents
from objectives.store.contents import FinitePoint, Name, Text
from objectives.store.entries import write_json
from objectives.store.stages import Stages
from objectives.store.store import key_of
from objectives.training import out_of_memory
from objectives.training.runtime import Runtime
from objectives.types import Curve


def metrics(found: Mapping[ProbeName, CachedProbe]) -> dict[str, float]:
    """Metrics of all probes on a base, `probe.<probe>.<metric>`."""
    return {
        f"probe.{name}.{metric}": value
        for name, probed in found.items()
        for metric, value in probed.result.metrics.items()
    }


def curves(found: Mapping[ProbeName, CachedProbe]) -> dict[str, Curve]:
    """Curves of all probes on a base, `probe.<probe>.<curve>`."""
    return {
        f"probe.{name}.{curve}": points
        for name, probed in found.items()
        for curve, points in probed.result.curves.items()
    }


def notes(found: Mapping[ProbeName, CachedProbe]) -> list[str]:
    """What a reader should know of the probes."""
    return [f"probe {name}: {note}" for name, each in found.items() for note in each.result.notes]


def with_cost(
    cost: Mapping[str, float], found: Mapping[ProbeName, CachedProbe], flops_per_token: float
) -> dict[str, float]:
    """The cost with that of the probes: as everywhere, what was found done counts as saved.

    `probe.<probe>_s` are the seconds of a probe, whenever it was measured.
    """
    added = dict(cost)
    for name, probed in found.items():
        result = probed.result
        added[f"probe.{name}_s"] = result.seconds
        if probed.now:
            added["tokens"] += result.tokens
            added["device_s"] += result.seconds
            added["finetune_s"] += result.seconds
            added["flops"] += flops_per_token * result.tokens
        else:
            added["tokens_reused"] += result.tokens
            added["device_s_saved"] += result.seconds
    return added


def training_steps(job: PretrainJob) -> int:
    """Further steps that the recipe's probes train a base for."""
    probes = job.recipe.probes
    tiny = (
        continued_training.tiny_steps(probes.tiny_frac, job.steps)
        if "tiny_rate" in probes.run
        else 0
    )
    return tiny + ("lost_updates" in probes.run) * probes.lost_batches


STAGE = "probe"


FILE = "finding.json"


MOST_PROBED = 8
"""Bases probed at once; assumed: a second derivative needs some times a training step's memory."""


@dataclass(frozen=True)
class CachedProbe:
    """A probe's result on one base, and whether it was measured now."""

    result: ProbeResult
    now: bool


def run_probes(
    subjects: Sequence[ProbedModel],
    corpus: TokenDataset,
    tasks: Sequence[Task],
    runtime: Runtime,
) -> list[dict[ProbeName, CachedProbe]]:
    """Each base's findings by the probes its recipe names, from the store where they are there.

    An exception that `runtime.report` raises stops the work, with all finished probes stored.

    Raises:
        StoreError: the store cannot be written.
    """
    store, report = runtime.store, runtime.report
    found: list[dict[ProbeName, CachedProbe]] = [{} for _ in subjects]
    group_of = functools.partial(ProbeBatch, corpus=corpus, tasks=tasks, report=report, built={})
    for name in PROBES:
        by_key: dict[str, list[int]] = {}
        for index, subject in enumerate(subjects):
            if name in subject.job.recipe.probes.run:
                by_key.setdefault(_key(name, subject, tasks), []).append(index)
        known = _stored(store, by_key)
        missing = {key: subjects[by_key[key][0]] for key in by_key if key not in known}
        most = min(runtime.max_lanes or MOST_PROBED, MOST_PROBED)
        measured = _measure_missing(name, missing, group_of, store, most)
        for key, members in by_key.items():
            for nth, index in enumerate(members):
                now = key in measured and nth == 0
                found[index][name] = CachedProbe((known | measured)[key], now)
    return found


def _stored(store: Stages, keys: Iterable[str]) -> dict[str, ProbeResult]:
    """The findings that are there."""

    def read(folder: Path) -> ProbeResult:
        return ProbeResult(**asdict(contents.record(folder, FILE, _Stored)))

    found = {key: store.read(STAGE, key, read) for key in keys}
    return {key: finding for key, finding in found.items() if finding is not None}


@dataclass(frozen=True)
class _Stored:
    """`Finding` as it is stored."""

    metrics: dict[Name, contents.Finite]
    curves: dict[Name, list[FinitePoint]]
    notes: list[Text]
    tokens: contents.Count
    seconds: contents.Seconds


def _measure_missing(
    name: ProbeName,
    missing: Mapping[str, ProbedModel],
    group_of: Callable[[Sequence[ProbedModel]], ProbeBatch],
    store: Stages,
    most: int,
) -> dict[str, ProbeResult]:
    """One probe on bases by key, at most `most` at once; each finding is stored."""
    measured: dict[str, ProbeResult] = {}

    def run(keys: Sequence[str]) -> None:
        findings = measure(name, group_of([missing[key] for key in keys]))
        for key, finding in zip(keys, findings, strict=True):
            write = functools.partial(_write, finding)
            store.put(STAGE, key, write, seconds=finding.seconds)
            measured[key] = finding

    groups: dict[str, list[str]] = {}
    for key, subject in missing.items():
        groups.setdefault(_group_key(name, group_of([subject])), []).append(key)
    for members in groups.values():
        try:
            out_of_memory.in_chunks(members, most, run)
        except MemoryError:
            # A note, and not stored: another machine may have the memory.
            note = ProbeResult(notes=["not measured, one model does not fit into the memory"])
            measured |= {key: note for key in members if key not in measured}
    return measured


def measure(name: ProbeName, group: ProbeBatch) -> list[ProbeResult]:
    """One probe on one group, with the seconds that it took; a note where it does not apply."""
    started = time.monotonic()
    guarded = _Reporting(group.report)
    guarded({"stage": f"probe {name}", "step": 0, "steps": 1})
    try:
        findings = PROBES[name].measure(replace(group, report=guarded))
    except NotApplicableError as error:
        findings = [ProbeResult(notes=[f"not measured, {error}"]) for _ in group.subjects]
    except Exception as error:
        if guarded.stopped or out_of_memory.is_out_of_memory(error):
            raise
        # Models differ without end; the base and its fine-tunes are measured, and stay.
        why = (
            f"it does not apply to this model ({type(error).__name__}: {huggingface.reason(error)})"
        )
        findings = [ProbeResult(notes=[f"not measured, {why}"]) for _ in group.subjects]
    seconds = (time.monotonic() - started) / len(group.subjects)
    return [replace(_finite(finding), seconds=seconds) for finding in findings]


class _Reporting:
    """Reports, and knows whether what it raised is what stops the work."""

    def __init__(self, report: Report) -> None:
        self.report, self.stopped = report, False

    def __call__(self, event: Event) -> None:
        try:
            self.report(event)
        except BaseException:
            self.stopped = True
            raise


def _finite(finding: ProbeResult) -> ProbeResult:
    """Without what is no number, which a note says."""
    lost = [name for name, value in finding.metrics.items() if not math.isfinite(value)]
    curves = {
        name: [point for point in points if math.isfinite(point[1])]
        for name, points in finding.curves.items()
    }
    return replace(
        finding,
        metrics={name: v for name, v in finding.metrics.items() if name not in lost},
        curves=curves,
        notes=[*finding.notes, *(f"{name} is not finite" for name in lost)],
    )


def _key(name: ProbeName, subject: ProbedModel, tasks: Sequence[Task]) -> str:
    """The stage of one probe on one base; the base's key holds model, corpus and all of its run."""
    probe = PROBES[name]
    return key_of(
        "probe-1", name, subject.base.key, _settings(probe, subject),
        probe.depends_on(subject, tasks),
    )  # fmt: skip


def _group_key(name: ProbeName, group: ProbeBatch) -> str:
    """Equal for bases that can be probed as lanes of one program."""
    (subject,) = group.subjects
    return key_of(subject.job.program_key(group.stream), _settings(PROBES[name], subject))


def _settings(probe: Probe, subject: ProbedModel) -> list[Any]:
    return [getattr(subject.job.recipe.probes, setting) for setting in probe.settings]


def _write(finding: ProbeResult, folder: Path) -> None:
    write_json(folder / FILE, finding.to_dict())
