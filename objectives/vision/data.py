"""Labelled images in memory: training and validation rows, and the training batch of each step.

Which images are held out does not depend on a seed: of the digits every fifth one, elsewhere the
data's own second split. Pixels are scaled to mean 0 and variance 1 over the training images, each
channel by itself; there is no augmentation.

N images, X pixels of an image in one row, C channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from objectives.config import vision
from objectives.data import sources

HELD_OUT = 5
"""Of the digits, every so many-th image is for validation; chosen here, the set has no split."""


MOST_CLASSES = 100_000
"""Assumed; a greater label is none, but an identity such as a time or a file's number."""


CIFAR_SIDE, CIFAR_CHANNELS = 32, 3


CIFAR_ROW = 1 + CIFAR_CHANNELS * CIFAR_SIDE**2
"""Bytes of an image in CIFAR-10's binary version: its label, then red, green, blue."""


CIFAR_ADVICE = (
    "give the folder of CIFAR-10's binary version, with data_batch_1.bin to data_batch_5.bin and "
    "test_batch.bin"
)


Pixels = NDArray[np.float64]


Labels = NDArray[np.int64]


Part = tuple[Pixels, Labels]
"""Pixels [N, C, H, W] and labels [N]."""


@dataclass(frozen=True)
class ImageBatch:
    """Images as rows; a batch, or a split. With each lane's own rows a leading axis K."""

    pixels: Tensor
    """[N, X]"""
    labels: Tensor
    """[N, 1], from 0."""

    def __len__(self) -> int:
        return self.labels.shape[-2]

    @property
    def data(self) -> tuple[Tensor, ...]:
        """What goes through the model."""
        return (self.pixels, self.labels)

    def split(self, parts: int) -> list[ImageBatch]:
        """`parts` batches along N."""
        pieces = (x.chunk(parts, dim=-2) for x in self.data)
        return [ImageBatch(*piece) for piece in zip(*pieces, strict=True)]

    def pieces(self, size: int) -> list[ImageBatch]:
        """Batches of so many rows, the last one of what is left."""
        return [
            ImageBatch(*piece) for piece in zip(*(x.split(size) for x in self.data), strict=True)
        ]

    def at(self, index: NDArray[np.int64]) -> ImageBatch:
        """The rows with these numbers; [len(index), ...], or [K, B, ...] where it is [K, B]."""
        picked = torch.from_numpy(index).to(self.labels.device)
        return ImageBatch(self.pixels[picked], self.labels[picked])

    def sample(self, count: int | None) -> ImageBatch:
        """Evenly spaced ones, at most `count`; all without."""
        if count is None or count >= len(self):
            return self
        return self.at(np.linspace(0, len(self) - 1, count).round().astype(np.int64))


@dataclass(frozen=True)
class Images:
    """Training and validation rows, on one device."""

    key: str
    """Of the pixels, labels and the split."""
    shape: tuple[int, int, int]
    """[C, H, W] of an image."""
    classes: int
    train: ImageBatch
    validation: ImageBatch

    def batch(self, seeds: Sequence[int], step: int, size: int) -> ImageBatch:
        """The training batch of a step (from 0): one for all lanes, or each lane's own.

        A seed runs through the training images in a new random order each epoch; what is left over
        at the end of an epoch is not seen in it.
        """
        picked = {seed: self._picked(seed, step, size) for seed in dict.fromkeys(seeds)}
        if len(picked) == 1:
            return self.train.at(picked[seeds[0]])
        return self.train.at(np.stack([picked[seed] for seed in seeds]))

    def _picked(self, seed: int, step: int, size: int) -> NDArray[np.int64]:
        epoch, place = divmod(step, len(self.train) // size)
        order = np.random.default_rng([seed, epoch]).permutation(len(self.train))
        return order[place * size : (place + 1) * size].astype(np.int64)


def prepare_images(source: vision.Images, device: str) -> Images:
    """The source's images, scaled, on a device.

    Raises:
        ValueError: they are not there or cannot be read.
    """
    train, validation = _READ[source.kind](source)
    _check_labels(train[1], validation[1])
    if source.train_rows is not None:
        train = (train[0][: source.train_rows], train[1][: source.train_rows])
    digest = hashlib.sha256()
    for part in (train, validation):
        for array in part:
            digest.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    mean, deviation = (each(train[0], axis=(0, 2, 3), keepdims=True) for each in (np.mean, np.std))
    deviation = np.where(deviation > 0, deviation, 1.0)

    def rows(part: Part) -> ImageBatch:
        scaled = torch.from_numpy((part[0] - mean) / deviation).to(torch.get_default_dtype())
        return ImageBatch(
            scaled.flatten(1).to(device), torch.from_numpy(part[1])[:, None].to(device)
        )

    return Images(
        key=digest.hexdigest()[:32],
        shape=train[0].shape[1:],
        classes=1 + int(max(train[1].max(), validation[1].max())),
        train=rows(train),
        validation=rows(validation),
    )


def _digits(source: vision.Digits) -> tuple[Part, Part]:
    from sklearn.datasets import load_digits  # slow to import

    pixels, labels = load_digits(return_X_y=True)
    held = np.arange(len(labels)) % HELD_OUT == HELD_OUT - 1
    square = pixels.reshape(-1, 1, 8, 8).astype(np.float64)
    return tuple((square[some], labels[some].astype(np.int64)) for some in (~held, held))  # type: ignore[return-value]


def _check_labels(train: Labels, validation: Labels) -> None:
    """That there are images in both splits, of at least two labels, which count from 0.

    Raises:
        ValueError: there are none, or one label alone, or a label is out of range.
    """
    for name, labels in (("training", train), ("validation", validation)):
        if not len(labels):
            raise ValueError(f"the {name} split holds no images; choose another split.")
        if labels.min() < 0 or labels.max() >= MOST_CLASSES:
            wrong = labels.min() if labels.min() < 0 else labels.max()
            raise ValueError(
                f"labels of images must be from 0 to {MOST_CLASSES - 1}, got {wrong} in the {name} "
                "split; -1 usually marks images without a label: choose a split that has them."
            )
    if len(np.unique(train)) < 2:
        raise ValueError(
            f"all training images have the label {train[0]}, so there is nothing to learn; check "
            "the labels."
        )


def _cifar10(source: vision.Cifar10) -> tuple[Part, Part]:
    train, test = _cifar_files(source)
    parts = [_cifar_file(path) for path in train]
    together = (np.concatenate([p for p, _ in parts]), np.concatenate([y for _, y in parts]))
    return together, _cifar_file(test)


def _cifar_files(source: vision.Cifar10) -> tuple[list[Path], Path]:
    """The files of the training batches, and of the test batch."""
    folder = Path(source.folder)
    train, test = sorted(folder.glob("data_batch_*.bin")), folder / "test_batch.bin"
    if not train or not test.is_file():
        pickled = any(folder.glob("data_batch_[0-9]"))
        what = "no CIFAR-10 but in pickles, which are not read" if pickled else "no CIFAR-10"
        raise ValueError(f"images.folder {source.folder!r} holds {what}; {CIFAR_ADVICE}.")
    return train, test


def _cifar_file(path: Path) -> Part:
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    rows = content.reshape(-1, CIFAR_ROW) if len(content) % CIFAR_ROW == 0 else content[:0]
    if len(rows) == 0 or rows[:, 0].max() > 9:
        raise ValueError(
            f"{path} is not a batch of CIFAR-10's binary version, {CIFAR_ROW} bytes an image; "
            f"is it whole? {CIFAR_ADVICE[0].upper()}{CIFAR_ADVICE[1:]}."
        )
    pixels = rows[:, 1:].reshape(-1, CIFAR_CHANNELS, CIFAR_SIDE, CIFAR_SIDE)
    return pixels.astype(np.float64), rows[:, 0].astype(np.int64)


def _hub(source: vision.HubImages) -> tuple[Part, Part]:
    train, validation = (
        _hub_split(source, split) for split in (source.train_split, source.validation_split)
    )
    if train[0].shape[1:] != validation[0].shape[1:]:
        raise ValueError(
            f"images of {source.name!r} must have one size, got {train[0].shape[1:]} and "
            f"{validation[0].shape[1:]} in its splits; resize them."
        )
    return train, validation


def _hub_split(source: vision.HubImages, split: str) -> Part:
    rows = sources.load_dataset(source.name, source.config, split, source.revision, streaming=False)
    for name in (source.image_field, source.label_field):
        if name not in rows.column_names:
            raise ValueError(
                f"a row of {source.name!r} has no {name!r}; its fields are "
                f"{', '.join(rows.column_names)}: set images.image_field and images.label_field."
            )
    if isinstance(rows.features[source.image_field], dict):  # encoded, and nothing says so
        from datasets import Image  # slow to import

        rows = rows.cast_column(source.image_field, Image())
    try:
        images = [_channels_first(image) for image in rows[source.image_field]]
    except ImportError:
        raise ValueError(
            "images of a Hugging Face dataset are decoded by Pillow, which is not installed; "
            "run pip install 'plasticity-hpo[vision]'."
        ) from None
    except Exception as error:  # Pillow's and NumPy's errors of damaged files and odd shapes
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"images of {source.name!r} in {split!r} cannot be decoded ({type(error).__name__}: "
            f"{reason}); each must be a whole file or nested lists of [H, W] or [H, W, C]."
        ) from None
    if len({image.shape for image in images}) > 1:
        sizes = sorted({" x ".join(map(str, image.shape)) for image in images})[:3]
        raise ValueError(
            f"images of {source.name!r} must have one size and one number of channels, got "
            f"{', '.join(sizes)}; resize or convert them."
        )
    labels = _whole_labels(rows[source.label_field], f"{source.name!r} in {split!r}")
    if not images:
        return np.empty((0, 0, 0, 0)), labels
    pixels = np.stack(images).astype(np.float64)
    if not np.isfinite(pixels).all():
        raise ValueError(f"images of {source.name!r} in {split!r} have pixels that are no numbers.")
    return pixels, labels


def _whole_labels(values: Any, where: str) -> Labels:
    """Labels as whole numbers.

    Raises:
        ValueError: one is none.
    """
    for each in values:
        if not isinstance(each, int | np.integer) or not -(2**63) <= int(each) < 2**63:
            raise ValueError(
                f"labels of {where} must be whole numbers from 0, got {each!r}; number them, as "
                "datasets' class_encode_column does."
            )
    return np.asarray(list(values), np.int64)


def _channels_first(image: Any) -> NDArray[Any]:
    """[C, H, W] of a decoded image, or of nested lists [H, W] or [H, W, C]."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


_READ: dict[str, Any] = {"digits": _digits, "cifar10": _cifar10, "hub": _hub}
