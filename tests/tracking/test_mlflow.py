"""What TensorBoard, MLflow and a terminal show of a run."""

import contextlib
import io
import math
import re
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from rich.console import Console
from support.messages import messages_to
from support.training_problem import MakeConfig

from brain_ray.config import Config
from brain_ray.errors import RunError
from brain_ray.runs import TENSORBOARD, Run
from brain_ray.tracking import mlflow, prometheus, tensorboard
from brain_ray.tracking.history import SHOWN, EpochRecord, from_csv, to_csv
from brain_ray.tracking.position import Position
from brain_ray.tracking.progress_bar import ProgressBar
from brain_ray.training import train
from brain_ray.training.messages import Epoch

RECORD = EpochRecord(
    epoch=1,
    loss=0.5,
    accuracy=0.75,
    val_loss=0.625,
    val_cross_entropy=0.375,
    val_accuracy=0.875,
    learning_rate=0.25,
    best=True,
    rolled_back=False,
    seconds=2.0,
    images_per_second=32.0,
    cross_entropy=0.4375,
    input_wait=0.125,
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(str(tmp_path), "trial")


def test_an_epoch_is_told_to_people_and_to_prometheus(
    run: Run, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(prometheus, "epoch", lambda *words: told.append(words))
    with messages_to(told.append), train.take_messages(run, make_config()) as take:
        take(Epoch(replace(RECORD, val_loss=math.nan), "epoch 1", False))
    numbers = RECORD.metrics()
    del numbers["val_loss"]
    assert told == ["epoch 1", ("trial", numbers)]


def scalars(run: Run) -> dict[int, dict[str, float]]:
    """Read all event files of a run with TensorFlow's own format: value by tag, by step."""
    import tensorflow as tf
    from tensorflow.core.util.event_pb2 import Event

    found: dict[int, dict[str, float]] = {}
    for record in tf.data.TFRecordDataset(run.list_files(*TENSORBOARD)):
        event = Event.FromString(record.numpy())
        for value in event.summary.value:
            found.setdefault(event.step, {})[value.tag] = value.simple_value
    return found


def mlflow_runs(run: Run) -> tuple[MlflowClient, list[Any]]:
    client = MlflowClient(tracking_uri=mlflow.tracking_uri(run, Config()))
    experiment = client.get_experiment_by_name("brain_ray")
    return client, list(client.search_runs([experiment.experiment_id]))


def test_a_history_is_read_as_it_was_written() -> None:
    records = [RECORD, replace(RECORD, epoch=2, best=False, operator="halt (2026-01-01), or so")]
    assert from_csv(to_csv(records)) == records
    (lost,) = from_csv(to_csv([replace(RECORD, loss=math.nan)]))
    assert math.isnan(lost.loss)


def test_tensorboard_gets_each_epoch_once(run: Run) -> None:
    tensorboard.write_scalars(run, 0, {"split/train/glioma": 0.25})
    tensorboard.write_epoch(run, RECORD)
    tensorboard.write_epoch(run, replace(RECORD, epoch=2, loss=math.inf))
    tensorboard.write_epoch(run, replace(RECORD, epoch=2, loss=0.25))  # done again, after a failure
    found = scalars(run)
    assert found[0] == {"split/train/glioma": 0.25}
    assert found[1] == {
        "loss/train": 0.5,
        "loss/validation": 0.625,
        "cross_entropy/train": 0.4375,
        "cross_entropy/validation": 0.375,
        "accuracy/train": 0.75,
        "accuracy/validation": 0.875,
        "learning_rate": 0.25,
        "speed/images_per_second": 32.0,
        "speed/seconds": 2.0,
        "speed/input_wait": 0.125,
    }
    assert found[2]["loss/train"] == 0.25
    assert len(run.list_files(*TENSORBOARD)) == 3


def test_tensorboard_gets_no_number_that_is_none(run: Run) -> None:
    tensorboard.write_epoch(run, RECORD)
    tensorboard.write_epoch(run, replace(RECORD, epoch=2, loss=math.nan))
    found = scalars(run)
    assert found[1].keys() - found[2].keys() == {"loss/train"}


def test_what_is_shown_of_an_epoch_is_a_field_and_no_tag_is_used_twice() -> None:
    names = {field.name for field in fields(EpochRecord)}
    assert SHOWN.keys() <= names
    assert SHOWN.keys() | {"best", "rolled_back", "operator"} == names
    tags = [shown.tag for shown in SHOWN.values() if shown.tag]
    assert len(set(tags)) == len(tags)


def test_mlflow_gets_settings_epochs_and_bundle(run: Run, make_config: MakeConfig) -> None:
    config = make_config(epochs=2, mlflow_uri="auto")
    with messages_to(pytest.fail), mlflow.mlflow_run(run, config) as log:
        log(RECORD)
        run.write_bytes(to_csv([RECORD]), "train", "history.csv")
        log(replace(RECORD, epoch=2, loss=0.25))
    run.write_bytes(b"graph", "bundle", "model.onnx")
    with messages_to(pytest.fail):
        mlflow.log_bundle(run, config)
    client, (found,) = mlflow_runs(run)
    assert found.info.run_name == "trial"
    assert found.info.status == "FINISHED"
    assert found.data.params["train.epochs"] == "2"
    assert found.data.params["model.backbone"] == "tiny"
    assert {(m.step, m.value) for m in client.get_metric_history(found.info.run_id, "loss")} == {
        (1, 0.5),
        (2, 0.25),
    }
    assert found.data.metrics["val_accuracy"] == 0.875
    artifacts = Path(client.download_artifacts(found.info.run_id, "bundle"))
    assert (artifacts / "model.onnx").read_bytes() == b"graph"


def test_a_resumed_run_goes_on_in_its_mlflow_run(run: Run, make_config: MakeConfig) -> None:
    config = make_config(epochs=3, mlflow_uri="auto")
    with (
        contextlib.suppress(KeyboardInterrupt),
        messages_to(pytest.fail),
        mlflow.mlflow_run(run, config) as log,
    ):
        log(RECORD)
        raise KeyboardInterrupt
    _, (failed,) = mlflow_runs(run)
    assert failed.info.status == "FAILED"
    # The second epoch ended, but the process that would have logged it was lost.
    run.write_bytes(to_csv([RECORD, replace(RECORD, epoch=2)]), "train", "history.csv")
    with messages_to(pytest.fail), mlflow.mlflow_run(run, config) as log:
        log(replace(RECORD, epoch=3))
    client, (found,) = mlflow_runs(run)
    assert [m.step for m in client.get_metric_history(found.info.run_id, "loss")] == [1, 2, 3]
    assert found.info.status == "FINISHED"


def test_a_server_that_is_away_is_told_once_and_ends_nothing(
    run: Run, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    config = make_config(mlflow_uri="http://127.0.0.1:9")
    lines: list[str] = []
    with messages_to(lines.append), mlflow.mlflow_run(run, config) as log:
        log(RECORD)
        log(replace(RECORD, epoch=2))
    assert len(lines) == 1
    assert lines[0].startswith("mlflow: MlflowException: ")
    assert "127.0.0.1" in lines[0]
    assert lines[0].endswith(" (the run goes on without it)")


def test_what_mlflow_missed_is_logged_with_the_bundle(
    run: Run, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, lines = make_config(mlflow_uri="auto"), list[str]()
    with monkeypatch.context() as patch, messages_to(lines.append), mlflow.mlflow_run(run, config) as log:
        patch.setattr(mlflow, "make_client", lambda _: 1 / 0)
        log(RECORD)
        run.write_bytes(to_csv([RECORD]), "train", "history.csv")
    # Leaving the block has tried once more: by now MLflow answers or not, nothing is logged twice.
    run.write_bytes(b"graph", "bundle", "model.onnx")
    with messages_to(lines.append):
        mlflow.log_bundle(run, config)
    client, (found,) = mlflow_runs(run)
    assert [m.step for m in client.get_metric_history(found.info.run_id, "loss")] == [1]
    assert lines == ["mlflow: ZeroDivisionError: division by zero (the run goes on without it)"]


@pytest.mark.parametrize(
    ("storage", "uri", "installed", "expected"),
    [
        ("/runs", "auto", True, "file:///runs/mlruns"),
        ("/runs", "auto", False, None),
        ("s3://bucket/runs", "auto", True, None),
        ("/runs", "none", True, None),
        ("s3://bucket/runs", "http://server:5000", True, "http://server:5000"),
        ("/runs", "/elsewhere", True, "file:///elsewhere"),
    ],
)
def test_where_mlflow_keeps_a_run(
    storage: str,
    uri: str,
    installed: bool,
    expected: str | None,
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mlflow, "find_spec", lambda _: object() if installed else None)
    assert mlflow.tracking_uri(Run(storage, "trial"), make_config(mlflow_uri=uri)) == expected


def test_mlflow_that_is_asked_for_has_to_be_there(
    run: Run, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow, "find_spec", lambda _: None)
    with pytest.raises(
        RunError, match=r"not installed: pip install 'mlflow-skinny>=3\.7,<4', or set it to none"
    ):
        mlflow.tracking_uri(run, make_config(mlflow_uri="http://server:5000"))


def test_a_terminal_shows_how_far_a_run_is() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, _environ={})
    with ProgressBar(batch_size=32, console=console) as bar:
        for step in (10, 20, 30):
            bar.show(Position(epoch=2, epochs=5, step=step, steps=40))
            time.sleep(0.05)
    shown = screen.getvalue()
    assert "epoch 3/5" in shown
    assert "step 30/40" in shown
    assert re.search(r"[1-9]\d+ img/s", shown)
    assert re.search(r"0:00:\d\d\S* left", shown)
