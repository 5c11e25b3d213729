"""Verifications as rows, sentences and data. Plain text: whoever puts it into markup escapes it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from hpo.analysis.proxy_agreement import Bounded
from hpo.analysis.verification import GoalVerdict, RuleVerdict, Verification
from hpo.core.format import amount, listed, number, percent, plural, with_sem
from hpo.front.errors import Estimate
from hpo.report.certainty import VERDICTS, verdict

HEADS = (
    "rule",
    "goal",
    "recipes",
    "pairs right (95 %)",
    "decided pairs right (95 %)",
    "Spearman (95 %)",
    "proxy's pick",
    "its place",
    "regret",
    "mean there",
)


NUMBERS = (2, 3, 4, 5, 7, 8, 9)
"""Columns that are set to the right."""


RULE_HEADS = ("goal", "better rule", "than", "by", "recipes", "verdict")


ANCHOR = (
    "For comparison: in DataDecide (arXiv 2504.11393) about 80 % of pairs of pretraining recipes "
    "are ordered at 150M parameters as they are at 1B."
)


def title(found: Verification) -> str:
    """What was verified, and where."""
    plan = found.plan
    rate = "" if plan.lr_factor == 1 else f", rate times {number(plan.lr_factor)}"
    return (
        f"Verified at {plan.size} ({amount(plan.num_params)} parameters, "
        f"{number(plan.tokens_per_param)} tokens each{rate}): "
        f"{plural(len(plan.recipes), 'recipe')}, {plural(found.num_seeds, 'seed')}"
    )


def rows(found: Verification) -> list[list[str]]:
    """A row a rule and goal, under `HEADS`."""
    return [_row(found, rule, goal) for rule in found.rules for goal in rule.goals]


def _row(found: Verification, rule: RuleVerdict, goal: GoalVerdict) -> list[str]:
    agreed = goal.agreement
    return [
        rule.rule,
        goal.goal.metric,
        str(agreed.num_recipes),
        _share(agreed.accuracy, agreed.num_pairs),
        _share(agreed.accuracy_decided, agreed.num_decided),
        _correlation(agreed.spearman),
        _name(found, goal.pick),
        f"{goal.place} of {agreed.num_recipes}",
        _difference(goal.regret) if goal.pick != goal.best else "0",
        number(goal.mean),
    ]


def rule_rows(found: Verification) -> list[list[str]]:
    """A row a goal and pair of rules, under `RULE_HEADS`."""
    return [
        [
            each.goal.metric,
            each.better,
            each.other,
            with_sem(each.lead.value, each.lead.error),
            str(each.num_recipes),
            verdict(each.lead),
        ]
        for each in found.differences
    ]


def notes(found: Verification) -> list[str]:
    """Where the front moved, what is missing, and how to read the tables."""
    lines = [line for line in [_sentence(found)] if line]
    lines += [_front(found, rule) for rule in found.rules if rule.goals]
    for rule in found.rules:
        if rule.unmeasured:
            names = listed([_name(found, number) for number in rule.unmeasured])
            lines.append(f"{rule.rule}: without a result {names}.")
    if not found.is_complete:
        ended = sum(trial.ended for trial in found.run.trials)
        total = len(found.plan.points) * found.plan.seeds
        lines.append(f"Not complete: {ended} of {total} trials; the same command goes on.")
    if found.plan.lr_factor == 1:
        lines.append(
            "Peak rates are the proxy's own, which can be too large for a wider model; --lr-factor "
            "changes them."
        )
    lines.append(
        "Decided pairs are those whose difference is significant at the larger model; the others "
        "say little of the proxy. Kendall's tau is twice the share of right pairs less 1. "
        "Intervals are for other recipes and seeds. Correlations depend on how different the "
        "recipes are."
    )
    return [*lines, ANCHOR]


def _front(found: Verification, rule: RuleVerdict) -> str:
    moved = [
        f"{word} {listed([_name(found, number) for number in numbers])}"
        for word, numbers in (
            ("stayed", rule.stayed), ("left it", rule.left), ("came to it", rule.entered),
        )
        if numbers
    ]  # fmt: skip
    return f"Front by {rule.rule}: {'; '.join(moved) or 'no recipe of it was carried'}."


def _name(found: Verification, trial: int) -> str:
    name = found.names.get(trial)
    return f"#{trial}" if name is None else f"#{trial} {name}"


def _share(found: Bounded, count: int) -> str:
    if math.isnan(found.value):
        return f"n/a of {count}"
    low, high = (f"{100 * each:.0f}" for each in (found.low, found.high))
    return f"{percent(found.value)} ({low} to {high}) of {count}"


def _correlation(found: Bounded) -> str:
    if math.isnan(found.value):
        return "n/a"
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def _difference(found: Estimate) -> str:
    significance = "unknown" if found.significant is None else VERDICTS[found.significant]
    return f"{with_sem(found.value, found.error)} ({significance})"


def as_json(found: Verification) -> dict[str, Any]:
    """A verification as data; NaN where something is not known.

    {"plan": see `hpo.core.verification_plan.VerificationPlan`, "complete": bool, "seeds": int,
     "rules": [{"rule": str, "stayed": [int], "left": [int], "entered": [int],
                "unmeasured": [int], "goals": [GOAL]}],
     "differences": [{"goal": str, "better": str, "other": str, "recipes": int, "value": float,
                      "error": float, "significant": bool | null}]}

    GOAL = {"goal": str, "pick": int, "best": int, "place": int, "mean": float, "recipes": int,
            "pairs": int, "decided": int, "regret": {"value", "error", "low", "high",
            "significant"}, and "accuracy", "accuracy_decided", "spearman", "kendall", each
            {"value", "low", "high"}}

    Numbers of trials are the run's.
    """
    return {
        "plan": found.plan.to_dict(),
        "complete": found.is_complete,
        "seeds": found.num_seeds,
        "rules": [
            {
                "rule": rule.rule,
                "stayed": list(rule.stayed),
                "left": list(rule.left),
                "entered": list(rule.entered),
                "unmeasured": list(rule.unmeasured),
                "goals": [_goal_json(goal) for goal in rule.goals],
            }
            for rule in found.rules
        ],
        "differences": [
            {
                "goal": each.goal.metric,
                "better": each.better,
                "other": each.other,
                "recipes": each.num_recipes,
                "value": each.lead.value,
                "error": each.lead.error,
                "significant": each.lead.significant,
            }
            for each in found.differences
        ],
    }


def _goal_json(found: GoalVerdict) -> dict[str, Any]:
    agreed, (low, high) = found.agreement, found.regret.interval
    shares = ("accuracy", "accuracy_decided", "spearman", "kendall")
    return {
        "goal": found.goal.metric,
        "pick": found.pick,
        "best": found.best,
        "place": found.place,
        "mean": found.mean,
        "recipes": agreed.num_recipes,
        "pairs": agreed.num_pairs,
        "decided": agreed.num_decided,
        "regret": {
            "value": found.regret.value,
            "error": found.regret.error,
            "low": low,
            "high": high,
            "significant": found.regret.significant,
        },
        **{name: dataclasses.asdict(getattr(agreed, name)) for name in shares},
    }


def _sentence(found: Verification) -> str:
    """How many pairs are right by each goal."""
    parts = []
    for goal in found.run.goals:
        each = [g.agreement for rule in found.rules for g in rule.goals if g.goal == goal]
        shares = [agreed.accuracy.value for agreed in each if agreed.num_pairs]
        if shares:
            low, high = (percent(pick(shares)) for pick in (min, max))
            parts.append(f"{goal.metric} {low if low == high else f'{low} to {high} by rule'}")
    if not parts:
        return ""
    return f"Pairs of recipes that are ordered at {found.plan.size} as here: {', '.join(parts)}."
