"""Why Do We Need Weight Decay in Modern Deep Learning? (2310.04415), over-parameterised vision.

A ResNet and plain gradient descent: a large rate for half of the run, then a drop to a small one,
with and without decay. small is a ResNet of 0.02M parameters on scikit-learn's digits, full a
ResNet-18 with the paper's rates, decays and steps on CIFAR-10 from the hub; for a folder with its
binary version say --set 'images={"kind": "cifar10", "folder": "..."}'.

The paper's rates and decays at half a million steps are 0.08 and 0.001, 0.0125 and 0. In small they
are chosen here, as its run has 1,000 steps: decay there has the time to act only where it is
stronger, and the low rate to train at all only where it is higher. In both settings decays beside
the paper's one and rates beside its two are chosen here, around them.

Not known of the paper and chosen here: no augmentation; the trace is that of the loss which
training sees, normalised by the batch, after a flow without decay; its number of random vectors.
"""

from dataclasses import replace

from hpo import Baseline, Float, Goal, GridPoint, StudySpec, Value
from hpo.core.paper import Contrast, Paper, Quantity, Table, difference, means
from objectives import (
    Digits,
    HubImages,
    ResNet,
    Schedule,
    Training,
    VisionObjective,
    VisionProbes,
    VisionRecipe,
    WeightDecay,
)

HIGH = ("high rate, no decay", "high rate, small", "high rate, middle", "high rate, large")


LOW = ("low rate, no decay", "low rate, middle")


RATES = (LOW[1], "middle rate, middle", HIGH[2], "higher rate, middle")
"""At the middle decay, in rising order."""


SMALL_RECIPE = VisionRecipe(
    model=ResNet(widths=(8, 16, 32), depths=(1, 1, 1)),
    images=Digits(train_rows=400),
    pretrain=Training(
        steps=1000,
        batch_size=50,
        lr=0.5,
        weight_decay=WeightDecay(value=0.0),
        schedule=Schedule(decay_frac=0.5, shape="drop", floor_ratio=0.04),
    ),
    probes=VisionProbes(points=4, rows=256, vectors=8, flow_steps=100, flow_rate=0.02),
)


FULL_RECIPE = VisionRecipe(
    model=ResNet(widths=(64, 128, 256, 512), depths=(2, 2, 2, 2)),
    images=HubImages(name="uoft-cs/cifar10"),
    pretrain=Training(
        steps=390_000,
        batch_size=128,
        lr=0.08,
        weight_decay=WeightDecay(value=0.0),
        schedule=Schedule(decay_frac=0.5, shape="drop", floor_ratio=1e-4 / 0.08),
        evals=50,
    ),
    probes=VisionProbes(
        points=10, rows=5000, batch_size=50, vectors=16, flow_steps=39_000, flow_rate=1e-4
    ),
)
"""1,000 epochs of 390 full batches; the flow takes 100 of them."""


def rate(lr: float, after: float) -> dict[str, Value]:
    """The params of a rate before the drop, and of one that is the same for all after it."""
    return {"pretrain.lr": lr, "pretrain.schedule.floor_ratio": after / lr}


def decayed(value: float) -> dict[str, Value]:
    """The params of a decay."""
    return {"pretrain.weight_decay.value": value}


def grid(
    lrs: tuple[float, float, float, float], after: float, decays: tuple[float, float, float]
) -> tuple[GridPoint, ...]:
    """All points but the baseline: rates low, middle, high, higher; decays small to large."""
    low, middle, _, higher = (rate(lr, after) for lr in lrs)
    small, usual, large = (decayed(value) for value in decays)
    params: dict[str, dict[str, Value]] = {
        HIGH[1]: small,
        HIGH[2]: usual,
        HIGH[3]: large,
        LOW[0]: low,
        LOW[1]: low | usual,
        RATES[1]: middle | usual,
        RATES[3]: higher | usual,
    }
    return tuple(GridPoint(name=name, params=each) for name, each in params.items())


QUANTITIES = (
    Quantity(metric="validation_error"),
    Quantity(metric="validation_loss"),
    Quantity(metric="training_loss"),
    Quantity(metric="probe.sharpness.trace"),
    Quantity(metric="probe.sharpness.trace_relative"),
    Quantity(metric="probe.norms.weight_norm"),
    Quantity(metric="probe.norms.effective_lr_peak"),
)


PAPER = Paper(
    arxiv="2310.04415",
    scale="ResNet-18 on CIFAR-10, 1,000 epochs; its numbers are in figures, and the directions of "
    "the claims are our reading of them",
    tables=(
        Table(
            title="Decay at a high rate, then a drop",
            points=HIGH,
            quantities=QUANTITIES,
            claims=(
                Contrast(
                    text="Decay ends with a lower validation error than none",
                    metric="validation_error",
                    weights=means(HIGH[1:], HIGH[:1]),
                    sign=-1,
                ),
                Contrast(
                    text="Decay ends with a smaller trace of the Hessian than none",
                    metric="probe.sharpness.trace",
                    weights=means(HIGH[1:], HIGH[:1]),
                    sign=-1,
                ),
                Contrast(
                    text="Decay ends with smaller weights, which the same rate turns further",
                    metric="probe.norms.weight_norm",
                    weights=means(HIGH[1:], HIGH[:1]),
                    sign=-1,
                ),
            ),
        ),
        Table(
            title="Decay at a low and at a high rate",
            points=(*LOW, HIGH[0], HIGH[2]),
            quantities=QUANTITIES,
            claims=(
                Contrast(
                    text="Decay lowers the validation error more at the high rate",
                    metric="validation_error",
                    weights=difference(HIGH[2], HIGH[0]) | {LOW[1]: -1.0, LOW[0]: 1.0},
                    sign=-1,
                ),
            ),
        ),
        Table(
            title="Rates before the drop, with decay",
            points=RATES,
            quantities=QUANTITIES,
            claims=(
                Contrast(
                    text="The validation error is U-shaped in the rate before the drop",
                    metric="validation_error",
                    weights=means((RATES[0], RATES[-1]), RATES[1:-1]),
                    sign=1,
                ),
            ),
        ),
    ),
)


SMALL = StudySpec(
    name="why_weight_decay_vision",
    description="What decay does to error and sharpness after a large rate and a drop.",
    objective=VisionObjective(SMALL_RECIPE),
    space={
        "pretrain.weight_decay.value": Float(low=1e-4, high=0.1, log=True),
        "pretrain.lr": Float(low=0.02, high=2.0, log=True),
    },
    goals=(
        Goal(metric="validation_error", direction="down"),
        Goal(metric="training_loss", direction="down"),
    ),
    baselines=(Baseline(name=HIGH[0], params={}),),
    grid=grid(lrs=(0.05, 0.15, 0.5, 1.5), after=0.02, decays=(0.003, 0.01, 0.03)),
    replicates=4,
    trials=32,
    wave=8,
    paper=replace(
        PAPER,
        ours="0.02M parameters, 400 images of 8 x 8 and 1,000 steps; other rates and decays.",
    ),
)


FULL = replace(
    SMALL,
    name="why_weight_decay_vision-full",
    objective=VisionObjective(FULL_RECIPE),
    grid=grid(lrs=(0.001, 0.01, 0.08, 0.15), after=1e-4, decays=(0.004, 0.0125, 0.04)),
    paper=replace(PAPER, ours="decays and rates beside the paper's; no augmentation."),
)


STUDY = SMALL


VARIANTS = {"small": SMALL, "full": FULL}
