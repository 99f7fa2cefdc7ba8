"""Sweeps on Ray: nothing is lost or trained twice, and what a stopped trial held is free for others."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psutil
import pytest
import ray
import ray.tune
from numpy.testing import assert_allclose, assert_array_equal
from support.filling_disk import FillingRun
from support.lost_workers import ending_itself
from support.messages import messages_to
from support.numpy_learner import Numpy
from support.training_problem import MakeConfig, write_dataset
from support.undisturbed import undisturbed

from brain_ray.cluster import private_data
from brain_ray.cluster.capacity import room_for_trials, trials_at_a_time
from brain_ray.cluster.node_request import MARKET, ON_DEMAND, RENEW_S, NodeRequest
from brain_ray.config import Config, SweepConfig
from brain_ray.errors import RunError
from brain_ray.runs import Run
from brain_ray.tracking import prometheus
from brain_ray.training import checkpoints
from brain_ray.training.sources import open_dataset
from brain_ray.training.tensorflow.framework import TensorFlow
from brain_ray.tuning import tune
from brain_ray.tuning.search_space import SearchSpace
from brain_ray.tuning.trainable import VALUE, Shared, TrialProcess
from brain_ray.tuning.trial_store import Clock, read_sweep, read_trials, trial_run, write_trial
from brain_ray.tuning.trials import TrialRecord

pytestmark = pytest.mark.usefixtures("ray_cluster")

RATES = "train.learning_rate=grid(0.01, 0.003, 0.0001)"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose dataset is prepared, and whose test split no reader would survive."""
    run = Run(str(tmp_path), "sweep")
    write_dataset(run)
    run.write_bytes(b"not Parquet: the sweep must not open this", "dataset", "test", "00000.parquet")
    return run


@pytest.fixture
def make(make_config: MakeConfig) -> Callable[..., Config]:
    """Give a function that makes settings of a sweep over the small problem."""

    def make(space: str = RATES, train: dict[str, Any] | None = None, **changes: Any) -> Config:
        settings = {"space": (space,), "scheduler": "none", "max_concurrent": 2, "max_failures": 0}
        config = make_config(**(train or {}))
        return config.model_copy(update={"sweep": SweepConfig(**{**settings, **changes})})

    return make


def by_id(run: Run) -> dict[str, TrialRecord]:
    return {record.trial.id: record for record in read_trials(run)}


class Noting(TensorFlow):
    """TensorFlow that notes which process makes each learner."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make_learner(self, *settings: Any) -> Any:
        (self._folder / f"{os.getpid()}.{uuid4().hex}").touch()
        return super().make_learner(*settings)


def test_a_sweep_leaves_what_a_comparison_needs_and_no_more(
    run: Run, make: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make(RATES, {"epochs": 4}, scheduler="asha", reduction_factor=2, seeds=2)
    lines: list[str] = []
    counted: list[dict[str, int]] = []
    monkeypatch.setattr(prometheus, "trials", lambda _, counts: counted.append(dict(counts)))
    biggest, notes = Sizes(run), tmp_path / "notes"
    notes.mkdir()
    with biggest, messages_to(lines.append):
        summary = tune.tune(run, SearchSpace.parse(config), Noting(notes))
    records = by_id(run)
    # A rate's second seed is trained if its first came to the end, and then to the end as well.
    first = {trial: records[trial].status for trial in ("000", "002", "004")}
    others = [f"{int(trial) + 1:03d}" for trial, status in first.items() if status == "finished"]
    assert sorted(records) == sorted([*first, *others])
    assert all(records[trial].status == "finished" for trial in others)
    assert all(record.trial.config.seed == 7 + record.trial.repeat for record in records.values())
    ended = {
        status: [r for r in records.values() if r.status == status] for status in ("finished", "stopped")
    }
    assert (
        summary
        == f"{len(records)} trials: {len(ended['finished'])} finished, {len(ended['stopped'])} stopped"
    )
    assert ended["finished"]
    assert ended["stopped"], "the rate of 0.0001 learns nothing, and ASHA lets it be"
    assert all(record.reason.startswith("epoch ") for record in ended["stopped"])
    # A line for each epoch; what the comparison reads.
    epochs = sum(len(record.history) for record in records.values())
    assert sum(" | val ce " in line for line in lines) == epochs
    # What Prometheus gets: how many trials run, at the end none, and no epochs of trials that have ended.
    assert max(counts.get("running", 0) for counts in counted) == 2
    assert counted[-1] == {status: len(trials) for status, trials in ended.items()}
    assert not any(("run", "sweep") in labels for _, labels in prometheus.VALUES.last)
    found = read_sweep(run, config)
    assert len(found.labels) == 13
    assert found.groups.tolist() == [image // 2 for image in range(61, 74)]
    for record in records.values():
        best = [epoch for epoch in record.history if epoch.best][-1]
        assert record.probabilities is not None
        losses = -np.log(record.probabilities[np.arange(13), found.labels])
        assert_allclose(losses.mean(), best.val_cross_entropy, rtol=1e-4)
        assert record.held_seconds >= sum(epoch.seconds for epoch in record.history)
        assert trial_run(run, record.trial.id).list_files("train", "tensorboard")
    assert found.rungs[0].epoch == 1
    assert sorted(reached.trial for reached in found.rungs[0].reached) == list(first)
    # Processes are used again: the second trial of one does not import TensorFlow.
    made_in = [note.name.partition(".")[0] for note in notes.iterdir()]
    assert (len(made_in), len(set(made_in))) == (len(records), 2)
    assert all(Clock.read(trial_run(run, trial)).first_step_seconds for trial in records)
    # Of losers nothing heavy is left, and there was never more than was said.
    assert not any(checkpoints.checkpoint_folders(trial_run(run, trial)) for trial in records)
    kept = [trial for trial in records if trial_run(run, trial).exists("train", "best.npz")]
    assert [records[trial].status for trial in kept] == ["finished"] * 2
    assert len({records[trial].trial.variant for trial in kept}) == 1, "two seeds of the best rate"
    assert 0 < biggest.checkpoints <= (2 + 1) * 2


class Sizes:
    """Watches how many checkpoints a sweep holds on the disk at a time; weights count as a quarter."""

    def __init__(self, run: Run) -> None:
        self._root = Path(run.path("sweep"))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.checkpoints = 0.0

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            whole = len(list(self._root.glob("trials/*/train/checkpoint_*")))
            weights = len(list(self._root.glob("trials/*/train/best.npz")))
            self.checkpoints = max(self.checkpoints, whole + weights / 4)


@pytest.mark.slow
def test_trials_that_fail_are_tried_again_and_listed_and_the_others_finish(
    run: Run, make: Callable[..., Config]
) -> None:
    """FAULTS 15 and 18: one raises, one has no finite loss, one is killed."""
    died = Path(run.path("died"))

    def fail(config: Config, epoch: int, step: int) -> None:
        if config.train.loss == "no_such_loss":
            raise RunError("no_such_loss")
        if config.train.learning_rate == 0.004 and epoch == 2 and step == 3 and not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    config = make(
        "train.loss train.learning_rate=grid("
        "no_such_loss 0.003, categorical_crossentropy 1e300, categorical_crossentropy 0.004, "
        "categorical_crossentropy 0.000001)",
        {"epochs": 4},
        max_failures=1,
    )
    lines: list[str] = []
    with messages_to(lines.append):
        assert tune.tune(run, SearchSpace.parse(config), Numpy(fail)) == "4 trials: 2 failed, 2 finished"
    records = by_id(run)
    assert [record.status for record in records.values()] == [
        "failed",
        "failed",
        "finished",
        "finished",
    ]
    assert [record.attempts for record in records.values()] == [2, 2, 2, 1]
    assert "no_such_loss" in records["000"].reason
    assert "no finite loss" in records["001"].reason
    assert sum("tried again" in line for line in lines) == 3
    assert sum("given up" in line for line in lines) == 2
    assert not checkpoints.checkpoint_folders(trial_run(run, "001"))

    # The one that was killed has gone on from its checkpoint, as if nothing had happened.
    killed = records["002"]
    told = [line for line in lines if line.startswith("002") and " | val ce " in line]
    assert [line.split("epoch ")[1][0] for line in told] == ["1", "2", "3", "4"]
    expected = undisturbed(run, killed.trial.config, Numpy())
    assert_allclose(
        [epoch.val_cross_entropy for epoch in killed.history],
        [epoch.val_cross_entropy for epoch in expected.history],
        rtol=1e-3,
    )
    assert_array_equal([epoch.best for epoch in killed.history], [epoch.best for epoch in expected.history])
    with np.load(trial_run(run, "002").path("train", "best.npz")) as stored:
        for i, weights in enumerate(expected.best):
            assert_allclose(stored[str(i)], weights, rtol=1e-3, atol=1e-3)

    # Started again, it does not try once more what it has given up.
    again: list[str] = []
    with messages_to(again.append):
        tune.tune(run, SearchSpace.parse(config), Numpy(fail))
    assert again == ["4 trials, 4 of them done already, 2 at a time"]
    assert by_id(run).keys() == records.keys()


def test_a_trial_that_never_reports_is_given_up(run: Run, make: Callable[..., Config]) -> None:
    config = make("train.learning_rate=grid(0.01)", silence_minutes=0.1)
    with pytest.raises(RunError, match=r"no trial of .* has finished \(1 trials: 1 failed\); ActorDiedError"):
        tune.tune(run, SearchSpace.parse(config), Numpy(lambda *_: time.sleep(600)))


def test_a_sweep_tries_how_many_rows_of_a_group_an_epoch_visits(
    run: Run, make: Callable[..., Config], tmp_path: Path
) -> None:
    steps = tmp_path / "steps"

    def note(config: Config, epoch: int, step: int) -> None:
        with steps.open("a") as file:
            file.write(f"{config.train.rows_per_group} {epoch} {step}\n")

    config = make("train.rows_per_group=grid(1, 2)", train={"epochs": 1})
    tune.tune(run, SearchSpace.parse(config), Numpy(note))
    # Of 61 rows in groups of two, 31 are 4 steps of 8, and all of them 8.
    expected = [f"1 0 {step}" for step in range(4)] + [f"2 0 {step}" for step in range(8)]
    assert sorted(steps.read_text().splitlines()) == expected


def test_once_a_launch_failed_nodes_on_demand_are_asked_for_as_many_trials_as_there_are(
    run: Run, make: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulated: the cloud refuses each launch, and what the coordinator would be asked for is noted."""
    asked: list[list[Any]] = []
    cancelled: list[bool] = []

    def reserve(_: str, bundles: list[Any], __: float, labels: list[Any], first: bool) -> Any:
        assert bundles == [{"CPU": 0.5}] * len(labels)
        asked.append(labels)
        return private_data.Reservation(lambda: None, lambda: cancelled.append(True))

    def ask(resources: dict[str, float], most: int) -> NodeRequest:
        clock = count(step=RENEW_S)
        refused = {"gpu-spot": "none"}
        return NodeRequest(
            resources,
            most,
            on_demand=9,
            beyond=most,
            reserve=reserve,
            failed=lambda _: refused,
            nodes=list,
            clock=lambda: next(clock),
        )

    monkeypatch.setattr(tune, "ask_for_trials", ask)
    lines: list[str] = []
    with messages_to(lines.append):
        tune.tune(run, SearchSpace.parse(make(train={"cpus_per_worker": 0.5, "epochs": 1})), Numpy())
    assert {len(labels) for labels in asked} == {1, 2}
    assert len(asked[-1]) == 1, "one trial is left"
    assert all(label == {MARKET: ON_DEMAND} for labels in asked for label in labels)
    assert "asks for nodes on demand, since launches failed: gpu-spot (none)" in lines
    assert cancelled == [True]


def test_a_trial_goes_on_within_the_epoch_in_which_its_process_was_killed(
    run: Run, make: Callable[..., Config], tmp_path: Path
) -> None:
    train = {"epochs": 2, "batch_size": 2, "checkpoint_minutes": 1e-9}
    config = make("train.learning_rate=grid(0.003)", train=train, max_failures=1)
    tune.tune(run, SearchSpace.parse(config), ending_itself(tmp_path / "steps", epoch=1, step=25))
    steps = (tmp_path / "steps").read_text().splitlines()
    assert [steps.count(f"1 {step}") for step in (0, 19, 20, 24, 25, 30)] == [1, 1, 2, 2, 1, 1]
    (record,) = read_trials(run)
    expected = undisturbed(run, record.trial.config, Numpy())
    assert [epoch.loss for epoch in record.history] == [epoch.loss for epoch in expected.history]


@pytest.mark.thorough
def test_a_trial_whose_end_was_not_reported_reports_its_own_best_value(
    run: Run, make: Callable[..., Config]
) -> None:
    """Its process was killed between the last checkpoint and the report; another trial's goes on with it."""
    space = SearchSpace.parse(make("train.learning_rate=grid(0.01, 0.003)"))
    trials = [trial for i, changes in enumerate(space.variants()) for trial in space.make_trials(i, changes)]
    for trial in trials:
        write_trial(run, trial, "running")
    shared = Shared(run, open_dataset(run, space.config), Numpy(), 1, 1, 60.0)
    kind = ray.tune.with_parameters(TrialProcess, shared=shared)
    values = []
    for trial in trials:
        process = kind({"trial": trial.id})
        values.append([process.train()[VALUE] for _ in range(2)][-1])
        process.stop()
    assert values[0] != values[1]
    process = kind({"trial": "001"})
    assert process.train()[VALUE] == values[1]
    assert process.reset({"trial": "000"})
    ended = process.train()
    assert (ended["done"], ended[VALUE]) == (True, values[0])
    process.stop()


def test_no_trial_that_finishes_is_an_error(run: Run, make: Callable[..., Config]) -> None:
    def fail(*_: object) -> None:
        raise RunError("no_such_loss")

    config = make("train.loss=grid(no_such_loss)")
    with pytest.raises(RunError, match=r"no trial of .* has finished \(1 trials: 1 failed\).*no_such_loss"):
        tune.tune(run, SearchSpace.parse(config), Numpy(fail))


def test_a_storage_that_refuses_a_trials_end_is_named(run: Run, make: Callable[..., Config]) -> None:
    full = Path(trial_run(run, "000").storage, "full")

    def fill(*_: object) -> None:
        full.write_text("trial.json")
        raise RunError("not this")

    space = SearchSpace.parse(make("train.loss=grid(no_such_loss)"))
    with pytest.raises(RunError, match=r"^cannot write .*/trials/000/trial.json: .*No space left on device"):
        tune.tune(FillingRun(run.storage, run.name), space, Numpy(fill))


@pytest.mark.parametrize(
    ("nodes", "train", "per_gpu", "room"),
    [
        ([{"CPU": 2.0}], {}, 1, 2),  # as many as cores
        ([{"CPU": 2.0}], {"cpus_per_worker": 1.0}, 1, 1),  # one core is half for loading
        ([{"CPU": 2.0}], {"cpus_per_worker": 2.0}, 1, 0),
        ([{"CPU": 8.0}, {"CPU": 8.0}], {"num_workers": 4}, 1, 4),
        ([{"CPU": 8.0, "GPU": 2.0}], {"use_gpu": True}, 1, 2),
        ([{"CPU": 8.0, "GPU": 2.0}], {"use_gpu": True}, 3, 6),
        ([{"CPU": 8.0, "GPU": 4.0}], {"use_gpu": True, "num_workers": 2}, 3, 2),  # workers share no GPU
        ([{"CPU": 8.0}], {"use_gpu": True}, 4, 0),
    ],
)
def test_as_many_trials_at_a_time_as_there_is_room_for(
    nodes: list[dict[str, float]], train: dict[str, Any], per_gpu: int, room: int, make_config: MakeConfig
) -> None:
    assert room_for_trials(make_config(**train).train, per_gpu, nodes) == room


@pytest.mark.parametrize(
    ("use_gpu", "most", "expected"),
    [(True, None, (1, 4)), (True, 3, (1, 3)), (True, 99, (1, 4)), (False, None, (10, 10))],
)
def test_a_sweep_uses_the_nodes_that_come_later(
    use_gpu: bool, most: int | None, expected: tuple[int, int], make_config: MakeConfig
) -> None:
    gpu_node, head = {"CPU": 4.0, "GPU": 1.0}, {"CPU": 6.0}
    config = make_config(use_gpu=use_gpu)
    sweep = config.sweep.model_copy(update={"max_concurrent": most})
    config = config.model_copy(update={"sweep": sweep})
    assert trials_at_a_time(config, [head, gpu_node], [gpu_node] * 3) == expected
    unknown = trials_at_a_time(config, [head, gpu_node], None)
    assert unknown == ((1, most or 1) if use_gpu else expected)
    if use_gpu:
        with pytest.raises(RunError, match=r"no room for a trial: it asks for 1 x .* CPUs and GPUs"):
            trials_at_a_time(config, [head], [gpu_node])


@contextmanager
def watch(free: Callable[[], bool], seen: Callable[[], None]) -> Iterator[None]:
    """Calls `seen` when a condition first holds."""
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.1):
            if free():
                seen()
                return

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_stopped_trial_held_is_free_while_others_train(
    workers: int, run: Run, make: Callable[..., Config]
) -> None:
    """The better of two trials goes on when what the other, which is ASHA's loser, held is free."""
    history = Path(trial_run(run, "000").path("train", "history.csv"))
    stopped, freed, waited = (Path(run.path(name)) for name in ("stopped", "freed", "waited"))

    def wait_for(file: Path) -> None:
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)

    def dawdle(config: Config, epoch: int, step: int) -> None:
        if step:
            return
        if config.train.learning_rate == 0.003 and epoch:
            wait_for(stopped)
            if not waited.exists():
                wait_for(freed)
                waited.write_text(str(freed.exists()))
        elif config.train.learning_rate != 0.003:
            if not epoch:  # so that it comes second, and is compared
                wait_for(history)
            time.sleep(4)  # so that it is not through when it is stopped

    each = {1: 1.5, 2: 0.75}[workers]
    train = {"epochs": 3 if workers == 1 else 5, "num_workers": workers, "cpus_per_worker": each}
    config = make(
        "train.learning_rate=grid(0.003, 0.000001)",
        {**train, "dwell": False},
        scheduler="asha",
        reduction_factor=2,
    )
    free = 4 - 1.5 - 0.6  # the better one holds its own, and what loads for it

    def say(line: str) -> None:
        if "stopped" in line:
            stopped.touch()

    def is_free() -> bool:
        return stopped.exists() and ray.available_resources().get("CPU", 0.0) >= free

    with watch(is_free, freed.touch), messages_to(say):
        assert tune.tune(run, SearchSpace.parse(config), Numpy(dawdle)) == "2 trials: 1 finished, 1 stopped"
    assert waited.read_text() == "True"
    assert len(by_id(run)["001"].history) < config.train.epochs
    deadline = time.monotonic() + 20  # nothing stays behind either, of a trial or of its workers
    while ray.available_resources().get("CPU", 0.0) < 4:
        assert time.monotonic() < deadline, ray.available_resources()
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.thorough
def test_a_killed_worker_of_a_trial_is_replaced(run: Run, make: Callable[..., Config]) -> None:
    """Several workers train a trial through Ray Train, in a run that bears the trial's id.

    Actors compute the features of its frozen epochs, each with what a worker gets: the trial's own process
    has none of it.
    """
    train = {"frozen_epochs": 2, "epochs": 2, "num_workers": 2, "model": {"weights": "any.weights.h5"}}
    config = make("train.learning_rate=grid(0.003)", train)
    lines: list[str] = []

    def pause(_: Config, epoch: int, step: int) -> None:
        if (epoch, step) == (2, 1):
            time.sleep(1)

    def say(line: str) -> None:
        lines.append(line)
        if "epoch 2/4" in line and len(lines) == 2:
            victims = [p for p in psutil.process_iter(["cmdline"]) if is_worker(p)]
            assert len(victims) == 2
            victims[0].kill()

    with messages_to(say):
        assert tune.tune(run, SearchSpace.parse(config), Numpy(pause)) == "1 trials: 1 finished"
    (record,) = read_trials(run)
    assert [epoch.epoch for epoch in record.history] == [1, 2, 3, 4]
    assert record.attempts == 1, "it is Ray Train that replaces the worker"
    assert record.devices == 1.0
    best = [epoch for epoch in record.history if epoch.best][-1]
    labels = read_sweep(run, config).labels
    assert record.probabilities is not None
    losses = -np.log(record.probabilities[np.arange(13), labels])
    assert_allclose(losses.mean(), best.val_cross_entropy, rtol=1e-4)
    assert trial_run(run, "000").uri().endswith("sweep/trials/000")


def is_worker(process: psutil.Process) -> bool:
    """Tell whether a process is one of Ray Train's workers."""
    return any("RayTrainWorker" in word for word in process.info["cmdline"] or [])
