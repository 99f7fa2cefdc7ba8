"""A trial trains on while its state is uploaded, is told of when that is kept, and no further than it may."""

import os
import signal
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from support.filling_disk import FillingRun
from support.messages import messages_to
from support.numpy_learner import Numpy
from support.slow_uploads import SlowRun, check_uploads, nothing_left_behind, waiting_uploads
from support.training_problem import MakeConfig, write_dataset
from support.trial_records import make_history
from support.undisturbed import undisturbed

from brain_ray.config import Config, SweepConfig
from brain_ray.errors import RunError
from brain_ray.runs import Run
from brain_ray.training import checkpoints
from brain_ray.training.dwell import DwellState
from brain_ray.training.state import FinishedEpoch, TrainState
from brain_ray.tuning import tune
from brain_ray.tuning.search_space import SearchSpace
from brain_ray.tuning.training_thread import TrainingThread
from brain_ray.tuning.trial_store import read_trials, trial_run

Make = Callable[..., Config]


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """A folder from which something was uploaded is gone."""
    with nothing_left_behind():
        yield


@pytest.fixture
def make(make_config: MakeConfig) -> Make:
    """Give a function that makes settings of a sweep with one trial over the small problem."""

    def make(max_failures: int = 0, **train: int) -> Config:
        space = ("train.learning_rate=grid(0.003)",)
        sweep = SweepConfig(space=space, scheduler="none", max_failures=max_failures)
        return make_config(**train).model_copy(update={"sweep": sweep})

    return make


class Epochs:
    """A training of four epochs with two steps each, of which it is known how far it has come."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def __call__(self, thread: TrainingThread) -> Generator[FinishedEpoch, None, None]:
        history = make_history([0.5] * 4)
        weights = [np.ones(3, np.float32)]
        for epoch in range(1, 5):
            for _ in range(2):
                self.steps.append(epoch)
                thread.pause()
            state = TrainState({"weights": weights}, weights, DwellState(epochs=epoch), history[:epoch])
            thread.save_checkpoint(state)
            yield FinishedEpoch(history[epoch - 1], f"epoch {epoch}", state, epoch == 4)


def kept_epoch(run: Run) -> int:
    state, faults = checkpoints.newest(run)
    assert not faults
    return 0 if state is None else state.epoch


@pytest.mark.usefixtures("nothing_left")
def test_a_trial_is_trained_no_further_than_it_is_asked_to(tmp_path: Path) -> None:
    train, run = Epochs(), Run(str(tmp_path), "trial")
    with closing(TrainingThread(run, train).epochs()) as epochs:
        for epoch in (1, 2):
            assert next(epochs).line == f"epoch {epoch}"
            assert train.steps == sorted([*range(1, epoch + 1)] * 2)
            assert kept_epoch(run) == epoch
            assert len(checkpoints.checkpoint_folders(run)) == 1
    assert train.steps == [1, 1, 2, 2]


@pytest.mark.usefixtures("nothing_left")
def test_an_epoch_is_told_when_a_bucket_has_its_state_and_the_next_one_has_begun(tmp_path: Path) -> None:
    train, run = Epochs(), SlowRun(str(tmp_path), "trial")
    with closing(TrainingThread(run, train).epochs()) as epochs:
        for epoch in (1, 2):
            assert next(epochs).line == f"epoch {epoch}"
            assert train.steps == sorted([*range(1, epoch + 2)] * 2)
            assert kept_epoch(run) == epoch, "the next one waits to be written"
    assert train.steps == [1, 1, 2, 2, 3, 3]
    assert kept_epoch(run) == 2
    assert [epoch.line for epoch in TrainingThread(run, Epochs()).epochs()][-1] == "epoch 4"
    assert kept_epoch(run) == 4


@pytest.mark.usefixtures("nothing_left")
def test_an_epoch_whose_state_was_refused_is_not_told(tmp_path: Path) -> None:
    run, before = FillingRun(str(tmp_path), "trial"), waiting_uploads()
    (tmp_path / "full").write_text("train/checkpoint_")

    def train(thread: TrainingThread) -> Generator[FinishedEpoch, None, None]:
        for finished in Epochs()(thread):
            while waiting_uploads() - before:  # until it is refused
                time.sleep(0.01)
            yield finished

    epochs = TrainingThread(run, train).epochs()
    with pytest.raises(RunError, match=rf"^cannot write {run.uri('train')}: .*No space left on device"):
        next(epochs)


@pytest.mark.usefixtures("ray_cluster", "nothing_left")
def test_the_states_of_a_trial_are_uploaded_while_it_trains_on(tmp_path: Path, make: Make) -> None:
    run, steps = SlowRun(str(tmp_path), "busy"), tmp_path / "steps"
    write_dataset(run)

    def note(_: Config, epoch: int, step: int) -> None:
        with steps.open("a") as file:
            file.write(f"{time.time()} {epoch}\n")
        time.sleep(0.1)

    said: list[float] = []
    with messages_to(lambda line: said.append(time.time()) if " | val ce " in line else None):
        tune.tune(run, SearchSpace.parse(make(epochs=3)), Numpy(note))
    check_uploads(trial_run(run, "000").notes, steps, said)
    (record,) = read_trials(run)
    expected = undisturbed(run, record.trial.config, Numpy()).history
    assert [epoch.loss for epoch in record.history] == [epoch.loss for epoch in expected]
    assert not checkpoints.checkpoint_folders(trial_run(run, "000"))


@pytest.mark.usefixtures("ray_cluster")
def test_an_epoch_whose_state_was_lost_on_its_way_is_told_once(tmp_path: Path, make: Make) -> None:
    run, steps = SlowRun(str(tmp_path), "busy"), tmp_path / "steps"
    write_dataset(run)

    def die(_: Config, epoch: int, step: int) -> None:
        with steps.open("a") as file:
            file.write(f"{epoch} {step}\n")
        if (epoch, step) == (2, 0) and steps.read_text().split("\n").count("2 0") == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    lines: list[str] = []
    with messages_to(lines.append):
        tune.tune(run, SearchSpace.parse(make(epochs=3)), Numpy(die))
    taken = steps.read_text().splitlines()
    assert [taken.count(f"{epoch} 1") for epoch in range(3)] == [1, 2, 1]
    assert [line.split("epoch ")[1][0] for line in lines if " | val ce " in line] == ["1", "2", "3"]


@pytest.mark.usefixtures("ray_cluster", "nothing_left")
def test_a_storage_that_refuses_a_state_ends_an_attempt_at_once(tmp_path: Path, make: Make) -> None:
    run = FillingRun(str(tmp_path), "busy")
    write_dataset(run)
    home = trial_run(run, "000")

    def fill(_: Config, epoch: int, step: int) -> None:
        Path(home.storage, "full").write_text("train/checkpoint_")
        time.sleep(0.05)

    with pytest.raises(RunError, match=rf"; cannot write {home.uri('train')}: .*No space left on device"):
        tune.tune(run, SearchSpace.parse(make(epochs=100)), Numpy(fill))
