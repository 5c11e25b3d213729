"""Findings as parts of a result: metrics, curves, notes and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from objectives.jobs import Job
from objectives.measures import Result
from objectives.probes import continued
from objectives.probes.stages import Probed
from objectives.recipe import ProbeName


def merged(
    result: Result, found: Mapping[ProbeName, Probed], flops_per_token: float, time_s: float
) -> Result:
    """The result of a base with what probes found on it, `time_s` its share of the wall time."""
    findings = {name: probed.finding for name, probed in found.items()}
    metrics = {
        f"probe.{name}.{metric}": value
        for name, finding in findings.items()
        for metric, value in finding.metrics.items()
    }
    curves = {
        f"probe.{name}.{curve}": points
        for name, finding in findings.items()
        for curve, points in finding.curves.items()
    }
    notes = [f"probe {name}: {note}" for name, each in findings.items() for note in each.notes]
    return replace(
        result,
        metrics=result.metrics | metrics,
        curves=result.curves | curves,
        notes=result.notes + notes,
        cost=_cost(result.cost, found, flops_per_token) | {"time_s": time_s},
    )


def _cost(
    cost: Mapping[str, float], found: Mapping[ProbeName, Probed], flops_per_token: float
) -> dict[str, float]:
    """With that of the probes: as everywhere, what was found done counts as saved.

    `probe.<probe>_s` are the seconds of a probe, whenever it was measured.
    """
    added = dict(cost)
    for name, probed in found.items():
        finding = probed.finding
        added[f"probe.{name}_s"] = finding.seconds
        if probed.now:
            added["tokens"] += finding.tokens
            added["device_s"] += finding.seconds
            added["flops"] += flops_per_token * finding.tokens
        else:
            added["tokens_reused"] += finding.tokens
            added["device_s_saved"] += finding.seconds
    return added


def training_steps(job: Job) -> int:
    """Further steps that the recipe's probes train a base for."""
    probes = job.recipe.probes
    tiny = continued.tiny_steps(probes.tiny_frac, job.steps) if "tiny_rate" in probes.run else 0
    return tiny + ("lost_updates" in probes.run) * probes.lost_batches
