"""Fine-tuning that the papers' studies share.

The papers fine-tune on chain-of-thought sets and score by generation and judges, which is not done
here; these are labelled tasks, scored by likelihood. Those of the hub are chosen here: MedMCQA and
RACE are two of the six sets of arXiv 2602.11137 (here without chains of thought), SST-2 and AG News
its sets for linear separability.
"""

from objectives import BuiltinTask, Finetune, HubTask, Schedule

SMALL = Finetune(
    tasks=(
        BuiltinTask(name="token_kind"),
        BuiltinTask(name="code_module"),
        BuiltinTask(name="list_ops"),
    ),
    lrs=(3e-3, 1e-2, 3e-2),
    steps=80,
    batch_size=8,
    seeds=2,
    schedule=Schedule(warmup_steps=10, shape="linear", floor_ratio=0.0),
    test_rows=128,
)


FULL_TASKS = (
    HubTask(
        name="sst2",
        dataset="stanfordnlp/sst2",
        prompt="{sentence}\nSentiment (0 or 1):",
        completion=" {label}",
        label_field="label",
        test_split="validation",
    ),
    HubTask(
        name="ag_news",
        dataset="fancyzhx/ag_news",
        prompt="{text}\nTopic (0 to 3):",
        completion=" {label}",
        label_field="label",
    ),
    HubTask(
        name="medmcqa",
        dataset="openlifescienceai/medmcqa",
        prompt="{question}\n0. {opa}\n1. {opb}\n2. {opc}\n3. {opd}\nAnswer:",
        completion=" {cop}",
        label_field="cop",
        test_split="validation",
    ),
    HubTask(
        name="race",
        dataset="ehovy/race",
        config="all",
        prompt="{article}\n{question}\nA. {options[0]}\nB. {options[1]}\nC. {options[2]}\n"
        "D. {options[3]}\nAnswer:",
        completion=" {answer}",
        label_field="answer",
        validation_split="validation",
    ),
)


FULL = Finetune(
    tasks=FULL_TASKS,
    method="full",
    # A factor of 10 around the 1e-5 of arXiv 2602.11137, further where the best is at an edge.
    lrs=(1e-6, 1e-5, 1e-4),
    steps=None,
    epochs=3,
    batch_size=64,
    seeds=3,
    schedule=Schedule(warmup_steps=100, shape="cosine", floor_ratio=0.0),
    max_length=1024,
    train_rows=20_000,
    validation_rows=500,
    test_rows=2000,
)
"""Three epochs in batches of 64 without decay and the rate 1e-5 are arXiv 2602.11137's; rows,
seeds, warmup steps and the other rates are chosen here."""
