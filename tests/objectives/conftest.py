"""What the objective's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from objectives.data.token_dataset import TokenDataset
from tests.objectives import toy


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Toy models gain nothing from more, and lose much where other work shares the cores."""
    torch.set_num_threads(1)


@pytest.fixture
def float64() -> Iterator[None]:
    """Everything in double precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the toy corpus and the toy model's config."""
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(scope="session")
def toy_corpus(toy_folder: Path) -> TokenDataset:
    """The toy corpus as tokens."""
    return toy.prepared(toy_folder)
