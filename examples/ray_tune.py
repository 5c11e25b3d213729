"""The objective as a Ray Tune trainable, which reports the base loss before it fine-tunes.

    python examples/ray_tune.py

A scheduler can stop a trial by its base loss; what was trained by then is in the store, so that the
second call trains only what is missing. (`hpo run --executor ray` runs a study of this package on
a Ray cluster instead.)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import tune

from objectives import BuiltinTask, Execution, Finetune, PlasticityObjective, Pretrain, Recipe

RECIPE = Recipe(
    pretrain=Pretrain(steps=80),
    finetune=Finetune(tasks=(BuiltinTask(name="list_ops"),), lrs=(1e-2, 3e-2), steps=40),
)


SPACE = {
    "pretrain.weight_decay": tune.loguniform(0.01, 1.0),
    "pretrain.lr": tune.loguniform(1e-3, 3e-2),
}


def trainable(config: dict[str, Any], recipe: dict[str, Any], store: str) -> None:
    """Measure one setting in two steps."""
    objective = PlasticityObjective(Recipe.from_dict(recipe), Execution(store=Path(store)))
    for base_only in (True, False):
        request = {"params": dict(config), "fidelity": 1.0, "seed": 0, "base_only": base_only}
        (result,) = objective.evaluate([request])  # type: ignore[list-item]
        if result.failure is not None:
            raise RuntimeError(result.failure)
        tune.report({"gain": float("-inf")} | dict(result.metrics))


def main(
    recipe: Recipe = RECIPE, samples: int = 4, store: Path = Path("runs") / "store"
) -> tune.ResultGrid:
    """Sample settings; a trial that is behind in base loss is stopped before it fine-tunes."""
    measure = tune.with_parameters(trainable, recipe=recipe.to_dict(), store=str(store.absolute()))
    scheduler = tune.schedulers.AsyncHyperBandScheduler(
        metric="base_loss", mode="min", max_t=2, grace_period=1, reduction_factor=2
    )
    tuner = tune.Tuner(
        measure,
        param_space=SPACE,
        tune_config=tune.TuneConfig(num_samples=samples, scheduler=scheduler, reuse_actors=True),
    )
    results = tuner.fit()
    for each in results:
        found = {name: each.metrics.get(name) for name in ("base_loss", "gain")}
        print(each.config, found)
    return results


if __name__ == "__main__":
    main()
