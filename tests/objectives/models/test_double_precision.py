"""float64 only where a device has it: Apple has none on mps, so that no other code makes it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from objectives.config.recipe import Recipe
from objectives.models.double_precision import in_double
from objectives.preflight.checks import check_precision
from objectives.pretraining.job import PretrainJob
from objectives.pretraining.run import check_devices
from objectives.training.out_of_memory import is_out_of_memory

ROOT = Path(__file__).parents[3] / "objectives"


ON_THE_CPU = {
    "pretraining/checkpoints.py": "weights that are read from the store",
    "training/weight_decay_policies.py": "scored policies, refused on mps",
    "training/spectral.py": "the same, and a probe that is in double already",
}
"""Files that make float64 themselves, and why they need not ask."""


def test_no_other_code_makes_float64_on_a_device() -> None:
    makes = re.compile(r"\.double\(\)|torch\.float64(?!\b.*F64)")
    found = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if makes.search(line) and not line.lstrip().startswith(("FLOATS", '"F64"', '"""'))
    }
    assert found == {*ON_THE_CPU, "models/double_precision.py"}


def test_values_are_the_same_in_double() -> None:
    values = torch.tensor([0.1, 1e-30])
    assert in_double(values).dtype == torch.float64
    assert torch.equal(in_double(values).float(), values)


def test_what_mps_cannot_do_is_one_sentence() -> None:
    def job(policy: str) -> PretrainJob:
        recipe = Recipe().with_params({"pretrain.weight_decay.policy": policy})
        return PretrainJob(recipe, seed=0, steps=10)

    check_precision(job("cautious"), "mps")
    check_precision(job("alpha_decay"), "cpu")
    with pytest.raises(ValueError, match="'alpha_decay' computes in float64, which mps does not"):
        check_precision(job("alpha_decay"), "mps")
    with pytest.raises(ValueError, match="devices is 2 but mps is one device"):
        check_devices("mps", 2)
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
