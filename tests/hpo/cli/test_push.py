"""`hpo export --push-to-hub` against a hub on localhost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from hpo.cli import main
from tests.hpo.cli.test_main import HEAD, complaint, folder
from tests.hpo.fake_hub import TOKEN, FakeHub, serving

__all__ = ["folder"]


@pytest.fixture
def hub(
    folder: Path, copy_run: Callable[[str, Path], None], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[FakeHub]:  # fmt: skip
    """A hub, and a working folder with a finished run."""
    copy_run(HEAD + "STUDY = spec(trials=5, sampler='random')\n", folder)
    capsys.readouterr()
    with serving() as (there, address):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield there


def push(*words: str) -> int:
    return main.main(
        ["export", "toy", "--trial", "3", "--to", "out", "--push-to-hub", "me/toy", *words]
    )


def test_the_folder_is_pushed_to_a_private_repository_with_licence(
    hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push("--license", "mit") == 0
    printed = capsys.readouterr()
    assert re.search("Pushed to http://127.0.0.1:[0-9]+/me/toy", printed.out)
    assert TOKEN not in printed.out + printed.err
    assert hub.private == {"me/toy": True}
    pushed = hub.files["me/toy"]
    assert {path: Path("out", path).read_bytes() for path in pushed} == pushed
    assert {"README.md", "params.json"} <= set(pushed)
    assert b'\nlicense: "mit"\n' in pushed["README.md"]


def test_a_public_repository_is_pushed_to_only_where_that_is_asked_for(
    hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.private["me/toy"] = False
    assert push() == 2
    assert "is public; add --public to push there" in complaint(capsys)
    assert not Path("out").exists()
    assert push("--public") == 0
    assert "README.md" in hub.files["me/toy"]


def test_a_refused_token_is_one_sentence_without_it_and_nothing_is_exported(
    hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.refuses = True
    assert push() == 1
    message = complaint(capsys)
    assert "hf auth login" in message
    assert TOKEN not in message
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--push-to-hub", "a/b/c"], "--push-to-hub needs USER/NAME, got 'a/b/c'"),
        (["--license", "My Own"], "--license needs an id of the hub"),
    ],
)
def test_a_mistake_is_one_sentence(
    words: list[str], message: str, hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert push(*words) == 2
    assert message in complaint(capsys)
    assert main.main(["export", "toy", "--trial", "3", "--to", "out", "--public"]) == 2
    assert "--public is about --push-to-hub" in complaint(capsys)
