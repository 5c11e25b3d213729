"""The objective inside an Optuna study of your own: ask and tell, two directions.

    python examples/own_optuna.py

Sampler, storage, pruning and stopping are yours; a batch of trials asked together is measured
together. Any other search tool with ask and tell is used in the same way.
"""

from __future__ import annotations

from pathlib import Path

import optuna

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
    pretrain=Pretrain(steps=80),
    finetune=Finetune(
        tasks=(BuiltinTask(name="list_ops"),),
        lrs=(1e-2, 3e-2),
        max_extensions=0,
        steps=40,
        batch_size=8,
    ),
)


SPACE = {
    "pretrain.weight_decay": optuna.distributions.FloatDistribution(0.01, 3.0, log=True),
    "pretrain.lr": optuna.distributions.FloatDistribution(1e-3, 3e-2, log=True),
}


def main(
    recipe: Recipe = RECIPE,
    rounds: int = 2,
    width: int = 3,
    store: Path = Path("runs") / "store",
) -> optuna.Study:
    """Search in rounds of `width` trials; prints the best and returns the study."""
    objective = PlasticityObjective(recipe, Execution(store=store))
    sampler = optuna.samplers.TPESampler(seed=0, n_startup_trials=width)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    for _ in range(rounds):
        trials = [study.ask(SPACE) for _ in range(width)]
        requests = [Request(params=trial.params, fidelity=1.0, seed=0) for trial in trials]
        for trial, result in zip(trials, objective.evaluate(requests), strict=True):
            if result.failure is None:
                study.tell(trial, [result.metrics["base_loss"], result.metrics["gain"]])
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
    for best in study.best_trials:
        values = ", ".join(f"{path} {value:.3g}" for path, value in best.params.items())
        print(f"trial {best.number}: base loss {best.values[0]:.3f}, gain {best.values[1]:.3f}")
        print(f"    {values}")
    return study


if __name__ == "__main__":
    main()
