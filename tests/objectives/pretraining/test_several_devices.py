"""A trial on two devices is the trial on one: real processes over gloo, on the CPU.

In double precision the two agree to 1e-10, far above rounding and far below what any mistake in a
sum, a norm or a share of the rows would leave. In single precision they agree to 2e-5.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from objectives import Execution, PlasticityObjective, VisionObjective, VisionRecipe
from objectives.config.data import Files
from objectives.config.execution import Execution as Where
from objectives.config.execution import Kind
from objectives.config.recipe import Model, Recipe
from objectives.config.training import MidTraining, Schedule
from objectives.data import token_dataset
from objectives.data.token_dataset import TokenDataset
from objectives.models import causal_lm
from objectives.pretraining import launcher, run, worker
from objectives.pretraining.checkpoints import BaseModel
from objectives.pretraining.job import PretrainJob
from objectives.pretraining.launcher import RanksError
from objectives.pretraining.worker import EXIT_STOPPED
from objectives.store import entries
from objectives.store.store import Store
from objectives.training import fsdp, out_of_memory
from objectives.training.process_group import OutOfMemory, ProcessGroup
from objectives.training.runtime import Runtime
from objectives.types import Result
from tests.objectives import toy
from tests.objectives.pretraining.test_sweep import Stop, job

EXACT = 1e-10


CLOSE = 2e-5
"""In single precision, after a few steps at a rate of 0.01; measured up to 1e-6."""


BF16 = 0.01
"""Under bf16 products, which keep three digits; measured up to 0.003."""


STEPS = 6


KINDS: tuple[Kind, ...] = ("replicate", "fsdp")


CASES: dict[str, dict[str, Any]] = {
    "clipped": {"clip_norm": 0.05, "weight_decay__decayed": "matrices"},
    "accumulated": {"accumulation": 2, "activation_checkpointing": True},
    "alpha_decay": {
        "weight_decay__policy": "alpha_decay",
        "weight_decay__scores__every": 3,
        "weight_decay__scores__min_eigenvalues": 2,
    },
    "begun": {},
    "ada_decay": {
        "weight_decay__policy": "ada_decay",
        "weight_decay__scores__min_eigenvalues": 2,
        "weight_decay__multipliers__mlp": 0.5,
    },
    "awd": {"weight_decay__policy": "awd"},
    "stable": {"weight_decay__policy": "stable"},
    "adam_c": {"weight_decay__policy": "adam_c"},
    "sgd": {"optimizer": "sgd", "lr": 0.5},
    "follower": {"effective_lr_of__value": 3.0, "weight_decay": 0.0},
}
"""What is trained; the first ones either way: where parameters are whole, no policy sees ranks."""


TRAINED = [(name, kind) for place, name in enumerate(["gpt2", *CASES, "odd"])
           for kind in KINDS if kind == "fsdp" or place < 5]  # fmt: skip


MERGED = {"schedule__decay": "merged", "schedule__decay_frac": 0.5, "merge_points": 4}


Key = tuple[str, str]


@dataclasses.dataclass
class Trained:
    """Bases by case and sharding, of one device and of two, and what the two were seen to do."""

    one: dict[Key, BaseModel]
    two: dict[Key, BaseModel]
    jobs: dict[Key, PretrainJob]
    events: list[dict[str, Any]]
    listening: set[str]
    """Addresses at which ranks listen."""


def on_two(one: PretrainJob, kind: Kind) -> PretrainJob:
    return dataclasses.replace(one, devices=2, sharding=kind)


def train(
    jobs: list[PretrainJob],
    corpus: TokenDataset,
    folder: Path,
    report: Callable[[Any], None] | None = None,
) -> list[BaseModel]:
    store = Store(folder / "corpus-store")  # where the corpus is
    try:
        runtime = Runtime(store=store, report=report or (lambda event: None), max_lanes=8)
        return run.pretrain(jobs, corpus, runtime)
    finally:
        store.close()


def ranks() -> list[psutil.Process]:
    """Living ranks that this process has started."""
    found = []
    for each in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ends meanwhile, or has ended
            if worker.__name__ in each.cmdline():
                found.append(each)
    return found


def hand_over(
    folder: Path, before: PretrainJob, after: PretrainJob, corpus: TokenDataset, step: int
) -> None:
    """Give what one placement has stored of a job on its way to another one."""
    stage, key = folder / "corpus-store" / "checkpoint", after.key(corpus, step)
    shutil.copytree(stage / before.key(corpus, step), stage / key)
    (stage / key / entries.MANIFEST).unlink()
    entries.seal(stage / key, 0.0, f"checkpoint/{key}")


def stop_at(step: int) -> Callable[[dict[str, Any]], None]:
    def report(event: dict[str, Any]) -> None:
        if event["step"] >= step:
            raise Stop

    return report


def second_phase(recipe: Recipe, folder: Path, corpus: TokenDataset) -> PretrainJob:
    """A run that goes on with other text."""
    rows = [{"text": text} for text in toy.text(60, seed=1)]
    files = Files(paths=(str(toy.write_jsonl(folder / "second.jsonl", rows)),))
    pre = dataclasses.replace(recipe.pretrain, mid=MidTraining(sources=(files,), steps=2), steps=4)
    text = dataclasses.replace(recipe.corpus, sources=(files,))
    store = Store(folder / "corpus-store")
    second = token_dataset.prepare(text, toy.SEQ_LEN, store, first=corpus)
    store.close()
    return PretrainJob(dataclasses.replace(recipe, pretrain=pre), 0, STEPS, second=second)


def cases(recipe: Recipe, folder: Path, corpus: TokenDataset) -> dict[Key, PretrainJob]:
    """Jobs by case and sharding, as one device trains them."""
    toy.CONFIGS["gpt2"].save_pretrained(folder / "gpt2")
    gpt2 = dataclasses.replace(recipe, model=Model(preset=None, config=str(folder / "gpt2")))
    given = {name: job(recipe, STEPS, **params) for name, params in CASES.items()}
    given["gpt2"] = job(gpt2, STEPS, weight_decay__multipliers__attn_qk=0.3)
    config = copy.deepcopy(toy.CONFIGS["llama"])
    config.intermediate_size, config.tie_word_embeddings = 41, False
    config.save_pretrained(folder / "odd")
    odd = dataclasses.replace(recipe, model=Model(preset=None, config=str(folder / "odd")))
    given["odd"] = job(odd, STEPS, **CASES["alpha_decay"])
    given["begun"] = job(recipe, STEPS, seed=5)
    found: dict[Key, PretrainJob] = {(name, kind): given[name] for name, kind in TRAINED}
    for place, lr in enumerate((1e-3, 1e-2, 1e9)):
        found[f"lane {place}", "replicate"] = job(recipe, STEPS, lr=lr, weight_decay=0.3)
    found["lost", "fsdp"] = job(recipe, STEPS, lr=1e9)
    found["merged", "fsdp"] = job(recipe, STEPS, **MERGED)
    found["mid", "fsdp"] = second_phase(recipe, folder, corpus)
    return found


@pytest.fixture(scope="module")
def trained(toy_folder: Path, toy_corpus: TokenDataset) -> Iterator[Trained]:
    """Every case on one device and on two, in double precision; the two are started once."""
    torch.set_default_dtype(torch.float64)
    recipe = toy.recipe(toy_folder, steps=STEPS, batch_size=4, evals=2)
    jobs = cases(recipe, toy_folder, toy_corpus)
    begun = jobs["begun", "fsdp"]
    with pytest.raises(Stop):
        train([begun], toy_corpus, toy_folder, stop_at(3))
    events: list[dict[str, Any]] = []
    listening: set[str] = set()

    def report(event: dict[str, Any]) -> None:
        events.append(event)
        for each in ranks() if not listening else ():
            sockets = each.net_connections(kind="inet")
            listening.update(one.laddr.ip for one in sockets if one.status == "LISTEN")

    many = {key: on_two(one, key[1]) for key, one in jobs.items()}  # type: ignore[arg-type]
    for kind in KINDS:
        hand_over(toy_folder, begun, many["begun", kind], toy_corpus, 3)
    one = train(list(jobs.values()), toy_corpus, toy_folder)
    two = train(list(many.values()), toy_corpus, toy_folder, report)
    found = (dict(zip(jobs, bases, strict=True)) for bases in (one, two))
    yield Trained(*found, many, events, listening)
    torch.set_default_dtype(torch.float32)


def assert_close(one: BaseModel, two: BaseModel, tolerance: float) -> None:
    assert one.params.keys() == two.params.keys()
    for name, p in one.params.items():
        torch.testing.assert_close(two.params[name], p, rtol=0, atol=tolerance)
    for seen in ("losses", "norms"):
        ours, theirs = (torch.tensor(getattr(base, seen)) for base in (one, two))
        torch.testing.assert_close(theirs, ours, rtol=tolerance, atol=tolerance)
    ours, theirs = (dict(base.validation) for base in (one, two))
    shared = ours.keys() & theirs.keys()  # others on the same lane may have asked for more
    assert shared
    assert all(abs(ours[step] - theirs[step]) < tolerance for step in shared)


@pytest.mark.parametrize(("name", "kind"), TRAINED)
def test_two_devices_train_what_one_does(name: str, kind: Kind, trained: Trained) -> None:
    one, two = trained.one[name, kind], trained.two[name, kind]
    assert len(two.losses) == STEPS
    assert_close(one, two, EXACT)
    assert one.key != two.key


@pytest.mark.parametrize("name", ["merged", "mid"])
def test_a_merged_decay_and_a_second_phase_are_those_of_one_device(
    name: str, trained: Trained
) -> None:
    assert_close(trained.one[name, "fsdp"], trained.two[name, "fsdp"], EXACT)


def test_lanes_train_on_two_devices_and_one_that_diverges_is_marked(trained: Trained) -> None:
    for place in range(2):
        key = (f"lane {place}", "replicate")
        assert_close(trained.one[key], trained.two[key], EXACT)
    assert max(event["lanes"] for event in trained.events) >= 3
    for key in (("lane 2", "replicate"), ("lost", "fsdp")):
        one, two = trained.one[key], trained.two[key]
        assert two.diverged_at == one.diverged_at >= 0
        assert two.params.keys() == one.params.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_one_device_began_goes_on_on_two(kind: Kind, trained: Trained) -> None:
    one, two = trained.one["begun", kind], trained.two["begun", kind]
    assert two.trained_steps == STEPS - 3
    assert_close(one, two, EXACT)


def test_progress_counts_all_ranks_rows_and_nothing_is_open_to_others(trained: Trained) -> None:
    assert trained.listening == {"127.0.0.1"}
    assert ranks() == []
    steps = sum(base.trained_steps + base.reference_steps for base in trained.two.values())
    rows = sum(event["tokens"] for event in trained.events) / toy.SEQ_LEN
    assert rows <= 4 * steps


def test_keys_tell_devices_and_sharding_apart_and_leave_those_of_one_as_they_were(
    trained: Trained, toy_corpus: TokenDataset
) -> None:
    two = trained.jobs["sgd", "fsdp"]
    other = [dataclasses.replace(two, **change) for change in (
        {"sharding": "replicate"}, {"devices": 4}, {"devices": 1}, {"device": "cuda"},
    )]  # fmt: skip
    keys = {each.key(toy_corpus, 5) for each in [two, *other]}
    assert len(keys) == 5
    alone = dataclasses.replace(two, devices=1, sharding="replicate")
    assert alone.key(toy_corpus, 5) == other[2].key(toy_corpus, 5)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_parts_of_the_ranks_are_all_of_the_parameters_once(count: int) -> None:
    module = causal_lm.build_module(toy.CONFIGS["qwen3"], "meta")
    size = causal_lm.num_parameters(module)
    row = torch.arange(size)
    found = []
    for rank in range(count):
        parts = fsdp.cut_parts(module, ProcessGroup(rank, count))
        here = torch.cat([row[part.span] for part in parts.values()])
        for part in parts.values():
            assert torch.equal(here[part.here], row[part.span])
            assert part.local.numel() == part.here.stop - part.here.start
        found.append(here)
    assert torch.equal(torch.cat(found).sort().values, row)
    assert max(map(len, found)) < 1.2 * size / count


def test_a_stop_comes_back_and_what_two_devices_have_stored_goes_on_on_one(
    toy_folder: Path, toy_corpus: TokenDataset, float64: None
) -> None:
    recipe = toy.recipe(toy_folder, steps=60, batch_size=4)
    one = job(recipe, 60, seed=9, weight_decay__policy="awd")
    two = on_two(one, "fsdp")
    stop = Stop()

    def report(event: dict[str, Any]) -> None:
        raise stop

    with pytest.raises(Stop) as caught:
        train([two], toy_corpus, toy_folder, report)
    assert caught.value is stop
    assert ranks() == []
    (step,) = [
        step
        for step in range(1, 61)
        if (toy_folder / "corpus-store" / "checkpoint" / two.key(toy_corpus, step)).exists()
    ]
    hand_over(toy_folder, two, one, toy_corpus, step)
    (ended,) = train([one], toy_corpus, toy_folder)
    assert ended.trained_steps == 60 - step
    fresh = toy_folder / "fresh"
    shutil.copytree(toy_folder / "corpus-store" / "tokens", fresh / "corpus-store" / "tokens")
    (expected,) = train([one], toy_corpus, fresh)
    assert_close(expected, ended, EXACT)


def test_a_killed_rank_is_one_sentence_and_loses_nothing_that_is_finished(
    toy_folder: Path, toy_corpus: TokenDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "SETTLE_S", 1.0)
    recipe = toy.recipe(toy_folder, steps=100, batch_size=4, evals=20)
    short, long = job(recipe, STEPS, seed=11), job(recipe, 100, seed=11, weight_decay=0.3)
    finished = [on_two(short, kind) for kind in KINDS]
    half = job(recipe, STEPS, precision="bf16")

    def kill(event: dict[str, Any]) -> None:
        if event["steps"] == 100:  # the others have ended
            ranks()[-1].kill()

    says = r"^rank [01] of 2 was ended by SIGKILL, .* run the same command to go on\.$"
    with pytest.raises(RanksError, match=says):
        train([*finished, on_two(half, "fsdp"), on_two(long, "fsdp")], toy_corpus, toy_folder, kill)
    assert ranks() == []
    (alone,) = train([short], toy_corpus, toy_folder)
    for kept in train(finished, toy_corpus, toy_folder):  # no rank is started
        assert kept.trained_steps == 0
        assert_close(alone, kept, CLOSE)
    one, two = (train([each], toy_corpus, toy_folder)[0] for each in (half, on_two(half, "fsdp")))
    assert_close(one, two, BF16)


def test_what_two_devices_have_pretrained_is_fine_tuned_and_scored_as_what_one_has(
    trained: Trained, toy_folder: Path
) -> None:
    fine = toy.finetune(lrs=(1e-3,), steps=4, schedule=Schedule(warmup_steps=1))
    recipe = dataclasses.replace(trained.jobs["awd", "fsdp"].recipe, finetune=fine)
    found: list[Result] = []
    for where in ({}, {"devices": 2, "sharding": "fsdp"}):
        store = toy_folder / "corpus-store"
        execution = Execution(device="cpu", store=store, **where)  # type: ignore[arg-type]
        found.append(PlasticityObjective(recipe, execution)({}))
    one, two = found
    assert one.failure is two.failure is None
    assert two.metrics == pytest.approx(one.metrics, rel=1e-8, abs=1e-8)
    assert two.cost["tokens"] == one.cost["tokens"] > 0
    steps = STEPS * recipe.pretrain.batch_size * recipe.pretrain.seq_len
    assert two.cost["tokens_reused"] == steps


@pytest.mark.parametrize(("kind", "tried"), [("replicate", [8, 2, 1]), ("fsdp", [8])])
def test_ranks_without_memory_are_started_anew_with_half_as_many_lanes(
    kind: Kind, tried: list[int], toy_folder: Path, toy_corpus: TokenDataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    asked_for: list[int] = []

    class Full:
        def __init__(self, asked: dict[str, Any], count: int, folder: str) -> None:
            asked_for.append(asked["max_lanes"])

        def run(self, report: Callable[[Any], None]) -> list[Any]:
            raise MemoryError

        def kill(self) -> None:
            """There is nothing to end."""

    monkeypatch.setattr(run, "Processes", Full)
    recipe = toy.recipe(toy_folder)
    many = [on_two(job(recipe, 4, lr=lr), kind) for lr in (0.1, 0.2, 0.3, 0.4, 0.5)]
    with pytest.raises(
        MemoryError, match=r"^one lane does not fit into the memory of the devices;"
    ):
        train(many, toy_corpus, toy_folder)
    assert asked_for == tried


def test_a_rank_without_memory_leaves_where_one_alone_would_try_again() -> None:
    for ran_out in (torch.OutOfMemoryError("out of it"), MemoryError("out of it")):
        with (
            pytest.raises(OutOfMemory, match="out of it") as found,
            ProcessGroup(1, 2).raise_oom_everywhere(),
        ):
            raise ran_out
        assert not out_of_memory.is_out_of_memory(
            found.value
        )  # else the rank would halve its lanes by itself
    with pytest.raises(torch.OutOfMemoryError), ProcessGroup().raise_oom_everywhere():
        raise torch.OutOfMemoryError("out of it")


def test_a_rank_leaves_when_the_one_who_started_it_is_gone(tmp_path: Path) -> None:
    meeting = str(tmp_path / "meeting")
    asked = {"rank": 0, "count": 2, "dtype": "float32", "device": "cpu", "meeting": meeting}
    command = [sys.executable, "-P", "-m", "objectives.pretraining.worker"]
    done = subprocess.run(
        command,
        input=json.dumps(asked) + "\n",
        env=launcher.environment(2),
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == EXIT_STOPPED


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"devices": 0}, "devices must be a whole number of at least 1, got 0; change it."),
        (
            {"devices": 2, "sharding": "abacus"},
            "sharding must be replicate or fsdp, got 'abacus'; choose one of these.",
        ),
        ({"sharding": "fsdp"}, "sharding='fsdp' requires devices >= 2, got 1."),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(given: Any, says: str) -> None:
    with pytest.raises(ValueError, match=f"^{says}$"):
        Where(**given)
    with pytest.raises(ValueError, match=f"^{says}$"):
        PlasticityObjective(Recipe()).configure(given)


@pytest.mark.parametrize(
    ("params", "of"),
    [
        ({"batch_size": 3}, "devices, so that each device takes as many rows; got 3 and 2."),
        (
            {"batch_size": 6, "accumulation": 2},
            "devices times pretrain.accumulation, so that each device takes as many rows; "
            "got 6 and 4.",
        ),
    ],
)
def test_a_batch_that_cannot_be_shared_is_refused(
    params: dict[str, Any], of: str, toy_folder: Path, tmp_path: Path
) -> None:
    objective = PlasticityObjective(
        toy.recipe(toy_folder, **params), Execution(device="cpu", devices=2, store=tmp_path)
    )
    with pytest.raises(ValueError, match=f"^pretrain.batch_size must be a multiple of {of}$"):
        objective({})


@pytest.mark.parametrize(
    ("device", "says"),
    [
        ("cuda", "devices is 2 but there are 1 GPUs here; lower it."),
        ("cuda:0", "several devices are taken from the first on, got device 'cuda:0'; use cuda."),
    ],
)
def test_devices_that_are_not_there_are_refused(
    device: str,
    says: str,
    toy_folder: Path,
    toy_corpus: TokenDataset,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    asked = dataclasses.replace(job(toy.recipe(toy_folder), 4), device=device, devices=2)
    with pytest.raises(ValueError, match=f"^{says}$"):
        train([asked], toy_corpus, toy_folder)


def test_images_stay_on_one_device() -> None:
    with pytest.raises(ValueError, match=r"^images are trained on one device, got devices 2; "):
        VisionObjective(VisionRecipe()).configure({"devices": 2})
