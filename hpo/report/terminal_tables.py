"""Tables for the terminal and for programs: `hpo show` and `hpo show --json`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpo.analysis.paper_claims import Side
from hpo.analysis.pretraining_worth import TaskWorth
from hpo.core import format
from hpo.core import metrics as wording
from hpo.core.trial import Run, Trial
from hpo.front.front import Comparison
from hpo.report import (
    best_values,
    claim_tables,
    planned_contrasts,
    trial_tables,
    verification,
)
from hpo.report import findings as report_findings
from hpo.report.answer import answer
from hpo.report.certainty import certainty
from hpo.report.results import Results


def print_run(results: Results, console: Console) -> None:
    """The front and how certain it is, a paper beside the run, the work and the failures."""
    run = results.run
    console.print(front_table(results))
    differing = trial_tables.difference_table(results)
    if differing is not None:
        console.print(differing)
    first = answer(results)
    for line in [
        *([] if first is None else [first.warning, f"{first.use} {first.gives}"]),
        *trial_tables.remarks(results),
        *report_findings.other_groups(run),
        *certainty(results),
    ]:
        if line:
            console.print(Text(line))
    for part in claim_tables.every_part(results):
        console.print(part)
    work = report_findings.work(run)
    if work is not None:
        console.print(Text(work))
    failed = failed_table(run)
    if failed is not None:
        console.print(failed)


def front_table(results: Results) -> Table:
    """The front, the best by the first goal first: scores ± standard error and parameters.

    Below a rule, the baselines that are not on it.
    """
    run, found = results.run, results.front
    below = [each for each in trial_tables.baselines(found) if each not in found.trials]
    params = wording.param_names(run, [*found.trials, *below])
    table = Table(title=Text(f"{run.name}: {report_findings.progress(run)}"), title_justify="left")
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("point" if any(trial.point for trial in run.trials) else "baseline")
    if found.draws is not None:
        table.add_column("on the front", justify="right")
    for metric in wording.score_names(run):
        table.add_column(Text(metric), justify="right")
    for short in params.values():
        table.add_column(Text(short), justify="right")
    for trial in found.trials:
        table.add_row(*_cells(results, trial, list(params)))
    table.add_section()
    for trial in below:
        table.add_row(*_cells(results, trial, list(params)))
    if not found.trials:
        table.caption = Text("No complete trial counts for the front yet.")
    elif found.knee is not None:
        table.caption = Text("* knee")
    return table


def failed_table(run: Run) -> Table | None:
    """The failed trials with their reasons; None if none failed."""
    failed = [trial for trial in run.trials if trial.state == "failed"]
    if not failed:
        return None
    table = Table(title=Text(f"{len(failed)} failed"), title_justify="left")
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("reason")
    table.add_column("params")
    for trial in failed:
        params = ", ".join(f"{k}={format.setting(v)}" for k, v in trial.params.items())
        table.add_row(
            Text(format.title(trial)), Text(trial.failure or "no reason given"), Text(params)
        )
    return table


def run_json(results: Results) -> dict[str, Any]:
    """The run as JSON-able data; a number that is not finite is null.

    {"name": str,
     "goals": [{"metric": str, "direction": "down" | "up"}],
     "limits": [{"metric": str, "low": float | null, "high": float | null}],
     "group": int, of the trials below, "other_groups": int, trials of other groups,
     "conditions": {name: str}, what these trials were measured with,
     "trials": {"complete": int, "failed": int, "running": int, "planned": int},
     "hypervolume": float, "reference": {goal metric: float} | null,
     "knee": int | null,
     "front": [TRIAL], the best by the first goal first,
     "trials_all": [TRIAL], by number,
     "disagreement": {"num_trials": int, "kendall_tau": float | null, "num_pairs": int,
                      "top_by_gain": [int], "top_by_finetuned": [int]},
     "pretraining_worth": [WORTH], a task each, none where no control was measured,
     "best_values": [see `hpo.report.best_values.as_json`], none without a second seed,
     "contrasts": null | {"alpha": float, "correction": str, "results_before": int, that had come
                          when they were stated, "findings": [CONTRAST]},
     "verifications": [see `hpo.report.verification.as_json`],
     "paper": null | {"arxiv": str, "scale": str, "tables": [TABLE]},
     "hypervolume_range": [float, float] | null, central 95 %,
     "knee_region": [{"trial": int, "probability": float}], the most probable first,
     "undecided": [int], points that are not reported and cannot be ruled out,
     "differences": [DIFFERENCE], every pair of the front in every goal,
     "from_baselines": [DIFFERENCE], the best by each goal against the best baseline by it,
     "leads": [LEAD], the same as observed}

    LEAD = {"metric": str, "best": int, "baseline": int, "value": float, "error": float | null,
            "low": float | null, "high": float | null, Student's 95 % interval, "freedom": float,
            "pretraining_seeds": bool, "rows": bool, whether the error holds their spread,
            "significant": bool | null, by `hpo.front.significance`}

    WORTH = {"task": str, "scratch": float, "scratch_nats": float, the control without pretraining,
             "best": int, the trial furthest above it, "score": float, "nats": float, by how much,
             "score_error": float | null, "nats_error": float | null,
             "needs_pretraining": bool, whether any setting is above the control}

    DIFFERENCE = {"metric": str, "better": int, "other": int, "value": float, "error": float,
                  "significant": bool | null, as in LEAD}

    CONTRAST = {"name": str, "metric": str, "arm": str, "minus": str, "expected": "down" | "up",
                "effect": float | null, "value": float | null, arm - minus, "error": float | null,
                "freedom": float, "low": float | null, "high": float | null, 95 %,
                "seeds": [int], "differences": [float], at each, "p": float | null, two-sided,
                "corrected_p": float | null,
                "outcome": see `hpo.analysis.planned_contrasts.Outcome`,
                "detectable": float | null, with 80 % power, "power": float | null, for `effect`,
                "seeds_needed": int | null, for 80 % power at the value}

    TABLE = {"title": str, "quantities": [{"metric": str, "paper": str}],
             "rows": [{"point": str, "failed": int, "cells": [{"paper": float | null,
                       "mean": float | null, "sem": float | null, "seeds": int}]}],
             "findings": [{"text": str, "paper": str, "ours": str, "value": float | null,
                           "error": float | null, "p": float | null, two-sided, not corrected,
                           "detectable": float | null, with 80 % power, "verdict": see
                           `hpo.analysis.paper_claims.Verdict`}]}

    TRIAL = {"trial": int, "baseline": str | null, "point": str | null,
             "state": see `hpo.core.trial.State`,
             "standing": see `hpo.front.front.Standing`, "knee": bool, "params": {path: value},
             "metrics": {name: float | null}, "cost": {name: float | null}, "failure": str | null,
             "notes": [str], "labels": [str], "seed": int, "fidelity": float,
             "replicate_of": int | null, "confirms": bool, "membership": float | null,
             "estimates": null | {goal metric: float, its "..._sem": float},
             "confirmed": null | {name: float | null}, metrics of the fresh seeds alone}

    `complete` counts trials at full fidelity. The reference point is in the goals' own units. In
    "front" metrics are means over a point's seeds, in "trials_all" each trial's own. `NAME_sem` is
    the standard error over seeds, `NAME_rows_sem` what the finite test set adds to that of a value
    (`hpo.front.errors`); the estimates' errors hold both. Where the
    noise is unknown, `membership` and `estimates` are null and what is made from them is empty.
    """
    run, found, apart = results.run, results.front, results.rank_agreement
    reference = None
    if found.reference is not None:
        metrics = [goal.metric for goal in run.goals]
        reference = dict(zip(metrics, found.reference, strict=True))
    return {
        "name": run.name,
        "goals": [{"metric": goal.metric, "direction": goal.direction} for goal in run.goals],
        "limits": [
            {"metric": each.metric, "low": finite(each.low), "high": finite(each.high)}
            for each in run.limits
        ],
        "group": run.group,
        "other_groups": run.num_others,
        "conditions": run.conditions[run.group] if run.conditions else {},
        "trials": report_findings.run_counts(run),
        "hypervolume": finite(found.hypervolume),
        "reference": reference,
        "knee": None if found.knee is None else found.knee.number,
        "front": [_trial_json(trial, results) for trial in found.trials],
        "trials_all": [_trial_json(trial, results) for trial in run.trials],
        "disagreement": {
            "num_trials": apart.num_trials,
            "kendall_tau": finite(apart.tau),
            "num_pairs": apart.num_pairs,
            "top_by_gain": [trial.number for trial in apart.top_by_gain],
            "top_by_finetuned": [trial.number for trial in apart.top_by_finetuned],
        },
        "pretraining_worth": [_worth_json(each) for each in results.pretraining_worth],
        "best_values": [finite(best_values.as_json(each)) for each in results.best_values],
        "contrasts": finite(planned_contrasts.contrasts_json(results)),
        "verifications": [finite(verification.as_json(each)) for each in results.verifications],
        "paper": _paper_json(results),
        **_certainty_json(results),
    }


def _worth_json(found: TaskWorth) -> dict[str, Any]:
    return {
        "task": found.task,
        "scratch": finite(found.scratch),
        "scratch_nats": finite(found.scratch_nats),
        "best": found.best.number,
        "score": finite(found.score.value),
        "score_error": finite(found.score.error),
        "nats": finite(found.nats.value),
        "nats_error": finite(found.nats.error),
        "needs_pretraining": found.needs_pretraining,
    }


def _certainty_json(results: Results) -> dict[str, Any]:
    found = results.front
    lists = {"differences": results.differences, "from_baselines": results.from_baselines}
    compared = [each for each in results.comparisons if each is not None]
    return {
        "hypervolume_range": finite(found.hypervolume_range),
        "knee_region": [
            {"trial": number, "probability": share} for number, share in found.knee_region
        ],
        "undecided": [trial.number for trial in found.undecided],
        **{name: [finite(dataclasses.asdict(e)) for e in each] for name, each in lists.items()},
        "leads": [_lead_json(each) for each in compared if each.best is not each.baseline],
    }


def _lead_json(found: Comparison) -> dict[str, Any]:
    lead = found.leads[found.goal.metric]
    low, high = lead.interval
    names: dict[str, Any] = {
        "metric": found.goal.metric,
        "best": found.best.number,
        "baseline": found.baseline.number,
    }
    return names | dict(finite(dataclasses.asdict(lead) | {"low": low, "high": high}))


def _paper_json(results: Results) -> dict[str, Any] | None:
    paper = results.run.paper
    if paper is None:
        return None
    return {
        "arxiv": paper.arxiv,
        "scale": paper.scale,
        "tables": [_side_json(side) for side in results.paper_sides],
    }


def _side_json(side: Side) -> dict[str, Any]:
    quantities = [{"metric": each.metric, "paper": each.paper_name} for each in side.quantities]
    rows, findings = (
        [finite(dataclasses.asdict(each)) for each in some] for some in (side.rows, side.findings)
    )
    return {"title": side.title, "quantities": quantities, "rows": rows, "findings": findings}


def finite(value: Any) -> Any:
    """The value with every number in it that JSON has no word for as None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value


def _cells(results: Results, trial: Trial, params: list[str]) -> list[Text]:
    run, found = results.run, results.front
    mark = "*" if results.is_knee(trial) else ""
    cells = [f"{trial.number}{mark}{format.tag(trial)}", trial.name or ""]
    cells += [] if found.draws is None else [format.percent(found.membership[trial.number])]
    cells += [wording.measured(trial, metric) for metric in wording.score_names(run)]
    cells += [format.setting(trial.params[p]) if p in trial.params else "" for p in params]
    return [Text(cell) for cell in cells]


def _trial_json(trial: Trial, results: Results) -> dict[str, Any]:
    found = results.front
    fresh = found.confirmed.get(trial.number)
    return {
        "trial": trial.number,
        "baseline": trial.baseline,
        "point": trial.point,
        "state": trial.state,
        "standing": found.standings[trial.number],
        "knee": results.is_knee(trial),
        "params": finite(trial.params),
        "metrics": finite(trial.metrics),
        "cost": finite(trial.cost),
        "failure": trial.failure,
        "notes": list(trial.notes),
        "labels": list(trial.labels),
        "seed": trial.seed,
        "fidelity": trial.fidelity,
        "replicate_of": trial.replicate_of,
        "confirms": trial.confirms,
        "membership": finite(found.membership.get(trial.number)),
        "estimates": finite(found.estimates.get(trial.number)),
        "confirmed": None if fresh is None else finite(fresh.metrics),
    }
