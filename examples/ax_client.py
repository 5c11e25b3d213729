"""The objective in Ax: two objectives with their standard errors, ask and tell.

    python examples/ax_client.py

Ax takes no dots in names, so that a path is written with two underscores. A batch that is asked
together is measured together; the base loss is attached early, and a trial that cannot be on the
front by it need not be fine-tuned (`base_only`).
"""

from __future__ import annotations

from pathlib import Path

from ax import Client, RangeParameterConfig

from objectives import BuiltinTask, Execution, Finetune, PlasticityObjective, Pretrain, Recipe
from objectives.types import Request

RECIPE = Recipe(
    pretrain=Pretrain(steps=80),
    finetune=Finetune(tasks=(BuiltinTask(name="list_ops"),), lrs=(1e-2, 3e-2), steps=40),
)


SPACE = {"pretrain.weight_decay": (0.01, 1.0), "pretrain.lr": (1e-3, 3e-2)}


def main(
    recipe: Recipe = RECIPE, rounds: int = 2, width: int = 2, store: Path = Path("runs") / "store"
) -> Client:
    """Search in rounds of `width` trials; prints the front and returns the client."""
    objective = PlasticityObjective(recipe, Execution(store=store))
    client = Client(random_seed=0)
    client.configure_experiment(
        [
            RangeParameterConfig(
                name=path.replace(".", "__"), parameter_type="float", bounds=ends, scaling="log"
            )
            for path, ends in SPACE.items()
        ]
    )
    client.configure_optimization("-base_loss, gain")
    for _ in range(rounds):
        trials = client.get_next_trials(max_trials=width)
        requests = [_request(params) for params in trials.values()]
        bases = objective.evaluate([{**each, "base_only": True} for each in requests])
        for trial, base in zip(trials, bases, strict=True):
            if base.failure is None:
                client.attach_data(trial, {"base_loss": _measured(base.metrics, "base_loss")})
        for trial, result in zip(trials, objective.evaluate(requests), strict=True):
            if result.failure is not None:
                client.mark_trial_failed(trial)
                continue
            names = ("base_loss", "gain")
            client.complete_trial(trial, {name: _measured(result.metrics, name) for name in names})
    for params, values, trial, _ in client.get_pareto_frontier(use_model_predictions=False):
        goals = ", ".join(f"{name} {mean:.3f} ± {sem:.3f}" for name, (mean, sem) in values.items())
        chosen = ", ".join(f"{path} {value:.3g}" for path, value in _paths(params).items())
        print(f"trial {trial}: {goals}, at {chosen}")
    return client


def _paths(params: dict[str, float]) -> dict[str, float]:
    """Names of Ax's parameters, which may have no dots, as paths."""
    return {name.replace("__", "."): value for name, value in params.items()}


def _request(params: dict[str, float]) -> Request:
    return Request(params={**_paths(params)}, fidelity=1.0, seed=0)


def _measured(metrics: dict[str, float], name: str) -> tuple[float, float]:
    """A value and its standard error."""
    return metrics[name], metrics.get(f"{name}_sem", 0.0)


if __name__ == "__main__":
    main()
