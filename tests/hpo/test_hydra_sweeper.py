"""The Hydra sweeper: jobs with the sampler's proposals, a front in a file, failures noted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
import yaml

APP = """
import hydra
from hydra.core.config_store import ConfigStore

NODE = {"lr": 0.1, "shape": "cosine", "depth": 2, "other": 0}
ConfigStore.instance().store(name="toy", node=NODE)

@hydra.main(version_base=None, config_name="toy", config_path=None)
def main(config):
    if config.depth == 3:
        raise RuntimeError("too deep")
    assert config.other == 7
    return config.lr**2, config.lr + (config.shape == "linear")

if __name__ == "__main__":
    main()
"""


def swept(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "app.py").write_text(APP)
    line = [sys.executable, "app.py", "-m", "hydra/sweeper=plasticity", "hydra.sweep.dir=out",
            "hydra.sweeper.storage=sqlite:///s.db", *words]  # fmt: skip
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=200)


def test_proposals_are_those_of_the_sampler_and_the_sweep_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("hydra")
    searched = [
        "lr=tag(log,interval(0.001,1))",
        "shape=cosine,linear",
        "depth=range(1,4)",
        "other=7",
    ]
    done = swept(tmp_path, "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=2", *searched)
    assert done.returncode == 0, done.stderr
    done = swept(tmp_path, "hydra.sweeper.n_trials=7", "hydra.sweeper.n_jobs=2", *searched)
    assert done.returncode == 0, done.stderr
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path}/s.db")
    assert len(study.trials) == 7
    for trial in study.trials:
        lr, shape, depth = (trial.params[name] for name in ("lr", "shape", "depth"))
        failed = trial.state == optuna.trial.TrialState.FAIL
        assert failed == (depth == 3)
        if not failed:
            assert trial.values == [lr**2, lr + (shape == "linear")]
    written = yaml.safe_load((tmp_path / "out" / "optimization_results.yaml").read_text())
    assert [each["values"] for each in written["solutions"]] == [
        trial.values for trial in study.best_trials
    ]
    assert swept(tmp_path, "other=glob(*)").returncode != 0
