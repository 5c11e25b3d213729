"""The objective without any search tool: three weight decays in a plain loop, and a table.

    python examples/for_loop.py

The three are measured together, as lanes of one program; `objective(params)` measures one alone.
What is finished is in `runs/store`, so a second call of this file only prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from objectives import (
    BuiltinTask,
    Corpus,
    Execution,
    Finetune,
    PlasticityObjective,
    Pretrain,
    Recipe,
    Request,
    Stdlib,
)

RECIPE = Recipe(
    corpus=Corpus(sources=(Stdlib(max_bytes=2_000_000),)),
    pretrain=Pretrain(steps=100, lr=1e-2),
    finetune=Finetune(
        tasks=(BuiltinTask(name="list_ops"),),
        lrs=(1e-2, 3e-2),
        max_extensions=0,
        steps=40,
        batch_size=8,
    ),
)


DECAYS = (0.01, 0.1, 1.0)


def main(
    recipe: Recipe = RECIPE,
    decays: Sequence[float] = DECAYS,
    store: Path = Path("runs") / "store",
) -> list[dict[str, float]]:
    """Measure each decay; prints a row for each and returns their metrics."""
    objective = PlasticityObjective(recipe, Execution(store=store))
    requests = [
        Request(params={"pretrain.weight_decay": decay}, fidelity=1.0, seed=0) for decay in decays
    ]
    print(f"{'decay':>8} {'base loss':>10} {'before':>8} {'after':>8} {'gain':>16}")
    measured = []
    for decay, result in zip(decays, objective.evaluate(requests), strict=True):
        if result.failure is not None:
            print(f"{decay:8g} {result.failure}")
            continue
        found = result.metrics
        error = found.get("gain_sem", float("nan"))
        print(
            f"{decay:8g} {found['base_loss']:10.3f} {found['finetuned'] - found['gain']:8.3f} "
            f"{found['finetuned']:8.3f} {found['gain']:8.3f} ± {error:.3f}"
        )
        measured.append(found)
    return measured


if __name__ == "__main__":
    main()
