"""The Hugging Face hub without a network: one sentence, and one identity on every machine."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from objectives.config.data import Corpus, HubDataset, HubTask
from objectives.config.execution import Execution
from objectives.config.recipe import Recipe
from objectives.config.training import Finetune
from objectives.data import sources, tasks, token_dataset, tokenize
from objectives.models import hub, huggingface
from objectives.objective import PlasticityObjective
from objectives.store.store import Store
from tests.objectives import toy

httpx: Any = sys.modules.get("httpx2") or sys.modules["httpx"]
"""What the hub's library talks with."""


COMMIT, OTHER = "a" * 40, "b" * 40


TEXT = HubDataset(name="org/text", streaming=False)


class FakeHub:
    """A hub that holds one dataset, or raises."""

    def __init__(self) -> None:
        self.commit = COMMIT
        self.error: Exception | None = None
        self.asked = 0

    def info(self, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return SimpleNamespace(sha=self.commit)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub in the place of the real one, caches of its own, and a process that knows nothing."""
    there = FakeHub()
    for name in ("dataset_info", "model_info"):
        monkeypatch.setattr(
            huggingface_hub.HfApi, name, lambda self, *args, **kwargs: there.info(*args, **kwargs)
        )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    forget()
    yield there
    forget()


def forget() -> None:
    """As in a new process."""
    hub._seen.clear()
    hub._unreachable.clear()
    hub._answered.clear()


def response(status: int) -> Any:
    return httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co"))


GONE: list[Exception] = [
    httpx.ConnectError("[Errno -2] Name or service not known"),
    httpx.ReadTimeout("timed out"),
    httpx.ProxyError("[Errno 111] Connection refused"),
    errors.OfflineModeIsEnabled("offline"),
    OSError("Network is unreachable"),
    RuntimeError("something of another library"),
]


@pytest.mark.parametrize("error", GONE, ids=lambda error: type(error).__name__)
def test_a_dataset_that_cannot_be_known_is_one_sentence(error: Exception, fake: FakeHub) -> None:
    fake.error = error
    with pytest.raises(ValueError, match=r"^the commit of dataset 'org/text'[^\n]*set revision to"):
        sources.fingerprint(TEXT)
    with pytest.raises(ValueError, match=r"'org/text'[^\n]*the hub cannot be reached[^\n]*$"):
        list(sources.documents(TEXT))
    with pytest.raises(ValueError, match=r"'org/text'[^\n]*the hub cannot be reached[^\n]*$"):
        tasks.check(HubTask(name="t", dataset="org/text", prompt="{q}", completion="{a}"))


def test_an_unreachable_hub_is_asked_once_in_a_while(fake: FakeHub) -> None:
    fake.error = httpx.ConnectError("gone")
    for name in ("org/a", "org/b", "org/c"):
        with pytest.raises(ValueError, match="gone"):
            hub.commit_of(name, None)
    assert fake.asked == 1


@pytest.mark.parametrize("revision", [None, "main", "v1.0"])
def test_a_store_remembers_the_commit_that_was_seen_last(
    revision: str | None, fake: FakeHub, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    assert hub.commit_of("org/text", revision, store) == COMMIT
    fake.commit = OTHER
    assert hub.commit_of("org/text", revision, store) == OTHER
    forget()
    fake.error = httpx.ConnectError("gone")
    assert hub.commit_of("org/text", revision, store) == OTHER
    forget()
    with pytest.raises(ValueError, match="not known"):
        hub.commit_of("org/text", "another", store)
    with pytest.raises(ValueError, match="not known"):
        hub.commit_of("org/text", revision)


def test_a_damaged_note_is_no_note(fake: FakeHub, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.put(hub.COMMITS, "0" * 32, lambda folder: (folder / "commit.json").write_text('{"a": 1}'))
    fake.error = httpx.ConnectError("gone")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(ValueError, match="not known"):
        hub.commit_of("org/text", None, store)


def test_the_hub_s_own_cache_tells_the_commit(fake: FakeHub, tmp_path: Path) -> None:
    fake.error = errors.OfflineModeIsEnabled("offline")
    refs = tmp_path / "hub" / "datasets--org--text" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    assert hub.commit_of("org/text", None) == COMMIT
    (refs / "main").write_text("../../etc")
    with pytest.raises(ValueError, match="not known"):
        hub.commit_of("org/text", None)


def test_a_commit_needs_no_network(fake: FakeHub) -> None:
    assert hub.commit_of("org/text", OTHER) == OTHER
    assert fake.asked == 0


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.RepositoryNotFoundError("no", response=response(404)), "is not on the hub, or is"),
        (errors.GatedRepoError("no", response=response(403)), "is gated; ask for access at https"),
        (errors.RevisionNotFoundError("no", response=response(404)), "has no revision 'v1'"),
        (errors.HFValidationError("no"), "is neither a folder nor a name on the hub"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_hub_refuses_is_one_sentence(
    error: Exception, message: str, fake: FakeHub
) -> None:
    fake.error = error
    with pytest.raises(ValueError, match=f"^dataset 'org/text' {message}"):
        hub.commit_of("org/text", "v1")


@pytest.mark.parametrize("name", ["/no/folder", "../x", "a/b/c", "", "my data"])
def test_a_folder_that_is_not_there_is_not_asked_for(name: str, fake: FakeHub) -> None:
    with pytest.raises(ValueError, match=r"is neither a folder nor a name on the hub"):
        sources.fingerprint(HubDataset(name=name))
    assert fake.asked == 0


def test_a_machine_without_a_network_finds_the_tokens_of_one_with(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = Corpus(sources=(TEXT,), vocab_size=toy.VOCAB, validation_frac=0.2)
    read: list[str | None] = []

    def load(*args: Any, revision: str | None = None, **kwargs: Any) -> Any:
        read.append(revision)
        if fake.error is not None:
            raise ConnectionError("gone")
        return datasets.Dataset.from_dict({"text": toy.text(60)})

    monkeypatch.setattr(datasets, "load_dataset", load)
    online = token_dataset.prepare(given, toy.SEQ_LEN, Store(tmp_path / "store"))
    assert read == [COMMIT, COMMIT]
    forget()
    fake.error = httpx.ConnectError("gone")
    offline = token_dataset.prepare(given, toy.SEQ_LEN, Store(tmp_path / "store"))
    assert offline.key == online.key
    forget()
    with pytest.raises(ValueError, match="the commit of dataset 'org/text' is not known"):
        token_dataset.prepare(given, toy.SEQ_LEN, Store(tmp_path / "other"))


def test_conditions_are_the_same_without_a_network(fake: FakeHub, tmp_path: Path) -> None:
    def found() -> dict[str, str]:
        task = HubTask(name="t", dataset="org/task", prompt="{q}", completion="{a}")
        recipe = Recipe(corpus=Corpus(sources=(TEXT,)), finetune=Finetune(tasks=(task,)))
        return PlasticityObjective(recipe, Execution(store=tmp_path / "store")).conditions()

    online = found()
    forget()
    fake.error = httpx.ConnectError("gone")
    assert found() == online
    forget()
    fake.error, fake.commit = None, OTHER
    assert found() != online


def test_rows_that_datasets_has_cached_are_read_without_a_network(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.error = httpx.ConnectError("gone")
    seen = []

    def load(*args: Any, **kwargs: Any) -> Any:
        seen.append((datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE))
        rows = datasets.Dataset.from_dict({"text": ["a"]})
        return SimpleNamespace(
            cache_files=[{"filename": f"/cache/org___text/{COMMIT}/x.arrow"}], rows=rows
        )

    monkeypatch.setattr(datasets, "load_dataset", load)
    before = (datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE)
    for revision in (None, COMMIT):
        found = sources.load_dataset("org/text", None, "train", revision, streaming=True)
        assert found.rows["text"] == ["a"]
    with pytest.raises(ValueError, match=f"holds another commit than {OTHER}"):
        sources.load_dataset("org/text", None, "train", OTHER, streaming=True)
    assert set(seen) == {(True, True)}
    assert before == (datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (RuntimeError("Dataset scripts are no longer supported, but found text.py"),
         "it is made by a script, and `datasets` runs none since version 4"),
        (ValueError("Config name is missing.\nPlease pick one among the available configs: ['x']"),
         "config=None.*Please pick one among.*; set config"),
        (ValueError("BuilderConfig 'y' not found. Available: ['x']"), "Available.*; set config"),
        (ValueError("Unknown split \"dev\". Should be one of ['train']."), "Should be one of"),
        (datasets.exceptions.DatasetNotFoundError("Dataset 'org/text' is a gated dataset on the "
         "Hub. Visit the dataset page"), "is a gated dataset"),
    ],
)  # fmt: skip
def test_what_datasets_cannot_load_is_one_sentence(
    error: Exception, message: str, fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(ValueError, match=rf"^dataset 'org/text' [^\n]*{message}[^\n]*$"):
        list(sources.documents(TEXT))


def test_a_folder_with_a_script_runs_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "coded"
    folder.mkdir()
    (folder / "coded.py").write_text(f"open({str(tmp_path / 'RAN')!r}, 'w')")
    with pytest.raises(ValueError, match="it is made by a script"):
        list(sources.documents(HubDataset(name=str(folder))))
    assert not (tmp_path / "RAN").exists()


DOORS: dict[str, tuple[str, Any]] = {
    "corpus.tokenizer": ("AutoTokenizer", tokenize.load_tokenizer),
    "model.config": ("AutoConfig", huggingface.load_config),
    "model.weights": (
        "AutoModelForCausalLM",
        lambda name: huggingface.load_weights(name, toy.CONFIGS["llama"]),
    ),
}


@pytest.mark.parametrize("field", DOORS)
def test_a_repository_is_looked_for_in_the_cache_alone_where_the_hub_is_gone(
    field: str, fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    door, load = DOORS[field]
    asked: list[bool] = []

    def from_pretrained(name: str, **kwargs: Any) -> Any:
        asked.append(kwargs["local_files_only"])
        assert kwargs["trust_remote_code"] is False
        raise OSError("not in the cache")

    monkeypatch.setattr(getattr(huggingface, door), "from_pretrained", from_pretrained)
    for error in (None, httpx.ConnectError("gone")):
        forget()
        fake.error = error
        with pytest.raises(ValueError, match=rf"{field} 'org/name' cannot be read \(not in"):
            load("org/name")
    assert asked == [False, True]


def test_a_folder_edited_in_place_gives_its_new_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = tmp_path / "data"
    path.mkdir()
    before = None
    for letter, streaming in itertools.product("ab", (False, True)):
        toy.write_jsonl(path / "a.jsonl", [{"text": letter * 4}])
        stat = (path / "a.jsonl").stat()
        before = before or stat
        os.utime(path / "a.jsonl", ns=(before.st_atime_ns, before.st_mtime_ns))
        rows = sources.load_dataset(str(path), None, "train", None, streaming=streaming)
        assert [row["text"] for row in rows] == [letter * 4]
