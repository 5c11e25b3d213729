"""Entries that somebody else may have written: whatever is in them, the numbers are right.

Each case changes one file of every entry of a real trial, with checksums that fit: only what the
file holds is wrong. The same call then computes again what was wrong and gives the same bits.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from objectives import Execution, Recipe, Training, VisionObjective, VisionRecipe
from objectives.config.vision import ResNet
from objectives.finetuning import checkpoints
from objectives.store import entries
from objectives.store.entries import MANIFEST, DamagedError
from objectives.store.store import Store
from objectives.vision import objective as vision
from tests.objectives.pretraining.test_crashes import (
    STAGES,
    Undisturbed,
    bits,
    measure,
    recipe,
    tokens,
    undisturbed,
)

__all__ = ["recipe", "undisturbed"]


ESCAPE = "\x1b]0;owned\x07\u202e../../x"


DEEP = "[" * 100_000 + "]" * 100_000


PLACEHOLDER = "a value that is put in as text"


FEW = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


Path_ = tuple[str | int, ...]


def reseal(entry: Path) -> None:
    """Make the manifest fit the files."""
    seconds = json.loads((entry / MANIFEST).read_text())["seconds"]
    (entry / MANIFEST).unlink()
    entries.seal(entry, seconds)


def files_of(entry: Path, ending: str = "") -> list[Path]:
    return sorted(p for p in entry.iterdir() if p.name != MANIFEST and p.name.endswith(ending))


def paths_in(data: Any, before: Path_ = ()) -> Iterator[Path_]:
    """All places in JSON."""
    yield before
    if not isinstance(data, dict | list):
        return
    items = (
        data.items()
        if isinstance(data, dict)
        else enumerate(data)
        if isinstance(data, list)
        else ()
    )
    for key, value in items:
        yield from paths_in(value, (*before, key))


def at(data: Any, path: Path_) -> Any:
    return functools.reduce(lambda part, key: part[key], path, data)


def kind(value: Any) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


def put(data: Any, path: Path_, value: Any) -> Any:
    if not path:
        return value
    at(data, path[:-1])[path[-1]] = value
    return data


HOSTILE: list[Any] = [None, ESCAPE, "9" * 5000, [], {}, True, [[0]], {"x": {}}, PLACEHOLDER]


def with_wrong_field(content: str, place: float, value: Any) -> str:
    """JSON in which the field at a place, from 0 to 1, has a value of another type."""
    data = json.loads(content)
    places = [
        path
        for path in paths_in(data)
        if kind(at(data, path)) != kind(value) and not (value is None and not path)
    ]
    path = places[int(place * len(places))]
    text = json.dumps(put(data, path, value))
    return text.replace(json.dumps(PLACEHOLDER), DEEP)


def damaged(folder: Path, into: Path, damage: Callable[[Path], None]) -> Path:
    """A copy of a store with every entry of the trial changed."""
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(folder, into)
    for stage in sorted(STAGES):
        for entry in sorted((into / stage).iterdir()):
            damage(entry)
    return into


def assert_right(store: Path, recipe: Recipe, undisturbed: Undisturbed) -> int:
    """Measured in this store all is as it was; returns how many entries were found damaged."""
    _, expected = undisturbed
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = measure(recipe, store)
    assert bits(found) == bits(expected)
    messages = [str(each.message) for each in said if "is damaged" in str(each.message)]
    assert all(text.isprintable() and text.isascii() for text in messages)
    assert len(set(messages)) == len(messages)
    again = measure(recipe, store)
    assert bits(again) == bits(expected)
    assert tokens(again) == 0
    return len(messages)


@FEW
@given(place=st.floats(0, 0.999), value=st.sampled_from(HOSTILE))
def test_a_field_of_any_json_with_a_value_of_another_type_is_damage(
    place: float, value: Any, undisturbed: Undisturbed, recipe: Recipe, tmp_path: Path
) -> None:
    changed = 0

    def damage(entry: Path) -> None:
        nonlocal changed
        for path in files_of(entry, ".json"):
            path.write_text(with_wrong_field(path.read_text(), place, value))
            changed = changed + 1
        reseal(entry)

    store = damaged(undisturbed[0], tmp_path / "store", damage)
    assert assert_right(store, recipe, undisturbed) == changed


def drop(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(sorted(found.items())[1:])


def rename(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {ESCAPE if not place else name: x for place, (name, x) in enumerate(found.items())}


def add(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return found | {"more": torch.zeros(3)}


def reshape(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: x[None] for name, x in found.items()}


def grow(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([x, x]) for name, x in found.items()}


def cast(dtype: torch.dtype) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    return lambda found: {name: x.to(dtype) for name, x in found.items()}


TENSORS = [
    drop, rename, add, reshape, grow, cast(torch.float16), cast(torch.int64), cast(torch.bool),
    cast(torch.float8_e4m3fn), cast(torch.complex64),
]  # fmt: skip


def header(text: bytes, size: int | None = None, body: bytes = bytes(64)) -> bytes:
    return struct.pack("<Q", len(text) if size is None else size) + text + body


RAW = [
    b"",
    b"\0" * 7,
    b"cos\nsystem\n(S'touch owned'\ntR.",  # a pickle that would run a command
    header(b"{}", size=2**63),
    header(b"{}", size=2**40),
    header(DEEP.encode()),
    header(b'{"losses":{"dtype":"F64","shape":[8],"data_offsets":[0,4611686018427387904]}}'),
    header(b'{"losses":{"dtype":"F64","shape":[4611686018427387904,4],"data_offsets":[0,64]}}'),
    header(b'{"losses":{"dtype":"O","shape":[8],"data_offsets":[0,64]}}'),
    header(b'{"losses":{"dtype":"F64","shape":[-8],"data_offsets":[64,0]}}'),
]


@settings(FEW, max_examples=12)
@given(change=st.sampled_from([*TENSORS, *RAW]), nth=st.integers(0, 2))
def test_tensors_of_other_names_shapes_and_dtypes_are_damage(
    change: Any, nth: int, undisturbed: Undisturbed, recipe: Recipe, tmp_path: Path
) -> None:
    changed = 0

    def damage(entry: Path) -> None:
        nonlocal changed
        files = files_of(entry, ".safetensors")
        for path in files[nth % len(files) :][:1] if files else []:
            if isinstance(change, bytes):
                path.write_bytes(change)
            else:
                save_file(change(load_file(path)), path)
            changed += 1
        reseal(entry)

    store = damaged(undisturbed[0], tmp_path / "store", damage)
    # AdamW's memory at the last step is only read by what trains on from there.
    assert 0 < assert_right(store, recipe, undisturbed) <= changed


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_damage(
    value: float, undisturbed: Undisturbed, recipe: Recipe, tmp_path: Path
) -> None:
    def damage(entry: Path) -> None:
        for path in files_of(entry, "params.safetensors"):
            save_file({n: torch.full_like(x, value) for n, x in load_file(path).items()}, path)
        reseal(entry)

    store = damaged(undisturbed[0], tmp_path / "store", damage)
    assert assert_right(store, recipe, undisturbed) == len(list((store / "pretrain").iterdir()))


def odd(content: bytes) -> bytes:
    return content + b"\0"


def no_tokens(content: bytes) -> bytes:
    return b"\xff\xfe" * (len(content) // 2)


@pytest.mark.parametrize("change", [odd, no_tokens, lambda content: b""])
@pytest.mark.parametrize("name", ["train-0.bin", "validation.bin"])
def test_tokens_that_are_none_are_damage(
    name: str, change: Callable[[bytes], bytes], undisturbed: Undisturbed, recipe: Recipe,
    tmp_path: Path,
) -> None:  # fmt: skip
    def damage(entry: Path) -> None:
        for path in files_of(entry, name):
            path.write_bytes(change(path.read_bytes()))
        reseal(entry)

    store = damaged(undisturbed[0], tmp_path / "store", damage)
    assert assert_right(store, recipe, undisturbed) == 1


@pytest.mark.parametrize(
    "dtype", ["O", "object", "V8", "uint32", "int8", "float64", "u2,u2", "<U9"]
)
def test_only_the_dtype_of_its_tokenizer_is_taken_for_tokens(
    dtype: str, undisturbed: Undisturbed, recipe: Recipe, tmp_path: Path
) -> None:
    """Of "O" the bytes of the file would be taken for addresses of objects."""

    def damage(entry: Path) -> None:
        if entry.parent.name == "tokens":
            info = json.loads((entry / "info.json").read_text())
            (entry / "info.json").write_text(json.dumps(info | {"dtype": dtype}))
            for path in files_of(entry, ".bin"):
                path.write_bytes(b"AAAAAAAA" * (path.stat().st_size // 8))
        reseal(entry)

    store = damaged(undisturbed[0], tmp_path / "store", damage)
    assert assert_right(store, recipe, undisturbed) == 1


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "x").write_text("?")


def link(path: Path) -> None:
    path.rename(path.parent.parent.parent / f"kept-{path.parent.name[:5]}-{path.name}")
    path.symlink_to(path.parent.parent.parent / f"kept-{path.parent.name[:5]}-{path.name}")


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere/at/all")


def a_socket(path: Path) -> None:
    path.unlink()
    before = os.getcwd()
    os.chdir(path.parent)  # a socket's path may not be long
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(before)


def sparse(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(10**12)


MOVED = [fifo, folder, link, link_to_nothing, a_socket, sparse]


WHICH: list[Callable[[Path], Path]] = [
    lambda entry: entry / MANIFEST,
    lambda entry: files_of(entry)[0],
    lambda entry: files_of(entry)[-1],
]


@pytest.mark.parametrize("change", MOVED)
def test_what_is_no_regular_file_of_the_size_it_should_have_is_damage_and_never_opened(
    change: Callable[[Path], None], undisturbed: Undisturbed, recipe: Recipe, tmp_path: Path
) -> None:
    """The manifest, the first or the last file of the entries in turn."""
    changed = 0

    def damage(entry: Path) -> None:
        nonlocal changed
        change(WHICH[changed % len(WHICH)](entry))
        changed += 1

    store = damaged(undisturbed[0], tmp_path / "store", damage)
    assert assert_right(store, recipe, undisturbed) == changed


@pytest.mark.parametrize("which", WHICH, ids=["manifest", "first", "last"])
@pytest.mark.parametrize("change", MOVED)
def test_any_file_of_an_entry_that_is_no_regular_one_is_damage(
    change: Callable[[Path], None], which: Callable[[Path], Path], tmp_path: Path
) -> None:
    def write_two(folder: Path) -> None:
        for name in ("a.txt", "b.txt"):
            (folder / name).write_text(name)

    store = Store(tmp_path)
    change(which(store.put("tune", "key", write_two)))
    with pytest.warns(UserWarning, match="a stored tune stage is damaged"):
        assert store.get("tune", "key") is None


def manifests(name: str) -> list[str]:
    """Manifests of an entry with this file that are wrong, as text."""
    good = {name: {"bytes": 1, "sha256": "0" * 64}}
    files = [
        [], {}, None, "x", {name: None}, {name: {}}, {name: [1, "0" * 64]},
        {name: {"bytes": -1, "sha256": "0" * 64}}, {name: {"bytes": 1.5, "sha256": "0" * 64}},
        {name: {"bytes": True, "sha256": "0" * 64}}, {name: {"bytes": 2**70, "sha256": "0" * 64}},
        {name: {"bytes": "1", "sha256": "0" * 64}}, {name: {"bytes": 1, "sha256": 0}},
        {name: {"bytes": 1, "sha256": ESCAPE}}, good | {"../x": good[name]},
        good | {"/etc/passwd": good[name]}, good | {ESCAPE: good[name]}, good | {"": good[name]},
        good | {MANIFEST: good[name]}, good | {"a/b": good[name]}, good | {"x" * 300: good[name]},
    ]  # fmt: skip
    texts = [json.dumps({"files": each, "seconds": 1.0}) for each in files]
    seconds = ["-1", "NaN", "Infinity", "1e400", '"x"', "null", "true", "[]", "1" * 400, "1" * 9000]
    texts += [f'{{"files": {json.dumps(good)}, "seconds": {each}}}' for each in seconds]
    texts += [
        json.dumps({"files": good, "seconds": 1.0, "format": each}) for each in ("x", 1, None)
    ]
    return [*texts, DEEP, '{"files":' * 50_000, "", "\0", " " * 2_000_000, "[]", "1", "null"]


@pytest.mark.parametrize("nth", range(len(manifests("a"))))
def test_a_manifest_with_a_wrong_field_is_damage(nth: int, tmp_path: Path) -> None:
    store = Store(tmp_path)
    entry = store.put("tune", "key", lambda folder: write(folder, "1"))
    (entry / MANIFEST).write_text(manifests("a.txt")[nth])
    with pytest.warns(UserWarning, match="a stored tune stage is damaged") as said:
        assert store.get("tune", "key") is None
    assert all(str(each.message).isprintable() for each in said)
    assert store.put("tune", "key", lambda folder: write(folder, "2")) == entry
    assert (entry / "a.txt").read_text() == "2"


def write(folder: Path, content: str) -> None:
    (folder / "a.txt").write_text(content)


def test_a_trial_of_images_with_wrong_measures_is_computed_again(tmp_path: Path) -> None:
    small = Training(steps=1, batch_size=4, lr=0.1, evals=1, eval_rows=16, statistics_rows=16)
    here = Execution(device="cpu", store=tmp_path / "store", lanes=1)
    tiny = ResNet(widths=(4, 8), depths=(1, 1))
    objective = VisionObjective(VisionRecipe(model=tiny, pretrain=small), here)
    expected = objective({})
    (entry,) = (tmp_path / "store" / "vision").iterdir()
    path = entry / "measures.json"
    good = path.read_text()
    for place in range(1, 40, 3):
        for value in HOSTILE:
            path.write_text(with_wrong_field(good, place / 40, value))
            with pytest.raises(DamagedError):
                vision._read(entry)
    reseal(entry)
    with pytest.warns(UserWarning, match="a stored vision stage is damaged"):
        found = objective({})
    assert (found.metrics, found.curves) == (expected.metrics, expected.curves)
    assert found.cost["images_reused"] == 0


SHAPES = {"w": torch.Size((2, 3)), "b": torch.Size((4,))}


def halfway(step: int) -> checkpoints.PartialFinetune:
    row = torch.zeros(2, 10)
    lost = torch.full((2,), -1)
    losses = torch.ones(2, step, dtype=torch.float64)
    rows = {
        "values": row,
        "first": row.clone(),
        "second": row.clone(),
        "lost_at": lost,
        "losses": losses,
    }
    return checkpoints.PartialFinetune(rows, checkpoints.Work(3.0, 2.0))


@pytest.mark.parametrize("change", [*TENSORS, *RAW, "info", "too far", "lost at no step"])
def test_a_fine_tune_on_its_way_with_wrong_content_begins_from_the_state_before(
    change: Any, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    checkpoints.save_partial(store, "k1", halfway(2))
    kept = shutil.copytree(next((tmp_path / "checkpoint").iterdir()), tmp_path / "kept")
    checkpoints.save_partial(store, "k1", halfway(4))
    shutil.copytree(kept, tmp_path / "checkpoint" / "000000002-k1")
    entry = tmp_path / "checkpoint" / "000000004-k1"
    path = entry / "rows.safetensors"
    found = load_file(path)
    if change == "info":
        (entry / "info.json").write_text('{"work": {"tokens": "x"}}')
    elif change == "too far":
        save_file(found | {"losses": torch.ones(2, 99, dtype=torch.float64)}, path)
    elif change == "lost at no step":
        save_file(found | {"lost_at": torch.full((2,), 77)}, path)
    elif isinstance(change, bytes):
        path.write_bytes(change)
    else:
        save_file(change(found), path)
    reseal(entry)
    with pytest.warns(UserWarning, match="a stored checkpoint stage is damaged"):
        loaded = checkpoints.load_partial(store, "k1", 2, SHAPES, 4)
    assert loaded is not None
    assert (loaded.step, loaded.work) == (2, checkpoints.Work(3.0, 2.0))
