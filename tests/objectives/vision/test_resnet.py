"""The classifier over lanes: against an ordinary transformers model, and its normalisation."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ResNetForImageClassification

from objectives.config.vision import ResNet
from objectives.probes import sharpness
from objectives.training import batch as lanes
from objectives.training import loop, optimizers
from objectives.vision import resnet
from objectives.vision.data import ImageBatch

MODEL = ResNet(widths=(4, 8), depths=(1, 2))


SHAPE, CLASSES = (1, 8, 8), 10


def rows(count: int, seed: int = 0) -> ImageBatch:
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count, 1), generator=draw)
    return ImageBatch(torch.randn(count, 64, generator=draw), labels)


def program() -> resnet.Classifier:
    return resnet.Classifier(resnet.build_resnet_config(MODEL, SHAPE, CLASSES), SHAPE, "cpu")


def initial(*seeds: int) -> list[dict[str, Tensor]]:
    config = resnet.build_resnet_config(MODEL, SHAPE, CLASSES)
    return [resnet.initial_resnet_parameters(config, seed) for seed in seeds]


def plain(params: dict[str, Tensor]) -> nn.Module:
    """An ordinary transformers ResNet with the stem of small images and these weights."""
    config = resnet.build_resnet_config(MODEL, SHAPE, CLASSES)
    module = ResNetForImageClassification(config)
    module.resnet.embedder.embedder.convolution = nn.Conv2d(1, 4, 3, padding=1, bias=False)
    module.resnet.embedder.pooler = nn.Identity()
    assert [name for name, _ in module.named_parameters()] == list(params)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(params[name])
    return module


def test_losses_and_gradients_of_lanes_are_those_of_plain_models(float64: None) -> None:
    params, batch = initial(0, 1, 2), rows(6)
    stacked = {name: p.requires_grad_() for name, p in lanes.stack(params).items()}
    found = program().losses(stacked, None, batch)
    gradients = torch.autograd.grad(found.sum(), list(stacked.values()))
    for place, one in enumerate(params):
        module = plain(one).train()
        logits = module(batch.pixels.view(6, *SHAPE)).logits
        loss = F.cross_entropy(logits, batch.labels[:, 0])
        torch.testing.assert_close(found[place], loss)
        expected = torch.autograd.grad(loss, list(module.parameters()))
        for gradient, each in zip(gradients, expected, strict=True):
            torch.testing.assert_close(gradient[place], each)


def test_scores_are_those_of_a_plain_model_whose_statistics_are_the_samples(
    float64: None,
) -> None:
    params, sample, others = initial(0, 1), rows(40), rows(700, seed=1)
    run, stacked = program(), lanes.stack(params)
    nats, wrong = run.scores(stacked, run.statistics(stacked, sample), others)
    for place, one in enumerate(params):
        module = plain(one)
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 1.0  # the statistics of the last batch alone
        with torch.no_grad():
            module.train()(sample.pixels.view(40, *SHAPE))
            # torch's running variance divides by n - 1, normalisation by n
            sides = {4: 8 * 8, 8: 4 * 4}
            for part in module.modules():
                if isinstance(part, nn.BatchNorm2d):
                    count = 40 * sides[part.num_features]
                    assert part.running_var is not None
                    part.running_var *= (count - 1) / count
            logits = module.eval()(others.pixels.view(700, *SHAPE)).logits
        labels = others.labels[:, 0]
        expected = F.cross_entropy(logits, labels, reduction="none")
        torch.testing.assert_close(nats[place], expected)
        assert torch.equal(wrong[place], (logits.argmax(-1) != labels).double())


def test_the_sample_itself_scores_as_the_batch_that_it_is(float64: None) -> None:
    run, stacked, sample = program(), lanes.stack(initial(3)), rows(20)
    nats, _ = run.scores(stacked, run.statistics(stacked, sample), sample)
    torch.testing.assert_close(nats.mean(1), run.losses(stacked, None, sample))


def test_scaling_a_convolution_changes_no_loss_but_the_trace_and_not_its_relative_form(
    float64: None,
) -> None:
    run, one, batch = program(), initial(0)[0], rows(12)
    name = "resnet.encoder.stages.0.layers.0.layer.0.convolution.weight"
    for part in run.module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = 1e-12
    scaled = {**one, name: 2 * one[name]}
    values = lanes.join_rows([one, scaled], run.shapes)
    spans = lanes.split_rows(run.shapes, torch.zeros_like(values[:1]))
    spans[name] += 1.0  # the convolution's own block of the Hessian
    inside = torch.cat([view.reshape(1, -1) for view in spans.values()], 1)

    def losses(values_KP: Tensor) -> Tensor:
        return run.losses(lanes.split_rows(run.shapes, values_KP), None, batch)

    torch.testing.assert_close(losses(values)[0], losses(values)[1])
    signs = [sign * inside for sign in sharpness.signs(3, values[0])]
    plainly = sharpness.curvatures(losses, values, signs)
    torch.testing.assert_close(plainly[0], 4 * plainly[1])
    scale = sharpness.tensor_scales(run.shapes, values)
    relative = sharpness.curvatures(losses, values, [sign * scale for sign in signs])
    torch.testing.assert_close(relative[0], relative[1])
    assert float(relative[0].abs().min()) > 0


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_lanes_train_as_torchs_sgd_with_its_weight_decay_does(
    momentum: float, float64: None
) -> None:
    lrs, decays, steps = [0.1, 0.02], [0.0, 0.3], 4
    run = program()
    params = initial(0, 1)
    values = lanes.join_rows(params, run.shapes)
    state = loop.State.fresh(run.shapes, values, optimizers.Moments.zeros_like(values, sgd=True))
    plan = loop.Plan(
        lr_SK=torch.tensor([lrs] * steps),
        decay_SK=torch.tensor([decays] * steps),
        constants=optimizers.constants(2, "cpu", beta1=momentum, sgd=True),
    )
    loop.train(run, state, plan, lambda step: rows(6, seed=step), until=steps)
    for place, (one, lr, decay) in enumerate(zip(params, lrs, decays, strict=True)):
        module = plain(one).train()
        optimizer = torch.optim.SGD(module.parameters(), lr=lr, momentum=momentum)
        for step in range(steps):
            batch = rows(6, seed=step)
            loss = F.cross_entropy(module(batch.pixels.view(6, *SHAPE)).logits, batch.labels[:, 0])
            optimizer.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.mul_(1 - lr * decay)
            optimizer.step()
        expected = torch.cat([p.detach().reshape(-1) for p in module.parameters()])
        torch.testing.assert_close(state.rows.values[place], expected)


def test_weights_are_drawn_from_the_seed_and_leave_the_global_one_alone() -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, same, other = initial(1, 1, 2)
    program()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    stem = "resnet.embedder.embedder.convolution.weight"
    assert not torch.equal(one[stem], other[stem])
    assert one[stem].shape == (4, 1, 3, 3)
    # Kaiming's standard deviation over the fan out
    assert float(one[stem].std()) == pytest.approx(math.sqrt(2 / (4 * 9)), rel=0.5)


def test_more_stages_than_the_image_has_halves_are_refused() -> None:
    four = ResNet(widths=(4,) * 4, depths=(1,) * 4)
    assert resnet.build_resnet_config(four, (1, 8, 8), 2).num_labels == 2
    five = ResNet(widths=(4,) * 5, depths=(1,) * 5)
    with pytest.raises(ValueError, match=r"has 5 stages.*side of 8; take fewer"):
        resnet.build_resnet_config(five, (1, 8, 8), 2)
