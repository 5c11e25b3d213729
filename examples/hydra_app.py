"""A Hydra app around the objective: `python examples/hydra_app.py -m pretrain.lr=1e-3,3e-3`.

Hydra composes the recipe, its launcher runs the jobs, and its sweepers choose them; with
`hydra/sweeper=plasticity` the search is this project's sampler:

    python examples/hydra_app.py -m hydra/sweeper=plasticity hydra.sweeper.n_trials=8 \
        'pretrain.weight_decay.value=tag(log,interval(0.01,1))' pretrain.lr=1e-3,3e-3,1e-2
"""

from __future__ import annotations

import os
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from objectives import BuiltinTask, Execution, Finetune, PlasticityObjective, Pretrain, Recipe

RECIPE = Recipe(
    pretrain=Pretrain(steps=80),
    finetune=Finetune(tasks=(BuiltinTask(name="list_ops"),), lrs=(1e-2, 3e-2), steps=40),
)

ConfigStore.instance().store(name="recipe", node=OmegaConf.create(RECIPE.to_dict()))


@hydra.main(version_base=None, config_name="recipe", config_path=None)
def main(config: DictConfig) -> tuple[float, float]:
    """Measure one recipe; returns base loss and gain, which the sweeper minimizes and maximizes."""
    recipe = Recipe.from_dict(OmegaConf.to_container(config, resolve=True))
    store = Path(os.environ.get("HPO_STORE", Path("runs") / "store"))
    result = PlasticityObjective(recipe, Execution(store=store))({})
    print(f"base loss {result.metrics['base_loss']:.3f}, gain {result.metrics['gain']:.3f}")
    return result.metrics["base_loss"], result.metrics["gain"]


if __name__ == "__main__":
    main()
