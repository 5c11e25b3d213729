"""`hpo verify`: a run's recipes at larger models, and whether the proxy ordered them rightly.

What is measured at a size is an ordinary study of fixed points in a folder below the run's, so that
an interrupted verification goes on, and finished stages are found in the store.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from hpo.analysis import carried_recipes, transfer
from hpo.cli import run_choice
from hpo.cli.console import new_console
from hpo.cli.options import DONE, FAILED, INTERRUPTED
from hpo.cli.run import executor_options
from hpo.cli.run_choice import Opened
from hpo.cli.run_study_file import study_of_run
from hpo.controller import Controller
from hpo.core import checks, format
from hpo.core.format import amount, duration, plural
from hpo.core.objective import Request
from hpo.core.spec import GridPoint, StudySpec
from hpo.core.verification_plan import VerificationPlan
from hpo.executors import EXECUTORS
from hpo.executors.interrupts import Interrupted, interrupts
from hpo.progress import Display
from hpo.report import claim_tables
from hpo.report.html.page import write_report
from hpo.report.results import Results
from hpo.report.terminal_tables import finite
from hpo.report.verification import as_json
from hpo.search import preflight
from hpo.storage import run_folder, verifications
from hpo.storage.run_folder import RunFolder
from hpo.study_files import StudyRequest, reload

PLAN_HEADS = ("recipe", "rules", "weight decay", "peak rate", "steps")


@dataclass(frozen=True, kw_only=True)
class Sized:
    """A verification at one size, before it is measured."""

    plan: VerificationPlan
    spec: StudySpec
    request: StudyRequest
    opened: Opened


def run(arguments: argparse.Namespace) -> int:
    """Measure what is left of the plan at each size, then say what follows."""
    console = new_console(stderr=arguments.json)
    place = run_folder.find_run(arguments.run, arguments.out, arguments.storage)
    results = Results(run_folder.read(place))
    every = [_sized(arguments, place, results, size) for size in _sizes(arguments.sizes)]
    if arguments.dry_run:
        return _dry_run(arguments, every, console)
    _check_budget(every, arguments.budget_s)
    try:
        with interrupts():
            failed = _measure_all(arguments, place, every, console)
    except (Interrupted, KeyboardInterrupt):
        console.print(Text("Stopped; what was finished is kept. To continue:"))
        console.print(Text(arguments.command_line), soft_wrap=True)
        return INTERRUPTED
    results = Results(results.run, verifications.read_all(place))
    write_report(results, place.report)
    if arguments.json:
        found = [as_json(each) for each in results.verifications]
        print(json.dumps(finite({"run": place.name, "verifications": found}), indent=1))
    else:
        for part in claim_tables.verification_parts(results):
            console.print(part)
    console.print(Text(f"Report: {place.report.absolute()}"), soft_wrap=True)
    return FAILED if failed or not results.verifications else DONE


def _sizes(text: str) -> list[str]:
    names = _names(text)
    if not names:
        raise ValueError(
            f"--sizes needs at least one preset such as llama-0.2m, got {checks.shown(text)}."
        )
    return names


def _names(text: str) -> list[str]:
    """In their order, each once."""
    return list(dict.fromkeys(each.strip() for each in text.split(",") if each.strip()))


def _rules(text: str | None) -> tuple[str, ...]:
    """Rules of transfer by name; all of them where none is named."""
    names = tuple(transfer.RULES) if text is None else tuple(_names(text))
    for name in names:
        if name not in transfer.RULES:
            raise ValueError(f"--rules has no rule {name!r}; {checks.near(name, transfer.RULES)}")
    if not names:
        raise ValueError(
            f"--rules needs at least one of {', '.join(transfer.RULES)}, got {checks.shown(text)}."
        )
    return names


def _sized(arguments: argparse.Namespace, place: RunFolder, results: Results, size: str) -> Sized:
    """The plan at a size and the study that measures it.

    Raises:
        ValueError: too few recipes, no such size, or a study that cannot be measured at another.
    """
    noted = study_of_run(arguments, place)
    study = reload(results.run, noted)
    if carried_recipes.PRESET not in study.objective.values():
        raise ValueError(
            f"run {place.name!r} has no hyperparameter {carried_recipes.PRESET}, so its recipes "
            "cannot be carried to another size."
        )
    fixed = {**noted.params, carried_recipes.PRESET: size}
    request = dataclasses.replace(noted, params=fixed, lanes=arguments.lanes)
    sized = request.spec()
    plan = carried_recipes.plan(
        results.run,
        carried_recipes.chosen(results.front, arguments.recipes),
        size=size,
        num_params=_num_params(sized),
        tokens_per_param=arguments.tokens_per_param,
        rules=_rules(arguments.rules),
        lr_factor=arguments.lr_factor,
        seeds=arguments.seeds,
    )
    spec = _study(sized, plan)
    opened = run_choice.choose(spec, verifications.folder_of(place), None, fork=True)
    return Sized(plan=plan, spec=spec, request=request, opened=opened)


def _num_params(spec: StudySpec) -> float:
    """Of the study's model, as its objective counts them."""
    method = getattr(spec.objective, "estimate", None)
    request = Request(params={}, fidelity=1.0, seed=spec.seed)
    found = {} if method is None else method([request], timed=False)
    if "parameters" not in found:
        raise ValueError(
            f"the objective of study {spec.name!r} gives no estimate of its parameters, so that "
            "nothing can be carried to another size."
        )
    return float(found["parameters"])


def _study(sized: StudySpec, plan: VerificationPlan) -> StudySpec:
    """The points of a plan as a study of their own, all at one seed before any at the next."""
    grid = tuple(GridPoint(name=each.name, params=each.params) for each in plan.points)
    return dataclasses.replace(
        sized,
        name=f"{plan.run}-verify-{plan.size}",
        description=f"Recipes of {plan.run} at {plan.size}.",
        space={},
        priors={},
        warm=(),
        limits=(),
        rungs=(1.0,),
        baselines=(),
        grid=grid,
        replicates=plan.seeds,
        trials=len(grid) * plan.seeds,
        replicate_share=0.0,
        confirm=0,
        patience=None,
        budget_s=None,
        max_flops=None,
        paper=None,
        contrasts=None,
    )


def _check_budget(every: Sequence[Sized], budget_s: float | None) -> None:
    """Raise ValueError where a budget does not pay for one recipe at the first size."""
    first = every[0]
    if budget_s is None or first.opened.finished:
        return
    cost = preflight.estimate(first.spec, 0)
    seconds = (cost or {}).get("seconds")
    if seconds is not None and seconds / first.spec.trials > budget_s:
        raise ValueError(
            f"--budget {duration(budget_s)} does not pay for one recipe at {first.plan.size}, "
            f"which takes about {duration(seconds / first.spec.trials)}; give more time, or a "
            "smaller --sizes or --tokens-per-param."
        )


def _measure_all(
    arguments: argparse.Namespace, place: RunFolder, every: Sequence[Sized], console: Console
) -> bool:
    """Size by size, within the budget of all; returns whether one was stopped by its failures."""
    spent = 0.0
    for each in every:
        left = None if arguments.budget_s is None else arguments.budget_s - spent
        if left is not None and left <= 0:
            console.print(Text(f"The budget is used up before {each.plan.size}."))
            break
        controller, seconds = _measure(arguments, place, each, left, console)
        spent += seconds
        stop = controller.stop_reason
        if stop is not None:
            console.print(Text(f"{each.plan.size}: {stop.text}."), soft_wrap=True)
            if stop.limit is None:
                return True
    return False


def _measure(
    arguments: argparse.Namespace,
    place: RunFolder,
    sized: Sized,
    budget_s: float | None,
    console: Console,
) -> tuple[Controller, float]:
    """Measure what is left at a size; the controller, and the device seconds of all its trials."""
    opened, name = sized.opened, sized.opened.place.name
    spec = dataclasses.replace(sized.spec, name=name, budget_s=budget_s)
    folder = verifications.folder_of(place)
    executor = EXECUTORS[arguments.executor](
        spec, sized.request, folder / name, executor_options(arguments)
    )
    with contextlib.closing(executor):
        if opened.finished < spec.trials:
            preflight.check(spec)
        opened.clear()
        made = run_folder.make_run_folder(folder, name, None)
        verifications.write_plan(made, sized.plan)
        controller = Controller(
            spec,
            made.url,
            executor,
            wall_s=arguments.wall,
            accept_changes=arguments.accept_changes,
        )
        title = f"{sized.plan.size}: {plural(len(sized.plan.points), 'point')}"
        console.print(Text(f"{title}, {plural(sized.plan.seeds, 'seed')}"), soft_wrap=True)
        with Display(console, spec.trials, opened.finished) as display:
            record = controller.run(display, wait=arguments.wait)
    return controller, sum(trial.cost.get("time_s", 0.0) for trial in record.trials)


def _dry_run(arguments: argparse.Namespace, every: Sequence[Sized], console: Console) -> int:
    """Print the plan and what it would cost; nothing is trained."""
    costs = [preflight.estimate(each.spec, each.opened.finished) for each in every]
    if arguments.json:
        plans = [
            {"plan": each.plan.to_dict(), "trials": each.spec.trials, "estimate": cost}
            for each, cost in zip(every, costs, strict=True)
        ]
        print(json.dumps(finite({"run": every[0].plan.run, "plans": plans}), indent=1))
        return DONE
    for each, cost in zip(every, costs, strict=True):
        title = f"Plan at {each.plan.size}, {amount(each.plan.num_params)} parameters"
        console.print(claim_tables.plain_table(title, PLAN_HEADS, _plan_rows(each.plan)))
        console.print(Text(_cost(each, cost)), soft_wrap=True)
    return DONE


def _plan_rows(plan: VerificationPlan) -> list[list[str]]:
    return [
        [
            each.name.rpartition(", decay")[0],
            ", ".join(each.rules),
            "as it is" if each.decay is None else format.number(each.decay),
            format.setting(each.params["pretrain.lr"]),
            format.setting(each.params["pretrain.steps"]),
        ]
        for each in plan.points
    ]


def _cost(sized: Sized, cost: dict[str, Any] | None) -> str:
    left = max(0, sized.spec.trials - sized.opened.finished)
    text = f"{plural(left, 'trial')} left of {sized.spec.trials}"
    if cost is None or not left:
        return f"{text}."
    tokens = sum(cost.get("tokens", {}).values()) - sum(cost.get("stored", {}).values())
    text += f": {amount(tokens)} tokens"
    if cost.get("seconds") is not None:
        text += f", about {duration(cost['seconds'])} on one worker"
    return f"{text}."
