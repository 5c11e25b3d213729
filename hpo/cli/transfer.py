"""`hpo transfer`: weight decay and schedule for the large run, by several rules side by side."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hpo.analysis import transfer
from hpo.analysis.transfer import Proxy, Scale
from hpo.cli import trial_names
from hpo.cli.console import new_console
from hpo.cli.options import DONE
from hpo.core import format, metrics
from hpo.report.results import Results
from hpo.report.terminal_tables import finite
from hpo.storage import run_folder

NAMES = {
    "params": "parameters",
    "tokens": "tokens",
    "batch": "tokens a step",
    "lr": "peak rate",
    "steps": "steps",
    "tokens_per_param": "tokens a parameter",
}


def run(arguments: argparse.Namespace) -> int:
    """Print what each rule says of the trial, or of every trial of the front."""
    place = run_folder.find_run(arguments.run, arguments.out, arguments.storage)
    results = Results(run_folder.read(place))
    batch = _tokens_a_step(arguments)
    if batch > arguments.tokens:
        raise ValueError(
            f"--tokens must be at least a step's, got {arguments.tokens:g} with {batch:g} a step."
        )
    target = Scale(params=arguments.params, tokens=arguments.tokens, batch=batch, lr=arguments.lr)
    trials = trial_names.picks(results, arguments.trial)
    proxies = [transfer.read_proxy(results.run, trial) for trial in trials]
    if arguments.json:
        print(json.dumps(finite(as_json(results, proxies, target)), indent=1, allow_nan=False))
    else:
        _print(results, proxies, target, new_console())
    return DONE


def _tokens_a_step(arguments: argparse.Namespace) -> float:
    """Tokens a step, from what is given in tokens or in sequences."""
    if arguments.batch_tokens is not None:
        if arguments.seq_len is not None:
            raise ValueError(
                "--batch-tokens counts tokens, so --seq-len has no effect; leave one of them out, "
                "or give the sequences a step as --batch."
            )
        return float(arguments.batch_tokens)
    if arguments.seq_len is not None:
        return float(arguments.batch * arguments.seq_len)
    if arguments.batch < transfer.LEAST_BATCH:
        raise ValueError(
            f"--batch {arguments.batch:g} counts sequences or tokens? Add --seq-len for sequences "
            "a step, or give the tokens a step as --batch-tokens."
        )
    return float(arguments.batch)


def as_json(results: Results, proxies: Sequence[Proxy], target: Scale) -> dict[str, Any]:
    """What `--json` prints; a timescale without end, as without decay, is null.

    {"run": str, "target": SCALE, "rules": {rule: what it rests on},
     "trials": [{"trial": int, "knee": bool, "proxy": SCALE, "weight_decay": float | null,
                 "tau_frac": float | null, "schedule": {"warmup_frac": float, "warmup_steps": int,
                 "decay_frac": float, "shape": str, "floor_ratio": float},
                 "advice": {rule: {"weight_decay": float | null, "tau_frac": float | null}},
                 "ratios": {quantity: large run's over the proxy's}, "notes": [str],
                 "warnings": [str]}]}

    SCALE = {"params": float, "tokens": float, "batch": float, "lr": float}, batch in tokens.
    `weight_decay` is torch's: a step shrinks weights by lr times it.
    """
    return {
        "run": results.run.name,
        "target": dataclasses.asdict(target),
        "rules": {name: rule.rests_on for name, rule in transfer.RULES.items()},
        "trials": [
            {
                "trial": proxy.trial.number,
                "knee": results.is_knee(proxy.trial),
                "proxy": dataclasses.asdict(proxy.scale),
                "weight_decay": proxy.decay,
                "tau_frac": proxy.tau,
                "schedule": dataclasses.asdict(proxy.schedule)
                | {"warmup_steps": _warmup(proxy, target)},
                "advice": {
                    each.rule: {"weight_decay": each.decay, "tau_frac": each.tau}
                    for each in transfer.advise(proxy, target)
                },
                "ratios": {name: ratio for name, (_, _, ratio) in _ratios(proxy, target).items()},
                "notes": list(proxy.notes),
                "warnings": transfer.warnings(proxy, target),
            }
            for proxy in proxies
        ],
    }


def _print(results: Results, proxies: Sequence[Proxy], target: Scale, console: Console) -> None:
    console.print(_table(results, proxies, target))
    for name, rule in transfer.RULES.items():
        console.print(Text(f"- {name}: {rule.rests_on}"), soft_wrap=True)
    for proxy in proxies:
        title = format.title(proxy.trial)
        console.print(Text(f"{title}: {_schedule(proxy, target)}"), soft_wrap=True)
        for line in (*proxy.notes, *transfer.warnings(proxy, target)):
            console.print(Text(f"  {line}"), soft_wrap=True)
    console.print(_reach(proxies[0], target))


def _table(results: Results, proxies: Sequence[Proxy], target: Scale) -> Table:
    """A row a trial: the proxy's decay, and what each rule makes of it."""
    run = results.run
    table = Table(
        title=Text(f"{run.name}: weight decay (and timescale as a share of the run)"),
        title_justify="left",
    )
    table.add_column("trial", no_wrap=True)
    for goal in run.goals:
        table.add_column(Text(goal.metric), justify="right")
    table.add_column("seeds", justify="right")
    for name in ("proxy", *transfer.RULES):
        table.add_column(name, justify="right")
    for proxy in proxies:
        mark = "*" if results.is_knee(proxy.trial) else ""
        cells = [f"{format.title(proxy.trial)}{mark}"]
        point = results.setting(proxy.trial)
        cells += [metrics.measured(point.trial, goal.metric) for goal in run.goals]
        cells.append(str(len(point.seeds)))
        cells.append(_cell(proxy.decay, proxy.tau))
        cells += [_cell(each.decay, each.tau) for each in transfer.advise(proxy, target)]
        table.add_row(*(Text(cell) for cell in cells))
    if any(results.is_knee(proxy.trial) for proxy in proxies):
        table.caption = Text("* knee")
    return table


def _reach(proxy: Proxy, target: Scale) -> Table:
    """How far the rules have to reach from the first of the trials."""
    table = Table(
        "",
        "proxy",
        "large run",
        "ratio",
        title="Extrapolation from the proxy",
        title_justify="left",
    )
    for name, (one, other, ratio) in _ratios(proxy, target).items():
        cells = (format.number(each, 3) for each in (one, other, ratio))
        table.add_row(NAMES[name], *cells)
    return table


def _ratios(proxy: Proxy, target: Scale) -> dict[str, tuple[float, float, float]]:
    return transfer.ratios(proxy.scale, target)


def _cell(decay: float | None, tau: float | None) -> str:
    if decay is None or tau is None:
        return "n/a"
    return f"{format.number(decay, 3)} ({format.number(tau, 3)})"


def _schedule(proxy: Proxy, target: Scale) -> str:
    """The schedule by shares of the large run."""
    found = proxy.schedule
    start = f"warm up over {found.warmup_frac:.2%} ({_warmup(proxy, target)} steps)"
    if found.decay_frac == 0 or found.floor_ratio == 1 or found.warmup_frac == 1:
        return f"{start}, then hold the rate to the end"
    fall = f"fall by {found.shape} to {found.floor_ratio:g} of the peak"
    if found.warmup_frac + found.decay_frac >= 1:
        return f"{start}, then {fall} over the rest"
    return f"{start}, hold the rate, then {fall} in the last {found.decay_frac:.2%}"


def _warmup(proxy: Proxy, target: Scale) -> int:
    return round(proxy.schedule.warmup_frac * target.steps)
