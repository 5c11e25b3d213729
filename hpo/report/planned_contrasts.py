"""Planned contrasts as rows and sentences. Plain text: whoever puts it into markup escapes it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from hpo.analysis.planned_contrasts import ContrastFinding
from hpo.analysis.power import POWER
from hpo.core.contrasts import PlannedContrasts
from hpo.core.format import number, percent, plural, with_sem
from hpo.core.metrics import UNITS
from hpo.core.trial import Run
from hpo.report.results import Results

TITLE = "Planned contrasts"


HEADS = (
    "contrast",
    "metric",
    "expected",
    "difference",
    "95 %",
    "seeds",
    "p",
    "corrected p",
    "outcome",
    "detectable",
)


CORRECTIONS = {"holm": "Holm's correction", "bonferroni": "Bonferroni's correction"}


def notes(run: Run, planned: PlannedContrasts) -> list[str]:
    """How they were planned and judged."""
    count = len(planned.contrasts)
    correction = CORRECTIONS.get(planned.correction)
    for_all = "no correction" if correction is None else f"{correction} for {count}"
    return [
        f"{_stated(run)} Paired over seeds; two-sided t test at {planned.alpha:g}, {for_all}. "
        f"Detectable is the smallest difference that these seeds find with {percent(POWER)} power.",
    ]


def _stated(run: Run) -> str:
    after = run.contrasts_after
    if not after:
        return "Stated before the first result."
    return f"Stated after {plural(after, 'result')} had come, so not before the run."


def rows(found: tuple[ContrastFinding, ...]) -> list[list[str]]:
    """A row a contrast, under `HEADS`."""
    return [_row(each) for each in found]


def _row(found: ContrastFinding) -> list[str]:
    contrast, estimate = found.contrast, found.estimate
    unit = UNITS.get(contrast.metric, "")
    low, high = _interval(found)
    known = math.isfinite(low)
    return [
        f"{contrast.name}: {contrast.arm} - {contrast.minus}",
        f"{contrast.metric} ({unit})" if unit else contrast.metric,
        contrast.expected,
        with_sem(estimate.value, estimate.error, signed=True) if found.seeds else "",
        f"{low:+.3g} to {high:+.3g}" if known else "",
        str(len(found.seeds)),
        number(found.p, 2),
        number(found.corrected, 2),
        found.outcome + _advice(found),
        number(found.detectable, 2),
    ]


def _interval(found: ContrastFinding) -> tuple[float, float]:
    """NaN where all differences are equal, which tells no spread."""
    known = found.estimate.error > 0
    return found.estimate.interval if known else (math.nan, math.nan)


def _advice(found: ContrastFinding) -> str:
    """How many seeds find a difference of this size with 80 % power, where these do not."""
    needed = found.seeds_needed
    if found.outcome != "not significant" or needed is None or needed <= len(found.seeds):
        return ""
    return f"; this size takes {needed:,} seeds"


def contrasts_json(results: Results) -> dict[str, Any] | None:
    """The planned contrasts as data; NaN where something is not known."""
    planned = results.run.contrasts
    if planned is None:
        return None
    return {
        "alpha": planned.alpha,
        "correction": planned.correction,
        "results_before": results.run.contrasts_after,
        "findings": [finding_json(each) for each in results.planned_contrasts],
    }


def finding_json(found: ContrastFinding) -> dict[str, Any]:
    """A contrast as data."""
    low, high = _interval(found)
    return {
        **dataclasses.asdict(found.contrast),
        "value": found.estimate.value,
        "error": found.estimate.error,
        "freedom": found.estimate.freedom,
        "low": low,
        "high": high,
        "seeds": list(found.seeds),
        "differences": list(found.differences),
        "p": found.p,
        "corrected_p": found.corrected,
        "outcome": found.outcome,
        "detectable": found.detectable,
        "power": found.power,
        "seeds_needed": found.seeds_needed,
    }
