"""Weight Decay Improves Language Model Plasticity (2602.11137): the best decays.

small asks at 0.04M parameters and 49 tokens per parameter whether decay makes a worse base that is
better after fine-tuning; its planned contrasts were written before its first run, at seeds that
nothing was chosen on. short and full are decay x tokens per parameter {20, 140}: short a 0.04M
model on Python's own text at the paper's decays; full its Llama 0.5B on FineWeb-Edu. The paper
takes OLMo-2 1B for 140 tokens per parameter, whose shape, batch and warmup were not found: full
keeps Llama 0.5B there (chosen here). From the paper: cosine to a tenth at 20 and WSD at 140 (its
shape not found: the last quarter, linear; chosen here), 10 % warmup at 20 (as many steps at 140;
chosen here), betas, clipping, decay of all parameters.
"""

from dataclasses import replace

from hpo import (
    BASE_LOSS_DOWN,
    Baseline,
    Float,
    Goal,
    GridPoint,
    PlannedContrasts,
    StudySpec,
    Value,
)
from hpo.core.paper import Contrast, Paper, Quantity, Shift, Table, trend
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
from studies import _long, _tasks

DECAYS = (0.0, 0.1, 0.3, 1.0, 3.0)
"""OLMo-2's at 140 tokens per parameter, and 3 of the Llamas'."""


PROBES = Probes(run=("norms", "ranks", "spikes", "separability"))


SHORT_RECIPE = Recipe(
    model=Model(preset="llama-0.06m"),
    corpus=Corpus(sources=(Stdlib(max_bytes=16_000_000),), vocab_size=512),
    pretrain=Pretrain(
        steps=407,  # 20 tokens for each of 41,632 parameters; 140 in 2846
        batch_size=32,
        seq_len=64,
        lr=4e-3,
        weight_decay=WeightDecay(value=0.1, decayed="all"),
        schedule=Schedule(warmup_steps=41, shape="cosine", floor_ratio=0.1),
    ),
    finetune=_tasks.SMALL,
    probes=PROBES,
)


FULL_RECIPE = Recipe(
    model=Model(preset="llama-0.5b"),
    corpus=Corpus(
        sources=(
            HubDataset(name="HuggingFaceFW/fineweb-edu", config="sample-100BT", max_bytes=None),
        ),
        tokenizer="meta-llama/Llama-2-7b-hf",
        validation_frac=0.0005,
    ),
    pretrain=Pretrain(
        steps=9537,  # 10 billion tokens; 70 billion in 66,759
        batch_size=512,
        seq_len=2048,
        lr=2.5e-4,
        weight_decay=WeightDecay(value=0.1, decayed="all"),
        schedule=Schedule(warmup_steps=954, shape="cosine", floor_ratio=0.1),
        precision="bf16",
        eval_tokens=4_194_304,
        accumulation=64,
        activation_checkpointing=True,
    ),
    finetune=_tasks.FULL,
    probes=PROBES,
)


def name(tokens: int, decay: float) -> str:
    """Of a grid point."""
    return f"{tokens} TPP, decay {decay:g}"


def grid(steps: dict[int, int]) -> tuple[GridPoint, ...]:
    """Decay x tokens per parameter -> steps, all but the baseline."""
    schedules: dict[int, dict[str, Value]] = {
        20: {},
        140: {"pretrain.schedule.shape": "linear", "pretrain.schedule.decay_frac": 0.25},
    }
    return tuple(
        GridPoint(
            name=name(tokens, decay),
            params={
                "pretrain.steps": steps[tokens],
                "pretrain.weight_decay.value": decay,
                **schedules[tokens],
            },
        )
        for tokens in (20, 140)
        for decay in DECAYS
        if (tokens, decay) != (20, 0.1)
    )


def rank_falls(points: tuple[str, ...]) -> Contrast:
    """Over points of rising decay."""
    return Contrast(
        text="The rank of W_QK falls as decay grows (effective rank here; the paper's formula was "
        "not found)",
        metric="probe.ranks.qk_effective",
        weights=trend(points),
        sign=-1,
    )


def gap_shrinks(points: tuple[str, ...]) -> Contrast:
    """Over points of rising decay."""
    return Contrast(
        text="The gap between training and validation loss shrinks as decay grows",
        metric="train_validation_gap",
        weights=trend(points),
        sign=-1,
    )


def table(tokens: int, losses: dict[float, float], before: str, after: str) -> Table:
    """What decay does at so many tokens per parameter; the paper's best decays are OLMo-2 1B's."""
    points = tuple(name(tokens, decay) for decay in DECAYS)
    up_to_1 = points[:-1]  # at 3 and more the paper's models begin to break
    return Table(
        title=f"Decay at {tokens} tokens per parameter",
        points=points,
        quantities=(
            Quantity(
                metric="base_loss",
                paper_name="validation loss, nats/token, OLMo-2 1B" if losses else "",
                paper={name(tokens, decay): loss for decay, loss in losses.items()},
            ),
            Quantity(metric="finetuned", better="up"),
            Quantity(metric="probe.separability.mean", better="up"),
            Quantity(metric="probe.ranks.qk_effective"),
            Quantity(metric="probe.ranks.vo_effective"),
            Quantity(metric="train_validation_gap"),
        ),
        claims=(
            Shift(
                text="The decay that is best after fine-tuning is larger than the best before",
                points=points,
                paper_before=before,
                paper_after=after,
            ),
            rank_falls(up_to_1),
            Contrast(
                text="Linear separability rises as decay grows",
                metric="probe.separability.mean",
                weights=trend(up_to_1),
                sign=1,
            ),
            gap_shrinks(up_to_1),
        ),
    )


PAPER = Paper(
    arxiv="2602.11137",
    scale="Llama and OLMo-2 of 0.5B to 4B parameters, 10 to 210 billion tokens, one seed; numbers "
    "from secondary sources",
    tables=(
        table(20, {}, before="0.6", after="1.0"),
        table(140, {0.1: 2.6088, 0.3: 2.6208, 1.0: 2.7064}, before="0.1", after="0.3"),
    ),
)


SHORT = StudySpec(
    name="weight_decay_plasticity-short",
    description="Decay x tokens per parameter: the best before and the best after fine-tuning.",
    objective=PlasticityObjective(SHORT_RECIPE),
    space={"pretrain.weight_decay.value": Float(low=0.01, high=10.0, log=True)},
    goals=(BASE_LOSS_DOWN, Goal(metric="finetuned", direction="up")),
    baselines=(Baseline(name=name(20, 0.1), params={}),),
    grid=grid({20: 407, 140: 2846}),
    replicates=2,
    trials=20,
    wave=10,
    paper=replace(
        PAPER,
        ours="0.04M parameters, LoRA, a peak rate of 4e-3 and batches of 2,048 tokens (chosen); "
        "lr times steps is 1.6 at 20 tokens per parameter, where the paper's 0.5B has 2.4.",
    ),
)


LONG_DECAYS = (0.0, 0.03, 0.1, 0.3, 1.0)


LONG_POINTS = tuple(f"decay {decay:g}" for decay in LONG_DECAYS)


LONG_PAPER = replace(
    PAPER,
    ours="0.04M parameters, 49 tokens per parameter, WSD, a peak rate of 5e-3 and batches of 512 "
    "tokens (chosen), full fine-tuning on docstrings, scored in nats per token.",
    tables=(
        Table(
            title="Decay at 49 tokens per parameter (the paper's numbers: at 140)",
            points=LONG_POINTS,
            quantities=(
                Quantity(
                    metric="base_loss",
                    paper_name="validation loss, nats/token, OLMo-2 1B",
                    paper={"decay 0.1": 2.6088, "decay 0.3": 2.6208, "decay 1": 2.7064},
                ),
                Quantity(metric=_long.LOSS_AFTER),
                Quantity(metric="probe.ranks.qk_effective"),
                Quantity(metric="probe.ranks.vo_effective"),
                Quantity(metric="train_validation_gap"),
            ),
            claims=(
                Shift(
                    text="The decay that is best after fine-tuning is larger than the best before",
                    points=LONG_POINTS,
                    after=_long.LOSS_AFTER,
                    after_better="down",
                    paper_before="0.1",
                    paper_after="0.3",
                ),
                rank_falls(LONG_POINTS),
                gap_shrinks(LONG_POINTS),
            ),
        ),
    ),
)


SMALL = StudySpec(
    name="weight_decay_plasticity",
    description="Does decay make a worse base that is better after fine-tuning?",
    objective=PlasticityObjective(
        _long.recipe(
            Corpus(sources=(Stdlib(max_bytes=16_000_000),), vocab_size=512),
            BuiltinTask(name="docstring"),
        )
    ),
    space={"pretrain.weight_decay.value": Float(low=0.01, high=1.0, log=True)},
    goals=(BASE_LOSS_DOWN, Goal(metric=_long.LOSS_AFTER, direction="down")),
    baselines=(Baseline(name="decay 0.1", params={}),),
    grid=tuple(
        GridPoint(name=point, params={"pretrain.weight_decay.value": decay})
        for point, decay in zip(LONG_POINTS, LONG_DECAYS, strict=True)
        if decay != 0.1
    ),
    replicates=10,
    trials=50,
    wave=10,
    seed=100,
    replicate_share=0.0,
    paper=LONG_PAPER,
    contrasts=PlannedContrasts(
        contrasts=_long.of_decay("decay 0.1", "decay 0"),
        alpha=0.01,
    ),
)


FULL = replace(
    SHORT,
    name="weight_decay_plasticity-full",
    objective=PlasticityObjective(FULL_RECIPE),
    grid=grid({20: 9537, 140: 66_759}),
    replicates=3,
    trials=30,
    paper=replace(PAPER, ours="Llama 0.5B also at 140 tokens per parameter; labelled tasks."),
)


STUDY = SMALL


VARIANTS = {"small": SMALL, "short": SHORT, "full": FULL}
