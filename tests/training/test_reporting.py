"""What workers report to Ray Train: a bucket takes a state while training goes on, or a line says why not."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from numpy.testing import assert_allclose
from support.filling_disk import FillingRun
from support.messages import messages_to
from support.numpy_learner import Numpy
from support.slow_uploads import SlowRun, check_uploads, nothing_left_behind
from support.training_problem import MakeConfig, write_dataset
from support.undisturbed import undisturbed

from brain_ray.config import Config
from brain_ray.errors import RunError
from brain_ray.training import checkpoints
from brain_ray.training.train import train

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """A folder from which something was uploaded is gone."""
    with nothing_left_behind():
        yield


def test_a_state_is_uploaded_while_the_next_epoch_is_trained(tmp_path: Path, make_config: MakeConfig) -> None:
    run, steps = SlowRun(str(tmp_path), "trial"), tmp_path / "steps"
    write_dataset(run)

    def note(_: Config, epoch: int, step: int) -> None:
        with steps.open("a") as file:
            file.write(f"{time.time()} {epoch}\n")
        time.sleep(0.1)

    config = make_config(epochs=3, num_workers=2)
    said: list[float] = []
    with messages_to(lambda line: said.append(time.time()) if line.startswith("epoch") else None):
        train(run, config, Numpy(note))
    check_uploads(run.notes, steps, said)
    state, faults = checkpoints.newest(run)
    assert state is not None
    assert not faults
    expected = undisturbed(run, config, Numpy()).history
    assert_allclose([one.loss for one in state.history], [one.loss for one in expected], rtol=1e-4)


def test_a_storage_that_refuses_a_state_ends_the_run_at_once(tmp_path: Path, make_config: MakeConfig) -> None:
    run = FillingRun(str(tmp_path), "trial")
    write_dataset(run)

    def fill(_: Config, epoch: int, step: int) -> None:
        (tmp_path / "full").write_text("train/checkpoint_")
        time.sleep(0.05)

    told = rf"^cannot write {run.uri('train')}: .*No space left on device"
    with pytest.raises(RunError, match=told):
        train(run, make_config(epochs=100), Numpy(fill))
