"""A checkpoint is written, uploaded and read without holding its arrays a second time."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.s3_server import s3_server

from brain_ray.runs import BEST, Run
from brain_ray.training import checkpoints

PROGRAM = """
import resource, sys
from pathlib import Path
import numpy as np
from brain_ray.training import checkpoints
from brain_ray.training.dwell import DwellState
from brain_ray.training.state import TrainState

arrays = [np.ones((1000, 1000), np.float32) for _ in range(25)]  # 100 MB
state = TrainState({"weights": arrays, "optimizer": arrays}, arrays, DwellState(), ())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
checkpoints.write(Path(sys.argv[1]), state)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""

KEEPING = """
import resource, sys
import numpy as np
from brain_ray.runs import Run
from brain_ray.training.dwell import DwellState
from brain_ray.training.results import write_best
from brain_ray.training.state import TrainState
from brain_ray.training.uploads import Uploads

arrays = [np.ones((1000, 1000), np.float32) for _ in range(25)]  # 100 MB
run, what = Run(sys.argv[1], "run"), sys.argv[2]
run.write_bytes(b"", "first")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if what == "state":
    uploads = Uploads(run)
    uploads.keep(TrainState({"weights": arrays, "optimizer": arrays}, arrays, DwellState(), ()))
    uploads.wait()
else:
    write_best(run, arrays * 3)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""

READING = """
import resource, sys
from pyarrow import fs
from brain_ray.training import checkpoints

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
checkpoints.check(fs.LocalFileSystem(), sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
state = checkpoints.read(fs.LocalFileSystem(), sys.argv[1])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
groups = *state.learner.values(), state.best
assert sum(array.nbytes for arrays in groups for array in arrays) == 300_000_000
"""


def memory_of(program: str, folder: Path | str, *words: str) -> list[int]:
    """The memory in bytes that a program says to have taken."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder), *words], capture_output=True, text=True, check=True
    )
    return [1024 * int(line) for line in done.stdout.split()]


def test_a_checkpoint_is_not_held_twice(tmp_path: Path) -> None:
    (written,) = memory_of(PROGRAM, tmp_path)
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert size > 300_000_000
    assert written < 0.3 * size
    checked, read = memory_of(READING, tmp_path)
    assert checked < 0.3 * size
    assert read < 1.3 * size


def test_nor_is_it_on_its_way_into_a_run(tmp_path: Path) -> None:
    (taken,) = memory_of(KEEPING, tmp_path, "state")
    assert taken < 0.3 * 300_000_000, taken
    run = Run(str(tmp_path), "run")
    (folder,) = checkpoints.checkpoint_folders(run)
    checkpoints.check(run.fs, folder)


def test_the_best_weights_are_not_held_twice(tmp_path: Path) -> None:
    (taken,) = memory_of(KEEPING, tmp_path, "best")
    assert taken < 0.3 * 300_000_000, taken
    assert Path(Run(str(tmp_path), "run").path(*BEST)).stat().st_size > 300_000_000


@pytest.mark.slow
def test_a_bucket_that_is_slower_than_the_disk_is_waited_for() -> None:
    """What Arrow has not sent yet, it holds."""
    with s3_server("runs"):
        (taken,) = memory_of(KEEPING, "s3://runs", "state")
        run = Run("s3://runs", "run")
        (folder,) = checkpoints.checkpoint_folders(run)
        checkpoints.check(run.fs, folder)
    assert taken < 0.3 * 300_000_000, taken
