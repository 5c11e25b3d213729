"""Image classifiers as lanes: transformers' ResNet, and what its loss is.

The stem is that of small images, a 3 x 3 convolution without stride or pooling, in the place of
ImageNet's, which would leave 2 x 2 of an image of 8 x 8.

Batch normalisation has no running statistics. A training step normalises by its batch, so that a
step is a function of weights and batch alone, and nothing but parameters has to be carried for a
lane. To evaluate a lane the statistics are computed from its weights: a fixed sample of training
images goes through as one batch, and the mean and variance that each normalisation meets there are
the ones with which other images are then classified.

Convolutions of K lanes are one grouped convolution. It rounds otherwise than K single ones: lanes
equal single runs up to rounding, and bit for bit only in the same company.

K lanes, B images, X pixels of an image in one row, C channels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from transformers import ResNetConfig, ResNetForImageClassification

from objectives.config.vision import ResNet
from objectives.models import causal_lm, draws
from objectives.models.double_precision import in_double
from objectives.training.lanes import vmap_lanes
from objectives.vision.data import ImageBatch

EVAL_ROWS = 512
"""Images classified at once; fixed, so that no result depends on it."""


def build_resnet_config(model: ResNet, shape: tuple[int, int, int], classes: int) -> ResNetConfig:
    """transformers' config for images of this shape [C, H, W].

    Raises:
        ValueError: the images are too small for so many stages.
    """
    smallest = min(shape[1:])
    if 2 ** (len(model.widths) - 1) > smallest:
        raise ValueError(
            f"model.widths has {len(model.widths)} stages, each of which but the first halves the "
            f"image, but images have a side of {smallest}; take fewer stages."
        )
    return ResNetConfig(
        num_channels=shape[0],
        embedding_size=model.widths[0],
        hidden_sizes=list(model.widths),
        depths=list(model.depths),
        layer_type=model.layer,
        num_labels=classes,
    )


def initial_resnet_parameters(config: ResNetConfig, seed: int) -> dict[str, Tensor]:
    """Name -> parameter on the CPU, drawn from the seed."""
    with draws.seeded(seed):
        module = _module(config)
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


class Classifier:
    """A ResNet and how to run it for all lanes at once; a program of `objectives.training.loop`."""

    def __init__(self, config: ResNetConfig, shape: tuple[int, int, int], device: str) -> None:
        self.shape = shape
        with draws.seeded(0):  # what is drawn is not kept
            trained = _module(config)
        self.settled = copy.deepcopy(trained).eval()
        """With statistics as buffers, to be given with the parameters."""
        self.norms = [
            name for name, part in trained.named_modules() if isinstance(part, nn.BatchNorm2d)
        ]
        self._seen: dict[str, Tensor] | None = None
        for name in self.norms:
            part: Any = trained.get_submodule(name)
            part.track_running_stats = False
            part.running_mean = part.running_var = part.num_batches_tracked = None
            part.register_forward_pre_hook(self._note(name))
        self.module = trained.train()
        """Normalising by the batch."""
        for each in (self.module, self.settled):
            causal_lm.make_program(each, device)

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Of the parameters, in the order in which they are in a row."""
        return {name: p.shape for name, p in self.module.named_parameters()}

    def losses(
        self, params: Mapping[str, Tensor], frozen: Mapping[str, Tensor] | None, batch: ImageBatch
    ) -> Tensor:
        """Mean cross-entropy of a batch that is normalised by itself, nats an image; [K]."""
        (nats,) = vmap_lanes(self._lane_nats, dict(params), frozen, batch.data)
        return nats.mean(1)

    @torch.no_grad()
    def statistics(self, params: Mapping[str, Tensor], sample: ImageBatch) -> dict[str, Tensor]:
        """Means and variances of all normalisations over a sample run as one batch; [K, C] each."""
        found = vmap_lanes(self._lane_statistics, dict(params), None, (sample.pixels,))
        kinds = ("running_mean", "running_var")
        names = [f"{name}.{kind}" for name in self.norms for kind in kinds]
        return dict(zip(names, found, strict=True))

    @torch.no_grad()
    def scores(
        self, params: Mapping[str, Tensor], statistics: Mapping[str, Tensor], rows: ImageBatch
    ) -> tuple[Tensor, Tensor]:
        """Nats of each image, and 1 where it is classified wrongly; [K, N] each."""
        given = {**params, **statistics}
        parts = [
            vmap_lanes(self._lane_scores, given, None, piece.data)
            for piece in rows.pieces(EVAL_ROWS)
        ]
        nats_KN, wrong_KN = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        return in_double(nats_KN), in_double(wrong_KN)

    def _lane_nats(
        self, params: dict[str, Tensor], frozen: dict[str, Tensor], *data: Tensor
    ) -> tuple[Tensor]:
        pixels_BX, labels_B1 = data
        logits = self._logits(self.module, {**frozen, **params}, pixels_BX)
        return (F.cross_entropy(logits, labels_B1[:, 0], reduction="none"),)

    def _lane_scores(
        self, params: dict[str, Tensor], frozen: dict[str, Tensor], *data: Tensor
    ) -> tuple[Tensor, Tensor]:
        pixels_BX, labels_B1 = data
        logits, labels_B = self._logits(self.settled, params, pixels_BX), labels_B1[:, 0]
        nats_B = F.cross_entropy(logits, labels_B, reduction="none")
        return nats_B, logits.argmax(-1) != labels_B

    def _lane_statistics(
        self, params: dict[str, Tensor], frozen: dict[str, Tensor], pixels_BX: Tensor
    ) -> tuple[Tensor, ...]:
        seen: dict[str, Tensor] = {}
        self._seen = seen
        self._logits(self.module, params, pixels_BX)
        self._seen = None
        inputs = [seen[name] for name in self.norms]
        axes = (0, 2, 3)
        return tuple(found for x in inputs for found in (x.mean(axes), x.var(axes, correction=0)))

    def _logits(self, module: nn.Module, params: dict[str, Tensor], pixels_BX: Tensor) -> Tensor:
        images = pixels_BX.unflatten(1, self.shape)
        logits: Tensor = functional_call(module, params, (images,)).logits
        return logits

    def _note(self, name: str) -> Any:
        def hook(norm: nn.Module, args: tuple[Tensor]) -> None:
            if self._seen is not None:
                self._seen[name] = args[0]

        return hook


def _module(config: ResNetConfig) -> nn.Module:
    """The classifier with the stem of small images, its weights drawn as transformers draws."""
    module: Any = ResNetForImageClassification(copy.deepcopy(config))
    stem = module.resnet.embedder
    stem.embedder.convolution = nn.Conv2d(
        config.num_channels, config.embedding_size, kernel_size=3, padding=1, bias=False
    )
    nn.init.kaiming_normal_(stem.embedder.convolution.weight, mode="fan_out", nonlinearity="relu")
    stem.pooler = nn.Identity()
    found: nn.Module = module
    return found
