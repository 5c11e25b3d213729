"""Warmup-Stable-Only (2603.16127): a rate that never falls, and the model after fine-tuning.

small asks at 0.04M parameters whether a rate that never falls makes a worse base that is better
after fine-tuning; its planned contrasts were written before its first run, at seeds that nothing
was chosen on. phases and full are the paper's grid of schedules and final rates, alone, with
mid-training, over-trained, and both; the fine-tuning rate is tuned for each base; the Hessian's
trace against the score. phases is a 0.2M model on Python's own text, which is also its mid-training
text (chosen here: no second one ships with Python); full the paper's 1B shape on FineWeb-Edu,
mid-training on Dolmino (the paper pretrains for mid-training on OLMo-Mix; here one pretraining
serves both, so that it is trained once).
"""

from dataclasses import replace

from hpo import (
    BASE_LOSS_DOWN,
    Baseline,
    Choice,
    Goal,
    GridPoint,
    PlannedContrasts,
    StudySpec,
    Value,
)
from hpo.core.paper import Contrast, Correlation, Paper, Quantity, Table, means
from objectives import (
    BuiltinTask,
    Corpus,
    HubDataset,
    MidTraining,
    Model,
    PlasticityObjective,
    Pretrain,
    Probes,
    Recipe,
    Schedule,
    Stdlib,
    WeightDecay,
)
from studies import _long, _tasks, weight_decay_plasticity

# (shape, share of the run that decays, final rate over peak rate alpha)
SCHEDULES = {
    "WSO": ("linear", 0.0, 1.0),
    "WSD 0.1": ("linear", 0.25, 0.1),
    "WSD 0": ("linear", 0.25, 0.0),
    "linear 0.1": ("linear", 1.0, 0.1),
    "linear 0": ("linear", 1.0, 0.0),
    "cosine 0.1": ("cosine", 1.0, 0.1),
    "cosine 0": ("cosine", 1.0, 0.0),
}


# Mid-training: schedule of the first phase, and the final rate of the second over its first.
MID = {
    "WSO (1, 1)": ("WSO", 1.0),
    "WSD (1, 0)": ("WSO", 0.0),
    "WSD (0.1, 1)": ("WSD 0.1", 1.0),
    "WSD (0.1, 0)": ("WSD 0.1", 0.0),
    "linear (0.1, 1)": ("linear 0.1", 1.0),
    "linear (0.1, 0)": ("linear 0.1", 0.0),
    "cosine (0.1, 1)": ("cosine 0.1", 1.0),
    "cosine (0.1, 0)": ("cosine 0.1", 0.0),
}


PRE, PRE_MID, OVER, OVER_MID = "", "mid: ", "over: ", "over, mid: "


# Paper: difference of loss and of the score after fine-tuning from the best decayed schedule, 1B.
LOSS = {
    PRE: (0.071, 0.004, 0.0, 0.021, 0.016, 0.019, 0.016),
    PRE_MID: (0.062, 0.0, 0.038, 0.047),
    OVER: (0.048, 0.004, 0.0),
    OVER_MID: (0.055, 0.0, 0.033),
}


SCORE = {
    PRE: (0.3, 0.0, -1.0, -0.7, -0.9, -0.7, -0.7),
    PRE_MID: (0.8, 0.0, -0.5, -1.3, -2.5, -3.8, -2.9, -3.7),
    OVER: (0.7, 0.0, -0.3),
    OVER_MID: (1.4, -0.5, -1.0, -1.2, 0.0, -0.6, -0.7, -1.2),
}


PHASES_RECIPE = Recipe(
    model=Model(preset="llama-0.2m"),
    corpus=Corpus(sources=(Stdlib(),)),
    pretrain=Pretrain(
        steps=500,
        batch_size=16,
        seq_len=64,
        lr=3e-3,
        weight_decay=WeightDecay(value=1.6),
        schedule=Schedule(warmup_steps=50),
        mid=MidTraining(sources=(Stdlib(),), steps=220),
    ),
    finetune=replace(
        _tasks.SMALL,
        tasks=(BuiltinTask(name="token_kind"), BuiltinTask(name="list_ops")),
        steps=60,
    ),
    probes=Probes(run=("norms", "spikes", "sharpness")),
)


FULL_RECIPE = Recipe(
    model=Model(preset="llama-3.2-1b"),
    corpus=Corpus(
        sources=(
            HubDataset(name="HuggingFaceFW/fineweb-edu", config="sample-350BT", max_bytes=None),
        ),
        tokenizer="meta-llama/Llama-3.2-1B",
        validation_frac=0.0005,
    ),
    pretrain=Pretrain(
        steps=80_000,
        batch_size=2048,
        seq_len=2048,
        lr=3e-4,
        weight_decay=WeightDecay(value=0.1),
        schedule=Schedule(warmup_steps=1000),
        mid=MidTraining(
            sources=(HubDataset(name="allenai/dolmino-mix-1124", max_bytes=600_000_000_000),),
            steps=36_000,
        ),
        precision="bf16",
        eval_tokens=4_194_304,
        accumulation=256,
        activation_checkpointing=True,
    ),
    finetune=replace(
        _tasks.FULL,
        lrs=(5e-7, 1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4, 1e-3),
        max_extensions=0,
        epochs=1,
        batch_size=128,
    ),
    probes=Probes(run=("norms", "spikes", "sharpness"), tokens=131_072, vectors=50),
)


def scheduled(schedule: str) -> dict[str, Value]:
    """The params of a first phase."""
    shape, decay_frac, floor_ratio = SCHEDULES[schedule]
    return {
        "pretrain.schedule.shape": shape,
        "pretrain.schedule.decay_frac": decay_frac,
        "pretrain.schedule.floor_ratio": floor_ratio,
    }


def points(pre: str, mid: str, longer: dict[str, Value], mid_steps: int) -> dict[str, GridPoint]:
    """All schedules without and with mid-training, names behind these marks."""
    found: dict[str, dict[str, Value]] = {
        pre + name: scheduled(name) | longer | {"pretrain.mid": None} for name in SCHEDULES
    }
    for name, (schedule, floor_ratio) in MID.items():
        second: dict[str, Value] = {
            "pretrain.mid.schedule.floor_ratio": floor_ratio,
            "pretrain.mid.steps": mid_steps,
        }
        found[mid + name] = scheduled(schedule) | longer | second
    return {name: GridPoint(name=name, params=params) for name, params in found.items()}


def over(steps: int, batch_size: int) -> dict[str, Value]:
    """Over-training: half as many steps again, in larger batches (the paper: four times)."""
    return {"pretrain.steps": steps, "pretrain.batch_size": batch_size}


def grid(mid_steps: int, longer: dict[str, Value], longer_mid_steps: int) -> tuple[GridPoint, ...]:
    """The four parts, all but the baseline."""
    found = points(PRE, PRE_MID, {}, mid_steps)
    found |= points(OVER, OVER_MID, longer, longer_mid_steps)
    del found[BASELINE.name]
    return tuple(found.values())


def table(title: str, mark: str, names: tuple[str, ...], loss: str, scale: str) -> Table:
    """One of the paper's tables; the first point is the one without any decay."""
    rows = tuple(mark + name for name in names)
    decayed = rows[1:]
    return Table(
        title=title,
        points=rows,
        quantities=(
            Quantity(
                metric=loss,
                paper_name=f"loss, from the best decayed, {scale}",
                paper=dict(zip(rows, LOSS[mark], strict=False)),
                best_of=decayed,
            ),
            Quantity(
                metric="finetuned",
                paper_name=f"score after fine-tuning, points, from the best decayed, {scale}",
                paper=dict(zip(rows, SCORE[mark], strict=False)),
                best_of=decayed,
                better="up",
            ),
            Quantity(metric="probe.sharpness.trace"),
        ),
        claims=(
            Contrast(
                text="Without decay the loss is higher than the mean of the decayed",
                metric=loss,
                weights=means(rows[:1], decayed),
                sign=1,
            ),
            Contrast(
                text="Without decay the score after fine-tuning is higher than the mean of the "
                "decayed",
                metric="finetuned",
                weights=means(rows[:1], decayed),
                sign=1,
            ),
            Contrast(
                text="Without decay the base is less sharp (the paper: two to three times)",
                metric="probe.sharpness.trace",
                weights=means(rows[:1], decayed),
                sign=-1,
            ),
            Correlation(
                text="Sharper bases score lower after fine-tuning",
                points=rows,
                x="probe.sharpness.trace",
                y="finetuned",
                sign=-1,
                paper=-0.709 if mark == PRE else None,
            ),
        ),
    )


PAPER = Paper(
    arxiv="2603.16127",
    scale="Llama-3.2-1B shape, FineWeb-Edu, AlpacaEval, TruthfulQA and MMLU after Tulu-3 SFT, one "
    "run a cell",
    tables=(
        table("Pretraining (its table 1)", PRE, tuple(SCHEDULES), "base_loss", "350B tokens"),
        table("Mid-training (its table 2)", PRE_MID, tuple(MID), "mid_loss", "350B + 150B tokens"),
        table("Over-training (its table 3)", OVER, tuple(SCHEDULES), "base_loss", "2T tokens"),
        table(
            "Over-training and mid-training (its table 4)",
            OVER_MID,
            tuple(MID),
            "mid_loss",
            "2T + 500B tokens",
        ),
    ),
)


BASELINE = Baseline(name="cosine 0.1", params=scheduled("cosine 0.1") | {"pretrain.mid": None})


PHASES = StudySpec(
    name="warmup_stable_only-phases",
    description="Schedules that decay and one that does not: alone, mid-trained, over-trained.",
    objective=PlasticityObjective(PHASES_RECIPE),
    space={
        "pretrain.schedule.shape": Choice(options=("linear", "cosine")),
        "pretrain.schedule.decay_frac": Choice(options=(0.0, 0.25, 1.0)),
        "pretrain.schedule.floor_ratio": Choice(options=(0.1, 1.0)),
    },
    goals=(BASE_LOSS_DOWN, Goal(metric="finetuned", direction="up")),
    baselines=(BASELINE,),
    grid=grid(220, over(750, 32), 190),
    replicates=2,
    trials=60,
    wave=30,
    paper=replace(
        PAPER,
        ours="0.2M parameters and 0.5 million tokens, three times as many over-trained (the paper: "
        "six times); decay 1.6 has the paper's timescale, 0.42 of the run; mid-training goes on "
        "with the same text.",
    ),
)


LONG_PAPER = replace(
    PAPER,
    ours="0.04M parameters, 2 million tokens, decay 0.1 on all parameters, full fine-tuning on "
    "docstrings, scored in nats per token; the paper's scores are not of this kind.",
    tables=(
        Table(
            title="Pretraining (its table 1)",
            points=tuple(SCHEDULES),
            quantities=(
                Quantity(
                    metric="base_loss",
                    paper_name="loss, from the best decayed, 350B tokens",
                    paper=dict(zip(SCHEDULES, LOSS[PRE], strict=True)),
                    best_of=tuple(SCHEDULES)[1:],
                ),
                Quantity(metric=_long.LOSS_AFTER, best_of=tuple(SCHEDULES)[1:]),
            ),
            claims=(
                Contrast(
                    text="Without decay the loss is higher than the mean of the decayed",
                    metric="base_loss",
                    weights=means(tuple(SCHEDULES)[:1], tuple(SCHEDULES)[1:]),
                    sign=1,
                ),
                Contrast(
                    text="Without decay the loss after fine-tuning is lower than the mean of the "
                    "decayed",
                    metric=_long.LOSS_AFTER,
                    weights=means(tuple(SCHEDULES)[:1], tuple(SCHEDULES)[1:]),
                    sign=-1,
                ),
            ),
        ),
    ),
)


SMALL = StudySpec(
    name="warmup_stable_only",
    description="Does a rate that never falls make a worse base that is better after fine-tuning?",
    objective=weight_decay_plasticity.SMALL.objective,
    space=PHASES.space,
    goals=(BASE_LOSS_DOWN, Goal(metric=_long.LOSS_AFTER, direction="down")),
    baselines=(Baseline(name="cosine 0.1", params=scheduled("cosine 0.1")),),
    grid=tuple(
        GridPoint(name=name, params=scheduled(name)) for name in SCHEDULES if name != "cosine 0.1"
    ),
    replicates=10,
    trials=70,
    wave=14,
    seed=100,
    replicate_share=0.0,
    paper=LONG_PAPER,
    contrasts=PlannedContrasts(
        contrasts=_long.of_constant_rate("WSO", "cosine 0.1", "WSD 0"),
        alpha=0.01,
    ),
)


FULL = replace(
    PHASES,
    name="warmup_stable_only-full",
    objective=PlasticityObjective(FULL_RECIPE),
    grid=grid(36_000, over(120_000, 8192), 30_000),
    replicates=3,
    trials=90,
    paper=replace(PAPER, ours="one pretraining for tables 1 and 2; labelled tasks."),
)


STUDY = SMALL


VARIANTS = {"small": SMALL, "phases": PHASES, "full": FULL}
