"""Why Do We Need Weight Decay in Modern Deep Learning? (2310.04415), the language models.

Decays under a cosine and a constant rate, each base also after further steps at a tiny rate
without decay (the probe `tiny_rate`); and bf16 against fp32 without decay at a high rate. The
paper's decays are set by their timescale 1 / (lr decay steps), the same in both settings: 0.1 is a
third of the run. small is a 0.2M GPT-2 on Python's own text, full the paper's GPT-2 124M on
OpenWebText (with biases, which the paper leaves out).

Two runs without decay take lr_t / |w_t| from the run with decay 0.1 of the same seed, with the norm
of all weights before each step (`objectives.pretraining.effective_lr`). In the paper such a run, in
fp32, has the loss of the one with decay; under which of the two schedules was not found, so here it
is both.
"""

from dataclasses import replace

from hpo import Baseline, Choice, Float, Goal, GridPoint, StudySpec, Value
from hpo.core.paper import Contrast, Match, Paper, Quantity, Table, difference, means
from objectives import (
    BuiltinTask,
    Corpus,
    HubDataset,
    Model,
    PlasticityObjective,
    Pretrain,
    Probes,
    Recipe,
    Schedule,
    Stdlib,
    WeightDecay,
)
from studies import _tasks

TAU_FRACS = {0.1: 1 / 3, 0.3: 1 / 9, 0.6: 1 / 18}
"""The paper's decay -> 1 / (6e-4 * decay * 50,000), its timescale as a share of the run."""


COSINE = ("cosine, no decay", "cosine, 0.1", "cosine, 0.3")


CONSTANT = ("constant, no decay", "constant, 0.1", "constant, 0.3", "constant, 0.6")


MATCHED = (
    "cosine, no decay, effective rate of 0.1",
    "constant, no decay, effective rate of 0.1",
)


BF16, BF16_DECAYED, FP32 = PRECISIONS = (
    "high rate, bf16, no decay",
    "high rate, bf16, 0.1",
    "high rate, fp32, no decay",
)


SMALL_RECIPE = Recipe(
    model=Model(preset="gpt2-0.2m"),
    corpus=Corpus(sources=(Stdlib(),)),
    pretrain=Pretrain(
        steps=600,
        batch_size=16,
        seq_len=64,
        lr=3e-3,
        weight_decay=WeightDecay(
            value=None, tau_frac=TAU_FRACS[0.1], decayed="matrices_and_embeddings"
        ),
        schedule=Schedule(warmup_steps=60, shape="cosine", floor_ratio=0.1),
    ),
    finetune=replace(_tasks.SMALL, tasks=(BuiltinTask(name="token_kind"),), steps=60),
    probes=Probes(run=("norms", "spikes", "tiny_rate", "lost_updates"), tiny_rate=5e-5),
)


FULL_RECIPE = Recipe(
    model=Model(preset="gpt2-124m"),
    corpus=Corpus(
        sources=(HubDataset(name="Skylion007/openwebtext", max_bytes=None),),
        tokenizer="openai-community/gpt2",
        validation_frac=0.0005,
    ),
    pretrain=Pretrain(
        steps=50_000,
        batch_size=256,
        seq_len=256,
        lr=6e-4,
        weight_decay=WeightDecay(
            value=None, tau_frac=TAU_FRACS[0.1], decayed="matrices_and_embeddings"
        ),
        schedule=Schedule(warmup_steps=400, shape="cosine", floor_ratio=0.1),
        eval_tokens=1_280_000,
        accumulation=8,
    ),
    finetune=_tasks.FULL,
    probes=Probes(
        run=("norms", "spikes", "tiny_rate", "lost_updates"), tiny_rate=1e-5, tiny_frac=0.2
    ),
)


def decayed(decay: float) -> dict[str, Value]:
    """The params of the paper's decay."""
    if decay == 0:
        return {"pretrain.weight_decay.value": 0.0, "pretrain.weight_decay.tau_frac": None}
    return {
        "pretrain.weight_decay.value": None,
        "pretrain.weight_decay.tau_frac": TAU_FRACS[decay],
    }


def grid(lr: float, seq_len: int, batch_size: int) -> tuple[GridPoint, ...]:
    """All points but the baseline; of the precisions also the rate and the batch."""
    constant: dict[str, Value] = {"pretrain.schedule.decay_frac": 0.0}
    matched: dict[str, Value] = {"pretrain.effective_lr_of.tau_frac": TAU_FRACS[0.1]}
    high: dict[str, Value] = {
        "pretrain.lr": lr,
        "pretrain.seq_len": seq_len,
        "pretrain.batch_size": batch_size,
    }
    bf16 = high | {"pretrain.precision": "bf16"}
    params = {
        COSINE[0]: decayed(0),
        COSINE[2]: decayed(0.3),
        CONSTANT[0]: constant | decayed(0),
        CONSTANT[1]: constant | decayed(0.1),
        CONSTANT[2]: constant | decayed(0.3),
        CONSTANT[3]: constant | decayed(0.6),
        MATCHED[0]: matched | decayed(0),
        MATCHED[1]: constant | matched | decayed(0),
        BF16: bf16 | decayed(0),
        BF16_DECAYED: bf16 | decayed(0.1),
        FP32: high | {"pretrain.precision": "fp32"} | decayed(0),
    }
    return tuple(GridPoint(name=name, params=each) for name, each in params.items())


LOSSES = (
    Quantity(metric="train_loss"),
    Quantity(metric="base_loss"),
    Quantity(metric="train_validation_gap"),
    Quantity(metric="probe.tiny_rate.loss_nats"),
    Quantity(metric="probe.norms.effective_lr_end"),
)


PAPER = Paper(
    arxiv="2310.04415",
    scale="GPT-2 124M, about 3 billion tokens of OpenWebText; most of its numbers are in figures",
    tables=(
        Table(
            title="Decay under a cosine rate",
            points=COSINE,
            quantities=LOSSES,
            claims=(
                Contrast(
                    text="Decay ends with a lower training loss than none",
                    metric="train_loss",
                    weights=means(COSINE[1:], COSINE[:1]),
                    sign=-1,
                    paper=-0.02,
                ),
            ),
        ),
        Table(title="Decay under a constant rate", points=CONSTANT, quantities=LOSSES),
        Table(
            title="The effective rate of a decay, without it",
            points=(COSINE[0], COSINE[1], MATCHED[0], CONSTANT[0], CONSTANT[1], MATCHED[1]),
            quantities=LOSSES,
            claims=tuple(
                Match(
                    text=f"Under a {schedule} rate, no decay at the effective rate of 0.1 has the "
                    "training loss of 0.1",
                    metric="train_loss",
                    point=point,
                    like=like,
                    unlike=unlike,
                )
                for schedule, point, like, unlike in (
                    ("cosine", MATCHED[0], COSINE[1], COSINE[0]),
                    ("constant", MATCHED[1], CONSTANT[1], CONSTANT[0]),
                )
            ),
        ),
        Table(
            title="Precision at a high rate",
            points=PRECISIONS,
            quantities=(
                Quantity(metric="train_loss"),
                Quantity(metric="probe.spikes.count"),
                Quantity(metric="probe.spikes.largest_rise_nats"),
                Quantity(metric="probe.lost_updates.end_frac"),
            ),
            claims=(
                Contrast(
                    text="Without decay bf16 ends worse than fp32 (in the paper it diverges)",
                    metric="train_loss",
                    weights=difference(BF16, FP32),
                    sign=1,
                ),
                Contrast(
                    text="Decay fixes bf16",
                    metric="train_loss",
                    weights=difference(BF16_DECAYED, BF16),
                    sign=-1,
                ),
            ),
        ),
    ),
)


SMALL = StudySpec(
    name="why_weight_decay",
    description="What decay does to the training loss, the effective rate and runs in bf16.",
    objective=PlasticityObjective(SMALL_RECIPE),
    space={
        "pretrain.weight_decay.tau_frac": Float(low=0.02, high=2.0, log=True),
        "pretrain.schedule.decay_frac": Choice(options=(0.0, 1.0)),
    },
    goals=(
        Goal(metric="train_loss", direction="down"),
        Goal(metric="finetuned", direction="up"),
    ),
    baselines=(Baseline(name=COSINE[1], params={}),),
    # The paper's 1e-3 over 6e-4, and four times the context.
    grid=grid(lr=5e-3, seq_len=256, batch_size=4),
    replicates=3,
    trials=36,
    wave=12,
    paper=replace(
        PAPER,
        ours="0.2M parameters and 0.6 million tokens; decays at the paper's timescale; bf16 is "
        "autocast over weights in fp32.",
    ),
)


FULL = replace(
    SMALL,
    name="why_weight_decay-full",
    objective=PlasticityObjective(FULL_RECIPE),
    grid=grid(lr=1e-3, seq_len=1024, batch_size=64),
    paper=replace(PAPER, ours="biases, and labelled tasks, which the paper does not have."),
)


STUDY = SMALL


VARIANTS = {"small": SMALL, "full": FULL}
