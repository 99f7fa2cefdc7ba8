"""What goes wrong while a run trains: what is lost is made good, what is wrong ends it with a line."""

import contextlib
import errno
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import ray
from ray.exceptions import ObjectLostError, RayActorError, UnserializableException, UserCodeException
from support.filling_disk import FillingRun
from support.messages import messages_to
from support.numpy_learner import Numpy
from support.training_problem import MakeConfig, write_dataset

from brain_ray.cluster.losses import ATTEMPTS, is_loss, retry_if_lost
from brain_ray.errors import RunError
from brain_ray.runs import Run
from brain_ray.training import checkpoints, train
from brain_ray.training.failures import (
    WorkerLostError,
    classify_error,
    describe_lost_worker,
    fatal_error,
    naming_storage,
)

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose dataset is prepared, with epochs of some seconds."""
    run = Run(str(tmp_path), "trial")
    write_dataset(run, num_train=2000, part_rows=700)
    return run


def tf_error(name: str, text: str) -> Exception:
    import tensorflow as tf

    error: Exception = getattr(tf.errors, name)(None, None, text)
    return error


@pytest.mark.parametrize(
    "error",
    [
        lambda: tf_error("UnavailableError", "Collective ops is aborted by: Socket closed"),
        lambda: tf_error("InternalError", "RecvBufResponse"),
        ray.exceptions.ActorDiedError,
        lambda: ray.exceptions.ObjectLostError("0" * 56, None, ""),
        lambda: ray.exceptions.RayTaskError(
            "load", "trace", ray.exceptions.OwnerDiedError("0" * 56, None, "")
        ),
    ],
)
def test_what_is_lost_with_a_machine_is_tried_again(error: Callable[[], Exception]) -> None:
    assert isinstance(classify_error(error()), WorkerLostError)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (lambda: ValueError("no"), "training failed: ValueError: no"),
        (
            lambda: OSError(errno.ENOENT, "gone", "x.png"),
            "training failed: FileNotFoundError: [Errno 2] gone: 'x.png'",
        ),
        (lambda: RunError("mend it"), "mend it"),
        (lambda: ray.exceptions.RayTaskError("load", "trace", RunError("mend it")), "mend it"),
        (
            lambda: ray.exceptions.RayTaskError("load", "trace", KeyError("k")).as_instanceof_cause(),
            "training failed: KeyError: 'k'",
        ),
        (
            lambda: tf_error(
                "InvalidArgumentError",
                'Graph execution error:\n\nDetected at node MatMul:\n  File "x.py", line 3, in f\n\n'
                "shapes [2,4] and [3,3]\n\t [[{{node MatMul}}]]",
            ),
            "training failed: InvalidArgumentError: shapes [2,4] and [3,3]",
        ),
    ],
)
def test_a_fault_is_told_in_a_line(error: Callable[[], Exception], text: str) -> None:
    judged = classify_error(error())
    assert isinstance(judged, RunError)
    assert str(judged) == text


def test_a_fault_says_where_it_is_and_keeps_its_trace(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Run(str(tmp_path), "trial").read_json("config.json")
    judged = classify_error(caught.value)
    assert re.match(r"training failed at brain_ray/storage_retries\.py:\d+: FileNotFoundError: ", str(judged))
    assert "Traceback" in judged.__notes__[0]
    assert __file__ in judged.__notes__[0]


def test_a_fault_is_told_rather_than_what_others_saw_of_it() -> None:
    fault, consequence = RunError("mend it"), WorkerLostError("UnavailableError: peer down")
    assert fatal_error({0: consequence, 1: fault}) is fault
    assert fatal_error({0: consequence}) is None
    died = ray.exceptions.ActorDiedError()
    assert fatal_error({0: fault, 1: died}) is None  # which may well have come of the other's death
    assert describe_lost_worker({0: consequence, 1: died}).startswith("worker 1 ended with: The actor died")


@pytest.mark.slow
def test_a_fault_of_one_worker_ends_a_run_at_once(run: Run, make_config: MakeConfig) -> None:
    file = run.path("dataset", "train", "00001.parquet")
    table = pq.read_table(file)
    data = table["bytes"].to_pylist()
    data[5] = b"x"
    pq.write_table(table.set_column(table.schema.get_field_index("bytes"), "bytes", [data]), file)
    lines: list[str] = []
    with (
        pytest.raises(RunError, match=r"^the data set's row of Training/1/705\.jpg is damaged"),
        messages_to(lines.append),
    ):
        train.train(run, make_config(batch_size=8, num_workers=2), Numpy())
    assert not [line for line in lines if line.startswith("epoch")]


def test_a_storage_that_refuses_is_told_before_anything_starts(run: Run, make_config: MakeConfig) -> None:
    Path(run.storage, "full").touch()
    with (
        pytest.raises(RunError, match=rf"^cannot write {run.uri('train')}/\w+: .*No space left on device"),
        messages_to(lambda line: pytest.fail(line) if line.startswith("epoch") else None),
    ):
        train.train(FillingRun(run.storage, run.name), make_config(), Numpy())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path | None]:
    """A small file system in memory; None where mounting one is not permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        yield None
        return
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.thorough
@pytest.mark.slow
def test_a_disk_that_gets_full_ends_a_run_at_once(
    disk: Path | None, tmp_path: Path, make_config: MakeConfig
) -> None:
    """A real one; where none can be mounted, one that refuses to open files (simulated)."""
    run = Run(str(disk), "trial") if disk else FillingRun(str(tmp_path), "trial")
    write_dataset(run, num_train=2000, part_rows=700)
    lines: list[str] = []
    filler = Path(run.storage, "filler" if disk else "full")

    def fill(line: str) -> None:
        if not line.startswith("epoch"):
            return
        lines.append(line)
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while disk and file.write(bytes(4096)):
                pass

    told = rf"^cannot write {run.uri('train')}(/\S+)?: .*No space left on device"
    with pytest.raises(RunError, match=told), messages_to(fill):
        train.train(run, make_config(epochs=5), Numpy())
    filler.unlink()
    assert_readable(run, len(lines))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EDQUOT, errno.ESTALE])
def test_a_storage_that_refuses_is_named_whatever_the_reason(number: int) -> None:
    with pytest.raises(RunError) as caught, naming_storage("/mnt/x"):
        raise OSError(number, os.strerror(number), "/mnt/x/.partial")
    assert re.match(rf"cannot write /mnt/x: .*{os.strerror(number)}.*; mend the storage", str(caught.value))


def assert_readable(run: Run, epochs: int) -> None:
    """Check that the newest checkpoint is that of the last epoch that was said."""
    state, _ = checkpoints.newest(run)
    assert state is not None
    assert state.epoch == epochs < 5


@ray.remote(num_cpus=0)
class Dead:
    """An actor that takes its process with it."""

    def die(self) -> None:
        """End the process."""
        os._exit(1)


@ray.remote(num_cpus=0)
def ask_a_dead_actor() -> None:
    """Wait for an actor that dies, and add words to its error, as Ray Data does."""
    try:
        ray.get(Dead.remote().die.remote())
    except RayActorError as error:
        error.args = ("tried 10 times",)
        raise


@ray.remote(num_cpus=0)
def fail_so_that_nobody_can_unpickle_it() -> None:
    """Fail with an error whose arguments are not those it is made with."""

    class TwoWordsError(Exception):
        def __init__(self, one: str, two: str) -> None:
            super().__init__(one + two)

    raise TwoWordsError("a", "b")


def test_an_actor_that_a_task_waited_for_is_lost_though_its_error_cannot_be_read() -> None:
    with pytest.raises(UnserializableException) as caught:
        ray.get(ask_a_dead_actor.remote())
    assert is_loss(caught.value)
    with pytest.raises(UnserializableException) as caught:
        ray.get(fail_so_that_nobody_can_unpickle_it.remote())
    assert not is_loss(caught.value)


def test_work_whose_actors_are_lost_is_begun_anew_and_given_up_after_some_times() -> None:
    lines: list[str] = []
    left = [RayActorError(error_msg="The node\nis gone"), ObjectLostError("ab" * 14, "", "")]

    def work() -> str:
        if left:
            raise left.pop(0)
        return "done"

    with messages_to(lines.append):
        assert retry_if_lost(work, "scoring", pause_s=0) == "done"
    assert lines[0] == "scoring begins anew, a process or node was lost: is gone"
    assert len(lines) == 2
    left += [RayActorError(error_msg="gone")] * ATTEMPTS
    with (
        pytest.raises(RunError, match=r"scoring was begun 3 times.*the last time: gone; the same command"),
        messages_to(lines.append),
    ):
        retry_if_lost(work, "scoring", pause_s=0)
    left += [UserCodeException("of the program")] * 2
    with pytest.raises(UserCodeException), messages_to(lines.append):
        retry_if_lost(work, "scoring", pause_s=0)
    assert len(left) == 1
