"""Writes the generated parts of all documentation: `python -m tests.docs`.

Between `<!-- KIND NAME -->` and `<!-- end KIND NAME -->` a Markdown file has

- `packages FOLDER`: a row for each package and module of a folder, from its docstring,
- `files FOLDER`: a row for each file of a folder,
- `tree FOLDER`: the same for every folder below a folder,
- `parameters NAME`: the hyperparameters of the recipe of this name,
- `bench NAME`: the figures of a results file of `tests/bench/results`,
- `headlines all`: the figures in README,
- `claims all`: what the runs of `studies/RESULTS.json` claim.

`tests/test_docs.py` fails where a file is not what this gives.
"""

from __future__ import annotations

import ast
import json
import math
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hpo.core.format import duration, number, plural, with_sem
from objectives import Recipe, VisionRecipe
from objectives.config.reference import parameters
from objectives.config.tree import SHORT_FORMS
from tests.bench import tables

ROOT = Path(__file__).parents[1]


DOCUMENTS = tuple(
    ROOT / name
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "hpo/README.md",
        "objectives/README.md",
        "studies/README.md",
        "examples/README.md",
        "tests/README.md",
        "tests/bench/RESULTS.md",
    )
)


RECIPES = {"Recipe": Recipe, "VisionRecipe": VisionRecipe}


HEADLINES = (
    ("peer-epyc-2-cores", "quickstart.ratio",
     "trials per hour of the quickstart, against Optuna, Trainer and PEFT with a process a core"),
    ("stages-epyc-2-cores", "tokens_saved_ratio",
     "fewer pretraining tokens on a grid of schedules, as shared stages are trained once"),
    ("faults-epyc-2-cores", "all.faults", "injected faults of workers, databases, networks, disks"),
    ("faults-epyc-2-cores", "all.lost", "of their trials lost"),
    ("faults-epyc-2-cores", "all.wrong", "of their trials with a wrong result"),
    ("calibration-epyc-2-cores", "truly_non_dominated",
     "of the points reported as the front are truly non-dominated (synthetic, noisy)"),
    ("search-epyc-2-cores", "branin-currin.noise_0.0.ours.at_50",
     "of the best hypervolume after half of 24 trials, MOMFBraninCurrin without noise"),
    ("search-epyc-2-cores", "branin-currin.noise_0.15.ours.truly_on_front",
     "of the reported points are truly on the front, the same with 15 % noise"),
    ("report-epyc-2-cores", "open_s", "to open the report of 2,000 trials"),
)  # fmt: skip
"""Results file, figure, and what it is: README's table."""


PICTURES = {
    "notebook.ipynb": "A study in a notebook: run, front, figures, data frame, Optuna.",
    "front.png": "The front of the quickstart study.",
    "lanes.png": "Tokens a second against the number of lanes.",
    "reliability.png": "Stated against observed probability of belonging to the front.",
    "report.png": "The HTML report of a quickstart run.",
}
"""Files that cannot say themselves what they are."""


def main() -> None:
    """Fill every document in place."""
    for path in DOCUMENTS:
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


def filled(text: str) -> str:
    """The document with its generated parts as they are now."""
    pattern = r"(<!-- (\w+) (\S+) -->\n).*?(<!-- end \2 \3 -->)"
    return re.sub(
        pattern,
        lambda found: f"{found[1]}{KINDS[found[2]](found[3])}\n{found[4]}",
        text,
        flags=re.S,
    )


def headlines(_: str) -> str:
    """A few figures of several benches."""
    rows = []
    for result, name, words in HEADLINES:
        data = json.loads((tables.RESULTS / f"{result}.json").read_text(encoding="utf-8"))
        figure = data["figures"][name]
        unit = "" if figure["unit"] in ("x", "trials", "faults", "of best") else figure["unit"]
        error = "" if figure["sem"] is None else f" ± {figure['sem']:.2g}"
        times = "times" if figure["unit"] == "x" else ""
        value = f"{tables.shown(figure['value'])}{error} {unit}{times}"
        rows.append((value.strip(), words, figure["goal"] or "", f"`{data['name']}`"))
    return _table(("value", "what it is", "goal", "bench"), rows)


def packages(folder: str) -> str:
    """Sub-packages and modules of a folder."""
    rows = [
        (f"`{path.parent.name}/`", summary(path))
        for path in sorted((ROOT / folder).glob("*/__init__.py"))
    ]
    rows += [(f"`{path.name}`", summary(path)) for path in sources(folder)]
    return _table(("part", "what it is"), rows)


def files(folder: str) -> str:
    """Files of a folder, with those of folders below it that are no packages of their own."""
    return _table(("file", "what it is"), [(f"`{p.name}`", summary(p)) for p in sources(folder)])


def tree(folder: str) -> str:
    """The files of every folder below a folder, a table each."""
    below = sorted({str(path.parent.relative_to(ROOT)) for path in (ROOT / folder).rglob("*/*.py")})
    return "\n\n".join(f"**{each}**\n\n{files(each)}" for each in below if sources(each))


def sources(folder: str) -> list[Path]:
    """Files of a folder that a person reads, without `__init__.py` and documents."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", folder],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    paths = [ROOT / name for name in listed if str(Path(name).parent) == folder]
    hidden = (".md", ".typed", ".json")
    return [
        path
        for path in sorted(paths)
        if path.is_file() and path.name != "__init__.py" and path.suffix not in hidden
    ]


def summary(path: Path) -> str:
    """The first paragraph of a module's docstring, or a script's first comment."""
    if path.name in PICTURES:
        return PICTURES[path.name]
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        words = ast.get_docstring(ast.parse(text)) or ""
    else:
        words = "\n".join(_comment(text))
    return " ".join(words.split("\n\n")[0].split())


def _comment(text: str) -> Iterator[str]:
    """The lines of the first comment."""
    for line in text.splitlines():
        found = re.match(r"\s*(?://|/\*|<!--|\{#|#(?!!|SBATCH))\s*(.*?)\s*(?:\*/|-->|#\})?$", line)
        if found:
            yield found[1]
        elif not line.startswith(('"use', "<!DOCTYPE", "#!")):
            return


def reference(name: str) -> str:
    """Every hyperparameter of a recipe."""
    rows = []
    for each in parameters(RECIPES[name](), SHORT_FORMS):
        kind = each.type + (f", {each.unit}" if each.unit else "")
        default = each.default if isinstance(each.default, str) else _shown(each.default)
        choices = each.allowed.split(", ") if "choice" in each.type else []
        allowed = ", ".join(f"`{choice}`" for choice in choices) or each.allowed
        owner = f" ({each.owner})" if ".N." in each.path else ""
        rows.append((f"`{each.path}`{owner}", kind, f"`{default}`", allowed, each.meaning))
    return _table(("path", "type, unit", "default", "allowed", "meaning"), rows)


def _shown(value: object) -> str:
    return "None" if value is None else json.dumps(value)


def _table(heading: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [heading, ("---",) * len(heading), *rows]
    return "\n".join(f"| {' | '.join(_cell(each) for each in line)} |" for line in lines)


def _cell(text: str) -> str:
    """Text in one cell: without bars and ends of lines that end it, and tags of a page."""
    return re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", " ".join(text.split())).replace("|", "\\|")


CLAIMS = ROOT / "studies" / "RESULTS.json"


def claims(_: str) -> str:
    """The recorded runs, each with all its contrasts and claims, whatever came of them."""
    runs = json.loads(CLAIMS.read_text(encoding="utf-8"))["runs"]
    return "\n\n".join(map(_claims_of_run, runs)) or "No run is recorded yet."


def _claims_of_run(run: dict[str, Any]) -> str:
    seeds = run["seeds"]
    facts = [
        f"commit {run['commit'] or 'not recorded'}",
        _seeds(seeds),
        plural(run["trials"], "trial") + (f", {run['failed']} failed" if run["failed"] else ""),
        f"{duration(run['device_s'])} on {_machine(run['machine'])}",
    ]
    parts = [f"**`{run['command']}`** ({'; '.join(facts)})"]
    planned = run["contrasts"]
    if planned is not None:
        before = planned["results_before"]
        stated = f"stated after {plural(before, 'result')}" if before else "stated before the run"
        parts[0] += (
            f". Contrasts: {stated}, two-sided at {planned['alpha']:g}, correction "
            f"{planned['correction']}."
        )
        heads = ("contrast", "metric", "expected", "difference", "95 %", "p", "corrected",
                 "outcome", "detectable")  # fmt: skip
        parts.append(_table(heads, [_contrast_row(each) for each in planned["findings"]]))
    if run["claims"]:
        heads = ("claim of the paper", "here", "p", "detectable", "verdict")
        parts.append(_table(heads, [_claim_row(each) for each in run["claims"]]))
    return "\n\n".join(parts)


def _seeds(seeds: list[int]) -> str:
    if len(seeds) < 2:
        return f"seed {seeds[0]}" if seeds else "no seed"
    return f"seeds {seeds[0]} to {seeds[-1]}"


def _machine(found: dict[str, Any]) -> str:
    names = [str(found[name]) for name in ("name", "device") if found.get(name)]
    cpus = plural(found["cpus"], "CPU") if found.get("cpus") else ""
    return ", ".join([*names, *([cpus] if cpus else [])]) or "a machine that is not recorded"


def _contrast_row(found: dict[str, Any]) -> tuple[str, ...]:
    value, error = (math.nan if found[name] is None else found[name] for name in ("value", "error"))
    known = found["low"] is not None
    return (
        f"{found['name']}: {found['arm']} - {found['minus']}",
        f"`{found['metric']}`",
        found["expected"],
        with_sem(value, error, signed=True),
        f"{found['low']:+.3g} to {found['high']:+.3g}" if known else "",
        number(found["p"], 2),
        number(found["corrected_p"], 2),
        found["outcome"],
        number(found["detectable"], 2),
    )


def _claim_row(found: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{found['table']}: {found['text']}",
        found["ours"],
        number(found["p"], 2),
        number(found["detectable"], 2),
        found["verdict"],
    )


KINDS: dict[str, Callable[[str], str]] = {
    "packages": packages,
    "files": files,
    "tree": tree,
    "parameters": reference,
    "bench": tables.named,
    "headlines": headlines,
    "claims": claims,
}


if __name__ == "__main__":
    main()
