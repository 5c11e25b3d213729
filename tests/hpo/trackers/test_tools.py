"""Each tracking tool as it is, offline: what `--track` writes is read back by the tool itself."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpo.cli import main
from hpo.core.trial import Run
from hpo.storage import run_folder
from hpo.trackers import tracker
from tests.hpo import toy

pytestmark = pytest.mark.filterwarnings("default")  # the tools' own libraries warn


FILE = """
from tests.hpo.toy_objective import *
STUDY = spec(
    trials=5, space=FULL_SPACE, objective=ToyObjective(fails_above_lr=0.05, extra={"odd": math.nan})
)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE)
    return tmp_path


def tracked(tool: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """The run, tracked without a warning."""
    assert main.main(["run", "mine.py", "--track", tool]) == 0
    captured = capsys.readouterr()
    assert "Warning" not in captured.out
    return run_folder.load("toy")


def test_tensorboard_reads_curves_params_goals_and_the_front(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata, plugin_data_pb2

    run = tracked("tensorboard", capsys)
    folder = place / "runs" / "toy" / "tensorboard"
    assert len([*folder.iterdir()]) == len(run.trials) + 1
    for trial in run.complete():
        (path,) = folder.glob(f"trial-{trial.number}*")
        events = EventAccumulator(str(path)).Reload()
        for goal in run.goals:
            (point,) = events.Scalars(goal.metric)
            assert point.value == pytest.approx(trial.metrics[goal.metric], rel=1e-6)
        curve = [(each.step, each.value) for each in events.Scalars("curves/train_loss")]
        assert curve == [
            (step, pytest.approx(value, rel=1e-6)) for step, value in trial.curves["train_loss"]
        ]
        assert "odd" not in events.Tags()["scalars"]
        content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        info = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
        values = {
            name: getattr(each, each.WhichOneof("kind")) for name, each in info.hparams.items()
        }
        assert values == {**trial.params, "seed": trial.seed, "fidelity": 1.0}
    events = EventAccumulator(str(folder / "study")).Reload()
    (text,) = events.Tensors("front")
    assert "| trial | name | base_loss | gain |" in text.tensor_proto.string_val[0].decode()


def records(data: bytes) -> Iterator[bytes]:
    """What is in a .wandb file: LevelDB's log format after a header of 7 bytes."""
    block, place, whole = 32768, 7, b""
    while place + 7 <= len(data):
        if block - place % block < 7:  # no header fits into the rest of a block
            place += block - place % block
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def test_wandb_keeps_a_run_a_trial_offline(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    run = tracked("wandb", capsys)
    found: dict[str, dict[str, Any]] = {}
    for path in (place / "runs" / "toy" / "wandb").glob("offline-run-*/*.wandb"):
        name, kept = "", dict[str, Any]()
        for data in records(path.read_bytes()):
            record = Record.FromString(data)
            if record.WhichOneof("record_type") == "run" and not name:
                name = record.run.display_name
                kept["group"] = record.run.run_group
                kept["config"] = {
                    each.key: json.loads(each.value_json) for each in record.run.config.update
                }
            for each in record.summary.update:
                key = each.key or ".".join(each.nested_key)
                kept[key] = json.loads(each.value_json)
        found[name] = kept
    assert len(found) == len(run.trials) + 1
    for trial in run.complete():
        kept = found[f"trial-{trial.number}{f' {trial.name}' if trial.name else ''}"]
        assert kept["group"] == "toy"
        assert kept["gain"] == trial.metrics["gain"]
        assert {path: kept["config"][path] for path in trial.params} == trial.params
    (table,) = place.glob("runs/toy/wandb/offline-run-*/files/media/table/front_*.table.json")
    assert json.loads(table.read_text())["columns"][:4] == ["trial", "name", "base_loss", "gain"]


def test_mlflow_finds_runs_params_curves_table_and_report(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setattr(mlflow.tracking._tracking_service.utils, "_tracking_uri", None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
    run = tracked("mlflow", capsys)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("toy")
    found = {each.info.run_name: each for each in client.search_runs([experiment.experiment_id])}
    assert len(found) == len(run.trials) + 1
    for trial in run.trials:
        kept = found[f"trial-{trial.number}{f' {trial.name}' if trial.name else ''}"]
        assert kept.info.status == {"complete": "FINISHED", "failed": "FAILED"}[trial.state]
        assert {name: kept.data.params[name] for name in trial.params} == {
            name: str(value) for name, value in trial.params.items()
        }
        for name, value in trial.metrics.items():
            if math.isfinite(value):
                assert kept.data.metrics[name] == value
        history = client.get_metric_history(kept.info.run_id, "curves/train_loss")
        assert [[each.step, each.value] for each in history] == trial.curves.get("train_loss", [])
    names = {each.path for each in client.list_artifacts(found["study"].info.run_id)}
    assert names == {"front.json", "report.html"}


def test_trackio_keeps_runs_in_its_local_database(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(place / "trackio"))
    monkeypatch.setenv("TRACKIO_PROJECT", "proj")
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    run = tracked("trackio", capsys)
    names = SQLiteStorage.get_runs("proj")
    assert len(names) == len(run.trials) + 1


def test_a_curve_over_rates_is_not_tracked_as_if_they_were_steps() -> None:
    curves = {"train_loss": [[1.0, 2.0]], "finetune_lr.grammar": [[1e-3, 2.0], [1e-2, 1.5]]}
    trial = toy.trial(0, 3.5, 0.2, curves=curves)
    assert tracker._tracked_trial(toy.run([trial]), trial).curves == {"train_loss": [(1, 2.0)]}
