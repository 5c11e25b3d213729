"""The model card of an exported trial: what it is, its evidence, how to check it, what limits it.

Whatever a user named is escaped: no name becomes markup, a link or a new line of a table.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpo.core import format
from hpo.core import metrics as wording
from hpo.core.metrics import sem
from hpo.core.objective import Exported
from hpo.core.trial import Run, Trial
from hpo.front.front import Standing
from hpo.report import pretraining_worth
from hpo.report.results import Results

CHECK = """\
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

ids = load_file("evaluation/validation.safetensors")["ids"].long()
model = AutoModelForCausalLM.from_pretrained("base").eval()
nats = 0.0
with torch.no_grad():
    for rows in ids.split(16):
        logits = model(input_ids=rows[:, :-1]).logits.float().flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, rows[:, 1:].flatten(), reduction="sum")
        nats += loss.item()
print(nats / ids[:, 1:].numel())
"""
"""Prints base_loss; run in the exported folder."""


STANDINGS: dict[Standing, str] = {
    "front": "on the front",
    "undecided": "perhaps on the front",
    "dominated": "dominated",
    "replicate": "a further seed of another trial",
    "outside limits": "outside the study's limits",
    "not measured": "without a number for every goal",
    "partial": "measured at a part of the horizon",
    "pruned": "stopped on the way",
    "failed": "failed",
    "running": "not finished",
}


SAME = 1e-6
"""Relative difference below which a metric counts as measured the same again; assumed: above the
rounding of sums in float32, below any standard error."""


def card(results: Results, trial: Trial, exported: Exported, licence: str = "other") -> str:
    """The card in Markdown; `licence`: an id of the hub, for its metadata."""
    run = results.run
    parts = [
        _metadata(exported, licence),
        f"# {_text(run.name)}, trial {_text(format.title(trial))}",
        _what(results, trial),
        "## Evidence",
        _metrics(results, trial),
        _bullets(_evidence(results, trial)),
        "## Recipe",
        _table(("hyperparameter", "value"), _params(trial)),
        "Everything else is in `recipe/recipe.json`, rate and decay of every step in "
        "`recipe/course.csv`. What the files for other trainers cannot express:",
        _bullets(_lost(exported)),
        "## Check it",
        f"The loss of the base on `evaluation/validation.safetensors` is "
        f"{exported.result.metrics.get('base_loss', math.nan):.6f} nats a token:",
        f"```python\n{CHECK}```",
        *_harness(exported),
        *_moved(exported),
        "## Limits",
        _bullets(_limits(results, trial, exported)),
        "## Made with",
        _table(("what", "version"), sorted(_versions(run).items())),
        "## Files",
        _table(("file", "is"), sorted(exported.files.items())),
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(exported: Exported, licence: str) -> str:
    """What the hub reads: YAML, of which JSON strings are a part."""
    base = getattr(exported, "base_model", None)
    lines = ["library_name: transformers", f"license: {json.dumps(licence)}"]
    if base is not None:
        lines.append(f"base_model: {json.dumps(str(base))}")
    return "\n".join(["---", *lines, "tags:", "- plasticity-hpo", "---"])


def differences(trial: Trial, exported: Exported) -> list[str]:
    """Goals whose numbers, measured for these weights, are not those of the record."""
    found = []
    for name in ("base_loss", "finetuned"):
        then, now = trial.metrics.get(name), exported.result.metrics.get(name)
        if then is None or now is None or math.isclose(then, now, rel_tol=SAME):
            continue
        found.append(f"{name} is {now:.6g} for these weights, and {then:.6g} in the record")
    return found


def _what(results: Results, trial: Trial) -> str:
    run, found, knee = results.run, results.front, results.is_knee(trial)
    place = "the knee of the front" if knee else STANDINGS[found.standings[trial.number]]
    text = (
        f"A base model and its fine-tunes from a search over pretraining hyperparameters: {place} "
        f"among {len(found.points)} settings that count. It is evidence for a recipe at small "
        "scale, not a model to use."
    )
    return f"{text} {_text(run.description)}".strip()


def _metrics(results: Results, trial: Trial) -> str:
    """This trial's setting beside the baselines, as the front shows them: means over seeds."""
    run, own = results.run, results.setting(trial)
    others = [
        results.setting(each)
        for each in results.front.points
        if each.baseline is not None and each.number != own.trial.number
    ]
    columns = (own, *others)
    end = wording.measure(run).ends[1]
    names = [*wording.score_names(run), *(f"task.{name}.{end}" for name in wording.task_names(run))]
    names += [name for name in ("base_loss", "forgetting_nats", "tau_frac", "tokens_per_param")
              if name in trial.metrics and name not in names]  # fmt: skip
    rows = [
        (wording.named(name), *(wording.measured(each.trial, name) for each in columns))
        for name in names
    ]
    rows.append(("pretraining seeds", *(str(len(each.seeds)) for each in columns)))
    return _table(("metric", *(format.title(each.trial) for each in columns)), rows)


def _evidence(results: Results, trial: Trial) -> Iterable[str]:
    run, found = results.run, results.front
    yield (
        "the table shows means over pretraining seeds, as the front does; ± is one standard error "
        "over seeds and, where they are known, test rows; without it there is one seed or no spread"
    )
    own = ", ".join(f"{goal.metric} {wording.measured(trial, goal.metric)}" for goal in run.goals)
    yield (
        f"these weights: pretraining seed {trial.seed}, fidelity {trial.fidelity:g} of the full "
        f"horizon, {own}"
    )
    seeds = results.setting(trial).every
    for goal in run.goals if len(seeds) > 1 else ():
        shown = ", ".join(format.number(t.metrics.get(goal.metric, math.nan)) for t in seeds)
        yield f"{goal.metric} over pretraining seeds: {shown} (n = {len(seeds)})"
    yield (
        f"compared: {len(found.points)} settings that count, {len(run.trials)} trials; goals "
        + ", ".join(f"{goal.metric} {goal.direction}" for goal in run.goals)
        + f"; sampler {run.reproduce.get('study', {}).get('sampler', 'unknown')}"
    )
    on_front = ", ".join(format.title(each) for each in found.trials)
    yield f"front: {on_front or 'empty'}"
    member = found.membership.get(results.setting(trial).trial.number, math.nan)
    if math.isfinite(member):
        yield f"probability of belonging to the front: {member:.2f}"
    yield from trial.notes


def _params(trial: Trial) -> list[tuple[str, str]]:
    return [(path, format.setting(value)) for path, value in trial.params.items()]


def _lost(exported: Exported) -> Iterable[str]:
    files = [sentences for sentences in exported.unsupported.values() if sentences]
    common = [each for each in (files[0] if files else []) if all(each in some for some in files)]
    if common and len(files) > 1:
        yield f"all of them: {'; '.join(common)}"
    for name, sentences in exported.unsupported.items():
        own = [each for each in sentences if len(files) < 2 or each not in common]
        if own:
            yield f"{name}: {'; '.join(own)}"


def _harness(exported: Exported) -> Iterable[str]:
    """How lm-evaluation-harness gives the scores again."""
    tasks = [name for name in exported.files if re.fullmatch(r"evaluation/[\w-]+\.yaml", name)]
    tuned = [name for name in exported.files if name.startswith(("adapters/", "finetuned/"))]
    if not tasks or not tuned:
        return
    task = tasks[0].removeprefix("evaluation/").removesuffix(".yaml")
    first = next((name for name in tuned if name.split("/")[1].startswith(f"{task}-")), tuned[0])
    model = f"pretrained=base,peft={first}" if first.startswith("adapters/") else (
        f"pretrained={first}"
    )  # fmt: skip
    yield (
        "The scores of a fine-tune, by lm-evaluation-harness (each task's mean over its seeds is "
        "its `after` above); where the folder has moved, fix data_files in evaluation/*.yaml:"
    )
    yield (
        f"```sh\nlm_eval --model hf --model_args {model},dtype=float32 --tasks hpo_{task} "
        "--include_path evaluation\n```"
    )


def _moved(exported: Exported) -> Iterable[str]:
    """How an adapter is loaded where the folder is another than the one it was written to.

    PEFT takes a relative name of a base from the current folder, or else from the hub; so the
    adapter has the absolute one, which works from every folder until this one is moved.
    """
    first = next((name for name in exported.files if name.startswith("adapters/")), None)
    if first is None:
        return
    yield (
        "`AutoPeftModelForCausalLM` loads an adapter with its base where this folder was written; "
        "where it has moved, load them apart:"
    )
    yield (
        "```python\nfrom peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
        'base = AutoModelForCausalLM.from_pretrained("base")\n'
        f'model = PeftModel.from_pretrained(base, "{first}")\n```'
    )


def _limits(results: Results, trial: Trial, exported: Exported) -> Iterable[str]:
    yield (
        "proxy scale: what is best here need not be best for a large model; hpo transfer says "
        "what rules of the literature make of the decay"
    )
    warning = pretraining_worth.warning(results.pretraining_worth)
    if warning:
        yield warning
    if len(results.setting(trial).every) < 2:
        yield "one pretraining seed: the spread between pretraining runs is not known"
    if not math.isfinite(sem(trial, "gain")) and "gain" in trial.metrics:
        yield "one fine-tuning seed: scores have no standard error"
    settings = len(results.front.points)
    if settings > 1:
        yield (
            f"chosen among {settings} settings after they were measured, so its lead is on average "
            "smaller than it looks"
        )
    yield from (f"this base is {label}" for label in trial.labels)
    tokens = exported.result.cost.get("tokens", 0.0)
    if tokens:
        yield (
            f"weights were not in the store any more: {format.number(tokens, 3)} tokens were "
            "trained again for this export"
        )
    yield from differences(trial, exported)


def _versions(run: Run) -> dict[str, str]:
    found = {str(name): str(value) for name, value in run.reproduce.get("versions", {}).items()}
    found["code revision"] = str(run.reproduce.get("revision"))
    found["machine"] = json.dumps(run.reproduce.get("machine", {}))
    return found


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_row(head), _row(["---"] * len(head), plain=True)]
    return "\n".join([*lines, *(_row(row) for row in rows)])


def _row(cells: Sequence[str], plain: bool = False) -> str:
    return f"| {' | '.join(cell if plain else _text(cell) for cell in cells)} |"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_text(line)}" for line in lines) or "- nothing"


def _text(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    plain = html.escape(format.escape_controls(" ".join(str(text).split())), quote=False)
    return re.sub(r"([\\`*_\[\]|#~$!])", r"\\\1", plain)


def as_json(run: Run, trial: Trial, exported: Exported) -> dict[str, Any]:
    """What `hpo export --json` prints.

    {"run": str, "trial": int, "files": {path: what}, "not_expressed": {file: [str]},
     "metrics": {name: float}, "tokens_trained": float, "differences": [str]}
    """
    metrics: Mapping[str, float] = exported.result.metrics
    return {
        "run": run.name,
        "trial": trial.number,
        "files": dict(exported.files),
        "not_expressed": {name: list(lost) for name, lost in exported.unsupported.items()},
        "metrics": dict(metrics),
        "tokens_trained": exported.result.cost.get("tokens", 0.0),
        "differences": differences(trial, exported),
    }
