"""How numbers, trials and findings read, the same in the terminal, in hover text and in the report.

Everything returned here is plain text: whoever puts it into markup escapes it.
"""

from __future__ import annotations

import dataclasses
import math

from hpo.analysis.headline import STEP
from hpo.analysis.paper_claims import Cell
from hpo.analysis.rank_agreement import Disagreement
from hpo.core import format, metrics
from hpo.core.conditions import difference
from hpo.core.format import amount, number, percent, plural, title, with_sem
from hpo.core.goals import Goal
from hpo.core.metrics import UNITS, measured, named
from hpo.core.paper import Paper, Quantity
from hpo.core.trial import Run
from hpo.front.front import Comparison, Front
from hpo.report.certainty import certainty, error_source, verdict
from hpo.report.results import Results


def price(results: Results) -> str | None:
    """What one end of the front pays for its lead over the other; None without two ends or goals.

    The rate between them is a mean over the whole front, which is as a rule steeper at its ends.
    """
    run, front = results.run, results.front
    if len(front.trials) < 2 or len(run.goals) != 2:
        return None
    first, second = run.goals
    start, end = front.trials[0], front.trials[-1]
    won, paid = (
        abs(end.metrics[goal.metric] - start.metrics[goal.metric]) for goal in (second, first)
    )
    if not (0 < won < math.inf and paid < math.inf):
        return None
    judged = dataclasses.replace(results.lead(end, start, second.metric), value=won)
    unit = metrics.UNITS.get(first.metric, "")
    return (
        f"From one end of the front, {format.title(start)}, to the other, {format.title(end)}: "
        f"{second.metric} is better by {format.with_sem(won, judged.error)} "
        f"({verdict(judged)}) for {format.number(paid, 3)} of {first.metric}, which "
        f"is {format.number(paid / won * STEP, 2)}{f' {unit}' if unit else ''} for each "
        f"{STEP:g} of {second.metric}."
    )


def ranked(results: Results) -> tuple[list[str], list[str]]:
    """The findings for a first screen that has the answer, and all the others."""
    lines = summary(results)[1:]  # without the progress, which is among the facts
    cost = price(results)
    lines[-1:-1] = [] if cost is None else [cost]
    first = [line for line in lines if line.startswith(_FIRST)]
    first += [line for line in other_groups(results.run) if line not in first]
    return first, [line for line in lines if line not in first]


_FIRST = ("Best ", "No baseline", "No complete")
"""How the findings begin that a first screen has."""


def rank_agreement(found: Disagreement) -> list[str]:
    """Where gain and the fine-tuned score order trials differently."""
    if found.num_trials < 2:
        return ["Fewer than two trials have both, so their orders cannot be compared."]
    pairs = found.num_trials * (found.num_trials - 1) // 2
    lines = [
        "A base that starts worse can win more and still end worse, so the orders are compared. "
        f"Kendall's tau over {found.num_trials} trials: {number(found.tau, 3)} (1 is the same "
        f"order); {found.num_pairs} of {pairs} pairs are ranked differently."
    ]
    if found.pairs:
        named = ", ".join(f"#{a} over #{b}" for a, b in found.pairs[:5])
        lines.append(f"Widest conflicts (more gain, worse after fine-tuning): {named}.")
    return lines


def forgetting(run: Run) -> list[str]:
    """Where fine-tuning raises the base loss least and most; empty where it was not measured."""
    trials = [trial for trial in run.trials if "forgetting_nats" in trial.metrics]
    if not trials:
        return []
    least, most = (
        pick(trials, key=lambda trial: trial.metrics["forgetting_nats"]) for pick in (min, max)
    )
    return [
        "Forgetting, the rise of the base loss on the same sample by fine-tuning (nats/token), is "
        f"least in {title(least)}: {measured(least, 'forgetting_nats')}, and greatest in "
        f"{title(most)}: {measured(most, 'forgetting_nats')}."
    ]


ENOUGH_SEMS = 2.0  # Differences below this many standard errors read as noise; about 95 %.


def progress(run: Run) -> str:
    """How many of the planned trials are done."""
    counts = run_counts(run)
    confirmed = sum(trial.confirms and trial.fidelity == 1.0 for trial in run.complete())
    text = f"{counts['complete'] - confirmed} of {plural(counts['planned'], 'trial')} complete"
    text += "".join(f", {counts[s]} {s}" for s in ("failed", "running") if counts[s])
    return text + (f", and {confirmed} confirming the front." if confirmed else ".")


def other_groups(run: Run) -> list[str]:
    """That trials of other groups are left out, and why."""
    if not run.num_others:
        return []
    before = run.conditions[run.group - 1] if run.group else run.conditions[-1]
    changed = difference(before, run.conditions[run.group])
    groups = " or ".join(f"--group {n}" for n in range(len(run.conditions)) if n != run.group)
    return [
        f"{run.num_others} more trials were measured with other data or library versions "
        f"({changed}) and are not compared with these; hpo show {run.name} {groups} shows them."
    ]


def run_counts(run: Run) -> dict[str, int]:
    """Trials complete at full fidelity, failed, running, and planned."""
    states = [trial.state for trial in run.trials]
    return {
        "complete": sum(trial.fidelity == 1.0 for trial in run.complete()),
        "failed": states.count("failed"),
        "running": states.count("running"),
        "planned": run.planned,
    }


def summary(results: Results) -> list[str]:
    """The findings in sentences with numbers."""
    run, front = results.run, results.front
    if not front.trials:
        return [progress(run), *other_groups(run), "No complete trial counts for the front yet."]
    compared = results.comparisons
    lines = [progress(run), *other_groups(run)]
    lines += (_finding(each, run) for each in compared if each is not None)
    if None in compared:
        lines.append("No baseline has finished, so there is nothing to compare with.")
    lines += [_front_sentence(front), _knee_sentence(front), *certainty(results)]
    lines += [text for text in [work(run)] if text is not None]
    if any(each is not None and each.best is not each.baseline for each in compared):
        lines.append(
            f"{error_source(results)}. Differences are paired over seeds and rows, with "
            "Student's 95 % intervals; significant or inconclusive is corrected for the choice "
            f"among {len(front.points)} points, of which the best one's lead is on average smaller "
            "than it looks."
        )
    return lines


def work(run: Run) -> str | None:
    """What the run trained and what it found done or shared; None if its trials do not tell."""
    costs = [trial.cost for trial in run.trials if "tokens" in trial.cost]
    if not costs:
        return None
    names = ("tokens", "tokens_reused", "device_s", "device_s_saved")
    trained, reused, seconds, saved = (sum(cost.get(name, 0.0) for cost in costs) for name in names)
    text = f"Trained {amount(trained)} tokens"
    if any("device_s" in cost for cost in costs):
        text += f" in {number(seconds, 3)} s of the device"
    if reused <= 0:
        return text + "."
    share = percent(reused / (trained + reused))
    spared = f", which saved {number(saved, 3)} s" if saved > 0 else ""
    return (
        f"{text}; {amount(reused)} more ({share}) were shared between trials or found in the "
        f"store{spared}."
    )


def paper_notes(paper: Paper) -> list[str]:
    """Notes for a reader who compares a paper's numbers with this run's."""
    lines = [
        f"Paper and this study: arXiv {paper.arxiv}, {paper.scale}. Another scale: numbers are "
        "shown side by side, only directions are compared.",
        "± is one standard error over pretraining seeds, n of them in brackets. A direction counts "
        "where it is beyond Student's 95 % range under the spread between seeds.",
    ]
    return [*lines, f"This study: {paper.ours}"] if paper.ours else lines


def beside(cell: Cell) -> tuple[str, str]:
    """The paper's number and this run's."""
    paper = "" if cell.paper is None else number(cell.paper)
    if not cell.seeds:
        return paper, ""
    return paper, f"{with_sem(cell.mean, cell.sem)} ({cell.seeds})"


def column(quantity: Quantity) -> str:
    """Our side's heading."""
    apart = f", from the best of {len(quantity.best_of)}" if quantity.best_of else ""
    return named(quantity.metric) + apart


def _finding(found: Comparison, run: Run) -> str:
    metric = found.goal.metric
    if found.best is found.baseline:
        return (
            f"Best {metric}: the baseline {title(found.baseline)} with "
            f"{measured(found.baseline, metric)}; no searched trial is better."
        )
    text = (
        f"Best {metric}: {title(found.best)} with {measured(found.best, metric)}, against "
        f"{measured(found.baseline, metric)} of {title(found.baseline)}, the best baseline: "
        f"{with_sem(found.differences[metric], found.sems[metric], signed=True)} "
        f"({verdict(found.leads[metric])})"
    )
    others = [goal for goal in run.goals if goal.metric != metric]
    return text + "".join(f", {_price(found, goal)}" for goal in others) + "."


def _price(found: Comparison, goal: Goal) -> str:
    difference, error = found.differences[goal.metric], found.sems[goal.metric]
    if difference == 0:
        return f"at the same {goal.metric}"
    worse = difference * goal.sign > 0
    amount = with_sem(difference, error, signed=True)
    unit = UNITS.get(goal.metric, "")
    return f"{'paid with' if worse else 'and also better by'} {amount} {goal.metric}" + (
        f" {unit}" if unit else ""
    )


def _front_sentence(front: Front) -> str:
    text = (
        f"The front holds {len(front.trials)} of the {plural(len(front.points), 'point')} that "
        f"{'counts' if len(front.points) == 1 else 'count'}"
    )
    if front.reference is None:
        return text + "."
    corner = ", ".join(
        f"{goal.metric} {number(value)}"
        for goal, value in zip(front.goals, front.reference, strict=True)
    )
    size = number(front.hypervolume)
    if front.hypervolume_range is not None and not math.isnan(front.hypervolume_range[0]):
        size += " (95 %: " + " to ".join(map(number, front.hypervolume_range)) + ")"
    return f"{text}; hypervolume {size} against the worst seen ({corner})."


def _knee_sentence(front: Front) -> str:
    if len(front.trials) == 1 and not front.undecided:
        return f"{title(front.trials[0])} is best by every goal, so there is nothing to trade."
    if len(front.trials) == 1:
        return (
            f"{title(front.trials[0])} is the only point certain enough to report; whether it can "
            "be traded for another is undecided, and more seeds would decide it."
        )
    if front.knee is None:
        return "The front has no knee: no trial is below the line between its two ends."
    values = ", ".join(f"{goal.metric} {measured(front.knee, goal.metric)}" for goal in front.goals)
    meaning = "where a little of one goal stops buying much of another"
    return f"Knee, {meaning}: {title(front.knee)}, {values}."
