"""Training on Ray: several workers are as one, and a run survives what happens to its workers and files."""

import csv
import hashlib
import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from mlflow import MlflowClient
from numpy.testing import assert_allclose
from support.lost_workers import Killer, ending_itself, pausing_in_epochs
from support.messages import messages_to
from support.numpy_learner import Numpy
from support.training_problem import MakeConfig, write_dataset
from support.undisturbed import EXACT, sources_of, undisturbed

from brain_ray.cluster.capacity import check_resources
from brain_ray.config import AugmentConfig, Config
from brain_ray.errors import RunError
from brain_ray.runs import MLFLOW, TENSORBOARD, Run
from brain_ray.tracking import mlflow
from brain_ray.tracking.history import from_csv
from brain_ray.training import checkpoints
from brain_ray.training.state import TrainState
from brain_ray.training.tensorflow.framework import TensorFlow
from brain_ray.training.train import train
from brain_ray.training.worker import run_epochs

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose dataset is prepared."""
    run = Run(str(tmp_path), "trial")
    write_dataset(run)
    return run


def assert_same_history(run: Run, expected: TrainState) -> None:
    rows = list(csv.DictReader(io.StringIO(run.read_bytes("train", "history.csv").decode())))
    assert [int(row["epoch"]) for row in rows] == [record.epoch for record in expected.history]
    for row, record in zip(rows, expected.history, strict=True):
        values = [float(row[name]) for name in ("loss", "accuracy", "val_loss", "val_accuracy")]
        assert_allclose(
            values, [record.loss, record.accuracy, record.val_loss, record.val_accuracy], rtol=1e-4
        )
        assert (row["best"], row["rolled_back"]) == (f"{record.best:d}", f"{record.rolled_back:d}")


def assert_same_metrics(run: Run, expected: TrainState) -> None:
    state, _ = checkpoints.newest(run)
    assert state is not None
    for record, other in zip(state.history, expected.history, strict=True):
        found, wanted = record.metrics(), other.metrics()
        assert found.keys() == wanted.keys()
        for name in found.keys() - {"seconds", "images_per_second", "input_wait"}:
            assert_allclose(found[name], wanted[name], rtol=1e-5, err_msg=f"{name} of epoch {record.epoch}")


def assert_best_exported(run: Run, expected: TrainState) -> None:
    with np.load(io.BytesIO(run.read_bytes("train", "best.npz"))) as stored:
        assert stored.files == [str(i) for i in range(len(expected.best))]
        for name, array in zip(stored.files, expected.best, strict=True):
            assert_allclose(stored[name], array, rtol=1e-4, atol=1e-5)


def assert_tracked(run: Run, config: Config, epochs: int) -> None:
    files = run.list_files(*TENSORBOARD)
    assert [Path(file).name for file in files] == [f"events.out.tfevents.{i:06}" for i in range(epochs + 1)]
    client = MlflowClient(tracking_uri=mlflow.tracking_uri(run, config))
    number = run.read_json(*MLFLOW)["run_id"]
    losses = {metric.step: metric.value for metric in client.get_metric_history(number, "loss")}
    history = from_csv(run.read_bytes("train", "history.csv"))
    assert losses == {record.epoch: record.loss for record in history}


def assert_same_weights(run: Run, expected: TrainState) -> None:
    state, _ = checkpoints.newest(run)
    assert state is not None
    for ours, theirs in zip(
        [*state.learner["weights"], *state.best], [*expected.learner["weights"], *expected.best], strict=True
    ):
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"num_workers": 8},
        {"num_workers": 4, "cpus_per_worker": 1.0},
        {"cpus_per_worker": 5.0},
        {"use_gpu": True},
    ],
)
def test_more_than_the_cluster_has_is_refused_at_once(
    settings: dict[str, Any], run: Run, make_config: MakeConfig
) -> None:
    start = time.monotonic()
    with pytest.raises(RunError, match=r"the cluster has 4 CPUs.*asks for.*lower train\.num_workers"):
        train(run, make_config(**settings))
    assert time.monotonic() - start < 5
    assert not run.exists("train")


@pytest.mark.parametrize(
    ("cpus", "num_workers", "cpus_per_worker", "fits"),
    [
        ([2.0], 2, 0.75, True),
        ([2.0], 2, 0.8, False),
        ([1.0, 1.0], 2, 0.75, False),  # a quarter is free on both nodes, and a task needs a half of one
        ([1.0, 1.0, 0.5], 2, 0.75, True),
        ([4.0, 0.0], 3, 1.0, True),
    ],
)
def test_loading_needs_room_on_one_node(
    cpus: list[float],
    num_workers: int,
    cpus_per_worker: float,
    fits: bool,
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": n}} for n in cpus])
    settings = make_config(num_workers=num_workers, cpus_per_worker=cpus_per_worker).train
    if fits:
        check_resources(settings)
        return
    with pytest.raises(RunError, match=r"0\.5 CPUs on one node for loading"):
        check_resources(settings)


def test_a_run_without_rows_is_refused(tmp_path: Path, make_config: MakeConfig) -> None:
    with pytest.raises(RunError, match="has no rows"):
        train(Run(str(tmp_path), "empty"), make_config())


def test_an_epoch_has_its_files_before_its_checkpoint(run: Run, make_config: MakeConfig) -> None:
    """A worker that is killed between them trains the epoch again, and writes the same files again."""
    config = make_config()
    seen: list[list[int]] = []

    def save_checkpoint(_: TrainState) -> None:
        history = from_csv(run.read_bytes("train", "history.csv"))
        seen.append([record.epoch for record in history])
        assert len(run.list_files(*TENSORBOARD)) == len(history)

    assert len(list(run_epochs(run, config, Numpy(), lambda: sources_of(run, config), save_checkpoint))) == 2
    assert seen == [[1], [1, 2]]


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_run_goes_on_within_the_epoch_in_which_a_worker_was_lost(
    num_workers: int, run: Run, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Of 31 steps, the state after the 20th is kept; the 26th is not taken."""
    others = {"batch_size": 2, "learning_rate": 0.003, "max_failures": 1, "checkpoint_minutes": 1e-9}
    config = make_config(EXACT, epochs=3, num_workers=num_workers, **others)
    killer = Killer(kills=0)
    with messages_to(killer):
        train(run, config, ending_itself(tmp_path / "steps", epoch=1, step=25))
    assert len(killer.losses) == 1
    assert killer.epochs == ["1/3", "2/3", "3/3"]
    steps = (tmp_path / "steps").read_text().splitlines()
    again = 2 * num_workers
    assert steps.count("1 19") == num_workers, "kept, and not taken again"
    assert [steps.count(f"1 {step}") for step in (20, 24)] == [again, again]
    assert steps.count("1 25") in range(num_workers, again), "not before the kill by the one that was killed"
    expected = undisturbed(run, config, Numpy())
    assert_same_history(run, expected)
    assert_same_metrics(run, expected)
    assert_same_weights(run, expected)


@pytest.mark.slow
@pytest.mark.thorough
def test_a_run_goes_on_after_lost_workers_and_files_cut_short(run: Run, make_config: MakeConfig) -> None:
    """Lost again and again, they end it; the same command goes on, also from files that are cut short."""
    others = {"batch_size": 20, "learning_rate": 0.03, "max_failures": 2, "mlflow_uri": "auto"}
    config = make_config(EXACT, epochs=5, num_workers=2, **others)
    killer = Killer(kills=3)
    # The worker that survives fails too, or waits in the middle of a sum: that is no fault of its own.
    lost = r"was resumed 2 times; then worker \d ended with: "
    with pytest.raises(RunError, match=lost), messages_to(killer):
        train(run, config, pausing_in_epochs(at_step=1))
    assert killer.in_mid_epoch == [True] * 3
    assert killer.epochs == ["1/5", "2/5", "3/5"]
    assert len(killer.losses) == 3
    assert any("The actor is dead" in line for line in killer.losses)

    before, newest = checkpoints.checkpoint_folders(run)
    state_file = Path(newest) / checkpoints.ARRAYS
    state_file.write_bytes(state_file.read_bytes()[:1000])
    snapshot = Path(run.path("train", checkpoints.SNAPSHOT))
    snapshot.write_bytes(snapshot.read_bytes()[:50])
    lines: list[str] = []
    with messages_to(lines.append):
        summary = train(run, config, Numpy())
    told = ["passed ove", "passed ove", "epoch 3/5 ", "epoch 4/5 ", "epoch 5/5 "]
    assert [line[:10] for line in lines] == told
    assert newest in lines[0]
    assert "cut short" in lines[1]
    expected = undisturbed(run, config, Numpy())
    assert_same_history(run, expected)
    assert_same_metrics(run, expected)
    assert_same_weights(run, expected)
    assert summary.startswith(f"best epoch {expected.dwell.best_epoch} of 5: val_cross_entropy")
    assert_best_exported(run, expected)
    assert run.read_json("train", "result.json")["best_epoch"] == expected.dwell.best_epoch
    assert len(checkpoints.checkpoint_folders(run)) == 2
    assert before not in checkpoints.checkpoint_folders(run)
    assert_tracked(run, config, epochs=5)


class Noting(TensorFlow):
    """Each worker notes what it has learnt, as a hash, whenever the loop asks for it after an epoch."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make_learner(self, *arguments: Any) -> Any:
        learner = super().make_learner(*arguments)
        ask = learner.state

        def state() -> dict[str, Any]:
            found = ask()
            arrays = [array for group in found.values() for array in group]
            digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
            with (self._folder / str(learner.rank)).open("a") as file:
                file.write(f"{digest}\n")
            return found

        learner.state = state
        return learner


@pytest.mark.thorough
@pytest.mark.slow
def test_two_workers_of_tensorflow_do_what_one_does(
    run: Run, tmp_path: Path, make_config: MakeConfig, tiny_weights: str
) -> None:
    """61 training rows and 13 validation rows are prime, and the last batch has one training row.

    The two train their frozen epochs on features that are computed once, the one on images.
    """
    # Of the four CPUs less than one is left for loading, and nothing waits for a whole one.
    workers = {"num_workers": 2, "cpus_per_worker": 1.625}
    stages = {"frozen_epochs": 2, "epochs": 2, "learning_blocks": 3, "learning_rate": 1e-3}
    others = {"batch_size": 20, "clip_norm": 0.1, "ema": 0.9, "dwell": False, "augment": AugmentConfig()}
    config = make_config({**EXACT, "weights": tiny_weights}, **workers, **stages, **others)
    (notes := tmp_path / "notes").mkdir()
    lines: list[str] = []
    with messages_to(lines.append):
        train(run, config, Noting(notes))
    assert lines[0].startswith("features of 74 rows: ")
    assert [line[:9] for line in lines[1:]] == [f"epoch {i}/4" for i in range(1, 5)]
    assert not run.exists("train", "features")
    first, second = ((notes / str(rank)).read_text().split() for rank in range(2))
    assert len(set(first)) == 4
    assert first == second
    plain = config.train.model_copy(update={"cache_features": False})
    expected = undisturbed(run, config.model_copy(update={"train": plain}))
    assert_same_history(run, expected)
    assert_same_weights(run, expected)


@pytest.mark.slow
@pytest.mark.thorough
def test_three_workers_do_what_one_does_where_some_have_no_rows(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    """Two validation rows are fewer than workers, and 61 training rows leave a last batch of one:
    steps of the three have 30 images.

    All have to take the same decisions, on worse epochs.
    """
    run = Run(str(tmp_path), "trial")
    write_dataset(run, 61, 2)
    workers = {"num_workers": 3, "cpus_per_worker": 0.5, "batch_size": 10, "scale_batch": True}
    config = make_config(EXACT, epochs=4, learning_rate=1.0, **workers)
    train(run, config, Numpy())
    expected = undisturbed(run, config, Numpy())
    assert any(record.rolled_back for record in expected.history)
    assert_same_history(run, expected)
    assert_same_weights(run, expected)


@pytest.mark.thorough
@pytest.mark.slow
def test_a_run_that_diverges_says_so_and_keeps_its_best_weights(run: Run, make_config: MakeConfig) -> None:
    config = make_config(epochs=8, learning_rate=1e300, dwell_factor=0.9)
    lines: list[str] = []
    said = r"after epoch 3, the last ones without a finite.*those at the start, are in .*best\.npz: lower"
    for _ in range(2):  # started again, it says the same
        with pytest.raises(RunError, match=said), messages_to(lines.append):
            train(run, config, Numpy())
    lines = [line for line in lines if line.startswith("epoch")]
    assert len(lines) == 3
    assert lines[-1].endswith("not finite, back to the start, ends: 3 in a row")
    state, faults = checkpoints.newest(run)
    assert state is not None
    assert not faults
    assert all(np.isfinite(array).all() for array in [*state.best, *state.learner["weights"]])
