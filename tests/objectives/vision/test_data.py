"""Images: the fixed split, scaling, batches of an epoch, and the files that are read."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from objectives.config.vision import Cifar10, Digits, HubImages
from objectives.vision import data

SIDE = 32


@pytest.fixture(scope="module")
def digits() -> data.Images:
    return data.prepare_images(Digits(), "cpu")


def test_every_fifth_digit_is_held_out_and_training_pixels_are_scaled(
    digits: data.Images,
) -> None:
    assert (digits.shape, digits.classes) == ((1, 8, 8), 10)
    assert (len(digits.train), len(digits.validation)) == (1438, 359)
    assert digits.train.pixels.shape == (1438, 64)
    assert float(digits.train.pixels.mean()) == pytest.approx(0, abs=1e-5)
    assert float(digits.train.pixels.std(correction=0)) == pytest.approx(1, abs=1e-5)
    # The set's first labels are 0 1 2 3 4 5 6 7 8 9.
    assert digits.train.labels[:8, 0].tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert digits.validation.labels[:2, 0].tolist() == [4, 9]


def test_fewer_training_rows_leave_the_validation_rows_and_change_the_key(
    digits: data.Images,
) -> None:
    fewer = data.prepare_images(Digits(train_rows=40), "cpu")
    assert (len(fewer.train), len(fewer.validation)) == (40, 359)
    assert fewer.key != digits.key == data.prepare_images(Digits(), "cpu").key


def test_an_epoch_sees_every_image_once_in_an_order_of_its_seed_and_number() -> None:
    few = data.prepare_images(Digits(train_rows=10), "cpu")
    rows = few.train.pixels
    numbered = dataclasses.replace(few, train=data.ImageBatch(rows, torch.arange(10)[:, None]))

    def epoch(seed: int, number: int) -> list[int]:
        steps = (numbered.batch([seed], 2 * number + step, 5) for step in range(2))
        return [place for batch in steps for place in batch.labels[:, 0].tolist()]

    orders = [epoch(seed, number) for seed in (0, 1) for number in (0, 1)]
    assert [sorted(order) for order in orders] == [list(range(10))] * 4
    assert len({tuple(order) for order in orders}) == 4
    assert epoch(1, 1) == orders[3]


def test_lanes_of_several_seeds_have_each_their_own_rows(digits: data.Images) -> None:
    shared = digits.batch([3, 3], 2, 8)
    own = digits.batch([3, 4, 3], 2, 8)
    assert (shared.pixels.shape, own.pixels.shape) == ((8, 64), (3, 8, 64))
    assert own.labels.shape == (3, 8, 1)
    for place, seed in enumerate((3, 4, 3)):
        alone = digits.batch([seed], 2, 8)
        assert torch.equal(own.pixels[place], alone.pixels)
        assert torch.equal(own.labels[place], alone.labels)


def test_parts_of_a_batch_are_the_batch_and_a_sample_is_evenly_spaced(
    digits: data.Images,
) -> None:
    batch = digits.batch([0, 1], 0, 6)
    for together, parts in zip(
        batch.data, zip(*(part.data for part in batch.split(3)), strict=True), strict=True
    ):
        assert torch.equal(torch.cat(parts, 1), together)
    assert torch.equal(digits.train.sample(2).pixels, digits.train.pixels[[0, -1]])
    assert digits.train.sample(None) is digits.train
    assert digits.train.sample(9999) is digits.train


def write_cifar(path: Path, labels: list[int]) -> Path:
    """Images that are constant: red 10, green 20, blue 30 times their number."""
    rows = b""
    for number, label in enumerate(labels, 1):
        planes = (bytes([10 * channel * number] * SIDE * SIDE) for channel in (1, 2, 3))
        rows += bytes([label]) + b"".join(planes)
    path.write_bytes(rows)
    return path


def test_binary_cifar_is_read_file_by_file_with_its_own_test_images(tmp_path: Path) -> None:
    write_cifar(tmp_path / "data_batch_1.bin", [3, 9])
    write_cifar(tmp_path / "data_batch_2.bin", [0])
    write_cifar(tmp_path / "test_batch.bin", [7])
    found = data.prepare_images(Cifar10(folder=str(tmp_path)), "cpu")
    assert (found.shape, found.classes) == ((3, SIDE, SIDE), 10)
    assert found.train.labels[:, 0].tolist() == [3, 9, 0]
    assert found.validation.labels.tolist() == [[7]]
    red = found.train.pixels.view(3, 3, -1)[:, 0, 0]
    expected = np.array([10.0, 20.0, 10.0])
    scaled = (expected - expected.mean()) / expected.std()
    np.testing.assert_allclose(red, scaled, rtol=1e-5)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no CIFAR-10; give the folder"),
        (["data_batch_1", "test_batch"], "in pickles, which are not read; give the folder"),
        (["data_batch_1.bin"], "holds no CIFAR-10; give the folder"),
    ],
)
def test_a_folder_without_binary_cifar_is_refused(
    names: list[str], message: str, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=message):
        data.prepare_images(Cifar10(folder=str(tmp_path)), "cpu")


@pytest.mark.parametrize("content", [b"", b"x" * 100, bytes([11]) + bytes(3072)])
def test_a_file_that_is_no_cifar_batch_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "data_batch_1.bin").write_bytes(content)
    write_cifar(tmp_path / "test_batch.bin", [7])
    with pytest.raises(ValueError, match=r"data_batch_1\.bin is not a batch of CIFAR-10's binary"):
        data.prepare_images(Cifar10(folder=str(tmp_path)), "cpu")


def saved(folder: Path, sides: tuple[int, int]) -> str:
    parts = {}
    for (name, labels), side in zip((("train", [0, 1, 2]), ("test", [1])), sides, strict=True):
        pixels = [np.full((side, side, 3), label, np.uint8).tolist() for label in labels]
        parts[name] = datasets.Dataset.from_dict({"img": pixels, "label": labels})
    datasets.DatasetDict(parts).save_to_disk(folder)
    return str(folder)


def test_a_saved_dataset_gives_its_splits_channels_first(tmp_path: Path) -> None:
    found = data.prepare_images(HubImages(name=saved(tmp_path / "set", (4, 4))), "cpu")
    assert (found.shape, found.classes) == ((3, 4, 4), 3)
    assert found.train.labels[:, 0].tolist() == [0, 1, 2]
    middle, last = found.train.pixels[1], found.train.pixels[2]
    np.testing.assert_allclose(middle, np.zeros(48), atol=1e-6)
    np.testing.assert_allclose(last, np.full(48, 1.5**0.5), rtol=1e-5)


@pytest.mark.parametrize(
    ("sides", "fields", "message"),
    [
        ((4, 5), {}, "must have one size"),
        ((4, 4), {"image_field": "image"}, "has no 'image'; its fields are img, label"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused(
    sides: tuple[int, int], fields: dict[str, str], message: str, tmp_path: Path
) -> None:
    source = HubImages(name=saved(tmp_path / "set", sides), **fields)
    with pytest.raises(ValueError, match=message):
        data.prepare_images(source, "cpu")


def write_parquet(folder: Path) -> Path:
    """A folder of parquet files with images as PNG, one colour each."""
    from PIL import Image

    folder.mkdir()
    for split, labels in (("train", [0, 1, 2]), ("test", [1])):
        pngs = []
        for label in labels:
            file = io.BytesIO()
            Image.new("RGB", (4, 4), (50 * label, 0, 0)).save(file, "PNG")
            pngs.append({"bytes": file.getvalue(), "path": None})
        table = pa.table({"img": pngs, "label": labels})
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture
def quiet_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.usefixtures("quiet_cache")
def test_a_folder_of_parquet_files_is_decoded(tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="images of parquet files are decoded by Pillow")
    found = data.prepare_images(HubImages(name=str(write_parquet(tmp_path / "set"))), "cpu")
    assert (found.shape, found.classes) == ((3, 4, 4), 3)
    red = found.train.pixels.view(3, 3, 16)[:, 0]
    np.testing.assert_allclose(red[:, 0], np.array([-1.0, 0.0, 1.0]) * 1.5**0.5, atol=1e-6)
    assert torch.equal(found.train.pixels[:, 16:], torch.zeros(3, 32))  # constant channels


@pytest.mark.usefixtures("quiet_cache")
def test_without_pillow_a_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL", reason="the file is written by Pillow")
    folder = write_parquet(tmp_path / "set")
    monkeypatch.setattr(datasets.config, "PIL_AVAILABLE", False)
    with pytest.raises(ValueError, match=r"pip install 'plasticity-hpo\[vision\]'"):
        data.prepare_images(HubImages(name=str(folder)), "cpu")


def of_labels(folder: Path, train: list[Any], test: list[Any], pixel: float = 1.0) -> HubImages:
    """A dataset of one-pixel images with these labels."""
    parts = {
        name: datasets.Dataset.from_dict({"img": [[[pixel]] for _ in some], "label": some})
        for name, some in (("train", train), ("test", test))
    }
    datasets.DatasetDict(parts).save_to_disk(folder)
    return HubImages(name=str(folder))


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([0, 1], [-1], "got -1 in the validation split; -1 usually marks images without a label"),
        ([0, 10**9], [0], "labels of images must be from 0 to 99999, got 1000000000"),
        ([0.5, 1.5], [0.5], "must be whole numbers from 0, got 0.5; number them"),
        (["cat", "dog"], ["cat"], "must be whole numbers from 0, got 'cat'; number them"),
        ([0, None], [0], "must be whole numbers from 0, got None; number them"),
        ([3, 3], [3], "all training images have the label 3"),
    ],
)
def test_labels_that_are_none_are_refused(
    train: list[Any], test: list[Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        data.prepare_images(of_labels(tmp_path / "set", train, test), "cpu")


@pytest.mark.parametrize(("train", "validation"), [([], [0]), ([0, 1], [])])
def test_a_split_without_images_is_refused(train: list[int], validation: list[int]) -> None:
    with pytest.raises(ValueError, match="split holds no images; choose another split"):
        data._check_labels(np.array(train, np.int64), np.array(validation, np.int64))


def test_pixels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    source = of_labels(tmp_path / "set", [0, 1], [0], math.nan)
    with pytest.raises(ValueError, match="have pixels that are no numbers"):
        data.prepare_images(source, "cpu")


@pytest.mark.usefixtures("quiet_cache")
def test_images_that_cannot_be_decoded_are_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("PIL", reason="images of parquet files are decoded by Pillow")
    folder = write_parquet(tmp_path / "set")
    (file,) = folder.glob("train*")
    rows = pq.read_table(file).to_pylist()
    rows[1]["img"]["bytes"] = b"not an image"
    pq.write_table(pa.Table.from_pylist(rows), file)
    with pytest.raises(ValueError, match=r"in 'train' cannot be decoded \(UnidentifiedImageError"):
        data.prepare_images(HubImages(name=str(folder)), "cpu")
