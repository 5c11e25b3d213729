"""The papers' studies: what they say in both settings, and toy-sized runs of each to its tables."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from hpo import study_files
from hpo.analysis import paper_claims
from hpo.cli import main
from hpo.core import paper as papers
from hpo.core.spec import StudySpec
from hpo.core.trial import Trial
from hpo.search import unit_cube
from hpo.storage import run_folder
from objectives.pretraining.job import PretrainJob
from tests.hpo import toy
from tests.toy_size import TOY, small_inputs

NAMES = ("weight_decay_plasticity", "why_weight_decay", "alpha_decay", "warmup_stable_only")


OWN_SIZE = {"weight_decay_plasticity": "short", "warmup_stable_only": "phases"}
"""Study -> the variant that has all of its paper's points at a small size; else small."""


BOTH = [(name, setting) for name in NAMES for setting in (OWN_SIZE.get(name, "small"), "full")]


def at_small_size(name: str) -> StudySpec:
    """All of the paper's points."""
    return study_files.load(name, OWN_SIZE.get(name))


POINTS = {
    "weight_decay_plasticity": 10,
    "why_weight_decay": 12,
    "alpha_decay": 33,
    "warmup_stable_only": 30,
}


def recipes(study: StudySpec) -> dict[str, Any]:
    """Point -> its recipe."""
    objective: Any = study.objective
    return {
        planned.point.name: objective.recipe.with_params(planned.point.params)
        for planned in study.planned
        if planned.replicate == 0
    }


@pytest.mark.parametrize(("name", "setting"), BOTH)
def test_every_point_and_proposal_can_be_set_and_is_a_run_of_its_own(
    name: str, setting: str
) -> None:
    study = study_files.load(name, setting)
    found = recipes(study)
    assert len(found) == POINTS[name]
    assert study.trials == len(study.planned) == POINTS[name] * study.replicates
    assert len({json.dumps(recipe.to_dict()) for recipe in found.values()}) == len(found)
    for recipe in found.values():
        mid = 0 if recipe.pretrain.mid is None else recipe.pretrain.mid.steps
        job = PretrainJob(recipe, 0, recipe.pretrain.steps + mid)
        assert len(job.lr) == len(job.decay) == job.steps  # the warmup fits
        assert math.isfinite(job.decay.sum())
    for place in range(8):
        study.objective.check(unit_cube.sobol_point(study.space, study.seed, place))


@pytest.mark.parametrize(("name", "setting"), BOTH)
def test_warmups_are_stated_in_steps_and_do_not_hang_on_defaults(name: str, setting: str) -> None:
    for recipe in recipes(study_files.load(name, setting)).values():
        for schedule in (recipe.pretrain.schedule, recipe.finetune.schedule):
            assert schedule.warmup_steps is not None
            assert schedule.warmup_frac is None


@pytest.mark.parametrize("name", NAMES)
def test_small_is_the_default_and_both_sizes_ask_for_the_same_points(name: str) -> None:
    small, full = at_small_size(name), study_files.load(name, "full")
    assert study_files.load(name).name == study_files.load(name, "small").name == name
    assert full.name == f"{name}-full"
    assert list(recipes(small)) == list(recipes(full))
    assert small.replicates >= 2


def test_an_unknown_setting_names_those_there_are() -> None:
    with pytest.raises(
        ValueError, match=r"no variant 'big' in its VARIANTS; choose one of small, full\."
    ):
        study_files.load("alpha_decay", "big")
    with pytest.raises(ValueError, match=r"no variant 'full' in its VARIANTS; there is none\."):
        study_files.load("quickstart", "full")


@pytest.mark.parametrize("setting", ["short", "full"])
def test_decays_are_measured_at_twenty_and_at_140_tokens_per_parameter(setting: str) -> None:
    study = study_files.load("weight_decay_plasticity", setting)
    parameters = {"short": 41_632, "full": 0.5e9}[setting]
    for name, recipe in recipes(study).items():
        pre = recipe.pretrain
        ratio = pre.steps * pre.batch_size * pre.seq_len / parameters
        tokens, decay = name.split(" TPP, decay ")
        assert ratio == pytest.approx(float(tokens), rel=0.02)
        assert pre.weight_decay.value == float(decay)
        assert pre.schedule.decay_frac == {"20": 1.0, "140": 0.25}[tokens]


@pytest.mark.parametrize("setting", ["small", "full"])
def test_the_papers_decays_are_set_by_their_timescale(setting: str) -> None:
    found = recipes(study_files.load("why_weight_decay", setting))
    paper_run = 6e-4 * 50_000
    for name, recipe in found.items():
        decay = recipe.pretrain.weight_decay
        expected = 0.0 if "no decay" in name else float(name.split(", ")[-1])
        if expected:
            assert 1 / (decay.tau_frac * paper_run) == pytest.approx(expected)
        else:
            assert (decay.value, decay.tau_frac) == (0.0, None)
        followed = recipe.pretrain.effective_lr_of
        assert followed.tau_frac == (1 / 3 if "effective" in name else None)
        assert recipe.pretrain.schedule.decay_frac == (0.0 if "constant" in name else 1.0)
        assert recipe.pretrain.precision == ("bf16" if "bf16" in name else "fp32")


@pytest.mark.parametrize("setting", ["small", "full"])
def test_alpha_decay_meets_uniform_decay_at_every_base_value(setting: str) -> None:
    bases = recipes(study_files.load("alpha_decay", setting))
    found = {name: recipe.pretrain.weight_decay for name, recipe in bases.items()}
    for title in ("Adam L2 1e-5", "Adam L2 1e-6", "AdamW 0.1", "AdamW 0.05", "AdamW 0.01"):
        uniform, alpha, kept = (
            found[f"{title}, {each}"] for each in ("Uniform", "AlphaDecay", "AlphaDecay, mean kept")
        )
        assert uniform.value == alpha.value == kept.value
        assert uniform.coupling == alpha.coupling == ("l2" if "L2" in title else "decoupled")
        assert (alpha.policy, alpha.scores.preserve_mean) == ("alpha_decay", False)
        assert (kept.policy, kept.scores.preserve_mean) == ("alpha_decay", True)
        assert alpha.scores.high == (3.0 if title.endswith("1e-5") else 5.0)
    assert found["no decay"].value == 0.0


def test_the_papers_alpha_is_ours_of_both_phases() -> None:
    found = recipes(at_small_size("warmup_stable_only"))
    for name, recipe in found.items():
        pre = recipe.pretrain
        mid = 0 if pre.mid is None else pre.mid.steps
        job = PretrainJob(recipe, 0, pre.steps + mid)
        first = job.lr[job.first_steps - 1] / pre.lr
        if "(" in name:
            last = job.lr[-1] / job.lr[job.first_steps - 1]
            alphas = name[name.index("(") + 1 : -1].split(", ")
            assert (first, last) == pytest.approx(tuple(map(float, alphas)))
        else:
            alpha = 1.0 if name.endswith("WSO") else float(name.split()[-1])
            assert pre.mid is None
            assert first == pytest.approx(alpha)
        assert (pre.batch_size == 32) == name.startswith("over")


def numbers(name: str) -> dict[str, dict[str, float]]:
    """Metric -> point -> the paper's number."""
    paper = at_small_size(name).paper
    assert paper is not None
    found: dict[str, dict[str, float]] = {}
    for table in paper.tables:
        for quantity in table.quantities:
            found.setdefault(quantity.metric, {}).update(quantity.paper)
    return found


def test_the_papers_numbers_stand_at_their_points() -> None:
    alpha = numbers("alpha_decay")["base_perplexity"]
    assert alpha["Adam L2 5e-6, AlphaDecay"] == 31.58
    assert alpha["AdamW 0.01, AWD"] == 32.67
    wso = numbers("warmup_stable_only")
    assert wso["base_loss"]["WSO"] == 0.071
    assert wso["mid_loss"]["over, mid: WSO (1, 1)"] == 0.055
    assert wso["finetuned"]["mid: linear (0.1, 0)"] == -3.8
    assert wso["finetuned"]["over: WSD 0"] == -0.3
    assert "over: linear 0" not in wso["finetuned"]
    assert numbers("weight_decay_plasticity")["base_loss"]["140 TPP, decay 0.3"] == 2.6208


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_repeats_the_papers_numbers_never_disagrees(name: str) -> None:
    """Metrics with paper numbers take them, at two seeds with a little noise; others are equal."""
    study = at_small_size(name)
    given = numbers(name)
    trials = []
    for number, planned in enumerate(study.planned):
        metrics = {
            metric: by_point[planned.point.name] + 1e-4 * math.sin(7 * number)
            for metric, by_point in given.items()
            if planned.point.name in by_point
        }
        trials.append(
            Trial.measured(
                number=number,
                state="complete",
                params={},
                point=planned.point.name,
                seed=planned.replicate,
                metrics=metrics,
            )
        )
    assert study.paper is not None
    found = [
        finding
        for side in paper_claims.sides(toy.run(trials, paper=study.paper), study.paper)
        for finding in side.findings
    ]
    assert not [finding for finding in found if finding.verdict == "disagree"]
    agreeing = [finding.text for finding in found if finding.verdict == "agree"]
    assert (len(agreeing) > 0) == (name in ("alpha_decay", "warmup_stable_only"))


# Largest timescales need some steps, or one step takes more than the whole weight.
STEPS = {"why_weight_decay": {"pretrain.steps": 40}}


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_at_toy_size_to_its_papers_tables(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = TOY | small_inputs(tmp_path) | STEPS.get(name, {})
    if name == "warmup_stable_only":
        sources = settings["corpus.sources"]
        settings |= {"pretrain.mid.sources": sources, "pretrain.mid.steps": 2}
        settings |= {"probes.vectors": 2, "probes.tokens": 128}
    fixed = [f"--set={path}={json.dumps(value)}" for path, value in settings.items()]
    count = str(POINTS[name])
    variant = OWN_SIZE.get(name, "small")
    assert main.main(["run", name, "--variant", variant, "--trials", count, *fixed]) == 0
    study = at_small_size(name).name
    run = run_folder.read(run_folder.find_run(study, Path("runs"), None))
    assert [trial.state for trial in run.trials] == ["complete"] * POINTS[name]
    printed = " ".join(capsys.readouterr().out.split())
    page = (tmp_path / "runs" / study / "report.html").read_text()
    assert run.paper is not None
    for table in run.paper.tables:
        assert table.title in printed
        assert table.title in page
    assert "not significant." in printed  # one seed tells no spread
    assert main.main(["show", study, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)["paper"]
    cells = [
        (table["title"], row["point"], quantity["metric"], cell["seeds"])
        for table in shown["tables"]
        for row in table["rows"]
        for quantity, cell in zip(table["quantities"], row["cells"], strict=True)
    ]
    assert [cell for cell in cells if cell[-1] != 1] == []


def test_points_of_a_claim_are_its_weights_or_its_points() -> None:
    contrast = papers.Contrast(text="", metric="m", weights={"a": 1.0, "b": -1.0}, sign=1)
    assert papers.points_of(contrast) == ("a", "b")
    assert papers.points_of(papers.Shift(text="", points=("c",))) == ("c",)
